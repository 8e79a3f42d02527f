"""
Events and log lines over the admin API: what is told of what happens, to whom, and what becomes of readers that are slow,
come back, or are a thousand. Real servers are killed, drained and come back.
"""

import json
import resource
import signal
import socket
import struct
import threading

import psycopg
import pytest

from harness.proxy import Proxy
from harness.sse import Stream
from harness.wait import wait_until
from harness.wire import Wire

EVENTS, LOG = "/api/v1/events", "/api/v1/log"
HEALTH = {"check_interval": "1s", "check_timeout": "3s", "failure_threshold": 2, "user": "postgres"}


@pytest.fixture
def stream(closing):
    def make(proxy, path=EVENTS + "/stream", **options):
        return closing(Stream(proxy, path, **options))
    return make


def history(proxy, path=EVENTS):
    return proxy.json(path)["items"]


def kinds(proxy, query=""):
    return [event["kind"] for event in history(proxy, EVENTS + query)]


def streams(proxy):
    return proxy.metric("streams")


def refused(proxy, path):
    status, text = proxy.admin(path)
    answer = json.loads(text)
    assert answer["status"] == status
    return status, answer["code"]


# ---- what is told


def test_a_standby_that_dies_and_comes_back(make_proxy, make_postgres, stream):
    primary = make_postgres()
    standby = primary.standby()
    nodes = [Proxy.node(primary, "primary", name="a"), Proxy.node(standby, "standby", name="b")]
    proxy = make_proxy({"nodes": nodes, "health": HEALTH}, postgres=primary)
    follower = stream(proxy, EVENTS + "/stream?after=0&kind=node.*,primary.*")
    follower.wait("primary.found", node="a")
    standby.kill()
    down = follower.wait("node.down", node="b").data
    assert (down["kind"], down["severity"], down["subject"]) == ("node.down", "warning", "b")
    assert down["fields"]["failed_checks"] >= 2 and down["at"].endswith("Z")
    assert down in history(proxy), "the history says the same"
    standby.start()
    up = follower.wait("node.up", node="b").data
    assert up["seq"] > down["seq"] and up["severity"] == "info"
    assert proxy.metric("events_total", kind="node.down") == 1
    # one call writes both
    line = next(line for line in history(proxy, LOG) if line["message"] == down["message"])
    assert line["fields"] == down["fields"] and line["level"] == "warning"


def test_what_operators_do(make_proxy, make_postgres, stream, closing):
    primary = make_postgres()
    standby = primary.standby()
    nodes = [Proxy.node(primary, "primary", name="a"), Proxy.node(standby, "standby", name="b")]
    proxy = make_proxy({"nodes": nodes, "health": HEALTH}, postgres=primary)
    follower = stream(proxy)
    client = closing(proxy.connect())
    client.execute("SELECT 1")
    assert proxy.admin("/nodes/b/drain", "POST", body=b"")[0] == 200
    follower.wait("drain.begun", node="b")
    follower.wait("drain.done", node="b")
    assert proxy.admin("/nodes/b/undrain", "POST", body=b"")[0] == 200
    follower.wait("drain.ended", node="b")
    change = follower.wait("admin.change", path="/nodes/b/undrain").data
    assert change["subject"] == "/nodes/b/undrain" and change["fields"]["status"] == 200
    assert change["fields"]["admin_client"].startswith("127.0.0.1:")
    assert proxy.admin("/api/v1/databases/app/pause", "POST", body=b"")[0] in (200, 202)
    assert follower.wait("database.paused").data["subject"] == "app"
    assert proxy.admin("/api/v1/databases/app/resume", "POST", body=b"")[0] == 200
    follower.wait("database.resumed", database="app")
    pid = proxy.sessions()[0]["pid"]
    asleep = threading.Thread(target=lambda: pytest.raises(psycopg.errors.QueryCanceled, client.execute, "SELECT pg_sleep(600)"))
    asleep.start()
    # a cancel that comes before is nobody's; a standby may have it
    wait_until(lambda: any(server.backends("wait_event = 'PgSleep'") for server in (primary, standby)))
    wait_until(lambda: proxy.admin(f"/api/v1/sessions/{pid}/cancel", "POST", body=b"")[0] == 202)
    asleep.join()
    follower.wait("session.cancelled", pid=pid, user="app", database="app")
    assert proxy.admin(f"/api/v1/sessions/{pid}", "DELETE")[0] == 200
    killed = follower.wait("session.killed", pid=pid).data
    assert killed["subject"] == str(pid) and killed["fields"]["user"] == killed["fields"]["database"] == "app"


