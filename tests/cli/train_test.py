#!/usr/bin/env python3
"""train_test.py MOTE: a small model from scratch: its loss, the file it leaves, kill -9 and going on, recipes, two processes.

Data are made here: sentences of a small grammar, so that the loss has a floor that is known to be low."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from teaching import kill_again_and_again, text

MOTE = os.path.abspath(sys.argv[1])
failed = 0
# Sums are grouped differently in two processes.
ROUNDING = 2e-4


def check(ok, what):
    global failed
    print("ok  " if ok else "FAIL", what)
    failed += not ok


SHAPE = ["--depth", "2", "--width", "64", "--vocab", "320", "-c", "64", "-b", "8", "-ub", "4", "--precision", "f32", "--schedule", "cosine",
         "--threads", "1", "--lr", "0.01"]


def train(out, *more, env=None, launcher=(), ok=True):
    p = subprocess.run([*launcher, MOTE, "train", "-f", "data.txt", "-o", out, *SHAPE, *more], capture_output=True, text=True, env=env)
    if ok and p.returncode:
        check(False, f"train {out} {' '.join(more)}: exit {p.returncode}: {p.stderr[-600:]}")
    return p


def losses(run):
    with open(os.path.join(run, "log.jsonl")) as f:
        return {d["step"]: d["loss"] for d in map(json.loads, f)}


def whole_run():
    """Returns its report and how long it took."""
    began = time.monotonic()
    p = train("whole.gguf", "--steps", "120", "--save-every", "40", "--json", "--sample", "8")
    seconds = time.monotonic() - began
    report = json.loads(p.stdout)
    check(report["loss"] < 1.4 and report["eval_loss"] < 1.4, f"the loss falls from {losses('whole.gguf.run')[1]:.2f} to {report['loss']:.3f}, below 1.4 "
          f"(held out {report['eval_loss']:.3f})")
    for name in ("loss.svg", "report.md", "log.jsonl"):
        check(os.path.getsize(os.path.join("whole.gguf.run", name)) > 200, f"{name} is there")
    p = subprocess.run([MOTE, "run", "-m", "whole.gguf", "-p", "In the morning, the fox", "-n", "12", "--temp", "0", "--raw"], capture_output=True, text=True)
    check(p.returncode == 0 and any(w in p.stdout for w in ("saw", "found", "carried", "painted", "forgot", "loved")), f"mote run goes on: {p.stdout.strip()[:80]!r}")
    p = subprocess.run([MOTE, "perplexity", "-m", "whole.gguf", "-f", "data.txt", "-c", "64", "--chunks", "8"], capture_output=True, text=True)
    ours = float(p.stdout.split("PPL =")[1].split()[0])
    peer(ours)
    return report, seconds


def peer(ours):
    shared = os.environ.get("MOTE_SHARED", os.path.join(os.environ.get("MOTE_SOURCE_DIR", "."), "..", "shared"))
    run = os.path.join(shared, "peers", "run")
    if not os.path.exists(run):
        print("skip llama.cpp: no shared folder")
        return
    for _ in range(4):  # it may end without a word when its log is still in another thread's hands
        p = subprocess.run([run, "llamacpp", "llama-perplexity", "-m", "whole.gguf", "-f", "data.txt", "-c", "64", "--chunks", "8", "-t", "1"],
                           capture_output=True, text=True)
        text = p.stdout + p.stderr
        found = re.search(r"PPL = ([0-9.]+)", text) or re.search(r"\[8\]([0-9.]+),", text)
        if found:
            break
    if not found:
        check(False, f"llama.cpp, exit {p.returncode}: {text[-400:]}")
        return
    theirs = float(found.group(1))
    check(abs(theirs / ours - 1) < 2e-3, f"llama.cpp loads it and gives the same perplexity: {theirs} and {ours}")


def killed_again_and_again(seconds):
    """Every run is killed a little later than its beginning; the last one is let go to its end."""
    killed, done = kill_again_and_again([MOTE, "train", "-f", "data.txt", "-o", "killed.gguf", *SHAPE, "--steps", "120", "--save-every", "7", "-q"],
                                        0.15, max(0.05, seconds / 20))
    check(done and killed > 0, f"killed {killed} times, then done")
    check(losses("killed.gguf.run") == losses("whole.gguf.run"), "every loss is that of the run that was never killed, to the last digit")
    with open("killed.gguf", "rb") as a, open("whole.gguf", "rb") as b:
        check(a.read() == b.read(), "and so is the file")


def stopped():
    p = subprocess.Popen([MOTE, "train", "-f", "data.txt", "-o", "stopped.gguf", *SHAPE, "--steps", "100000"], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while time.monotonic() < end and not (os.path.exists("stopped.gguf.run/log.jsonl") and os.path.getsize("stopped.gguf.run/log.jsonl") > 500):
        time.sleep(0.02)
    p.send_signal(signal.SIGINT)
    _, said = p.communicate(timeout=60)
    check(p.returncode == 1 and "stopped at step" in said and not os.path.exists("stopped.gguf"), "Ctrl-C leaves a checkpoint and no output")
    p = train("stopped.gguf", "--steps", "99999", ok=False)
    check(p.returncode == 1 and "steps 100000" in p.stderr and "99999" in p.stderr, f"another recipe is refused by name: {p.stderr.strip()[:160]}")


def recipe_and_more():
    with open("r.yaml", "w") as f:
        f.write("# a small model\nmodel: {depth: 1, width: 64, vocab: 300, arch: qwen3}\ndata:\n- {path: data.txt, weight: 1}\n"
                "train: {steps: 12, ctx: 64, batch: 4, lr: 5e-3, optimizer: muon, ema: 0.9, state_bits: 8, recompute: true}\n"
                "eval: {held_out: 0.05}\nout: {path: r.gguf, type: f16}\n")
    p = subprocess.run([MOTE, "train", "--recipe", "r.yaml", "-q"], capture_output=True, text=True)
    check(p.returncode == 0 and os.path.exists("r.gguf"), f"a recipe: {(p.stdout + p.stderr).strip()[:200]}")
    p = subprocess.run([MOTE, "run", "-m", "r.gguf", "-p", "At night", "-n", "4"], capture_output=True, text=True)
    check(p.returncode == 0, "its model (family qwen3, f16, averaged weights) runs")
    with open("bad.yaml", "w") as f:
        f.write("model: {depth: 1}\ntrain: {step: 3}\n")
    p = subprocess.run([MOTE, "train", "--recipe", "bad.yaml", "-f", "data.txt", "-o", "x.gguf"], capture_output=True, text=True)
    check(p.returncode == 1 and "bad.yaml: train: 'step' is not known here" in p.stderr, "a wrong key is named")
    p = subprocess.run([MOTE, "train", "-m", "whole.gguf", "-f", "data.txt", "-o", "more.gguf", "--steps", "5", "-c", "64", "-b", "4", "--json", "-q"],
                       capture_output=True, text=True)
    check(p.returncode == 0 and json.loads(p.stdout)["loss"] < 1.6, f"going on with a model: {(p.stdout + p.stderr).strip()[:120]}")
    p = train("nan.gguf", "--steps", "60", "--lr", "9", "--clip", "-1", "--warmup", "-1", ok=False)
    check(p.returncode in (0, 1) and (p.returncode == 0 or "step " in p.stderr), "a rate that is far too high ends in figures or in a named step")


def two_processes():
    if not shutil.which("mpirun") or not os.path.exists(os.path.join(os.path.dirname(MOTE), "mote_mpi.so")):
        print("skip two processes: no mpirun, or built without MPI")
        return
    if "ASAN_OPTIONS" in os.environ:
        print("skip two processes: MPI's own leaks are not ours to find")
        return
    launcher = ["mpirun", "-n", "2", "--oversubscribe", "--bind-to", "none"]
    if os.geteuid() == 0:
        launcher.append("--allow-run-as-root")
    train("alone.gguf", "--steps", "16", "--save-every", "4", "--keep", "9")
    train("two.gguf", "--steps", "16", "--save-every", "4", "--keep", "9", launcher=launcher)
    one, two = losses("alone.gguf.run"), losses("two.gguf.run")
    worst = max(abs(one[i] - two[i]) for i in one)
    check(len(two) == 16 and worst < ROUNDING, f"two processes have one's losses: off by {worst:.1e} at most in 16 steps")
    for name, launch in (("alone", launcher), ("two", [])):  # a checkpoint of one world goes on in the other
        run = f"other-{name}.gguf.run"
        shutil.copytree(f"{name}.gguf.run", run)
        for step in (12, 16):
            os.remove(f"{run}/step-{step:012d}.mtc")
        p = train(f"other-{name}.gguf", "--steps", "16", "--save-every", "4", "--keep", "9", launcher=launch)
        other = losses(run)
        worst = max(abs(one[i] - other[i]) for i in one)
        check("going on from step 8" in p.stderr and len(other) == 16 and worst < ROUNDING, f"a checkpoint of {name} goes on in the other world: off by {worst:.1e}")
    p = train("none.gguf", "--steps", "4", "--lr", "0.02", "--dir", "two.gguf.run", launcher=launcher, ok=False)
    check(p.returncode != 0 and "it was made with" in p.stderr, "what one process refuses ends both")


def main():
    top = tempfile.mkdtemp(prefix="mote-train-")
    try:
        os.chdir(top)
        text("data.txt", 5, n=6000, ends=60)
        report, seconds = whole_run()
        killed_again_and_again(seconds)
        stopped()
        recipe_and_more()
        two_processes()
        if os.environ.get("MOTE_REPORT"):
            print("\t".join(["report", "train", "from scratch, 120 steps", f"loss {report['loss']:.3f}", "1.4", "ok" if not failed else "FAIL",
                             f"{report['tokens_per_s']:.0f} tok/s", "mote train"]))
    finally:
        os.chdir("/")
        shutil.rmtree(top)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
