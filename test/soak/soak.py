#!/usr/bin/env python3
"""
Random clients and random faults against the real proxy and a real server, for some time:

    test/soak/soak.py --binary build/src/server/heliosdb-proxy --seconds 60 [--workers 2] [--clients 24] [--seed S]

Every value that a client asks for is its own, so that an answer meant for somebody else is seen. A client may be told
that a connection was lost (the faults do that), never anything wrong, and never nothing. At the end nothing may be
left over: clients, waiting ones, links in use, server connections, descriptors, memory; and the proxy ends in order.

The seed decides what each client and the faults do, one after the other; threads are not held in step, so two runs
with one seed are alike, not the same. The last line is `N passed, N failed`; the status is 1 if anything failed.
"""

import argparse
import collections
import logging
import os
import random
import socket
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))

import after  # noqa: E402
import psycopg  # noqa: E402
from harness import Postgres, Proxy, SanitizerReport, ServerError, Wire  # noqa: E402
from harness import wire  # noqa: E402
from harness.postgres import DEFAULT_BIN, Template  # noqa: E402
from harness.wire import Closed, Deadline  # noqa: E402

LINKS = 8
STATEMENTS = 6           # max_prepared_statements: small, so that statements are closed and made anew all the time
PATIENCE = 40            # seconds after which a client counts as forgotten
LOST = {"57P01", "57P02", "57P03", "08006", "08001", "08004"}  # what the faults lead to
CONFIG = {
    "proxy": {"shutdown_drain_timeout": "10s"},
    "pool": {"mode": "transaction", "max_connections": LINKS, "max_prepared_statements": STATEMENTS,
             "login_retry": "200ms"},
    "log": {"connections": False, "disconnections": False},
}


class Wrong(AssertionError):
    """The proxy did what it must not do."""


class Lost(Exception):
    """A clean error that a fault explains; the connection is gone, or the transaction."""


def check(condition, text):
    if not condition:
        raise Wrong(text)


# ---------------------------------------------------------------- clients that speak the protocol themselves

