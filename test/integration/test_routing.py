"""
What is called a read, on a real standby: nothing of it may fail because it is one. Nothing routes yet, so that the program
test/tools/access is asked, and not the proxy.
"""

import ast
import os
import pathlib
import re
import subprocess

import psycopg
import pytest

from conftest import BINARY, REPOSITORY
from harness import wait_until

ACCESS = pathlib.Path(BINARY).parents[2] / "test/tools/access"
CASES = REPOSITORY / "src/sql/access_cases.def"
ON_A_STANDBY = "25006"

pytestmark = [pytest.mark.matrix,
              pytest.mark.skipif(not os.access(ACCESS, os.X_OK), reason=f"{ACCESS} was not built")]

# The objects of access_cases.def.
SCHEMA = """
CREATE TABLE t (a int, b text, c numeric, d timestamptz, j jsonb);
CREATE TABLE u (a int, b text);
CREATE TABLE words (version int, over int, filter int, by int, zone int);
CREATE SCHEMA s;
CREATE TABLE s.t (a int);
CREATE SEQUENCE s1;
INSERT INTO t SELECT i, 'b' || i, i, now(), '{"a": 1}' FROM generate_series(1, 10) i;
INSERT INTO u SELECT i, 'b' || i FROM generate_series(1, 10) i;
CREATE FUNCTION f_stable(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION f_volatile(int) RETURNS int LANGUAGE sql AS 'INSERT INTO u (a) VALUES ($1) RETURNING a';
CREATE FUNCTION f_text(text) RETURNS text LANGUAGE sql AS 'INSERT INTO u (b) VALUES ($1) RETURNING b';
CREATE FUNCTION f_both(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION f_both(text) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION f_row(t) RETURNS int LANGUAGE sql AS 'INSERT INTO u (a) VALUES ($1.a) RETURNING a';
CREATE FUNCTION initcap(int) RETURNS int LANGUAGE sql AS 'INSERT INTO u (a) VALUES ($1) RETURNING a';
CREATE FUNCTION over(int) RETURNS int LANGUAGE sql AS 'INSERT INTO u (a) VALUES ($1) RETURNING a';
CREATE FUNCTION f_two(int, int) RETURNS int LANGUAGE sql AS 'INSERT INTO u (a) VALUES ($1 + $2) RETURNING a';
CREATE FUNCTION f_plus(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + $2';
CREATE AGGREGATE agg_reads (int) (sfunc = f_plus, stype = int, initcond = '0');
CREATE AGGREGATE agg_writes (int) (sfunc = f_two, stype = int, initcond = '0');
CREATE OPERATOR ### (procedure = f_two, leftarg = int, rightarg = int);
CREATE OPERATOR <+> (procedure = f_plus, leftarg = int, rightarg = int);
CREATE DOMAIN dom_reads AS int CHECK (f_stable(VALUE) > 0);
CREATE DOMAIN dom_writes AS int CHECK (f_volatile(VALUE) > 0);
CREATE TYPE cast_writes AS (a text);
CREATE FUNCTION f_cast(int) RETURNS cast_writes LANGUAGE sql AS
    'INSERT INTO u (a) VALUES ($1) RETURNING ROW(a::text)::cast_writes';
CREATE CAST (int AS cast_writes) WITH FUNCTION f_cast(int) AS IMPLICIT;
CREATE TABLE with_cast (a cast_writes);
CREATE VIEW v_plain AS SELECT a, lower(b) AS b FROM t WHERE f_stable(a) > 0;
CREATE VIEW v_writes AS SELECT nextval('s1') AS n;
CREATE VIEW v_deep AS SELECT 1 AS one FROM (SELECT * FROM v_writes) x;
CREATE VIEW v_volatile AS SELECT f_volatile(1) AS a;
CREATE VIEW v_lock AS SELECT a FROM t FOR UPDATE;
CREATE VIEW v_operator AS SELECT a ### 1 AS a FROM t;
CREATE VIEW v_aggregate AS SELECT agg_writes(a) AS a FROM t;
CREATE VIEW v_xid AS SELECT txid_current() AS x;
CREATE VIEW v_schema AS SELECT current_schema AS x;
CREATE VIEW v_schemas AS SELECT current_schema() AS x, current_schemas(true) AS y;
CREATE MATERIALIZED VIEW m_plain AS SELECT nextval('s1') AS n;
CREATE TABLE with_policy (a int);
ALTER TABLE with_policy ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON with_policy USING (f_volatile(a) > 0);
GRANT SELECT ON with_policy TO PUBLIC;
CREATE UNLOGGED TABLE unlogged (a int);
CREATE VIEW v_unlogged AS SELECT * FROM unlogged;
CREATE TABLE parted (a int) PARTITION BY LIST (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_unlogged (a int) PARTITION BY LIST (a);
CREATE UNLOGGED TABLE parted_unlogged_1 PARTITION OF parted_unlogged FOR VALUES IN (1);
"""


