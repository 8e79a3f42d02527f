"""
Hints: what servers get of them, what is allowed, which of them act, and what clients are told of the rest. Where they lead is
in test_split.py, too.
"""

import os
import signal
import urllib.parse

import psycopg
import pytest

from harness.cluster import NAMES, WHO, routed, split_proxy, wait_split, who
from harness.proxy import Proxy
from harness.wait import wait_until
from harness.wire import bind, copy_data, copy_done, errors, execute, parse, query, rows, run, sync, tags

from test_split import cluster  # noqa: F401

MODES = ["session", "transaction", "statement"]
TEXT = "SELECT current_query()"


def pooled(mode, **more):
    return {"pool": {"mode": mode, **more.pop("pool", {})}, **more}


def told(c):
    """What the client was told since it was asked last."""
    texts = [notice.fields["M"] for notice in c.notices]
    c.notices.clear()
    return texts


def seen(c, text, how="simple"):
    """The text that the server got."""
    if how == "simple":
        c.send(query(text))
    elif how == "unnamed":
        c.send(parse("", text), bind(), execute(), sync())
    else:
        c.send(parse(how, text), bind("", how), execute(), sync())
    answer = c.until_ready()
    assert not errors(answer), (text, answer)
    return rows(answer)[0][0]


def nodes(servers, **enabled):
    return [Proxy.node(server, "primary" if i == 0 else "standby", name=name, enabled=enabled.get(name, True))
            for i, (server, name) in enumerate(zip(servers, NAMES))]


# ---- stripping ----

@pytest.mark.parametrize("mode", MODES)
def test_servers_get_blanks(make_proxy, closing, mode):
    c = closing(make_proxy(pooled(mode)).wire())
    for i, how in enumerate(("simple", "unnamed", "named")):
        how = how if how != "named" else f"s{i}"
        for comment in ("/* helios: route=standby */", "/*+ consistency=strong*/", "  /*helios:lag=5s*/ ",
                        "/* helios:route=any */ -- helios: route=any"):
            name = how if how != f"s{i}" else f"s{i}{len(comment)}"
            assert seen(c, f"{comment}\n{TEXT}", name) == " " * len(comment) + "\n" + TEXT, (how, comment)
        for other in ("/* mine: route=standby */", "/*+ SeqScan(t) */", "/* helios: node='ü' */"):
            name = how if how != f"s{i}" else f"t{i}{len(other)}"
            assert seen(c, other + TEXT, name) == other + TEXT, "it is no hint, or would change positions"
        text = f"/* no hint */ /* helios: retry=no */{TEXT}"
        assert seen(c, text, f"{how}x" if how == f"s{i}" else how) == f"/* no hint */ {' ' * 22}{TEXT}"


def test_positions_in_errors_stay(make_proxy, closing):
    c = closing(make_proxy(pooled("transaction")).wire())
    text = "/* helios: route=any */ SELECT 1, nothing"
    for extended in (False, True):
        c.send(*([parse("", text), sync()] if extended else [query(text)]))
        (error,) = [m for m in c.until_ready() if m.kind == "E"]
        assert error.fields["P"] == str(text.index("nothing") + 1)


def test_stripping_can_be_turned_off(make_proxy, closing):
    proxy = make_proxy(pooled("transaction"))
    c = closing(proxy.wire())
    text = f"/* helios: route=any */ {TEXT}"
    assert seen(c, text + ", 1", "s") != text + ", 1"
    proxy.reload({"routing_hints": {"strip_hints": False}})
    assert seen(c, text) == text and seen(c, text, "t") == text
    proxy.reload({"routing_hints": {"strip_hints": True, "enabled": False}})
    assert seen(c, text) == text, "then it is nobody's hint"
    assert told(c) == []


def test_prepared_statements_that_move(make_proxy, closing):
    """What is prepared on another server connection, or there ahead, is stripped as well."""
    proxy = make_proxy(pooled("transaction", pool={"max_connections": 2, "prewarm_statements": 5}))
    c, other = closing(proxy.wire()), closing(proxy.wire())
    text = f"/* helios: lag=1s */ {TEXT}"
    assert seen(c, text, "s").strip() == TEXT
    c.query("BEGIN")  # now the other one has a link of its own
    assert seen(other, text, "mine").strip() == TEXT
    other.query("BEGIN")
    other.send(bind("", "mine"), execute(), sync())
    assert rows(other.until_ready())[0][0].strip() == TEXT
    for client in (c, other):
        client.query("COMMIT")
    assert rows(c.batch(parse("s", text)))[:1] == [] and proxy.is_live(), "the name is taken: an error, and no more"


