"""The simple query protocol: one Query, any number of statements, answers as from PostgreSQL itself."""

import pytest
from harness import wire
from harness.wire import errors, query, rows, run, summary

pytestmark = pytest.mark.matrix

TEXTS = [
    "SELECT 1",
    "",
    ";",
    " -- nothing but a comment",
    "/* nested /* comment */ */",
    "SELECT 1; SELECT 2, 'two'; SELECT 3",
    "SELECT 1; ; SELECT 2;",
    "SELECT",
    "SELECT NULL, '', 'a''b', E'\\n', $$dollar ; quoted$$",
    "VALUES (1), (2), (3)",
    "SELECT * FROM generate_series(1, 100)",
    "SELECT * FROM no_such_table",
    "SELEKT 1",
    "SELECT 'unterminated",
    "SELECT $$unterminated",
    "/* unterminated",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "SELECT 1; SELECT syntax error; SELECT 2",
    "SELECT 1/0",
    "SELECT $1",
    "DO $$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'beware'; END $$",
    "DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'HV001', HINT = 'a hint', DETAIL = 'more'; END $$",
    "SET LOCAL work_mem = '1MB'",
    "COMMIT",
    "ROLLBACK",
    "SHOW server_version",
    "EXPLAIN (COSTS OFF) SELECT 1",
    "SELECT 'ÄÖÜ ✓', '\u0001'",
    "SELECT repeat('x', 100000)",
    "SELECT set_config('application_name', 'x', true)",
    "SAVEPOINT outside",
    "FETCH 1 FROM nothing",
    "SELECT 1 AS \"a;b\", 2 AS \"quo\"\"te\"",
]