def test_reloads_under_a_stream(make_proxy, stream):
    proxy = make_proxy({"proxy": {"admin_token": "s3cret"}})
    follower = stream(proxy)
    proxy.reload({"pool": {"max_connections": 7}, "proxy": {"workers": 3}})
    changed = follower.wait("config.changed", key="pool.max_connections").data
    assert (changed["subject"], changed["severity"]) == ("pool.max_connections", "info")
    assert (changed["fields"]["from"], changed["fields"]["to"]) == ("20", "7")
    assert follower.wait("config.changed", key="proxy.workers").data["severity"] == "warning"
    assert follower.wait("config.reloaded").data["fields"]["changed"] == 1
    proxy.reload({"proxy": {"admin_token": "an0ther"}})
    follower.wait("config.changed", key="proxy.admin_token")
    proxy.reload({"pool": {"max_connections": "many"}})
    reason = follower.wait("config.refused").data["fields"]["reason"]
    assert "max_connections" in reason
    assert "an0ther" not in json.dumps(history(proxy)) + json.dumps(history(proxy, LOG)), "a secret is no news"


def test_errors_and_refused_logins_are_counted_not_told_one_by_one(make_proxy, stream):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    follower = stream(proxy, EVENTS + "/stream?kind=errors.raised,logins.refused")

    for _ in range(5):
        with Wire(proxy.address) as client:
            client.send(struct.pack("!I", 1 << 30))  # the length of no startup message
            client.until_closed()

    def told(name):
        return sum(e.data["fields"]["count"] for e in list(follower.events) if e.name == name)
    wait_until(lambda: told("logins.refused") == 5 and told("errors.raised") == 5)
    assert len(follower.events) < 10
    event = follower.wait("errors.raised").data
    assert event["fields"]["sqlstate"] == "08P01" and event["subject"] == event["fields"]["error"]
    assert follower.wait("logins.refused").data["fields"]["seconds"] >= 1
    assert proxy.metric("errors_raised_total", sqlstate="08P01") == 5


def test_a_pool_whose_clients_wait(make_proxy, stream, closing):
    proxy = make_proxy({"pool": {"max_connections": 1}, "admin": {"saturation_wait": "200ms"}})
    follower = stream(proxy, EVENTS + "/stream?kind=pool.*")
    holder = closing(proxy.connect(autocommit=False))
    holder.execute("SELECT 1")
    with proxy.wire() as waiter:
        waiter.send(b"Q" + (13).to_bytes(4, "big") + b"SELECT 2\0")
        fields = follower.wait("pool.saturated", database="app", user="app").data["fields"]
        assert fields["waiting"] == 1 and fields["wait_ms"] >= 200 and fields["active"] == fields["max"] == 1
        holder.rollback()
        waiter.until_ready()
    proxy.advance_until(lambda: "pool.relieved" in follower.names(), step=6, timeout=60)
    assert follower.wait("pool.relieved").data["fields"]["lasted_ms"] >= 0


# ---- history and filters


def test_history_by_filter(make_proxy):
    proxy = make_proxy({"admin": {"events": 5}})
    for connections in range(3, 7):
        proxy.reload({"pool": {"max_connections": connections}})
    page = proxy.json(EVENTS)
    assert page["total"] == len(page["items"]) == 5, "the oldest are gone"
    numbers = [event["seq"] for event in page["items"]]
    assert numbers == list(range(page["first"], page["last"] + 1))
    assert set(kinds(proxy, "?kind=config.reloaded")) == {"config.reloaded"}
    assert set(kinds(proxy, "?kind=config.*,node.up")) == {"config.changed", "config.reloaded"}
    assert history(proxy, EVENTS + "?severity=warning") == []
    assert [e["seq"] for e in history(proxy, EVENTS + "?limit=2")] == numbers[-2:]
    assert [e["seq"] for e in history(proxy, EVENTS + f"?limit=2&after={numbers[0]}")] == numbers[1:3]
    assert proxy.json(EVENTS + f"?after={numbers[2]}&limit=1")["total"] == 2
    assert history(proxy, EVENTS + f"?after={numbers[-1]}") == history(proxy, EVENTS + "?limit=0") == []
    assert refused(proxy, EVENTS + "?kind=no.such") == (400, "unknown_kind")
    for wrong in ("after=x", "after=-1", "limit=9999999", "severity=loud"):
        assert refused(proxy, f"{EVENTS}?{wrong}") == (400, "bad_request")
    assert refused(proxy, EVENTS + "/stream?after=x") == (400, "bad_request")
    assert refused(proxy, LOG + "?level=loud") == (400, "bad_request")


