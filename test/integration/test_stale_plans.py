"""The schema changes where the proxy can't see it. What was prepared before it is prepared anew, and run again."""

import asyncio

import pytest
from harness import wait_until
from harness.wire import (bind, close, describe, errors, execute, flush, kinds, parse, query, rows, run, summary, sync)

pytestmark = pytest.mark.matrix


@pytest.fixture
def around(postgres):
    """SQL straight to the server."""
    def run_sql(sql):
        postgres.sql(sql, database="app")
    return run_sql


@pytest.fixture
def changing(name, around):
    """A table of one row, and how to add a column."""
    around(f"CREATE TABLE {name} (a int); INSERT INTO {name} VALUES (1); GRANT ALL ON {name} TO PUBLIC")
    count = iter(range(2, 1000))
    yield name, lambda: around(f"ALTER TABLE {name} ADD COLUMN c{(n := next(count))} int DEFAULT {n}")
    around(f"DROP TABLE IF EXISTS {name} CASCADE")


@pytest.fixture
def one_link(make_proxy, closing):
    """Three clients that meet the same server connection."""
    proxy = make_proxy({"pool": {"max_connections": 1}})
    return proxy, [closing(proxy.wire()) for _ in range(3)]


def columns(messages):
    return [[name for name, _ in m.columns] for m in messages if m.kind == "T"]


def repeated(proxy):
    return proxy.metric("batches_repeated_total")


# ---------------------------------------------------------------- behind a Parse of the client's own

@pytest.mark.parametrize("named", ["", "s"])
def test_parse_that_the_proxy_answered(one_link, changing, named):
    """PostgreSQL would have parsed it after the change."""
    proxy, clients = one_link
    table, change = changing
    text = f"SELECT * FROM {table}"
    for i, client in enumerate(clients):
        assert rows(client.batch(run(text, name=named))) == [[str(n) for n in range(1, i + 2)]]
        change()
    assert repeated(proxy) == 1  # for the third all had been prepared anew
    if named:
        messages = clients[0].batch(close("S", "s"), run(text, name="s"))
        assert columns(messages) == [["a", "c2", "c3", "c4"]] and rows(messages) == [["1", "2", "3", "4"]]


@pytest.mark.parametrize("named", ["", "s"])
@pytest.mark.parametrize("parts", ["describe", "describe and run", "run", "close behind it", "flush", "twice", "portal"])
def test_every_way_to_use_it(one_link, changing, parts, named):
    proxy, (first, second, _) = one_link
    table, change = changing
    text = f"SELECT * FROM {table}"
    first.batch(run(text, name=named))
    change()
    messages, answer = {
        "describe": ([describe("S", named)], ["1", "t:0000", "T:a,c2", "ZI"]),
        "describe and run": ([describe("S", named), bind("", named), describe("P"), execute()],
                             ["1", "t:0000", "T:a,c2", "2", "T:a,c2", "D:1,2", "C:SELECT 1", "ZI"]),
        "run": ([bind("", named), execute()], ["1", "2", "D:1,2", "C:SELECT 1", "ZI"]),
        "close behind it": ([bind("", named), execute(), close("S", named)],
                            ["1", "2", "D:1,2", "C:SELECT 1", "3", "ZI"]),
        "flush": ([flush(), bind("", named), flush(), execute()], ["1", "2", "D:1,2", "C:SELECT 1", "ZI"]),
        "twice": ([bind("", named), execute()] * 2,
                  ["1", "2", "D:1,2", "C:SELECT 1", "2", "D:1,2", "C:SELECT 1", "ZI"]),
        "portal": ([bind("p", named), describe("P", "p"), execute("p", 1), execute("p"), close("P", "p")],
                   ["1", "2", "T:a,c2", "D:1,2", "s", "C:SELECT 0", "3", "ZI"]),
    }[parts]
    assert summary(second.batch(parse(named, text), *messages)) == answer
    assert repeated(proxy) == 1
    assert rows(second.batch(run("SELECT 'next'"))) == [["next"]]
    assert rows(first.batch(run(text))) == [["1", "2"]]


