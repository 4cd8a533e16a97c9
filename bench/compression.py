#!/usr/bin/env python3
"""What each technique of making models smaller costs and brings, on SmolLM2-135M-Instruct, beside its naive baseline.

usage: bench/compression.py [TECHNIQUE…]     runs the cases whose technique or variant begins with a word, appends to compression.csv
       bench/compression.py --list
       bench/compression.py --speed [TECHNIQUE…]   measures the speed of decoding alone, into the rows that are there: on a quiet machine
       bench/compression.py --write          docs/COMPRESSION.md's tables and docs/img/compression.svg from compression.csv
       bench/compression.py --check          changes nothing, fails when --write would change something (a test)
options: --mote PROGRAM (default build/release/mote, else build/dev/mote), --chunks N (20), --threads N, --stage baseline|made|healed
         (repeatable), --no-speed, --keep FOLDER (files stay there, and --speed takes those that are there), --files (with --speed: make
         them, measure nothing), --dry

Cases are lists in bench/compression/*.json:
    {"family": "quantization", "technique": "GPTQ", "variant": "Q4_0", "about": "one line",
     "baseline": {"name": "round to nearest", "make": ["{mote} quantize --pure {teacher} {out} Q4_0"]},
     "make": ["{mote} quantize --method gptq {teacher} {out} Q4_0"],
     "heal": {"tokens": 32768, "make": ["{mote} distill … -m {made} -o {out}"]},
     "options": "--heads {tmp}/heads.gguf --exit-threshold 0.9"}        further arguments of perplexity and bench, if any
{teacher} is the float32 expansion of the Q4_1 file, against which everything is compared; {source} that file itself; {train} a folder
of text to train and calibrate on; {made} what `make` gave; {tmp} a folder for what lies between; {cache} one
that stays. Evaluated on WikiText-2 test in windows
of 512 ($MOTE_SHARED/oracle/text; what has another vocabulary by bits per byte of the whole documents, in the family "vocabulary"; guesses by how many passes of the model an answer to some
questions takes, in the family "speculation"), which nothing here is calibrated or trained on. Healing changes no shape, so a healed row has the
speed of what was healed; and where a technique gives a file of its baseline's size that runs with the same options, only the baseline is timed.
"""
import argparse
import csv
import datetime
import json
import math
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile

from excerpt import bits_per_byte
from made import ROOT, cache, filled, keep

CASES = ROOT / "bench" / "compression"
TABLE = ROOT / "bench" / "compression.csv"
DOC = ROOT / "docs" / "COMPRESSION.md"
PICTURE = ROOT / "docs" / "img" / "compression.svg"
COLUMNS = ["date", "commit", "family", "technique", "variant", "stage", "name", "tokens", "bytes", "ppl", "ratio", "kld", "same_top",
           "speed", "chunks"]
FAMILIES = ["quantization", "sparsity", "pruning", "vocabulary", "sharing", "attention", "distillation", "designs", "run time", "speculation"]
# What `ratio` is; the less, the better. Families that are not named: perplexity, with divergence and likeliest tokens beside it.
RATIOS = {"vocabulary": "bits per byte ÷ reference", "speculation": "passes ÷ tokens"}
QUESTIONS = ["Why is the sky blue?", "Write a short story about a cat.", "How do I learn to cook?", "What is a volcano?", "Give me three tips for sleeping well.",
             "Explain to a child what money is."]


def cases():
    found = []
    for path in sorted(CASES.glob("*.json")):
        found += json.loads(path.read_text(encoding="utf-8"))
    return sorted(found, key=lambda c: FAMILIES.index(c["family"]))


