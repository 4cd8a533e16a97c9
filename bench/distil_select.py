#!/usr/bin/env python3
"""What choosing examples saves: held-out divergence from the teacher against tokens read, for each way to choose.

usage: bench/distil_select.py --teacher T.gguf --student S.gguf --text FILE… [--steps N] [--mote PROGRAM] [--out docs/img/distil-select.svg]

The same student is taught by `mote distill` with every --select; tokens are those trained on plus a third of those looked at (a look is a
forward pass, without the way back). Prints a line of JSON per run and draws the curves.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

COLOURS = {"all": "#666", "random": "#999", "loss": "#c33", "diverse": "#36c", "both": "#293", "active": "#93c"}


def run(o, kind, folder):
    command = [o.mote, "distill", "--teacher", o.teacher, "-m", o.student, "-o", folder / "out.gguf", "--dir", folder / "run", "--steps", o.steps,
               "-c", o.ctx, "-b", 4, "--lr", 2e-4, "--eval-every", max(o.steps // 4, 1), "--save-every", 10 ** 6, "--json", "-q"]
    for f in o.text:
        command += ["-f", f]
    if kind != "all":
        command += ["--select", kind, "--select-keep", o.keep, "--select-pool", o.pool, "--select-every", max(o.steps // 2, 1)]
    done = subprocess.run([str(x) for x in command], text=True, capture_output=True, check=True)
    report = json.loads(done.stdout.strip().splitlines()[-1])
    log = [json.loads(x) for x in (folder / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    looked = report["look_tokens"] / 3
    points = [(looked if kind != "active" else 0, report["divergence_before"])]
    for i in log:
        if i.get("eval_loss") is not None:
            points.append((i["tokens"] + looked, i["eval_loss"]))
    print(json.dumps({"select": kind, "looked": report["look_tokens"], "kept": report["selected"], "curve": points}), flush=True)
    return points


def draw(curves, path):
    xs = [x for c in curves.values() for x, _ in c]
    ys = [y for c in curves.values() for _, y in c]
    x1, y0, y1 = max(xs), min(ys) * 0.98, max(ys) * 1.02
    at = lambda x, y: (60 + 560 * x / x1, 300 - 270 * (y - y0) / (y1 - y0))
    svg = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 350" font-family="sans-serif" font-size="12">', '<rect width="640" height="350" fill="#fff"/>',
           '<path d="M60 30V300H620" fill="none" stroke="#000"/>',
           f'<text x="60" y="20">held-out divergence from the teacher ({y0:.3f} to {y1:.3f})</text>',
           f'<text x="620" y="340" text-anchor="end">tokens read, looking included (0 to {x1:.0f})</text>']
    for i, (kind, points) in enumerate(curves.items()):
        line = " ".join("%.1f,%.1f" % at(x, y) for x, y in points)
        svg.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[kind]}" stroke-width="2"/>')
        svg.append(f'<text x="500" y="{50 + 16 * i}" fill="{COLOURS[kind]}">{kind}</text>')
    path.write_text("\n".join(svg + ["</svg>"]) + "\n", encoding="utf-8")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--teacher", required=True)
    p.add_argument("--student", required=True)
    p.add_argument("--text", nargs="+", required=True)
    p.add_argument("--kinds", nargs="+", default=["all", "loss", "diverse", "both"], choices=list(COLOURS))
    p.add_argument("--steps", type=int, default=40)
    p.add_argument("--ctx", type=int, default=256)
    p.add_argument("--keep", type=float, default=0.3)
    p.add_argument("--pool", type=int, default=400)
    p.add_argument("--mote", default="build/dev/mote")
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/img/distil-select.svg"))
    o = p.parse_args()
    curves = {}
    for kind in o.kinds:
        with tempfile.TemporaryDirectory() as folder:
            curves[kind] = run(o, kind, pathlib.Path(folder))
    draw(curves, o.out)


main()
