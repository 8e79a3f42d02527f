"""The text of what a session has under way, as GET /sessions shows it: right, or null. Queries wait at gates."""

import pytest
from harness import wait_until
from harness.wire import bind, close, execute, parse, query, rows, run, sync

MODES = ["session", "transaction", "statement"]


def config(mode="transaction", **pool):
    return {"pool": {"mode": mode, "max_connections": 1, **pool}}


def session_of(proxy, client):
    return next(s for s in proxy.sessions() if s["pid"] == client.backend_key[0])


def statement(proxy, client):
    return session_of(proxy, client)["statement"]


class Running:
    """What waits at a gate, as a context; at its end it is let through."""

    def __init__(self, gate, client, *parts, answers=1):
        self.gate, self.client, self.parts, self.answers = gate, client, parts, answers

    def __enter__(self):
        self.client.send(*self.parts)
        self.gate.wait()

    def __exit__(self, *failure):
        self.gate.open()
        if not failure[0]:
            self.client.until_ready(self.answers)


@pytest.mark.parametrize("mode", MODES)
def test_a_simple_query(make_proxy, closing, gate, postgres, mode):
    proxy = make_proxy(config(mode))
    client, g = closing(proxy.wire()), gate()
    assert statement(proxy, client) is None
    text = f"SELECT 'größer', {g.passage}, pg_backend_pid()"
    with Running(g, client, query(text)):
        shown = session_of(proxy, client)
        assert shown["statement"] == text and not shown["statement_is_cut"]
        assert shown["node"] == proxy.json("/nodes")[0]["address"] and shown["query_ms"] >= 0
        assert postgres.sql("SELECT query FROM pg_stat_activity WHERE pid = %s", [shown["server_pid"]]) == [(text,)]
        proxy.advance(100)
        assert session_of(proxy, client)["query_ms"] >= 100_000
    shown = session_of(proxy, client)
    assert shown["statement"] is None and shown["query_ms"] is None
    assert (shown["node"] is None) == (shown["server_pid"] is None) == (mode != "session")


@pytest.mark.parametrize("mode", MODES)
def test_extended_protocol(make_proxy, closing, gate, mode):
    proxy = make_proxy(config(mode))
    client = closing(proxy.wire())
    client.query("SELECT 'before'")
    first, second, third = gate(), gate(), gate()
    text = f"SELECT $1::int, {first.passage}"
    with Running(first, client, run(text, [7]), sync()):
        assert statement(proxy, client) == text
    client.query("SELECT 'between'")
    text = f"SELECT $1::int, {second.passage}"
    with Running(second, client, run(text, [7]), sync()):
        assert statement(proxy, client) == text
    text = f"SELECT 'named', {third.passage}"
    client.batch(parse("s", text))
    with Running(third, client, bind("", "s"), execute(), sync()):
        # in session mode nobody reads what names mean
        assert statement(proxy, client) == (None if mode == "session" else text)
    assert statement(proxy, client) is None


def test_in_session_mode_with_the_slow_log_names_are_known(make_proxy, closing, gate):
    proxy = make_proxy({**config("session"), "log": {"slow_query": "10s"}})
    client, g = closing(proxy.wire()), gate()
    text = f"SELECT 'named', {g.passage}"
    client.batch(parse("s", text))
    with Running(g, client, bind("", "s"), execute(), sync()):
        assert statement(proxy, client) == text


@pytest.mark.parametrize("mode", MODES)
def test_never_what_ran_before(make_proxy, closing, gate, mode):
    """Everything that is not known is null, whatever is still kept at the link."""
    proxy = make_proxy(config(mode, max_connections=2))
    client = closing(proxy.wire())
    first, second, third = gate(), gate(), gate()
    client.query("SELECT 'kept'")
    # two texts of one batch: their answers come together, so nobody knows which of them runs
    client.send(run("SELECT 1"), run(f"SELECT 2, {first.passage}"), sync())
    first.wait()
    assert statement(proxy, client) is None
    first.open()
    client.until_ready()
    client.query("SELECT 'kept'")
    # a portal with a name
    client.send(parse("", f"SELECT 3, {second.passage}"), bind("p", ""), execute("p"), sync())
    second.wait()
    assert statement(proxy, client) is None
    second.open()
    client.until_ready()
    # a function call at the server: no text at all
    client.query("SELECT 'kept'")
    if mode != "statement":
        client.query("BEGIN")
        client.query("SELECT 'kept'")
        assert statement(proxy, client) is None
        with Running(third, client, query(f"SELECT 4, {third.passage}")):
            assert statement(proxy, client) == f"SELECT 4, {third.passage}"
        client.query("COMMIT")


