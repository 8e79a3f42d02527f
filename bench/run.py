#!/usr/bin/python3
"""
Compares PostgreSQL itself, the proxy and PgBouncer side by side, in interleaved rounds, on servers of its own.

    bench/run.py --binary build/src/server/heliosdb-proxy            everything, some 40 minutes
    bench/run.py --binary ... --quick                                a few cells, 1 s, 3 rounds
    bench/run.py --binary ... --only simple,connect --clients 16,64
    bench/run.py --binary ... --targets helios,helios:binary=/tmp/before/heliosdb-proxy
    bench/run.py --tables bench/results/FILE.json                    only the tables of docs/performance.md

Needs PostgreSQL 15 with pgbench and PgBouncer from Debian, and Python's standard library. As root, everything runs as
the user postgres. All clients use loopback TCP. A machine that does other things as well gives noisy numbers: each
cell runs all targets one after the other, in turns, a round that others disturb is repeated, and the median of the
rounds counts.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

from harness import measure, report
from harness.process import Postgres, give
from harness.targets import KINDS, make_target

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(HERE, "..", "docs", "performance.md")
MB = 1000 * 1000
ROWS = ("simple", "extended", "prepared", "connect", "stream", "calls", "memory")


class Bench:
    """What all targets of a run share."""

    def __init__(self, arguments):
        self.binary = os.path.abspath(arguments.binary)
        self.folder = tempfile.mkdtemp(prefix="helios-bench-")
        os.chmod(self.folder, 0o755)
        give(self.folder)
        self.targets = {}
        self.postgres = None
        self.scale = arguments.scale

    def __enter__(self):
        try:
            self.postgres = Postgres(self.folder, self.scale)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for target in self.targets.values():
            target.stop()
        if self.postgres:
            self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def target(self, name):
        if name not in self.targets:
            self.targets[name] = make_target(name, self)
        return self.targets[name].start()


def cells(a):
    """(row, label, function of a target) of everything that was asked for."""
    for protocol in ("simple", "extended", "prepared"):
        for clients in a.clients:
            yield protocol, f"{protocol}/{clients}", \
                lambda t, p=protocol, c=clients: measure.select_only(t, a.seconds, p, c)
    for method, user in (("trust", "bench"), ("scram", "bench_scram")):
        yield "connect", f"connect/{method}", lambda t, u=user: measure.connect_each(t, a.seconds, u, 4)
    for label, row, total, copy in (("10MB-100B", 100, 10 * MB, False), ("10MB-1MB", MB, 10 * MB, False),
                                    ("200MB-100B", 100, 200 * MB, False), ("200MB-1MB", MB, 200 * MB, False),
                                    ("200MB-100B-copy", 100, 200 * MB, True)):
        if a.quick and label not in ("10MB-100B", "200MB-100B", "200MB-1MB"):
            continue
        yield "stream", f"stream/{label}", \
            lambda t, r=row, n=total, c=copy: measure.stream(t, a.seconds, r, n, c)
    for protocol in ("simple", "extended") if a.quick else ("simple", "extended", "prepared"):
        for clients in a.clients:
            yield "calls", f"calls/{protocol}/{clients}", \
                lambda t, p=protocol, c=clients: measure.system_calls(t, 1 if a.quick else 2, p, c)
    yield "memory", "memory/idle", lambda t: measure.idle_memory(t, a.idle_clients)


def names_for(row, label, names, bench):
    """The targets of a cell. Who can't prepare statements on shared links does it in session mode."""
    chosen = []
    for name in names:
        if "prepared" in label and not bench.target(name).can_prepare:
            name = name.replace("pgbouncer", "pgbouncer-session", 1)
        if name == "direct" and row in ("calls", "memory"):
            continue
        chosen.append(name)
    return chosen


def undisturbed(function, target, quiet):
    """Measures again, a few times, when others used more of the machine than `quiet` cores; the calmest counts."""
    best = None
    for _ in range(3):
        values = function(target) or {}
        if best is None or values["others"] < best["others"]:
            best = values
        if best.get("others", 0) <= quiet:
            break
    return best


