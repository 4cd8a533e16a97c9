#!/usr/bin/env python3
"""Training steps of mote beside PyTorch's, in interleaved rounds, as rows of bench/results.csv.

usage: bench/train_vs_torch.py [--python PYTHON] [--rounds 5] [--precisions f32,bf16] [--model MODEL] …

A step is forward, gradients and AdamW on 2 × 256 tokens of a Llama of SmolLM2-135M's shape (the model file gives mote's; its
values do not matter). PyTorch runs the same shape through transformers' LlamaForCausalLM with torch.optim.AdamW; in bf16
its weights, activations and optimizer state are all in bf16, while mote keeps weights, sums and state in f32 and multiplies in bf16.

PYTHON has torch and transformers: --python, $MOTE_TORCH_PYTHON, or python3. It is asked to measure a few steps a round, the first
ones not counted; a round's figure is the best step of each, the row's the median over the rounds, the ratio that of each round.
"""
import argparse
import csv
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import measure  # noqa: E402  the columns of results.csv, and where models lie

LIMIT_S = 600
TORCH = """
import json, sys, time, torch
from transformers import LlamaConfig, LlamaForCausalLM
precision, sequences, length, warm, steps, threads = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
torch.manual_seed(1)
cfg = LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                  num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=2048)
m = LlamaForCausalLM(cfg).to(torch.bfloat16 if precision == "bf16" else torch.float32)
m.train()
x = torch.randint(0, 49152, (sequences, length))
opt = torch.optim.AdamW(m.parameters(), lr=1e-4)
times = []
for i in range(warm + steps):
    t = time.time()
    loss = m(input_ids=x, labels=x).loss
    loss.backward()
    opt.step()
    opt.zero_grad()
    times.append(time.time() - t)
print(json.dumps({"torch": torch.__version__, "seconds": times[warm:]}))
"""


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--mote", help="the program (default build/release/mote, else build/dev/mote)")
    ap.add_argument("--python", default=os.environ.get("MOTE_TORCH_PYTHON", "python3"), help="a Python with torch and transformers")
    ap.add_argument("--model", default="smollm2-135m-instruct.q4_1", help="a name without .gguf, or a path, of SmolLM2-135M's shape")
    ap.add_argument("--precisions", default="f32,bf16")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--steps", type=int, default=4, help="timed steps of a round")
    ap.add_argument("--warm", type=int, default=4, help="PyTorch's steps before them (mote's: 1)")
    ap.add_argument("--sequences", type=int, default=2)
    ap.add_argument("--length", type=int, default=256)
    ap.add_argument("-t", type=int, default=min(os.cpu_count() or 1, 2), help="threads")
    ap.add_argument("--dry", action="store_true", help="print the rows, and keep nothing")
    return ap.parse_args()


def run(command):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        sys.exit(f"train_vs_torch.py: {' '.join(map(str, command[:3]))} …: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
    return done.stdout


def mote_round(a, precision):
    text = run([a.mote, "bench", "-m", measure.model_path(a.model), "--train", "--sequences", a.sequences, "--length", a.length, "--precision", precision,
                "-r", a.steps, "-t", a.t, "-o", "jsonl"])
    row = json.loads(text)
    return min(row["samples_ns"]) * 1e-9, row


def torch_round(a, precision):
    row = json.loads(run([a.python, "-c", TORCH, precision, a.sequences, a.length, a.warm, a.steps, a.t]).splitlines()[-1])
    return min(row["seconds"]), row


def limit_of(a, precision):
    text = run([a.mote, "bench", "-m", measure.model_path(a.model), "--train", "--sequences", a.sequences, "--length", a.length, "--precision", precision,
                "-r", 1, "-t", a.t, "-o", "jsonl", "--limits"])
    return json.loads(text).get("limit_gflop_s")


def main():
    a = arguments()
    a.mote = a.mote or measure.default_mote()
    tokens = a.sequences * a.length
    rows = []
    for precision in a.precisions.split(","):
        mine, theirs, ratios, info, torch = [], [], [], {}, {}
        for r in range(a.rounds):
            order = [("mote", mote_round), ("torch", torch_round)]
            got = {}
            for who, once in order if r % 2 == 0 else order[::-1]:
                got[who], extra = once(a, precision)
                if who == "mote":
                    info = extra
                else:
                    torch = extra
            mine.append(tokens / got["mote"])
            theirs.append(tokens / got["torch"])
            ratios.append(got["torch"] / got["mote"])
            print(f"{precision} round {r + 1}: mote {mine[-1]:.0f}, PyTorch {torch['torch']} {theirs[-1]:.0f} tokens/s, ratio {ratios[-1]:.2f}", file=sys.stderr)
        token_ops = info["step_ops"] / tokens
        limit = limit_of(a, precision) * 1e9 / token_ops
        row = dict.fromkeys(measure.FIELDS, "")
        row.update({"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ"), "commit": measure.commit(), "cpu": info["cpu_info"],
                    "flags": info["isa"], "threads": a.t, "model": measure.model_name(measure.model_path(a.model)), "depth": 0,
                    "test": f"train {a.sequences}x{a.length} {precision}", "mote": f"{statistics.median(mine):.4g}",
                    "torch": f"{statistics.median(theirs):.4g}", "ratio": f"{statistics.median(ratios):.4g}", "limit": f"{limit:.4g}",
                    "share": f"{statistics.median(mine) / limit:.4g}", "token_ops": f"{token_ops:.10g}", "rounds": a.rounds})
        rows.append(row)
        print(" ".join(f"{k} {v}" for k, v in row.items() if v != ""))
    if not a.dry:
        with open(measure.CSV, "a", newline="", encoding="utf-8") as f:
            csv.DictWriter(f, measure.FIELDS, lineterminator="\n").writerows(rows)
        subprocess.run([sys.executable, ROOT / "bench" / "performance.py"], check=True)


main()