def test_parse_in_a_batch_of_its_own(one_link, changing):
    """As pgx, tokio-postgres and asyncpg do: the description comes with the Parse, the Bind in the next batch."""
    proxy, (first, second, third) = one_link
    table, change = changing
    text = f"SELECT * FROM {table}"
    first.batch(run(text, name="s"))
    change()
    assert kinds(second.batch(parse("s", text))) == "1Z"
    assert columns(second.batch(describe("S", "s"))) == [["a", "c2"]]
    assert rows(second.batch(bind("", "s"), execute())) == [["1", "2"]]
    change()
    assert columns(third.batch(parse("s", text), describe("S", "s"))) == [["a", "c2", "c3"]]
    assert rows(third.batch(bind("", "s"), execute())) == [["1", "2", "3"]]
    assert repeated(proxy) == 2


@pytest.mark.parametrize("count", [2, 5])
def test_several_statements_in_a_batch(one_link, changing, count):
    """Behind what was executed nothing could be repeated: there each Parse is the server's."""
    proxy, (first, second, _) = one_link
    table, change = changing
    texts = [f"SELECT {i} AS i, t.* FROM {table} t" for i in range(count)]
    first.batch(*(run(text, name=f"s{i}") for i, text in enumerate(texts)))
    change()
    messages = second.batch(*(run(text, name=f"s{i}") for i, text in enumerate(texts)))
    assert not errors(messages)
    assert rows(messages) == [[str(i), "1", "2"] for i in range(count)]


def test_pipelined_batches(one_link, changing):
    proxy, (first, second, _) = one_link
    table, change = changing
    texts = [f"SELECT {i} AS i, t.* FROM {table} t" for i in range(4)]
    first.batch(*(run(text, name=f"s{i}") for i, text in enumerate(texts)))
    change()
    second.send(*(run(text, name=f"s{i}") + sync() for i, text in enumerate(texts)))
    messages = second.until_ready(4)
    assert (errors(messages), rows(messages)) == ([], [[str(i), "1", "2"] for i in range(4)])


def test_batch_of_many_packets(one_link, changing):
    """It is only kept when it comes whole; else the Parse is the server's."""
    proxy, (first, second, _) = one_link
    table, change = changing
    text = f"SELECT * FROM {table}"
    for named in ("s", ""):
        first.batch(run(text, name=named))
    for i, named in enumerate(("s", "")):
        change()
        second.send(parse(named, text), flush())
        assert second.read().kind == "1"
        second.send(bind("", named), execute(), sync())
        messages = second.until_ready()
        assert (errors(messages), len(rows(messages)[0])) == ([], i + 2)


@pytest.mark.parametrize("named", ["", "s"])
def test_what_comes_in_front_of_the_parse(one_link, changing, named):
    """Closes, and a part of the batch that came before the rest."""
    proxy, (first, second, _) = one_link
    table, change = changing
    text = f"SELECT * FROM {table}"
    second.batch(parse("old", "SELECT 1"), parse("other", "SELECT 2"))
    for i, parts in enumerate(([close("S", "old")], [close("S", "none")], [close("P", "none")],
                               [close("S", "old"), describe("S", "other")], [describe("S", "other"), flush()])):
        second.batch(close("S", named), close("S", "old"), parse("old", "SELECT 1"))
        first.batch(close("S", named), run(text, name=named))
        change()
        before = second.send(*parts) if flush() in parts else None
        if flush() in parts:
            assert kinds(second.read_until("T")) == "tT"
            parts = []
        messages = second.batch(*parts, run(text, name=named))
        assert (before, errors(messages), len(rows(messages)[-1])) == (None, [], i + 2)


def test_type_of_a_parameter_that_the_server_chose(one_link, changing, around):
    """The old plan has $1 as an int for ever, and fails otherwise than with 0A000."""
    proxy, (first, second, _) = one_link
    table, _ = changing
    text = f"SELECT a FROM {table} WHERE a = $1"
    for named in ("", "s"):
        first.batch(run(text, ["1"], name=named))
    around(f"ALTER TABLE {table} ALTER a TYPE text")
    for named in ("", "s"):
        assert rows(second.batch(run(text, ["1"], name=named))) == [["1"]]
        assert rows(first.batch(close("S", "s"), run(text, ["1"], name=named))) == [["1"]]
    assert repeated(proxy) >= 1


