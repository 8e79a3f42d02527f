"""What the proxy sends besides goes in front of the client's own, in the same packet: no transaction waits for it."""

import pytest
from harness import Relay, wait_until
from harness.wire import bind, close, describe, errors, execute, parse, query, rows, run, sync


@pytest.fixture
def counted(postgres, make_proxy, closing):
    """counted(pool settings) -> (proxy, client(), turns(act)): how often the proxy speaks to the server behind an answer."""
    relay = closing(Relay(postgres))

    def make(**pool):
        proxy = make_proxy({"pool": {"max_connections": 1, **pool}}, postgres=relay)
        closing(proxy.wire()).value("SELECT 'the link is there'")

        def turns(act):
            before = relay.turns
            act()
            return relay.turns - before

        return proxy, lambda **parameters: closing(proxy.wire(**parameters)), turns

    return make


def all_good(messages):
    assert not errors(messages)


def in_a_transaction(client):
    for sql in ("BEGIN", "SELECT 1", "COMMIT"):
        all_good(client.query(sql))


def test_plain(counted):
    _, connect, turns = counted()
    client = connect()
    assert turns(lambda: all_good(client.query("SELECT 1"))) == 1
    assert turns(lambda: in_a_transaction(client)) == 3
    assert turns(lambda: all_good(client.batch(run("SELECT 1")))) == 1
    assert turns(lambda: client.batch(sync())) == 0


def test_parameters(counted):
    proxy, connect, turns = counted()
    first, second = connect(), connect()
    first.query("SET search_path = pg_catalog")
    second.query("SET search_path = information_schema")
    assert turns(lambda: all_good(first.query("SELECT 1"))) == 2  # no server has accepted that from the proxy yet
    assert turns(lambda: all_good(second.query("SELECT 1"))) == 2
    before = proxy.metric("parameter_syncs_total")
    for client in (first, second, first, second):
        assert turns(lambda: all_good(client.query("SELECT 1"))) == 1
        assert turns(lambda: all_good(client.batch(run("SELECT 1")))) == 1
        assert turns(lambda: in_a_transaction(client)) == 3
    assert proxy.metric("parameter_syncs_total") == before + 4
    first.query("SET application_name = 'new'")
    second.query("SELECT 1")
    assert turns(lambda: all_good(first.query("SELECT 1"))) == 1  # that name can't be refused


def test_statements(counted, name):
    proxy, connect, turns = counted(max_prepared_statements=1)
    client, other = connect(), connect()
    for each in "ab":
        client.batch(parse(each, f"SELECT '{each}'"))
    for each in "abab":
        other.batch(run("SELECT 'other'"))
        assert turns(lambda: all_good(client.batch(bind("", each), describe("P"), execute()))) == 1
    assert proxy.metric("statements_evicted_total") >= 4
    all_good(other.query(f"CREATE VIEW {name} AS SELECT 1"))
    assert turns(lambda: all_good(client.batch(bind("", "a"), execute()))) == 1
    all_good(other.query(f"DROP VIEW {name}"))
    assert turns(lambda: all_good(client.batch(close("S", "a"), run("SELECT 'new'", name="a")))) == 1


def test_deferred_begin(counted):
    _, connect, turns = counted(defer_begin=True)
    client, other = connect(), connect()
    for _ in range(2):
        assert turns(lambda: in_a_transaction(client)) == 2
    other.query("SET search_path = pg_catalog")
    in_a_transaction(client)
    in_a_transaction(other)
    for each in (client, other):  # parameters, BEGIN and a statement that the link lacks, all in front
        each.batch(parse("s", f"SELECT '{id(each)}'"))
    in_a_transaction(client)
    assert turns(lambda: [other.query("BEGIN"), all_good(other.batch(bind("", "s"), execute())),
                          other.query("COMMIT")]) == 2
    assert turns(lambda: [client.query("BEGIN"), client.query("COMMIT")]) == 0


def test_what_costs_one(counted, name, postgres):
    proxy, connect, turns = counted()
    client = connect(search_path="pg_catalog")
    client.query("SET search_path = public")
    assert turns(lambda: all_good(client.query("RESET search_path"))) == 2
    client.batch(parse("s", "SELECT 's'"))
    assert turns(lambda: all_good(client.batch(run("DEALLOCATE s"), run("SELECT 't'", name="s")))) == 2
    postgres.sql(f"CREATE TABLE {name} (a int); GRANT ALL ON {name} TO PUBLIC", database="app")
    client.batch(parse("t", f"SELECT * FROM public.{name}"))
    postgres.sql(f"ALTER TABLE {name} ADD COLUMN b int", database="app")
    assert turns(lambda: all_good(client.batch(bind("", "t"), describe("P"), execute()))) == 2
    postgres.sql(f"DROP TABLE {name}", database="app")


def test_what_holds_the_link_but_not_the_client(counted):
    proxy, connect, turns = counted(track_parameters=["work_mem"])
    client, other = connect(), connect()

    def both():
        client.send(query("SELECT 'mine'"))
        assert rows(client.until_ready()) == [["mine"]]
        all_good(other.query("SELECT 1"))

    assert turns(both) in (3, 4)  # the last question may still be on its way
    assert turns(lambda: wait_until(lambda: sum(pool["active"] for pool in proxy.pools()) == 0)) in (0, 1)
