"""Models judged by the beginning of a text."""
import json
import pathlib
import subprocess
import tempfile


def bits_per_byte(mote, model, text, characters):
    """Of the beginning of a text, whatever the model's vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        excerpt = pathlib.Path(folder) / "excerpt.txt"
        excerpt.write_text(pathlib.Path(text).read_text(encoding="utf-8")[:characters], encoding="utf-8")
        said = subprocess.run([str(mote), "eval", "--json", "-m", str(model), f"documents={excerpt}", "-c", "2048"], check=True, capture_output=True, text=True).stdout
    return json.loads(said)["documents"]["bits_per_byte"]["value"]