def test_text_that_fails_either_way(one_link, changing, around):
    proxy, (first, second, _) = one_link
    table, _ = changing
    text = f"SELECT * FROM {table}"
    first.batch(run(text, name="s"))
    around(f"DROP TABLE {table}")
    for named in ("s", "", "t", ""):
        assert errors(second.batch(run(text, name=named))) == ["42P01"]
        assert second.status == "I"
    assert errors(second.batch(bind("", "t"), execute())) == ["26000"]
    assert rows(second.batch(run("SELECT 'next'"))) == [["next"]]


def test_view_that_grows(one_link, around, name):
    proxy, clients = one_link
    for i in range(6):
        around(f"CREATE OR REPLACE VIEW {name} AS SELECT " + ", ".join(f"{n} AS c{n}" for n in range(i + 1)))
        if i == 0:
            around(f"GRANT ALL ON {name} TO PUBLIC")
        client = clients[i % 3]
        client.batch(close("S", "s"))
        assert rows(client.batch(run(f"SELECT * FROM {name}", name="s"))) == [[str(n) for n in range(i + 1)]]
        assert rows(client.batch(run(f"SELECT * FROM {name}"))) == [[str(n) for n in range(i + 1)]]
    around(f"DROP VIEW {name}")


# ---------------------------------------------------------------- prepared by the client, long ago

def test_described_before_it_is_executed(one_link, changing):
    """What libpq does: no client goes by what it was told before. PostgreSQL itself would say 0A000."""
    proxy, clients = one_link
    table, change = changing
    for client in clients:
        client.batch(parse("s", f"SELECT * FROM {table}"))
    for i in range(3):
        for client in clients:
            messages = client.batch(bind("", "s"), describe("P"), execute())
            assert rows(messages) == [[str(n) for n in range(1, i + 2)]]
            assert len(columns(messages)[0]) == i + 1
        change()
    assert repeated(proxy) == 2


@pytest.mark.parametrize("case", ["not described", "described too late", "other portal", "formats of columns",
                                  "binary parameter"])
def test_what_the_client_may_go_by(one_link, changing, case):
    """It would misread the rows, or the server its parameters: it hears of the change, as from PostgreSQL."""
    proxy, (first, second, _) = one_link
    table, change = changing
    text = f"SELECT * FROM {table}" + (" WHERE a = $1" if case == "binary parameter" else "")
    for client in (first, second):
        client.batch(parse("s", text), describe("S", "s"))
    change()
    messages = {
        "not described": [bind("", "s"), execute()],
        "described too late": [bind("", "s"), execute(), describe("P")],
        "other portal": [bind("p", "s"), bind("q", "s"), describe("P", "q"), execute("p")],
        "formats of columns": [bind("", "s", [], [], [0, 0]), describe("P"), execute()],
        "binary parameter": [bind("", "s", [b"\0\0\0\1"], [1]), describe("P"), execute()],
    }[case]
    assert errors(first.batch(*messages)) == ["0A000"]
    assert first.status == "I" and repeated(proxy) == 0
    # from then on it is prepared anew for everybody
    assert columns(second.batch(describe("S", "s"))) == [["a", "c2"]]


ONE = b"\0\0\0\1"


@pytest.mark.parametrize("types, formats, values, good", [
    ([], [], ["1", "1"], True),
    ([], [0], ["1", "1"], True),
    ([0, 0], [0, 0], ["1", "1"], True),
    ([23, 23], [1], [ONE, ONE], True),
    ([23, 23], [1, 1], [ONE, ONE], True),
    ([23, 0], [1, 0], [ONE, "1"], True),
    ([0, 23], [0, 1], ["1", ONE], True),
    ([23], [1, 0], [ONE, None], True),
    ([23], [1], [ONE, ONE], False),
    ([23, 0], [1], [ONE, ONE], False),
    ([0, 23], [1, 0], [ONE, "1"], False),
    ([], [0, 1], ["1", ONE], False),
])
def test_parameters(one_link, changing, types, formats, values, good):
    """In binary they must be of a type that the client has chosen."""
    proxy, (first, _, _) = one_link
    table, change = changing
    first.batch(parse("s", f"SELECT * FROM {table} WHERE a = $1 OR a = $2", types))
    first.batch(bind("", "s", values, formats), describe("P"), execute())
    change()
    messages = first.batch(bind("", "s", values, formats), describe("P"), execute())
    assert (errors(messages), rows(messages)) == (([], [["1", "2"]]) if good else (["0A000"], []))