class WireClient:
    """One connection and what it must remember of it. Actions raise Wrong, or Lost when a fault hit them."""

    def __init__(self, address, rng, name):
        self.rng = rng
        self.name = name
        self.count = 0
        self.application = name
        self.statements = {}
        self.wire = Wire(address, PATIENCE)
        try:
            self.wire.login({"user": "app", "database": "app", "application_name": name},
                            version=rng.choice(((3, 0), (3, 2))))
        except BaseException:
            self.wire.socket.close()
            raise

    def unique(self):
        self.count += 1
        return f"{self.name}.{self.count}"

    def errors_of(self, messages, allowed=()):
        """Codes of errors that were allowed. Others are Lost, or Wrong."""
        for m in messages:
            if m.kind == "E":
                if m.code in allowed:
                    continue
                if m.code in LOST:
                    raise Lost(m.code)
                raise Wrong(f"{m} was no answer to what was asked")
        return wire.errors(messages)

    def ask(self, sql, allowed=()):
        messages = self.wire.query(sql)
        self.errors_of(messages, allowed)
        return messages

    def expect(self, sql, wanted):
        got = wire.rows(self.ask(sql))
        check(got == wanted, f"{sql[:80]!r}: {str(got)[:200]} instead of {str(wanted)[:200]}")

    # -- actions

    def simple(self):
        a = self.unique()
        self.expect(f"SELECT '{a}'", [[a]])

    def several_statements(self):
        a, b = self.unique(), self.unique()
        self.expect(f"SELECT '{a}'; SELECT '{b}'", [[a], [b]])

    def large(self):
        a, times = self.unique(), self.rng.randrange(1, 30000)
        self.expect(f"SELECT repeat('{a},', {times}) FROM generate_series(1, 3)", [[(a + ",") * times]] * 3)

    def many_rows(self):
        a, count = self.unique(), self.rng.randrange(1, 3000)
        self.expect(f"SELECT i, '{a}' FROM generate_series(1, {count}) i", [[str(i + 1), a] for i in range(count)])

    def error(self):
        a = self.unique()
        messages = self.ask(f"SELECT '{a}'::int", allowed=("22P02",))
        (m,) = [m for m in messages if m.kind == "E"]
        check(a in m.fields["M"], f"{m} is not about {a}")

    def transaction(self):
        a = self.unique()
        self.ask("BEGIN")
        try:
            self.ask(f"SELECT set_config('soak.mine', '{a}', true)")
            for _ in range(self.rng.randrange(3)):
                self.expect("SELECT current_setting('soak.mine')", [[a]])
            if self.rng.random() < 0.3:
                self.ask("SELECT 1/0", allowed=("22012",))
                check(self.wire.status == "E", "the transaction did not fail")
        finally:
            if self.rng.random() < 0.9:
                self.ask(self.rng.choice(("COMMIT", "ROLLBACK")))
                check(self.wire.status == "I", "the transaction goes on")
            else:
                raise Leave

    def setting(self):
        self.application = self.unique()
        self.ask(f"SET application_name = '{self.application}'")
        self.expect("SHOW application_name", [[self.application]])

    def still_set(self):
        self.expect("SHOW application_name", [[self.application]])

    def extended(self):
        a = self.unique()
        messages = self.wire.batch(wire.run("SELECT $1::text", [a]))
        self.errors_of(messages)
        check(wire.rows(messages) == [[a]], f"{messages} instead of {a}")

    def pipeline(self):
        """Several batches at once, one of which may fail: the others must not."""
        batches, wanted, bad = [], [], self.rng.randrange(-3, 4)
        for i in range(4):
            a, b = self.unique(), self.unique()
            wanted.append([[a]] if i == bad else [[a], [b]])
            batches.append(wire.run("SELECT $1::text", [a])
                           + wire.run("SELECT $1::int::text" if i == bad else "SELECT $1::text", [b]) + wire.sync())
        self.wire.send(*batches)
        for i in range(4):
            messages = self.wire.until_ready()
            codes = self.errors_of(messages, allowed=("22P02",) if i == bad else ())
            check(wire.rows(messages) == wanted[i] and bool(codes) == (i == bad), f"batch {i}: {messages}")

    def prepared(self):
        name = f"s{self.rng.randrange(12)}"
        a = self.unique()
        parse = name not in self.statements
        if parse:
            text = self.unique() if self.rng.random() < 0.5 else f"shared by all {self.rng.randrange(20)}"
            self.statements[name] = text
        messages = self.wire.batch(wire.run(f"SELECT '{self.statements[name]}', $1::text", [a], name=name,
                                            parse_too=parse))
        self.errors_of(messages)
        check(wire.rows(messages) == [[self.statements[name], a]], f"{messages} instead of {a}")

    def forget_prepared(self):
        if self.statements:
            name = self.rng.choice(sorted(self.statements))
            del self.statements[name]
            self.errors_of(self.wire.batch(wire.close("S", name)))

    def portal(self):
        """A cursor read in pieces, in a transaction."""
        a = self.unique()
        self.wire.send(wire.query("BEGIN"), wire.parse("", "SELECT $1 || i FROM generate_series(1, 10) i"),
                       wire.bind("", "", [a]), wire.execute("", 4), wire.flush())
        first = self.wire.until_ready()
        self.errors_of(first)
        got = self.wire.read_until("sCE")
        self.errors_of(got)
        got += self.wire.batch(wire.execute("", 0))
        self.errors_of(got)
        check(wire.rows(got) == [[f"{a}{i}"] for i in range(1, 11)], f"portal: {got}")
        self.ask("COMMIT")

    def copy_in(self):
        a, count = self.unique(), self.rng.randrange(1, 500)
        self.ask("BEGIN; CREATE TEMP TABLE soak_copy (v text) ON COMMIT DROP")
        self.wire.send(wire.query("COPY soak_copy FROM STDIN"))
        self.errors_of([m for m in self.wire.read_until("GZ")])
        for i in range(count):
            self.wire.send(wire.copy_data(f"{a}-{i}\n"))
        fails = self.rng.random() < 0.2
        self.wire.send(wire.copy_fail("changed my mind") if fails else wire.copy_done())
        self.errors_of(self.wire.until_ready(), allowed=("57014",) if fails else ())
        if not fails:
            self.expect("SELECT count(*), min(v), count(DISTINCT v) FROM soak_copy", [[str(count), f"{a}-0", str(count)]])
        self.ask("ROLLBACK")

    def copy_out(self):
        a, count = self.unique(), self.rng.randrange(1, 2000)
        messages = self.ask(f"COPY (SELECT '{a}', i FROM generate_series(1, {count}) i) TO STDOUT")
        got = b"".join(m.body for m in messages if m.kind == "d").decode().splitlines()
        check(got == [f"{a}\t{i + 1}" for i in range(count)], f"COPY TO: {got[:3]} instead of {a}")

    def cancel(self):
        a = self.unique()
        self.wire.send(wire.query(f"SELECT pg_sleep({self.rng.choice((0, 0.01, 5))}), '{a}'"))
        if self.rng.random() < 0.7:
            time.sleep(self.rng.random() * 0.02)
        try:
            self.wire.cancel()
        except (OSError, Closed):
            pass
        messages = self.wire.until_ready()
        if not self.errors_of(messages, allowed=("57014",)):
            check(wire.rows(messages)[0][1] == a, f"{messages} instead of {a}")
        self.simple()  # what was cancelled is over: this one is not hit

    def listen(self):
        channel, a = f"soak_{self.name.replace('.', '_')}", self.unique()
        self.ask(f"LISTEN {channel}")
        self.ask(f"NOTIFY {channel}, '{a}'")
        deadline = time.monotonic() + PATIENCE
        while not any(n[2] == a for n in self.wire.notifications):
            check(time.monotonic() < deadline, f"no notification {a}")
            self.simple()
        check(all(n[1] == channel for n in self.wire.notifications), f"{self.wire.notifications}: not all are ours")
        self.wire.notifications.clear()
        self.ask("UNLISTEN *")

    def die(self):
        """Any bytes of ours, cut anywhere, and gone."""
        a = self.unique()
        bits = b"".join(self.rng.choice((
            wire.query(f"SELECT '{a}'"), wire.query("BEGIN"), wire.run("SELECT $1::text", [a]), wire.sync(),
            wire.parse("d", f"SELECT '{a}'"), wire.query("SELECT pg_sleep(0.3)"), wire.query("COPY (SELECT 1) TO STDOUT"),
            wire.query("CREATE TEMP TABLE soak_die (i int)"), wire.query(f"SET search_path = '{a}'"),
            wire.query("SELECT repeat('x', 1000) FROM generate_series(1, 5000)"),
            wire.query("LISTEN soak_dead"), wire.flush())) for _ in range(self.rng.randrange(1, 6)))
        self.wire.send(bits[:self.rng.randrange(len(bits) + 1)])
        time.sleep(self.rng.choice((0, 0, 0.01, 0.1)))
        raise Leave

    ACTIONS = {simple: 20, several_statements: 4, large: 3, many_rows: 4, error: 5, transaction: 12, setting: 5, still_set: 5,
               extended: 10, pipeline: 6, prepared: 20, forget_prepared: 4, portal: 3, copy_in: 3, copy_out: 3, cancel: 4,
               listen: 2, die: 2}

    def act(self):
        action = self.rng.choices(list(self.ACTIONS), list(self.ACTIONS.values()))[0]
        try:
            action(self)
        except (Closed, OSError) as e:
            if isinstance(e, TimeoutError):
                raise Deadline(str(e)) from None
            raise Lost(f"closed: {e}") from None
        return "wire." + action.__name__

    def leave(self):
        if self.rng.random() < 0.5:
            self.wire.abort()
        else:
            self.wire.close()


