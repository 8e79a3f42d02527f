#!/usr/bin/python3
"""
Compares PostgreSQL itself, the proxy, an ideal relay and other poolers side by side, in interleaved rounds, on servers
of its own.

    bench/run.py --preset table                  what docs/performance.md shows; some 30 minutes on a quiet machine
    bench/run.py --preset quick                  a few cells; smoke: each row once; long: all, for a night
    bench/run.py --only simple,connect --clients 16,64
    bench/run.py --only hold                     50,000 idle clients while 64 others run
    bench/run.py --only simple,extended,prepared --clients 1000
    bench/run.py --targets "helios helios:pool.share=auto helios:binary=/tmp/before/heliosdb-proxy"
    bench/run.py --update-page [JSON...]         measures nothing: docs/performance.md from the newest results

Targets and their options: bench/harness/targets.py, peers.py. A target that is not here is left out and named at the
end. Needs PostgreSQL 15 with pgbench, a C compiler, openssl, and Python's standard library; a release build of the
proxy. As root, everything runs as the user postgres. All clients use loopback TCP. A machine that does other things as
well gives noisy numbers: each cell runs all targets one after the other, in turns, a round that others disturb is
repeated, and the median of the rounds counts.
"""

import argparse
import datetime
import glob
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from harness import report
from harness.cells import ON_DEMAND, PRESETS, ROWS, STANDARD, cells
from harness.peers import PEERS
from harness.process import Failed, Postgres, allow_files, compile_tool, give, make_certificate
from harness.targets import OWN

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
RESULTS = os.path.join(HERE, "results")
KINDS = {**OWN, **PEERS}


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
        rows = set(arguments.rows)
        self.most_clients = 200 + max([2100, *arguments.storm * ("storm" in rows), arguments.hold * ("hold" in rows),
                                       arguments.idle_clients])

    def __enter__(self):
        try:
            self.files = allow_files(self.most_clients + 1000)
            self.relay = compile_tool(self.folder, "relay")
            self.clients = compile_tool(self.folder, "clients", "-lssl", "-lcrypto")
            self.certificate = make_certificate(self.folder)
            self.postgres = Postgres(self.folder, self.scale, self.certificate)
            self.postgres.sql("CREATE UNLOGGED TABLE bench_copy (line text)", "bench")
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
        return self.targets[name]


def make_target(text, bench):
    kind, _, options = text.partition(":")
    if kind not in KINDS:
        raise SystemExit(f"run.py: {kind}: none of {', '.join(KINDS)}")
    make, settings = KINDS[kind]
    settings = dict(settings)
    for option in filter(None, options.split(",")):
        key, sign, value = option.partition("=")
        if not sign:
            raise SystemExit(f"run.py: {text}: options are key=value")
        settings[key] = value
    return make(text, settings, bench)


def find_targets(bench, names):
    """Those that can be measured here; and why the others can't."""
    usable, missing = [], {}
    for name in names:
        why = bench.target(name).missing()
        if why:
            missing[name] = why
            print(f"  without {name}: {why}", flush=True)
        else:
            usable.append(name)
    return usable, missing


def names_for(cell, names, bench):
    """The targets of a cell. Who can't prepare statements on shared links does it in session mode."""
    chosen = []
    for name in names:
        if "prepared" in cell.label and not bench.target(name).can_prepare:
            name = name.replace("pgbouncer", "pgbouncer-session", 1)
        if cell.wanted(bench.target(name)):
            chosen.append(name)
    if cell.row == "local" and "helios" in chosen and "helios-1w" not in chosen:
        chosen.append("helios-1w")  # the row is about two workers against one
    return chosen


def undisturbed(function, target, quiet):
    """Measures again, a few times, when others used more of the machine than `quiet` cores; the calmest counts."""
    best = None
    for _ in range(3):
        target.bench.postgres.settle()
        values = function(target.start()) or {}
        if best is None or values["others"] < best["others"]:
            best = values
        if best.get("others", 0) <= quiet:
            break
    return best


def measure_cell(bench, names, cell, quiet):
    results, failures = {name: {} for name in names}, {}
    for n in range(cell.rounds):
        turn = n % len(names)
        for name in names[turn:] + names[:turn]:
            if failures.get(name, 0) >= 2:
                continue
            try:
                values = undisturbed(cell.function, bench.target(name), quiet)
            except (Failed, OSError, subprocess.TimeoutExpired) as e:
                print(f"    {name}: {e}", file=sys.stderr)
                bench.target(name).stop()
                failures[name] = failures.get(name, 0) + 1
                continue
            if bench.target(name).link_for_each and bench.target(name).is_peer:
                bench.target(name).stop()  # it keeps its many links, and they would slow the others down
            for key, value in values.items():
                results[name].setdefault(key, []).append(round(value, 3))
    return {name: values for name, values in results.items() if values}


