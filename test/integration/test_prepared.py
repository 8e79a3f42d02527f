"""Prepared statements: the client's own names on whatever link, bounded caches, SQL-level statements, DDL."""

import random
import threading

import pytest
from harness import ServerError, wait_until, wire
from harness.wire import bind, close, describe, errors, execute, kinds, parse, query, rows, run, summary, sync

pytestmark = pytest.mark.matrix


def prepare(client, name, sql):
    assert kinds(client.batch(parse(name, sql))) == "1Z"


def call(client, name, *values):
    return rows(client.batch(bind("", name, values), execute()))


def test_same_name_different_texts(target):
    clients = [target.wire() for _ in range(8)]
    for i, client in enumerate(clients):
        prepare(client, "stmt", f"SELECT 'client {i}', $1::int")
    for turn in range(5):
        for i, client in enumerate(clients):
            assert call(client, "stmt", turn) == [[f"client {i}", str(turn)]]


def test_same_text_different_names(target):
    clients = [target.wire() for _ in range(4)]
    for i, client in enumerate(clients):
        prepare(client, f"n{i}", "SELECT $1::int")
    for i, client in enumerate(clients):
        assert call(client, f"n{i}", i) == [[str(i)]]
        assert errors(client.batch(bind("", f"n{i + 1}", [1]))) == ["26000"]


def test_same_text_different_parameter_types(target):
    first, second = target.wire(), target.wire()
    first.batch(parse("s", "SELECT pg_typeof($1)::text", [23]))
    second.batch(parse("s", "SELECT pg_typeof($1)::text", [25]))
    for _ in range(3):
        assert call(first, "s", "1") == [["integer"]]
        assert call(second, "s", "1") == [["text"]]


def test_same_text_different_search_path(target, name):
    """The text means another table for each: they must not share a plan, nor a statement."""
    target.postgres.sql(f"CREATE SCHEMA {name}_a; CREATE SCHEMA {name}_b;"
                        f"CREATE TABLE {name}_a.t AS SELECT 'a' AS v; CREATE TABLE {name}_b.t AS SELECT 2 AS v, 3 AS w;"
                        f"GRANT ALL ON SCHEMA {name}_a, {name}_b TO PUBLIC;"
                        f"GRANT ALL ON {name}_a.t, {name}_b.t TO PUBLIC", database="app")
    first = target.wire(search_path=f"{name}_a")
    second = target.wire(search_path=f"{name}_b")
    prepare(first, "s", "SELECT * FROM t")
    prepare(second, "s", "SELECT * FROM t")
    for _ in range(4):
        assert call(first, "s") == [["a"]]
        assert call(second, "s") == [["2", "3"]]
        assert [c for c, _ in first.batch(describe("S", "s"))[1].columns] == ["v"]
        assert [c for c, _ in second.batch(describe("S", "s"))[1].columns] == ["v", "w"]


@pytest.mark.parametrize("seed", range(3))
def test_many_clients_many_statements(target, seed):
    rng = random.Random(seed)
    clients = [target.wire() for _ in range(20)]
    known = [{} for _ in clients]
    for step in range(600):
        i = rng.randrange(len(clients))
        client, mine = clients[i], known[i]
        name = f"s{rng.randrange(6)}"
        if name not in mine:
            mine[name] = f"{rng.randrange(40)}"
            assert kinds(client.batch(parse(name, f"SELECT {mine[name]}, $1::int"))) == "1Z"
        elif rng.random() < 0.15:
            assert kinds(client.batch(close("S", name))) == "3Z"
            del mine[name]
            assert errors(client.batch(bind("", name, [1]))) == ["26000"]
        else:
            assert call(client, name, step) == [[mine[name], str(step)]]


