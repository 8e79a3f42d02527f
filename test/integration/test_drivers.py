"""Real clients: psycopg with pipelines and server-side cursors, asyncpg, psql, pgbench, pg_dump."""

import asyncio
import os
import subprocess
import threading

import asyncpg
import psycopg
import pytest
from harness.postgres import DEFAULT_BIN

BIN = os.environ.get("HELIOS_PG_CLIENT_BIN", DEFAULT_BIN)


def program(target, name, *arguments, database="app", user="app", text=None):
    host, port = target.address
    done = subprocess.run([os.path.join(BIN, name), "-h", host, "-p", str(port), "-U", user, *arguments],
                          input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=100,
                          env=dict(os.environ, PGDATABASE=database, PGCONNECT_TIMEOUT="20"), check=False)
    assert done.returncode == 0, f"{name}: {done.stderr[-3000:]}"
    return done.stdout


# ---------------------------------------------------------------- psycopg

@pytest.mark.modes("session", "transaction")
def test_psycopg_transactions(target, table):
    with target.connect(autocommit=False) as db:
        db.execute(f"INSERT INTO {table} VALUES (100, 'a')")
        db.rollback()
        with db.transaction():
            db.execute(f"INSERT INTO {table} VALUES (101, 'b')")
            with pytest.raises(psycopg.errors.UniqueViolation), db.transaction():
                db.execute(f"INSERT INTO {table} VALUES (101, 'c')")
        assert db.execute(f"SELECT id FROM {table} WHERE id >= 100").fetchall() == [(101,)]


def test_psycopg_pipeline(target, table):
    with target.connect(prepare_threshold=0) as db:
        for _ in range(5):
            with db.pipeline():
                cursors = [db.execute(f"SELECT v FROM {table} WHERE id = %s", [i]) for i in range(1, 11)]
            assert [c.fetchone() for c in cursors] == [(f"v{i}",) for i in range(1, 11)]


@pytest.mark.parametrize("depth", [1, 10, 1000])
def test_psycopg_deep_pipeline(target, depth):
    with target.connect() as db:
        with db.pipeline() as pipeline:
            cursors = []
            for i in range(depth):
                cursors.append(db.execute("SELECT %s::int", [i]))
                if i % 7 == 0:
                    pipeline.sync()
        assert [c.fetchone()[0] for c in cursors] == list(range(depth))


def test_psycopg_pipeline_error(target):
    with target.connect() as db:
        with pytest.raises(psycopg.errors.DivisionByZero), db.pipeline():
            db.execute("SELECT 1")
            db.execute("SELECT 1/0")
            db.execute("SELECT 2")
        assert db.execute("SELECT 3").fetchone() == (3,)
        with db.pipeline() as pipeline:
            bad = db.execute("SELECT 1/%s", [0])
            with pytest.raises(psycopg.errors.DivisionByZero):
                pipeline.sync()
                bad.fetchone()
        assert db.execute("SELECT 4").fetchone() == (4,)


@pytest.mark.modes("session", "transaction")
def test_psycopg_server_side_cursor(target):
    with target.connect(autocommit=False) as db:
        with db.cursor(name="c") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT * FROM generate_series(1, 1000)")
            assert [r[0] for r in cursor] == list(range(1, 1001))
        db.commit()


def test_psycopg_hold_cursor(target):
    with target.connect() as db, db.cursor(name="h", withhold=True) as cursor:
        cursor.execute("SELECT * FROM generate_series(1, 1000)")
        assert cursor.fetchone() == (1,)
        db.execute("SELECT 1")
        assert len(cursor.fetchall()) == 999


def test_psycopg_types(target):
    with target.connect() as db:
        for binary in (False, True):
            got = db.execute("SELECT 1::int2, 2.5::numeric, 'x'::text, '\\x00ff'::bytea, '{1,2}'::int[], "
                             "'2020-01-01'::date, true, null", binary=binary).fetchone()
            assert got[2] == "x" and got[3] == b"\x00\xff" and got[4] == [1, 2] and got[7] is None


@pytest.mark.parametrize("rows", [1, 100])
def test_psycopg_executemany(target, table, rows):
    with target.connect() as db, db.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} VALUES (%s, %s)", [(1000 + i, "x") for i in range(rows)])
        assert cursor.execute(f"SELECT count(*) FROM {table}").fetchone() == (10 + rows,)


# ---------------------------------------------------------------- asyncpg

