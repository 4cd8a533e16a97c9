#!/usr/bin/env python3
"""speculation.py MOTE MODEL [-d DRAFT] [--heads FILE] [-n N] [-t T] [-r ROUNDS] [--task NAME]: decoding with and without guessing.

Each task is run with --spec off, ngram and, with a draft model, draft and auto, with Medusa heads, medusa, one after the other in every round,
so that a slow minute of the machine is the same for all. Printed: the median of tokens per second, its ratio to
off, how many guesses came true, and whether the text is the same, which it has to be."""
import argparse, json, statistics, subprocess, sys

CODE = """int add(int a, int b) {
    int result = a + b;
    if (result > 100) {
        printf("The result %d is larger than one hundred\\n", result);
        return 100;
    }
    for (int i = 0; i < result; i++) {
        printf("%d of %d\\n", i, result);
    }
    return result;
}

int main(void) {
    int x = add(10, 20);
    int y = add(x, 30);
    printf("x is %d and y is %d\\n", x, y);
    return 0;
}
"""
NEWS = """The harbour of Elsinby was closed for three days after a freighter had run aground at its mouth. The harbour
master, Ingrid Solberg, said on Tuesday that the ship, the Maria Celeste of Bergen, had lost power in the storm. Two
tugs from Halden pulled the Maria Celeste of Bergen free on Thursday morning, at high tide. Nobody was hurt. The
fishing boats of Elsinby, forty-one of them, went out again the same evening.
"""
ROWS = "".join(f'  {{"id": {i}, "city": "{c}", "country": "{k}", "visited": false}},\n' for i, (c, k) in enumerate(
    [("Oslo", "Norway"), ("Lima", "Peru"), ("Accra", "Ghana"), ("Hanoi", "Vietnam"), ("Turin", "Italy"), ("Quito", "Ecuador")]))

# Name, prompt, sampling. Texts that go on: the same kind for every model.
TASKS = [
    ("edit code", f"The file before:\n{CODE}\nThe file after add was renamed to sum, everything else as before:\nint sum(int a, int b) {{\n", ["--temp", "0"]),
    ("copy", f"{NEWS}\nThe same text once more, word by word:\n\nThe harbour of", ["--temp", "0"]),
    ("edit JSON", f"[\n{ROWS}]\n\nThe same list with visited set to true:\n\n[\n", ["--temp", "0"]),
    ("edit code, warm", f"The file before:\n{CODE}\nThe file after add was renamed to sum, everything else as before:\nint sum(int a, int b) {{\n", ["--temp", "0.8"]),
    ("prose", "Once upon a time, in a village by the sea,", ["--temp", "0"]),
    ("prose, warm", "Once upon a time, in a village by the sea,", ["--temp", "0.8"]),
    ("nonsense", "Once upon a time, in a village by the sea,", ["--temp", "2", "--top-k", "0", "--min-p", "0.002"]),
    ("summary, warm", f"{NEWS}\nIn short:", ["--temp", "0.8"]),
]
TASKS = [(name, prompt, ["--raw", "--ignore-eos"] + sampling) for name, prompt, sampling in TASKS]
for temperature in ("0", "0.8"):  # as an assistant is asked
    TASKS += [(f"chat {i + 1}, temp {temperature}", prompt, ["--temp", temperature]) for i, prompt in enumerate(
        ["Why is the sky blue?", "Write a short story about a cat.", "How do I learn to cook?"])]


def run(o, prompt, extra):
    out = subprocess.run([o.mote, "run", "-m", o.model, "-p", prompt, "--json", "-n", str(o.n),
                          "-t", str(o.t), "-s", "7"] + extra, capture_output=True)
    if out.returncode:
        sys.exit(out.stderr.decode())
    return json.loads(out.stdout)


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("mote")
    a.add_argument("model")
    a.add_argument("-d", "--draft")
    a.add_argument("--heads", help="a heads file with Medusa heads")
    a.add_argument("-n", type=int, default=160, help="tokens of an answer")
    a.add_argument("-t", type=int, default=2, help="threads")
    a.add_argument("-r", type=int, default=3, help="rounds")
    a.add_argument("--task", action="append", help="only tasks with this in their name")
    o = a.parse_args()
    ways = {"off": ["--spec", "off"], "ngram": ["--spec", "ngram"]}
    if o.draft:
        ways["draft"] = ["--spec", "draft", "-md", o.draft]
        ways["auto"] = ["--spec", "auto", "-md", o.draft]
    if o.heads:
        ways["medusa"] = ["--spec", "medusa", "--heads", o.heads]
    bad = 0
    print(f"{'task':16} {'spec':6} {'tok/s':>7} {'ratio':>6} {'true/guessed':>13} text")
    for name, prompt, sampling in TASKS:
        if o.task and not any(t in name for t in o.task):
            continue
        seen = {w: [] for w in ways}
        for r in range(o.r):
            for w in list(ways)[:: 1 if r % 2 else -1]: # whoever is second is not always the same
                seen[w].append(run(o, prompt, sampling + ways[w]))
        speed = {w: statistics.median(r["answer_tokens"] / r["answer_ms"] * 1000 for r in rs) for w, rs in seen.items()}
        for w, rs in seen.items():
            same = all(r["text"] == seen["off"][0]["text"] for r in rs)
            bad += not same
            r = rs[-1]
            print(f"{name:16} {w:6} {speed[w]:7.1f} {speed[w] / speed['off']:6.2f} "
                  f"{r['accepted_tokens']:6}/{r['drafted_tokens']:<6} {'same' if same else 'DIFFERENT'}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