def read_rows():
    if not TABLE.exists():
        return []
    with open(TABLE, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def write_rows(rows):
    with open(TABLE, "w", newline="", encoding="utf-8") as f:
        w = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        w.writeheader()
        w.writerows(rows)


def latest(rows):
    found = {}
    for r in rows:
        found[r["family"], r["technique"], r["variant"], r["stage"]] = r
    return found


# ---- measuring ----

class Bench:
    def __init__(self, o):
        self.o, self.timed = o, {}
        shared = pathlib.Path(os.environ.get("MOTE_SHARED", ROOT / ".." / "shared"))
        models = pathlib.Path(os.environ.get("MOTE_MODELS", pathlib.Path.home() / ".cache/mote/models"))
        kept = cache()
        self.text = shared / "oracle/text/wikitext2-test.txt"
        self.source = models / "smollm2-135m-instruct.q4_1.gguf"
        self.teacher = kept / "smollm2-135m-instruct.f32.gguf"
        self.base = kept / f"smollm2-135m-instruct.wikitext-2.{o.chunks}.logits"
        self.train = pathlib.Path(os.environ.get("MOTE_TRAIN_TEXT", kept / "train"))
        if not self.teacher.exists():
            self.sh(f"{o.mote} quantize --allow-requantize {self.source} {self.teacher} F32")
        if not self.base.exists():
            self.perplexity(self.teacher, f"--kl-divergence-base {self.base}")

    def sh(self, command):
        done = subprocess.run(command, shell=True, text=True, capture_output=True, check=False)
        if done.returncode:
            sys.exit(f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def perplexity(self, model, extra):
        threads = f"-t {self.o.threads} " if self.o.threads else ""
        out = self.sh(f"{self.o.mote} perplexity --json {threads}-m {model} -f {self.text} -c 512 --chunks {self.o.chunks} {extra}")
        return json.loads(out.strip().splitlines()[-1])

    def answers(self, model, extra):
        """What it says to the questions, greedily, with figures."""
        return [json.loads(self.sh(f"{self.o.mote} run --json -m {model} -p {shlex.quote(q)} -n 160 --temp 0 -t 2 {extra}")) for q in QUESTIONS]

    def passes(self, model, extra):
        """Passes through the model for each token of an answer, the text being the same as without guesses."""
        plain, guessed = self.answers(model, "--spec off"), self.answers(model, extra)
        if [a["text"] for a in plain] != [a["text"] for a in guessed]:
            raise SystemExit(f"the answers with {extra} are others")
        tokens = sum(a["answer_tokens"] for a in guessed)
        return 1 - sum(a["accepted_tokens"] for a in guessed) / tokens

    def judge(self, case, made, extra):
        if case["family"] == "speculation":
            return {"ppl": "", "ratio": f"{self.passes(made, extra):.4f}", "kld": "", "same_top": ""}
        if case["family"] == "vocabulary":
            bits, whole = (bits_per_byte(self.o.mote, m, self.text, 2100 * self.o.chunks) for m in (made, self.teacher))  # as many tokens about as in all windows
            return {"ppl": f"{bits:.4f}", "ratio": f"{bits / whole:.4f}", "kld": "", "same_top": ""}
        r = self.perplexity(made, f"--kl-divergence-base {self.base} --kl-divergence {extra}")
        return {"ppl": f"{r['ppl']:.4f}", "ratio": f"{r['ppl'] / r['base_ppl']:.4f}", "kld": f"{r['kld_mean']:.5f}", "same_top": f"{r['same_top']:.4f}"}

    def speed(self, model, extra):
        """Tokens per second of decoding, over the source's in the same minute: the median of five ratios of neighbouring runs."""
        ratios = []
        for _ in range(5):
            if "--heads" in extra:  # a bench's tokens mean nothing: heads would neither be sure nor right
                both = [sum(a["answer_tokens"] for a in said) / sum(a["answer_ms"] for a in said)
                        for said in (self.answers(model, extra if "--spec" in extra else extra + " --spec off"), self.answers(self.source, "--spec off"))]
            else:
                both = [json.loads(self.sh(f"{self.o.mote} bench -m {which} -p 0 -n 96 -r 1 -t 2 -o json {options}"))[0]["avg_ts"]
                        for which, options in ((model, extra), (self.source, ""))]
            ratios.append(both[0] / both[1])
        return statistics.median(ratios)

    def names(self, folder):
        return {"mote": self.o.mote, "teacher": self.teacher, "source": self.source, "train": self.train, "tmp": folder, "cache": self.base.parent}

    def make(self, commands, out, made, folder):
        for c in commands:
            command = c.format(out=out, made=made, **self.names(folder))
            print("$", command, flush=True)
            if not self.o.dry:
                self.sh(command)

    def time(self, case, folder, rows):
        """Fills `speed` of the case's latest rows."""
        key = (case["family"], case["technique"], case["variant"])
        found = {stage: latest(rows).get(key + (stage,)) for stage in ("baseline", "made", "healed")}
        if not found["baseline"] or not found["made"]:
            return
        options = {stage: re.sub(r"--activations \S+", "", o)  # exact ones are for judging roundings; this is about what runs
                   for stage, o in (("baseline", case["baseline"].get("options", "")), ("made", case.get("options", "")))}
        sizes = [int(found[stage]["bytes"]) for stage in ("baseline", "made")]
        alike = abs(sizes[0] - sizes[1]) < 65536 and options["baseline"] == options["made"]  # what was done is noted in the file
        for stage in ("baseline",) if alike else ("baseline", "made"):
            out, commands = folder / f"{stage}.gguf", (case["baseline"] if stage == "baseline" else case)["make"]
            ratio = self.timed.get((*commands, options[stage]))
            if not ratio and not out.exists():
                self.make(commands, out, folder / "made.gguf", folder)
            if self.o.files or self.o.dry:
                self.timed[(*commands, options[stage])] = "-"
                continue
            ratio = ratio or f"{self.speed(out, options[stage].format(**self.names(folder))):.3f}"
            self.timed[(*commands, options[stage])] = ratio
            print(f"   {stage}: {ratio}", flush=True)
            for row in (found[s] for s in ("baseline", "made", "healed") if found[s] and (alike or (s == "baseline") == (stage == "baseline"))):
                row["speed"] = ratio
        if not self.o.files and not self.o.dry:
            write_rows(rows)

    def stage(self, case, stage, name, tokens, made, folder):
        extra = (case.get("options", "") if stage != "baseline" else case["baseline"].get("options", "")).format(**self.names(folder))
        r = self.judge(case, made, extra)
        speed = "" if self.o.no_speed else f"{self.speed(made, extra):.3f}"
        if stage == "healed" and not speed:
            speed = latest(read_rows()).get((case["family"], case["technique"], case["variant"], "made"), {}).get("speed", "")
        commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
        return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), "commit": commit, "family": case["family"],
                "technique": case["technique"], "variant": case["variant"], "stage": stage, "name": name, "tokens": tokens,
                "bytes": made.stat().st_size, **r, "speed": speed, "chunks": self.o.chunks}

    def run(self, case, folder):
        made = folder / "made.gguf"
        steps = [("baseline", case["baseline"]["name"], 0, case["baseline"]["make"], folder / "baseline.gguf"),
                 ("made", case["technique"], 0, case["make"], made)]
        if "heal" in case:
            steps.append(("healed", case["technique"], case["heal"]["tokens"], case["heal"]["make"], folder / "healed.gguf"))
        for stage, name, tokens, commands, out in steps:
            if self.o.stage and stage not in self.o.stage and not (stage == "made" and "healed" in self.o.stage):
                continue
            self.make(commands, out, made, folder)
            if self.o.dry or (self.o.stage and stage not in self.o.stage):
                continue
            row = self.stage(case, stage, name, tokens, out, folder)
            print("  ", {k: row[k] for k in ("stage", "bytes", "ratio", "kld", "same_top", "speed")}, flush=True)
            write_rows(read_rows() + [row])


