#!/usr/bin/env python3
"""Writes the tables of docs/PERFORMANCE.md and docs/img/roofline.svg from bench/results.csv and bench/machine.json.

usage: bench/performance.py [--check]      --check: change nothing, fail when something would change

The text of PERFORMANCE.md is written by hand; what stands between `<!-- table NAME -->` and `<!-- end -->` is made here.
Of several rows for one test the last counts; rows of other machines than the last one are history.
"""
import csv
import json
import math
import pathlib
import sys

from made import ROOT, filled, keep

DOC = ROOT / "docs" / "PERFORMANCE.md"
PICTURE = ROOT / "docs" / "img" / "roofline.svg"


def read_rows():
    with open(ROOT / "bench" / "results.csv", newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def latest(rows):
    """The last row of each model, depth and test, on the machine of the last row, in the order of the file."""
    found = {}
    for r in rows:
        if (r["cpu"], r["threads"]) == (rows[-1]["cpu"], rows[-1]["threads"]):
            found[r["model"], r["depth"], r["test"]] = r
    return found


def models_of(found):
    return list(dict.fromkeys(model for model, _, _ in found))


def number(text):
    if not text:
        return "–"
    v = float(text)
    return f"{v:,.0f}" if v >= 100 else f"{v:.3g}"


def times(text):
    return f"{float(text):.2f}" if text else "–"


def percent(text):
    return f"{100 * float(text):.0f} %" if text else "–"


def table(head, rows):
    align = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(r) + " |" for r in [head, align, *rows])


# ---- tables ----

def depth_table(found, depth):
    rows = []
    for (model, d, test), r in found.items():
        if d == depth and test[:2] in ("pp", "tg") and test[2:].isdigit():
            what = {"pp": "prefill", "tg": "decode"}[test[:2]] + " " + test[2:]
            rows.append([f"{model}, {what}", f"**{number(r['mote'])}**", number(r["llama.cpp"]), number(r["ik"]), times(r["ratio"]),
                         number(r["limit"]), percent(r["share"])])
    return table(["tokens/s", "mote", "llama.cpp", "ik_llama.cpp", "mote / best peer", "limit", "share"], rows)


def batch_table(found):
    rows = []
    for (model, _, test), r in found.items():
        if test.startswith("npl"):
            rows.append([f"{model}, {test[3:]} together", f"**{number(r['mote'])}**", number(r["llama.cpp"]), number(r["ik"]),
                         times(r["ratio"]), number(r["limit"]), percent(r["share"])])
    return table(["tokens/s of all sequences", "mote", "llama.cpp", "ik_llama.cpp", "mote / best peer", "limit", "share"], rows)


def train_table(found):
    rows = []
    for (model, _, test), r in found.items():
        if test.startswith("train"):
            rows.append([f"{model}'s shape, {test[6:].replace('x', ' × ')}", f"**{number(r['mote'])}**", number(r["torch"]), times(r["ratio"]),
                         number(r["limit"]), percent(r["share"])])
    return table(["tokens/s of training", "mote", "PyTorch", "mote / PyTorch", "limit", "share"], rows)


def start_table(found):
    rows = []
    for (model, _, test), r in found.items():
        if test in ("start", "memory"):
            what, unit, by = ("first token after", "ms", 1000) if test == "start" else ("peak resident memory", "MB", 1)
            figure = [f"{float(r[k]) * by:.0f}" if r[k] else "–" for k in ("mote", "llama.cpp")]
            rows.append([f"{model}, {what}, {unit}", f"**{figure[0]}**", figure[1], times(r["ratio"])])
    return table(["", "mote", "llama.cpp", "llama.cpp / mote"], rows)


