"""POST /api/v1/sql: one statement over the admin API, run as a client would."""

import json
import socket
import time

import pytest
from harness import Later, wait_until
from harness.cluster import split_proxy, wait_split

from test_split import cluster  # noqa: F401

ME = {"user": "app", "database": "app"}


def config(mode="transaction", admin=None, **more):
    return {"pool": {"mode": mode, "max_connections": 5}, "admin": admin or {}, **more}


def post(proxy, body, path="/api/v1/sql", token=None):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, text = proxy.admin(path, "POST", token=token, body=raw)
    return status, json.loads(text)


def run(proxy, query, **more):
    return post(proxy, {"query": query, **ME, **more})


def fine(proxy, query, **more):
    status, answer = run(proxy, query, **more)
    assert status == 200, answer
    return answer


def refused(proxy, query, status, code, **more):
    got, answer = run(proxy, query, **more)
    assert (got, answer.get("code"), answer.get("status")) == (status, code, status), answer
    return answer


# ---------------------------------------------------------------- results

@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_result(make_proxy, mode):
    proxy = make_proxy(config(mode))
    answer = fine(proxy, "SELECT 1 AS one, 'größer'::text AS t, NULL AS n, ARRAY[1,2], now() AS at")
    assert answer["columns"] == [{"name": "one", "type": "integer"}, {"name": "t", "type": "text"},
                                 {"name": "n", "type": "text"}, {"name": "array", "type": "integer[]"},
                                 {"name": "at", "type": "timestamp with time zone"}]
    assert [row[:4] for row in answer["rows"]] == [["1", "größer", None, "{1,2}"]]
    assert answer["row_count"] == 1 and answer["command"] == "SELECT 1" and not answer["truncated"]
    assert answer["elapsed_ms"] >= 0 and answer["notices"] == [] and answer["read_only"]
    assert answer["node"] == proxy.json("/api/v1/nodes")["items"][0]["name"] and answer["node_role"] == "primary"


def test_statements_without_rows_and_without_columns(sql_proxy):
    proxy = sql_proxy
    answer = fine(proxy, "SELECT 1 AS x WHERE false")
    assert answer["columns"] == [{"name": "x", "type": "integer"}] and answer["rows"] == []
    answer = fine(proxy, "SELECT")
    assert answer["columns"] == [] and answer["rows"] == [[]] and answer["command"] == "SELECT 1"
    answer = fine(proxy, "SET work_mem = '5MB'")
    assert answer["rows"] == [] and answer["command"] == "SET"
    assert fine(proxy, "SHOW application_name")["rows"] == [["heliosdb-proxy admin"]]
    assert fine(proxy, "EXPLAIN SELECT 1")["columns"] == [{"name": "QUERY PLAN", "type": "text"}]


def test_types_of_ones_own_have_names(sql_proxy, postgres, name):
    kind = name
    postgres.sql(f"CREATE TYPE {kind} AS ENUM ('a')", database="app")
    answer = fine(sql_proxy, f"SELECT 'a'::{kind} AS own, 1 AS one, ARRAY['a'::{kind}] AS many")
    assert [c["type"] for c in answer["columns"]] == [kind, "integer", kind + "[]"]


def test_notices(sql_proxy):
    proxy = sql_proxy
    answer = fine(proxy, "DO $$ BEGIN RAISE NOTICE 'hello %', 'there'; RAISE WARNING 'careful'; END $$")
    assert answer["notices"] == ["NOTICE: hello there", "WARNING: careful"] and answer["command"] == "DO"
    answer = fine(proxy, "DO $$ BEGIN FOR i IN 1..1000 LOOP RAISE NOTICE '%', i; END LOOP; END $$")
    assert len(answer["notices"]) == 50


def test_errors_are_told_as_postgresql_tells_them(sql_proxy):
    proxy = sql_proxy
    answer = refused(proxy, "SELECT 1, nothing_such FROM pg_class", 422, "sql_error")
    assert answer["sqlstate"] == "42703" and answer["position"] == 11 and answer["severity"] == "ERROR"
    assert answer["message"] == answer["detail"] == 'column "nothing_such" does not exist'
    answer = refused(proxy, "SELECT upper(1)", 422, "sql_error")
    assert "explicit type casts" in answer["hint"]
    assert fine(proxy, "SELECT 'still'")["rows"] == [["still"]]