class Leave(Exception):
    """The client goes, in the middle of what it did."""


# ---------------------------------------------------------------- clients that use a driver

class DriverClient:
    def __init__(self, address, rng, name):
        self.rng = rng
        self.name = name
        self.count = 0
        self.db = psycopg.connect(host=address[0], port=address[1], user="app", dbname="app", autocommit=True,
                                  connect_timeout=PATIENCE, prepare_threshold=rng.choice((0, 1, 5, None)))

    def unique(self):
        self.count += 1
        return f"{self.name}.{self.count}"

    def parameter(self):
        a, text = self.unique(), f"text {self.rng.randrange(15)}"
        got = self.db.execute(f"SELECT %s::text, '{text}'", [a]).fetchone()
        check(got == (a, text), f"{got} instead of {a}, {text}")

    def block(self):
        a = self.unique()
        try:
            with self.db.transaction():
                self.db.execute("SELECT set_config('soak.driver', %s, true)", [a])
                got = self.db.execute("SELECT current_setting('soak.driver')").fetchone()[0]
                check(got == a, f"{got} instead of {a}")
                if self.rng.random() < 0.3:
                    raise psycopg.Rollback
        except psycopg.Rollback:  # it went through, where the rollback itself failed
            raise Lost("rollback") from None

    def piped(self):
        if not psycopg.Pipeline.is_supported():
            return
        names = [self.unique() for _ in range(8)]
        with self.db.pipeline():
            cursors = [self.db.execute("SELECT %s::text", [n]) for n in names]
            got = [c.fetchone()[0] for c in cursors]
        check(got == names, f"{got} instead of {names}")

    def copied(self):
        a = self.unique()
        with self.db.cursor() as cursor, cursor.copy("COPY (SELECT %s || i FROM generate_series(1, 50) i) TO STDOUT",
                                                     [a]) as copy:
            got = [row[0] for row in copy.rows()]
        check(got == [f"{a}{i}" for i in range(1, 51)], f"{got[:3]} instead of {a}")

    ACTIONS = {parameter: 10, block: 5, piped: 3, copied: 2}

    def act(self):
        action = self.rng.choices(list(self.ACTIONS), list(self.ACTIONS.values()))[0]
        try:
            action(self)
        except psycopg.Error as e:
            if e.sqlstate in LOST or (e.sqlstate is None and self.db.closed) or \
                    (e.sqlstate is None and isinstance(e, psycopg.OperationalError)):
                raise Lost(str(e)) from None
            raise Wrong(f"{action.__name__}: {e.sqlstate} {e}") from e
        return "driver." + action.__name__

    def leave(self):
        if self.rng.random() < 0.2 and not self.db.closed:
            with socket.socket(fileno=os.dup(self.db.fileno())) as s:
                s.shutdown(socket.SHUT_RDWR)
        self.db.close()


