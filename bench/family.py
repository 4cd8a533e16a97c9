#!/usr/bin/env python3
"""Figures of mote's own models, for `mote family`: models/figures/NAME.json of each models/NAME.gguf.

usage: bench/family.py --write     the tables of models/NAME.md and models/README.md from the figures
       bench/family.py --check     changes nothing, fails when --write would (a test)
       bench/family.py [--mote PROGRAM] [--reference MODEL] [--tasks DIR] [--limit N] [--chats] [--rounds 5] [--no-speed] [--cpu-seconds N]
                       [FILE…]

--reference: the model that perplexity and tasks are compared with. --tasks: a folder with the tasks' files (tools/eval-data.py); without it tasks are
left as they were; the reference's are kept in the cache. --chats: the answers to bench/chats.txt and bench/facts.jsonl, too. A model that is not in models/ is measured just so, and its figures are kept as those of a file that is not there. What is not
measured in a run stays as it was, as long as the file is the same. --cpu-seconds: what making it took, all cores together; the card says the
energy of that at 10 watts a core. Close everything else while speed is measured.
"""
import argparse
import collections
import hashlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

from excerpt import bits_per_byte
from made import ROOT, cache, filled, keep

FIGURES = ROOT / "models" / "figures"
QUESTIONS, FACTS = ROOT / "bench" / "chats.txt", ROOT / "bench" / "facts.jsonl"
PROMPT = "Please tell me in a few short words why the sky looks blue in the day and red in the evening, and what the sun has to do with it."
DRAWN = {"greedy": ["--temp", "0", "--repeat-penalty", "1"], "default": []}  # default: as the file recommends, else as mote does
CHANCE = {"hellaswag": 0.25, "arc_easy": 0.25, "arc_challenge": 0.25, "piqa": 0.5, "boolq": 0.5, "winogrande": 0.5, "openbookqa": 0.25}


def out_of(*command):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


