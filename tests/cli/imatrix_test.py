#!/usr/bin/env python3
"""imatrix_test.py MOTE: importance matrices beside llama-imatrix's ($MOTE_SHARED/peers) on the same text and windows, and files both ways."""
import os
import struct
import subprocess
import sys
import tempfile

MODEL = "smollm2-135m-instruct.q4_1.gguf"
SKIP = 77


def read_dat(path):
    """The older format: name -> (calls, values)."""
    data, at, out = open(path, "rb").read(), 4, {}
    for _ in range(struct.unpack_from("<i", data)[0]):
        n = struct.unpack_from("<i", data, at)[0]
        name = data[at + 4:at + 4 + n].decode()
        calls, n_values = struct.unpack_from("<ii", data, at + 4 + n)
        at += 12 + n
        out[name] = (calls, struct.unpack_from(f"<{n_values}f", data, at))
        at += 4 * n_values
    return out


def same_file(a, b):
    return open(a, "rb").read() == open(b, "rb").read()


def main():
    mote, shared = sys.argv[1], os.environ.get("MOTE_SHARED", "")
    model = os.path.join(os.environ.get("MOTE_MODELS", os.path.expanduser("~/.cache/mote/models")), MODEL)
    peer = os.path.join(shared, "peers", "run")
    if not shared or not os.path.exists(peer) or not os.path.exists(model):
        print(f"skipped: needs {MODEL} and $MOTE_SHARED/peers")
        return SKIP
    try:
        subprocess.run([peer, "llamacpp", "llama-imatrix", "--version"], capture_output=True, check=True)
    except subprocess.CalledProcessError:
        print("skipped: the peers do not run on this machine")
        return SKIP
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with open("text", "w") as f:
            for i in range(160):
                f.write(f"Question {i}: what is {i} times {i + 7}? The answer is {i * (i + 7)}, as anyone can check.\n")

        def run(*argv):
            r = subprocess.run(argv, capture_output=True, text=True)
            assert r.returncode == 0, (argv, r.stdout, r.stderr)
            return r.stdout

        def theirs(*argv):
            return run(peer, "llamacpp", "llama-imatrix", "-m", model, "-t", "2", *argv)

        run(mote, "imatrix", "-m", model, "-f", "text", "-c", "128", "--chunks", "2", "-o", "ours.gguf")
        theirs("-f", "text", "-c", "128", "-b", "128", "--chunks", "2", "-o", "theirs.gguf")
        # their program and ours turn either file into the same bytes of the older format
        for name in ("ours", "theirs"):
            run(mote, "imatrix", "--in-file", f"{name}.gguf", "--output-format", "dat", "-o", f"{name}.dat", "-c", "128")
            theirs("--in-file", f"{name}.gguf", "--output-format", "dat", "-o", f"{name}-by-them.dat", "-c", "128", "-b", "128")
            a, b = read_dat(f"{name}.dat"), read_dat(f"{name}-by-them.dat")
            assert a.keys() == b.keys(), name
            for k in a:
                assert a[k][0] == b[k][0] and all(abs(x - y) <= 1e-5 * abs(y) for x, y in zip(a[k][1], b[k][1])), (name, k)
        # the sums agree as far as their 8-bit activations let them
        ours, others = read_dat("ours.dat"), read_dat("theirs.dat")
        assert ours.keys() == others.keys() and len(ours) == 210
        worst = 0
        for k in ours:
            (calls, x), (calls2, y) = ours[k], others[k]
            assert calls == calls2
            e = sum((p - q) ** 2 for p, q in zip(x, y)) / sum(q * q for q in y)
            worst = max(worst, e)
        assert worst < 1e-2, worst
        first = "blk.0.attn_q.weight"  # nothing has been rounded yet
        assert all(abs(p - q) <= 1e-4 * abs(q) for p, q in zip(ours[first][1], others[first][1]))
        print(f"210 entries, worst NMSE {worst:.2e}")
    return 0


sys.exit(main())