# ---------------------------------------------------------------- the run

class Soak:
    def __init__(self, args, proxy, postgres):
        self.args = args
        self.proxy = proxy
        self.postgres = postgres
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.done = collections.Counter()
        self.wrong = []

    def count(self, what):
        with self.lock:
            self.done[what] += 1

    def found(self, who, e):
        with self.lock:
            self.wrong.append(f"{who}: {type(e).__name__}: {str(e)[:500]}")
            if len(self.wrong) <= 3:
                print(f"{who}:\n{''.join(traceback.format_exception(e))[-3000:]}", flush=True)
            if len(self.wrong) >= 20:
                self.stop.set()

    def cut_login(self, rng):
        """A connection that ends somewhere in its first packets."""
        packet = wire.startup_packet({"user": "app", "database": "app"}) + wire.query("SELECT 1")
        with socket.create_connection(self.proxy.address, PATIENCE) as s:
            s.sendall(packet[:rng.randrange(len(packet))])

    def live(self, rng, name):
        """One connection from its beginning to its end."""
        if rng.random() < 0.03:
            self.cut_login(rng)
            self.count("cut logins")
            return
        client = None
        try:
            client = (DriverClient if rng.random() < 0.25 else WireClient)(self.proxy.address, rng, name)
            for _ in range(rng.choice((1, 3, 10, 40))):
                if self.stop.is_set():
                    break
                self.count(client.act())
        except ServerError as e:  # while logging in
            if e.code not in LOST:
                raise Wrong(f"login: {e}") from e
            raise Lost(e.code) from None
        except psycopg.Error as e:
            raise Lost(str(e)) from None
        finally:
            if client:
                client.leave()

    def client(self, index):
        rng = random.Random(f"{self.args.seed}/{index}")
        life = 0
        while not self.stop.is_set():
            life += 1
            try:
                self.live(rng, f"c{index}.{life}")
                self.count("lives")
            except Leave:
                self.count("left in the middle")
            except (Lost, Closed, ConnectionError):
                self.count("lost to a fault")
                time.sleep(0.02)
            except (Wrong, AssertionError) as e:
                self.found(f"client {index}, life {life}", e)
            except Exception as e:  # noqa: BLE001
                self.found(f"client {index}, life {life} (unexpected)", e)

    def faults(self):
        rng = random.Random(f"{self.args.seed}/faults")
        restart_at = time.monotonic() + min(20, self.args.seconds / 2)
        while not self.stop.wait(rng.random()):
            try:
                if time.monotonic() > restart_at:
                    restart_at = time.monotonic() + 15 + 15 * rng.random()
                    self.postgres.restart("immediate")
                    self.count("server crashes")
                    continue
                victims = sorted(self.postgres.backends("usename = 'app'"))
                for pid in rng.sample(victims, min(len(victims), rng.choice((1, 1, 1, 3)))):
                    self.postgres.sql("SELECT pg_terminate_backend(%s)", [pid])
                    self.count("killed backends")
            except psycopg.Error:
                pass  # our own connection, at a bad time

    def run(self):
        threads = [threading.Thread(target=self.client, args=(i,), daemon=True) for i in range(self.args.clients)]
        threads.append(threading.Thread(target=self.faults, daemon=True))
        for t in threads:
            t.start()
        deadline = time.monotonic() + self.args.seconds
        while time.monotonic() < deadline and not self.stop.wait(0.5):
            if self.proxy.process.poll() is not None:
                break
        self.stop.set()
        for t in threads:
            t.join(PATIENCE + 20)
        check(not any(t.is_alive() for t in threads), "some clients still wait")


