#!/usr/bin/env python3
"""Speed of mote beside llama.cpp and ik_llama.cpp, as rows of bench/results.csv, then docs/PERFORMANCE.md anew.

usage: bench/measure.py [--rounds 7] [--only bench,batch,start] [--models NAME…] [--depths 0,4096] [--prefix CMD] …

In every round mote and the peers run in turn, each test right after the other, so that a noisy neighbour hits all alike;
the order turns around from round to round. A row holds medians, and as ratio the median over the rounds of mote / best
peer *in that round*. What the machine allows is measured by mote in the same runs (`mote bench --limits`).

The peers are those of $MOTE_SHARED/peers (default ../shared beside the project); without them mote is measured alone.
Models are files of $MOTE_MODELS (default ~/.cache/mote/models). Needs nothing but Python's standard library. Close
everything else: on a busy machine only the ratios mean something.
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
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CSV = ROOT / "bench" / "results.csv"
MACHINE = ROOT / "bench" / "machine.json"
FIELDS = ["date", "commit", "cpu", "flags", "threads", "model", "depth", "test", "mote", "llama.cpp", "ik", "ratio", "limit", "share",
          "token_bytes", "token_ops", "rounds", "torch"]
MODELS = ["smollm2-135m-instruct.q4_1", "gemma3-270m.q4_k_m", "qwen2.5-coder-0.5b-instruct.q4_k_m"]
LIMIT_S = 900


def arguments():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--mote", help="the program (default build/release/mote, else build/dev/mote)")
    ap.add_argument("--rounds", type=int, default=7)
    ap.add_argument("--only", default="bench,batch,start", help="which tests: bench, batch, start (default all)")
    ap.add_argument("--models", nargs="*", default=MODELS, help="names without .gguf, or paths")
    ap.add_argument("--depths", default="0,4096", help="tokens already in the context")
    ap.add_argument("-p", type=int, default=512, help="tokens to prefill")
    ap.add_argument("-n", type=int, default=128, help="tokens to decode")
    ap.add_argument("-t", type=int, default=min(os.cpu_count() or 1, 2), help="threads")
    ap.add_argument("--npp", type=int, default=128, help="tokens of each one's prompt when several are decoded together")
    ap.add_argument("--npl", default="1,4,8,16,32", help="sequences decoded together (the first model only)")
    ap.add_argument("--prefix", default="", help="put before every command that is timed, for example 'taskset -c 0,1'")
    ap.add_argument("--no-peers", action="store_true", help="measure mote alone")
    ap.add_argument("--dry", action="store_true", help="print the rows, and keep nothing")
    ap.add_argument("--start-once", help=argparse.SUPPRESS)
    return ap.parse_args()


def shared():
    return pathlib.Path(os.environ.get("MOTE_SHARED") or ROOT.parent / "shared")


def default_mote():
    for build in ("release", "dev"):
        if (ROOT / "build" / build / "mote").exists():
            return str(ROOT / "build" / build / "mote")
    sys.exit("measure.py: no program in build/release or build/dev: build one, or name it with --mote")


def model_path(name):
    if os.path.exists(name):
        return name
    folder = os.environ.get("MOTE_MODELS") or os.path.expanduser("~/.cache/mote/models")
    return os.path.join(folder, name + ".gguf")


def model_name(path):
    name = os.path.basename(path)
    return name[:-5] if name.endswith(".gguf") else name


def median(values):
    values = [v for v in values if v]
    return statistics.median(values) if values else None


class Runner:
    """Runs a program after the prefix; a failure is said once and gives None."""

    def __init__(self, args):
        self.args, self.prefix, self.said = args, args.prefix.split(), set()
        self.peers = None if args.no_peers else shared() / "peers" / "run"
        if self.peers and not self.peers.exists():
            print(f"measure.py: {self.peers.parent} is not there: llama.cpp and ik_llama.cpp are skipped", file=sys.stderr)
            self.peers = None

    def text(self, command, both=False):
        try:
            done = subprocess.run(self.prefix + [str(c) for c in command], stdout=subprocess.PIPE, text=True, timeout=LIMIT_S,
                                  stderr=subprocess.STDOUT if both else subprocess.DEVNULL, check=False)
        except (OSError, subprocess.TimeoutExpired) as e:
            return self.complain(command, e)
        return done.stdout if done.returncode == 0 else self.complain(command, f"exit code {done.returncode}")

    def complain(self, command, why):
        line = f"measure.py: {' '.join(map(str, command[:4]))} …: {why}"
        if line not in self.said:
            print(line, file=sys.stderr)
        self.said.add(line)
        return None

    def peer(self, which, program, *options, both=False):
        return self.text([self.peers, which, program, *options], both)

    def names(self):
        return ["mote"] + (["llama.cpp", "ik", "ik -rtr"] if self.peers else [])


def json_rows(text, opening):
    """The JSON that begins at the first `opening`; [] when there is none."""
    if not text or opening not in text:
        return []
    try:
        return json.loads(text[text.index(opening):])
    except ValueError:
        return []


# ---- prefill and decode ----

def bench_figures(rows):
    got = {}
    for x in rows:
        key = "pp" if x.get("n_gen") == 0 else "tg"
        got[key] = x["avg_ts"]
        for extra in ("limit_ts", "share", "token_bytes", "token_ops"):
            got[f"{key} {extra}"] = x.get(extra)
        got["isa"], got["cpu"] = x.get("isa"), x.get("cpu_info")
    return got


def sweep_figures(text, p, depth):
    """llama-sweep-bench knows no depth: it fills the context in steps, and prints a line for each."""
    for line in (text or "").splitlines():
        c = [x.strip() for x in line.strip().strip("|").split("|")]
        if len(c) >= 7 and c[0] == str(p) and c[2] == str(depth):
            return {"pp": float(c[4]), "tg": float(c[6])}
    return {}


def bench_once(run, who, path, depth):
    a = run.args
    both = ["-p", a.p, "-n", a.n]
    base = ["-m", path, "-t", a.t, "-r", 1, "-o", "json"]
    if who == "mote":
        # the limits in a run of their own, afterwards: measuring them first keeps the machine busy for five seconds
        command = [a.mote, "bench"] + base + both + ["-d", depth]
        got, limits = (bench_figures(json_rows(run.text(command + more), "[")) for more in ([], ["--limits"]))
        for key in ("pp", "tg"):
            limit = limits.get(f"{key} limit_ts")
            got.update({f"{key} {x}": limits.get(f"{key} {x}") for x in ("limit_ts", "token_bytes", "token_ops")})
            got[f"{key} share"] = got[key] / limit if limit and got.get(key) else None
        return got
    if who == "llama.cpp":
        tests = [both] if not depth else [["-p", a.p, "-n", 0, "-d", depth], ["-p", 0, "-n", a.n, "-d", depth]]
        got = {}
        for test in tests:
            got.update(bench_figures(json_rows(run.peer("llamacpp", "llama-bench", *base, *test, "-fa", 1), "[")))
        return got
    if depth:
        if who == "ik -rtr":
            return {}
        return sweep_figures(run.peer("ik", "llama-sweep-bench", "-m", path, "-c", depth + 2 * a.p, "-b", a.p, "-ub", a.p, "-t", a.t,
                                      "-fa", 1, both=True), a.p, depth)
    repack = ["-rtr", 1] if who == "ik -rtr" else []
    return bench_figures(json_rows(run.peer("ik", "llama-bench", *base, *both, "-fa", 1, *repack), "["))


def rounds(run, once):
    """[{who: figures}] of all rounds."""
    result = []
    for r in range(run.args.rounds):
        names = run.names() if r % 2 == 0 else run.names()[::-1]
        result.append({who: once(who) for who in names})
    return result


def summarize(results, key, faster=max):
    """Medians, the ratio, and the limits, of one figure over the rounds."""
    def of(who):
        return median([faster(v) if v else None for v in
                       ([g[w].get(key) for w in g if w.startswith(who) and g[w].get(key)] for g in results)])

    ratios = []
    for g in results:
        mine, peers = g["mote"].get(key), [v.get(key) for w, v in g.items() if w != "mote" and v.get(key)]
        if mine and peers:
            ratios.append(mine / faster(peers) if faster is max else faster(peers) / mine)
    row = {"mote": of("mote"), "llama.cpp": of("llama.cpp"), "ik": of("ik"), "ratio": median(ratios), "rounds": len(results)}
    for extra, name in (("limit_ts", "limit"), ("share", "share"), ("token_bytes", "token_bytes"), ("token_ops", "token_ops")):
        row[name] = median([g["mote"].get(f"{key} {extra}") for g in results])
    return row


def bench_rows(run, path):
    for depth in [int(d) for d in run.args.depths.split(",")]:
        results = rounds(run, lambda who, d=depth: bench_once(run, who, path, d))
        for key, test in (("pp", f"pp{run.args.p}"), ("tg", f"tg{run.args.n}")):
            yield {"depth": depth, "test": test, **summarize(results, key)}


# ---- several sequences together ----

def batch_once(run, who, path):
    a = run.args
    options = ["-m", path, "-c", 8192, "-npp", a.npp, "-ntg", a.n, "-npl", a.npl, "-t", a.t]
    if who == "mote":
        text = run.text([a.mote, "bench", *options, "-o", "json", "--limits"])
        got = {}
        for x in json_rows(text, "["):
            key = f"npl{x['pl']}"
            got[key] = x["speed_tg"]
            got[f"{key} share"] = x["share_tg"]
            got[f"{key} limit_ts"] = x["speed_tg"] / x["share_tg"] if x["share_tg"] else None
            for extra in ("token_bytes", "token_ops"):
                got[f"{key} {extra}"] = x.get(extra)
        return got
    if who == "ik -rtr":
        return {}
    got = {}
    text = run.peer("llamacpp" if who == "llama.cpp" else "ik", "llama-batched-bench", *options, "-fa", 1, both=True)
    for line in (text or "").splitlines():
        c = [x.strip() for x in line.strip().strip("|").split("|")]
        if len(c) >= 10 and c[0] == str(a.npp) and c[2].isdigit():
            got[f"npl{c[2]}"] = float(c[7])
    return got


def batch_rows(run, path):
    results = rounds(run, lambda who: batch_once(run, who, path))
    for n in run.args.npl.split(","):
        yield {"depth": run.args.npp, "test": f"npl{n}", **summarize(results, f"npl{n}")}


# ---- starting ----

def start_once(args):
    """Wall time to the end of an answer of one token, peak resident memory of one of 32, in rounds; printed as JSON (runs
    after the prefix)."""
    path, peers = args.start_once, shared() / "peers" / "run"
    commands = {"mote": [args.mote, "run", "-m", path, "-p", "Hello", "--raw", "-t", str(args.t)]}
    if not args.no_peers and peers.exists():
        commands["llama.cpp"] = [str(peers), "llamacpp", "llama-completion", "-m", path, "-p", "Hello", "-no-cnv", "-t",
                                 str(args.t), "--no-warmup"]
    result = []
    for _ in range(args.rounds):
        got = {}
        for who, command in commands.items():
            for test, n in (("start", "1"), ("memory", "32")):
                began = time.monotonic()
                with subprocess.Popen(command + ["-n", n], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL) as p:
                    _, status, usage = os.wait4(p.pid, 0)
                    p.returncode = os.waitstatus_to_exitcode(status)
                if p.returncode == 0:
                    got.setdefault(who, {})[test] = time.monotonic() - began if test == "start" else usage.ru_maxrss * 1024 / 1e6
        result.append(got)
    print(json.dumps(result))


def start_rows(run, path):
    a = run.args
    command = [sys.executable, __file__, "--start-once", path, "--rounds", a.rounds, "--mote", a.mote, "-t", a.t]
    results = json_rows(run.text(command + (["--no-peers"] if not run.peers else [])), "[")
    for r in results:
        r.setdefault("mote", {})
    for test in ("start", "memory") if results else ():
        yield {"depth": 0, "test": test, **summarize(results, test, min)}


# ---- rows ----

def commit():
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no", "src", "include") else "")


def rounded(v):
    if not isinstance(v, float):
        return "" if v is None else v
    return f"{v:.4g}" if abs(v) < 1000 else f"{v:.0f}"


def append(row):
    new = not CSV.exists()
    with open(CSV, "a", newline="", encoding="utf-8") as f:
        out = csv.DictWriter(f, FIELDS, lineterminator="\n")
        if new:
            out.writeheader()
        out.writerow(row)


def main():
    args = arguments()
    args.mote = os.path.abspath(args.mote) if args.mote else default_mote()
    if args.start_once:
        start_once(args)
        return
    run = Runner(args)
    machine = {"cpu": "", "isa": ""} if args.dry else json_rows(run.text([args.mote, "bench", "--machine", "--json", "-t", args.t]), "{")
    if not machine:
        sys.exit("measure.py: mote bench --machine gave nothing")
    common = {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ"), "commit": commit(), "cpu": machine["cpu"],
              "flags": machine["isa"], "threads": args.t}
    kinds = {"bench": bench_rows, "batch": batch_rows, "start": start_rows}
    if not args.dry:
        MACHINE.write_text(json.dumps(machine, indent=1) + "\n", encoding="utf-8")
    for i, name in enumerate(args.models):
        path = model_path(name)
        if not os.path.exists(path):
            print(f"measure.py: {path} is not there: skipped", file=sys.stderr)
            continue
        for kind in args.only.split(","):
            if kind == "batch" and i > 0:
                continue
            for figures in kinds[kind](run, path):
                row = {**common, "model": model_name(path), **figures}
                row = {k: rounded(row.get(k)) for k in FIELDS}
                print("  ".join(f"{k} {row[k]}" for k in FIELDS[5:14] if row[k] != ""), flush=True)
                if not args.dry:
                    append(row)  # at once: what was measured is kept, whatever happens later
    if not args.dry:
        subprocess.run([sys.executable, ROOT / "bench" / "performance.py"], check=True)


if __name__ == "__main__":
    main()