def test_twenty_clients_on_two_links(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 2}})
    clients = [closing(proxy.wire()) for _ in range(20)]
    problems = []

    def work(i, client):
        try:
            prepare(client, "mine", f"SELECT 'client {i}', $1::text")
            for n in range(50):
                got = call(client, "mine", n)
                if got != [[f"client {i}", str(n)]]:
                    problems.append((i, n, got))
        except BaseException as e:  # noqa: BLE001
            problems.append((i, e))

    threads = [threading.Thread(target=work, args=(i, c)) for i, c in enumerate(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems
    assert proxy.metric("links_opened_total") <= 2
    assert proxy.metric("statements_prepared_total") <= 40


def test_shared_text_is_prepared_once_a_link(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    clients = [closing(proxy.wire()) for _ in range(10)]
    for i, client in enumerate(clients):
        prepare(client, f"n{i}", "SELECT $1::int + 1000")
        assert call(client, f"n{i}", i) == [[str(1000 + i)]]
    assert proxy.metric("statements_prepared_total") == 1
    assert proxy.metric("statements_shared_total") >= 9


def test_unnamed_statement_is_not_parsed_again(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1, "share": "off"}})
    client = closing(proxy.wire())
    for i in range(10):
        assert rows(client.batch(run("SELECT $1::int + 2000", [i]))) == [[str(2000 + i)]]
    assert proxy.metric("statements_prepared_total") <= 1


def test_unnamed_statement_is_parsed_when_told_so(make_proxy, closing):
    proxy = make_proxy({"proxy": {"optimize_unnamed_parse": False}, "pool": {"max_connections": 1}})
    client = closing(proxy.wire())
    for i in range(10):
        assert rows(client.batch(run("SELECT $1::int + 2000", [i]))) == [[str(2000 + i)]]
    assert proxy.metric("statements_prepared_total") == 10


@pytest.mark.parametrize("limit", [1, 2])
def test_eviction(make_proxy, closing, limit):
    proxy = make_proxy({"pool": {"max_connections": 1, "max_prepared_statements": limit}})
    client = closing(proxy.wire())
    for i in range(10):
        prepare(client, f"s{i}", f"SELECT {i}")
    for turn in range(3):
        for i in range(10):
            assert call(client, f"s{i}") == [[str(i)]]
    held = client.value("SELECT count(*) FROM pg_prepared_statements")
    assert int(held) <= limit
    assert proxy.metric("statements_evicted_total") > 0


@pytest.mark.parametrize("limit", [1, 2])
def test_eviction_within_a_pipeline(make_proxy, closing, limit):
    """A statement that is evicted between its Parse and its Bind of the same packet must be there nevertheless."""
    proxy = make_proxy({"pool": {"max_connections": 1, "max_prepared_statements": limit}})
    client = closing(proxy.wire())
    parts = [parse(f"s{i}", f"SELECT {i}, $1::int") for i in range(6)]
    parts += [bind("", f"s{i % 6}", [i]) + describe("P") + execute() for i in range(30)]
    messages = client.batch(*parts)
    assert not errors(messages)
    assert rows(messages) == [[str(i % 6), str(i)] for i in range(30)]
    assert rows(client.batch(*(bind("", f"s{i}", [i]) + execute() for i in (5, 0, 5, 1)))) == \
        [[str(i), str(i)] for i in (5, 0, 5, 1)]


def test_eviction_with_an_error_in_the_pipeline(make_proxy, closing):
    """What the server skipped was neither prepared nor closed: the proxy must not believe it was."""
    proxy = make_proxy({"pool": {"max_connections": 1, "max_prepared_statements": 2}})
    client = closing(proxy.wire())
    for i in range(4):
        prepare(client, f"s{i}", f"SELECT {i}")
    for turn in range(4):
        messages = client.batch(bind("", "s0"), execute(), run("SELECT 1/0"), bind("", "s1"), execute(),
                                bind("", "s2"), execute(), parse(f"new{turn}", "SELECT 'new'"))
        assert errors(messages) == ["22012"] and rows(messages) == [["0"]]
        assert errors(client.batch(bind("", f"new{turn}"))) == ["26000"]
        for i in (3, 2, 1, 0):
            assert call(client, f"s{i}") == [[str(i)]]

def test_what_a_failed_batch_did_not_close_and_a_later_one_does(make_proxy, closing):
    """The link's room is one too small. The first batch fails, so that its Close is skipped; the third closes the same."""
    proxy = make_proxy({"proxy": {"workers": 1},
                        "pool": {"mode": "transaction", "max_connections": 1, "max_prepared_statements": 2}})
    client = closing(proxy.wire())
    assert errors(client.batch(parse("a", "SELECT 'a'"))) == []
    for last in ("SELECT 'c'", "SELEKT"):  # the second time it is not closed in the end
        client.send(bind("", "unknown") + parse("b", "SELECT 'a'") + sync() +
                    parse("c", f"SELECT {len(last)}") + sync() +
                    parse("d", last) + sync())
        found = [errors(client.until_ready()) for _ in range(3)]
        assert found[:2] == [["26000"], []] and found[2] == ([] if last != "SELEKT" else ["42601"])
        client.query("BEGIN")  # where nothing can be repaired
        for _ in range(2):
            assert rows(client.batch(bind("", "a"), execute())) == [["a"]]
        client.query("COMMIT")
        assert errors(client.batch(close("S", "c"), close("S", "d"))) == []


def test_open_portal_of_an_evicted_statement(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1, "max_prepared_statements": 1}})
    client = closing(proxy.wire())
    client.query("BEGIN")
    client.batch(parse("a", "SELECT * FROM generate_series(1, 4)"), bind("p", "a"), execute("p", 2))
    client.batch(parse("b", "SELECT 'b'"), bind("", "b"), execute())
    assert rows(client.batch(execute("p", 0))) == [["3"], ["4"]]
    client.query("COMMIT")


