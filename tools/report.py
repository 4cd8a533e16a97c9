#!/usr/bin/env python3
"""report.py BUILD [KIND…]: runs every test program of a build that prints report rows and shows them as a table.

The row format is explained in tests/report.h. Each program is run as ctest would run it, with MOTE_REPORT=1 in its environment. Of those
with label kern or oracle, one that has no rows of its own gets one with its verdict; unit and house tests give the rows they have.
Exit 1 when a row says FAIL or a program fails, 0 otherwise.
"""
import json
import os
import subprocess
import sys
from collections import Counter

ALWAYS, WITH_ROWS = {"kern", "oracle"}, {"unit", "house"}
HEAD = ["kind", "item", "measured", "bar", "verdict", "speed", "path"]


def programs(build):
    """(name, command, environment, working directory, whether it always has a row) of each test that takes part, from ctest's own list."""
    listed = json.loads(subprocess.check_output(["ctest", "--show-only=json-v1"], cwd=build))
    for test in listed["tests"]:
        props = {p["name"]: p["value"] for p in test.get("properties", [])}
        labels = set(props.get("LABELS", []))
        if test.get("command") and (ALWAYS | WITH_ROWS) & labels:
            env = dict(e.split("=", 1) for e in props.get("ENVIRONMENT", []))
            yield test["name"], test["command"], env, props.get("WORKING_DIRECTORY", build), bool(ALWAYS & labels)


def rows_of(name, command, env, cwd, always):
    """The rows a program printed; a program that fails or is skipped without a row gets one that says so."""
    run = subprocess.run(command, cwd=cwd, env={**os.environ, **env, "MOTE_REPORT": "1"},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    rows = [line.split("\t")[1:] for line in run.stdout.splitlines() if line.startswith("report\t")]
    rows = [(row + ["-"] * len(HEAD))[:len(HEAD)] for row in rows]
    reason = (run.stdout + run.stderr).strip().splitlines()[-1:] or [""]
    if run.returncode in (0, 77) and not rows and not always:
        return rows
    if run.returncode == 77 and not rows:
        rows.append([name.split(".")[0], name, reason[0][:60], "-", "SKIP", "-", "-"])
    elif run.returncode == 0 and not rows:
        rows.append([name.split(".")[0], name, reason[0][:60], "-", "ok", "-", "-"])
    elif run.returncode not in (0, 77) and not any(row[4] == "FAIL" for row in rows):
        rows.append([name.split(".")[0], name, f"exit {run.returncode}: {reason[0][:60]}", "-", "FAIL", "-", "-"])
    return rows


def main():
    build, kinds = sys.argv[1], set(sys.argv[2:])
    rows = []
    for program in programs(build):
        print(f"{program[0]} …", file=sys.stderr, flush=True)
        rows += [row for row in rows_of(*program) if not kinds or row[0] in kinds]
    rows.sort(key=lambda row: row[0])
    widths = [max(len(row[i]) for row in rows + [HEAD]) for i in range(len(HEAD))]
    for row in [HEAD, ["-" * w for w in widths]] + rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip())
    verdicts = Counter(row[4] for row in rows)
    print(f"\n{len(rows)} rows: {verdicts['ok']} ok, {verdicts['FAIL']} FAIL, {verdicts['SKIP']} SKIP")
    short = [row for row in rows if row[4] != "ok"]
    for row in short:
        print(f"  {row[4]}: {row[0]} {row[1]}: {row[2]} (bar {row[3]})")
    return 1 if verdicts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
