"""The versioned admin API: what each endpoint tells and does, and how it refuses."""

import json
import os
import signal
import threading

import psycopg
import pytest

from harness.signals import interrupt_is_pending, stand_still
from harness.wait import wait_until
from harness.wire import errors, query, rows


def call(proxy, path, method="GET", body=None):
    status, text = proxy.admin("/api/v1" + path, method=method, body=body)
    return status, json.loads(text)


def get(proxy, path):
    status, answer = call(proxy, path)
    assert status == 200, (path, status, answer)
    return answer


def items(proxy, path):
    answer = get(proxy, path)
    assert answer["total"] == len(answer["items"]), path
    return answer["items"]


def refused(proxy, path, method="GET", body=None):
    """A problem: (status, code)."""
    status, answer = call(proxy, path, method, body)
    assert answer["status"] == status >= 400 and answer["title"] and answer["detail"] and answer["type"]
    return status, answer["code"]


def only(proxy, **filters):
    """The one session that fits."""
    found = items(proxy, "/sessions?" + "&".join(f"{key}={value}" for key, value in filters.items()))
    assert len(found) == 1, found
    return found[0]


# ---- looking


def test_status_is_the_proxy_at_a_glance(make_proxy, closing):
    proxy = make_proxy()
    closing(proxy.connect()).execute("SELECT 1")
    found = get(proxy, "/status")
    assert found["ready"] and found["message"] == "ready" and not found["draining"] and not found["paused"]
    assert (found["workers"], found["clients"], found["nodes_healthy"], found["nodes_total"]) == (2, 1, 1, 1)
    assert found["links"] == found["pools"] == 1 and found["uptime_seconds"] >= 0
    assert found["version"] == proxy.json("/version")["version"] and found["io"] in ("epoll", "io_uring")


def test_nodes_are_the_same_in_both_apis(make_proxy, closing):
    proxy = make_proxy()
    closing(proxy.connect()).execute("SELECT 1")
    v1, old = items(proxy, "/nodes")[0], proxy.json("/nodes")[0]
    for key in ("name", "address", "role", "enabled", "weight", "zone", "links", "last_error", "source", "standing"):
        assert v1[key] == old[key], key
    assert v1["is_primary"] and v1["healthy"] and v1["draining"] is None and v1["receives_from"] is None
    assert v1["address"] == f"{v1['host']}:{v1['port']}"
    assert get(proxy, "/nodes/" + v1["name"])["address"] == v1["address"]
    found = get(proxy, "/topology")
    assert found["primary"] == found["queries_go_to"] == v1["name"] and len(found["items"]) == 1
    assert refused(proxy, "/nodes/nobody") == (404, "no_such_node")


def test_pools_by_filter(make_proxy, closing):
    proxy = make_proxy()
    closing(proxy.connect()).execute("SELECT 1")
    pool = items(proxy, "/pools?database=app&user=app")[0]
    assert (pool["database"], pool["user"], pool["mode"], pool["max"]) == ("app", "app", "transaction", 20)
    assert (pool["active"], pool["waiting"], pool["clients"], pool["paused"]) == (0, 0, 1, False)
    assert items(proxy, "/pools?database=nobodys") == [] and len(items(proxy, "/pools?node=" + pool["node"])) == 1