def asyncpg_options(target):
    host, port = target.address
    return {"host": host, "port": port, "user": "app", "database": "app", "timeout": 20, "ssl": False}


def test_asyncpg(target, table):
    async def conversation():
        db = await asyncpg.connect(**asyncpg_options(target))
        for i in range(1, 11):
            assert await db.fetchval(f"SELECT v FROM {table} WHERE id = $1", i) == f"v{i}"
        statement = await db.prepare(f"SELECT id FROM {table} WHERE id > $1 ORDER BY id")
        assert [r["id"] for r in await statement.fetch(7)] == [8, 9, 10]
        await db.executemany(f"INSERT INTO {table} VALUES ($1, $2)", [(i, "x") for i in range(100, 150)])
        with pytest.raises(asyncpg.UniqueViolationError):
            await db.execute(f"INSERT INTO {table} VALUES (1, 'x')")
        assert await db.fetchval(f"SELECT count(*) FROM {table}") == 60
        await db.copy_records_to_table(table, records=[(i, "y") for i in range(200, 300)])
        assert await db.fetchval(f"SELECT count(*) FROM {table}") == 160
        with pytest.raises(asyncpg.exceptions.QueryCanceledError):
            await db.execute("SET statement_timeout = '20ms'; SELECT pg_sleep(10)")
        await db.execute("RESET ALL")
        assert await db.fetch("SELECT $1::int[] AS a", [1, 2, 3]) == [([1, 2, 3],)]
        await db.close()

    asyncio.run(conversation())


@pytest.mark.modes("session", "transaction")
def test_asyncpg_transactions_and_cursors(target, table):
    async def conversation():
        db = await asyncpg.connect(**asyncpg_options(target))
        async with db.transaction():
            cursor = await db.cursor("SELECT * FROM generate_series(1, 100)")
            assert len(await cursor.fetch(10)) == 10 and len(await cursor.fetch(1000)) == 90
            async with db.transaction():
                await db.execute(f"INSERT INTO {table} VALUES (100, 'x')")
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                await db.execute(f"INSERT INTO {table} VALUES (101, 'x')")
                raise ZeroDivisionError
        assert await db.fetchval(f"SELECT count(*) FROM {table}") == 11
        await db.close()

    asyncio.run(conversation())


def test_asyncpg_pool(target, table):
    """Its reset between two users: SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL."""
    async def conversation():
        async with asyncpg.create_pool(**asyncpg_options(target), min_size=2, max_size=8) as pool:
            async def one(i):
                async with pool.acquire() as db:
                    return await db.fetchval("SELECT $1::int + 1", i)

            assert await asyncio.gather(*map(one, range(200))) == list(range(1, 201))

    asyncio.run(conversation())


def test_asyncpg_timeout_cancels(target):
    async def conversation():
        db = await asyncpg.connect(**asyncpg_options(target))
        with pytest.raises(asyncio.TimeoutError):
            await db.execute("SELECT pg_sleep(60)", timeout=0.1)
        assert await db.fetchval("SELECT 1") == 1
        await db.close()

    asyncio.run(conversation())


# ---------------------------------------------------------------- PostgreSQL's own programs

def test_psql(target, table):
    assert program(target, "psql", "-XAtc", f"SELECT count(*) FROM {table}") == "10\n"
    said = program(target, "psql", "-XAt", text=f"\\d {table}\n\\dt {table}\n\\conninfo\nSELECT 1 \\; SELECT 2;\n"
                   f"\\copy {table} to stdout\nSELECT 'SELECT ' || i FROM generate_series(7, 9) i\n\\gexec\n")
    assert "integer" in said and "10\tv10" in said and said.endswith("7\n8\n9\n")


