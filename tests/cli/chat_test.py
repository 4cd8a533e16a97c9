#!/usr/bin/env python3
"""chat_test.py MOTE: the interactive chat in a pseudo-terminal, and a model file that is truncated under it."""
import os
import pty
import re
import select
import shutil
import signal
import sys
import tempfile
import time

MODEL = "smollm2-135m-instruct.q4_1.gguf"
DEADLINE_S = 240


class Terminal:
    """A program in a pseudo-terminal; what it printed is kept in `out`."""

    last = None

    def __init__(self, argv, env):
        self.out, self.mark = "", 0
        Terminal.last = self
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, env)

    def read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 4096)
        except OSError:
            return False
        self.out += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode("utf-8", "replace"))
        return bool(data)

    def expect(self, pattern):
        """Waits until what came since the last expect matches; returns the match or None."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            found = re.search(pattern, self.out[self.mark:])
            if found:
                self.mark += found.end()
                return found
            if not self.read(0.2):
                return None
        return None

    def say(self, text):
        os.write(self.fd, text.encode() + b"\r")

    def press(self, keys):
        os.write(self.fd, keys)

    def exit_code(self):
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            self.read(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        return None


def talk(mote, model, env, check):
    t = Terminal([mote, "run", "-m", model, "-n", "12", "--temp", "0", "-c", "2048"], env)
    check("a greeting and a prompt", t.expect(r"/help shows commands") and t.expect(r"> "))
    t.say("/hepl")
    check("a mistyped command", t.expect(r"did you mean /help\?") and t.expect("> "))
    t.say("/set temp 0.5")
    t.expect("> ")
    t.say("/params")
    check("parameters", t.expect(r"temp +0\.5") and t.expect(r"top-k +40") and t.expect("> "))
    t.say("/set temp hot")
    check("a bad parameter", t.expect("takes a number") and t.expect("> "))
    t.say("/set temp 0")
    t.expect("> ")
    t.say("/system You are terse.")
    check("a system message", t.expect("system message is set") and t.expect("> "))
    t.say("Hello\\")
    check("a line that goes on", t.expect(r"\.\.\. "))
    t.say("there")
    check("an answer", t.expect(r"\w{2,}") and t.expect("> $"))
    t.say("/stats")
    check("statistics", t.expect(r"tokens/s") and t.expect("> $"))
    t.say("/history")
    check("both lines are one message", t.expect(r"user: Hello\r?\nthere") and t.expect(r"assistant: ") and t.expect("> $"))
    t.say("/regen")
    check("again", t.expect("> $"))
    t.say("/save talk.json")
    check("saved", t.expect("3 messages are saved") and t.expect("> "))
    t.say("/clear")
    t.expect("> ")
    t.say("/load talk.json")
    check("loaded", t.expect("3 messages are loaded") and t.expect("> "))
    t.say('"""one')
    t.expect(r"\.\.\. ")
    t.say('two"""')
    check("several lines between quotes", t.expect("> $"))
    t.say("/set predict 100000")
    t.expect("> ")
    t.say("/set ignore-eos on")
    t.expect("> ")
    t.say("Count to one million.")
    t.expect(r"\w{2,}")
    time.sleep(1)
    t.press(b"\x03")
    check("Ctrl-C stops the answer only", t.expect("> $"))
    t.press(b"\x03")
    check("at the prompt it says how to leave", t.expect("Ctrl-D leaves") and t.expect("> "))
    t.press(b"\x04")
    check("Ctrl-D leaves", t.exit_code() == 0)


def remembers(mote, model, env, check):
    t = Terminal([mote, "run", "-m", model], env)
    t.expect("> ")
    t.press(b"\x1b[A")
    check("history of the last time", t.expect("Count to one million"))
    t.press(b"\x15")
    t.say("/bye")
    check("/bye leaves", t.exit_code() == 0)
    mode = os.stat(os.path.join(env["HOME"], ".local/state/mote/history")).st_mode & 0o777
    check("history is private", mode == 0o600)


def truncated(mote, model, env, check):
    """Weights that are used from the map (the embedding rows) are gone: a message, not a crash."""
    copy = os.path.join(env["HOME"], "copy.gguf")
    shutil.copyfile(model, copy)
    t = Terminal([mote, "run", "-m", copy, "-n", "4"], env)
    t.expect("> ")
    os.truncate(copy, 4096)
    t.say("Hello, how are you today, my dear friend?")
    said = t.expect("truncated while in use")
    check("a truncated model ends with a message", said and t.exit_code() == 4)


def main():
    mote = os.path.abspath(sys.argv[1])
    shared = os.environ.get("MOTE_SHARED") or os.path.join(os.environ.get("MOTE_SOURCE_DIR", "."), "..", "shared")
    model = os.path.join(os.environ.get("MOTE_MODELS") or os.path.expanduser("~/.cache/mote/models"), MODEL)
    if not os.path.isdir(shared):
        print("skipped: needs a model, and there is no MOTE_SHARED")
        return 77
    failed = []

    def check(what, ok):
        if not ok:
            failed.append(what)
            print(f"FAILED: {what}; the last that was printed:\n{Terminal.last.out[-400:]!r}")

    with tempfile.TemporaryDirectory() as tmp:
        os.chdir(tmp)
        env = {**os.environ, "HOME": tmp, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        env.pop("XDG_STATE_HOME", None)
        for part in (talk, remembers, truncated):
            part(mote, model, env, check)
    print(f"chat: {len(failed)} complaints")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