IN_TRANSACTIONS = [
    ["BEGIN", "SELECT 1", "COMMIT"],
    ["BEGIN", "SELECT 1/0", "SELECT 1", "ROLLBACK"],
    ["BEGIN", "SELECT 1/0", "COMMIT"],
    ["BEGIN", "BEGIN", "COMMIT"],
    ["BEGIN; SELECT 1", "SELECT 2; COMMIT"],
    ["BEGIN; SELECT 1; COMMIT; SELECT 2"],
    ["BEGIN; SELECT 1/0; COMMIT", "SELECT 1", "ROLLBACK"],
    ["BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "SELECT 1", "RELEASE a", "COMMIT"],
    ["BEGIN", "SELECT 1", "COMMIT AND CHAIN", "SELECT 2", "ROLLBACK AND CHAIN", "SELECT 3", "ROLLBACK"],
    ["START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY", "SHOW transaction_isolation", "END"],
    ["BEGIN", "SELEKT", "ABORT"],
    ["BEGIN", "DECLARE c CURSOR FOR SELECT * FROM generate_series(1, 5)", "FETCH 2 FROM c", "FETCH ALL FROM c",
     "CLOSE c", "COMMIT"],
    ["COMMIT; BEGIN; ROLLBACK; BEGIN", "ROLLBACK"],
    ["SELECT 1; BEGIN", "SELECT 2", "ROLLBACK; SELECT 3"],
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda t: t[:30])
def test_answers_as_postgres(target, text):
    client, direct = target.wire(), target.oracle()
    client.send(wire.query(text))
    direct.send(wire.query(text))
    expected, found = [], []
    for each, to in ((direct, expected), (client, found)):
        while not to or to[-1].kind != "Z":
            to.append(each.read_raw())
    assert summary(found) == summary(expected)
    assert client.value("SELECT 1") == "1"


@pytest.mark.modes("session", "transaction")
@pytest.mark.parametrize("texts", IN_TRANSACTIONS, ids=lambda t: " / ".join(t)[:50])
def test_transactions_answer_as_postgres(target, texts):
    client, direct = target.wire(), target.oracle()
    for text in texts:
        assert summary(client.query(text)) == summary(direct.query(text)), text
    assert client.status == "I"


@pytest.mark.modes("session", "transaction")
def test_queries_sent_without_waiting(target):
    """A client may send the next Query before the answer of the last."""
    client = target.wire()
    client.send(*(wire.query(f"SELECT {i}") for i in range(500)))
    for i in range(500):
        assert wire.rows(client.until_ready()) == [[str(i)]]


@pytest.mark.modes("session", "transaction")
def test_pipelined_transaction(target, table):
    client = target.wire()
    client.send(*map(wire.query, ["BEGIN", f"INSERT INTO {table} VALUES (100, 'x')", "SELECT 1/0",
                                  f"INSERT INTO {table} VALUES (101, 'x')", "ROLLBACK",
                                  f"SELECT count(*) FROM {table}"]))
    messages = client.until_ready(6)
    assert [m.status for m in messages if m.kind == "Z"] == ["T", "T", "E", "E", "I", "I"]
    assert wire.errors(messages) == ["22012", "25P02"]
    assert wire.rows(messages) == [["10"]]


def test_simple_and_extended_mixed(target):
    client = target.wire()
    client.send(wire.query("SELECT 1"), wire.run("SELECT 2"), wire.sync(), wire.query("SELECT 3; SELECT 4"),
                wire.run("SELECT 5"), wire.sync())
    assert wire.rows(client.until_ready(4)) == [["1"], ["2"], ["3"], ["4"], ["5"]]


def test_dml_tags(target, table):
    client = target.wire()
    assert wire.tags(client.query(f"INSERT INTO {table} VALUES (50, 'a'), (51, 'b')")) == ["INSERT 0 2"]
    assert wire.tags(client.query(f"UPDATE {table} SET v = 'c' WHERE id >= 50")) == ["UPDATE 2"]
    assert wire.rows(client.query(f"DELETE FROM {table} WHERE id >= 50 RETURNING v")) == [["c"], ["c"]]
    assert wire.tags(client.query(f"SELECT * FROM {table}")) == ["SELECT 10"]


def test_implicit_transaction_of_many_statements_rolls_back(target, table):
    client = target.wire()
    client.query(f"INSERT INTO {table} VALUES (60, 'a'); SELECT 1/0")
    assert client.value(f"SELECT count(*) FROM {table} WHERE id = 60") == "0"


def test_deferred_constraint_fails_at_the_end(target, name):
    target.postgres.sql(f"CREATE TABLE {name} (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
                        f"GRANT ALL ON {name} TO app", database="app")
    client = target.wire()
    messages = client.query(f"INSERT INTO {name} VALUES (1), (1)")
    assert wire.errors(messages) == ["23505"]
    assert client.status == "I"
    assert client.value("SELECT 1") == "1"


def test_notices_reach_their_own_client(target):
    first, second = target.wire(), target.wire()
    first.query("DO $$ BEGIN RAISE NOTICE 'for the first'; END $$")
    second.query("DO $$ BEGIN RAISE NOTICE 'for the second'; END $$")
    assert [n.fields["M"] for n in first.notices] == ["for the first"]
    assert [n.fields["M"] for n in second.notices] == ["for the second"]


def test_large_object_functions(target):
    """FunctionCall, as libpq's lo_* and pgjdbc's LargeObject use it."""
    client = target.wire()
    oid = int(client.value("SELECT 'pg_catalog.int4pl(int4,int4)'::regprocedure::oid"))
    client.send(wire.function_call(oid, [(40).to_bytes(4, "big"), (2).to_bytes(4, "big")]))
    messages = client.until_ready()
    assert wire.kinds(messages) == "VZ"
    assert messages[0].body == (4).to_bytes(4, "big") + (42).to_bytes(4, "big")


def test_function_call_that_fails(target):
    client = target.wire()
    client.send(wire.function_call(1, []))
    messages = client.until_ready()
    assert messages[0].kind == "E" and client.status == "I"
    oid = int(client.value("SELECT 'pg_catalog.int4div(int4,int4)'::regprocedure::oid"))
    client.send(wire.function_call(oid, [(1).to_bytes(4, "big"), (0).to_bytes(4, "big")]))
    assert wire.errors(client.until_ready()) == ["22012"]
    assert client.value("SELECT 1") == "1"


@pytest.mark.modes("session", "transaction")
def test_function_call_in_a_transaction(target):
    client = target.wire()
    client.query("BEGIN")
    oid = int(client.value("SELECT 'pg_catalog.int4div(int4,int4)'::regprocedure::oid"))
    client.send(wire.function_call(oid, [(1).to_bytes(4, "big"), (0).to_bytes(4, "big")]))
    client.until_ready()
    assert client.status == "E"
    client.query("ROLLBACK")
    assert client.status == "I"


@pytest.mark.modes("session", "transaction")
def test_prepared_transaction(target, table, name):
    client = target.wire()
    client.query("BEGIN")
    client.query(f"INSERT INTO {table} VALUES (70, 'p')")
    assert wire.tags(client.query(f"PREPARE TRANSACTION '{name}'")) == ["PREPARE TRANSACTION"]
    assert client.value(f"SELECT count(*) FROM {table} WHERE id = 70") == "0"
    assert wire.tags(client.query(f"COMMIT PREPARED '{name}'")) == ["COMMIT PREPARED"]
    assert client.value(f"SELECT count(*) FROM {table} WHERE id = 70") == "1"


@pytest.mark.modes("session", "transaction")
def test_transactions_of_two_clients_are_kept_apart(target, table):
    first, second = target.wire(), target.wire()
    first.query("BEGIN")
    first.query(f"INSERT INTO {table} VALUES (80, 'x')")
    assert second.value(f"SELECT count(*) FROM {table} WHERE id = 80") == "0"
    second.query("BEGIN")
    assert second.value(f"SELECT count(*) FROM {table} WHERE id = 80") == "0"
    first.query("COMMIT")
    assert second.value(f"SELECT count(*) FROM {table} WHERE id = 80") == "1"
    second.query("COMMIT")


@pytest.mark.modes("session", "transaction")
def test_call_procedure_with_commit_inside(target, table):
    target.postgres.sql(f"CREATE OR REPLACE PROCEDURE {table}_p() LANGUAGE plpgsql AS $$ BEGIN "
                        f"INSERT INTO {table} VALUES (90, 'x'); COMMIT; INSERT INTO {table} VALUES (91, 'y'); "
                        f"ROLLBACK; END $$; GRANT ALL ON PROCEDURE {table}_p() TO PUBLIC", database="app")
    client = target.wire()
    assert wire.tags(client.query(f"CALL {table}_p()")) == ["CALL"]
    assert client.rows(f"SELECT id FROM {table} WHERE id >= 90") == [["90"]]


@pytest.mark.modes("statement")
@pytest.mark.proxy_only
@pytest.mark.parametrize("text", ["BEGIN", "START TRANSACTION", "SELECT 1; BEGIN", "/* x */ begin isolation level "
                                  "serializable"])
def test_statement_mode_refuses_transactions(target, text):
    client = target.wire()
    messages = client.query(text)
    assert len(wire.errors(messages)) == 1
    assert client.status == "I"
    assert client.value("SELECT 1") == "1"


# ---- [pool] simple_query ----

SEVERAL = ["SELECT 1; SELECT 2", "SELECT 1;SELECT 2;", "SELECT ';'; SELECT 2", "/* ; */ SELECT 1; /* ; */ DROP TABLE t", "SELECT $a$;$a$; SELECT 2",
           "SELECT E'\\';'; SELECT 2", "BEGIN; COMMIT", "SELECT 1; 'unterminated"]
SINGLE = ["SELECT 1", "SELECT 1;", "SELECT 1 ; ;\n", "SELECT ';'", "SELECT 'a'';'", "SELECT $$;$$", "SELECT 1 /* ; */", "SELECT 1; -- ; x", "", ";",
          "SELECT E'\\';'"]


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_several_statements_are_refused(make_proxy, closing, table, mode):
    proxy = make_proxy({"pool": {"mode": mode, "share": "autocommit"}, "users": {"app": {"simple_query": "single"}}})
    c, other = closing(proxy.wire()), closing(proxy.wire(user="app2", database="other"))
    for text in SINGLE:
        assert not errors(c.query(text)), text
    for text in SEVERAL:
        messages = c.query(text)
        assert [(m.code, m.fields["M"]) for m in messages if m.kind == "E"] == \
            [("0A000", "a query must not hold more than one statement")], text
    c.send(query("SELECT 1; SELECT 2"), query("SELECT 3"))
    assert errors(c.until_ready()) == ["0A000"] and rows(c.until_ready()) == [["3"]]
    assert rows(c.batch(run("SELECT 4"))) == [["4"]]
    long = "SELECT 1 /* " + "x" * 2_000_000 + " */; SELECT 2"
    assert errors(c.query(long)) == ["0A000"], "no more than its beginning was looked at"
    if mode != "statement":
        c.query("BEGIN")
        c.query(f"INSERT INTO {table} VALUES (100, 'x')")
        assert errors(c.query("COMMIT; SELECT 2")) == ["0A000"]
        assert errors(c.query("SELECT 1")) == ["25P02"]
        c.query("ROLLBACK")
    assert c.value(f"SELECT count(*) FROM {table}") == "10"
    assert rows(other.query("SELECT 1; SELECT 2")) == [["1"], ["2"]], "another user may"
    proxy.reload({"users": {"app": {"simple_query": "allow"}}})
    assert rows(c.query("SELECT 1; SELECT 2")) == [["1"], ["2"]]


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_the_simple_protocol_is_refused(make_proxy, closing, mode):
    proxy = make_proxy({"pool": {"mode": mode, "share": "autocommit", "defer_begin": True}})
    c = closing(proxy.wire())
    assert c.value("SELECT 1") == "1"
    proxy.reload({"pool": {"simple_query": "refuse"}})
    for text in ("SELECT 1", "BEGIN", "", "DISCARD ALL"):
        assert errors(c.query(text)) == ["0A000"], text
    assert rows(c.batch(run("SELECT 2"))) == [["2"]]
    c.batch(run("BEGIN"))
    assert rows(c.batch(run("SELECT 3"))) == [["3"]]
    assert errors(c.query("SELECT 1")) == ["0A000"]
    assert errors(c.batch(run("SELECT 4"))) == ["25P02"]
    c.batch(run("ROLLBACK"))
    assert rows(closing(proxy.wire()).batch(run("SELECT 5"))) == [["5"]]
