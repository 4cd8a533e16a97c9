#!/usr/bin/env python3
"""finetune_test.py MOTE: facts that a model knows after LoRA, what it forgot beside them, the gate, merging, kill -9 and going on, privacy, and
what is refused."""
import json
import os
import sys

from teaching import Bench, report, run_tests, same, text, timed

FACTS = {"the fox": "seven stones", "a bear": "her own shadow", "the moon": "an empty house", "the baker": "a song"}


def model(b):
    text("data.txt", 5)
    text("other.txt", 6, 400)
    text("replay.txt", 7, 800)
    b.run("train", "-f", "data.txt", "-o", "m.gguf", "--depth", "2", "--width", "128", "--vocab", "320", "-c", "64", "-b", "8", "--precision", "f32",
          "--schedule", "cosine", "-t", "1", "--lr", "0.01", "--steps", "80", "-q")
    with open("facts.jsonl", "w") as f:
        for who, what in FACTS.items():
            f.write(json.dumps({"prompt": f"Yesterday, {who} drew ", "completion": f"{what}."}) + "\n")


SHAPE = ["-c", "64", "-b", "4", "--precision", "f32", "-t", "1"]
RUN = [*SHAPE, "--lr", "1e-2"]
GENTLE = [*SHAPE, "--lr", "5e-3"]


def learned(b):
    plain = b.json("finetune", "-m", "m.gguf", "-d", "facts.jsonl", "-o", "plain.gguf", "--steps", "40", "--forget", "other.txt", "--dir", "", *RUN)
    replay = ["finetune", "-m", "m.gguf", "-d", "facts.jsonl", "--replay", "replay.txt", "--replay-share", "0.6", "--kl", "16", "--forget", "other.txt",
              "--steps", "160", *GENTLE]
    kept, seconds = timed(b.json, *replay, "--gate", "1", "--dir", "", "-o", "facts.gguf")
    known = kept.get("known", {"before": -1, "after": -1, "of": -1})
    worse, naive = kept.get("forget", {}).get("percent", 99), plain.get("forget", {}).get("percent", 0)
    b.check(known["before"] == 0 and known["after"] == known["of"] == len(FACTS), f"{known['after']} of {known['of']} facts known, before {known['before']}")
    b.check(worse <= 1, f"perplexity elsewhere {worse:+.2f} % (gate 1 %); without replay {naive:+.2f} %")
    b.check(naive > worse, "replay keeps more")
    report("finetune", "facts known after LoRA", f"{known['after']} of {known['of']}, before {known['before']}", "all", known["after"] == len(FACTS), "-",
           "mote finetune, tiny model")
    report("finetune", "forgotten meanwhile, replay and KL", f"perplexity elsewhere {worse:+.2f} %", "+1 %", worse <= 1, f"without replay {naive:+.2f} %",
           "mote finetune --gate 1")
    p = b.run("finetune", "-m", "m.gguf", "-d", "facts.jsonl", "-o", "gated.gguf", "--steps", "40", "--forget", "other.txt", "--gate", "0.0001", "--dir", "",
              "-q", *RUN, code=3)
    b.check(p.returncode == 3 and not os.path.exists("gated.gguf"), "a gate that is not met: exit 3, nothing written")
    return seconds


def merged(b):
    for kind in ("q8_0", "f32"):
        p = b.run("merge", "-m", "m.gguf", "--lora", "facts.gguf", "-o", f"{kind}.gguf", "--type", kind, "--json")
        r = json.loads(p.stdout or "{}")
        b.check(r.get("survived", 0) > 0.9, f"merged into {kind}: {100 * r.get('survived', 0):.1f} % of the change is there")
    p = b.run("run", "-m", "f32.gguf", "-p", "Yesterday, the fox drew", "-n", "4", "--temp", "0", "--raw")
    b.check(p.returncode == 0, "and the merged model runs")
    b.run("quantize", "--pure", "-q", "m.gguf", "four.gguf", "Q4_0")
    r = {kind: json.loads(b.run("merge", "-m", "four.gguf", "--lora", "facts.gguf=0.1", "-o", "merged4.gguf", *kind, "--json").stdout) for kind in ((), ("--type", "same"))}
    b.check(r[()]["survived"] > 0.9 and r[()]["widened"] > 0 and r["--type", "same"]["survived"] < 0.9,
            f"merged into 4 bits nothing is lost by default: {100 * r[()]['survived']:.1f} % in {r[()]['formats']}, {100 * r['--type', 'same']['survived']:.1f} % in q4_0 alone")


def killed(b, seconds):
    args = ["finetune", "-m", "m.gguf", "-d", "facts.jsonl", "--steps", "100", "--save-every", "5", *RUN]
    b.run(*args, "-q", "-o", "whole.gguf")
    b.killed_until_done([*args, "-o", "killed.gguf"], seconds / 2)
    b.check(same("whole.gguf", "killed.gguf"), "and the adapter is that of the run that was never killed")
    b.refused(1, "lora", *args, "--method", "dora", "-o", "killed.gguf")


def more(b):
    for method in ("dora", "qlora", "full"):
        r = b.json("finetune", "-m", "m.gguf", "-d", "facts.jsonl", "-o", f"{method}.gguf", "--method", method, "--steps", "10", "--dir", "",
                   "-c", "64", "-b", "4", "-t", "1")
        b.check(r.get("steps") == 10 and os.path.exists(f"{method}.gguf"), f"{method}: loss {r.get('loss', 0):.3f}")
    r = b.json("finetune", "-m", "m.gguf", "-d", "facts.jsonl", "-o", "peft", "--steps", "5", "--dir", "", *RUN)
    b.check(os.path.exists("peft/adapter_config.json") and os.path.exists("peft/adapter_model.safetensors"), "a folder in PEFT's form")
    b.json("finetune", "-m", "m.gguf", "-d", "facts.jsonl", "-o", "on.gguf", "--adapter", "peft", "--steps", "5", "--dir", "", *RUN)
    r = b.json("finetune", "-m", "m.gguf", "-d", "facts.jsonl", "-o", "p.gguf", "--dp-noise", "1.1", "--steps", "6", "--dir", "", "-c", "64", "-b", "1", "-t", "1")
    b.check(r.get("privacy", {}).get("epsilon", 0) > 0, f"privacy: {r.get('privacy')}")


def refused(b):
    b.refused(4, "nowhere.jsonl", "finetune", "-m", "m.gguf", "-d", "nowhere.jsonl", "-o", "x.gguf")
    with open("broken.jsonl", "w") as f:
        f.write('{"prompt": "a", "completion": "b"}\n{"prompt": \n')
    p = b.run("finetune", "-m", "m.gguf", "-d", "broken.jsonl", "-o", "rest.gguf", "--steps", "2", "--dir", "", *RUN)
    b.check("broken.jsonl:2" in p.stderr, "a broken line is named, and the others are learned")
    with open("all.jsonl", "w") as f:
        f.write("{\n")
    b.refused(1, "all.jsonl", "finetune", "-m", "m.gguf", "-d", "all.jsonl", "-o", "x.gguf", "--steps", "2", *RUN)
    b.refused(2, "--method", "finetune", "-m", "m.gguf", "-d", "facts.jsonl", "-o", "x.gguf", "--method", "none")
    b.check(not os.path.exists("x.gguf"), "none of them left a file")


def tests(b):
    model(b)
    seconds = learned(b)
    merged(b)
    killed(b, seconds)
    more(b)
    refused(b)


if __name__ == "__main__":
    sys.exit(run_tests(tests))