@pytest.mark.parametrize("mode", MODES)
def test_pipelined_simple_queries(make_proxy, closing, gate, mode):
    proxy = make_proxy(config(mode))
    client = closing(proxy.wire())
    first, second = gate(), gate()
    texts = [f"SELECT 1, {first.passage}", f"SELECT 2, {second.passage}"]
    client.send(query(texts[0]), query(texts[1]))
    first.wait()
    assert statement(proxy, client) == texts[0]
    first.open()
    second.wait()
    client.until_ready()
    assert statement(proxy, client) in (None, texts[1])
    second.open()
    client.until_ready()


def test_one_statement_executed_many_times(make_proxy, closing, gate):
    proxy = make_proxy(config())
    client, g = closing(proxy.wire()), gate()
    text = f"SELECT $1::int, CASE WHEN $1::int = 2 THEN {g.passage} END"
    client.batch(parse("s", text))
    parts = [part for i in range(4) for part in (bind("", "s", [i]), execute())]
    with Running(g, client, *parts, sync()):
        assert statement(proxy, client) == text


def test_a_name_that_means_something_else_meanwhile(make_proxy, closing, gate):
    """The client has closed it, and given it to another statement, before the first one is answered."""
    proxy = make_proxy(config())
    client, g = closing(proxy.wire()), gate()
    text = f"SELECT 'old', {g.passage}"
    client.batch(parse("s", text))
    with Running(g, client, bind("", "s"), execute(), close("S", "s"), parse("s", "SELECT 'new'"), sync()):
        assert statement(proxy, client) == text
    assert [row[0] for row in rows(client.batch(bind("", "s"), execute()))] == ["new"]


def test_the_unnamed_statement_that_is_another_meanwhile(make_proxy, closing, gate):
    proxy = make_proxy(config())
    client, g = closing(proxy.wire()), gate()
    text = f"SELECT 'old', {g.passage}"
    with Running(g, client, run(text), sync(), parse("", "SELECT 'new'"), sync(), answers=2):
        assert statement(proxy, client) in (None, text)
    assert statement(proxy, client) is None


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_of_two_clients_each_its_own(make_proxy, closing, gate, mode):
    """The link that has run one's query runs the other's; one waits for it."""
    proxy = make_proxy({"proxy": {"workers": 1}, **config(mode, max_connections=1 if mode == "transaction" else 2)})
    one, two = closing(proxy.wire()), closing(proxy.wire())
    g = gate()
    one.query("SELECT 'of one'")
    text = f"SELECT 'of two', {g.passage}"
    with Running(g, two, query(text)):
        assert statement(proxy, one) is None and statement(proxy, two) == text
        if mode == "transaction":
            one.send(query("SELECT 'waits'"))
            shown = wait_until(lambda: (s := session_of(proxy, one))["state"] == "waiting" and s)
            assert shown["statement"] == "SELECT 'waits'" and shown["query_ms"] is shown["node"] is None
        else:
            one.send(query("SELECT 'at once'"))
    one.until_ready()
    assert statement(proxy, one) is statement(proxy, two) is None


def test_waiting_with_a_prepared_statement(make_proxy, closing, gate):
    proxy = make_proxy({"proxy": {"workers": 1}, **config()})
    one, two = closing(proxy.wire()), closing(proxy.wire())
    g = gate()
    one.batch(parse("s", "SELECT 'prepared'"))
    with Running(g, two, query(f"SELECT {g.passage}")):
        one.send(bind("", "s"), execute(), sync())
        wait_until(lambda: session_of(proxy, one)["state"] == "waiting")
        assert statement(proxy, one) == "SELECT 'prepared'"
    one.until_ready()