def test_rows_and_bytes_have_limits(make_proxy):
    proxy = make_proxy(config(admin={"sql_result_bytes": "100kB", "sql_max_rows": 10}))
    answer = fine(proxy, "SELECT i FROM generate_series(1, 10) i")
    assert answer["row_count"] == 10 and not answer["truncated"] and answer["command"] == "SELECT 10"
    answer = fine(proxy, "SELECT generate_series(1, 1000000000) i")
    assert answer["row_count"] == 10 and answer["truncated"] and answer["rows"][9] == ["10"] and answer["node"]
    answer = fine(proxy, "SELECT i FROM generate_series(1, 20) i", max_rows=3)
    assert answer["row_count"] == 3 and answer["truncated"]
    answer = fine(proxy, "SELECT repeat('x', 1000) FROM generate_series(1, 10000)", max_rows=100000)
    assert 90 <= answer["row_count"] <= 102 and answer["truncated"]
    assert fine(proxy, "SELECT 'next'")["rows"] == [["next"]]


def test_a_huge_row_is_refused_and_memory_stays_bounded(make_proxy):
    proxy = make_proxy(config())
    fine(proxy, "SELECT repeat('x', 1000000)")
    before = proxy.rss()
    for _ in range(2):
        refused(proxy, "SELECT repeat('x', 100000000)", 422, "row_too_large")
        assert fine(proxy, "SELECT sum(length(repeat('x', 100000))) FROM generate_series(1, 100)")
    answer = fine(proxy, "SELECT repeat('x', 10000) FROM generate_series(1, 50000)", max_rows=100000)
    assert answer["truncated"]
    if proxy.measures_memory:
        assert proxy.rss() - before < 64 << 20
    wait_until(lambda: proxy.sessions() == [])


def test_what_is_a_huge_row_does_not_depend_on_how_it_is_read(make_proxy, postgres, name):
    """Of a row that is a little too large most comes with the last piece, or all of it with one: nothing is committed."""
    proxy = make_proxy(config(admin={"sql_result_bytes": "100kB", "sql_allow_writes": True}))
    fine(proxy, f"CREATE TABLE {name} (i int)", allow_writes=True)
    most = (100 << 10) + (1 << 20) - 6  # what is around a row and its value counts
    insert = f"INSERT INTO {name} VALUES (1) RETURNING repeat('x', {{}})"
    for query, more in ("SELECT repeat('x', {})", {}), (insert, {"allow_writes": True}):
        answer = fine(proxy, query.format(most), **more)
        assert answer["truncated"] and answer["row_count"] == 0
        refused(proxy, query.format(most + 1), 422, "row_too_large", **more)
    assert postgres.sql(f"SELECT count(*) FROM {name}", database="app") == [(1,)]
    # of many none is too large, however many of them are read at a time after one that made room for that
    answer = fine(proxy, f"INSERT INTO {name} SELECT i FROM generate_series(1, 40000) i RETURNING "
                  f"repeat('x', CASE i WHEN 1 THEN {most} ELSE 500 END)", allow_writes=True)
    assert answer["truncated"] and answer["command"] == "INSERT 0 40000"
    # once there is enough, what else would have come is not looked at
    answer = fine(proxy, f"SELECT repeat('x', CASE WHEN i < 3 THEN 1 ELSE {2 * most} END) FROM generate_series(1, 9) i",
                  max_rows=1)
    assert answer["truncated"] and answer["rows"] == [["x"]]


# ---------------------------------------------------------------- what must not be

WRITES = [
    "CREATE TABLE {t} (i int)",
    "SELECT 1 INTO {t}",
    "DO $$ BEGIN CREATE TABLE {t} (i int); END $$",
    "DO $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; CREATE TABLE {t} (i int); END $$",
    "DO $$ BEGIN SET LOCAL transaction_read_only = off; CREATE TABLE {t} (i int); END $$",
    "DO $$ BEGIN ROLLBACK; SET default_transaction_read_only = off; COMMIT; CREATE TABLE {t} (i int); END $$",
    "WITH x AS (SELECT set_config('transaction_read_only', 'off', false)) SELECT * INTO {t} FROM x",
    "EXPLAIN ANALYZE CREATE TABLE {t} AS SELECT 1",
    "SELECT lo_from_bytea(0, 'x'), set_config('transaction_read_only', 'off', true)",
]
SEVERAL = [
    "COMMIT; CREATE TABLE {t} (i int)",
    "SELECT 1; CREATE TABLE {t} (i int)",
    "SET TRANSACTION READ WRITE; CREATE TABLE {t} (i int)",
    "SELECT 1; COMMIT; DROP TABLE {t}",
    "/* ; */ SELECT ';'; ROLLBACK; BEGIN READ WRITE; CREATE TABLE {t} (i int); COMMIT",
]


