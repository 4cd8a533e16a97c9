#!/usr/bin/env python3
"""distill_test.py MOTE: a pruned student taught again by the model it came from, quantization-aware training, slots, kill -9 and going on,
a file of likeliest tokens, and what is refused."""
import json
import os
import pathlib
import shutil
import sys

from teaching import Bench, report, run_tests, same, text, timed

ROWS = ["-c", "64", "-b", "4", "--precision", "f32", "-t", "1", "-f", "data.txt"]


def teacher(b):
    text("data.txt", 5)
    b.run("train", "-f", "data.txt", "-o", "teacher.gguf", "--depth", "3", "--width", "64", "--vocab", "320", "-c", "64", "-b", "8", "--precision", "f32",
          "--schedule", "cosine", "-t", "1", "--lr", "0.01", "--steps", "60", "-q")
    b.run("prune", "--drop-layers", "1", "-f", "data.txt", "teacher.gguf", "student.gguf")


def taught(b):
    gained = {}
    for loss in ("kl", "ce", "kl=1,hidden=0.3@0-0.5"):
        r, seconds = timed(b.json, "distill", "--teacher", "teacher.gguf", "-m", "student.gguf", *ROWS, "--steps", "40", "--lr", "3e-3", "--loss", loss,
                           "--held-out", "0.1", "--dir", "", "-o", "out.gguf")
        gained[loss] = (r.get("divergence_before", 0), r.get("divergence", 9), seconds)
    before, after, seconds = gained["kl"]
    b.check(after < 0.5 * before, f"KL from the teacher heals a lost layer: divergence {before:.4f} to {after:.4f}")
    b.check(gained["kl=1,hidden=0.3@0-0.5"][1] < 0.6 * before, f"so does it with states in the first half: {gained['kl=1,hidden=0.3@0-0.5'][1]:.4f}")
    b.check(after < gained["ce"][1], f"and better than the text alone, {gained['ce'][1]:.4f}")
    report("distill", "2 of 3 layers healed in 40 steps, KL", f"divergence {after:.4f}", f"{0.5 * before:.4f} (half of {before:.4f})", after < 0.5 * before,
           f"text alone: {gained['ce'][1]:.4f}", "mote distill --loss kl")
    p = b.run("run", "-m", "out.gguf", "-p", "In the morning, the fox", "-n", "8", "--temp", "0", "--raw")
    b.check(p.returncode == 0 and p.stdout.strip() != "", f"the student runs: {p.stdout.strip()[:60]!r}")
    return seconds


def rounded(b):
    b.run("quantize", "--pure", "-q", "teacher.gguf", "rtn.gguf", "Q2_0")
    args = ["distill", "-m", "teacher.gguf", "--qat", "Q2_0", "--pure", *ROWS, "--steps", "40", "--lr", "1e-3", "--held-out", "0.1"]
    r = b.json(*args, "--dir", "", "-o", "qat.gguf")
    b.check(r["divergence"] < 0.6 * r["divergence_before"], f"QAT Q2_0: divergence {r['divergence_before']:.4f} to {r['divergence']:.4f}")
    same_size = abs(os.path.getsize("qat.gguf") / os.path.getsize("rtn.gguf") - 1) < 0.01
    b.check(same_size, "and the file is as large as the one rounded to nearest")
    slots = 0
    while slots < 9:
        s = b.json(*args, "--state", "q.state", "--slot-steps", "10", "-o", "slots.gguf")
        slots += 1
        if s.get("steps", 0) >= s.get("steps_in_all", 0):
            break
    lost = (s["divergence"] - r["divergence"]) / (r["divergence_before"] - r["divergence"])
    b.check(slots == 4 and lost < 0.15 and not [n for n in os.listdir("slots.gguf.run") if n.endswith(".mtc")],
            f"in {slots} slots without checkpoints: {s['divergence']:.4f}, {100 * lost:.1f} % of the gain lost; the state has {s['state_bytes']} bytes")
    p = b.run("perplexity", "-m", "slots.gguf", "-f", "data.txt", "-c", "64", "--chunks", "4")
    b.check("PPL" in p.stdout, "and the file runs")
    report("distill", "QAT Q2_0, 40 steps", f"divergence {r['divergence']:.4f}", f"0.6 of {r['divergence_before']:.4f}", b.failed == 0,
           f"{r['divergence_before'] / r['divergence']:.1f}x nearer than rounded", "mote distill --qat")