def test_sessions_are_found(make_proxy, closing):
    proxy = make_proxy({"proxy": {"workers": 2}})
    holder = closing(proxy.connect(application_name="holder"))
    others = [closing(proxy.connect(application_name="other")) for _ in range(5)]
    holder.execute("BEGIN")
    backend = holder.execute("SELECT pg_backend_pid()").fetchone()[0]
    found = only(proxy, application="hold", database="app", user="app")
    assert (found["state"], found["link"], found["pinned"]) == ("idle in transaction", backend, False)
    assert found["node"] == items(proxy, "/nodes")[0]["name"] and found["address"].startswith("127.0.0.1:")
    assert get(proxy, f"/sessions/{found['pid']}")["application"] == "holder"
    assert only(proxy, address=found["address"])["pid"] == found["pid"]
    assert len(items(proxy, "/sessions?state=idle")) == len(others)
    limited = get(proxy, "/sessions?limit=2&application=other")
    assert (len(limited["items"]), limited["total"], limited["limit"]) == (2, 5, 2)
    assert limited["workers_late"] == 0
    assert items(proxy, "/sessions?user=nobody") == [] and items(proxy, "/sessions?query=nothing") == []
    assert refused(proxy, "/sessions?limit=x") == refused(proxy, "/sessions?user=" + "x" * 300)
    assert refused(proxy, "/sessions/999999") == refused(proxy, "/sessions/0") == (404, "no_such_session")
    assert refused(proxy, "/sessions/x") == (400, "bad_request")


def test_config_says_where_values_are_from(make_proxy):
    proxy = make_proxy({"proxy": {"admin_token": "s3cret"}, "pool": {"connect_timeout": "${HELIOS_X}"}},
                       env={"HELIOS_X": "9s"}, arguments=("--log-level", "debug"))
    found = {each["key"]: each for each in items(proxy, "/config")}
    assert (found["pool.mode"]["value"], found["pool.mode"]["origin"]) == ("transaction", "file")
    assert (found["pool.connect_timeout"]["value"], found["pool.connect_timeout"]["origin"]) == ("9s", "environment")
    assert (found["log.level"]["value"], found["log.level"]["origin"]) == ("debug", "command line")
    assert found["pool.min_connections"]["origin"] == "default"
    assert found["pool.min_connections"]["value"] == found["pool.min_connections"]["default"] == "0"
    assert found["proxy.admin_token"]["value"] == "***" and "s3cret" not in proxy.admin("/api/v1/config")[1]
    assert (found["proxy.workers"]["reload"], found["pool.mode"]["reload"]) == ("restart", "reload")
    assert all(each["help"] for each in found.values())
    assert {each["key"] for each in items(proxy, "/config?origin=environment")} == {"pool.connect_timeout"}
    assert [each["key"] for each in items(proxy, "/config?key=pool.mode")] == ["pool.mode"]


def test_whoami_and_what_roles_may(make_proxy):
    proxy = make_proxy({"admin_tokens": {"monitor": {"token": "m0nitor", "role": "read"},
                                         "night": {"token": "n1ght", "role": "operate"}},
                        "proxy": {"admin_token": "s3cret"}})

    def who(token):
        return json.loads(proxy.admin("/api/v1/whoami", token=token)[1])

    assert (who("m0nitor")["role"], who("m0nitor")["token"], who("m0nitor")["can"]) == ("read", "monitor", ["read"])
    assert (who("n1ght")["role"], who("n1ght")["can"]) == ("operate", ["read", "operate"])
    assert (who("s3cret")["role"], who("s3cret")["can"]) == ("admin", ["read", "operate", "admin"])
    for token, path, method, expected in (
            ("m0nitor", "/sessions", "GET", 200), ("m0nitor", "/databases/app/reconnect", "POST", 403),
            ("n1ght", "/databases/app/reconnect", "POST", 200), ("n1ght", "/reload", "POST", 403),
            ("s3cret", "/reload", "POST", 200), ("wrong", "/sessions", "GET", 401)):
        status, text = proxy.admin("/api/v1" + path, method=method, token=token)
        assert status == expected, (token, path, text)
        assert status < 400 or json.loads(text)["code"] == {401: "unauthorized", 403: "forbidden"}[status]


def test_sessions_are_found_by_what_they_run(make_proxy, closing):
    proxy = make_proxy()
    holder, waiting = closing(proxy.connect()), closing(proxy.wire(application_name="waiting"))
    holder.execute("SELECT pg_advisory_lock(4711)")
    waiting.send(query("SELECT pg_advisory_lock(4711), 'Marked'"))
    found = wait_until(lambda: [s for s in items(proxy, "/sessions?query=marked") if s["query_ms"] is not None])
    assert len(found) == 1 and found[0]["application"] == "waiting"
    assert found[0]["statement"] == "SELECT pg_advisory_lock(4711), 'Marked'" and not found[0]["statement_is_cut"]
    assert found[0]["state"] == "active"


