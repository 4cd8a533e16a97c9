#!/usr/bin/env python3
"""family_test.py MOTE: models that come with the program: found beside it, listed, the default, kept; their figures, and when they are another file's."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile


def main():
    mote, shared = os.path.abspath(sys.argv[1]), pathlib.Path(os.environ.get("MOTE_SHARED", "../shared")).resolve()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "bin").mkdir()
        own = shutil.copy(mote, root / "bin/mote")
        env = {**os.environ, "HOME": folder, "MOTE_MODELS": str(root / "cache")}

        def run(*args, code=0):
            p = subprocess.run([own, *args], capture_output=True, text=True, check=False, env=env)
            assert p.returncode == code, f"{args}: exit {p.returncode}: {p.stdout}{p.stderr}"
            return p.stdout + p.stderr

        assert "mote-nano" not in run("list")
        assert "no models came" in run("family", code=4)
        models = root / "share/mote/models"
        (models / "figures").mkdir(parents=True)
        model = models / "mote-nano.gguf"
        shutil.copy(shared / "oracle/arch/llama-dense.gguf", model)
        figures = {"name": "mote-nano", "file": "mote-nano.gguf", "sha256": hashlib.sha256(model.read_bytes()).hexdigest(), "bytes": 47000000, "tokens_per_s": 812.3,
                   "perplexity": 24.5, "perplexity_ratio": 1.25}
        (models / "figures/mote-nano.json").write_text(json.dumps(figures))
        (models / "figures/broken.json").write_text("{")
        first = run("list").splitlines()[1].split()
        assert first[0] == "mote-nano" and "yes" in first, first
        listed = json.loads(run("list", "--json"))[0]
        assert listed["here"] and listed["size"] == model.stat().st_size and os.path.samefile(listed["path"], model), listed
        assert "llama" in run("show", "mote-nano")
        assert os.path.samefile(run("pull", "mote-nano").strip(), model)
        assert "came with the program" in run("rm", "-y", "mote-nano", code=4) and model.exists()
        assert "using the default model, mote-nano" in run("run", "a", code=4)  # it has no tokenizer
        table = run("family")
        assert "24.50 (x1.25)" in table and "812" in table and "*" not in table and "broken.json" in table, table
        with open(model, "ab") as f:
            f.write(b"\0")
        assert "mote-nano *" in run("family") and "not the one that was measured" in run("family")
        rows = json.loads(subprocess.run([own, "family", "--json"], capture_output=True, text=True, check=True, env=env).stdout)
        assert [r["same"] for r in rows] == [False] and rows[0]["here"], rows
    print("ok")


if __name__ == "__main__":
    main()