# ---------------------------------------------------------------- what must be true afterwards

def warm_up(proxy):
    for _ in range(20):
        after.still_serves(proxy)


def soak(args, results):
    template = Template(args.pg_bin)
    postgres = Postgres(template)
    proxy = None
    try:
        postgres.start()
        proxy = Proxy(args.binary, postgres, {**CONFIG, "proxy": {**CONFIG["proxy"], "workers": args.workers}},
                      clock=False).start()
        warm_up(proxy)
        before = proxy.descriptors(), proxy.rss()
        run = Soak(args, proxy, postgres)
        results.check("all clients end", run.run)
        print("; ".join(f"{n} {what}" for what, n in sorted(run.done.items())))
        for text in run.wrong:
            print("WRONG", text)
        results.check("every answer was the client's own, or a clean error", lambda: check(not run.wrong,
                                                                                           f"{len(run.wrong)} were not"))
        results.check("every kind of action was done", lambda: every_action(run))
        after.all_is_well(results, proxy, postgres, LINKS, before)
        if results.failed or args.keep:
            after.keep_log(proxy, args.seed)
    finally:
        if proxy:
            try:
                proxy.remove()
            except (AssertionError, SanitizerReport):
                pass  # told already
        postgres.remove()
        template.remove()


def every_action(run):
    """In a run of few actions, short or on a slow machine, chance may leave some out."""
    names = [f"wire.{a.__name__}" for a in WireClient.ACTIONS if a is not WireClient.die]
    missing = [n for n in names if not run.done[n]]
    check(sum(run.done.values()) < 2000 or not missing, f"never done: {missing}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--pg-bin", default=os.environ.get("HELIOS_PG_BIN", DEFAULT_BIN))
    parser.add_argument("--keep", action="store_true", help="keep the proxy's log also when all went well")
    args = parser.parse_args()
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(1 << 30)
    args.binary = os.path.abspath(args.binary)
    print(f"seed {args.seed}, {args.seconds:g} s, {args.clients} clients, {args.workers} workers", flush=True)
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # what it could not roll back after a fault
    results = after.Results()
    results.check("the run", lambda: soak(args, results))
    print(f"seed {args.seed}")
    return results.last_line()


if __name__ == "__main__":
    sys.exit(main())