def machine_table(machine):
    sizes = {}
    for m in machine["memory"]:
        if m["access"].startswith("read"):
            at = sizes.setdefault(m["bytes"], {})
            at[m["threads"]] = max(at.get(m["threads"], 0), m["gb_s"])
    threads = sorted({t for at in sizes.values() for t in at})
    rows = [[f"{b >> 20} MB" if b >= 1 << 20 else f"{b >> 10} KB"] + [f"{sizes[b].get(t, 0):.0f}" for t in threads] for b in sorted(sizes)]
    reads = table(["reading, GB/s"] + [f"{t} thread{'s' if t > 1 else ''}" for t in threads], rows)
    rates = {}
    for p in machine["peaks"]:
        if not p["instruction"].startswith("scalar"):
            rates.setdefault((p["unit"], p["instruction"]), {})[p["threads"]] = p["gop_s"]
    rows = [[f"{unit}: {name}"] + [f"{at.get(t, 0):.0f}" for t in threads] for (unit, name), at in rates.items()]
    peaks = table(["multiplying and adding, GOP/s"] + [f"{t} thread{'s' if t > 1 else ''}" for t in threads], rows)
    barrier = ", ".join(f"{b['ns']:.0f} ns with {b['threads']} threads" for b in machine["barriers"] if b["threads"] > 1)
    latency = "; ".join(f"{x['access']} of {x['bytes'] >> 20} MB {x['ns']:.0f} ns" for x in machine["latency"]
                        if x["huge_pages"] and x["bytes"] >= 8 << 20)
    return f"{machine['cpu']}, {machine['isa']}.\n\n{reads}\n\n{peaks}\n\nOne dependent read: {latency}. A barrier of the thread pool: {barrier}."


def history_table(rows):
    """One line a run: the ratios to the best peer."""
    runs = {}
    for r in rows:
        if r["ratio"] and r["test"] not in ("start", "memory") and not r["test"].startswith("train"):
            runs.setdefault((r["date"], r["commit"], r["rounds"]), []).append(r)
    lines = []
    for (date, commit, n), of_run in list(runs.items())[-12:]:
        best = ", ".join(f"{r['model'].split('-')[0]} {r['test']}{' @ ' + r['depth'] if r['depth'] not in ('0', '128') else ''} {times(r['ratio'])}"
                         for r in of_run)
        lines.append([date[:10] + " " + date[11:16], f"`{commit}`", n, best])
    return table(["run", "commit", "rounds", "mote / best peer"], lines)


def context(found):
    rows = list(found.values())
    dates, commits = sorted({r["date"] for r in rows}), list(dict.fromkeys(r["commit"] for r in rows))
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    counts = sorted({int(r["rounds"]) for r in rows})
    return (f"Measured {span} at commit {', '.join(f'`{c}`' for c in commits)} on {rows[-1]['cpu']} ({rows[-1]['flags']}), "
            f"{rows[-1]['threads']} threads; medians over {' or '.join(map(str, counts))} rounds.")


# ---- the roofline ----

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 900, 560, 70, 60, 50, 190
COLORS = ["#1f6feb", "#c2410c", "#15803d", "#7c3aed"]


class Axes:
    def __init__(self, x_range, y_range):
        self.x0, self.x1 = (math.log10(v) for v in x_range)
        self.y0, self.y1 = (math.log10(v) for v in y_range)

    def x(self, v):
        return LEFT + (math.log10(v) - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, v):
        return HEIGHT - BOTTOM - (math.log10(v) - self.y0) / (self.y1 - self.y0) * (HEIGHT - BOTTOM - TOP)


def text(x, y, words, size=12, anchor="start", color="#333", turn=0):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    spin = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{color}"{spin}>{words}</text>'


def line(x1, y1, x2, y2, color, width=1, dash=""):
    dash = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"{dash}/>'


def points_of(found):
    """(model, test, depth, operations per byte, GOP/s) of every row that says what a token takes."""
    points = []
    for (model, depth, test), r in found.items():
        if r["token_bytes"] and r["token_ops"] and r["mote"]:
            ops = float(r["token_ops"])
            points.append((model, test, depth, ops / float(r["token_bytes"]), float(r["mote"]) * ops / 1e9))
    return points


def roofs(machine):
    """The best rate of each unit and the best bandwidth at three sizes, with all threads."""
    n = machine["threads"]
    rates = {u: max((p["gop_s"] for p in machine["peaks"] if p["unit"] == u and p["threads"] == n), default=0) for u in ("int8", "bf16", "f32")}
    reads = {}
    for m in machine["memory"]:
        if m["access"].startswith("read") and m["threads"] == n:
            reads[m["bytes"]] = max(reads.get(m["bytes"], 0), m["gb_s"])
    sizes = [s for s in (32 << 20, 128 << 20, 512 << 20) if s in reads]
    return {u: r for u, r in rates.items() if r}, {s: reads[s] for s in sizes}


