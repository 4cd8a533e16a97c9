#!/usr/bin/env python3
"""cli_test.py MOTE SCRIPT.t: runs the commands of a script and compares what they print.

    # a comment
    $ mote list --json        a command for sh; `mote` is the program under test
    > an exact line of standard output            ... and all lines must be named, unless
    >~ a regular expression for a whole line
    >...                                          any number of lines, also none
    ! a regular expression that standard error must contain
    ? 2                                           the exit code, 0 when not given
    needs shared                                  skip when there is no $MOTE_SHARED
    needs model smollm2-135m-instruct.q4_1.gguf   a file of the user's model folder: $MODELS/FILE

Commands run in an empty folder, with HOME and the models' folder inside it; $SHARED is $MOTE_SHARED.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

SKIP = 77


class Step:
    def __init__(self, line, command):
        self.line, self.command, self.out, self.err, self.code = line, command, [], [], 0


def parse(path):
    steps, needs = [], []
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark, _, rest = raw.partition(" ")
        if mark == "needs":
            needs.append(rest.split())
        elif mark == "$":
            steps.append(Step(number, rest))
        elif mark in (">", ">~", ">..."):
            steps[-1].out.append((mark, rest))
        elif mark == "!":
            steps[-1].err.append(rest)
        elif mark == "?":
            steps[-1].code = int(rest)
        elif raw and not raw.startswith("#"):
            sys.exit(f"{path}:{number}: not understood: {raw}")
    return steps, needs


def pattern(expected):
    """One regular expression for the whole of standard output."""
    parts = []
    for mark, text in expected:
        if mark == ">...":
            parts.append(r"(?:[^\n]*\n)*")
        else:
            parts.append((text if mark == ">~" else re.escape(text)) + r"\n")
    return re.compile("".join(parts) + r"\Z")


def run(step, cwd, env):
    """The reasons why the step failed."""
    try:
        done = subprocess.run(["sh", "-c", step.command], cwd=cwd, env=env, capture_output=True, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        return ["took more than 600 s"]
    out, err = (b.decode("utf-8", "replace") for b in (done.stdout, done.stderr))
    if out and not out.endswith("\n"):
        out += "\n"
    wrong = []
    if done.returncode != step.code:
        wrong.append(f"exit code {done.returncode}, expected {step.code}")
    if not pattern(step.out).match(out):
        wrong.append("standard output:\n" + out + "expected:\n" + "\n".join(f"{m} {t}" for m, t in step.out))
    wrong += [f"standard error does not contain {e!r}" for e in step.err if not re.search(e, err)]
    if wrong and err:
        wrong.append("standard error:\n" + err)
    return wrong


def shared_folder():
    folder = os.environ.get("MOTE_SHARED") or os.path.join(os.environ.get("MOTE_SOURCE_DIR", "."), "..", "shared")
    return os.path.abspath(folder) if os.path.isdir(folder) else None


def main():
    mote, path = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    steps, needs = parse(path)
    shared = shared_folder()
    models = os.environ.get("MOTE_MODELS") or os.path.expanduser("~/.cache/mote/models")
    if needs and not shared:
        print(f"skipped: needs golden data or models, and there is no MOTE_SHARED ({needs[0]})")
        return SKIP
    for kind, *rest in needs:
        if kind == "model" and not os.path.exists(os.path.join(models, rest[0])):
            print(f"{rest[0]} is missing in {models}: models.sh fetches it")
            return 1
    failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        env = {**os.environ, "HOME": tmp, "MOTE_MODELS": os.path.join(tmp, "models"), "SHARED": shared or "", "MODELS": models,
               "PATH": os.path.dirname(mote) + ":" + os.environ["PATH"], "LC_ALL": "C.UTF-8", "DATA": str(path.parent)}
        env.pop("XDG_CACHE_HOME", None)
        for step in steps:
            for reason in run(step, tmp, env):
                failed += 1
                print(f"{path.name}:{step.line}: $ {step.command}\n{reason}")
    print(f"{path.stem}: {len(steps)} commands, {failed} complaints")
    return 1 if failed or not steps else 0


if __name__ == "__main__":
    sys.exit(main())
