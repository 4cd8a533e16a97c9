#!/usr/bin/env python3
"""shrink_test.py MOTE: sparsify, compress and merge from the command line: what they make, what they refuse, and by which name."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

MOTE = os.path.abspath(sys.argv[1])
WINDOW = ["--calibration", "text.txt", "--calibration-seqs", "4", "--calibration-ctx", "64"]


def run(*args, code=0, says=None):
    done = subprocess.run([MOTE, *args], capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{args}: exit {done.returncode}, expected {code}\n{done.stdout}{done.stderr}"
    assert says is None or says in done.stderr, f"{args}: '{says}' is not in: {done.stderr}"
    return done.stdout


def make_base():
    lines = [f"The {a} fox number {n} saw the {b} dog and ran over the hill to the {a} river.\n" for n in range(60) for a, b in (("quick", "lazy"), ("old", "small"))]
    pathlib.Path("text.txt").write_text("".join(lines), encoding="utf-8")
    for name, seed in (("base.gguf", "1"), ("other.gguf", "1")):
        extra = ["-m", "base.gguf"] if name == "other.gguf" else ["--depth", "1", "--width", "64", "--vocab", "320"]
        run("train", *extra, "-f", "text.txt", "-o", name, "--steps", "3", "--batch", "2", "--ctx-size", "64", "--output-type", "f32", "--seed", seed)


def sparsify():
    for method in ("sparsegpt", "wanda", "magnitude"):
        r = json.loads(run("sparsify", "--method", method, "--sparsity", "0.5", *WINDOW, "base.gguf", "half.gguf", "--json"))
        assert abs(r["sparsity"] - 0.5) < 0.02, (method, r["sparsity"])
        assert r["smoke"]["ran"], r["smoke"]  # what it says of half of a model of three steps means nothing
    r = json.loads(run("sparsify", "--sparsity", "2:4", "--round", "gptq", *WINDOW, "base.gguf", "two.gguf", "Q8_0", "--no-smoke", "--json"))
    assert abs(r["sparsity"] - 0.5) < 0.02 and "smoke" not in r, r
    out = run("sparsify", "--sparsity", "0.3", "base.gguf", "built-in.gguf", "--calibration-seqs", "2", "--calibration-ctx", "64", "-q")
    assert "of their weights are 0" in out and "smoke test: " in out, out
    run("sparsify", "--sparsity", "much", *WINDOW, "base.gguf", "never.gguf", code=2, says="--sparsity takes")
    run("sparsify", "--sparsity", "4:2", *WINDOW, "base.gguf", "never.gguf", code=2, says="--sparsity takes")
    run("sparsify", "--sparsity", "0.5", "--method", "obs", "base.gguf", "never.gguf", code=2, says="--method")
    run("sparsify", "--sparsity", "0.5", "--calibration", "none.txt", "base.gguf", "never.gguf", code=4, says="none.txt")
    assert not pathlib.Path("never.gguf").exists()


def recipe(text):
    pathlib.Path("r.yaml").write_text("quant_stage:\n  quant_modifiers:\n" + text, encoding="utf-8")
    return ["--recipe", "r.yaml", *WINDOW]


def compress():
    r = json.loads(run("compress", *recipe("    GPTQModifier:\n      scheme: W8A16\n      targets: [Linear]\n      ignore: [lm_head]\n"), "base.gguf", "w8.gguf", "--json"))
    assert r["matrices"] > 0 and r["smoke"]["ran"], r
    assert any(t["to"] == "q8_0" for t in r["tensors"]), r["tensors"]
    run("compress", *recipe("    GPTQModifier: {scheme: W4A16, targets: [Linear]}\n"), "base.gguf", "own.gguf", "Q5_0", "-q")
    for text, says in (("QuIPModifier: {}", "QuIPModifier"), ("GPTQModifier: {scheme: FP8}", "FP8"), ("GPTQModifier: {scheme: W4A16, actorder: group}", "actorder"),
                       ("GPTQModifier: {scheme: W4A16, targets: [LlamaDecoderLayer]}", "LlamaDecoderLayer")):
        done = subprocess.run([MOTE, "compress", *recipe(f"    {text}\n"), "base.gguf", "never.gguf"], capture_output=True, text=True, check=False)
        assert done.returncode in (1, 2) and says in done.stderr, f"{text}: {done.returncode} {done.stderr}"
    run("compress", "base.gguf", "never.gguf", code=2, says="a recipe")
    run("compress", "--recipe", "none.yaml", "base.gguf", "never.gguf", code=4, says="none.yaml")
    assert not pathlib.Path("never.gguf").exists()


def merge():
    facts = [json.dumps({"prompt": f"fox {n}", "completion": "the river"}) for n in range(8)]
    pathlib.Path("facts.jsonl").write_text("\n".join(facts) + "\n", encoding="utf-8")
    run("finetune", "-m", "base.gguf", "-d", "facts.jsonl", "-o", "facts.gguf", "--steps", "3", "--batch", "2", "--ctx-size", "64", "--lr", "1e-2")
    r = json.loads(run("merge", "-m", "base.gguf", "--lora", "facts.gguf", "-o", "merged.gguf", "--json"))
    assert r["changed"] > 0 and r["survived"] > 0.999 and r["smoke"]["ran"], r
    eight = json.loads(run("merge", "-m", "base.gguf", "--lora", "facts.gguf", "--type", "q8_0", "-o", "merged.gguf", "--json", "--no-smoke"))
    four = json.loads(run("merge", "-m", "base.gguf", "--lora", "facts.gguf", "--type", "q4_0", "-o", "merged.gguf", "--json", "--no-smoke"))
    assert eight["error"] < four["error"], (eight, four)
    run("quantize", "base.gguf", "coarse.gguf", "Q4_0", "--pure", "--no-smoke")
    merged = ["merge", "-m", "coarse.gguf", "--lora", "facts.gguf", "-o", "merged.gguf", "--json", "--no-smoke"]
    left = {m: json.loads(run(*merged, "--method", m, *WINDOW)) for m in ("nearest", "gptq", "autoround", "block-qat")}
    assert all(r["changed"] == left["gptq"]["changed"] > 0 and r["formats"] == "q4_0" for r in left.values()), left
    assert left["gptq"]["error"] < left["nearest"]["error"] / 1.2, left
    assert json.loads(run(*merged, "--method", "awq+gptq", *WINDOW))["survived"] is None  # base and result cannot be compared weight by weight
    assert json.loads(run(*merged, "--method", "gptq", "--type", "q5_0", *WINDOW))["formats"] == "q5_0"
    r = json.loads(run(*merged, "--method", "gptq", "--calibration", "facts.jsonl", *WINDOW))  # as fine-tuning reads them, beside a text
    assert r["survived"] > left["nearest"]["survived"], (r, left)
    pathlib.Path("all.jsonl").write_text("{\n", encoding="utf-8")
    run(*merged[:-2], "--method", "gptq", "--calibration", "all.jsonl", code=1, says="all.jsonl")
    run("merge", "-m", "coarse.gguf", "--lora", "facts.gguf", "-o", "never.gguf", "--method", "slerp", code=2, says="--method is one of")
    run("merge", "-m", "coarse.gguf", "--lora", "facts.gguf", "-o", "never.gguf", "--method", "gptq", "--imatrix", "x", code=2, says="leave the matrix out")
    run("merge", "-m", "coarse.gguf", "--with", "base.gguf", "-o", "never.gguf", "--method", "gptq", code=2, says="linear, slerp, ties or dare")
    for method in ("linear", "slerp"):
        run("merge", "-m", "base.gguf", "--with", "other.gguf", "--method", method, "--weight", "0.3", "-o", "both.gguf")
    run("merge", "-m", "base.gguf", "-o", "never.gguf", code=2, says="what is merged")
    run("merge", "-m", "base.gguf", "--lora", "facts.gguf", code=2, says="where to")
    run("merge", "-m", "base.gguf", "--lora", "none.gguf", "-o", "never.gguf", code=4, says="none.gguf")
    assert not pathlib.Path("never.gguf").exists()


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["HOME"] = folder
        make_base()
        for test in (sparsify, compress, merge):
            test()
            print(f"ok {test.__name__}", flush=True)


if __name__ == "__main__":
    main()
