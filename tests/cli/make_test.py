#!/usr/bin/env python3
"""make_test.py MOTE: recipes: nothing twice, budgets, the gate, kill -9 within and between stages."""
import hashlib
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time

MOTE = os.path.abspath(sys.argv[1])


def run(*args, code=0, says=None):
    done = subprocess.run([MOTE, *args], capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{args}: exit {done.returncode}, expected {code}\n{done.stdout}{done.stderr}"
    assert says is None or says in done.stderr, f"{args}: '{says}' is not in: {done.stderr}"
    return done.stdout


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def recipe(text, name="r.yaml"):
    pathlib.Path(name).write_text("model: base.gguf\nout: small.gguf\n" + text, encoding="utf-8")
    return name


def kept(report):
    return [s["kept"] for s in report["stages"]]


def make_base():
    lines = [f"The {a} fox number {n} saw the {b} dog and ran over the hill to the {a} river.\n" for n in range(60) for a, b in (("quick", "lazy"), ("old", "small"), ("red", "brown"))]
    pathlib.Path("text.txt").write_text("".join(lines), encoding="utf-8")
    run("train", "--depth", "1", "--width", "64", "--vocab", "320", "-f", "text.txt", "-o", "base.gguf", "--steps", "3", "--batch", "2", "--ctx-size", "64", "--output-type", "f32", "--dir", "base.run")


EVAL = "eval: {text: text.txt, chunks: 4, ctx: 64}\n"


def nothing_is_done_twice():
    before = digest("base.gguf")
    r = recipe(EVAL + "gate: {perplexity-ratio: 2}\nstages:\n  - imatrix: {chunks: 2, ctx-size: 64, file: text.txt}\n  - quantize: {type: Q8_0}\n")
    first = json.loads(run("make", r, "--json"))
    assert first["passed"] and kept(first) == [False, False] and pathlib.Path("small.gguf").stat().st_size == first["bytes"], first
    assert 0.5 < first["perplexity"] / first["perplexity_from"] < 1.5 and first["same_top"] > 0.8, first
    for name in ("report.md", "report.json", "bits.svg", "quality.svg"):
        assert (pathlib.Path(first["report"]).parent / name).stat().st_size > 100, name
    result = digest("small.gguf")
    shown = run("show", "small.gguf")
    assert "made by recipe   r.yaml" in shown and "made from        base.gguf" in shown and "--imatrix" in shown and "those that were made then" in shown, shown
    noted = json.loads(json.loads(run("show", "small.gguf", "--json"))["metadata"]["mote.make"])
    assert noted["source"]["sha256"] == before and noted["stages"][0]["files"]["text.txt"] == digest("text.txt"), noted
    assert abs(noted["figures"]["perplexity"] - first["perplexity"]) < 1e-6 and os.getcwd() not in json.dumps(noted), noted
    run("quantize", "small.gguf", "changed.gguf", "Q4_0", "--allow-requantize", "--no-smoke", "-q")
    assert "CHANGED since then" in run("show", "changed.gguf")
    assert kept(json.loads(run("make", r, "--json"))) == [True, True]
    # an option of the second stage changes the second stage alone; the content of a file everything that reads it
    changed = recipe(EVAL + "stages:\n  - imatrix: {chunks: 2, ctx-size: 64, file: text.txt}\n  - quantize: {type: Q4_0}\n", "changed.yaml")
    assert kept(json.loads(run("make", changed, "--json"))) == [True, False]
    os.utime("text.txt")
    assert kept(json.loads(run("make", r, "--json"))) == [True, True]
    with open("text.txt", "a", encoding="utf-8") as f:
        f.write("One more line for the text.\n")
    assert kept(json.loads(run("make", r, "--json"))) == [False, True] or kept(json.loads(run("make", r, "--json"))) == [True, True]
    assert digest("base.gguf") == before, "the source was touched"
    assert digest("small.gguf") == result or pathlib.Path("small.gguf").stat().st_size == first["bytes"]


def budgets_and_gates():
    before = digest("small.gguf")
    size = pathlib.Path("base.gguf").stat().st_size
    run("make", recipe(EVAL + "target: 2kB\nstages: [{quantize: {type: auto}}]\n"), code=1, says="cannot be met")
    run("make", recipe(EVAL + f"target: {size // 2}\nstages: [{{quantize: {{type: F16, pure: true}}}}]\n"), code=1, says="the target is")
    run("make", recipe(EVAL + "gate: {perplexity-ratio: 0.01}\nstages: [{quantize: {type: Q4_0}}]\n"), code=3, says="nothing was replaced")
    run("make", recipe(EVAL + "time: 0.001s\ndata: text.txt\nstages: [{train: {batch: 1, ctx-size: 64}}]\n"), code=1, says="is not enough")
    run("make", recipe("gate: {perplexity-ratio: 2}\nstages: [{quantize: {type: Q4_0}}]\n"), "--no-eval", code=2, says="gate")
    assert digest("small.gguf") == before, "a failed run replaced the model"
    half = size * 45 // 100
    report = json.loads(run("make", recipe(EVAL + f"target: {half}\nstages: [{{quantize: {{type: auto}}}}]\n"), "--json"))
    assert report["bytes"] <= half, report
    known = list(pathlib.Path("small.gguf.make").glob("sensitivity-*.json"))
    assert len(known) == 1, known
    measured = digest(known[0])
    report = json.loads(run("make", recipe(EVAL + f"target: {half - size // 20}\nstages: [{{quantize: {{type: auto}}}}]\n"), "--json"))
    assert report["bytes"] <= half - size // 20 and digest(known[0]) == measured, "a second budget measured again"


def the_time_is_kept():
    """Steps are planned from the time; the run keeps it over all sittings, and goes on after a kill with the plan it had."""
    r = recipe(EVAL + "smoke: false\ntime: 4s\ndata: text.txt\nstages:\n  - train: {batch: 1, ctx-size: 64, save-every: 5}\n  - quantize: {type: Q8_0}\n", "time.yaml")
    child = subprocess.Popen([MOTE, "make", r, "-o", "timed.gguf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline, steps = time.time() + 60, 0
    while time.time() < deadline and child.poll() is None and steps < 12:
        steps = sum(log.read_bytes().count(b"\n") for log in pathlib.Path("timed.gguf.make").glob("train-*/out.gguf.run/log.jsonl"))
        time.sleep(0.002)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    plan = {k: v for k, v in json.loads(pathlib.Path("timed.gguf.make/plan.json").read_text()).items() if k.startswith("steps ")}
    assert len(plan) == 1 and min(plan.values()) >= 1, plan
    report = json.loads(run("make", r, "-o", "timed.gguf", "--json"))
    assert kept(report) == [False, False] and report["stages"][0]["seconds"] < 20, report
    assert {k: v for k, v in json.loads(pathlib.Path("timed.gguf.make/plan.json").read_text()).items() if k.startswith("steps ")} == plan
    assert kept(json.loads(run("make", r, "-o", "timed.gguf", "--json"))) == [True, True]


def what_comes_out_is_tried():
    report = json.loads(run("make", recipe(EVAL + "stages: [{quantize: {type: Q8_0}}]\n"), "--json"))
    assert report["smoke"] and not report["smoke_broken"], report
    report = json.loads(run("make", recipe(EVAL + "smoke: false\nstages: [{quantize: {type: Q8_0}}]\n"), "--json"))
    assert report["smoke"] == "" and not report["smoke_broken"], report
    report = json.loads(run("quantize", "base.gguf", "q.gguf", "Q8_0", "--json"))
    assert report["smoke"]["ran"] and not report["smoke"]["broken"] and report["smoke"]["answers"] == 3, report["smoke"]
    assert "smoke" not in json.loads(run("quantize", "base.gguf", "q.gguf", "Q8_0", "--json", "--no-smoke"))
    assert "smoke test: " in run("prune", "--ff", "64", "-f", "text.txt", "base.gguf", "p.gguf")


def faults_are_named():
    for text, says in [("stages: []\n", "'stages' is a list"), ("stages: [{quantize: 4}]\n", "stage 1"), ("stages: [quantize]\n", "needs a type"), ("color: red\nstages: [imatrix]\n", "unknown key 'color'"),
                       ("target: heavy\nstages: [imatrix]\n", "'target'"), ("time: soon\nstages: [imatrix]\n", "'time'"), ("gate: {kld: 0}\nstages: [imatrix]\n", "no positive bound"),
                       ("eval: {text: none.txt}\nstages: [imatrix]\n", "none.txt"), ("stages: [{quantize: {type: auto}}]\n", "needs a target"), ("smoke: 3\nstages: [imatrix]\n", "'smoke'")]:
        done = subprocess.run([MOTE, "make", recipe(text)], capture_output=True, text=True, check=False)
        assert done.returncode in (1, 2, 4) and says in done.stderr, f"{text}: {done.returncode} {done.stderr}"
    pathlib.Path("own.yaml").write_text("model: base.gguf\nout: base.gguf\nstages: [{quantize: {type: Q4_0}}]\n", encoding="utf-8")
    run("make", "own.yaml", code=2, says="source model itself")
    run("make", recipe(EVAL + "stages: [{quantize: {type: Q4_0, color: red}}]\n"), code=2, says="log.txt")


def a_tune_is_merged_before_it_is_judged():
    facts = [json.dumps({"prompt": f"fox {n}", "completion": "the river"}) for n in range(8)]
    pathlib.Path("facts.jsonl").write_text("\n".join(facts) + "\n", encoding="utf-8")
    tune = "stages:\n  - finetune: {data: facts.jsonl, steps: 2, batch: 2, ctx-size: 64}\n"
    merge = "  - merge: {method: gptq, calibration: text.txt, calibration-seqs: 2, calibration-ctx: 64}\n"
    report = json.loads(run("make", recipe(EVAL + "smoke: false\n" + tune + merge + "  - quantize: {type: Q8_0}\n"), "-o", "tuned.gguf", "--json"))
    assert [s["perplexity"] > 0 for s in report["stages"]] == [False, True, True], report["stages"]  # an adapter is no model
    assert kept(json.loads(run("make", recipe(EVAL + "smoke: false\n" + tune + merge), "-o", "tuned.gguf", "--json"))) == [True, True]
    run("make", recipe(EVAL + tune), code=1, says="gives an adapter")
    run("make", recipe(EVAL + tune + "  - quantize: {type: Q8_0}\n" + merge), code=1, says="stage 1: finetune gives an adapter")
    full = json.loads(run("make", recipe(EVAL + "smoke: false\n" + tune.replace("steps", "method: full, steps")), "-o", "full.gguf", "--json"))
    assert full["stages"][0]["perplexity"] > 0, full["stages"]


TRAIN = EVAL + "smoke: false\ndata: text.txt\nstages:\n  - train: {steps: 300, batch: 1, ctx-size: 64, save-every: 5, lr: 1e-3}\n  - quantize: {type: Q8_0}\n"


def killed_and_going_on():
    r = recipe(TRAIN)
    run("make", r, "-o", "whole.gguf", "-w", "whole.make")
    child = subprocess.Popen([MOTE, "make", r, "-o", "cut.gguf", "-w", "cut.make"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline, steps = time.time() + 60, 0
    while time.time() < deadline and child.poll() is None and steps < 12:
        steps = sum(log.read_bytes().count(b"\n") for log in pathlib.Path("cut.make").glob("train-*/out.gguf.run/log.jsonl"))
        time.sleep(0.002)
    assert child.poll() is None, "the run was over before it could be killed"
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not pathlib.Path("cut.gguf").exists()
    report = json.loads(run("make", r, "-o", "cut.gguf", "-w", "cut.make", "--json"))
    assert kept(report)[1] is False
    assert digest("cut.gguf") == digest("whole.gguf"), "a run that was killed ends elsewhere"
    # between stages: the second stage's result is lost, the first is kept
    for path in pathlib.Path("cut.make").glob("quantize-*/done.json"):
        path.unlink()
    assert kept(json.loads(run("make", r, "-o", "cut.gguf", "-w", "cut.make", "--json"))) == [True, False]


def a_packed_file_stays_packed():
    run("train", "--depth", "1", "--width", "384", "--vocab", "320", "-f", "text.txt", "-o", "wide.gguf", "--steps", "1", "--batch", "1", "--ctx-size", "64", "--dir", "")
    pathlib.Path("pack.yaml").write_text("model: wide.gguf\nout: packed.gguf\nsmoke: false\n" + EVAL + "stages:\n  - quantize: {type: Q3_96, pure: true}\n  - pack\n", encoding="utf-8")
    report = json.loads(run("make", "pack.yaml", "--json"))
    plain = report["stages"][0]["bytes"]
    assert pathlib.Path("packed.gguf").stat().st_size == report["bytes"] < plain, report
    assert abs(report["stages"][1]["perplexity"] - report["stages"][0]["perplexity"]) < 1e-6, report
    shown = run("show", "packed.gguf")
    assert "those that were made then" in shown and "stage  1          quantize" in shown and "       2          pack" in shown, shown


def a_stage_makes_data():
    pathlib.Path("begin.txt").write_text("The quick fox\nThe old dog\n", encoding="utf-8")
    text = "stages:\n  - generate: {as: said, args: [begin.txt], raw: true, predict: 12, seed: 3}\n  - train: {data: ['{said}:1', 'text.txt:2'], steps: 2, batch: 1, ctx-size: 64}\n"
    pathlib.Path("said.yaml").write_text("model: base.gguf\nout: said.gguf\nsmoke: false\n" + text, encoding="utf-8")
    assert kept(json.loads(run("make", "said.yaml", "--no-eval", "--json"))) == [False, False]
    assert kept(json.loads(run("make", "said.yaml", "--no-eval", "--json"))) == [True, True]
    made = list(pathlib.Path("said.gguf.make").glob("generate-*/out.jsonl"))
    assert len(made) == 1 and made[0].read_text(encoding="utf-8").count("The") >= 2, made
    twice = text.replace("stages:\n", "stages:\n  - generate: {as: said, args: [begin.txt], raw: true, predict: 2}\n")
    pathlib.Path("said.yaml").write_text("model: base.gguf\nout: said.gguf\nsmoke: false\n" + twice, encoding="utf-8")
    run("make", "said.yaml", "--no-eval", code=1, says="given twice")


def a_stage_is_called_by_name():
    text = "smoke: false\nstages:\n  - prune: {as: small, vocab: 290, file: text.txt}\n  - distill: {teacher: '{small}', data: text.txt, steps: 2, batch: 1, ctx-size: 64}\n"
    report = json.loads(run("make", recipe(text, "named.yaml"), "-o", "named.gguf", "--no-eval", "--json"))
    assert [s["command"] for s in report["stages"]] == ["prune", "distill"], report
    assert [t["shape"][-1] for t in json.loads(run("show", "named.gguf", "--json", "--tensors"))["tensors"] if t["name"] == "token_embd.weight"] == [290]
    run("make", recipe(text.replace("{small}", "{smell}"), "named.yaml"), "-o", "named.gguf", "--no-eval", code=4, says="{smell}")


def stages_are_included():
    whole = "smoke: false\nstages:\n  - imatrix: {file: text.txt, chunks: 2, ctx-size: 64}\n  - quantize: {type: Q4_0}\n"
    pathlib.Path("part.yaml").write_text("- imatrix: {file: text.txt, chunks: 2, ctx-size: 64}\n", encoding="utf-8")
    run("make", recipe(whole, "whole.yaml"), "-o", "whole.gguf", "--no-eval")
    report = json.loads(run("make", recipe(whole.replace(whole.splitlines()[2], "  - include: part.yaml"), "parts.yaml"), "-o", "parts.gguf", "-w", "whole.gguf.make", "--no-eval", "--json"))
    assert [s["command"] for s in report["stages"]] == ["imatrix", "quantize"] and kept(report) == [True, True], report
    more = whole + "  - quantize: {type: Q8_0, allow-requantize: true}\n  - pack\n"
    run("make", recipe(more, "three.yaml"), "-o", "three.gguf", "-w", "whole.gguf.make", "--no-eval")
    told = run("make", "three.yaml", "-o", "three.gguf", "-w", "whole.gguf.make", "--dry-run")
    assert told.count("kept") == 4 and " run" not in told, told
    told = run("make", recipe(more.replace("Q8_0", "Q5_0"), "other.yaml"), "-o", "three.gguf", "-w", "whole.gguf.make", "--dry-run")
    assert told.count("kept") == 2 and told.count(" run") == 2, told
    made = json.loads(json.loads(run("show", "parts.gguf", "--json"))["metadata"]["mote.make"])
    assert made["recipe"]["included"] == {"part.yaml": digest("part.yaml")}, made
    assert f"with             part.yaml (SHA-256 {digest('part.yaml')})" in run("show", "parts.gguf")
    for text, code, says in [("- include: none.yaml\n", 4, "none.yaml"), ("- include: [part.yaml]\n", 1, "'include' takes a file"), ("- include: r.yaml\n", 1, "is a list of stages"),
                             ("- include: nested.yaml\n", 1, "stage 1")]:
        pathlib.Path("nested.yaml").write_text("- include: part.yaml\n", encoding="utf-8")
        run("make", recipe("stages:\n  " + text), code=code, says=says)


def a_run_follows_another():
    text = ("smoke: false\ndata: text.txt\nstages:\n  - distill: {as: first, teacher: base.gguf, steps: 3, batch: 1, ctx-size: 64, output-type: f32}\n"
            "  - distill: {model: base.gguf, after: '{first}', teacher: base.gguf, steps: 1, batch: 1, ctx-size: 64, output-type: f32}\n")
    assert kept(json.loads(run("make", recipe(text, "after.yaml"), "-o", "after.gguf", "--no-eval", "--json"))) == [False, False]
    assert kept(json.loads(run("make", recipe(text, "after.yaml"), "-o", "after.gguf", "--no-eval", "--json"))) == [True, True]


def what_a_recipe_recommends_is_the_default():
    stages = "smoke: false\nstages: [{quantize: {type: F32}}]\n"
    run("make", recipe("sampling: {temp: 0, top-k: 7, repeat-penalty: 1.5}\n" + stages, "advice.yaml"), "-o", "advised.gguf", "--no-eval")
    meta = json.loads(run("show", "advised.gguf", "--json"))["metadata"]
    assert {k[17:]: v for k, v in meta.items() if k.startswith("general.sampling.")} == {"temp": 0, "top_k": 7, "penalty_repeat": 1.5}, meta
    says = [run("run", "-m", "advised.gguf", "--raw", "-p", "The quick", "-n", "20", *more) for more in ([], [], ["--temp", "0", "--repeat-penalty", "1.5"], ["--repeat-penalty", "1"])]
    assert says[0] == says[1] == says[2] != says[3], says
    for wrong, code in (("sampling: {temper: 1}", 1), ("sampling: {temp: -1}", 1), ("sampling: {top-k: 0.5}", 1), ("sampling: 3", 1)):
        run("make", recipe(wrong + "\n" + stages, "wrong.yaml"), "-o", "wrong.gguf", "--no-eval", code=code, says="sampling")
    damaged = bytearray(pathlib.Path("advised.gguf").read_bytes())
    at = damaged.index(b"general.sampling.penalty_repeat") + len("general.sampling.penalty_repeat") + 4
    damaged[at:at + 4] = struct.pack("<f", -3)
    pathlib.Path("damaged.gguf").write_bytes(damaged)
    run("run", "-m", "damaged.gguf", "--raw", "-p", "The", "-n", "2", code=1, says="general.sampling.penalty_repeat")


def wait_for_step(work):
    deadline = time.time() + 60
    while time.time() < deadline and not list(pathlib.Path(work).glob("train-*/out.gguf.run/step-*5.mtc")):
        time.sleep(0.005)


def a_run_is_brought_to_its_end():
    """With schedule wsd, steps may change until the rate falls: the stage goes on in its folder, and is the run of that length."""
    def recipe_of(steps):
        return recipe("smoke: false\ndata: text.txt\nstages:\n  - train: {steps: %d, decay: 4, warmup: 2, schedule: wsd, batch: 1, ctx-size: 64, save-every: 5, lr: 1e-3}\n" % steps, "open.yaml")

    run("make", recipe_of(40), "-o", "straight.gguf", "--no-eval")
    child = subprocess.Popen([MOTE, "make", recipe_of(100000), "-o", "ended.gguf", "--no-eval"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for_step("ended.gguf.make")
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    saved = sorted(pathlib.Path("ended.gguf.make").glob("train-*/out.gguf.run/step-*.mtc"))
    at = int(saved[0].name[5:-4])
    for path in saved[1:]:
        path.unlink()
    if at + 4 <= 40:
        run("make", recipe_of(40), "-o", "ended.gguf", "--no-eval")
        assert len(list(pathlib.Path("ended.gguf.make").glob("train-*"))) == 1
        assert digest("ended.gguf") == digest("straight.gguf")
    run("make", recipe_of(41), "-o", "ended.gguf", "--no-eval")  # behind its end another run begins
    assert len(list(pathlib.Path("straight.gguf.make").glob("train-*"))) == 1


def a_stop_waits_for_the_checkpoint():
    r = recipe("smoke: false\ndata: text.txt\nstages:\n  - train: {steps: 100000, batch: 1, ctx-size: 64, save-every: 5}\n", "stop.yaml")
    for sig, group in ((signal.SIGINT, True), (signal.SIGTERM, False)):
        work = f"stop{sig}.make"
        child = subprocess.Popen([MOTE, "make", r, "-w", work, "--no-eval"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        wait_for_step(work)
        (os.killpg if group else os.kill)(child.pid, sig)
        said = child.communicate(timeout=60)[1]
        assert child.returncode == 1 and "was stopped: stopped at step" in said, (child.returncode, said)
        try:
            os.killpg(child.pid, signal.SIGKILL)
            raise AssertionError("the stage goes on without its recipe")
        except ProcessLookupError:
            pass


def data_have_weights():
    """FILE:WEIGHT, looked for beside the recipe; the weight and the file's content count."""
    os.makedirs("sub", exist_ok=True)
    pathlib.Path("sub/more.txt").write_text("Quite another text, of hills and rivers and dogs.\n" * 50, encoding="utf-8")

    def made(weight):
        text = f"data: [text.txt:3, more.txt:{weight}]\nstages: [{{train: {{steps: 2, batch: 1, ctx-size: 64, layer-dropout: 0}}}}]\n"
        pathlib.Path("sub/weights.yaml").write_text("model: base.gguf\nout: weighted.gguf\nsmoke: false\n" + text, encoding="utf-8")
        return kept(json.loads(run("make", "sub/weights.yaml", "-w", "weights.make", "--no-eval", "--json")))

    assert made(1) == [False] and made(1) == [True]
    assert made(2) == [False] and made(1) == [True]
    with open("sub/more.txt", "a", encoding="utf-8") as f:
        f.write("One more line.\n")
    assert made(1) == [False]
    pathlib.Path("sub/more.txt").unlink()
    run("make", "sub/weights.yaml", "-w", "weights.make", "--no-eval", code=4, says="more.txt")


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["HOME"] = folder
        make_base()
        for test in (nothing_is_done_twice, budgets_and_gates, the_time_is_kept, what_comes_out_is_tried, faults_are_named, a_tune_is_merged_before_it_is_judged, a_packed_file_stays_packed, a_stage_makes_data, a_stage_is_called_by_name, stages_are_included, a_run_follows_another, what_a_recipe_recommends_is_the_default, a_run_is_brought_to_its_end, a_stop_waits_for_the_checkpoint, data_have_weights, killed_and_going_on):
            test()
            print(f"ok {test.__name__}", flush=True)


if __name__ == "__main__":
    main()