# ---- changing


def test_cancel_ends_what_runs_and_nothing_else(make_proxy, postgres, closing):
    proxy = make_proxy()
    client = closing(proxy.connect(application_name="victim"))
    caught = []

    def run():
        try:
            client.execute("SELECT pg_sleep(600)")
        except psycopg.Error as error:
            caught.append(error.sqlstate)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: postgres.backends("wait_event = 'PgSleep'"))
    pid = wait_until(lambda: [s["pid"] for s in items(proxy, "/sessions?application=victim&state=active")])[0]
    assert call(proxy, f"/sessions/{pid}/cancel", "POST") == (202, {"status": "cancelling", "pid": pid})
    thread.join()
    assert caught == ["57014"]
    assert client.execute("SELECT 1").fetchone() == (1,)  # the session goes on
    assert refused(proxy, f"/sessions/{pid}/cancel", "POST") == (409, "nothing_runs")
    client.execute("BEGIN")
    assert refused(proxy, f"/sessions/{pid}/cancel", "POST") == (409, "nothing_runs")


@pytest.mark.parametrize("mode, before", [("transaction", []), ("transaction", ["BEGIN"]), ("session", []),
                                          ("transaction", ["SELECT pg_advisory_lock_shared(5)"])])
def test_cancel_of_what_the_server_has_not_begun(make_proxy, postgres, closing, mode, before):
    """A server process that is stopped takes the signal for a cancel of nothing when it goes on: then it is told again."""
    proxy = make_proxy({"pool": {"mode": mode, "max_connections": 1}})
    client = closing(proxy.wire(application_name="victim"))
    for text in before:
        assert not errors(client.query(text))
    backend = int(client.value("SELECT pg_backend_pid()"))
    pid = only(proxy, application="victim")["pid"]
    stand_still(backend)
    try:
        client.send(query("SELECT pg_sleep(1000)"))
        wait_until(lambda: only(proxy, application="victim")["state"] == "active")
        assert call(proxy, f"/sessions/{pid}/cancel", "POST")[0] == 202
        client.send(query("SELECT 6"), query("ROLLBACK"), query("SELECT 7"))
        wait_until(lambda: interrupt_is_pending(backend))
    finally:
        os.kill(backend, signal.SIGCONT)
    proxy.advance_until(lambda: not client.is_quiet(0.02), 1)
    assert errors(client.until_ready()) == ["57014"]
    assert errors(client.until_ready()) == (["25P02"] if before == ["BEGIN"] else []), "and no other is hit"
    assert not errors(client.until_ready())
    assert rows(client.until_ready()) == [["7"]]
    assert proxy.metric("hint_timeouts_total") == 0
    for _ in range(3):
        proxy.advance(1)
        assert client.value("SELECT 8") == "8"