# ---- the page ----

def cells(r):
    healed = f" after {int(r['tokens']) // 1000} k tokens" if r["stage"] == "healed" else ""
    speed = f"{float(r['speed']):.2f}" if r["speed"] else "–"
    divergence = [f"{float(r['kld']):.4f}", f"{100 * float(r['same_top']):.1f} %"] if r["kld"] else []
    return [r["name"] + healed, f"{int(r['bytes']) / 1e6:.1f}", f"{float(r['ratio']):.3f}", *divergence, speed]


def tables(rows):
    found, text = latest(rows), []
    for family in FAMILIES:
        keys = list(dict.fromkeys(k[:3] for k in found if k[0] == family))
        if not keys:
            continue
        quality = [RATIOS[family]] if family in RATIOS else ["perplexity ÷ reference", "mean KLD", "same top token"]
        text += [f"### {family[0].upper()}{family[1:]}", "", "| technique | variant | | MB | " + " | ".join(quality) + " | decode ÷ Q4_1 file |",
                 "| --- | --- | --- | ---: |" + " ---: |" * len(quality) + " ---: |"]
        for key in keys:
            for stage in ("baseline", "made", "healed"):
                if key + (stage,) in found:
                    first = [key[1], key[2]] if stage == "baseline" or key + ("baseline",) not in found else ["", ""]
                    text.append("| " + " | ".join(first + cells(found[key + (stage,)])) + " |")
        text.append("")
    return "\n".join(text).strip()