def test_client_limit_of_statements(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_client_prepared_statements": 5}})
    client = closing(proxy.wire())
    for i in range(5):
        prepare(client, f"s{i}", f"SELECT {i}")
    messages = client.batch(parse("s5", "SELECT 5"))
    assert len(errors(messages)) == 1
    assert call(client, "s0") == [["0"]]
    client.batch(close("S", "s0"))
    prepare(client, "s5", "SELECT 5")
    assert call(client, "s5") == [["5"]]


def test_statements_unshared_pin(make_proxy, closing):
    """max_prepared_statements = 0 counts as 1: each statement is prepared when it is used."""
    proxy = make_proxy({"pool": {"max_connections": 2, "max_prepared_statements": 0}})
    first, second = closing(proxy.wire()), closing(proxy.wire())
    prepare(first, "s", "SELECT 'first'")
    prepare(second, "s", "SELECT 'second'")
    for _ in range(5):
        assert call(first, "s") == [["first"]]
        assert call(second, "s") == [["second"]]


def test_client_that_left_leaves_no_names(target):
    first = target.wire()
    prepare(first, "left", "SELECT 1")
    first.close()
    second = target.wire()
    assert errors(second.batch(bind("", "left"))) == ["26000"]
    prepare(second, "left", "SELECT 2")
    assert call(second, "left") == [["2"]]


# ---------------------------------------------------------------- failed Parse

def test_failed_parse_then_reuse_of_the_name(target):
    client = target.wire()
    for i in range(3):
        assert errors(client.batch(parse("again", "SELEKT"))) == ["42601"]
        assert errors(client.batch(bind("", "again"))) == ["26000"]
    prepare(client, "again", "SELECT 'now'")
    assert call(client, "again") == [["now"]]


def test_failed_parse_of_a_text_that_is_right_later(target, name):
    clients = [target.wire() for _ in range(3)]
    for client in clients:
        assert errors(client.batch(parse("later", f"SELECT * FROM {name}"))) == ["42P01"]
    target.postgres.sql(f"CREATE TABLE {name} AS SELECT 1 AS a; GRANT ALL ON {name} TO PUBLIC", database="app")
    for client in clients:
        prepare(client, "later", f"SELECT * FROM {name}")
        assert call(client, "later") == [["1"]]


def test_text_that_is_known_but_fails_now(target, name):
    """First prepared by one client, then its table is dropped: the second client's Parse must fail, or its Bind."""
    target.postgres.sql(f"CREATE TABLE {name} AS SELECT 1 AS a; GRANT ALL ON {name} TO PUBLIC", database="app")
    first, second = target.wire(), target.wire()
    prepare(first, "s", f"SELECT * FROM {name}")
    assert call(first, "s") == [["1"]]
    target.postgres.sql(f"DROP TABLE {name}", database="app")
    assert errors(second.batch(parse("s", f"SELECT * FROM {name}"), bind("", "s"), execute())) == ["42P01"]
    assert errors(first.batch(bind("", "s"), execute())) == ["42P01"]
    assert second.value("SELECT 1") == "1"


@pytest.mark.modes("session", "transaction")
def test_parse_in_a_transaction_that_rolls_back_stays(target):
    """Prepared statements are not transactional."""
    client = target.wire()
    client.query("BEGIN")
    prepare(client, "kept", "SELECT 'kept'")
    client.query("ROLLBACK")
    assert call(client, "kept") == [["kept"]]


@pytest.mark.modes("session", "transaction")
def test_parse_in_a_failed_transaction(target):
    client, direct = target.wire(), target.oracle()
    for each in (client, direct):
        prepare(each, "before", "SELECT 'before'")
        each.query("BEGIN")
        each.query("SELECT 1/0")
    for parts in ([parse("in", "SELECT 1")], [bind("", "before"), execute()], [bind("", "in")],
                  [parse("c", "ROLLBACK")], [bind("", "c"), execute()], [bind("", "before"), execute()],
                  [bind("", "in")]):
        assert summary(client.batch(*parts)) == summary(direct.batch(*parts))


@pytest.mark.modes("session", "transaction")
def test_table_of_the_same_transaction(target, name):
    """The identity is known nowhere else, and is gone after the rollback."""
    client = target.wire()
    for _ in range(2):
        client.query("BEGIN")
        client.query(f"CREATE TABLE {name} (a int)")
        assert rows(client.batch(parse(name, f"SELECT count(*) FROM {name}"), bind("", name), execute())) == [["0"]]
        client.query("ROLLBACK")
        client.batch(close("S", name))
    assert errors(client.batch(parse("", f"SELECT count(*) FROM {name}"))) == ["42P01"]


# ---------------------------------------------------------------- schema changes

def test_schema_change(target, name):
    """PostgreSQL says 0A000 to a client that goes on with the old plan; a new Parse of the same text must work."""
    target.postgres.sql(f"CREATE TABLE {name} (a int); INSERT INTO {name} VALUES (1); GRANT ALL ON {name} TO PUBLIC",
                        database="app")
    client, other = target.wire(), target.wire()
    prepare(client, "s", f"SELECT * FROM {name}")
    prepare(other, "s", f"SELECT * FROM {name}")
    assert call(client, "s") == [["1"]]
    assert call(other, "s") == [["1"]]
    target.postgres.sql(f"ALTER TABLE {name} ADD COLUMN b int DEFAULT 2", database="app")
    messages = client.batch(bind("", "s"), describe("P"), execute())
    assert errors(messages) == ["0A000"] or rows(messages) == [["1", "2"]]
    client.batch(close("S", "s"))
    prepare(client, "s", f"SELECT * FROM {name}")
    assert call(client, "s") == [["1", "2"]]
    third = target.wire()
    prepare(third, "x", f"SELECT * FROM {name}")
    assert call(third, "x") == [["1", "2"]]


def test_schema_change_for_a_simple_retry(target, name):
    """What drivers do after 0A000: Close, Parse, Bind, Execute. It must end."""
    target.postgres.sql(f"CREATE TABLE {name} (a int); INSERT INTO {name} VALUES (1); GRANT ALL ON {name} TO PUBLIC",
                        database="app")
    clients = [target.wire() for _ in range(6)]
    for client in clients:
        prepare(client, "s", f"SELECT * FROM {name}")
        call(client, "s")
    target.postgres.sql(f"ALTER TABLE {name} ALTER a TYPE text", database="app")
    for client in clients:
        for attempt in range(4):
            messages = client.batch(bind("", "s"), execute())
            if not errors(messages):
                break
            assert errors(messages) == ["0A000"]
            client.batch(close("S", "s"))
            prepare(client, "s", f"SELECT * FROM {name}")
        assert rows(messages) == [["1"]]


# ---------------------------------------------------------------- SQL level

def test_deallocate_all_and_discard_all(target):
    for text in ("DEALLOCATE ALL", "DISCARD ALL", "deallocate prepare all", "/* x */ Discard  ALL;"):
        client, neighbour = target.wire(), target.wire()
        prepare(client, "s", "SELECT 1")
        prepare(neighbour, "s", "SELECT 2")
        assert not errors(client.query(text)), text
        assert errors(client.batch(bind("", "s"))) == ["26000"], text
        prepare(client, "s", "SELECT 3")
        assert call(client, "s") == [["3"]]
        assert call(neighbour, "s") == [["2"]], text


def test_deallocate_through_the_extended_protocol(target):
    client = target.wire()
    prepare(client, "s", "SELECT 1")
    assert not errors(client.batch(run("DEALLOCATE ALL")))
    assert errors(client.batch(bind("", "s"))) == ["26000"]


def test_deallocate_of_a_protocol_statement(target):
    """libpq's own way before version 17, and Rails'."""
    client, neighbour = target.wire(), target.wire()
    prepare(client, "a1", "SELECT 1")
    prepare(neighbour, "a1", "SELECT 2")
    assert wire.tags(client.query("DEALLOCATE a1")) == ["DEALLOCATE"]
    assert errors(client.batch(bind("", "a1"))) == ["26000"]
    assert call(neighbour, "a1") == [["2"]]
    prepare(client, '"Quoted"', "SELECT 3")
    assert errors(client.query('DEALLOCATE "Quoted"')) == ["26000"]
    prepare(client, "Quoted", "SELECT 3")
    assert wire.tags(client.query('DEALLOCATE "Quoted"')) == ["DEALLOCATE"]


@pytest.mark.modes("session", "transaction")
def test_deallocate_of_a_protocol_statement_in_a_transaction(target):
    """What psycopg 3 does when its cache is full. It is the server's answer, for its transaction may have failed."""
    client, neighbour = target.wire(), target.wire()
    prepare(neighbour, "a1", "SELECT 2")
    for text in ("DEALLOCATE a1", "deallocate prepare A1;", 'DEALLOCATE "a1"'):
        prepare(client, "a1", "SELECT 1")
        client.query("BEGIN")
        assert summary(client.query(text)) == ["C:DEALLOCATE", "ZT"]
        assert errors(client.batch(bind("", "a1"))) == ["26000"]
        assert errors(client.query(text)) == ["25P02"]
        client.query("ROLLBACK")
        assert errors(client.batch(bind("", "a1"))) == ["26000"]
        prepare(client, "a1", "SELECT 1")
        client.query("BEGIN")
        client.query("SELECT 1/0")
        assert errors(client.query(text)) == ["25P02"]
        client.query("ROLLBACK")
        assert call(client, "a1") == [["1"]] and call(neighbour, "a1") == [["2"]]
        client.batch(close("S", "a1"))
    stranger = target.wire()
    assert errors(stranger.batch(bind("", "a1"))) == ["26000"]


@pytest.mark.modes("session", "transaction")
def test_deallocate_of_a_protocol_statement_through_the_extended_protocol(target):
    client, neighbour = target.wire(), target.wire()
    prepare(neighbour, "a1", "SELECT 2")
    for _ in range(3):
        prepare(client, "a1", "SELECT 1")
        messages = client.batch(run("DEALLOCATE a1"))
        assert wire.tags(messages) == ["DEALLOCATE"]
        assert errors(client.batch(bind("", "a1"))) == ["26000"]
        assert errors(client.batch(run("DEALLOCATE a1"))) == ["26000"]
        # a pipeline whose transaction has failed by then
        prepare(client, "a1", "SELECT 1")
        client.send(run("BEGIN"), sync(), run("SELECT 1/0"), sync(), run("DEALLOCATE a1"), sync(), query("ROLLBACK"))
        assert errors(client.until_ready(4)) == ["22012", "25P02"]
        assert call(client, "a1") == [["1"]] and call(neighbour, "a1") == [["2"]]
        client.batch(run("DEALLOCATE a1"))
    stranger = target.wire()
    assert errors(stranger.batch(bind("", "a1"))) == ["26000"]


@pytest.mark.modes("session", "transaction")
@pytest.mark.parametrize("text", ["DEALLOCATE a1", "DEALLOCATE ALL", "deallocate prepare \"a1\""])
def test_name_that_is_free_again_within_a_batch(target, text):
    client, direct, neighbour = target.wire(), target.oracle(), target.wire()
    prepare(neighbour, "a1", "SELECT 'neighbour'")
    for parts in ([run(text), run("SELECT 'new'", name="a1"), run("", name="a1", parse_too=False)],
                  [run(text), bind("", "a1"), execute(), run("SELECT 'skipped'")],
                  [run("BEGIN"), run("SELECT 1/0"), run(text), run("SELECT 'skipped'", name="a1"), sync(),
                   query("ROLLBACK"), bind("", "a1"), execute()],
                  [run(text), run(text), describe("S", "a1")],
                  [run(text), parse("a1", "SELECT 'twice'"), parse("a1", "SELECT 'never'")],
                  [run("SELECT 1/0"), run(text), parse("a1", "SELECT 'skipped'"), sync(), bind("", "a1"), execute()],
                  [run(text), close("S", "a1"), parse("a1", "SELECT 'third'"), describe("S", "a1")]):
        for each in (client, direct):
            each.batch(close("S", "a1"), parse("a1", "SELECT 'old'"))
            each.send(*parts, sync())
        syncs = 3 if query("ROLLBACK") in parts else 2 if sync() in parts else 1
        found, expected = client.until_ready(syncs), direct.until_ready(syncs)
        assert summary(found) == summary(expected)
        assert call(neighbour, "a1") == [["neighbour"]]


def test_deallocate_behind_what_makes_the_statement(target):
    client = target.wire()
    client.send(parse("a1", "SELECT 1"), sync(), query("DEALLOCATE a1"), bind("", "a1"), sync(),
                parse("a2", "SELEKT"), sync(), query("DEALLOCATE a2"))
    assert errors(client.until_ready(5)) == ["26000", "42601", "26000"]


@pytest.mark.modes("session", "transaction")
def test_psycopg_with_a_full_cache(target):
    with target.connect(prepare_threshold=0) as db:
        db.prepared_max = 3
        with db.transaction():
            for i in range(12):
                assert db.execute(f"SELECT {i}, %s", [i]).fetchone() == (i, i)
        with db.pipeline():
            for i in range(12):
                assert db.execute(f"SELECT {i}, %s", [i]).fetchone() == (i, i)


def test_deallocate_of_what_is_not_there(target):
    client = target.wire()
    messages = client.query("DEALLOCATE nobody")
    assert summary(messages) == ['E:ERROR:26000:prepared statement "nobody" does not exist', "ZI"]


@pytest.mark.modes("session", "transaction")
def test_sql_prepare_and_execute(target):
    """By default the link is pinned: it behaves as on a direct connection."""
    client, neighbour = target.wire(), target.wire()
    assert wire.tags(client.query("PREPARE q(int) AS SELECT $1 + 1")) == ["PREPARE"]
    assert wire.tags(neighbour.query("PREPARE q(int) AS SELECT $1 + 2")) == ["PREPARE"]
    for _ in range(3):
        assert client.value("EXECUTE q(1)") == "2"
        assert neighbour.value("EXECUTE q(1)") == "3"
    assert errors(client.query("PREPARE q AS SELECT 1")) == ["42P05"]
    assert wire.tags(client.query("DEALLOCATE q")) == ["DEALLOCATE"]
    assert errors(client.query("EXECUTE q(1)")) == ["26000"]
    assert neighbour.value("EXECUTE q(1)") == "3"


@pytest.mark.modes("session", "transaction")
def test_sql_prepared_statement_used_by_the_protocol(target):
    """PDO mixes the two."""
    client = target.wire()
    client.query("PREPARE mixed AS SELECT 'mixed'")
    assert call(client, "mixed") == [["mixed"]]
    assert kinds(client.batch(close("S", "mixed"))) == "3Z"
    assert errors(client.query("EXECUTE mixed")) == ["26000"]


@pytest.mark.modes("session")
def test_protocol_statement_used_by_sql(target):
    client = target.wire()
    prepare(client, "mixed", "SELECT 'mixed'")
    assert client.value("EXECUTE mixed") == "mixed"
    assert client.value("SELECT count(*) FROM pg_prepared_statements WHERE name = 'mixed'") == "1"


def test_sql_prepare_refused_by_policy(make_proxy, closing):
    proxy = make_proxy({"pool": {"session_state": "refuse", "max_connections": 1}})
    client = closing(proxy.wire())
    assert len(errors(client.query("PREPARE q AS SELECT 1"))) == 1
    assert client.status == "I"
    assert errors(client.query("EXECUTE q")) == ["26000"]
    prepare(client, "s", "SELECT 1")
    assert call(client, "s") == [["1"]]


def test_eviction_leaves_no_statement_of_clients_that_left(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    for i in range(10):
        client = proxy.wire()
        client.query("PREPARE gone AS SELECT 1")
        client.close()
    wait_until(lambda: proxy.metric("links_pinned") == 0)
    last = closing(proxy.wire())
    assert last.value("SELECT count(*) FROM pg_prepared_statements WHERE name = 'gone'") == "0"


# ---------------------------------------------------------------- large ones

def test_large_parse_and_bind(target):
    client = target.wire()
    text = "SELECT length($1), '" + "y" * 300_000 + "'"
    prepare(client, "large", text)
    value = "x" * 2_000_000
    for _ in range(2):
        ((size, filler),) = call(client, "large", value)
        assert (size, len(filler)) == ("2000000", 300_000)


def test_statement_too_large_to_be_kept(target):
    """Longer than limits.max_message_kept: it pins, and works."""
    client, neighbour = target.wire(), target.wire()
    for each, letter in ((client, "a"), (neighbour, "b")):
        prepare(each, "huge", f"SELECT length('{letter * 1_500_000}'), '{letter}'")
    for _ in range(3):
        assert call(client, "huge") == [["1500000", "a"]]
        assert call(neighbour, "huge") == [["1500000", "b"]]


def test_raised_error_names_the_clients_own_statement(target):
    """No error text shows a name that only the proxy knows."""
    client = target.wire()
    prepare(client, "my_name", "SELECT $1::int")
    messages = client.batch(bind("", "my_name", [1, 2, 3]))
    (error,) = [m for m in messages if m.kind == "E"]
    assert error.code == "08P01"
    assert "hp_" not in error.fields["M"] and "my_name" in error.fields["M"]


def test_psycopg_prepares_on_its_own(target, table):
    with target.connect(prepare_threshold=0) as db:
        for i in range(1, 11):
            assert db.execute(f"SELECT v FROM {table} WHERE id = %s", [i]).fetchone() == (f"v{i}",)


def test_threads_with_drivers(target, table):
    problems = []

    def work(seed):
        try:
            with target.connect(prepare_threshold=0) as db:
                rng = random.Random(seed)
                for _ in range(60):
                    i, k = rng.randrange(1, 11), rng.randrange(6)
                    got = db.execute(f"SELECT v, {k} FROM {table} WHERE id = %s", [i]).fetchone()
                    if got != (f"v{i}", k):
                        problems.append(got)
        except BaseException as e:  # noqa: BLE001
            problems.append(e)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems


def test_pipelined_close_and_parse_of_one_name(target):
    client = target.wire()
    parts = []
    for i in range(50):
        parts += [parse("n", f"SELECT {i % 5}"), bind("", "n"), execute(), close("S", "n")]
    messages = client.batch(*parts)
    assert rows(messages) == [[str(i % 5)] for i in range(50)]


def test_simple_query_between_parse_and_bind(target):
    client = target.wire()
    client.send(parse("s", "SELECT 's'"), sync(), query("SELECT 'q'"), bind("", "s"), execute(), sync())
    assert rows(client.until_ready(3)) == [["q"], ["s"]]


def test_server_error_is_raised_to_the_right_client(target):
    first, second = target.wire(), target.wire()
    prepare(first, "s", "SELECT 1/$1::int")
    prepare(second, "s", "SELECT 1/$1::int")
    for _ in range(5):
        assert errors(first.batch(bind("", "s", [0]), execute())) == ["22012"]
        assert call(second, "s", 1) == [["1"]]
    with pytest.raises(ServerError):
        first.rows("SELECT 1/0")


# ---------------------------------------------------------------- what a failed batch did not do

def test_statement_that_a_failed_batch_was_to_prepare(make_proxy, closing):
    """The link lacks s0 when the first batch needs it; the server skips its Parse, and the second batch needs it, too."""
    proxy = make_proxy({"pool": {"max_connections": 1, "max_prepared_statements": 1}})
    client = closing(proxy.wire())
    prepare(client, "s0", "SELECT 0")
    prepare(client, "s1", "SELECT 1")
    for _ in range(3):
        client.send(bind("", "nobody"), bind("", "s0"), execute(), sync(), bind("", "s0"), execute(), sync())
        messages = client.until_ready(2)
        assert errors(messages) == ["26000"] and rows(messages) == [["0"]]
        client.send(bind("", "nobody"), bind("", "s1"), execute(), sync(), bind("", "s0"), execute(), sync())
        messages = client.until_ready(2)  # s0 was to be closed
        assert errors(messages) == ["26000"] and rows(messages) == [["0"]]
        assert call(client, "s1") == [["1"]]


def test_unnamed_statement_that_a_failed_batch_was_to_prepare(make_proxy, closing):
    """It must not be somebody else's that the second batch finds."""
    proxy = make_proxy({"pool": {"max_connections": 1}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    for _ in range(3):
        client.batch(parse("", "SELECT 'mine'"))
        other.batch(parse("", "SELECT 'the other''s'"))
        client.send(bind("", "nobody"), bind("", ""), execute(), sync(), bind("", ""), execute(), sync())
        messages = client.until_ready(2)
        assert errors(messages) == ["26000"] and rows(messages) == [["mine"]]


def test_duplicate_of_a_statement_that_a_failed_batch_was_to_prepare(make_proxy, closing):
    """The server is to refuse the second text: if it took it, everybody's s0 would be another statement."""
    proxy = make_proxy({"pool": {"max_connections": 1, "max_prepared_statements": 1}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    prepare(client, "s0", "SELECT 0")
    prepare(client, "s1", "SELECT 1")
    client.send(bind("", "nobody"), bind("", "s0"), sync(), parse("s0", "SELECT 'wrong'"), sync())
    assert errors(client.until_ready(2)) == ["26000", "42P05"]
    prepare(other, "mine", "SELECT 0")
    assert call(other, "mine") == call(client, "s0") == [["0"]]


def test_names_behind_a_deallocate_all_under_way(make_proxy, closing):
    """Pipelined behind it in a transaction: the name is free again, and nobody's statement is harmed."""
    proxy = make_proxy({"pool": {"max_connections": 1}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    for text in ("DEALLOCATE ALL", "deallocate prepare all"):
        prepare(client, "s0", "SELECT 0")
        client.send(query("BEGIN"), query(text), parse("s0", "SELECT 'new'"), bind("", "s0"), execute(), sync(),
                    query("COMMIT"))
        messages = client.until_ready(4)
        assert not errors(messages) and rows(messages) == [["new"]]
        prepare(other, "mine", "SELECT 0")
        assert call(other, "mine") == [["0"]] and call(client, "s0") == [["new"]]
        client.send(query("BEGIN"), run(text), sync(), bind("", "s0"), sync(), query("ROLLBACK"))
        assert errors(client.until_ready(4)) == ["26000"]
        other.batch(close("S", "mine"))


def test_pipeline_with_more_statements_than_a_link_keeps(make_proxy, closing):
    """Each batch evicts what the next one needs, and some of them fail in front of it."""
    proxy = make_proxy({"pool": {"max_connections": 1, "max_prepared_statements": 2}})
    client = closing(proxy.wire())
    for i in range(5):
        prepare(client, f"s{i}", f"SELECT {i}")
    expected = []
    for i in range(60):
        fails = i % 7 in (2, 3)
        client.send(*([bind("", "nobody")] if fails else []), *(bind("", f"s{(i * k) % 5}") + execute() for k in (1, 2)),
                    sync())
        expected += [] if fails else [[str(i * k % 5)] for k in (1, 2)]
    messages = client.until_ready(60)
    assert rows(messages) == expected and set(errors(messages)) == {"26000"}


# ---------------------------------------------------------------- texts that mean something else for others

def test_constants_are_read_with_the_clients_own_settings(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    month_first, day_first = closing(proxy.wire(DateStyle="ISO, MDY")), closing(proxy.wire(DateStyle="ISO, DMY"))
    for _ in range(2):
        for client, month in ((month_first, "1"), (day_first, "2")):
            client.batch(close("S", "m"))
            prepare(client, "m", "SELECT extract(month FROM '01/02/2020'::date)")
            assert call(client, "m") == [[month]]
            assert rows(client.batch(run("SELECT 0 + extract(month FROM '01/02/2020'::date)"))) == [[month]]
    day_first.query("SET DateStyle = 'ISO, MDY'")
    assert rows(day_first.batch(run("SELECT 0 + extract(month FROM '01/02/2020'::date)"))) == [["1"]]


def test_now_as_a_literal_is_read_with_each_parse(make_proxy, closing):
    """A statement that was parsed by somebody else, or a while ago, has that moment in it."""
    proxy = make_proxy({"pool": {"max_connections": 1}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    text = "SELECT 'now'::timestamptz(6)"
    prepare(other, "s", text)
    seen = [call(other, "s")]
    for _ in range(3):
        seen.append(rows(client.batch(run(text))))
        client.batch(close("S", "mine"))
        prepare(client, "mine", text)
        seen.append(call(client, "mine"))
    assert len({str(each) for each in seen}) == len(seen)
    assert call(other, "s") == seen[0]