def speed(mote, model, rounds):
    session = ["-t", "2", "-c", "2048", "-ctk", "q8_0", "-ctv", "q8_0"]
    bench = json.loads(out_of(mote, "bench", "-m", model, "-p", "0", "-n", "128", "-t", "2", "-r", rounds, "-o", "json"))
    first, start, memory = [], [], []
    for _ in range(rounds + 1):
        began = time.monotonic()
        child = subprocess.Popen([mote, "run", "-m", model, *session, "--temp", "0", "--raw", "--json", "-n", "1", "-p", PROMPT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        said = json.loads(child.stdout.read())
        _, status, used = os.wait4(child.pid, 0)
        assert status == 0
        start.append(1000 * (time.monotonic() - began))
        first.append(said["prompt_ms"])
        memory.append(used.ru_maxrss * 1024)
    return {"tokens_per_s": statistics.median(bench[-1]["samples_ts"]), "first_token_ms": statistics.median(first[1:]), "start_ms": statistics.median(start[1:]),
            "memory_bytes": max(memory)}


def perplexity(mote, model, reference, *args):
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder) / "base.kld"
        args = [*args, "-c", "512", "--chunks", "60"]
        if not reference:
            return {"perplexity": json.loads(out_of(mote, "perplexity", "-m", model, *args, "--json"))["ppl"]}
        out_of(mote, "perplexity", "-m", reference, *args, "--kl-divergence-base", base)
        d = json.loads(out_of(mote, "perplexity", "-m", model, *args, "--kl-divergence-base", base, "--kl-divergence", "--json"))
        return {"perplexity": d["ppl"], "perplexity_ratio": d["ppl"] / d["base_ppl"], "kld": d["kld_mean"], "same_top": d["same_top"]}


def likeness(mote, model, about, reference, text):
    """Perplexity and divergence from the reference, and bits per byte where it has another vocabulary."""
    tokens = [json.loads(out_of(mote, "show", reference, "--json"))["metadata"]["llama.vocab_size"], about["metadata"]["llama.vocab_size"]] if reference else [0, 0]
    if tokens[0] == tokens[1]:
        return perplexity(mote, model, reference, "-f", text)
    bits, whole = (bits_per_byte(mote, m, text, 120000) for m in (model, reference))
    return {"bits_per_byte": bits, "bits_per_byte_ratio": bits / whole}


def turns_in_a_circle(text, run=8, times=4):
    """Some eight words in a row stand there four times."""
    words = text.split()
    seen = collections.Counter(tuple(words[i:i + run]) for i in range(len(words) - run + 1))
    return any(n >= times for n in seen.values())


# How the original's answers are drawn that the model is to agree with: from all that it can say, and as it is used.
SAID = {"chat": ["--temp", "1", "--top-k", "0", "--top-p", "0.97", "--min-p", "0"], "chat_default": []}


def conversations(mote, model, folder, how):
    """bench/chats.txt as the original answers it, in its template: a text that no recipe has seen."""
    said, one, text = folder / "said.jsonl", folder / "one.json", folder / "said.txt"
    out_of(mote, "generate", QUESTIONS, "-m", model, "-o", said, "-n", "400", "-c", "1024", "-np", "16", "--seed", "5", *how)
    with open(text, "w", encoding="utf-8") as f:
        for line in said.read_text(encoding="utf-8").splitlines():
            one.write_text(json.dumps({"messages": json.loads(line)["messages"], "add_generation_prompt": False}), encoding="utf-8")
            f.write(out_of(mote, "template", "-m", model, "-c", one))
    return text


def chats(mote, model, *how):
    """How the answers to 200 questions end: of each kind how many in a hundred."""
    with tempfile.TemporaryDirectory() as folder:
        said = pathlib.Path(folder) / "said.jsonl"
        out_of(mote, "generate", QUESTIONS, "-m", model, "-o", said, "-n", "512", "-c", "1024", "-np", "16", *how)
        answers = [json.loads(line) for line in said.read_text(encoding="utf-8").splitlines()]
    texts = [a["messages"][-1]["content"] for a in answers]
    share = 100 / len(answers)
    return {"ended": share * sum(a["finish"] == "stop" for a in answers), "loops": share * sum(map(turns_in_a_circle, texts)),
            "malformed": share * sum(not t.strip() or "<|" in t or "\ufffd" in t for t in texts), "words": statistics.mean(len(t.split()) for t in texts)}


def facts(mote, model, *how, draws=4):
    """Of the questions of bench/facts.jsonl, each drawn some times, the share whose answer says what it should (a regular expression)."""
    asked = [json.loads(line) for line in FACTS.read_text(encoding="utf-8").splitlines() for _ in range(draws)]
    with tempfile.TemporaryDirectory() as folder:
        questions, said = pathlib.Path(folder) / "questions.txt", pathlib.Path(folder) / "said.jsonl"
        questions.write_text("".join(a["question"] + "\n" for a in asked), encoding="utf-8")
        out_of(mote, "generate", questions, "-m", model, "-o", said, "-n", "120", "-c", "512", "-np", "16", "--seed", "9", *how)
        answers = [json.loads(line)["messages"][-1]["content"].lower() for line in said.read_text(encoding="utf-8").splitlines()]
    return 100 * statistics.mean(bool(re.search(a["says"], t)) for a, t in zip(asked, answers, strict=True))


def accuracies(mote, model, tasks, limit):
    d = json.loads(out_of(mote, "eval", "-m", model, "-d", tasks, *CHANCE, "--limit", limit, "--json"))
    return {name: d[name]["acc_norm" if "acc_norm" in d[name] else "acc"]["value"] for name in CHANCE}


def reference_accuracies(mote, model, tasks, limit):
    """The reference's, which take longest and stay: kept in the cache, by what went in."""
    digest = hashlib.sha256()
    for path in [pathlib.Path(model), *(pathlib.Path(tasks) / f"{name}.jsonl" for name in CHANCE)]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    kept = cache() / f"accuracies-{digest.hexdigest()[:16]}-{limit}.json"
    if not kept.exists():
        kept.write_text(json.dumps(accuracies(mote, model, tasks, limit)))
    return json.loads(kept.read_text())


ROWS = [("bytes", "file", lambda v: f"{v:,.0f} bytes"), ("parameters", "parameters", lambda v: f"{v / 1e6:.1f} million"),
        ("bits_per_weight", "in memory, scales included", lambda v: f"{v:.2f} bits a weight"), ("memory_bytes", "resident, context of 2,048 tokens in q8_0, a short question", lambda v: f"{v / 1e6:.1f} MB"),
        ("start_ms", "from the command to the first token", lambda v: f"{v:.0f} ms"), ("first_token_ms", "to the first token, running, 32 tokens asked", lambda v: f"{v:.0f} ms"),
        ("tokens_per_s", "writing, one sequence, 2 threads", lambda v: f"{v:.0f} tokens/s"), ("perplexity", "perplexity, WikiText-2, windows of 512", lambda v: f"{v:.2f}"),
        ("perplexity_ratio", "… times the float32 original's", lambda v: f"{v:.3f}"), ("kld", "mean KL divergence from it, nats", lambda v: f"{v:.4f}"),
        ("bits_per_byte", "bits per byte, WikiText-2", lambda v: f"{v:.3f}"), ("bits_per_byte_ratio", "… times the float32 original's", lambda v: f"{v:.3f}"),
        ("same_top", "same likeliest token", lambda v: f"{100 * v:.1f} %"), ("chat_perplexity_ratio", "perplexity on the original's answers to 200 questions, drawn at temperature 1, times its own", lambda v: f"{v:.3f}"),
        ("chat_kld", "mean KL divergence there, nats", lambda v: f"{v:.4f}"), ("chat_same_top", "same likeliest token there", lambda v: f"{100 * v:.1f} %"),
        ("chat_default_perplexity_ratio", "perplexity on its answers as it is drawn by default, times its own", lambda v: f"{v:.3f}"),
        ("chat_default_kld", "mean KL divergence there, nats", lambda v: f"{v:.4f}"), ("chat_default_same_top", "same likeliest token there", lambda v: f"{100 * v:.1f} %"), ("facts", "simple facts said, default", lambda v: f"{v:.0f} %"), ("facts_reference", "… by the original", lambda v: f"{v:.0f} %"),
        ("tasks", "tasks, mean accuracy", lambda v: f"{100 * v:.1f} %"),
        ("tasks_share", "… of the original's above guessing", lambda v: f"{v:.0f} %"), ("cpu_seconds", "making it", lambda v: f"{v:,.0f} CPU-seconds, {v * 10 / 3.6e6:.2f} kWh at 10 W a core")]


def table(row):
    lines = ["| | |", "|---|---:|"] + [f"| {what} | {text(row[key])} |" for key, what, text in ROWS if key in row]
    lines += [f"| {name} | {100 * value:.1f} % |" for name, value in row.get("accuracy", {}).items()]
    for name in DRAWN:
        for whose, key in (("", f"chats_{name}"), (", the original", f"chats_reference_{name}")):
            if key not in row:
                continue
            c = row[key]
            lines.append(f"| 200 questions, {name}, at most 512 tokens{whose} | {c['ended']:.1f} % end, {c['loops']:.1f} % turn in a circle, {c['malformed']:.1f} % malformed, {c['words']:.0f} words |")
    return "\n".join([*lines, "", f"Measured {row['date']}, {row['version']}; SHA-256 `{row['sha256']}`."])


def siblings():
    """All that was measured, the smallest first, whether its file is in the repository or not."""
    columns = ["bytes", "bits_per_weight", "perplexity_ratio", "bits_per_byte_ratio", "kld", "same_top", "tasks", "tasks_share", "tokens_per_s", "cpu_seconds"]
    short = {"bytes": lambda v: f"{v / 1e6:.1f} MB", "bits_per_weight": lambda v: f"{v:.2f}", "tokens_per_s": lambda v: f"{v:.0f}", "cpu_seconds": lambda v: f"{v:,.0f}"}
    text = {key: short.get(key, how) for key, _, how in ROWS}
    rows = sorted((json.loads(path.read_text()) for path in FIGURES.glob("*.json")), key=lambda r: r["bytes"])
    lines = ["| | file | bits a weight | perplexity ÷ original's | bits per byte ÷ original's | mean KLD | same top token | tasks | of the original's above guessing | tokens/s | CPU-seconds to make |",
             "|---|" + "---:|" * len(columns)]
    lines += [f"| {r['name']} | " + " | ".join(text[c](r[c]) if c in r else "–" for c in columns) + " |" for r in rows]
    return "\n".join(lines)


def keep_figures(path, row):
    """After each part of the measuring, so that what was measured is there whatever comes next."""
    path.write_text(json.dumps(row, indent=1) + "\n")


def cards(check):
    made = {}
    for path in sorted((ROOT / "models").glob("*.md")):
        figures = FIGURES / f"{path.stem}.json"
        if figures.exists():
            made[path] = filled(path.read_text(encoding="utf-8"), "figures", table(json.loads(figures.read_text())))
    page = ROOT / "models" / "README.md"
    made[page] = filled(page.read_text(encoding="utf-8"), "family", siblings())
    return keep(made, check)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--mote", default=ROOT / "build/release/mote")
    ap.add_argument("--reference")
    ap.add_argument("--tasks")
    ap.add_argument("--chats", action="store_true")
    ap.add_argument("--limit", type=int, default=1000)
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--no-speed", action="store_true")
    ap.add_argument("--cpu-seconds", type=float)
    ap.add_argument("--write", action="store_true")
    ap.add_argument("--check", action="store_true")
    ap.add_argument("files", nargs="*")
    o = ap.parse_args()
    if o.write or o.check:
        return cards(o.check)
    text = pathlib.Path(os.environ.get("MOTE_SHARED", ROOT.parent / "shared")) / "oracle/text/wikitext2-test.txt"
    FIGURES.mkdir(parents=True, exist_ok=True)
    for file in [pathlib.Path(f) for f in o.files] or sorted((ROOT / "models").glob("*.gguf")):
        path, digest = FIGURES / f"{file.stem}.json", hashlib.sha256(file.read_bytes()).hexdigest()
        row = json.loads(path.read_text()) if path.exists() else {}
        if row.get("sha256") != digest:
            row = {}
        about = json.loads(out_of(o.mote, "show", file, "--json"))
        row |= {"name": file.stem, "file": file.name, "sha256": digest, "bytes": about["size"], "parameters": about["weights"], "bits_per_weight": about["bits_per_weight"],
                "date": time.strftime("%Y-%m-%d"), "version": out_of(o.mote, "--version").splitlines()[0]}
        if o.cpu_seconds:
            row["cpu_seconds"] = o.cpu_seconds
        if not o.no_speed:
            row |= speed(o.mote, file, o.rounds)
        row |= likeness(o.mote, file, about, o.reference, text)
        keep_figures(path, row)
        if o.tasks:
            got = accuracies(o.mote, file, o.tasks, o.limit)
            row |= {"accuracy": got, "tasks": statistics.mean(got.values()), "items": o.limit}
            if o.reference:
                whole, least = reference_accuracies(o.mote, o.reference, o.tasks, o.limit), statistics.mean(CHANCE.values())
                row["tasks_share"] = 100 * (row["tasks"] - least) / (statistics.mean(whole.values()) - least)
        keep_figures(path, row)
        if o.chats:
            row |= {"chats_" + name: chats(o.mote, file, *how) for name, how in DRAWN.items()} | {"facts": facts(o.mote, file)}
            if o.reference:
                row["facts_reference"] = facts(o.mote, o.reference)
                row |= {"chats_reference_" + name: chats(o.mote, o.reference, *how) for name, how in DRAWN.items()}
                keep_figures(path, row)
                for name, how in SAID.items():
                    with tempfile.TemporaryDirectory() as folder:
                        said = conversations(o.mote, o.reference, pathlib.Path(folder), how)
                        row |= {f"{name}_{key}": value for key, value in perplexity(o.mote, file, o.reference, "-f", said, "--special").items()}
        keep_figures(path, row)
        print(json.dumps(row))


if __name__ == "__main__":
    sys.exit(main())
