#!/usr/bin/env python3
"""Turns public copies of evaluation sets into the JSON lines that `mote eval` and lm-evaluation-harness read.

usage: tools/eval-data.py OUT SOURCE…            OUT/TASK.jsonl for every task that a source holds
       tools/eval-data.py --pairs [--most N] OUT SOURCE…
                                                 OUT/TASK-pairs.jsonl of LLM-Adapters' dataset/NAME/train.json: what is asked, as the harness asks it, a
                                                 right answer and a wrong one, to learn from (`mote finetune --task dpo`), and OUT/plain.jinja; of each
                                                 task the first N at most

Sources, told apart by their form: a folder with LLM-Adapters' dataset/NAME/test.json (ARC-Easy, ARC-Challenge, piqa, winogrande, openbookqa; its
boolq has no passages, nor are there any in its train.json), MMLU's test/*.csv, llama.cpp's hellaswag_val_full.txt, IFEval's input_data.jsonl, GSM8K's *.jsonl. Nothing of them belongs into this
repository, and nothing of the tests into training.
"""
import csv
import itertools
import json
import pathlib
import random
import re
import sys

LABELS = "ABCDEFGH"
NAMES = {"ARC-Easy": "arc_easy", "ARC-Challenge": "arc_challenge", "boolq": "boolq", "piqa": "piqa", "winogrande": "winogrande", "openbookqa": "openbookqa"}
PLAIN = "{% for m in messages %}{{ m['content'] }}{% endfor %}"  # a template that adds nothing: the harness asks without one


def adapters(path, name):
    """LLM-Adapters put question and choices into one instruction."""
    for item in json.loads(path.read_text(encoding="utf-8")):
        text, right = item["instruction"], int(re.search(r"\d+$", item["answer"]).group()) - 1 if name != "boolq" else item["answer"] == "true"
        if name == "boolq":
            yield {"passage": "", "question": re.search(r"question: (.*?)\??\n", text).group(1), "label": int(right)}
            continue
        word = {"piqa": "Solution", "winogrande": "Option"}.get(name, "Answer")
        body = text.split("question: " if name != "winogrande" else "sentence: ", 1)[1]
        parts = re.split(rf"\s*{word}\d+: ?", body.rsplit("Answer format:", 1)[0].rstrip())
        question, choices = parts[0].rstrip("\n"), [c.strip() for c in parts[1:]]
        if name == "piqa":
            yield {"goal": question, "sol1": choices[0], "sol2": choices[1], "label": right}
        elif name == "winogrande":
            yield {"sentence": question, "option1": choices[0], "option2": choices[1], "answer": str(right + 1)}
        else:
            key = "question_stem" if name == "openbookqa" else "question"
            yield {key: question, "choices": {"text": choices, "label": list(LABELS[:len(choices)])}, "answerKey": LABELS[right]}


def pair(task, item, rng):
    """The harness's prompt with a right and a wrong continuation, one of the wrong ones drawn."""
    if task == "boolq":
        return f"\nQuestion: {item['question']}?\nAnswer:", *((" yes", " no") if item["label"] else (" no", " yes"))
    right = LABELS.index(item["answerKey"])
    choices = item["choices"]["text"]
    wrong = rng.choice([c for i, c in enumerate(choices) if i != right])
    asked = item["question_stem"] if task == "openbookqa" else f"Question: {item['question']}\nAnswer:"
    return asked, f" {choices[right]}", f" {wrong}"


def pairs(task, items):
    rng = random.Random(task)
    for item in items:
        asked, right, wrong = pair(task, item, rng)
        if right != wrong:
            yield {"prompt": asked, "chosen": right, "rejected": wrong}


def hellaswag(path):
    lines = path.read_text(encoding="utf-8").split("\n")
    for i in range(0, len(lines) - 5, 6):
        yield {"query": lines[i], "endings": lines[i + 2:i + 6], "label": lines[i + 1].strip()}


def mmlu(folder):
    for path in sorted(folder.glob("*.csv")):
        with open(path, newline="", encoding="utf-8") as f:
            for *_, q, a, b, c, d, right in csv.reader(f):
                if right not in "ABCD" and right not in "0123":  # a heading
                    continue
                yield {"question": q, "choices": [a, b, c, d], "answer": int(right) if right.isdigit() else LABELS.index(right)}


def write(out, name, items):
    n = 0
    with open(out / f"{name}.jsonl", "w", encoding="utf-8") as f:
        for item in items:
            f.write(json.dumps(item, ensure_ascii=False) + "\n")
            n += 1
    print(f"{name}: {n} items")


def main():
    args = sys.argv[1:]
    learn = args[:1] == ["--pairs"]
    args, most = args[learn:], None
    if args[:1] == ["--most"] and learn and len(args) > 1:
        most, args = int(args[1]), args[2:]
    if len(args) < 2:
        sys.exit(__doc__)
    out = pathlib.Path(args[0])
    out.mkdir(parents=True, exist_ok=True)
    if learn:
        (out / "plain.jinja").write_text(PLAIN, encoding="utf-8")
    for source in map(pathlib.Path, args[1:]):
        for path in [source] if source.is_file() else sorted(source.rglob("*")):
            if learn:
                if path.name == "train.json" and path.parent.name in ("ARC-Easy", "ARC-Challenge", "boolq", "openbookqa"):
                    task = NAMES[path.parent.name]
                    write(out, f"{task}-pairs", itertools.islice(pairs(task, adapters(path, path.parent.name)), most))
            elif path.name == "test.json" and path.parent.name in NAMES:
                write(out, NAMES[path.parent.name], adapters(path, path.parent.name))
            elif path.name == "hellaswag_val_full.txt":
                write(out, "hellaswag", hellaswag(path))
            elif path.is_dir() and path.name == "test" and any(path.glob("*.csv")):
                write(out, "mmlu", mmlu(path))
            elif path.name == "input_data.jsonl":
                write(out, "ifeval", map(json.loads, open(path, encoding="utf-8")))
            elif "gsm8k" in path.name and path.suffix == ".jsonl":
                write(out, "gsm8k", map(json.loads, open(path, encoding="utf-8")))


if __name__ == "__main__":
    main()
