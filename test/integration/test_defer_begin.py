"""pool.defer_begin: BEGIN is answered at once, and sent in front of the next request. Nobody can tell but by the time."""

import random

import pytest
from harness import Relay, wait_until
from harness.wire import (bind, close, copy_data, copy_done, describe, errors, execute, flush, kinds, parse, query, rows,
                          run, summary, sync, tags)
from test_extended import SQL, converse, random_conversation, straight_to

BEGINS = ["BEGIN", "begin work;", "BEGIN TRANSACTION", "START TRANSACTION", " Begin ; ", "BEGIN READ ONLY",
          "BEGIN ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
          "BEGIN NOT DEFERRABLE READ ONLY", "begin isolation level read uncommitted"]
SENT_AT_ONCE = ["BEGIN READ WRITE", "BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN /* x */", "BEGIN -- y", "BEGIN; SELECT 1",
                "BEGIN;;", "BEGIN, READ ONLY", "BEGIN READ ONLY,", "BEGIN READ", "BEGIN NOT", "START", "BEGIN FOREVER",
                "BEGIN ISOLATION LEVEL", "START TRANSACTION ISOLATION LEVEL SNAPSHOT", "BEGIN READ ONLY,, DEFERRABLE"]


@pytest.fixture
def proxy(make_proxy):
    return make_proxy({"pool": {"defer_begin": True, "max_connections": 1}})


@pytest.fixture
def client(proxy, closing):
    return closing(proxy.wire())


@pytest.fixture
def direct(postgres, closing):
    return closing(straight_to(postgres))


def deferred(proxy):
    return proxy.metric("begins_deferred_total")


def active(proxy):
    return sum(pool["active"] for pool in proxy.pools())


@pytest.mark.parametrize("text", BEGINS)
def test_takes_no_link(proxy, client, text):
    tag = "START TRANSACTION" if "START" in text else "BEGIN"
    assert summary(client.query(text)) == [f"C:{tag}", "ZT"]
    assert deferred(proxy) == 1 and active(proxy) == 0
    assert [s["state"] for s in proxy.sessions()] == ["idle in transaction"]
    level = "repeatable read" if "REPEATABLE" in text else "read uncommitted" if "uncom" in text else "read committed"
    assert summary(client.query("SHOW transaction_isolation"))[1:] == [f"D:{level}", "C:SHOW", "ZT"]
    assert active(proxy) == 1
    assert client.value("SHOW transaction_read_only") == ("on" if "READ ONLY" in text else "off")
    assert summary(client.query("COMMIT")) == ["C:COMMIT", "ZI"]
    assert active(proxy) == 0


@pytest.mark.parametrize("text", SENT_AT_ONCE)
def test_anything_unusual_is_the_servers(proxy, client, direct, text):
    for each in (client, direct):
        each.sent = each.query(text) + each.query("SELECT 1") + each.query("ROLLBACK")
    assert summary(client.sent, without="SN") == summary(direct.sent, without="SN")
    assert deferred(proxy) == 0


@pytest.mark.parametrize("text", ["COMMIT", "end;", "ROLLBACK WORK", "abort transaction ;", "COMMIT AND CHAIN",
                                  "ROLLBACK /* x */", "COMMIT; SELECT 1", "ROLLBACK TO a",
                                  "COMMIT PREPARED 'x'", "", "BEGIN", "SELEKT", "SELECT 1/0", "SAVEPOINT a", "VACUUM",
                                  "SET LOCAL search_path = x", "SHOW search_path", "SELECT 1; COMMIT", "DISCARD ALL",
                                  "DEALLOCATE ALL", "SET TRANSACTION READ ONLY", "RESET ALL"])
def test_first_statement_of_any_kind(proxy, client, direct, text):
    for each in (client, direct):
        each.sent = []
        for sql in ("BEGIN", text, "SELECT 2", "ROLLBACK", "SELECT 3"):
            each.sent += each.query(sql)
    assert summary(client.sent, without="S") == summary(direct.sent, without="S")
    assert deferred(proxy) >= 1