def cases():
    found = re.findall(r'^CASE\((\w+), (\w+), ("(?:[^"\\]|\\.)*")\)$', CASES.read_text(), re.M)
    return [(level.lower(), reason.lower(), ast.literal_eval(text)) for level, reason, text in found]


def catalog_of(server, database, folder):
    """A file with what catalog_query says of that database."""
    query = subprocess.run([ACCESS, "--catalog-query"], stdout=subprocess.PIPE, text=True, check=True).stdout
    path = os.path.join(folder, f"catalog-{database}")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(f"{kind}\t{name}\n" for kind, name in server.sql(query, database=database))
    return path


def levels(texts, catalog):
    """(level, reason) of each."""
    done = subprocess.run([ACCESS, catalog], input="".join(t + "\0" for t in texts), stdout=subprocess.PIPE, text=True,
                          check=True)
    return [tuple(line.split()) for line in done.stdout.splitlines()]


def wait_for_replay(primary, standby):
    lsn = primary.value("SELECT pg_current_wal_lsn()")
    wait_until(lambda: standby.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [lsn]))


def run(db, text):
    """The SQLSTATE it fails with, or None. Whatever it is, the connection is as before."""
    try:
        if re.match(r"\s*COPY\b", text, re.I):
            with db.cursor() as cursor, cursor.copy(text) as copy:
                for _ in copy:
                    pass
        else:
            db.pgconn.exec_(b"BEGIN" if text.startswith("DECLARE") else b"SELECT")
            result = db.pgconn.exec_(text.encode())
            if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
                return result.error_field(psycopg.pq.DiagnosticField.SQLSTATE).decode()
    except psycopg.Error as e:
        return e.sqlstate
    finally:
        db.pgconn.exec_(b"ROLLBACK")
    return None


@pytest.fixture(scope="module")
def pair(template):
    from harness import Postgres
    primary = Postgres(template)
    try:
        primary.start()
        with primary.admin("app") as db:
            db.execute(SCHEMA)
        standby = primary.standby()
        wait_for_replay(primary, standby)
        yield primary, standby
    finally:
        primary.remove()


def test_cases_are_understood_with_a_real_catalog(pair, tmp_path):
    primary, _ = pair
    all_cases = cases()
    got = levels([text for _, _, text in all_cases], catalog_of(primary, "app", tmp_path))
    wrong = [(text, *found) for (level, reason, text), found in zip(all_cases, got) if found != (level, reason)]
    assert len(all_cases) >= 300 and len(got) == len(all_cases)
    assert not wrong


def test_reads_run_on_a_standby(pair):
    _, standby = pair
    ran = 0
    with standby.admin("app") as db:
        assert run(db, "SELECT nextval('s1')") == ON_A_STANDBY
        for level, _, text in cases():
            if level == "reads":
                state = run(db, text)
                assert state != ON_A_STANDBY and state != "0A000", text
                ran += state is None
    assert ran > 100


