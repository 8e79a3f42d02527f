#!/usr/bin/env python3
"""
The checker of "read your writes": many sessions write and then read what they wrote, while standbys lag by changing times,
stand still, and are killed. A read that is older than its session's write is stale, and one is too many.

    test/soak/own_writes.py --binary build/src/server/heliosdb-proxy [--seconds 30 | --pairs 100000] [--clients 200]
        [--workers 2] [--seed S] [--scope session|user|global] [--wait 2s]

With --scope user the reads go over another connection of the same user, with global over one of another user.

Each client adds 1 to its own row, and reads it back at once, and several times in the next half second, with what it would
have to be. The reads that standbys have answered are counted, for without them nothing is shown.
"""

import argparse
import asyncio
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))

import psycopg  # noqa: E402
from harness import Postgres, Proxy, wait_until  # noqa: E402
from harness.postgres import DEFAULT_BIN, Template  # noqa: E402

NAMES = "abc"
PAUSES = (0, 0, 0.003, 0.05, 0.15, 0.25, 0.5)  # between a write and its read


class Count:
    def __init__(self):
        self.pairs = self.away = self.errors = 0
        self.stale = []


async def client(number, args, dsns, count, stop):
    chance = random.Random(f"{args.seed} {number}")
    value = 0
    db = await psycopg.AsyncConnection.connect(dsns[0], autocommit=True)
    reader = db if args.scope == "session" else await psycopg.AsyncConnection.connect(dsns[1], autocommit=True)
    async with db, reader:
        await db.execute("INSERT INTO own VALUES (%s, 0)", (number,))
        while not stop.is_set():
            try:
                await db.execute("UPDATE own SET value = %s WHERE id = %s", (value + 1, number))
                value += 1
                for _ in range(chance.randint(1, 4)):
                    await asyncio.sleep(chance.choice(PAUSES))
                    row = await (await reader.execute("SELECT value, whoami() FROM own WHERE id = %s", (number,))).fetchone()
                    count.pairs += 1
                    count.away += row is not None and row[1] != "a"
                    if row is None or row[0] != value:
                        count.stale.append(f"client {number} wrote {value} and read {row}")
            except psycopg.Error as e:
                count.errors += 1
                print(f"client {number}: {e}", flush=True)
                return


def disturb(args, standbys, stop):
    """Standbys apply late, not at all for a while, or are killed."""
    chance = random.Random(f"{args.seed} disturb")
    while not stop.wait(chance.uniform(0.5, 2)):
        standby = chance.choice(standbys)
        what = chance.random()
        try:
            if what < 0.4:
                delay = chance.choice(("0", "20ms", "200ms", "1s"))
                standby.sql(f"ALTER SYSTEM SET recovery_min_apply_delay = '{delay}'")
                standby.sql("SELECT pg_reload_conf()")
            elif what < 0.9:
                standby.sql("SELECT pg_wal_replay_pause()")
                stop.wait(chance.uniform(0.1, 1))
                standby.sql("SELECT pg_wal_replay_resume()")
            else:
                standby.kill()
                standby.start()
        except psycopg.Error as e:
            print(f"disturbing: {e}", flush=True)


async def run(args, dsns, standbys):
    count, stop, ended = Count(), asyncio.Event(), threading.Event()
    disturber = threading.Thread(target=disturb, args=(args, standbys, ended))
    disturber.start()
    clients = [asyncio.create_task(client(i, args, dsns, count, stop)) for i in range(args.clients)]
    began = time.monotonic()
    try:
        while count.pairs < args.pairs and (args.pairs < 1 << 60 or time.monotonic() < began + args.seconds):
            await asyncio.sleep(0.2)
            if count.stale or all(c.done() for c in clients):
                break
    finally:
        stop.set()
        ended.set()
        await asyncio.gather(*clients, return_exceptions=True)
        disturber.join()
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--pairs", type=int, default=1 << 60)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scope", choices=["session", "user", "global"], default="session")
    parser.add_argument("--wait", default="0s")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(1 << 32)))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    template = Template(DEFAULT_BIN)
    primary = Postgres(template, {"helios.node": "a", "max_connections": "60"})
    proxy = None
    try:
        primary.start()
        primary.sql("CREATE FUNCTION whoami() RETURNS text LANGUAGE sql STABLE AS "
                    "$$ SELECT current_setting('helios.node') $$; CREATE TABLE own (id int PRIMARY KEY, value int); "
                    "GRANT ALL ON own TO PUBLIC", database="app")
        standbys = [primary.standby(**{"helios.node": name}) for name in NAMES[1:]]
        nodes = [Proxy.node(server, "standby" if i else "primary", name=name)
                 for i, (server, name) in enumerate(zip([primary, *standbys], NAMES))]
        proxy = Proxy(os.path.abspath(args.binary), postgres=primary, clock=False, config={
            "proxy": {"workers": args.workers}, "nodes": nodes, "log": {"connections": False, "disconnections": False},
            "health": {"user": "postgres", "check_interval": "1s", "failure_threshold": 2},
            "lag_routing": {"read_your_writes": args.scope, "wait": args.wait},
            "load_balancer": {"slow_start": "0s"}}).start()
        wait_until(lambda: [n["standing"] for n in proxy.json("/nodes")] == ["primary", "standby", "standby"], 60)
        dsns = proxy.dsn(), proxy.dsn(user="trust_user" if args.scope == "global" else "app")
        count = asyncio.run(run(args, dsns, standbys))
        for text in count.stale[:20]:
            print(text)
        problems = len(count.stale) + count.errors
        if count.away == 0:
            print("no read was answered by a standby: nothing is shown")
            problems += 1
        proxy_waits = proxy.metric("replay_waits_total")
        proxy.stop()
        proxy.check_log()
        print(f"{count.pairs} pairs, {count.away} of the reads answered by standbys, {len(count.stale)} stale, "
              f"{int(proxy_waits)} waited, "
              f"{count.errors} errors")
        print(f"{count.pairs - len(count.stale)} passed, {problems} failed")
        return 1 if problems else 0
    finally:
        if proxy is not None and proxy.process is not None and proxy.process.poll() is None:
            proxy.process.kill()
        if proxy is not None:
            proxy.remove()
        primary.remove()
        template.remove()


if __name__ == "__main__":
    sys.exit(main())