# ---------------------------------------------------------------- what must never be run twice

@pytest.fixture
def log_of_effects(name, around):
    around(f"CREATE SEQUENCE {name}_seq; GRANT ALL ON {name}_seq TO PUBLIC")
    yield f"{name}_seq"
    around(f"DROP SEQUENCE {name}_seq")


def test_nothing_is_executed_twice(one_link, changing, log_of_effects, postgres):
    """A sequence tells: what it gave is not taken back with a transaction."""
    proxy, (first, second, _) = one_link
    table, change = changing
    text, counts = f"SELECT * FROM {table}", f"SELECT nextval('{log_of_effects}')"
    for client in (first, second):
        client.batch(parse("s", text), parse("count", counts))
    change()
    messages = first.batch(bind("", "count"), describe("P"), execute(), bind("", "s"), describe("P"), execute())
    assert errors(messages) == ["0A000"] and rows(messages) == [["1"]]
    second.batch(bind("", "s"), describe("P"), execute())
    change()
    messages = second.batch(bind("", "s"), describe("P"), execute(), bind("", "count"), describe("P"), execute())
    assert rows(messages) == [["1", "2", "3"], ["2"]]


def test_in_a_transaction(one_link, changing):
    """It has failed, and nobody but the client can repeat it."""
    proxy, (first, second, _) = one_link
    table, change = changing
    first.batch(parse("s", f"SELECT * FROM {table}"))
    change()
    for begin in (lambda: first.query("BEGIN"), lambda: first.batch(run("BEGIN"))):
        begin()
        assert errors(first.batch(bind("", "s"), describe("P"), execute())) == ["0A000"]
        assert first.status == "E"
        first.query("ROLLBACK")
        assert rows(first.batch(bind("", "s"), describe("P"), execute()))
        change()
    first.send(query("BEGIN"), bind("", "s"), describe("P"), execute(), sync())
    assert errors(first.until_ready(2)) == ["0A000"] and first.status == "E"
    first.query("ROLLBACK")
    assert repeated(proxy) == 0


def test_pipelined_behind_it(one_link, changing):
    """What the server does next was not to see what comes before it later."""
    proxy, (first, second, _) = one_link
    table, change = changing
    for client in (first, second):
        client.batch(parse("s", f"SELECT * FROM {table}"))
    change()
    first.send(bind("", "s"), describe("P"), execute(), sync(), query("SELECT 'behind'"))
    messages = first.until_ready(2)
    assert errors(messages) == ["0A000"] and rows(messages) == [["behind"]]
    assert repeated(proxy) == 0


def test_pinned_client(one_link, changing):
    """It keeps what it has on its link."""
    proxy, (first, second, _) = one_link
    table, change = changing
    first.batch(parse("s", f"SELECT * FROM {table}"))
    first.query("PREPARE own AS SELECT 'kept'")
    change()
    assert rows(first.batch(bind("", "s"), describe("P"), execute())) == [["1", "2"]]
    assert first.value("EXECUTE own") == "kept"
    assert repeated(proxy) == 1


def test_statement_that_a_function_took_away(one_link, around, name):
    """DEALLOCATE ALL in a function: for others it was never gone."""
    proxy, (first, second, _) = one_link
    around(f"CREATE FUNCTION {name}() RETURNS int LANGUAGE plpgsql AS "
           "$$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 1; END $$")
    for _ in range(3):
        first.batch(close("S", "s"))
        assert rows(first.batch(run("SELECT 'mine'", name="s"))) == [["mine"]]
        second.query(f"SELECT {name}()")
        assert rows(first.batch(bind("", "s"), execute())) == [["mine"]]
        second.query(f"SELECT {name}()")
        assert rows(first.batch(bind("", "s"), describe("P"), execute())) == [["mine"]]
    assert repeated(proxy) >= 1
    around(f"DROP FUNCTION {name}()")