def test_the_log_is_kept_by_level(make_proxy, stream):
    proxy = make_proxy({"admin": {"log_lines": 50}, "log": {"format": "json"}})
    follower = stream(proxy, LOG + "/stream?after=0&level=warning")
    proxy.reload({"proxy": {"workers": 3}})
    assert "needs a restart" in follower.wait("log", key="proxy.workers").data["message"]
    proxy.reload({"pool": {"max_connections": "many"}})
    levels = [line["level"] for line in history(proxy, LOG + "?level=warn")]
    assert set(levels) == {"warning", "error"}
    assert {event.data["level"] for event in list(follower.events)} <= {"warning", "error"}
    lines = {json.loads(line)["msg"]: json.loads(line) for line in proxy.log_lines()}
    for line in history(proxy, LOG + "?limit=20"):
        assert lines[line["message"]]["level"] in ("info", "warning", "error") and line["message"] in lines
    assert proxy.json(LOG)["total"] <= 50


def test_nothing_kept(make_proxy):
    proxy = make_proxy({"admin": {"events": 0, "log_lines": 0}})
    for path in (EVENTS, EVENTS + "/stream", LOG, LOG + "/stream"):
        assert refused(proxy, path) == (501, "not_kept")
    proxy.reload({"pool": {"max_connections": 3}})
    assert proxy.metric("events_total", kind="config.reloaded") == 1, "but counted"


# ---- streams and their readers


def test_a_stream_resumes(make_proxy, stream):
    proxy = make_proxy({"admin": {"events": 8}})
    first = stream(proxy, EVENTS + "/stream?after=0")
    assert first.headers["Content-Type"].startswith("text/event-stream") and first.headers["Cache-Control"] == "no-store"
    started = first.wait("proxy.started")
    first.close()
    proxy.reload({"pool": {"max_connections": 3}})
    again = stream(proxy, last_id=started.id)
    again.wait("config.reloaded")
    assert [e.id for e in again.events] == list(range(started.id + 1, started.id + 1 + len(again.events)))
    for connections in range(4, 12):
        proxy.reload({"pool": {"max_connections": connections}})
    late = stream(proxy, last_id=started.id)
    last = history(proxy)[-1]["seq"]
    wait_until(lambda: late.events and late.events[-1].id >= last)
    gaps = [e for e in late.events if e.name == "gap"]
    assert gaps and gaps[0].data["next"] == gaps[0].id + 1 == late.events[late.events.index(gaps[0]) + 1].id
    told = len(late.events) - len(gaps)
    assert told + sum(gap.data["missed"] for gap in gaps) == last - started.id, "what was not told was counted"
    # from now on, for one who has nothing
    fresh = stream(proxy)
    proxy.reload({"pool": {"max_connections": 3}})
    fresh.wait("config.reloaded")
    assert fresh.events[0].id == last + 1
    # another process's numbers: nobody knows what was missed
    proxy.stop()
    proxy.start()
    other = stream(proxy, last_id=last)
    other.wait("proxy.started")
    assert other.events[0].name == "gap" and other.events[0].data["missed"] is None and other.events[0].id > last


@pytest.mark.timeout(300)  # megabytes of log lines, whatever writes them
def test_a_slow_reader_is_told_what_it_missed_and_given_up(make_proxy, stream):
    """Nothing is kept for it, and everybody else goes on."""
    proxy = make_proxy({"admin": {"log_lines": 100}})
    slow = stream(proxy, LOG + "/stream", reads=False, receive_buffer=4096)
    stuck = stream(proxy, LOG + "/stream", reads=False, receive_buffer=4096)
    good = stream(proxy, EVENTS + "/stream")
    before = proxy.rss()
    with open(proxy.config_path, "w", encoding="utf-8") as f:  # a line of the log for each of these
        f.writelines(f"wrong{number}{'x' * 500} = 1\n" for number in range(1500))
    for reloads in range(1, 9):  # more than the sockets' buffers take
        proxy.process.send_signal(signal.SIGHUP)
        wait_until(lambda: good.names().count("config.refused") == reloads, 60)  # pylint: disable=W0640
        slow.read_some(100)  # else it would be given up where these reloads take half a minute
    if proxy.measures_memory:
        assert proxy.rss() - before < 16 << 20
    with proxy.wire() as client:
        assert client.value("SELECT 'fine'") == "fine"
    slow.read()
    wait_until(lambda: "gap" in slow.names(), 60, lambda: f"no gap in {slow.names()[-5:]} of {len(slow.events)}")
    assert next(e for e in slow.events if e.name == "gap").data["missed"] > 0
    assert proxy.metric("stream_entries_missed_total") > 0
    newest = history(proxy, LOG + "?limit=1")[0]["seq"]
    wait_until(lambda: slow.events[-1].id >= newest, 60, lambda: f"{slow.events[-1]} {slow.error} {slow.ended}")
    proxy.advance(31)
    wait_until(lambda: proxy.metric("streams", of="log") == 1, 60, lambda: f"{proxy.metrics()}")
    assert stuck.error is None and slow.error is None and good.error is None