def whole_chats(b):
    """The teacher's opinion of what the user says counts as well, or it does not."""
    pathlib.Path("chats.jsonl").write_text("".join('{"prompt": "The %s fox saw it.", "completion": "The old dog saw it, too."}\n' % w for w in ("quick", "old", "red", "small")), encoding="utf-8")
    args = ["distill", "--teacher", "teacher.gguf", "-m", "student.gguf", "-f", "chats.jsonl", "-c", "64", "-b", "4", "--steps", "1", "--lr", "1e-12", "--held-out", "0.5", "-t", "1", "--dir", "",
            "-o", "whole-chats.gguf"]
    ce = [b.json(*args, *more).get("ce", 0) for more in ([], ["--whole-chats"])]
    b.check(ce[0] > 0 and ce[1] > 0 and abs(ce[0] - ce[1]) > 1e-3, f"chats: cross-entropy of the answers {ce[0]:.3f}, of all that is said {ce[1]:.3f}")


def in_parts(b):
    """Frequent tokens in finer numbers than rare ones, in one run; the parts and the matrix made of them say the same."""
    args = ["distill", "-m", "teacher.gguf", "--qat", "Q4_0", "--pure", *ROWS, "--steps", "10", "--held-out", "0.1", "--dir", ""]
    r = b.json(*args, "--token-embedding-type", "64=Q8_0,128=Q4_0,Q2_0", "-o", "parts.gguf")
    b.check(r["divergence"] < r["divergence_before"], f"an embedding in three formats: {r['divergence_before']:.4f} to {r['divergence']:.4f}")
    b.run("export", "parts.gguf", "one.gguf")
    ppl = [json.loads(b.run("perplexity", "-m", m, "-f", "data.txt", "-c", "64", "--chunks", "4", "--activations", "f32", "--json").stdout)["ppl"]
           for m in ("parts.gguf", "one.gguf")]
    b.check(abs(ppl[0] / ppl[1] - 1) < 1e-5, f"perplexity of the parts {ppl[0]:.5f}, of one matrix {ppl[1]:.5f}")
    b.run("quantize", "--pure", "-q", "teacher.gguf", "plain.gguf", "Q2_0", "--token-embedding-type", "64=Q8_0,128=Q4_0,Q2_0")
    shown = b.run("show", "plain.gguf", "--tensors").stdout
    b.check(all(f"token_embd{k}.weight" in shown for k in ("", "_2", "_3")), "mote quantize writes such parts as well")
    p = b.run("perplexity", "-m", "plain.gguf", "-f", "data.txt", "-c", "64", "--chunks", "4")
    b.check("PPL" in p.stdout, "and they run")
    b.json(*args, "--dir", "parts.gguf.run", "--token-embedding-type", "64=Q8_0,128=Q4_0,Q2_0", "-o", "parts.gguf")
    still = ["--dir", "", "--steps", "1", "--lr", "1e-12", "--after", "parts.gguf", "-o", "on.gguf"]
    for finer in ("64=Q8_0,32=Q5_0,96=Q4_0,Q2_0", "64=Q8_0,128=Q5_0,Q2_0"):
        s = b.json(*args, *still, "--token-embedding-type", finer, "--tensor-type", "ffn_down=Q5_0")
        b.check(abs(s["divergence_before"] - r["divergence"]) < 1e-4, f"another run begins there, with more bits: {s['divergence_before']:.4f}, {r['divergence']:.4f}")
    b.refused(2, "no part of 900", *args, "--token-embedding-type", "900=Q8_0,Q4_0", "-o", "x.gguf")
    b.refused(2, "neither ROWS=TYPE", *args, "--token-embedding-type", "64=Q8_0,what", "-o", "x.gguf")