def test_behind_a_begin_that_was_deferred(make_proxy, closing, gate):
    proxy = make_proxy(config(defer_begin=True))
    client = closing(proxy.wire())
    first, second = gate(), gate()
    client.query("BEGIN")
    with Running(first, client, query(f"SELECT 1, {first.passage}")):
        assert statement(proxy, client) == f"SELECT 1, {first.passage}"
    client.query("COMMIT")
    client.query("BEGIN")
    with Running(second, client, run(f"SELECT 2, {second.passage}"), sync()):
        assert statement(proxy, client) == f"SELECT 2, {second.passage}"
    client.query("COMMIT")


def test_settings_in_front_are_not_shown(make_proxy, closing, gate):
    proxy = make_proxy(config())
    client, other, g = closing(proxy.wire()), closing(proxy.wire()), gate()
    client.query("SET work_mem = '5MB'")
    other.query("SELECT 'with other settings'")
    with Running(g, client, query(f"SELECT 1, {g.passage}")):
        assert statement(proxy, client) == f"SELECT 1, {g.passage}"


def test_shared_links(make_proxy, closing, postgres):
    """Each of two on one link is shown what it has asked itself."""
    proxy = make_proxy({"proxy": {"workers": 1}, "pool": {"mode": "transaction", "max_connections": 1,
                        "share": "autocommit", "share_connections": 1, "share_max_cost": "1h", "share_stall": "1h"}})
    postgres.sql("CREATE TABLE IF NOT EXISTS underway_gate (v text)", database="app")
    postgres.sql("GRANT SELECT ON underway_gate TO PUBLIC", database="app")
    texts = ["SELECT 'one', count(*) FROM underway_gate", "SELECT 'two', count(*) FROM underway_gate"]
    clients = [closing(proxy.wire()), closing(proxy.wire()), closing(proxy.wire())]
    for _ in range(3):  # so often a text is measured before it is shared
        for client, text in zip(clients, texts):
            client.query(text)
            client.batch(run(texts[1]))
    holder = closing(postgres.admin("app"))
    holder.autocommit = False
    holder.execute("LOCK TABLE underway_gate IN ACCESS EXCLUSIVE MODE")
    clients[0].send(query(texts[0]))
    clients[1].send(query(texts[1]))
    clients[2].send(run(texts[1]), sync())
    shown = wait_until(lambda: (s := [session_of(proxy, c) for c in clients])
                       and [x["state"] for x in s] == ["shared"] * 3 and s)
    assert [s["statement"] for s in shown] == [texts[0], texts[1], texts[1]]
    holder.rollback()
    for client in clients:
        client.until_ready()


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_how_much_of_it(make_proxy, closing, gate, mode):
    """Cut between two characters; and not at all. A reload counts from the next query on."""
    proxy = make_proxy({**config(mode), "admin": {"statement_bytes": 20}})
    client = closing(proxy.wire())
    gates = [gate() for _ in range(4)]

    def shown(number, head, *, extended=False):
        g = gates[number]
        text = f"SELECT '{head}', {g.passage}"
        with Running(g, client, *((run(text), sync()) if extended else (query(text),))):
            s = session_of(proxy, client)
            return s["statement"], s["statement_is_cut"]

    assert shown(0, "0123456789abcdef") == ("SELECT '0123456789ab", True)
    assert shown(1, "0123456789äöü", extended=True) == ("SELECT '0123456789ä", True)
    proxy.reload({"admin": {"statement_bytes": 0}})
    assert shown(2, "0123456789abcdef")[0] is None
    proxy.reload({"admin": {"statement_bytes": 500}})
    assert shown(3, "0123456789abcdef") == (f"SELECT '0123456789abcdef', {gates[3].passage}", False)


def test_bytes_that_are_no_text(make_proxy, closing, gate):
    proxy = make_proxy(config())
    client, g = closing(proxy.wire(client_encoding="LATIN1")), gate()
    with Running(g, client, query(b"SELECT '\xe4\xff', ".decode("latin-1").encode("latin-1") + g.passage.encode())):
        assert statement(proxy, client).endswith(g.passage)