def exists(postgres, table):
    return postgres.sql("SELECT to_regclass(%s)", [table], database="app")[0][0] is not None


@pytest.mark.parametrize("allowed", [False, True])
def test_nothing_is_written_by_a_transaction_that_is_read_only(make_proxy, postgres, name, allowed):
    proxy = make_proxy(config(admin={"sql_allow_writes": allowed}))
    table = name
    for query in WRITES:
        status, answer = run(proxy, query.format(t=table))
        if not query.startswith("EXPLAIN ANALYZE"):  # PostgreSQL lets that, which is why it is rolled back
            assert status == 422 and answer["code"] == "sql_error", (query, answer)
            assert answer["sqlstate"] in ("25006", "25001", "2D000"), (query, answer)
        assert not exists(postgres, table), query
    for query in SEVERAL:
        status, answer = run(proxy, query.format(t=table))
        assert status == 422, (query, answer)
        assert answer.get("sqlstate") == "42601" or answer["code"] == "transaction_refused", (query, answer)
        assert not exists(postgres, table), query


@pytest.mark.parametrize("query", ["BEGIN", "COMMIT", " /* x */ END", "ROLLBACK AND CHAIN", "; ;COMMIT AND CHAIN", "ABORT",
                                   "SAVEPOINT a", "-- x\nPREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'",
                                   "START TRANSACTION READ WRITE"])
def test_its_transaction_is_its_own(sql_proxy, query):
    refused(sql_proxy, query, 422, "transaction_refused")


def test_a_statement_alone_that_makes_its_transaction_writable_helps_nobody(sql_proxy, name):
    proxy = sql_proxy
    for query in ("SET TRANSACTION READ WRITE", "SET default_transaction_read_only = off",
                  "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"):
        fine(proxy, query)
        assert run(proxy, f"CREATE TABLE {name} (i int)")[1]["sqlstate"] == "25006"


def test_no_copy(make_proxy):
    proxy = make_proxy(config(admin={"sql_allow_writes": True}))
    for query in "COPY pg_class TO STDOUT", "COPY x FROM STDIN", "; /* */ copy (SELECT 1) to program 'true'":
        refused(proxy, query, 422, "copy_refused")
        refused(proxy, query, 422, "copy_refused", allow_writes=True)


def test_writes_where_they_are_allowed(make_proxy, postgres, name):
    table = name
    proxy = make_proxy(config())
    refused(proxy, f"CREATE TABLE {table} (i int)", 403, "writes_not_allowed", allow_writes=True)
    proxy.reload({"admin": {"sql_allow_writes": True}})
    answer = fine(proxy, f"CREATE TABLE {table} (i int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)", allow_writes=True)
    assert answer["command"] == "CREATE TABLE" and not answer["read_only"]
    answer = fine(proxy, f"INSERT INTO {table} SELECT generate_series(1, 5000) RETURNING i", allow_writes=True, max_rows=2)
    assert answer["row_count"] == 2 and answer["truncated"] and answer["command"] == "INSERT 0 5000"
    assert postgres.sql(f"SELECT count(*) FROM {table}", database="app") == [(5000,)]
    # it fails only when it is committed
    answer = refused(proxy, f"INSERT INTO {table} VALUES (1)", 422, "sql_error", allow_writes=True)
    assert answer["sqlstate"] == "23505" and answer["constraint"] == f"{table}_pkey"
    answer = refused(proxy, f"INSERT INTO {table} SELECT 9999 RETURNING repeat('x', 20000000)", 422, "row_too_large",
                     allow_writes=True)
    assert postgres.sql(f"SELECT count(*) FROM {table}", database="app") == [(5000,)]


# ---------------------------------------------------------------- who