def sparse(b):
    """Half of the weights stay away while the others learn: Q4_0_24 would lose what came back."""
    b.run("sparsify", "--sparsity", "2:4", "--calibration", "data.txt", "--calibration-ctx", "64", "--calibration-seqs", "8", "-q", "teacher.gguf", "sparse.gguf", "F32")
    lost = {}
    for keep in ([], ["--keep-zeros"]):
        r = b.json("distill", "--teacher", "teacher.gguf", "-m", "sparse.gguf", *ROWS, "--steps", "30", "--lr", "3e-3", *keep, "--held-out", "0.1", "--dir", "",
                   "-o", "healed.gguf")
        b.run("sparsify", "--method", "magnitude", "--sparsity", "2:4", "-q", "--calibration", "data.txt", "--calibration-ctx", "64", "--calibration-seqs", "2",
              "healed.gguf", "again.gguf", "F32")
        ppl = [json.loads(b.run("perplexity", "-m", m, "-f", "data.txt", "-c", "64", "--chunks", "4", "--json").stdout)["ppl"] for m in ("healed.gguf", "again.gguf")]
        lost[len(keep)] = ppl[1] / ppl[0]
        b.check(r["divergence"] < 0.8 * r["divergence_before"], f"2:4 healed{' with its zeros' if keep else ''}: {r['divergence_before']:.4f} to {r['divergence']:.4f}")
    b.check(abs(lost[1] - 1) < 1e-6, f"pruned to 2:4 again it is the same model ({lost[1]:.6f}; without --keep-zeros {lost[0]:.3f} times the perplexity)")
    b.check(lost[0] > 1.001, "which without --keep-zeros it is not")


def experts(b):
    """Experts made of the teacher's neurons, which learn while their routers stay; those of random neurons are further from it."""
    far = {}
    for how in ("together", "random"):
        split = json.loads(b.run("prune", "--no-smoke", "--split-experts", "6", "--experts-used", "2", "--shared-experts", "1", "--split-by", how, "-f", "data.txt",
                                 "teacher.gguf", "split.gguf", "--json").stdout)["steps"][0]
        b.check(split["experts"] == 6 and split["held"] <= split["held_best"] + 1e-6, f"six experts of neurons, {how}: {100 * split['held']:.1f} % of the energy is held")
        r = b.json("distill", "--teacher", "teacher.gguf", "-m", "split.gguf", *ROWS, "--steps", "30", "--lr", "1e-3", "--freeze", "ffn_gate_inp",
                   "--held-out", "0.1", "--dir", "", "-o", "out.gguf")
        far[how] = (r["divergence_before"], r["divergence"])
    before, after = far["together"]
    good = after < 0.8 * before and before < far["random"][0]
    b.check(good, f"a third of the experts at work, healed: divergence {before:.4f} to {after:.4f} (of random neurons: {far['random'][0]:.4f})")
    report("distill", "2 of 6 experts of neurons healed in 30 steps", f"divergence {after:.4f}", f"{0.8 * before:.4f}", good,
           f"random neurons: {far['random'][0]:.4f} before", "mote prune --split-experts, mote distill --freeze")
    b.refused(2, "no tensor", "distill", "--teacher", "teacher.gguf", "-m", "split.gguf", *ROWS, "--steps", "2", "--freeze", "no_such", "--dir", "", "-o", "x.gguf")


def killed(b, seconds):
    args = ["distill", "--teacher", "teacher.gguf", "-m", "student.gguf", *ROWS, "--steps", "40", "--lr", "3e-3", "--save-every", "3", "--held-out", "0.1"]
    b.run(*args, "-q", "-o", "whole.gguf")
    b.killed_until_done([*args, "-o", "killed.gguf"], seconds)
    b.check(same("whole.gguf", "killed.gguf"), "and the file is that of the run that was never killed")
    b.refused(1, "temperature", *args, "--temperature", "2", "-o", "killed.gguf")
    state = ["distill", "-m", "teacher.gguf", "--qat", "Q4_0", "--pure", *ROWS, "--steps", "30", "--save-every", "2", "--state", "k.state", "-o", "k.gguf"]
    b.killed_until_done(state, seconds)
    shutil.copy("rtn.gguf", "k.gguf")
    b.refused(1, "another packed file", *state)