def test_cancel_ends_the_wait_for_a_link(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    holder, waiter = closing(proxy.connect()), proxy.wire(application_name="waiter")
    closing(waiter)
    holder.execute("BEGIN")
    waiter.send(query("SELECT 1"))
    pid = wait_until(lambda: [s["pid"] for s in items(proxy, "/sessions?application=waiter&state=waiting")])[0]
    assert call(proxy, f"/sessions/{pid}/cancel", "POST")[0] == 202
    assert errors(waiter.until_ready()) == ["57014"]


def test_a_session_that_has_just_ended_is_not_found(make_proxy, closing):
    proxy = make_proxy()
    closing(proxy.connect(application_name="victim"))
    pid = only(proxy, application="victim")["pid"]
    assert call(proxy, f"/sessions/{pid}", "DELETE") == (200, {"status": "closed", "pid": pid})
    wait_until(lambda: items(proxy, "/sessions") == [])
    for path, method in ((f"/sessions/{pid}", "DELETE"), (f"/sessions/{pid}/cancel", "POST"), (f"/sessions/{pid}", "GET")):
        assert refused(proxy, path, method) == (404, "no_such_session"), path


def test_pause_resume_reconnect(make_proxy, closing):
    proxy = make_proxy()
    client = closing(proxy.connect())
    client.execute("BEGIN")
    status, found = call(proxy, "/databases/app/pause", "POST")
    assert (status, found["status"], found["links_left"], found["paused"]) == (202, "paused", 1, True)
    client.execute("COMMIT")
    wait_until(lambda: call(proxy, "/databases/app/pause", "POST")[0] == 200)  # asked again: its link has left
    assert items(proxy, "/pools")[0]["paused"]
    status, found = call(proxy, "/databases/app/resume", "POST")
    assert (status, found["status"], found["paused"]) == (200, "resumed", False)
    assert call(proxy, "/databases/app/resume", "POST")[1]["status"] == "not paused"
    before = client.execute("SELECT pg_backend_pid()").fetchone()
    wait_until(lambda: call(proxy, "/databases/app/reconnect", "POST")[0] == 200)
    assert client.execute("SELECT pg_backend_pid()").fetchone() != before


def test_disable_and_kill(make_proxy, closing):
    proxy = make_proxy({"databases": {"app": {}}})
    client = closing(proxy.connect())
    assert call(proxy, "/databases/app/disable", "POST")[1]["disabled"]
    with pytest.raises(psycopg.OperationalError):
        proxy.connect()
    assert client.execute("SELECT 1").fetchone() == (1,)
    assert not call(proxy, "/databases/app/enable", "POST")[1]["disabled"]
    status, found = call(proxy, "/databases/app/kill", "POST")
    assert (status, found["sessions"], found["paused"], found["workers_late"]) == (200, 1, True, 0)
    with pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")
    for verb in ("pause", "resume", "reconnect", "disable", "enable", "kill"):
        assert refused(proxy, f"/databases/nobodys/{verb}", "POST") == (404, "no_such_database")
        assert refused(proxy, f"/databases/pgbouncer/{verb}", "POST") == (409, "is_the_console")


def test_reload_says_what_changed(make_proxy):
    proxy = make_proxy()
    assert call(proxy, "/reload", "POST") == (200, {"status": "reloaded", "changed": [], "needs_restart": []})
    proxy.config["pool"]["max_connections"] = 7
    proxy.config["proxy"]["listen_backlog"] = 99
    proxy.config["databases"] = {"other": {}}
    proxy.write_config()
    assert call(proxy, "/reload", "POST") == (200, {
        "status": "reloaded", "changed": ["pool.max_connections", "databases.other"],
        "needs_restart": ["proxy.listen_backlog"]})
    found = {each["key"]: each for each in items(proxy, "/config")}
    assert (found["pool.max_connections"]["value"], found["pool.max_connections"]["pending"]) == ("7", None)
    backlog = found["proxy.listen_backlog"]
    assert (backlog["value"], backlog["pending"]) == (backlog["default"], "99")
    assert call(proxy, "/reload", "POST")[1]["needs_restart"] == ["proxy.listen_backlog"]
    with open(proxy.config_path, "a", encoding="utf-8") as f:
        f.write("\n[pool_mode]\nmode = \"strange\"\n")
    status, problem = call(proxy, "/reload", "POST")
    assert (status, problem["code"]) == (409, "configuration_refused") and "[pool_mode] mode" in problem["detail"]


# ---- refusing


def test_errors_are_problems_here_and_the_references_elsewhere(make_proxy):
    proxy = make_proxy()
    assert refused(proxy, "/nothing") == (404, "not_found")
    assert refused(proxy, "/status", "POST", b"") == (405, "method_not_allowed")
    assert refused(proxy, "/plugins") == (501, "not_available")
    assert "the plugin host" in call(proxy, "/plugins")[1]["detail"]
    assert json.loads(proxy.admin("/nothing")[1]) == {"error": "Not found"}
