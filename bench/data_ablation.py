#!/usr/bin/env python3
"""data_ablation.py MOTE TEXT.jsonl [--steps N]: what `mote data` buys: the same small model, the same number of tokens, raw and prepared.

The raw set is made as crawls are: a third of the documents of TEXT.jsonl, each there up to six times with a few words changed, page
navigation that repeats itself, tables of numbers, and broken lines. The held-out set is documents that are in neither. Prints one JSON line.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import tempfile


def paragraphs(path):
    for line in open(path, encoding="utf-8"):
        text = json.loads(line)["text"]
        parts = text.split("\n\n")
        for i in range(0, len(parts), 8):
            piece = "\n\n".join(parts[i:i + 8])
            if 400 < len(piece) < 6000:
                yield piece


def crawl(docs, rng):
    lines = []
    for n, doc in enumerate(docs):
        for _ in range(1 + (n % 3 == 0) * 5):
            words = doc.split(" ")
            for _ in range(max(1, len(words) // 200)):
                words[rng.randrange(len(words))] = rng.choice(words)
            lines.append(json.dumps({"text": " ".join(words)}, ensure_ascii=False))
        lines.append(json.dumps({"text": "Home | About | Contact | Sign in | Share this page | Next article\n" * rng.randrange(8, 20)}))
        if n % 2 == 0:
            lines.append(json.dumps({"text": "\n".join(" | ".join(f"{rng.random():.4f}" for _ in range(8)) for _ in range(25))}))
        if n % 20 == 0:
            lines.append('{"text": "broken')
    rng.shuffle(lines)
    return lines


def train(mote, data, held, tokenizer, steps, seed):
    out = f"{data}.{seed}.gguf"
    done = subprocess.run([mote, "train", "--depth", "2", "--width", "128", "--tokenizer", tokenizer, "-f", data, "--eval-data", held, "--ctx-size", "128", "--batch", "16", "--steps", str(steps),
                           "--lr", "3e-3", "--seed", str(seed), "--eval-every", str(steps), "-o", out, "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mote")
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    mote, rng = os.path.abspath(args.mote), random.Random(1)
    docs = list(paragraphs(args.text))
    rng.shuffle(docs)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        pathlib.Path("held.jsonl").write_text("".join(json.dumps({"text": d}) + "\n" for d in docs[:60]), encoding="utf-8")
        pathlib.Path("raw.jsonl").write_text("\n".join(crawl(docs[60:60 + len(docs) // 3], rng)) + "\n", encoding="utf-8")
        report = json.loads(subprocess.run([mote, "data", "raw.jsonl", "-o", "prepared.jsonl", "-e", "held.jsonl", "--quality", "gopher", "--json"], capture_output=True, text=True, check=True).stdout)
        subprocess.run([mote, "tokenizer", "raw.jsonl", "-V", "2048", "-o", "v.gguf"], capture_output=True, check=True)
        result = {"bytes_raw": report["bytes_in"], "bytes_prepared": report["bytes_out"], "left_out": {k: v["documents"] for k, v in report["left_out"].items()}, "steps": args.steps}
        for name in ("raw", "prepared"):
            runs = [train(mote, f"{name}.jsonl", "held.jsonl", "v.gguf", args.steps, seed + 1) for seed in range(args.seeds)]
            result[name] = runs
        print(json.dumps(result))


if __name__ == "__main__":
    main()