def picture(rows):
    """Mean KLD against size, both on logarithmic axes: baselines hollow, techniques full, healed ones square."""
    points = [(int(r["bytes"]) / 1e6, max(float(r["kld"]), 1e-4), r["stage"], f"{r['name']} {r['variant']}") for r in latest(rows).values() if r["kld"]]
    if not points:
        return ""
    w, h, left, top = 760, 440, 70, 20
    lo, hi = math.log(min(p[0] for p in points) * 0.9), math.log(max(p[0] for p in points) * 1.1)
    below, above = math.log(min(p[1] for p in points) / 1.5), math.log(max(p[1] for p in points) * 1.5)

    def at(mb, kld):
        return (left + (math.log(mb) - lo) / (hi - lo) * (w - left - 20), top + (above - math.log(kld)) / (above - below) * (h - top - 50))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" font-family="sans-serif" font-size="12">',
           f'<rect width="{w}" height="{h}" fill="white"/>']
    for mb in (25, 50, 75, 100, 150, 200, 300, 500):
        if lo < math.log(mb) < hi:
            x = at(mb, 1)[0]
            out.append(f'<path d="M{x:.1f} {top}V{h - 50}" stroke="#ddd"/><text x="{x:.1f}" y="{h - 32}" text-anchor="middle">{mb} MB</text>')
    for kld in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10):
        if below < math.log(kld) < above:
            y = at(50, kld)[1]
            out.append(f'<path d="M{left} {y:.1f}H{w - 20}" stroke="#ddd"/><text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{kld:g}</text>')
    for mb, kld, stage, label in points:
        x, y = at(mb, kld)
        style = {"baseline": 'fill="none" stroke="#999"', "made": 'fill="#1f77b4"', "healed": 'fill="#d62728"'}[stage]
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" {style}><title>{label}: {mb:.1f} MB, {kld:.4f}</title></circle>')
    out.append(f'<text x="{left}" y="{h - 10}">mean KLD to the float32 reference against bytes: ○ naive baseline, '
               '<tspan fill="#1f77b4">● technique</tspan>, <tspan fill="#d62728">● healed</tspan></text></svg>')
    return "\n".join(out) + "\n"


def report(rows):
    """A row of ./test --report for each case: its KLD against that of its naive baseline."""
    found = latest(rows)
    for c in cases():
        key = (c["family"], c["technique"], c["variant"])
        made, base = found.get(key + ("made",)), found.get(key + ("baseline",))
        healed = found.get(key + ("healed",))
        item = f"{c['technique']} {c['variant']}"
        if not made or not base:
            row = ["no line yet", "-", "SKIP", "-"]
        else:
            by = "kld" if base["kld"] else "ratio"
            best = min(float(r[by]) for r in (made, healed) if r)
            row = [f"{'KLD' if by == 'kld' else RATIOS[c['family']]} {best:.4f}", f"{float(base[by]):.4f}", "ok" if best < float(base[by]) else "FAIL",
                   f"{float(made['speed']):.2f}x Q4_1 file" if made["speed"] else "-"]
        print("\t".join(["report", "compression", item, *row, f"{int(made['bytes']) / 1e6:.1f} MB" if made else "-"]))


def write(check):
    rows = read_rows()
    if check and os.environ.get("MOTE_REPORT"):
        report(rows)
    made = {DOC: filled(DOC.read_text(encoding="utf-8"), "tables", tables(rows))}
    drawn = picture(rows)
    return keep(made | {PICTURE: drawn} if drawn else made, check)


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("words", nargs="*")
    for flag in ("list", "write", "check", "speed", "files", "no-speed", "dry"):
        p.add_argument("--" + flag, action="store_true")
    p.add_argument("--mote", default=next((str(b) for b in (ROOT / "build/release/mote", ROOT / "build/dev/mote") if b.exists()), "mote"))
    p.add_argument("--chunks", type=int, default=20)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--stage", action="append", choices=["baseline", "made", "healed"])
    p.add_argument("--keep")
    o = p.parse_args()
    if o.files and not (o.speed and o.keep):
        p.error("--files belongs to --speed and --keep FOLDER")
    if o.write or o.check:
        return write(o.check)
    chosen = [c for c in cases() if not o.words or any((c["technique"] + " " + c["variant"]).lower().startswith(x.lower()) for x in o.words)]
    if o.list:
        for c in chosen:
            print(f"{c['family']:14} {c['technique']:24} {c['variant']:16} {c['about']}")
        return 0
    o.mote = shlex.quote(o.mote)
    bench, rows = Bench(o), read_rows()
    do = (lambda c, folder: bench.time(c, folder, rows)) if o.speed else bench.run
    for c in chosen:
        print(f"== {c['technique']} {c['variant']}: {c['about']}", flush=True)
        if o.keep:
            folder = pathlib.Path(o.keep) / re.sub(r"[^A-Za-z0-9.]+", "-", f"{c['technique']} {c['variant']}").strip("-")
            folder.mkdir(parents=True, exist_ok=True)
            do(c, folder)
        else:
            with tempfile.TemporaryDirectory() as t:
                do(c, pathlib.Path(t))
    return 0


if __name__ == "__main__":
    sys.exit(main())