def test_evictions_within_what_is_repeated(make_proxy, closing, changing):
    """What the proxy had put in front, and the server skipped, is repeated, too."""
    table, change = changing
    for limit in (1, 2, 3):
        proxy = make_proxy({"pool": {"max_connections": 1, "max_prepared_statements": limit}})
        client = closing(proxy.wire())
        for turn in range(3):
            count = int(rows(client.batch(run(f"SELECT count(*) FROM information_schema.columns "
                                              f"WHERE table_name = '{table}'")))[0][0])
            client.batch(close("S", "s"), close("S", "t"), close("S", "u"))
            client.batch(parse("t", "SELECT 't'"), parse("u", "SELECT 'u'"), parse("s", f"SELECT * FROM {table}"))
            client.batch(bind("", "s"), execute())
            change()
            messages = client.batch(bind("", "s"), describe("P"), execute(), bind("", "t"), execute(), bind("", "u"),
                                    execute(), parse(f"v{turn}", f"SELECT 'v{turn}'"), bind("", f"v{turn}"), execute(),
                                    bind("", "t"), execute())
            assert not errors(messages)
            assert [len(rows(messages)[0]), *rows(messages)[1:]] == [count + 1, ["t"], ["u"], [f"v{turn}"], ["t"]]
            assert rows(client.batch(*(bind("", n) + execute() for n in "tutu"))) == [["t"], ["u"]] * 2
        assert repeated(proxy) == 3


def test_unnamed_statement_replaced_within_what_is_repeated(one_link, changing):
    proxy, (first, second, _) = one_link
    table, change = changing
    text = f"SELECT * FROM {table}"
    first.batch(run(text))
    change()
    messages = second.batch(parse("", text), bind(), describe("P"), execute(), parse("", "SELECT 'other'"), bind(),
                            execute(), parse("", text), bind(), execute())
    assert (errors(messages), rows(messages)) == ([], [["1", "2"], ["other"], ["1", "2"]])
    assert rows(second.batch(bind(), execute())) == [["1", "2"]]
    assert repeated(proxy) == 1


def test_cancel_and_leaving_while_it_is_repeated(one_link, changing):
    proxy, (first, second, third) = one_link
    table, change = changing
    text = f"SELECT t.*, pg_sleep(30) FROM {table} t"
    first.batch(parse("s", text))
    change()
    first.send(bind("", "s"), describe("P"), execute(), sync())
    wait_until(lambda: repeated(proxy) == 1)
    wait_until(lambda: int(_active(proxy, table)) == 1)
    first.cancel()
    assert errors(first.until_ready()) == ["57014"]
    change()
    second.batch(parse("s", text))
    second.send(bind("", "s"), describe("P"), execute(), sync())
    second.socket.close()
    assert rows(third.batch(run("SELECT 'well'"))) == [["well"]]


def _active(proxy, table):
    with proxy.postgres.admin("app") as db:
        return db.execute("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s "
                          "AND pid <> pg_backend_pid()", [f"%{table} t%"]).fetchone()[0]


# ---------------------------------------------------------------- drivers

def test_psycopg(make_proxy, changing):
    proxy = make_proxy({"pool": {"max_connections": 2}})
    table, change = changing
    with proxy.connect(prepare_threshold=0) as db, proxy.connect(prepare_threshold=0) as other:
        for i in range(5):
            for client in (db, other, db):
                for binary in (False, True):
                    found = client.execute(f"SELECT * FROM {table} WHERE a = %s", [1], binary=binary)
                    assert len(found.fetchone()) == len(found.description) == i + 1
            change()
    assert repeated(proxy) + proxy.metric("shared_returned_total") >= 4  # on links of their own, and on shared ones


def test_asyncpg(one_link, changing):
    """It goes by what it was told, and prepares anew by itself when it hears of a change."""
    asyncpg = pytest.importorskip("asyncpg")
    proxy, (neighbour, _, _) = one_link
    table, change = changing
    text = f"SELECT * FROM {table} WHERE a = $1"

    async def talk():
        host, port = proxy.address
        client = await asyncpg.connect(host=host, port=port, user="app", database="app")
        for i in range(4):
            assert len(await client.fetchrow(text, 1)) == i + 1
            assert len(await client.fetchrow(text, 1)) == i + 1
            change()
        assert len(rows(neighbour.batch(run(text, ["1"])))[0]) == 5
        await client.close()
        for i in range(5, 8):  # a new client's Parse is answered for what others have prepared
            client = await asyncpg.connect(host=host, port=port, user="app", database="app")
            assert len(await client.fetchrow(text, 1)) == i
            await client.close()
            change()

    asyncio.run(talk())