def cached(b):
    b.run("distill", "--teacher", "teacher.gguf", *ROWS, "--steps", "20", "--write-cache", "t.kd", "-q")
    r = b.json("distill", "--cache", "t.kd", "-m", "student.gguf", "-c", "64", "-b", "4", "--steps", "20", "--lr", "3e-3", "-t", "1", "--dir", "", "-o", "c.gguf")
    b.check(r.get("steps") == 20 and os.path.exists("c.gguf"), "likeliest tokens in a file serve without teacher and text")


def other_vocabulary(b):
    """The teacher has 290 pieces of its own, the student 400: the same text in other pieces."""
    for out, vocab, steps, seed in (("t290.gguf", "290", "120", "3"), ("s400.gguf", "400", "15", "4")):
        b.run("train", "-f", "data.txt", "-o", out, "--depth", "2", "--width", "64", "--vocab", vocab, "-c", "64", "-b", "8", "--precision", "f32", "-t", "1",
              "--lr", "0.01", "--steps", steps, "--seed", seed, "--dir", "", "-q")
    ce = {}
    for loss in ("uld", "kl", "kl=1,span=1", "gold"):
        r = b.json("distill", "--teacher", "t290.gguf", "-m", "s400.gguf", "--align", *ROWS, "--loss", loss, "--steps", "40", "--lr", "3e-3",
                   "--held-out", "0.1", "--dir", "", "-o", "al.gguf")
        ce[loss] = r.get("ce", 99)
    said = f"cross-entropy on held-out text: sorted {ce['uld']:.4f}, borders {ce['kl']:.4f}, borders and spans {ce['kl=1,span=1']:.4f}, whole distributions {ce['gold']:.4f}"
    good = ce["kl=1,span=1"] < min(ce["uld"], ce["kl"])
    b.check(good, said)
    report("distill", "another vocabulary: spans between borders", f"{ce['kl=1,span=1']:.4f}", f"{min(ce['uld'], ce['kl']):.4f}", good,
           f"sorted {ce['uld']:.4f}, borders {ce['kl']:.4f}", "mote distill --align --loss kl=1,span=1")
    good = ce["gold"] < min(ce["uld"], ce["kl"])
    b.check(good, "tokens of both vocabularies one by one, the others sorted, and spans: better than either alone")
    report("distill", "another vocabulary: whole distributions", f"{ce['gold']:.4f}", f"{min(ce['uld'], ce['kl']):.4f}", good,
           f"sorted {ce['uld']:.4f}, borders {ce['kl']:.4f}", "mote distill --align --loss gold")


def refused(b):
    base = ["distill", "--teacher", "teacher.gguf", "-m", "student.gguf", "-o", "x.gguf"]
    b.refused(2, "data are missing", *base)
    b.refused(2, "student is missing", "distill", "--teacher", "teacher.gguf", "-f", "data.txt", "-o", "x.gguf")
    b.refused(2, "teacher is missing", "distill", "-m", "student.gguf", "-f", "data.txt", "-o", "x.gguf")
    b.refused(2, "expected ce", *base, "-f", "data.txt", "--loss", "klx")
    b.refused(2, "slots need", *base, "-f", "data.txt", "--slot-steps", "3")
    open("empty.txt", "w").close()
    b.refused(1, "empty.txt", *base, "-f", "empty.txt")
    b.run("train", "-f", "data.txt", "-o", "other.gguf", "--depth", "1", "--width", "64", "--vocab", "290", "-c", "64", "-b", "4", "--steps", "2", "-t", "1", "-q")
    b.refused(1, "--align", "distill", "--teacher", "other.gguf", "-m", "student.gguf", *ROWS, "--steps", "2", "-o", "x.gguf")
    b.check(not os.path.exists("x.gguf"), "none of them left a file")


def tests(b):
    teacher(b)
    seconds = taught(b)
    rounded(b)
    in_parts(b)
    whole_chats(b)
    sparse(b)
    experts(b)
    killed(b, seconds)
    cached(b)
    other_vocabulary(b)
    refused(b)


if __name__ == "__main__":
    sys.exit(run_tests(tests))