def measure_cell(bench, names, function, rounds, quiet):
    results = {name: {} for name in names}
    for n in range(rounds):
        turn = n % len(names)
        for name in names[turn:] + names[:turn]:
            try:
                values = undisturbed(function, bench.target(name), quiet)
            except (measure.Failed, OSError) as e:
                print(f"    {name}: {e}", file=sys.stderr)
                bench.targets[name].stop()
                continue
            for key, value in values.items():
                results[name].setdefault(key, []).append(round(value, 3))
    return {name: values for name, values in results.items() if values}


def machine(bench, names):
    def git(*arguments):
        return subprocess.run(["git", "-C", HERE, *arguments], capture_output=True, text=True, check=False).stdout.strip()

    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown")
    versions = {}
    for name in names:
        kind = KINDS[name.partition(":")[0]][0]
        versions[name] = kind.version(bench)
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "cores": os.cpu_count(),
            "cpu": model, "kernel": platform.release(), "commit": git("rev-parse", "--short", "HEAD"),
            "modified": bool(git("status", "--porcelain", "--", "../src")), "versions": versions,
            "load": os.getloadavg()[0]}


def print_cell(label, results):
    for name, values in results.items():
        medians = "  ".join(f"{key} {statistics.median(v):,.{2 if key == 'others' else 1}f}" for key, v in values.items()
                            if not key.startswith("with_"))
        print(f"  {label:24} {name:28} {medians}", flush=True)


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", default="build/src/server/heliosdb-proxy", help="the proxy (a release build)")
    p.add_argument("--targets", default="direct,helios,helios-1w,pgbouncer",
                   help="names, with a comma or (where options follow) a blank between them")
    p.add_argument("--only", default=",".join(ROWS), help=f"rows out of {','.join(ROWS)}")
    p.add_argument("--clients", default=None, help="numbers of clients (1,4,16,64,256)")
    p.add_argument("--idle-clients", type=int, default=2000)
    p.add_argument("--rounds", type=int, default=None, help="5; with --quick 3")
    p.add_argument("--seconds", type=int, default=None, help="4; with --quick 1")
    p.add_argument("--quiet", type=float, default=0.2,
                   help="a round is repeated, at most twice, while others use more cores than this (0.2)")
    p.add_argument("--scale", type=int, default=10, help="of pgbench's tables")
    p.add_argument("--quick", action="store_true", help="short, and few cells")
    p.add_argument("--output", default=None, help="JSON file (bench/results/DATE-COMMIT.json); - for none")
    p.add_argument("--tables", default=None, metavar="JSON", help="measure nothing, rewrite docs/performance.md")
    p.add_argument("--update-page", action="store_true", help="rewrite the tables of docs/performance.md")
    a = p.parse_args()
    a.rounds = a.rounds or (3 if a.quick else 5)
    a.seconds = a.seconds or (1 if a.quick else 4)
    a.clients = [int(n) for n in (a.clients or ("1,16,64" if a.quick else "1,4,16,64,256")).split(",")]
    a.names = a.targets.split() if " " in a.targets or ":" in a.targets else a.targets.split(",")
    a.rows = a.only.split(",")
    unknown = set(a.rows) - set(ROWS)
    if unknown:
        p.error(f"no such row: {', '.join(sorted(unknown))}")
    return a


def main():
    a = parse()
    if a.tables:
        with open(a.tables, encoding="utf-8") as f:
            report.update(PAGE, json.load(f))
        return
    if not os.access(a.binary, os.X_OK):
        raise SystemExit(f"run.py: no proxy at {a.binary}: build it, and say where with --binary")
    with Bench(a) as bench:
        about = machine(bench, a.names)
        about.update(rounds=a.rounds, seconds=a.seconds, quick=a.quick)
        result = {"about": about, "cells": {}}
        for row, label, function in cells(a):
            if row not in a.rows:
                continue
            names = names_for(row, label, a.names, bench)
            rounds = 1 if row in ("memory", "calls") else a.rounds  # these don't hang on who else is busy
            result["cells"][label] = measure_cell(bench, names, function, rounds, a.quiet)
            print_cell(label, result["cells"][label])
    if a.output != "-":
        stamp = about["date"][:16].replace(" ", "T").replace(":", "")
        path = a.output or os.path.join(HERE, "results", f"{stamp}-{about['commit']}.json")
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)
            f.write("\n")
        print("written:", os.path.relpath(path))
    if a.update_page:
        report.update(PAGE, result)


if __name__ == "__main__":
    main()
