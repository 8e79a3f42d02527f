#!/usr/bin/python3
"""
What it costs to be watched: select-only queries through two proxies, side by side in interleaved rounds. One is left
alone; the other is scraped once a second, and has an open UI: /api/v1/stats, its history, pools and sessions once a
second, and the event stream, where this build has it.

    bench/observed.py [--rounds 9] [--seconds 4] [--clients 16,64] [--protocol simple] [--before BINARY] [--analytics]

--before: the one that is left alone is another build. --analytics: the watched one has statistics of queries, too. CPU is that of the whole process, the threads of the admin API
included; the median of the rounds' ratios counts. On a machine that does other things as well, ask for more rounds.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "bench"))

from harness.process import BIN, Postgres, as_user, environment, give, make_certificate  # noqa: E402
from harness.watched import start_watched  # noqa: E402

EACH_SECOND = ["/metrics", "/api/v1/stats", "/api/v1/stats/history?seconds=120", "/api/v1/pools", "/api/v1/sessions?limit=100",
               "/api/v1/queries"]
STREAM = "/api/v1/events/stream"
POOL = "max_connections = 20"


class Watchers:
    """Threads that ask for EACH_SECOND, and one that reads the stream, until the block ends."""

    def __init__(self, server):
        self.base, self.over, self.asked, self.missing = f"http://127.0.0.1:{server.admin}", threading.Event(), 0, set()
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self.ask, self.listen)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()

    def ask(self):
        while not self.over.wait(1):
            for path in EACH_SECOND:
                try:
                    with urllib.request.urlopen(self.base + path, timeout=10) as answer:
                        answer.read()
                    self.asked += 1
                except urllib.error.HTTPError:
                    self.missing.add(path)
                except OSError:
                    return

    def listen(self):
        try:
            with urllib.request.urlopen(self.base + STREAM, timeout=3600) as answer:
                while not self.over.is_set() and answer.readline():
                    pass
        except urllib.error.HTTPError:
            self.missing.add(STREAM)
        except OSError:
            pass


def measure(args, server, clients):
    """(queries a second, microseconds of the proxy's CPU for each)"""
    before = server.cpu_seconds()
    done = subprocess.run([f"{BIN}/pgbench", "-h", "127.0.0.1", "-p", str(server.port), "-U", "bench", "-n", "-S", "-c",
                           str(clients), "-j", "2", "-T", str(args.seconds), "-M", args.protocol, "bench"],
                          capture_output=True, text=True, cwd="/", check=False, env=environment(), **as_user())
    tps = re.search(r"^tps = ([\d.]+)", done.stdout, re.M)
    queries = re.search(r"^number of transactions actually processed: (\d+)", done.stdout, re.M)
    if done.returncode or not tps:
        raise SystemExit(f"pgbench: {done.stderr[-500:]}")
    return float(tps[1]), (server.cpu_seconds() - before) / int(queries[1]) * 1e6


def compare(args, alone, watched, clients):
    ratios, values = [], []
    for i in range(args.rounds):
        order = [alone, watched] if i % 2 else [watched, alone]
        found = {server: measure(args, server, clients) for server in order}
        values.append((found[alone], found[watched]))
        ratios.append(found[watched][1] / found[alone][1])
    tps, cpu = ([statistics.median(v[i][j] for v in values) for i in (0, 1)] for j in (0, 1))
    print(f"{clients:4} clients: left alone {tps[0]:8.0f} queries/s {cpu[0]:6.2f} us CPU each   watched {tps[1]:8.0f} "
          f"{cpu[1]:6.2f}   CPU {(statistics.median(ratios) - 1) * 100:+.1f} % "
          f"(rounds: {min(ratios) * 100 - 100:+.1f} to {max(ratios) * 100 - 100:+.1f})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--clients", default="16,64")
    parser.add_argument("--protocol", default="simple", choices=["simple", "extended", "prepared"])
    parser.add_argument("--binary", default=os.path.join(ROOT, "build-release/src/server/heliosdb-proxy"))
    parser.add_argument("--before", help="the binary of the proxy that is left alone; else the same")
    parser.add_argument("--analytics", action="store_true", help="the watched one has [analytics] enabled")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="helios-observed-")
    os.chmod(folder, 0o755)
    give(folder)
    postgres, servers = Postgres(folder, 1, make_certificate(folder)), []
    try:
        alone = start_watched(folder, "alone", os.path.abspath(args.before or args.binary), postgres, pool=POOL)
        servers.append(alone)
        watched = start_watched(folder, "watched", os.path.abspath(args.binary), postgres, pool=POOL,
                                more="[analytics]\nenabled = true\n" if args.analytics else "")
        servers.append(watched)
        with Watchers(watched) as watchers:
            for server in servers:
                measure(args, server, 16)  # warm
            for clients in args.clients.split(","):
                compare(args, alone, watched, int(clients))
        print(f"{watchers.asked} requests of watchers; not in this build: {', '.join(sorted(watchers.missing)) or 'nothing'}")
    finally:
        for server in servers:
            server.stop()
        postgres.stop()
        time.sleep(0.1)
        subprocess.run(["rm", "-rf", folder], check=False)


if __name__ == "__main__":
    main()
