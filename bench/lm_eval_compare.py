#!/usr/bin/env python3
"""mote eval beside lm-evaluation-harness on the same float32 weights and items: every likelihood and verdict, item by item.

usage: bench/lm_eval_compare.py MODEL.gguf DATA [TASK…] [--limit 24] [--num-fewshot N] [--ctx-size N] [--mote PROGRAM]

MODEL: float32 weights as GGUF, which transformers expands by itself. DATA: a folder with TASK.jsonl (tools/eval-data.py). Needs lm-eval, transformers and
torch, for development alone.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

CHOICES = ["hellaswag", "arc_easy", "arc_challenge", "piqa", "boolq", "winogrande", "openbookqa", "mmlu"]
ANSWERS = ["gsm8k", "ifeval"]
WHOLE = ["wikitext"]


def local_tasks(folder, data, names):
    """The harness's own definitions, with items from our files."""
    from lm_eval.tasks import TaskManager  # noqa: PLC0415  heavy
    import lm_eval.tasks  # noqa: PLC0415
    root = pathlib.Path(lm_eval.tasks.__file__).parent
    where = {"hellaswag": "hellaswag/hellaswag.yaml", "arc_easy": "arc/arc_easy.yaml", "arc_challenge": "arc/arc_challenge.yaml", "piqa": "piqa/piqa.yaml",
             "boolq": "super_glue/boolq/default.yaml", "winogrande": "winogrande/default.yaml", "openbookqa": "openbookqa/openbookqa.yaml",
             "mmlu": "mmlu/continuation/_continuation_template_yaml", "gsm8k": "gsm8k/gsm8k.yaml", "ifeval": "ifeval/ifeval.yaml", "wikitext": "wikitext/wikitext.yaml"}
    for name in names:
        extra = "process_docs: null\ndoc_to_choice: endings\ndoc_to_text: query\ndoc_to_target: \"{{label}}\"\n" if name == "hellaswag" and \
            "query" in (data / f"{name}.jsonl").read_text(encoding="utf-8").split("\n", 1)[0] else ""
        (folder / f"local_{name}.yaml").write_text(
            f"include: {root / where[name]}\ntask: local_{name}\ndataset_path: json\ndataset_name: null\ndataset_kwargs:\n  data_files:\n"
            f"    test: {data / (name + '.jsonl')}\ntest_split: test\nvalidation_split: null\ntraining_split: null\nfewshot_split: test\ntag: null\n{extra}")
    return TaskManager(include_path=str(folder), include_defaults=False)


def harness(o, names):
    import lm_eval  # noqa: PLC0415
    with tempfile.TemporaryDirectory() as t:
        tasks = local_tasks(pathlib.Path(t), o.data, names)
        r = lm_eval.simple_evaluate(
            model="hf", model_args=f"pretrained={o.model.parent},gguf_file={o.model.name},dtype=float32,max_length={o.ctx_size}", device="cpu", batch_size=1,
            tasks=[f"local_{n}" for n in names], task_manager=tasks, limit=o.limit, num_fewshot=o.num_fewshot, log_samples=True,
            gen_kwargs=f"max_gen_toks={o.max_tokens}" if o.max_tokens else None, bootstrap_iters=0)
    return r


def ours(o, names):
    with tempfile.TemporaryDirectory() as t:
        samples = pathlib.Path(t) / "samples.jsonl"
        shots = [] if o.num_fewshot is None else ["--num-fewshot", str(o.num_fewshot)]
        more = ["--max-tokens", str(o.max_tokens)] if o.max_tokens else []
        out = subprocess.run([o.mote, "eval", "-m", o.model, "-d", o.data, *names, "--limit", str(o.limit), "--json", "--log-samples", samples, "--activations", "f32",
                              "-ctk", "f32", "-ctv", "f32", "-c", str(o.ctx_size), *shots, *more], check=True, capture_output=True, text=True).stdout
        rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    return json.loads(out), rows


def compare(name, theirs, rows, summary, results):
    """Prints a line; returns whether all is equal."""
    mine = {r["item"]: r for r in rows if r["task"] == name}
    worst, unequal, n = 0.0, [], 0
    for s in theirs:  # generated answers come once for each of the task's filters
        m = mine[s["doc_id"]]
        n += 1
        own = s.get("filter", "none")
        if name in CHOICES:
            worst = max([worst] + [abs(a - float(b[0][0] if isinstance(b[0], (list, tuple)) else b[0])) for a, b in zip(m["loglikelihoods"], s["resps"])])
            same = all(m[k] == s[k] for k in ("acc", "acc_norm") if k in m and k in s)
        elif name in WHOLE:
            worst = max(worst, abs(m["loglikelihood"] - s["bits_per_byte"][0]))
            same = [m["words"], m["bytes"]] == [s["word_perplexity"][1], s["bits_per_byte"][1]]
        else:
            same = m["answer"] == s["resps"][0][0]
            for level in ("prompt_level_strict_acc", "inst_level_strict_acc", "prompt_level_loose_acc", "inst_level_loose_acc"):
                if level in s:
                    verdicts = s[level] if isinstance(s[level], list) else [s[level]]
                    same = same and abs(m[level] - sum(verdicts) / len(verdicts)) < 1e-9
            if "exact_match" in s:
                same = same and m[f"exact_match,{own}"] == s["exact_match"] and m["extracted"][own == "flexible-extract"] == s["filtered_resps"][0]
        if not same:
            unequal.append(s["doc_id"])
    print(f"{name:14} {n} verdicts, {len(unequal)} unequal {unequal or ''}" + (f", likelihoods within {worst:.1e} nats" if name in CHOICES + WHOLE else ""))
    for k, v in summary[name].items():
        key = k if "," in k else f"{k},none"
        if isinstance(v, dict) and key in results[f"local_{name}"]:
            print(f"    {k:30} mote {v['value']:.4f} ± {v['stderr']:.4f}   harness {results[f'local_{name}'][key]:.4f} ± "
                  f"{results[f'local_{name}'].get(key.replace(',', '_stderr,'), float('nan'))}")
    return not unequal


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("data", type=pathlib.Path)
    p.add_argument("tasks", nargs="*")
    p.add_argument("--limit", type=int, default=24)
    p.add_argument("--num-fewshot", type=int)
    p.add_argument("--max-tokens", type=int)
    p.add_argument("--ctx-size", type=int, default=2048)
    p.add_argument("--mote", default="mote")
    o = p.parse_args()
    o.data = o.data.resolve()
    names = o.tasks or [n for n in CHOICES + ANSWERS + WHOLE if (o.data / f"{n}.jsonl").exists()]
    summary, rows = ours(o, names)
    r = harness(o, names)
    return 0 if all([compare(n, r["samples"][f"local_{n}"], rows, summary, r["results"]) for n in names]) else 1


if __name__ == "__main__":
    sys.exit(main())