def test_what_follows_runs_on_a_standby(pair):
    """None of these may make a standby refuse: a transaction that has begun there goes on with them."""
    _, standby = pair
    with standby.admin("app") as db:
        for level, _, text in cases():
            if level == "follows":
                assert run(db, text) != ON_A_STANDBY, text


def test_what_the_catalog_hides_does_write(pair):
    """The cases are worth their name: what they hide is refused by the standby."""
    _, standby = pair
    with standby.admin("app") as db:
        for view in ("v_writes", "v_deep", "v_volatile", "v_lock", "v_operator", "v_aggregate", "v_xid"):
            assert run(db, f"SELECT * FROM {view}") == ON_A_STANDBY, view
        for text in ("SELECT 1 ### 2", "SELECT t.f_row FROM t", "SELECT (1).f_volatile",
                     "SELECT ('s1'::regclass).nextval", "SELECT x.nextval FROM unnest(ARRAY['s1'::regclass]) x",
                     "SELECT agg_writes(a) FROM t", "SELECT '1'::dom_writes",
                     "SELECT 1::cast_writes", "SELECT initcap(1)", "SELECT DISTINCT ON (a) over(a) FROM t"):
            assert run(db, text) == ON_A_STANDBY, text
        assert run(db, "SELECT * FROM unlogged") == "0A000"
        db.execute("SET search_path = pg_temp, public")  # the schema of temporary objects is made when somebody asks
        for text in ("SELECT * FROM v_schema", "SELECT x FROM v_schemas", "SELECT y FROM v_schemas",
                     "SELECT current_schema", "SELECT pg_catalog.current_schemas(true)"):
            assert run(db, text) == ON_A_STANDBY, text


def test_built_in_functions_are_not_volatile(pair):
    """The built-in tables, against what this server says."""
    primary, _ = pair
    harmless, wrong = set(), []
    text = (REPOSITORY / "src/sql/read_functions.def").read_text() + (REPOSITORY / "src/sql/pure_functions.def").read_text()
    names = re.findall(r'^(FUNCTION|HARMLESS|WORD)\("(\w+)"\)', text, re.M)
    harmless = {name for kind, name in names if kind == "HARMLESS"}
    volatile = {name for (name,) in primary.sql("SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v' "
                                               "AND pronamespace = 'pg_catalog'::regnamespace")}
    wrong = {name for _, name in names} & volatile - harmless
    assert not wrong


def test_volatile_functions_of_one_argument_are_known(pair):
    """What may be called as x.f must be in a table by its name: no parenthesis tells."""
    primary, _ = pair
    folder = REPOSITORY / "src/sql"
    known = set(re.findall(r'"(\w+)"', "".join((folder / f).read_text() for f in (
        "node_names.def", "keywords.def", "read_functions.def"))))
    found = primary.sql("SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace "
                        "AND provolatile = 'v' AND prokind = 'f' AND pronargs >= 1 AND pronargs - pronargdefaults <= 1 "
                        "AND NOT 'internal'::regtype = ANY (proargtypes) "
                        r"AND proname NOT LIKE 'pg\_stat%' AND proname NOT LIKE 'binary\_upgrade%'")
    assert {name for (name,) in found} - known == {"amvalidate", "plpgsql_validator"}


def test_any_role_can_read_the_catalog(pair, tmp_path):
    primary, _ = pair
    query = subprocess.run([ACCESS, "--catalog-query"], stdout=subprocess.PIPE, text=True, check=True).stdout
    with psycopg.connect(host=primary.host, port=primary.port, user="app", dbname="app", autocommit=True) as db:
        mine = set(db.execute(query).fetchall())
    assert mine == set(primary.sql(query, database="app"))
    assert ("name writes", "v_deep") in mine and ("function reads", "f_stable") in mine
