#!/usr/bin/env python3
"""bundled_test.py MOTE: the model that lies in models/: its size, that figures and recipe are those of this very file, that it answers with no network and
no other model, and that damaged copies are refused."""
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

from teaching import report

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOST = 48_000_000


def main():
    mote, model = os.path.abspath(sys.argv[1]), ROOT / "models/mote-nano.gguf"
    with tempfile.TemporaryDirectory() as folder:
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")  # nobody listens there
        env = {**os.environ, "HOME": folder, "XDG_CACHE_HOME": folder, "MOTE_MODELS": f"{folder}/none", **proxies}

        def run(*args, code=0):
            p = subprocess.run([mote, *map(str, args)], capture_output=True, text=True, check=False, env=env, timeout=300)
            assert p.returncode == code, f"{args}: exit {p.returncode}, expected {code}: {p.stdout[-300:]}{p.stderr[-600:]}"
            return p.stdout if code == 0 else p.stderr

        whole = model.read_bytes()
        report("bundled", "mote-nano", f"{len(whole)} bytes", f"{MOST}", len(whole) <= MOST, "-", "rANS, 96 a scale")
        assert len(whole) <= MOST, len(whole)
        figures = json.loads((ROOT / "models/figures/mote-nano.json").read_text())
        assert figures["sha256"] == hashlib.sha256(whole).hexdigest(), "models/figures/mote-nano.json is of another file: run bench/family.py"
        assert figures["bits_per_weight"] <= 3.2, figures["bits_per_weight"]

        about = json.loads(run("show", "mote-nano", "--json"))
        made = json.loads(about["metadata"]["mote.make"])
        recipe = hashlib.sha256((ROOT / "recipes/mote-nano.yaml").read_bytes()).hexdigest()
        assert made["recipe"]["sha256"] == recipe, "recipes/mote-nano.yaml is not the recipe that made models/mote-nano.gguf"
        shown = run("show", "mote-nano")
        assert "those that were made then" in shown and "apache-2.0" in shown.lower(), shown
        listed = json.loads(run("list", "--json"))[0]
        assert listed["name"] == "mote-nano" and listed["here"], listed
        assert "*" not in next(line for line in run("family").splitlines() if line.startswith("mote-nano"))

        said = json.loads(run("run", "--json", "--temp", "0", "-n", "60", "-p", "What is the capital of France?"))
        assert "Paris" in said["text"] and "<|" not in said["text"], said

        rng, bad = random.Random(7), pathlib.Path(folder) / "bad.gguf"
        for length in [0, 3, 24, 4096, len(whole) // 2, len(whole) - 64] + [rng.randrange(len(whole)) for _ in range(4)]:
            bad.write_bytes(whole[:length])
            message = run("run", "-m", bad, "-n", "1", "--raw", "-p", "a", code=1)
            assert "bad.gguf" in message, message
        for _ in range(12):  # somewhere in the weights' streams or in the header: an error with the file's name, or a model that runs
            copy, at = bytearray(whole), rng.randrange(len(whole))
            copy[at] ^= 1 << rng.randrange(8)
            bad.write_bytes(copy)
            p = subprocess.run([mote, "run", "-m", str(bad), "-n", "1", "--raw", "--temp", "0", "-p", "a"], capture_output=True, text=True, check=False, env=env, timeout=300)
            assert p.returncode in (0, 1) and (p.returncode == 0 or "bad.gguf" in p.stderr), (at, p)
    print("ok")


if __name__ == "__main__":
    main()
