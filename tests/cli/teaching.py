"""teaching.py: what tests of teaching share: a small model trained on a small grammar, and killing a command."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

WHO = ["the fox", "a bear", "the old king", "my sister", "a small boat", "the moon", "every child", "the baker"]
DOES = ["saw", "found", "carried", "painted", "forgot", "loved"]
WHAT = ["a red apple", "the river", "seven stones", "an empty house", "her own shadow", "a song"]
WHEN = ["in the morning", "at night", "long ago", "on the hill", "before the rain"]


class Bench:
    def __init__(self, mote):
        self.mote = os.path.abspath(mote)
        self.failed = 0

    def check(self, ok, what):
        print("ok  " if ok else "FAIL", what)
        self.failed += not ok

    def run(self, *args, code=0):
        p = subprocess.run([self.mote, *args], capture_output=True, text=True)
        if code is not None and p.returncode != code:
            self.check(False, f"mote {' '.join(args)}: exit {p.returncode}, not {code}: {(p.stdout + p.stderr)[-500:]}")
        return p

    def json(self, *args, code=0):
        p = self.run(*args, "--json", "-q", code=code)
        return json.loads(p.stdout) if p.stdout.strip() else {}

    def refused(self, code, word, *args):
        p = self.run(*args, code=None)
        self.check(p.returncode == code and word in p.stderr, f"refused with {code}, naming '{word}': {p.stderr.strip()[-160:]}")

    def killed_until_done(self, args, seconds):
        """Runs it, killing it a little later each time, and checks that it was killed and then came to its end."""
        killed, done = kill_again_and_again([self.mote, *args, "-q"], 0.1, max(0.04, seconds / 8))
        self.check(done and killed > 0, f"killed {killed} times, then done")


def kill_again_and_again(command, first, later):
    """Runs it, killing it after `first` seconds and each time `later` ones more. How often it was killed, and whether it came to its end."""
    killed = 0
    for i in range(40):
        p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            p.wait(timeout=first + later * i)
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGKILL)
            p.wait()
            killed += 1
        p.stderr.close()
        if p.returncode == 0:
            break
    return killed, p.returncode == 0


def run_tests(tests):
    """tests(Bench) in a new folder that goes afterwards. The exit code."""
    b, top = Bench(sys.argv[1]), tempfile.mkdtemp(prefix="mote-teaching-")
    try:
        os.chdir(top)
        tests(b)
    finally:
        os.chdir("/")
        shutil.rmtree(top)
    return 1 if b.failed else 0


def text(path, seed, n=3000, ends=24):
    """n sentences, twelve a paragraph; after every `ends` of them (a multiple of twelve) a text is at its end."""
    r = random.Random(seed)
    with open(path, "w") as f:
        for i in range(n):
            f.write(f"{r.choice(WHEN).capitalize()}, {r.choice(WHO)} {r.choice(DOES)} {r.choice(WHAT)}. ")
            if i % 12 == 11:
                f.write("\n<|endoftext|>\n" if i % ends == ends - 1 else "\n\n")


def timed(f, *args):
    began = time.monotonic()
    return f(*args), time.monotonic() - began


def same(a, b):
    with open(a, "rb") as x, open(b, "rb") as y:
        return x.read() == y.read()


def report(kind, item, measured, bar, ok, speed, path):
    if os.environ.get("MOTE_REPORT"):
        print("\t".join(["report", kind, item, measured, bar, "ok" if ok else "FAIL", speed, path]))