def test_the_user_of_the_configuration(make_proxy, tmp_path):
    proxy = make_proxy(config())
    assert post(proxy, {"query": "SELECT 1"})[1]["code"] == "no_user"
    proxy.reload({"admin": {"sql_user": "app"}})
    status, answer = post(proxy, {"query": "SELECT current_user, current_database()"})
    assert status == 200 and answer["rows"] == [["app", "app"]]
    proxy.reload({"admin": {"sql_database": "postgres"}})
    assert post(proxy, {"query": "SELECT current_database()"})[1]["rows"] == [["postgres"]]
    assert post(proxy, {"query": "SELECT current_database()", "database": "app"})[1]["rows"] == [["app"]]


def test_passwords(make_proxy, tmp_path):
    """The proxy asks for them, as it asks clients; one of the configuration is for its user only."""
    users = tmp_path / "users.txt"
    users.write_text('"app" "r1ght-w0rd"\n"scram" "an0ther"\n')
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    proxy = make_proxy(config(auth={"mode": "scram-sha-256", "auth_file": str(users)},
                              admin={"sql_user": "app", "sql_password": "r1ght-w0rd"}))
    assert post(proxy, {"query": "SELECT current_user"})[0] == 200
    assert post(proxy, {"query": "SELECT 1", **ME, "password": "r1ght-w0rd"})[0] == 200
    for body in ({**ME, "password": "wrong"}, {"user": "nobody", "password": "r1ght-w0rd"}):
        status, answer = post(proxy, {"query": "SELECT 1", **body})
        assert (status, answer["code"], answer["sqlstate"]) == (422, "login_refused", "28P01"), answer
    for body in (ME, {"user": "scram", "database": "app"}):
        status, answer = post(proxy, {"query": "SELECT 1", **body})
        assert (status, answer["code"]) == (422, "login_refused"), answer
    proxy.reload({"admin": {"sql_password_file": str(secret)}})
    assert post(proxy, {"query": "SELECT 1"})[1]["code"] == "login_refused"
    secret.write_text("r1ght-w0rd\nmore\n")
    assert post(proxy, {"query": "SELECT 1"})[0] == 200
    said = proxy.log() + "".join(proxy.admin(p)[1] for p in ("/config", "/api/v1/config"))
    assert "r1ght-w0rd" not in said and "an0ther" not in said


def test_a_token_is_needed(make_proxy):
    proxy = make_proxy(config(proxy={"admin_token": "s3cret"}))
    assert run(proxy, "SELECT 1")[0] == 200
    assert post(proxy, {"query": "SELECT 1", **ME}, token="other")[0] == 401


# ---------------------------------------------------------------- time

def test_its_time_is_limited(make_proxy):
    proxy = make_proxy(config(admin={"sql_timeout": "1s"}))
    answer = refused(proxy, "SELECT pg_sleep(100)", 422, "sql_error")
    assert answer["sqlstate"] == "57014" and "statement timeout" in answer["message"]


def test_the_proxys_own_limit_of_time(make_proxy, postgres):
    """The server's was turned off: its own cancels it."""
    proxy = make_proxy(config(admin={"sql_timeout": "1s"}))
    query = "DO $$ BEGIN SET LOCAL statement_timeout = 0; PERFORM pg_sleep(100); END $$"
    status, answer = run(proxy, query)
    assert status == 422 and answer["sqlstate"] == "57014", answer
    wait_until(lambda: not running(postgres, "pg_sleep"))


def running(postgres, what):
    return postgres.sql("SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s "
                        "AND pid <> pg_backend_pid()", [f"%{what}%"])