def test_a_text_that_is_too_long_to_be_kept(make_proxy, closing):
    proxy = make_proxy({"limits": {"max_message_kept": 16384}, **pooled("transaction")})
    c = closing(proxy.wire())
    rest = f" SELECT left(current_query(), 40), '{'x' * 100000}'"
    for how in ("simple", "unnamed", "big"):
        assert seen(c, "/* helios: route=any */" + rest, how) == (" " * 23 + rest)[:40], how


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_long_text_that_comes_bit_by_bit(make_proxy, closing, mode, extended):
    proxy = make_proxy({"limits": {"max_message_kept": 16384}, "proxy": {"workers": 1}, **pooled(mode)})
    c, other = closing(proxy.wire()), closing(proxy.wire())
    rest = f" SELECT left(current_query(), 40), '{'x' * 100000}'"
    text = "/* helios: route=any */" + rest
    bytes_ = parse("", text) + bind() + execute() + sync() if extended else query(text)
    for at, to in ((0, 5), (5, 12), (12, 20), (20, 40), (40, None)):
        c.send(bytes_[at:to])
        assert other.value("SELECT 1") == "1"  # it has been looked at by now, for there is one worker
    assert rows(c.until_ready())[0][0] == (" " * 23 + rest)[:40]


def test_shared_links_and_deferred_begins(make_proxy, closing):
    proxy = make_proxy(pooled("transaction", pool={"share": "autocommit", "defer_begin": True, "max_connections": 2}))
    c = closing(proxy.wire())
    for _ in range(20):
        assert seen(c, f"/* helios: route=any */ {TEXT}").strip() == TEXT
        assert seen(c, f"/* helios: route=any */ {TEXT}", "unnamed").strip() == TEXT
    c.query("/* helios: route=primary */ BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert c.value("SHOW transaction_isolation") == "repeatable read"
    c.query("COMMIT")


# ---- what is ignored is told ----

@pytest.mark.parametrize("mode", MODES)
def test_keys_that_do_nothing_are_told_once(make_proxy, closing, mode):
    proxy = make_proxy(pooled(mode))
    c = closing(proxy.wire())
    text = "/* helios: cache=skip, ttl=5, priority=high, pool=session, branch=x, prefetch=no, route=vector */ SELECT 1"
    for extended in (False, True):
        c.send(*(run(text) + sync() if extended else query(text),))
        assert rows(c.until_ready()) == [["1"]]
        first = told(c)
        assert (len(first) == 0) if extended else (len(first) == 7 and all("ignored" in t for t in first)), first
    c.query("/* helios: twr=yes, cache=all */ SELECT 1")
    (other,) = told(c)
    assert "twr" in other
    for _ in range(2):  # what is wrong is told each time
        c.query("/* helios: rout=any */ SELECT 1")
        assert "rout=any" in told(c)[0]
    assert proxy.metric("hints_ignored_total") == 10


def test_who_waits_is_told_once(make_proxy, closing):
    proxy = make_proxy(pooled("transaction", pool={"max_connections": 1}))
    holder, c = closing(proxy.wire()), closing(proxy.wire())
    for extended in (False, True):
        holder.query("BEGIN")
        text = "/* helios: rout=any */ SELECT 1"
        c.send(*(run(text) + sync() if extended else query(text),))
        wait_until(lambda: proxy.metric("clients_waiting") == 1)
        holder.query("COMMIT")
        assert rows(c.until_ready()) == [["1"]] and len(told(c)) == 1


def test_what_is_not_allowed(make_proxy, cluster, closing):
    proxy = split_proxy(make_proxy, cluster, {"routing_hints": {"allow_node_hints": False, "allow_primary_reads": False,
                                                                "max_lag_override": "60s"}})
    wait_split(proxy)
    c = closing(proxy.wire())
    for extended in (False, True):
        for hint, word in (("node=b", "node=b"), ("route=primary", "route=primary"), ("consistency=strong", "strong"),
                           ("lag=2m", "lag")):
            text = f"/* helios: {hint} */ {WHO}"
            c.send(*([parse("", text), bind(), execute(), sync()] if extended else [query(text)]))
            assert rows(c.until_ready())[0][0] in "bc"
            (notice,) = told(c)
            assert word in notice and "ignored" in notice
        c.query(f"/* helios: lag=1m, consistency=eventual */ {WHO}")
        assert told(c) == []


def test_rights_of_users(make_proxy, cluster, closing):
    proxy = split_proxy(make_proxy, cluster, {"users": {"app": {"routing_hints": "no_node"}}})
    wait_split(proxy)
    c = closing(proxy.wire())
    assert c.value(f"/* helios: node=a */ {WHO}") in "bc" and "by name" in told(c)[0]
    assert c.value(f"/* helios: route=primary */ {WHO}") == "a" and told(c) == []
    proxy.reload({"users": {"app": {"routing_hints": "none"}}})
    wait_until(lambda: c.value(f"/* helios: route=primary */ {WHO}") in "bc")
    assert len(told(c)) == 1
    assert c.value(f"/* helios: route=primary */ {WHO}") in "bc" and told(c) == [], "once is enough"
    c.query("SET helios.route = 'primary'")
    assert c.value(WHO) in "bc" and len(told(c)) == 1
    assert c.value(WHO) in "bc" and told(c) == []
    explained = proxy.json("/api/routing/explain?" + urllib.parse.urlencode(
        {"database": "app", "user": "app", "query": f"/* helios: route=primary */ {WHO}"}))
    assert explained["to"] == "standby" and len(explained["notices"]) == 1


def test_explain_says_what_would_be_ignored(make_proxy, cluster):
    proxy = split_proxy(make_proxy, cluster, {"routing_hints": {"allow_node_hints": False}})
    wait_split(proxy)
    answer = proxy.json("/api/routing/explain?" + urllib.parse.urlencode(
        {"database": "app", "user": "app", "query": f"/* helios: node=c, cache=skip, oops */ {WHO}"}))
    assert answer["to"] == "standby"
    assert [word for word in ("oops", "cache", "node=c") if not any(word in n for n in answer["notices"])] == []


# ---- time-outs ----

def sleeping(postgres, name):
    return postgres.backends("query LIKE %s AND wait_event = 'PgSleep'", [f"%{name}%"])


def wait_cancelled(proxy, c):
    """Once the time has passed; a server that had not begun yet is asked again."""
    proxy.advance(61)
    proxy.advance_until(lambda: proxy.metric("hint_timeouts_total"), 1)
    answer = c.until_ready()
    assert errors(answer) == ["57014"]
    return answer


@pytest.mark.parametrize("how", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("mode", MODES)
def test_a_statement_is_cancelled_after_its_time(make_proxy, closing, postgres, name, mode, how):
    proxy = make_proxy(pooled(mode))
    c, other = closing(proxy.wire()), closing(proxy.wire())
    text = f"/* helios: timeout=60s */ SELECT pg_sleep(1000) /* {name} */"
    if how == "simple":
        c.send(query(text))
    elif how == "extended" or mode == "session":  # there the proxy does not know what is prepared
        c.send(run(text), sync())
    else:
        assert not errors(c.batch(parse("s", text)))
        c.send(bind("", "s"), execute(), sync())
    wait_until(lambda: sleeping(postgres, name))
    proxy.advance(30)
    assert sleeping(postgres, name) and other.value("SELECT 1") == "1"
    wait_cancelled(proxy, c)
    assert c.value("SELECT 2") == "2"
    proxy.advance(100)
    assert c.value("/* helios: timeout=60s */ SELECT 3") == "3", "and one that is in time is not"


def test_what_follows_in_the_transaction_is_not_hit(make_proxy, closing, postgres, name):
    proxy = make_proxy(pooled("transaction"))
    c = closing(proxy.wire())
    c.query("BEGIN")
    c.query("SAVEPOINT s")
    c.send(query(f"/* helios: timeout=60s */ SELECT pg_sleep(1000) /* {name} */"), query("ROLLBACK TO s"),
           query("SELECT 4"), query("COMMIT"))
    wait_until(lambda: sleeping(postgres, name))
    wait_cancelled(proxy, c)
    assert tags(c.until_ready()) == ["ROLLBACK"]
    assert rows(c.until_ready()) == [["4"]]
    assert tags(c.until_ready()) == ["COMMIT"]


def test_a_cancel_of_the_clients_own_holds_nothing(make_proxy, closing, postgres, name):
    """It may still be under way when a statement with a time-out comes, and nobody tells the end of it."""
    c = closing(make_proxy(pooled("transaction")).wire())
    c.query("BEGIN")
    c.query("SAVEPOINT s")
    for _ in range(10):
        c.send(query(f"SELECT pg_sleep(1000) /* {name} */"))
        wait_until(lambda: sleeping(postgres, name))
        c.cancel()
        assert errors(c.until_ready()) == ["57014"]
        assert tags(c.query("/* helios: timeout=60s */ ROLLBACK TO s")) == ["ROLLBACK"]
        assert c.value("/* helios: timeout=60s */ SELECT 1") == "1"


def test_a_lost_server_connection_takes_the_time_along(make_proxy, closing, make_postgres, name):
    """The time of a statement whose server is gone does not count for the next one."""
    server = make_postgres()
    proxy = make_proxy(pooled("transaction", pool={"login_retry": "0s"}), postgres=server)
    c = closing(proxy.wire())
    c.send(query(f"/* helios: timeout=60s */ SELECT pg_sleep(1000) /* {name} */"))
    (pid,) = wait_until(lambda: sleeping(server, name))
    proxy.advance(50)
    os.kill(pid, signal.SIGKILL)
    assert errors(c.until_ready()) == ["08006"]
    wait_until(lambda: server.log().count("ready to accept connections") == 2)  # it starts anew when one is killed
    wait_until(lambda: not errors(c.query("/* helios: timeout=60s */ SELECT 1")))
    c.send(query(f"/* helios: timeout=60s */ SELECT pg_sleep(1000) /* {name} */"))
    wait_until(lambda: sleeping(server, name))
    proxy.advance(30)
    assert sleeping(server, name) and proxy.metric("hint_timeouts_total") == 0
    wait_cancelled(proxy, c)
    assert c.value("SELECT 1") == "1"


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_in_a_pipeline_each_has_its_own_time(make_proxy, closing, postgres, name, mode):
    """One with a time-out waits for those in front of it, and those behind wait for it; also where the session keeps its
    server connection, for it has taken a lock."""
    proxy = make_proxy(pooled(mode))
    c = closing(proxy.wire())
    c.send(query(f"SELECT pg_advisory_lock_shared(1), pg_sleep(1000) /* {name} 1 */"),
           query(f"/* helios: timeout=60s */ SELECT pg_sleep(1000) /* {name} 2 */"), query("SELECT 5"))
    (first,) = wait_until(lambda: sleeping(postgres, f"{name} 1"))
    proxy.advance(100)
    assert sleeping(postgres, f"{name} 1"), "it has none"
    assert postgres.value("SELECT pg_cancel_backend(%s)", [first])
    assert errors(c.until_ready()) == ["57014"]
    wait_until(lambda: sleeping(postgres, f"{name} 2"))
    assert proxy.metric("hint_timeouts_total") == 0
    wait_cancelled(proxy, c)
    assert rows(c.until_ready()) == [["5"]]


def test_the_pools_limit_counts_when_it_is_less(make_proxy, closing, postgres, name):
    proxy = make_proxy(pooled("transaction", pool={"query_timeout": "30s"}))
    c = closing(proxy.wire())
    c.send(query(f"/* helios: timeout=60s */ SELECT pg_sleep(1000) /* {name} */"))
    wait_until(lambda: sleeping(postgres, name))
    proxy.advance(31)
    assert [m.code for m in c.until_closed() if m.kind == "E"][:1] == ["57014"]


def test_copy_in_goes_on(make_proxy, closing, table):
    """Data that follows is no statement that would have to wait."""
    proxy = make_proxy(pooled("transaction"))
    c = closing(proxy.wire())
    c.send(query(f"/* helios: timeout=60s */ COPY {table} FROM STDIN"), copy_data(b"500\tx\n"), copy_done(), query("SELECT 1"))
    assert tags(c.until_ready()) == ["COPY 1"]
    assert rows(c.until_ready()) == [["1"]]


# ---- others that act ----

def test_no_retry(make_proxy, cluster, closing):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    c = closing(proxy.wire())
    for extended in (False, True):
        text = "/* helios: route=standby, retry=no */ SELECT adds(79)"
        c.send(*([parse("", text), bind(), execute(), sync()] if extended else [query(text)]))
        assert errors(c.until_ready()) == ["25006"], "a standby refused it, and that is that"
    assert not routed(proxy).get("repeated")
    assert c.value("/* helios: route=standby, retry=1 */ SELECT adds(79)") == "79"
    assert c.value(WHO) in "abc"
    c.query("DELETE FROM items WHERE id = 79")


def test_settings(make_proxy, cluster, closing):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    c = closing(proxy.wire())
    c.query("SET helios.consistency TO strong")
    assert {c.value(WHO) for _ in range(4)} == {"a"} and c.value("SHOW helios.consistency") == "strong"
    c.query("RESET helios.consistency")
    wait_until(lambda: c.value(WHO) in "bc")
    c.query("BEGIN")
    c.query("SET LOCAL helios.route = 'primary'")
    assert c.value("SHOW helios.route") == "primary"
    c.query("COMMIT")
    wait_until(lambda: c.value(WHO) in "bc")
    assert told(c) == [], "it has ended with its transaction"
    c.query("SET helios.route = 'nowhere'")
    c.query("SET helios.timeout = '5s'")
    c.query("SET helios.cache = 'skip'")
    told(c)
    assert c.value(WHO) in "bc" and len(told(c)) == 3
    for _ in range(3):
        assert c.value(WHO) in "bc"
    assert told(c) == [], "once is enough, until something is set"
    c.query("SET helios.route = 'primary'")
    assert c.value(WHO) == "a"
    c.query("DISCARD ALL")
    wait_until(lambda: c.value(WHO) in "bc")


def test_settings_that_are_ignored_are_told(make_proxy, cluster, closing):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    c = closing(proxy.wire())
    for name, value, word in (("route", "nowhere", "nowhere"), ("timeout", "5s", "statement_timeout"), ("cache", "skip", "cache")):
        c.query(f"SET helios.{name} = '{value}'")
        assert c.value(WHO) in "bc"
        assert len([t for t in told(c) if word in t]) == 1
        c.query(f"RESET helios.{name}")


def test_startup_options(make_proxy, cluster):
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    for options, nodes in (("-c helios.route=primary", "a"), ("-c helios.consistency=strong", "a"),
                           ("-c helios.route=standby -c helios.lag=10min", "bc")):
        with proxy.connect(options=options) as db:
            assert {who(db) for _ in range(6)} == set(nodes)
            name = options.split()[-1].split("=")[0]
            assert db.execute(f"SHOW {name}").fetchone()[0] == options.split("=")[-1]


def test_startup_parameters(make_proxy, cluster, closing):
    """As some drivers (asyncpg) send them: without options."""
    proxy = split_proxy(make_proxy, cluster)
    wait_split(proxy)
    c = closing(proxy.wire(**{"helios.route": "primary"}))
    assert {c.value(WHO) for _ in range(4)} == {"a"}
    c.query("SELECT set_config('helios.route', 'standby', false)")
    wait_until(lambda: c.value(WHO) in "bc")
    c.query("RESET ALL")
    assert {c.value(WHO) for _ in range(4)} == {"a"}, "what it logged in with"


def test_pools_are_left_clean(make_proxy, cluster):
    """A setting of one client is no other's."""
    proxy = split_proxy(make_proxy, cluster, {"pool": {"max_connections": 1}})
    wait_split(proxy)
    with proxy.connect() as one, proxy.connect() as other:
        one.execute("SET helios.route = 'primary'")
        for _ in range(4):
            assert who(one) == "a" and who(other) in "bc"
        with pytest.raises(psycopg.errors.UndefinedObject):
            other.execute("SHOW helios.unheard_of")


# ---- [routing.default], [routing.aliases] ----

def at(c, text, times=6):
    return {c.value(text) for _ in range(times)}


@pytest.mark.parametrize("default", [{"read_target": "primary"}, {"auto_detect_writes": False}, {"consistency": "strong"}])
def test_reads_stay_on_the_primary_by_default(make_proxy, cluster, closing, default):
    proxy = split_proxy(make_proxy, cluster)
    c = closing(proxy.wire())
    wait_until(lambda: c.value(WHO) in "bc")
    c.query("SET helios.lag = '10min'")
    proxy.reload({"routing": {"default": default}})
    assert at(c, WHO) == {"a"}, "also by the short way, and with a wish that says nothing of it"
    wait_until(lambda: at(c, f"/* helios: route=standby */ {WHO}") == set("bc"))  # a hint counts more
    wait_until(lambda: at(c, f"/* helios: route=any */ {WHO}") == set("bc"))
    wait_until(lambda: at(c, f"/* helios: node=b */ {WHO}") == {"b"})
    assert at(c, f"/* helios: node=b, consistency=strong */ {WHO}") == {"a"}
    c.query("SET helios.route = 'replica'")
    wait_until(lambda: at(c, WHO) == set("bc"))  # and so does the session
    assert c.value("/* helios: route=primary */ SELECT adds(81)") == "81"
    c.query("DELETE FROM items WHERE id = 81")
    proxy.reload({"routing": {"default": {"read_target": "standby", "auto_detect_writes": True, "consistency": "bounded"}}})
    c.query("RESET helios.route")
    wait_until(lambda: c.value(WHO) in "bc")


def test_any_node_by_default(make_proxy, cluster, closing):
    proxy = split_proxy(make_proxy, cluster, {"routing": {"default": {"read_target": "any", "write_target": "primary"}}})
    c = closing(proxy.wire())
    wait_until(lambda: at(c, WHO) == set("abc"))
    wait_until(lambda: at(c, f"/* helios: route=standby */ {WHO}") == set("bc"))


def test_users_without_rights_have_the_default(make_proxy, cluster, closing):
    proxy = split_proxy(make_proxy, cluster, {"routing": {"default": {"consistency": "strong"}},
                                              "users": {"app": {"routing_hints": "none"}}})
    c = closing(proxy.wire())
    assert at(c, f"/* helios: route=standby */ {WHO}") == {"a"}
    proxy.reload({"routing": {"default": {"consistency": "bounded"}}})
    wait_until(lambda: c.value(WHO) in "bc")


@pytest.mark.parametrize("how", ["simple", "prepared", "pipeline"])
@pytest.mark.parametrize("mode", MODES)
def test_a_time_out_by_default(make_proxy, closing, postgres, name, mode, how):
    proxy = make_proxy(pooled(mode, routing={"default": {"timeout": "60s"}}))
    c = closing(proxy.wire())
    text = f"SELECT pg_sleep(1000) /* {name} */"
    assert not errors(c.batch(parse("s", text)))
    if how == "simple":
        c.send(query(text))
    elif how == "prepared":
        c.send(bind("", "s"), execute(), sync())
    else:
        c.send(query(f"/* helios: timeout=0s */ SELECT pg_sleep(0.01) /* {name} not */"), query(text), query("SELECT 5"))
        assert not errors(c.until_ready()), "a hint counts more"
    wait_until(lambda: sleeping(postgres, name))
    proxy.advance(30)
    assert sleeping(postgres, name)
    wait_cancelled(proxy, c)
    if how == "pipeline":
        assert rows(c.until_ready()) == [["5"]]
    assert c.value("SELECT 2") == "2"
    proxy.reload({"routing": {"default": {"timeout": "0s"}}})
    c.send(query(text))
    (pid,) = wait_until(lambda: sleeping(postgres, name))
    proxy.advance(100)
    assert sleeping(postgres, name) == [pid]
    assert postgres.value("SELECT pg_cancel_backend(%s)", [pid])
    assert errors(c.until_ready()) == ["57014"] and proxy.metric("hint_timeouts_total") == 1


def test_names_for_several_nodes(make_proxy, cluster, closing):
    aliases = {"reports": ["b", "nobody"], "standbys": ["b", "c"], "all": ["a", "c"], "writer": ["a"], "none": ["nobody"]}
    proxy = split_proxy(make_proxy, cluster, {"routing": {"aliases": aliases}})
    wait_split(proxy)
    c = closing(proxy.wire())
    for alias, expected in (("reports", "b"), ("standbys", "bc"), ("all", "ac"), ("writer", "a")):
        wait_until(lambda: at(c, f"/* helios: node={alias} */ {WHO}") == set(expected), message=alias)  # noqa: B023
        wait_until(lambda: at(c, f"/*+ route=node:{alias} */ {WHO}") == set(expected), message=alias)  # noqa: B023
        c.query(f"SET helios.route = 'node:{alias}'")
        wait_until(lambda: at(c, WHO) == set(expected), message=alias)  # noqa: B023
    c.query("RESET helios.route")
    c.query("INSERT INTO items VALUES (82)")
    wait_until(lambda: at(c, f"/* helios: node=reports */ {WHO}") == {"b"})
    c.query("DELETE FROM items WHERE id = 82")
    wait_split(proxy)
    told(c)
    assert at(c, f"/* helios: node=none */ {WHO}", 1) <= set("abc")
    assert [text for text in told(c) if "none of the nodes" in text]
    proxy.reload({"routing_hints": {"allow_primary_reads": False}, "routing": {"aliases": aliases}})
    wait_until(lambda: at(c, f"/* helios: node=all */ {WHO}") == {"c"})
    answer = proxy.json("/api/routing/explain?" + urllib.parse.urlencode(
        {"database": "app", "user": "app", "query": f"/*+ node=reports */ {WHO}"}))
    assert answer["node"] == "b", answer
    proxy.reload({"routing": {"aliases": {"reports": ["c"]}}})
    wait_until(lambda: at(c, f"/* helios: node=reports */ {WHO}") == {"c"})


# ---- which standby ----

def test_by_key(make_proxy, cluster, closing):
    proxy = split_proxy(make_proxy, cluster, {"load_balancer": {"read_strategy": "hash"}})
    c = closing(proxy.wire())
    wait_until(lambda: c.value(WHO) in "bc")
    assert len({c.value(WHO) for _ in range(6)}) == 1, "the user is the key"
    by_key = {key: c.value(f"/* helios: key={key} */ {WHO}") for key in range(40)}
    assert set(by_key.values()) == {"b", "c"}
    for key in range(40):
        c.query(f"SET helios.key = '{key}'")
        assert c.value(WHO) == by_key[key], "a setting means the same as a hint"
    proxy.reload({"nodes": nodes(cluster, b=False)})
    wait_until(lambda: {c.value(f"/* helios: key={key} */ {WHO}") for key in range(40)} == {"c"})
    proxy.reload({"nodes": nodes(cluster)})
    wait_until(lambda: {key: c.value(f"/* helios: key={key} */ {WHO}") for key in range(40)} == by_key)


def test_sticky(make_proxy, cluster, closing):
    proxy = split_proxy(make_proxy, cluster, {"load_balancer": {"sticky": "session"}})
    clients = [closing(proxy.wire()) for _ in range(4)]
    for c in clients:
        wait_until(lambda: c.value(WHO) in "bc")  # noqa: B023
    at = [c.value(WHO) for c in clients]
    assert set(at) == {"b", "c"}, "each begins in turn"
    for _ in range(4):
        assert [c.value(WHO) for c in clients] == at
        assert clients[0].value(f"/*+ node={'b' if at[0] == 'c' else 'c'} */ {WHO}") != at[0]
    proxy.reload({"nodes": nodes(cluster, b=False)})
    wait_until(lambda: {c.value(WHO) for c in clients} == {"c"})
    proxy.reload({"nodes": nodes(cluster)})
    wait_until(lambda: {c.value(WHO) for c in clients} <= {"b", "c"})
    at = [c.value(WHO) for c in clients]
    assert all([c.value(WHO) for c in clients] == at for _ in range(4)), "each stays where it is now"
    proxy.reload({"load_balancer": {"sticky": "none"}})
    wait_until(lambda: {clients[0].value(WHO) for _ in range(8)} == {"b", "c"})


def test_decisions_are_logged(make_proxy, cluster, closing):
    proxy = split_proxy(make_proxy, cluster, {"routing_hints": {"log_decisions": True}, "log": {"level": "debug"}})
    wait_split(proxy)
    c = closing(proxy.wire())
    c.value(f"/*+ node=c */ {WHO}")
    proxy.wait_log("routed simple query.*node=c.*is_write=false.*reason=wish_standby")
    c.query("INSERT INTO items VALUES (80)")
    proxy.wait_log("routed simple query.*node=a.*is_write=true.*reason=write")
    c.batch(run("DELETE FROM items WHERE id = 80"))
    proxy.wait_log("routed extended batch.*node=a.*is_write=true.*reason=write")