def machine(bench, names, missing):
    def git(*arguments):
        return subprocess.run(["git", "-C", HERE, *arguments], capture_output=True, text=True, check=False).stdout.strip()

    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown")
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "cores": os.cpu_count(),
            "cpu": model, "kernel": platform.release(), "commit": git("rev-parse", "--short", "HEAD"),
            "modified": bool(git("status", "--porcelain", "--", "../src")),
            "versions": {name: bench.target(name).version() for name in names}, "missing": missing,
            "peers": [name for name in PEERS if name in names or name == "pgbouncer-session"],
            "load": os.getloadavg()[0]}


def print_cell(label, results):
    for name, values in results.items():
        medians = "  ".join(f"{key} {statistics.median(v):,.{2 if key == 'others' else 1}f}" for key, v in values.items()
                            if not key.startswith("with_"))
        print(f"  {label:24} {name:20} {medians}", flush=True)


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--binary", default=os.path.join(ROOT, "build-release/src/server/heliosdb-proxy"),
                   help="the proxy (a release build: build-release)")
    p.add_argument("--preset", choices=PRESETS, help="values for all that is not named")
    p.add_argument("--targets", help="names, with a comma or (where options follow) a blank between them")
    p.add_argument("--only", help=f"rows out of {','.join(ROWS)}; without it all but {','.join(ON_DEMAND)}")
    p.add_argument("--clients", help="numbers of clients (1,4,16,64,256,1000)")
    p.add_argument("--calls-clients", help="the same for system calls (as --clients)")
    p.add_argument("--storm", help="how many TLS clients connect at once (2000); several with commas")
    p.add_argument("--idle-clients", type=int, help="of the rows memory (2000)")
    p.add_argument("--hold", type=int, help="idle clients of the row hold (50000)")
    p.add_argument("--rounds", type=int, help="of select-only (5)")
    p.add_argument("--few-rounds", type=int, help="of the other rows (3)")
    p.add_argument("--seconds", type=int, help="of each measurement (4)")
    p.add_argument("--quiet", type=float, default=0.2,
                   help="a round is repeated, at most twice, while others use more cores than this (0.2)")
    p.add_argument("--scale", type=int, default=10, help="of pgbench's tables")
    p.add_argument("--output", help="JSON file (bench/results/DATE-COMMIT.json); - for none")
    p.add_argument("--update-page", nargs="*", metavar="JSON", help="measure nothing, rewrite docs/performance.md")
    a = p.parse_args()
    for key, value in {**STANDARD, **PRESETS.get(a.preset, {})}.items():
        if getattr(a, key, None) is None:
            setattr(a, key, value)
    a.clients = [int(n) for n in a.clients.split(",")]
    a.calls_clients = [int(n) for n in a.calls_clients.split(",")] if a.calls_clients else a.clients
    a.storm = [int(n) for n in a.storm.split(",")]
    a.names = a.targets.split() if " " in a.targets or ":" in a.targets else a.targets.split(",")
    a.rows = a.only.split(",")
    unknown = set(a.rows) - set(ROWS)
    if unknown:
        p.error(f"no such row: {', '.join(sorted(unknown))}")
    return a


def run(a):
    began, result, path = time.monotonic(), {"cells": {}}, None
    with Bench(a) as bench:
        names, missing = find_targets(bench, a.names)
        if "hold" in a.rows and a.hold > bench.files - 1000:
            missing[f"{a.hold:,} idle clients"] = f"a process may have only {bench.files:,} open files here"
            a.hold = bench.files - 1000
        result["about"] = about = machine(bench, names, missing)
        about.update(rounds=a.rounds, few_rounds=a.few_rounds, seconds=a.seconds, preset=a.preset, idle=a.idle_clients)
        if a.output != "-":
            stamp = about["date"][:16].replace(" ", "T").replace(":", "")
            path = os.path.abspath(a.output or os.path.join(RESULTS, f"{stamp}-{about['commit']}.json"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
        for cell in cells(a):
            chosen = names_for(cell, names, bench)
            if chosen:
                result["cells"][cell.label] = measure_cell(bench, chosen, cell, a.quiet)
                print_cell(cell.label, result["cells"][cell.label])
            if path:  # after each cell: what was measured until something breaks is kept
                with open(path, "w", encoding="utf-8") as f:
                    json.dump(result, f, indent=1)
                    f.write("\n")
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.0f} minutes; {'written: ' + os.path.relpath(path) if path else 'nothing written'}")
    for name, why in missing.items():
        print(f"without {name}: {why}")


def main():
    a = parse()
    if a.update_page is not None:
        report.update(ROOT, a.update_page or glob.glob(os.path.join(RESULTS, "*.json")), newest_only=not a.update_page)
    elif not os.access(a.binary, os.X_OK):
        raise SystemExit(f"run.py: no proxy at {a.binary}: build it (docs/performance.md), or say where with --binary")
    else:
        run(a)


if __name__ == "__main__":
    main()