def hang_up(proxy, body):
    """A client that sends a request and does not wait for the answer."""
    raw = json.dumps(body).encode()
    s = socket.create_connection(("127.0.0.1", proxy.admin_port))
    s.sendall(b"POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
              + f"Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    return s


def test_a_client_that_hangs_up(make_proxy, postgres, gate):
    """What it has asked for is cancelled; others are served meanwhile and afterwards."""
    proxy = make_proxy(config(admin={"sql_concurrency": 1}))
    g = gate()
    s = hang_up(proxy, {"query": f"SELECT 'of who hangs up', {g.passage}", **ME})
    g.wait()
    assert proxy.is_live() and len(proxy.sessions()) == 1
    refused(proxy, "SELECT 1", 503, "too_many_statements")
    s.close()
    wait_until(lambda: not running(postgres, "of who hangs up"))
    wait_until(lambda: proxy.sessions() == [])
    wait_until(lambda: run(proxy, "SELECT 'next'")[0] == 200)
    proxy.wait_log("client gone")


def test_many_clients_that_hang_up_at_any_time(make_proxy, postgres):
    proxy = make_proxy(config(admin={"sql_concurrency": 8}))
    for i in range(60):
        s = hang_up(proxy, {"query": f"SELECT pg_sleep({i % 3 / 10}), generate_series(1, {i * 100})", **ME})
        time.sleep(i % 7 / 500)  # wherever it is by then
        s.close()
    wait_until(lambda: run(proxy, "SELECT 'next'")[0] == 200)
    wait_until(lambda: proxy.sessions() == [])


def test_more_than_may_run_are_refused(make_proxy, gate):
    proxy = make_proxy(config(admin={"sql_concurrency": 2}))
    gates = [gate(), gate()]
    waiting = [Later(lambda g=g: run(proxy, f"SELECT {g.passage}")) for g in gates]
    for g in gates:
        g.wait()
    refused(proxy, "SELECT 1", 503, "too_many_statements")
    assert proxy.is_live()
    for g in gates:
        g.open()
    assert [b.result()[0] for b in waiting] == [200, 200]
    assert fine(proxy, "SELECT 1")
    proxy.reload({"admin": {"sql_concurrency": 0}})
    refused(proxy, "SELECT 1", 403, "sql_is_off")


def test_the_pool_is_full(make_proxy, closing, gate):
    """It waits for a server connection as any client does, no longer than its time; it can be cancelled meanwhile."""
    proxy = make_proxy({"pool": {"mode": "transaction", "max_connections": 1}, "admin": {"sql_timeout": "1s"}})
    client, g = closing(proxy.connect()), gate()
    client.execute("BEGIN")
    client.execute("SELECT 1")
    status, answer = run(proxy, "SELECT 'waits'")
    assert status in (422, 503) and answer["code"] in ("statement_timeout", "connection_lost", "no_answer", "sql_error")
    client.execute("COMMIT")
    assert wait_until(lambda: run(proxy, "SELECT 'next'")[0] == 200)
    assert g


def test_a_proxy_that_drains(make_proxy, closing, gate):
    """What runs may end; a new statement can't log in."""
    proxy = make_proxy(config(proxy={"shutdown_drain_timeout": "60s"}))
    client = closing(proxy.connect())
    client.execute("BEGIN")
    client.execute("SELECT 1")
    g = gate()
    waiting = Later(lambda: run(proxy, f"SELECT 'through', {g.passage}"))
    g.wait()
    proxy.process.terminate()
    proxy.wait_log("drain|shutting down|SIGTERM")
    wait_until(lambda: proxy.admin("/readyz")[0] == 503)
    status, answer = run(proxy, "SELECT 1")
    assert status == 503 and answer["code"] in ("no_connection", "connection_lost"), answer
    g.open()
    status, answer = waiting.result()
    assert status == 200 and answer["rows"][0][0] == "through", answer
    client.execute("COMMIT")
    proxy.wait_end()


def test_the_end_of_the_process_answers_what_runs(make_proxy, gate):
    proxy = make_proxy(config(proxy={"shutdown_drain_timeout": "1s"}))
    g = gate()
    waiting = Later(lambda: run(proxy, f"SELECT {g.passage}"))
    g.wait()
    proxy.process.terminate()
    proxy.advance(2)
    status, answer = waiting.result()
    assert status == 503, answer
    g.open()
    proxy.wait_end(expected=3)


def test_a_server_that_dies(make_proxy, make_postgres):
    server = make_postgres()
    proxy = make_proxy(config(), postgres=server)
    fine(proxy, "SELECT 1")
    waiting = Later(lambda: run(proxy, "SELECT pg_sleep(100), 'of a server that dies'"))
    wait_until(lambda: running(server, "that dies"))
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%that dies%' "
               "AND pid <> pg_backend_pid()")
    status, answer = waiting.result()
    assert status in (422, 503) and answer["code"] in ("sql_error", "connection_lost"), answer
    assert wait_until(lambda: run(proxy, "SELECT 'next'")[0] == 200)


