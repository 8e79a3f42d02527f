"""
The reference's own endpoints of the admin API, field by field: the rows of its table whose capability is in this build.
A field may be there that it lacks; none may be missing, or be of another kind.
"""

import json
import re
import urllib.request

import pytest

from harness.wait import wait_until

NUMBER, FLAG, TEXT, TIME, LIST = int, bool, str, "time", list


def or_null(kind):
    return (kind, None)


POOL = {"node": TEXT, "active_connections": NUMBER, "idle_connections": NUMBER, "pending_requests": NUMBER,
        "total_connections_created": NUMBER, "total_connections_closed": NUMBER,
        "active": NUMBER, "idle": NUMBER, "pending": NUMBER}
NODE = {"address": TEXT, "healthy": FLAG, "last_check": or_null(TIME), "failure_count": NUMBER,
        "last_error": or_null(TEXT), "latency_ms": or_null(float), "replication_lag_bytes": or_null(NUMBER), "role": TEXT}
CONFIG_NODE = {"address": TEXT, "role": TEXT, "weight": NUMBER, "enabled": FLAG}
CIRCUIT = {"node": TEXT, "state": TEXT}

# path: what its JSON is; a list of one is an array of such objects
TABLE = {
    "/health": {"status": TEXT},
    "/healthz": {"status": TEXT},
    "/health/live": {"alive": FLAG},
    "/livez": {"alive": FLAG},
    "/health/ready": {"ready": FLAG, "message": TEXT},
    "/readyz": {"ready": FLAG, "message": TEXT},
    "/version": {"version": TEXT, "build_time": TEXT, "features": LIST},
    "/config": {"listen_address": TEXT, "admin_address": TEXT, "tr_enabled": FLAG, "tr_mode": TEXT,
                "pool_min_connections": NUMBER, "pool_max_connections": NUMBER, "nodes": [CONFIG_NODE]},
    "/sessions": {"active_sessions": NUMBER},
    "/pools": [POOL],
    "/api/pools": [POOL],
    "/topology": {"currentPrimary": or_null(TEXT), "healthyNodes": NUMBER, "unhealthyNodes": NUMBER,
                  "totalNodes": NUMBER, "lastFailoverAt": or_null(TIME), "nodes": [NODE]},
    "/nodes": [NODE],
    "/nodes/{node}": NODE,
    "/api/circuit": {"circuits": [CIRCUIT]},
}
TOTALS = {name: NUMBER for name in ("connections_accepted", "connections_closed", "connections_active",
                                    "queries_processed", "bytes_received", "bytes_sent", "failovers")}


def is_kind(value, kind):
    if kind is None or value is None:
        return value is None and kind is None
    if kind == TIME:
        return isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def check(value, shape, where):
    if isinstance(shape, dict):
        for name, kind in shape.items():
            assert name in value, f"{where}: {name} is missing"
            check(value[name], kind, f"{where}: {name}")
    elif isinstance(shape, list):
        assert isinstance(value, list) and value, f"{where}: {value}"
        for each in value:
            check(each, shape[0], where)
    else:
        kinds = shape if isinstance(shape, tuple) else (shape,)
        assert any(is_kind(value, kind) for kind in kinds), f"{where}: {value!r}"


def accepting_json(proxy, path):
    request = urllib.request.Request(f"http://127.0.0.1:{proxy.admin_port}{path}",
                                     headers={"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.fixture
def proxy(make_proxy, closing):
    made = make_proxy({"health": {"check_interval": "1s", "user": "postgres"}})
    closing(made.connect()).execute("SELECT 1")
    wait_until(lambda: made.json("/nodes")[0]["latency_ms"] is not None)
    return made


def test_fields(proxy):
    address = proxy.json("/nodes")[0]["address"]
    for path, shape in TABLE.items():
        check(proxy.json(path.format(node=address)), shape, path)


def test_values(proxy):
    address = proxy.json("/nodes")[0]["address"]
    assert proxy.json("/health") == {"status": "ok"} and proxy.json("/livez")["alive"] is True
    config, topology = proxy.json("/config"), proxy.json("/topology")
    assert [each["role"] for each in config["nodes"]] == ["Primary"] and config["nodes"][0]["address"] == address
    assert topology["currentPrimary"] == address and topology["healthyNodes"] == topology["totalNodes"] == 1
    assert proxy.json("/sessions")["active_sessions"] == 1
    assert proxy.json("/api/circuit")["circuits"][0] | {"node": address, "state": "closed"} == \
        proxy.json("/api/circuit")["circuits"][0]
    assert proxy.json("/nodes")[0]["role"] == "primary"


def test_metrics(proxy):
    check(accepting_json(proxy, "/metrics"), TOTALS, "/metrics")
    check(proxy.json("/metrics.json"), TOTALS, "/metrics.json")
    assert accepting_json(proxy, "/metrics/prometheus")["text"].startswith("# HELP ")
    assert proxy.admin("/metrics/prometheus")[1].startswith("# HELP ")


def test_changes(proxy):
    address = proxy.json("/nodes")[0]["address"]
    for path, status in ((f"/nodes/{address}/disable?force=true", "disabled"), (f"/nodes/{address}/enable", "enabled")):
        code, text = proxy.admin(path, method="POST", body=b"")
        assert (code, json.loads(text)["status"]) == (200, status)
    assert proxy.admin("/api/reload", method="POST", body=b"")[0] == 200


def test_errors(make_proxy):
    proxy = make_proxy({"proxy": {"admin_token": "s3cret"}})
    assert json.loads(proxy.admin("/nodes/nobody:1")[1]) == {"error": "Node not found"}
    assert json.loads(proxy.admin("/nothing")[1]) == {"error": "Not found"}
    code, text = proxy.admin("/pools", token="wrong")
    assert (code, json.loads(text)) == (401, {"error": "missing or invalid admin bearer token"})
    for path in ("/health", "/healthz", "/livez", "/readyz"):
        assert proxy.admin(path, token="wrong")[0] == 200
    for path in ("/failover", "/plugins", "/anomalies", "/api/shadow", "/api/chaos", "/api/replay", "/api/edge",
                 "/branch", "/migration/status", "/admin/kv/a/b"):
        code, text = proxy.admin(path)
        assert code == 501 and "not available" in json.loads(text)["error"], path