def test_silence_is_broken_by_heartbeats(make_proxy, stream):
    proxy = make_proxy({"health": {"check_interval": "86400s"}})
    follower = stream(proxy, EVENTS + "/stream?kind=log.dropped")
    for beats in range(1, 4):
        proxy.advance(16)
        wait_until(lambda: follower.comments >= beats)
    assert follower.events == []


def test_a_client_that_leaves_is_noticed(make_proxy, stream):
    proxy = make_proxy()
    before = proxy.metric("process_open_fds")
    for _ in range(20):
        stream(proxy, EVENTS + "/stream?kind=log.dropped").close()
    wait_until(lambda: streams(proxy) == 0)
    wait_until(lambda: proxy.metric("process_open_fds") < before + 10)  # of 20; the proxy may open some of its own


def test_a_head_request_opens_nothing(make_proxy):
    proxy = make_proxy()
    assert proxy.admin(EVENTS + "/stream", "HEAD") == (200, "")
    wait_until(lambda: streams(proxy) == 0)


def test_a_thousand_streams(make_proxy):
    """All are told, one more is refused, and the API answers everybody else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    proxy = make_proxy({"admin": {"max_streams": 1000, "max_connections": 1100, "max_connections_per_address": 1100}})
    request = f"GET {EVENTS}/stream?kind=config.reloaded HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    sockets = []
    try:
        for _ in range(1000):
            sockets.append(socket.create_connection(("127.0.0.1", proxy.admin_port), timeout=30))
            sockets[-1].sendall(request)
        wait_until(lambda: streams(proxy) == 1000, 60)
        assert refused(proxy, EVENTS + "/stream") == (503, "too_many_streams")
        assert proxy.metric("streams_refused_total") == 1
        assert proxy.admin("/healthz")[0] == proxy.admin("/api/v1/status")[0] == 200
        proxy.reload({"pool": {"max_connections": 3}})
        for each in sockets:
            text = b""
            while b"event: config.reloaded" not in text:
                piece = each.recv(65536)
                assert piece, text
                text += piece
        with proxy.wire() as client:
            assert client.value("SELECT 'fine'") == "fine"
    finally:
        for each in sockets:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: streams(proxy) == 0, 60)


def test_streams_end_with_the_process(make_proxy, stream):
    proxy = make_proxy()
    followers = [stream(proxy) for _ in range(5)] + [stream(proxy, LOG + "/stream")]
    proxy.process.send_signal(signal.SIGTERM)
    for follower in followers:
        follower.wait_end()
    for follower in followers[:5]:
        assert follower.names()[-1] == "proxy.stopping"
    proxy.wait_end()


def test_streams_end_at_a_hand_over_and_resume_in_the_next_process(make_proxy, stream, closing):
    proxy = make_proxy()
    holder = closing(proxy.connect(autocommit=False))
    holder.execute("SELECT 1")  # the old process stays
    follower = stream(proxy, EVENTS + "/stream?after=0")
    old = proxy.take_over()
    follower.wait_end()
    assert follower.names()[-2:] == ["handover.begun", "proxy.stopping"]
    again = stream(proxy, last_id=follower.events[-1].id)
    again.wait("proxy.started")
    assert again.events[0].name == "gap"
    holder.rollback()
    holder.close()
    wait_until(lambda: old.poll() is not None, 30, "the old process doesn't end")


def test_kinds_are_described(make_proxy):
    """The document's list of them is the program's."""
    proxy = make_proxy()
    counted = {dict(labels)["kind"] for name, labels in proxy.metrics() if name == "events_total"}
    document = proxy.json("/api/v1/openapi.json")
    assert set(document["components"]["schemas"]["Event"]["properties"]["kind"]["enum"]) == counted
    parameters = document["paths"][EVENTS]["get"]["parameters"]
    listed = next(each for each in parameters if each.get("name") == "kind")["schema"]["items"]["enum"]
    assert set(listed) == counted