# ---------------------------------------------------------------- where

def test_the_node_is_the_one_that_has_answered(make_proxy, cluster):  # noqa: F811
    """A READ ONLY transaction goes to standbys; a hint in front of the statement counts for it."""
    proxy = split_proxy(make_proxy, cluster, {"admin": {"sql_allow_writes": True}})
    wait_split(proxy)
    seen = []

    def ask(hint="", **more):
        answer = fine(proxy, hint + "SELECT current_setting('helios.node')", **more)
        assert answer["node"] == answer["rows"][0][0]
        assert answer["node_role"] == ("primary" if answer["node"] == "a" else "standby")
        seen.append(answer["node"])
        return answer["node"]

    wait_until(lambda: ask() in "bc")
    assert ask("/*helios:route=primary*/ ") == ask(allow_writes=True) == "a"
    wait_until(lambda: ask("/*helios:node=c*/") == "c")
    assert refused(proxy, "SELECT 1/0", 422, "sql_error")["sqlstate"] == "22012"
    explained = proxy.json("/api/v1/routing/explain?database=app&user=app&query=SELECT%201")
    assert explained["to"] in ("standby", "primary") and explained["statement"] == "reads"
    status, text = proxy.admin("/api/v1/routing/explain?database=app")
    assert status == 400 and json.loads(text)["code"] == "bad_request"


# ---------------------------------------------------------------- hostile requests

@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'"SELECT 1"', b"{}", b'{"query": 1}', b'{"query": ""}', b'{"query": null}',
    b'{"query": "SELECT 1", "query": "SELECT 2"}', b'{"query": "SELECT \\u0000"}', b"\xff\xfe", b'{"query": "\xff"}',
    b"[" * 5000, b'{"query": ' + b'{"a":' * 3000, b'{"query": "SELECT 1", "user": "app", "max_rows": 0}',
    b'{"query": "SELECT 1", "user": "app", "max_rows": 1e99}', b'{"query": "SELECT 1", "user": "app", "max_rows": -1}',
    b'{"query": "SELECT 1", "user": "app", "allow_writes": "yes"}', b'{"query": "SELECT 1", "user": ["app"]}',
    b'{"query": "SELECT 1", "user": "app", "host": "elsewhere"}', b'{"query": " /* nothing */ ; -- "}',
])
def test_bodies_that_are_none(sql_proxy, body):
    status, answer = post(sql_proxy, body)
    assert status == 400, answer


def test_names_are_names_only(sql_proxy):
    """No connection string is read from them, nor more parameters."""
    for user, database in (("app", "host=127.0.0.1 port=1 dbname=app"), ("app", "postgresql://127.0.0.1:1/app"),
                           ("app' password='x", "app"), ("app", "app' host='127.0.0.1")):
        status, answer = post(sql_proxy, {"query": "SELECT 1", "user": user, "database": database})
        assert status in (422, 503) and answer["code"] in ("login_refused", "no_connection", "sql_error"), answer
    assert post(sql_proxy, b" " * 70000)[0] == 413


def test_the_references_endpoint(make_proxy, postgres, name):
    table = name
    proxy = make_proxy(config(admin={"sql_user": "app"}))
    status, answer = post(proxy, {"query": "SELECT 1 AS one"}, "/api/sql")
    assert status == 200 and answer["query_type"] == "read" and answer["node_role"] == "primary"
    assert answer["routed_to"] == proxy.json("/nodes")[0]["address"] and answer["result"]["rows"] == [["1"]]
    status, answer = post(proxy, {"query": f"CREATE TABLE {table} (i int)"}, "/api/sql")
    assert status == 422 and answer["sqlstate"] == "25006" and answer["error"]
    assert post(proxy, {"query": ""}, "/api/sql")[0] == 400
    proxy.reload({"admin": {"sql_allow_writes": True}})
    status, answer = post(proxy, {"query": f"CREATE TABLE {table} (i int)"}, "/api/sql")
    assert status == 200 and answer["query_type"] == "write" and exists(postgres, table)


@pytest.fixture(scope="module")
def module_proxy(postgres):
    from conftest import BINARY
    from harness import Proxy
    proxy = Proxy(BINARY, postgres, config()).start()
    yield proxy
    proxy.remove()


@pytest.fixture
def sql_proxy(module_proxy):
    return module_proxy
