"""
PostgreSQL's own regression tests: each statement runs on a primary; what is called a read then runs on its standby, too,
as soon as that has replayed as much. None may fail there because it is a standby.
"""

import collections
import json
import os
import pathlib
import re
import subprocess

import psycopg
import pytest

from conftest import REPOSITORY
from harness import Postgres, wait_until
from test_routing import ACCESS, ON_A_STANDBY

# What calls most kinds of functions, in an order in which they find what they need.
SHORT = ["test_setup", "select", "select_distinct_on", "subselect", "join", "with", "aggregates", "sequence",
         "window", "rangefuncs", "tsrf", "plpgsql", "prepare", "copyselect", "portals", "transactions", "txid",
         "advisory_lock", "privileges", "rowsecurity", "temp"]

pytestmark = pytest.mark.skipif(not os.access(ACCESS, os.X_OK), reason=f"{ACCESS} was not built")


def files_of(folder):
    """All names, in the order of the schedule."""
    schedule = (pathlib.Path(folder) / "parallel_schedule").read_text()
    return [name for line in re.findall(r"^test: (.*)$", schedule, re.M) for name in line.split()]


def regress_folder(cached):
    command = [REPOSITORY / "scripts/get-regress", *(["--cached"] if cached else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        pytest.skip(f"scripts/get-regress {'--cached ' if cached else ''}found nothing: {done.stderr[-300:]}")
    return done.stdout.strip()


class Understander:
    """test/tools/access, asked again when the schema has changed."""

    def __init__(self, primary, database, folder):
        self.path = os.path.join(folder, "catalog")
        self.query = subprocess.run([ACCESS, "--catalog-query"], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.db = primary.admin(database)
        self.process = None
        self.plain = subprocess.Popen([ACCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    @staticmethod
    def ask(process, text):
        process.stdin.write(text.encode() + b"\0")
        process.stdin.flush()
        return process.stdout.readline().decode().split()[0]

    def level(self, text):
        without = self.ask(self.plain, text)
        if without in ("follows", "writes"):
            return without  # a catalog makes reads of what is doubtful, and never of these
        if self.process is None:
            with open(self.path, "w", encoding="utf-8") as f:
                f.writelines(f"{kind}\t{name}\n" for kind, name in self.db.execute(self.query).fetchall()
                             if "\n" not in name)
            self.process = subprocess.Popen([ACCESS, self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self.ask(self.process, text)

    def forget(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
        self.process = None

    def close(self):
        self.forget()
        self.plain.stdin.close()
        self.plain.wait()
        self.plain.stdout.close()
        self.db.close()


def split(primary, database, folder, name):
    """The statements that psql sends for that file, by the server's log."""
    before = os.path.getsize(primary.json_log)
    environment = dict(os.environ, PGAPPNAME=f"split {name}", PG_ABS_SRCDIR=folder, PG_LIBDIR="/nowhere",
                       PG_DLSUFFIX=".so", PG_ABS_BUILDDIR=folder)
    subprocess.run(["psql", "-Xq", "-h", primary.root, "-p", str(primary.port), "-U", "postgres", "-d", database, "-v",
                    "HIDE_TABLEAM=on", "-f", f"{folder}/sql/{name}.sql"], env=environment, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=600)
    found = []
    with open(primary.json_log, encoding="utf-8", errors="replace") as f:
        f.seek(before)
        for line in f:
            entry = json.loads(line)
            message = entry.get("message", "")
            if entry.get("application_name") == f"split {name}" and message.startswith("statement: "):
                found.append(message[len("statement: "):])
    return found


def execute(db, text):
    """As psql would, but that there is no data for COPY FROM STDIN. The SQLSTATE, or None."""
    result, state = db.exec_(text.encode()), None
    while result:  # one text may have several COPYs in it
        state = state or result.error_field(psycopg.pq.DiagnosticField.SQLSTATE)
        if result.status == psycopg.pq.ExecStatus.COPY_IN:
            db.put_copy_end(b"no data here")
        elif result.status == psycopg.pq.ExecStatus.COPY_OUT:
            while db.get_copy_data(0)[0] > 0:
                pass
        result = db.get_result()
    return state.decode() if state else None


def replayed(primary, standby):
    lsn = primary.execute("SELECT pg_current_wal_lsn()").fetchone()[0]

    def where_it_is():
        return str(standby.execute("SELECT pid, backend_type, state, wait_event, query, pg_last_wal_receive_lsn(), "
                                   "pg_last_wal_replay_lsn() FROM pg_stat_activity").fetchall()) + f" wanted {lsn}"

    wait_until(lambda: standby.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [lsn]).fetchone()[0],
               timeout=60, message=where_it_is)


# What standbys answer, and primaries don't: unlogged tables and SERIALIZABLE (0A000), "recovery is in progress" (55000).
STANDBYS_OWN = ("0A000", "55000")


def run_file(statements, primary, standby, understander, watch):
    """(reads, those that ran on the standby, [what failed there as on a standby], {SQLSTATE: what only failed there})."""
    reads = ran = 0
    wrong, only_there = [], collections.Counter()
    changed = True
    with primary.admin("twice") as one, standby.admin("twice") as other:
        for db in (one, other):
            db.execute("SET statement_timeout = '20s'")
        one.execute("SET synchronous_commit = on")  # else a commit may not be written yet when its position is asked for
        other.execute("SET lock_timeout = '100ms'")
        for text in statements:
            level = understander.level(text)
            on_primary = execute(one.pgconn, text)
            if one.pgconn.status != psycopg.pq.ConnStatus.OK:
                break
            if level == "reads" and one.pgconn.transaction_status != psycopg.pq.TransactionStatus.INERROR:
                if changed:
                    replayed(*watch)
                    changed = False
                reads += 1
                cursor = re.match(r"\s*DECLARE\b", text, re.I)
                if cursor:
                    other.execute("BEGIN")
                state = execute(other.pgconn, text)
                if other.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    other.execute("ROLLBACK")
                ran += state is None
                if state and not on_primary:
                    only_there[state] += 1
                if state == ON_A_STANDBY or (state in STANDBYS_OWN and not on_primary):
                    wrong.append(text)
            elif level == "follows" and re.match(r"\s*(SET|RESET)\b", text, re.I):
                execute(other.pgconn, text)  # no transaction stays open there: replay would wait for its locks
            elif level != "reads":
                changed = True
                understander.forget()
    return reads, ran, wrong, only_there


def run_files(template, folder, names, tmp_path):
    primary = Postgres(template)
    primary.settings.update(logging_collector="on", log_destination="jsonlog", log_directory=primary.root,
                            log_filename="regress", log_statement="all", log_rotation_age=0, log_rotation_size=0,
                            log_min_messages="log")
    primary.write_settings()
    primary.json_log = os.path.join(primary.root, "regress.json")
    total_reads = total_ran = 0
    wrong, only_there = [], collections.Counter()
    try:
        primary.start()
        for database in ("split", "twice"):
            primary.sql(f"CREATE DATABASE {database}")
        standby = primary.standby(logging_collector="off", log_destination="stderr", log_statement="none")
        understander = Understander(primary, "twice", tmp_path)
        try:
            with primary.admin() as first, standby.admin() as second:
                for name in names:
                    if name == "tablespace" or not os.path.exists(f"{folder}/sql/{name}.sql"):
                        continue  # of two servers on one machine
                    statements = split(primary, "split", folder, name)
                    understander.forget()
                    reads, ran, bad, differ = run_file(statements, primary, standby, understander, (first, second))
                    print(f"{name}: {len(statements)} statements, {reads} reads, {ran} ran on the standby; "
                          f"failed only there: {dict(differ)}; refused: {bad}")
                    only_there += differ
                    total_reads, total_ran = total_reads + reads, total_ran + ran
                    wrong += [(name, text) for text in bad]
        finally:
            understander.close()
    finally:
        primary.remove()
    print(f"together: {total_reads} reads, {total_ran} of them ran on the standby, {len(wrong)} were refused; "
          f"failed only there: {dict(only_there)}")
    assert not wrong
    return total_ran


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_some_regression_files(template, tmp_path):
    if template.version != 15:
        pytest.skip("the files are of PostgreSQL 15")
    assert run_files(template, regress_folder(cached=False), SHORT, tmp_path) > 500


@pytest.mark.timeout(3600)
@pytest.mark.slow
def test_all_regression_files(template, tmp_path):
    if template.version != 15:
        pytest.skip("the files are of PostgreSQL 15")
    folder = regress_folder(cached=False)
    assert run_files(template, folder, files_of(folder), tmp_path) > 5000