def test_nothing_begun_costs_the_server_nothing(proxy, client):
    for end in ("COMMIT", "ROLLBACK"):
        for _ in range(5):
            client.query("BEGIN")
            client.query(end)
    assert proxy.metric("links_opened_total") <= 1 and deferred(proxy) == 10
    assert proxy.metric("queries_total") == 20


def test_a_thinking_client_holds_no_link(proxy, client, closing):
    client.query("BEGIN")
    others = [closing(proxy.wire()) for _ in range(5)]
    for other in others:
        assert other.value("SELECT 1") == "1"
    assert client.value("SELECT 2") == "2"
    others[0].send(query("SELECT 'waits'"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    client.query("COMMIT")
    assert rows(others[0].until_ready()) == [["waits"]]


@pytest.mark.parametrize("first", [
    [sync()], [flush(), sync()], [parse("s", "SELECT 1"), sync(), bind("", "s"), execute(), sync()],
    [run("SELECT 1"), sync()], [run("SELECT 1/0"), sync()], [parse("", "SELEKT"), sync()], [bind("", "none"), sync()],
    [close("S", "x"), sync()], [run("COMMIT"), sync()], [run("SELECT 1"), flush(), run("SELECT 2"), sync()],
    [run("SELECT 1"), query("SELECT 2"), sync()], [describe("S", "none"), sync()],
    [run("SELECT 1"), run("COMMIT"), run("SELECT 2"), sync()]])
def test_extended_protocol_behind_it(proxy, client, direct, first):
    for each in (client, direct):
        each.query("BEGIN")
        each.send(*first, query("SELECT 'behind'"), query("ROLLBACK"))
        each.sent = each.until_ready(sum(part[:1] in (b"S", b"Q") or part == run("SELECT 1") + sync() for part in first)
                                     + 2)
    assert summary(client.sent) == summary(direct.sent)
    assert client.value("SELECT 1") == "1"


def test_unnamed_statement_is_gone(client, direct):
    for each in (client, direct):
        each.batch(parse("", "SELECT 'old'"))
        each.query("BEGIN")
        each.sent = each.batch(bind(), execute()) + each.query("ROLLBACK")
    assert summary(client.sent) == summary(direct.sent)


@pytest.mark.parametrize("seed", range(40))
def test_any_mixture_answers_as_postgres(proxy, client, direct, seed):
    rng = random.Random(seed)
    parts = []
    for _ in range(rng.choice([2, 8, 20])):
        if rng.random() < 0.7:
            parts.append((query(rng.choice(BEGINS + ["BEGIN"] * 5)), 1))
        parts += random_conversation(rng, rng.choice([0, 1, 3, 10]), transactions=False)
        for _ in range(rng.choice([0, 0, 1, 3])):
            parts.append((query(rng.choice(SQL + ["SAVEPOINT a", "ROLLBACK TO a"])), 1))
        if rng.random() < 0.8:
            parts.append((query(rng.choice(["COMMIT", "ROLLBACK", "END;", "ABORT"])), 1))
    parts.append((query("ROLLBACK"), 1))
    chunk = rng.choice([1, 1, 3, 1000])
    assert summary(converse(client, parts, chunk), without="SN") == summary(converse(direct, parts, chunk), without="SN")
    assert rows(client.batch(run("SELECT 'well'"))) == [["well"]]


def test_what_it_did_is_one_transaction(proxy, client, table):
    for end, count in (("ROLLBACK", "10"), ("COMMIT", "12")):
        client.query("BEGIN")
        client.query(f"INSERT INTO {table} VALUES (100, 'x')")
        client.query(f"INSERT INTO {table} VALUES (101, 'x')")
        client.query(end)
        assert client.value(f"SELECT count(*) FROM {table}") == count
    client.query("BEGIN")
    assert errors(client.query(f"INSERT INTO {table} VALUES (1, 'twice')")) == ["23505"] and client.status == "E"
    assert tags(client.query("COMMIT")) == ["ROLLBACK"]


def test_settings_within_it(proxy, client, closing):
    other = closing(proxy.wire())
    client.query("SET application_name = 'mine'")
    for end, name in (("ROLLBACK", "mine"), ("COMMIT", "new")):
        client.query("BEGIN")
        client.query("SET application_name = 'new'")
        client.query(end)
        assert other.value("SHOW application_name") == ""
        client.query("BEGIN")
        assert client.value("SHOW application_name") == name
        client.query("COMMIT")


def test_copy_as_first(proxy, client, table):
    client.query("BEGIN")
    client.send(query(f"COPY {table} FROM STDIN"), copy_data("200\tx\n"), copy_done())
    assert tags(client.until_ready()) == ["COPY 1"] and client.status == "T"
    client.query("ROLLBACK")
    assert client.value(f"SELECT count(*) FROM {table}") == "10"


def test_pinned_clients_and_other_modes(make_proxy, closing):
    proxy = make_proxy({"pool": {"defer_begin": True, "max_connections": 5}})
    client = closing(proxy.wire())
    client.query("PREPARE own AS SELECT 'kept'")
    client.query("BEGIN")
    assert deferred(proxy) == 0
    assert client.value("EXECUTE own") == "kept"
    for mode in ("session", "statement"):
        proxy = make_proxy({"pool": {"defer_begin": True, "mode": mode}})
        client = closing(proxy.wire())
        assert errors(client.query("BEGIN")) == ([] if mode == "session" else ["0A000"])
        assert deferred(proxy) == 0


def test_refused_within_it(make_proxy, closing):
    """The transaction fails of it, as of any error."""
    proxy = make_proxy({"pool": {"defer_begin": True, "session_state": "refuse", "max_connections": 1}})
    client = closing(proxy.wire())
    client.query("BEGIN")
    assert len(errors(client.query("LISTEN x"))) == 1 and client.status == "E"
    assert errors(client.query("SELECT 1")) == ["25P02"]
    client.query("ROLLBACK")
    client.query("BEGIN")
    assert len(errors(client.batch(parse("", "LISTEN x")))) == 1 and client.status == "E"


@pytest.mark.parametrize("how", ["simple", "extended", "prepared"])
def test_never_on_a_shared_link(make_proxy, closing, how):
    """Its read is one of a transaction that the server does not know of yet."""
    proxy = make_proxy({"proxy": {"workers": 1}, "pool": {"defer_begin": True, "max_connections": 2,
                                                          "share": "autocommit", "share_max_cost": "1h"}})
    client = closing(proxy.wire())
    client.batch(parse("s", "SELECT 'read'"))
    read = {"simple": query("SELECT 'read'"), "extended": run("SELECT 'read'") + sync(),
            "prepared": bind("", "s") + execute() + sync()}[how]

    def ask():
        client.send(read)
        assert rows(client.until_ready()) == [["read"]]
        return client.status

    assert [ask() for _ in range(5)] == ["I"] * 5
    before = proxy.metric("shared_requests_total")
    assert before > 0
    client.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert [ask(), ask()] == ["T", "T"]
    assert client.value("SHOW transaction_isolation") == "repeatable read"
    client.query("COMMIT")
    assert deferred(proxy) == 1 and proxy.metric("shared_requests_total") == before
    assert ask() == "I" and proxy.metric("shared_requests_total") == before + 1


# ---------------------------------------------------------------- by the extended protocol

BATCH_BEGINS = {
    "as libpq does": lambda sql: [run(sql)],
    "without a Describe": lambda sql: [parse("", sql), bind(), execute()],
    "binary results": lambda sql: [parse("", sql), bind(result_formats=[1]), describe("P"), execute()],
}


@pytest.mark.parametrize("end", ["COMMIT", "rollback;", "END WORK"])
@pytest.mark.parametrize("how", BATCH_BEGINS)
def test_extended_begin_takes_no_link(proxy, client, direct, how, end):
    batch = BATCH_BEGINS[how]
    for each in (client, direct):
        each.sent = each.batch(*batch("BEGIN READ ONLY"))
    assert summary(client.sent) == summary(direct.sent)
    assert deferred(proxy) == 1 and active(proxy) == 0 and client.status == "T"
    for each in (client, direct):
        each.sent = each.batch(*batch(end))
    assert summary(client.sent) == summary(direct.sent) and client.status == "I"
    assert proxy.metric("queries_total") == 2
    for each in (client, direct):
        each.sent = []
        for sql in ("START TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SHOW transaction_isolation", "SELECT 1/0", end,
                    "SELECT 2"):
            each.sent += each.batch(*batch(sql))
    assert summary(client.sent) == summary(direct.sent) and deferred(proxy) == 2


def test_prepared_begin_takes_no_link(proxy, client, direct):
    for each in (client, direct):
        each.sent = each.batch(parse("b", "BEGIN"), parse("s", "SELECT 's'"), parse("c", "COMMIT"))
        for name in ("b", "s", "c", "b", "c", "b", "b", "c"):
            each.sent += each.batch(bind("", name), describe("P"), execute())
        each.sent += each.batch(describe("S", "b"))
    assert summary(client.sent) == summary(direct.sent)
    assert deferred(proxy) == 3


@pytest.mark.parametrize("batch", [
    [parse("b", "BEGIN"), bind("", "b"), execute(), sync()], [run("BEGIN"), run("SELECT 1"), sync()],
    [run("BEGIN"), flush(), sync()], [parse("", "BEGIN"), bind("p"), execute("p"), sync()],
    [parse("", "BEGIN"), bind(), execute(), execute(), sync()], [parse("", "BEGIN"), sync()],
    [parse("", "BEGIN"), bind(), sync()], [parse("", "BEGIN"), describe("S"), bind(), execute(), sync()],
    [parse("", "BEGIN", [23]), bind(values=["1"]), execute(), sync()],
    [parse("", "BEGIN", [23]), bind(), execute(), sync()], [parse("", "BEGIN"), bind(values=["1"]), execute(), sync()],
    [parse("", "BEGIN SOON"), bind(), execute(), sync()], [parse("", "SAVEPOINT a"), bind(), execute(), sync()],
    [parse("", "BEGIN"), bind(), describe("P", "x"), execute(), sync()],
    [parse("", "BEGIN; SELECT 1"), bind(), execute(), sync()]])
def test_any_other_batch_is_the_servers(proxy, client, direct, batch):
    for each in (client, direct):
        each.send(*batch, query("SELECT 'behind'"), query("ROLLBACK"))
        each.sent = each.until_ready(3)
    assert summary(client.sent) == summary(direct.sent)
    assert deferred(proxy) == 0


@pytest.mark.parametrize("behind", [
    [execute()], [describe("P"), execute()], [bind(), execute()], [describe("S")], [close("P"), execute()],
    [close("S"), bind()], [parse("", "SELECT 1"), bind(), execute()], [bind("p"), execute("p")]])
def test_what_is_left_of_an_extended_begin(proxy, client, direct, behind):
    """Its statement is there, its portal is used up."""
    for each in (client, direct):
        each.batch(run("BEGIN"))
        each.sent = each.batch(*behind) + each.query("SELECT 2") + each.query("ROLLBACK") + each.batch(bind(), execute())
    assert summary(client.sent, without="S") == summary(direct.sent, without="S")
    assert deferred(proxy) >= 1


# ---------------------------------------------------------------- what can't be begun after all

FIRST = {"simple": lambda sql: query(sql), "extended": lambda sql: run(sql) + sync(),
         "prepared": lambda sql: parse("first", sql) + bind("", "first") + execute() + sync()}


class Failure:
    """A client whose first statement behind a deferred BEGIN is answered with an error, and without a server."""

    def __init__(self, make_proxy, postgres, closing):
        self.relay = closing(Relay(postgres))
        self.proxy = make_proxy({"proxy": {"workers": 1}, "server_tls": {"mode": "disable"},
                                 "pool": {"defer_begin": True, "max_connections": 1, "query_wait_timeout": "30s",
                                          "max_waiting_clients": 1}}, postgres=self.relay)
        self.client, self.holder, self.other = (closing(self.proxy.wire()) for _ in range(3))
        self.begin = "BEGIN"

    def hold(self):
        self.holder.query("BEGIN")
        self.holder.query("SELECT 1")

    def waits(self, count=1):
        wait_until(lambda: self.proxy.metric("clients_waiting") == count)

    def no_link(self, first):
        self.hold()
        self.client.send(first)
        self.waits()
        self.proxy.advance(31)
        yield "53300"
        self.holder.query("COMMIT")

    def cancel(self, first):
        self.hold()
        self.client.send(first)
        self.waits()
        self.client.cancel()
        yield "57014"
        self.holder.query("COMMIT")

    def line_is_full(self, first):
        self.hold()
        self.other.send(query("SELECT 'waits'"))
        self.waits()
        self.client.send(first)
        yield "53300"
        self.holder.query("COMMIT")
        self.other.until_ready()

    def refused(self, first):
        self.relay.change = self.begin.encode() + b"\0", b"BEGUN" + self.begin.encode()[5:] + b"\0"
        self.client.send(first)
        yield "42601"
        self.relay.change = None

    def lost(self, first):
        self.other.query("SELECT 1")
        self.relay.hold()
        self.client.send(first)
        wait_until(lambda: b"SELECT 'first'" in self.relay.requests)
        self.relay.drop_all()
        yield "08006"
        self.relay.release()

    def settings(self, first):
        """What was SET is refused when it is to be put onto another link."""
        self.client.query("SET search_path = pg_catalog")
        self.other.query("SELECT 1")
        self.relay.change = b"search_path = pg_catalog", b"search_paht = pg_catalog"
        self.client.query(self.begin)
        self.client.send(first)
        yield "42704"
        self.relay.change = None


CAUSES = ["no_link", "cancel", "line_is_full", "refused", "lost", "settings"]


@pytest.fixture
def failure(make_proxy, postgres, closing):
    return Failure(make_proxy, postgres, closing)


def fails(failure, cause, how, begin="BEGIN"):
    """The error comes as that of the first statement. Yields once while the cause lasts, then it is gone."""
    failure.begin = begin
    if cause != "settings":
        failure.client.query(begin)
    for code in getattr(failure, cause)(FIRST[how]("SELECT 'first'")):
        messages = failure.client.until_ready()
        assert (errors(messages), kinds(messages)) == ([code], "EZ")
        assert messages[0].fields["V"] == "ERROR" and failure.client.status == "E"
        assert [s["state"] for s in failure.proxy.sessions()].count("idle in transaction") >= 1
        yield


def fail(*args):
    for _ in fails(*args):
        pass


def failed_direct(client, begin="BEGIN"):
    client.query(begin)
    client.query("SELECT 1/0")


BEHIND = [
    [query("SELECT 1"), query("COMMIT")], [query("SELEKT"), query("END")], [query(""), query("ROLLBACK")],
    [query("SAVEPOINT a"), query("ROLLBACK TO a"), query("RELEASE a"), query("ROLLBACK")],
    [query("BEGIN"), query("ABORT")], [query("ROLLBACK; SELECT 1")], [query("SELECT 1; ROLLBACK"), query("ROLLBACK")],
    [query("ROLLBACK AND CHAIN"), query("SHOW transaction_isolation"), query("COMMIT")],
    [query("COMMIT AND CHAIN"), query("SHOW transaction_read_only"), query("COMMIT")],
    [query("DEALLOCATE ALL"), query("DISCARD ALL"), query("ROLLBACK")], [sync(), query("SET x.y = 1"), query("ROLLBACK")],
    [run("SELECT 1") + sync(), run("ROLLBACK") + sync()], [parse("", "SELEKT") + sync(), run("COMMIT") + sync()],
    [run("ROLLBACK") + run("SELECT 1") + sync()], [run("SELECT 1") + run("ROLLBACK") + sync(), run("END") + sync()],
    [close("S", "x") + sync(), bind("", "none") + sync(), query("ROLLBACK")],
    [parse("r", "ROLLBACK") + bind("", "r") + execute() + sync()], [run("BEGIN") + sync(), query("ROLLBACK")],
    [run("SAVEPOINT a") + sync(), query("COPY pg_class TO STDOUT"), query("PREPARE TRANSACTION 'x'"), query("SELECT 3")]]


@pytest.mark.parametrize("behind", range(len(BEHIND)))
@pytest.mark.parametrize("cause", CAUSES)
def test_failed_before_a_server_knew(failure, direct, cause, behind):
    """Then the transaction has failed, and answers as PostgreSQL does; behind its end all is well."""
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    fail(failure, cause, ["simple", "extended", "prepared"][behind % 3], begin)
    failed_direct(direct, begin)
    for each in (failure.client, direct):
        each.sent = []
        for part in BEHIND[behind]:
            each.send(part)
            each.sent += each.until_ready()
        each.sent += each.query("SELECT 'behind'")
    assert summary(failure.client.sent) == summary(direct.sent)
    assert failure.client.status == "I"
    assert failure.other.value("SELECT 'other'") == "other"


@pytest.mark.parametrize("end", [query("ROLLBACK"), query("commit;"), run("END") + sync()])
@pytest.mark.parametrize("cause", ["no_link", "cancel", "line_is_full", "refused", "lost"])
def test_failed_and_ended_without_a_server(failure, cause, end):
    """Its end needs no server: so it comes even if there is none."""
    for _ in fails(failure, cause, "simple"):
        failure.client.send(end)
        assert tags(failure.client.until_ready()) == ["ROLLBACK"] and failure.client.status == "I"
    assert failure.client.value("SELECT 1") == "1"


def test_failed_and_fails_again(failure):
    """As long as there is no link, each statement has that as its error."""
    for _ in fails(failure, "line_is_full", "simple"):
        for how in FIRST:
            failure.client.send(FIRST[how]("SELECT 2"))
            assert errors(failure.client.until_ready()) == ["53300"] and failure.client.status == "E"
    assert errors(failure.client.query("SELECT 2")) == ["25P02"]
    assert tags(failure.client.query("COMMIT")) == ["ROLLBACK"]


def test_failed_and_shown_to_a_server_that_goes(failure):
    fail(failure, "cancel", "simple")
    failure.relay.hold()
    failure.client.send(query("SELECT 2"))
    wait_until(lambda: b"ROLLBACK TO SAVEPOINT" in failure.relay.requests)
    failure.relay.drop_all()
    failure.relay.release()
    assert errors(failure.client.until_ready()) == ["25P02"] and failure.client.status == "E"
    failure.client.query("ROLLBACK")
    assert failure.client.value("SELECT 1") == "1"


@pytest.mark.parametrize("how", FIRST)
def test_begin_that_fails_runs_nothing(failure, postgres, table, how):
    """The server refuses the BEGIN itself: no statement behind it may run on its own."""
    failure.relay.change = b"BEGIN\0", b"BEGUN\0"
    failure.client.query("BEGIN")
    failure.client.send(FIRST[how](f"DELETE FROM {table}"))
    assert errors(failure.client.until_ready()) == ["42601"] and failure.client.status == "E"
    failure.relay.change = None
    assert errors(failure.client.query(f"DELETE FROM {table}")) == ["25P02"]
    assert tags(failure.client.query("COMMIT")) == ["ROLLBACK"]
    assert failure.other.value(f"SELECT count(*) FROM {table}") == "10"
    if how == "prepared":  # its Parse was skipped
        assert errors(failure.client.batch(bind("", "first"), execute())) == ["26000"]


def test_begin_that_fails_in_front_of_a_pipeline(failure, table):
    """What the server has skipped can't be told from here: the session ends, and nothing has run."""
    failure.relay.change = b"BEGIN\0", b"BEGUN\0"
    failure.client.query("BEGIN")
    delete = f"DELETE FROM {table}"
    failure.client.send(query(delete), query(delete), run(delete), sync())
    messages = failure.client.until_closed()
    assert kinds(messages) == "E" and messages[0].fields["V"] == "FATAL"
    failure.relay.change = None
    assert failure.other.value(f"SELECT count(*) FROM {table}") == "10"


def test_cancel_between(proxy, client):
    """There is nothing to cancel, as in any transaction that is idle."""
    client.query("BEGIN")
    client.cancel()
    assert client.value("SELECT 1") == "1" and client.status == "T"
    client.send(query("SELECT pg_sleep(100)"))
    wait_until(lambda: [s["state"] for s in proxy.sessions()] == ["active"])
    client.cancel()
    assert errors(client.until_ready()) == ["57014"] and client.status == "E"


def test_cancel_of_the_first_statement(proxy, client, name, postgres):
    client.query("BEGIN")
    client.send(query(f"SELECT pg_sleep(100) AS {name}"))
    wait_until(lambda: postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND "
                                    f"query LIKE 'SELECT%{name}'") != "0")
    client.cancel()
    assert errors(client.until_ready()) == ["57014"] and client.status == "E"
    assert errors(client.query("SELECT 1")) == ["25P02"]
    assert tags(client.query("COMMIT")) == ["ROLLBACK"]


@pytest.mark.parametrize("parse_too", [False, True])
def test_stale_plan_behind_it(proxy, client, direct, postgres, table, parse_too):
    """In a transaction nothing is run again: the plan's error is the client's, as without the proxy."""
    name = "" if parse_too else "s"
    for each in (client, direct):
        each.batch(parse(name, f"SELECT * FROM {table}"), bind("", name), execute())
    postgres.sql(f"ALTER TABLE {table} ADD COLUMN more int", database="app")
    for each in (client, direct):
        each.query("BEGIN")
        parts = [parse(name, f"SELECT * FROM {table}")] if parse_too else []
        each.sent = each.batch(*parts, bind("", name), describe("P"), execute()) + each.query("ROLLBACK")
    assert errors(client.sent) == ([] if parse_too else ["0A000"])
    assert summary(client.sent) == summary(direct.sent)
    assert deferred(proxy) == 1 and proxy.metric("batches_repeated_total") == 0


def test_idle_transaction_timeout(make_proxy, closing):
    proxy = make_proxy({"pool": {"defer_begin": True, "idle_transaction_timeout": "10s", "client_idle_timeout": "100s"}})
    client, other = closing(proxy.wire()), closing(proxy.wire())
    client.query("BEGIN")
    other.query("BEGIN")
    other.query("COMMIT")
    proxy.advance(11)
    assert errors(client.until_closed()) == ["25P03"]
    assert other.value("SELECT 1") == "1"


def test_idle_transaction_timeout_of_a_failed_one(make_proxy, closing):
    proxy = make_proxy({"pool": {"defer_begin": True, "idle_transaction_timeout": "40s", "query_wait_timeout": "10s",
                                 "max_connections": 1}})
    client, holder = closing(proxy.wire()), closing(proxy.wire())
    holder.send(query("BEGIN"), query("SELECT pg_sleep(100)"))
    holder.until_ready()
    wait_until(lambda: active(proxy) == 1)
    client.query("BEGIN")
    client.send(query("SELECT 1"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    proxy.advance(11)
    assert errors(client.until_ready()) == ["53300"] and client.status == "E"
    proxy.advance(41)
    assert errors(client.until_closed()) == ["25P03"]


def test_leaving_and_stopping(proxy, client, closing):
    client.query("BEGIN")
    client.close()
    other = closing(proxy.wire())
    other.query("BEGIN")
    proxy.process.send_signal(15)
    proxy.wait_log("shut|drain|stop")
    assert rows(other.query("SELECT 'finished'")) == [["finished"]]
    assert tags(other.query("COMMIT")) == ["COMMIT"]
    assert errors(other.until_closed()) == ["57P01"]
    proxy.wait_end()


def test_reload_between(proxy, client):
    client.query("BEGIN")
    proxy.reload({"pool": {"defer_begin": False}})
    assert client.value("SELECT 1") == "1" and client.status == "T"
    client.query("COMMIT")
    client.query("BEGIN")
    assert deferred(proxy) == 1
    client.query("COMMIT")
    proxy.reload({"pool": {"defer_begin": True}})
    client.query("BEGIN")
    proxy.reload({"pool": {"mode": "session"}})
    assert client.value("SELECT 1") == "1" and client.status == "T"
    assert tags(client.query("COMMIT")) == ["COMMIT"]


def test_psycopg(proxy, table):
    with proxy.connect(autocommit=False) as db:
        for i in range(20, 30):
            db.execute(f"INSERT INTO {table} VALUES (%s, 'x')", [i])
            (db.commit if i % 2 else db.rollback)()
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (15,)
        with db.transaction():
            db.execute("SELECT 1")
    assert deferred(proxy) >= 10