@pytest.mark.modes("session", "transaction")
def test_psql_script(target, name):
    said = program(target, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", text=f"""
BEGIN;
CREATE TABLE {name} (a int);
COPY {name} FROM STDIN;
1
2
\\.
SAVEPOINT s;
ROLLBACK TO s;
COMMIT;
\\set FETCH_COUNT 1
SELECT * FROM {name} ORDER BY 1;
DROP TABLE {name};
""")
    assert said.split() == ["1", "2"]


@pytest.fixture(scope="module")
def bench(postgres):
    postgres.sql("CREATE DATABASE bench OWNER app")
    subprocess.run([os.path.join(BIN, "pgbench"), "-h", postgres.host, "-p", str(postgres.port), "-U", "app", "-i",
                    "-q", "-s", "1", "bench"], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return "bench"


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", ["select-only", "simple-update", "tpcb-like"])
def test_pgbench(target, bench, protocol, script):
    if target.name == "statement" and script != "select-only":
        pytest.skip("has transactions")
    said = program(target, "pgbench", "-n", "-M", protocol, "-b", script, "-c", "10", "-j", "2", "-t", "50", bench)
    assert "number of transactions actually processed: 500/500" in said
    assert "number of failed transactions: 0" in said


def test_pgbench_connects_for_each_transaction(target, bench):
    said = program(target, "pgbench", "-n", "-S", "-C", "-c", "5", "-t", "40", bench)
    assert "number of transactions actually processed: 200/200" in said


@pytest.mark.modes("session", "transaction")
def test_pgbench_pipeline(target, bench, tmp_path):
    script = tmp_path / "pipeline.sql"
    script.write_text("\\set aid random(1, 100000)\n\\startpipeline\nBEGIN;\n"
                      + "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n" * 20 + "COMMIT;\n\\endpipeline\n")
    said = program(target, "pgbench", "-n", "-M", "prepared", "-f", str(script), "-c", "8", "-t", "30", bench)
    assert "number of transactions actually processed: 240/240" in said


def skip_if_newer_than_client(postgres, name):
    """Of these programs a version serves its own server and older ones."""
    version = subprocess.run([os.path.join(BIN, name), "--version"], text=True, stdout=subprocess.PIPE, check=True).stdout
    if postgres.version > int(version.split()[2].split(".")[0]):
        pytest.skip(f"{version.strip()} refuses PostgreSQL {postgres.version}")


@pytest.mark.modes("session", "transaction")
def test_pg_dump_and_restore(target, bench, name):
    """pg_dump's session state (search_path, snapshot, row_security ...) and psql's COPY, through shared links."""
    skip_if_newer_than_client(target.postgres, "pg_dump")
    dump = program(target, "pg_dump", "--no-owner", bench)
    target.postgres.sql(f"CREATE DATABASE {name} OWNER app")
    program(target, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", database=name, text=dump)
    with target.connect(database=name) as db:
        assert db.execute("SELECT count(*) FROM pgbench_accounts").fetchone() == (100000,)
    again = program(target, "pg_dump", "--no-owner", name)
    same = [line for line in again.splitlines() if line.startswith(("CREATE", "ALTER"))]
    assert same == [line for line in dump.splitlines() if line.startswith(("CREATE", "ALTER"))]
    with target.connect(database=bench) as db:
        assert db.execute("SHOW search_path").fetchone() == ('"$user", public',)


def test_pg_basebackup(target, tmp_path):
    skip_if_newer_than_client(target.postgres, "pg_basebackup")
    place = tmp_path / "backup"
    program(target, "pg_basebackup", "-D", str(place), "-X", "stream", "-c", "fast", "--no-sync", user="postgres")
    assert (place / "PG_VERSION").exists()


def test_logical_replication(target, table, name):
    target.postgres.sql(f"CREATE PUBLICATION {name} FOR TABLE {table}", database="app")
    arguments = ["-d", "app", "-S", name, "-P", "test_decoding"]
    program(target, "pg_recvlogical", *arguments, "--create-slot", user="postgres")
    try:
        target.postgres.sql(f"SET synchronous_commit = on; INSERT INTO {table} VALUES (500, 'decoded')", database="app")
        end = target.postgres.value("SELECT pg_current_wal_flush_lsn()")
        said = program(target, "pg_recvlogical", *arguments, "--start", "-f", "-", "--no-loop", "-E", end,
                       user="postgres")
        assert "decoded" in said
    finally:
        target.postgres.sql("SELECT pg_drop_replication_slot(%s)", [name])


def test_many_drivers_at_once(target, table):
    problems = []

    def psycopgs():
        try:
            with target.connect() as db:
                for i in range(50):
                    assert db.execute("SELECT %s::int", [i]).fetchone() == (i,)
        except BaseException as e:  # noqa: BLE001
            problems.append(e)

    def asyncpgs():
        async def conversation():
            db = await asyncpg.connect(**asyncpg_options(target))
            for i in range(50):
                assert await db.fetchval("SELECT $1::int", i) == i
            await db.close()
        try:
            asyncio.run(conversation())
        except BaseException as e:  # noqa: BLE001
            problems.append(e)

    threads = [threading.Thread(target=t) for t in [psycopgs, asyncpgs] * 8]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems
