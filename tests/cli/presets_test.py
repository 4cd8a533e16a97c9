#!/usr/bin/env python3
"""presets_test.py MOTE [MODEL] [--show]: what `mote run --task` does, on tests/data/presets.jsonl: labels and extracted words are scored,
of texts the shape is judged (an end, no loop, the right length, nothing but the answer). MODEL: the default model."""
import collections
import json
import os
import pathlib
import re
import subprocess
import sys

from teaching import report

ROOT = pathlib.Path(__file__).resolve().parents[2]
# of the scored sets, the share that must be right; of the others, the share whose shape must be
LEAST = {"sentiment": 0.8, "topic": 0.8, "intent": 0.5, "events": 0.9, "prices": 0.5, "contacts": 0.8, "summarize": 0.75, "rewrite": 0.75, "explain": 0.75}
CHANCE = {"sentiment": 0.5, "topic": 0.2, "intent": 0.25}


def loops(text):
    words = text.split()
    seen = collections.Counter(tuple(words[i:i + 6]) for i in range(len(words) - 5))
    return any(n >= 3 for n in seen.values())


def shaped(item, done):
    """Whether the answer has the form that was asked for."""
    text, n_in = done["text"].strip(), len(item["text"].split())
    n = len(text.split())
    if done["finish"] != "end" and item["task"] != "explain" or not text or loops(text) or "<|" in text:
        return False
    if item["task"] == "summarize":
        return len(re.findall(r"[.!?](\s|$)", text)) <= 4 and n <= max(1.1 * n_in, 60)
    if item["task"] == "rewrite":
        return 3 <= n <= 1.2 * n_in and text != item["text"]
    return n >= 10


def ask(mote, model, item):
    extra = {"classify": lambda: ["--labels", ",".join(item["labels"])], "extract": lambda: ["--fields", ",".join(item["answer"])]}.get(item["task"], list)()
    p = subprocess.run([mote, "run", *(["-m", model] if model else []), "--task", item["task"], *extra, "--seed", "1", "--json", "-p", item["text"]],
                       capture_output=True, text=True, check=False)
    assert p.returncode == 0, f"{item}: exit {p.returncode}: {p.stderr[-400:]}"
    return json.loads(p.stdout)


def main():
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    mote, model = os.path.abspath(args[0]), args[1] if len(args) > 1 else None
    right, asked = collections.Counter(), collections.Counter()
    for line in open(ROOT / "tests/data/presets.jsonl", encoding="utf-8"):
        item = json.loads(line)
        done = ask(mote, model, item)
        if "--show" in sys.argv:
            print(json.dumps({"task": item["task"], "text": item["text"], "answer": done.get("text", done)}, ensure_ascii=False))
        name = item.get("set", item["task"])
        pairs = [(done["label"], item["answer"])] if item["task"] == "classify" else [(done[k], v) for k, v in item["answer"].items()] if item["task"] == "extract" else []
        asked[name] += max(len(pairs), 1)
        right[name] += sum(a == b for a, b in pairs) if pairs else shaped(item, done)
    failed = 0
    for name, n in asked.items():
        share, least = right[name] / n, LEAST[name]
        failed += share < least
        naive = f"{share / CHANCE[name]:.1f}x guessing" if name in CHANCE else "-"
        report("preset", name, f"{right[name]}/{n}", f"{least:.0%}", share >= least, naive, "mote run --task")
        print("ok  " if share >= least else "FAIL", f"{name}: {right[name]} of {n}, at least {least:.0%}")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