def grid(a):
    out = []
    for e in range(math.ceil(a.x0), math.floor(a.x1) + 1):
        out += [line(a.x(10**e), TOP, a.x(10**e), HEIGHT - BOTTOM, "#e5e5e5"), text(a.x(10**e), HEIGHT - BOTTOM + 18, f"{10.0**e:g}", anchor="middle")]
    for e in range(math.ceil(a.y0), math.floor(a.y1) + 1):
        out += [line(LEFT, a.y(10**e), WIDTH - RIGHT, a.y(10**e), "#e5e5e5"), text(LEFT - 6, a.y(10**e) + 4, f"{10.0**e:g}", anchor="end")]
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, "operations per byte that has to be read", 13, "middle"))
    out.append(text(20, (TOP + HEIGHT - BOTTOM) / 2, "GOP/s", 13, "middle", turn=-90))
    return out


def draw_roofs(a, rates, reads):
    out, top, right = [], max(rates.values()), 10**a.x1
    for unit, rate in rates.items():
        start = max(rate / max(reads.values()), 10**a.x0)
        out += [line(a.x(start), a.y(rate), WIDTH - RIGHT, a.y(rate), "#555", 1.5), text(WIDTH - RIGHT + 6, a.y(rate) + 4, f"{unit} {rate:,.0f} GOP/s")]
    for i, (size, rate) in enumerate(reads.items()):
        x0, x1 = max(10**a.x0, 10**a.y0 / rate), min(top / rate, right)
        out.append(line(a.x(x0), a.y(x0 * rate), a.x(x1), a.y(x1 * rate), "#555", 1.5, "" if i + 1 == len(reads) else "5 4"))
        slope = -math.degrees(math.atan2(a.y(x0 * rate) - a.y(x1 * rate), a.x(x1) - a.x(x0)))
        at = x0 * (x1 / x0) ** (0.04 + 0.2 * (i % 2))
        out.append(text(a.x(at), a.y(at * rate) - 4, f"{size >> 20} MB: {rate:.0f} GB/s", 10, turn=slope))
    return out


def draw_points(a, points, models):
    out = []
    for model, test, depth, intensity, rate in points:
        color, x, y = COLORS[models.index(model) % len(COLORS)], a.x(intensity), a.y(rate)
        label = f"{test}{' @ ' + depth if depth not in ('0', '128') else ''}"
        shape = (f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{color}"/>' if test.startswith("pp") else
                 f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{color}" fill-opacity="{0.45 if test.startswith("npl") else 1}"/>')
        out.append(f"<g><title>{model} {label}: {rate:.0f} GOP/s at {intensity:.2g} operations a byte</title>{shape}</g>")
        if models.index(model) == 0:
            out.append(text(x + 8, y + 4, label, 10, color=color))
    for i, model in enumerate(models):
        y = HEIGHT - BOTTOM - 20 - 20 * (len(models) - 1 - i)
        out += [f'<circle cx="{WIDTH - RIGHT + 14}" cy="{y - 4}" r="4.5" fill="{COLORS[i % len(COLORS)]}"/>', text(WIDTH - RIGHT + 24, y, model[:26], 10)]
    return out


def roofline(found, machine):
    rates, reads = roofs(machine)
    points = points_of(found)
    models = list(dict.fromkeys(p[0] for p in points))
    xs = [p[3] for p in points] or [1]
    ys = [p[4] for p in points] or [10]
    a = Axes((min(xs) / 2, max(xs) * 3), (min(ys) / 3, max(rates.values()) * 1.6))
    body = grid(a) + draw_roofs(a, rates, reads) + draw_points(a, points, models)
    title = text(LEFT, 28, f"What the machine allows, and what mote reaches ({machine['cpu']}, {machine['threads']} threads)", 15)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">\n'
            f'<rect width="100%" height="100%" fill="#fff"/>\n{title}\n' + "\n".join(body) + "\n</svg>\n")


# ---- the document ----

def main():
    rows = read_rows()
    found = latest(rows)
    machine = json.loads((ROOT / "bench" / "machine.json").read_text(encoding="utf-8"))
    tables = {"context": context(found), "empty": depth_table(found, "0"), "deep": depth_table(found, "4096"), "batch": batch_table(found),
              "start": start_table(found), "train": train_table(found), "machine": machine_table(machine), "history": history_table(rows)}
    document = DOC.read_text(encoding="utf-8")
    for name, content in tables.items():
        document = filled(document, f"table {name}", content)
    return keep({DOC: document, PICTURE: roofline(found, machine)}, "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
