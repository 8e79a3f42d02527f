"""DDL through the proxy: whoever sends a new Parse never hears of a plan that is older than that."""

import pytest
from harness.wire import bind, close, errors, execute, parse, rows, run, sync

pytestmark = pytest.mark.matrix


def change_schema(client, sql, how):
    if how == "simple":
        messages = client.query(sql)
    elif how == "among others":
        messages = client.query(f"SELECT 1; /* first */ {sql}; SELECT 2")
    elif how == "extended":
        messages = client.batch(run(sql))
    elif how == "named":
        messages = client.batch(parse("ddl", sql), bind("p", "ddl"), execute("p"), close("S", "ddl"))
    else:
        messages = client.query("BEGIN") + client.query(sql) + client.query("SELECT 3") + client.query("COMMIT")
    assert not errors(messages)


def see_columns(clients, text, number, count):
    """All at once, so that each is on a link of its own if it can be: with an unnamed Parse, and with a named one."""
    for client in clients:
        client.send(run(text), run(text, name=f"n{number}"), sync())
    for client in clients:
        messages = client.until_ready()
        assert not errors(messages)
        assert [len(row) for row in rows(messages)] == [count, count]


def check_schema_changes(target, name, how):
    changer = target.wire()
    changer.query(f"CREATE TABLE {name} (a int); INSERT INTO {name} VALUES (1)")
    try:
        clients = [target.wire() for _ in range(5)]
        text = f"SELECT t.* FROM {name} t, LATERAL (SELECT pg_sleep(0.01)) AS x"
        for i in range(8):
            see_columns(clients, text, i, i + 1)
            change_schema(changer, f"ALTER TABLE {name} ADD COLUMN c{i} int DEFAULT {i}", how)
            see_columns([changer], text, i, i + 2)
        see_columns(clients, text, "last", 9)
    finally:
        changer.query(f"ROLLBACK; DROP TABLE {name}")


@pytest.mark.parametrize("how", ["simple", "among others", "extended", "named"])
def test_schema_change_through_the_proxy(target, name, how):
    """A client that sends a new Parse never hears of a plan that is older than that."""
    check_schema_changes(target, name, how)


@pytest.mark.modes("session", "transaction")
def test_schema_change_in_a_transaction(target, name):
    check_schema_changes(target, name, "transaction")


@pytest.mark.parametrize("how", ["simple", "extended"])
def test_schema_change_on_the_same_link(narrow, name, how):
    check_schema_changes(narrow, name, how)


@pytest.mark.modes("session", "transaction")
def test_schema_change_within_ones_own_transaction(target, name):
    client = target.wire()
    client.query(f"CREATE TABLE {name} (a int); INSERT INTO {name} VALUES (1)")
    text = f"SELECT * FROM {name}"
    see_columns([client], text, "before", 1)
    client.query("BEGIN")
    see_columns([client], text, "begun", 1)
    client.query(f"ALTER TABLE {name} ADD COLUMN b int")
    see_columns([client], text, "altered", 2)
    see_columns([client], text, "again", 2)
    client.query("ROLLBACK")
    see_columns([client], text, "back", 1)
    client.query(f"DROP TABLE {name}")


def test_schema_change_in_the_same_batch(target, name):
    client = target.wire()
    client.query(f"CREATE TABLE {name} (a int); INSERT INTO {name} VALUES (1)")
    text = f"SELECT * FROM {name}"
    assert rows(client.batch(run(text))) == [["1"]]
    messages = client.batch(parse("ddl", f"ALTER TABLE {name} ADD COLUMN b int DEFAULT 2"), bind("", "ddl"), execute(),
                            run(text), run(text, name="after"))
    assert (errors(messages), rows(messages)) == ([], [["1", "2"]] * 2)
    client.query(f"DROP TABLE {name}")


def test_schema_change_by_another_user(target, name):
    """Another pool of the same database: migrations run as somebody else."""
    client, changer = target.wire(), target.wire(user="postgres")
    client.query(f"CREATE TABLE {name} (a int); INSERT INTO {name} VALUES (1)")
    text = f"SELECT * FROM {name}"
    for i in range(5):
        see_columns([client], text, i, i + 1)
        change_schema(changer, f"ALTER TABLE {name} ADD COLUMN c{i} int", "extended")
    see_columns([client], text, "last", 6)
    client.query(f"DROP TABLE {name}")


@pytest.mark.parametrize("sql", ["CREATE OR REPLACE VIEW {0} AS SELECT 1 AS a, 2 AS b",
                                 "DROP VIEW {0}; CREATE VIEW {0} AS SELECT 'x'::text AS a, 2 AS b",
                                 "DO $$ BEGIN NULL; END $$; CREATE OR REPLACE VIEW {0} AS SELECT 1 AS a, 2 AS b"])
def test_view_that_is_made_anew(target, name, sql):
    client, changer = target.wire(), target.wire()
    changer.query(f"CREATE VIEW {name} AS SELECT 1 AS a")
    see_columns([client, changer], f"SELECT * FROM {name}", "before", 1)
    assert not errors(changer.query(sql.format(name)))
    see_columns([client, changer], f"SELECT * FROM {name}", "after", 2)
    changer.query(f"DROP VIEW {name}")


@pytest.mark.modes("transaction")
def test_schema_change_with_a_pinned_client(target, name):
    """A client that keeps its link keeps what is prepared there, too."""
    client, changer = target.wire(), target.wire()
    client.query(f"CREATE TABLE {name} (a int); INSERT INTO {name} VALUES (1)")
    client.query("PREPARE own AS SELECT 'kept'")
    text = f"SELECT * FROM {name}"
    see_columns([client], text, "before", 1)
    change_schema(changer, f"ALTER TABLE {name} ADD COLUMN b int", "simple")
    see_columns([client], text, "after", 2)
    see_columns([client], text, "again", 2)
    assert client.value("EXECUTE own") == "kept"
    client.query(f"DROP TABLE {name}")


def test_schema_changes_that_nobody_must_hear_of(make_proxy, closing):
    """Temporary tables, indexes and roles: what links have prepared stays."""
    proxy = make_proxy({"pool": {"mode": "transaction", "max_connections": 1}})
    client = closing(proxy.wire())
    for i in range(5):
        client.query("BEGIN")
        client.query("CREATE TEMP TABLE x (a int) ON COMMIT DROP")
        client.query("CREATE INDEX ON x (a)")
        client.query("COMMIT")
        client.batch(run("SELECT 3000", name=f"n{i}"))
    assert proxy.metric("statements_prepared_total") == 1
