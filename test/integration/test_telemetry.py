"""[telemetry]: what a collector gets of requests and metrics, and what becomes of it when the collector doesn't behave."""

import re
import subprocess
import time
import urllib.parse

import psycopg
import pytest
from harness import wait_until
from harness.wire import bind, errors, execute, parse, query, run, sync

pytest.importorskip("opentelemetry.proto", reason="needs opentelemetry-proto (requirements.txt)")
from harness.collector import Collector  # noqa: E402

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def traceparent(flags="01", trace=TRACE, parent=PARENT, **more):
    pairs = {"traceparent": f"00-{trace}-{parent}-{flags}", **more}
    return "/*" + ",".join(f"{k}='{urllib.parse.quote(v, safe='')}'" for k, v in sorted(pairs.items())) + "*/"


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.close()


def config(collector, mode="transaction", telemetry=None, **more):
    return {"pool": {"mode": mode, "max_connections": 1}, **more,
            "telemetry": {"enabled": True, "endpoint": collector.url, "interval": "20ms", "metrics": False,
                          "slow_threshold": "0s", **(telemetry or {})}}


def by_kind(collector, span):
    return {child.kind: child for child in collector.children(span)}


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_spans_of_both_protocols(make_proxy, postgres, closing, collector, mode):
    proxy = make_proxy(config(collector, mode, {"query_text": True, "service_name": "shop-proxy",
                                                "resource_attributes": "deployment.environment.name=test,a%2Cb=c%20d"}))
    client = closing(proxy.wire(application_name="reports"))
    client.query("SELECT 'secret', 42 FROM pg_class LIMIT 1")
    client.batch(run("SELECT relname FROM pg_catalog.pg_class WHERE oid = $1::oid", [7]))
    client.send(parse("s", "SELECT 1 FROM pg_index"), bind("", "s"), execute(), sync())
    client.until_ready()
    span = collector.wait_request("SELECT pg_class")
    assert span.resource["service.name"] == "shop-proxy" and span.resource["a,b"] == "c d"
    assert span.resource["deployment.environment.name"] == "test" and span.resource["service.instance.id"]
    assert span.parent == "" and len(span.trace) == 32
    assert span["db.system.name"] == "postgresql" and span["db.namespace"] == "app"
    assert span["db.operation.name"] == "SELECT" and span["db.query.summary"] == "SELECT pg_class"
    assert span["user.name"] == "app" and span["helios.application"] == "reports"
    assert span["helios.protocol"] == "simple"
    assert "db.query.text" not in span.attributes and "error.type" not in span.attributes
    server = by_kind(collector, span)["CLIENT"]
    assert server.trace == span.trace and server["server.address"] == "127.0.0.1"
    assert server["server.port"] == postgres.port and server["helios.node.role"] == "primary"
    assert server["db.query.text"] == "select ?, ? from pg_class limit ?"
    assert span.start <= server.start <= server.end == span.end
    assert abs(span.end / 1e9 - time.time()) < 600
    extended = collector.wait_request("SELECT pg_catalog.pg_class")
    assert extended["helios.protocol"] == "extended" and extended.trace != span.trace
    assert by_kind(collector, extended)["CLIENT"]["db.query.text"].endswith("oid = ?::oid")
    assert collector.wait_request("SELECT pg_index")["helios.protocol"] == "extended"


def test_without_leave_no_text(make_proxy, closing, collector):
    proxy = make_proxy(config(collector))
    closing(proxy.wire()).query("SELECT 'secret' FROM pg_class LIMIT 1")
    collector.wait_request("SELECT pg_class")
    assert not any("db.query.text" in s.attributes for s in collector.spans())
    assert "secret" not in str(collector.requests)


def test_the_wait_for_a_link_is_a_span(make_proxy, closing, collector):
    proxy = make_proxy(config(collector))
    holder, client = closing(proxy.wire()), closing(proxy.wire())
    holder.query("BEGIN")
    client.send(query("SELECT 'waited' FROM pg_class LIMIT 0"))
    wait_until(lambda: proxy.metric("clients_waiting") == 1)
    proxy.advance(11)
    holder.query("COMMIT")
    client.until_ready()
    span = collector.wait_request("SELECT pg_class")
    children = by_kind(collector, span)
    wait, server = children["INTERNAL"], children["CLIENT"]
    assert wait.end - wait.start >= 11e9 and wait.start == span.start and wait.end == server.start
    assert server.end == span.end and "routed" in "".join(span.events)


def test_a_failed_query_says_how(make_proxy, closing, collector):
    proxy = make_proxy(config(collector, telemetry={"sample_ratio": 0}))
    client = closing(proxy.wire())
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    assert errors(client.query("SELECT 1 / 0 FROM pg_class")) == ["22012"]
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    span = collector.wait_request("SELECT pg_class")
    for each in (span, by_kind(collector, span)["CLIENT"]):
        assert each["db.response.status_code"] == each["error.type"] == "22012"
        assert each.raw.status.code == 2
    assert proxy.metric("telemetry_traces_recorded_total") == 1


def test_slow_ones_are_kept(make_proxy, closing, collector, gate):
    proxy = make_proxy(config(collector, telemetry={"sample_ratio": 0, "slow_threshold": "10s"}))
    client = closing(proxy.wire())
    held = gate()
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    client.send(query(f"SELECT {held.passage} FROM pg_index LIMIT 1"))
    held.wait()
    proxy.advance(11)
    held.open()
    client.until_ready()
    span = collector.wait_request("SELECT pg_index")
    assert span.end - span.start >= 11e9
    assert proxy.metric("telemetry_traces_recorded_total") == 1


def test_what_never_reached_a_server(make_proxy, closing, collector):
    """It waited too long: an error of the proxy's own."""
    proxy = make_proxy(config(collector, telemetry={"sample_ratio": 0}))
    proxy.reload({"pool": {"query_wait_timeout": "10s"}})
    holder, client = closing(proxy.wire()), closing(proxy.wire())
    holder.query("BEGIN")
    for parts in ([query("SELECT 1 FROM pg_class")], [run("SELECT 2 FROM pg_index"), sync()]):
        client.send(*parts)
        wait_until(lambda: proxy.metric("clients_waiting") == 1)
        proxy.advance(11)
        assert errors(client.until_ready()) != []
    for name in ("SELECT pg_class", "SELECT pg_index"):
        span = collector.wait_request(name)
        assert span.raw.status.code == 2 and span["error.type"] == span["db.response.status_code"]
        assert [c.kind for c in collector.children(span)] == ["INTERNAL"] and not span.events
        assert span.end - span.start >= 10e9


def test_parents_from_comments(make_proxy, closing, collector):
    proxy = make_proxy(config(collector, telemetry={"sample_ratio": 0}))
    client = closing(proxy.wire())
    state = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    client.query("SELECT 1 FROM pg_class LIMIT 0 " + traceparent(tracestate=state))
    client.query(traceparent() + "SELECT 1 FROM pg_index LIMIT 0")
    client.batch(run("SELECT 1 FROM pg_proc LIMIT $1 " + traceparent(), [0]))
    client.send(parse("s", "SELECT 1 FROM pg_type LIMIT 0 " + traceparent()), bind("", "s"), execute(), sync())
    client.until_ready()
    long = "SELECT 1 FROM pg_am WHERE amname = '" + "x" * 20000 + "' "
    client.query(long + traceparent())
    for name in ("pg_class", "pg_index", "pg_proc", "pg_type", "pg_am"):
        span = collector.wait_request("SELECT " + name)
        server = by_kind(collector, span)["CLIENT"]
        assert (span.trace, span.parent) == (TRACE, PARENT) and server.trace == TRACE and server.parent == span.id
        assert span.raw.flags == 0x301 and server.raw.flags == 0x101
        assert span.raw.trace_state == server.raw.trace_state == (state if name == "pg_class" else "")


def test_the_parent_decides(make_proxy, closing, collector):
    """Sampled or not, by the client's word; only an invalid one leaves it to the proxy."""
    proxy = make_proxy(config(collector, telemetry={"sample_ratio": 1}))
    client = closing(proxy.wire())
    client.query("SELECT 1 FROM pg_class LIMIT 0 " + traceparent("00"))
    client.query("SELECT 1 FROM pg_index LIMIT 0 " + traceparent(trace="0" * 32))
    client.query("SELECT 1 / 0 FROM pg_am " + traceparent("00"))
    span = collector.wait_request("SELECT pg_index")
    assert span.parent == "" and span.trace != "0" * 32
    assert collector.wait_request("SELECT pg_am").parent == PARENT  # an error is told anyway
    assert not collector.requests_named("SELECT pg_class")


def test_a_real_library_as_the_client(make_proxy, collector):
    """psycopg with OpenTelemetry's instrumentation and its sqlcommenter: the application's span is the parent."""
    from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    proxy = make_proxy(config(collector, telemetry={"sample_ratio": 0}))
    theirs, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    instrumentor = PsycopgInstrumentor()
    instrumentor.instrument(tracer_provider=provider, enable_commenter=True, skip_dep_check=True)
    try:
        with psycopg.connect(host="127.0.0.1", port=proxy.port, user="app", dbname="app", autocommit=True) as db:
            with provider.get_tracer("test").start_as_current_span("handler"):
                db.execute("SELECT count(*) FROM pg_class WHERE relname = %s", ["pg_class"]).fetchall()
                db.execute("SELECT count(*) FROM pg_index").fetchall()
    finally:
        instrumentor.uninstrument()
    for name in ("SELECT pg_class", "SELECT pg_index"):
        span = collector.wait_request(name)
        parents = [s for s in theirs.get_finished_spans() if f"{s.context.span_id:016x}" == span.parent]
        assert len(parents) == 1 and f"{parents[0].context.trace_id:032x}" == span.trace
        handler = next(s for s in theirs.get_finished_spans() if s.name == "handler")
        assert parents[0].parent.span_id == handler.context.span_id


def test_the_environment(make_proxy, closing, collector):
    proxy = make_proxy(config(collector, telemetry={"endpoint": ""}), env={
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url + "/", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s%20cret, x=1",
        "OTEL_SERVICE_NAME": "from-env", "OTEL_RESOURCE_ATTRIBUTES": "service.name=not-this,team=db",
        "OTEL_TRACES_SAMPLER": "parentbased_always_off"})
    client = closing(proxy.wire())
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    client.query("SELECT 1 FROM pg_index LIMIT 0 " + traceparent())
    span = collector.wait_request("SELECT pg_index")
    assert span.resource["service.name"] == "from-env" and span.resource["team"] == "db"
    assert not collector.requests_named("SELECT pg_class")
    headers = collector.requests[0][1]
    assert headers["api-key"] == "s cret" and headers["x"] == "1"
    assert headers["Content-Type"] == "application/x-protobuf" and headers["Content-Encoding"] == "gzip"
    assert "s cret" not in proxy.log() and "s%20cret" not in proxy.log()


def test_where_it_went(make_proxy, make_postgres, postgres, closing, collector):
    """Without routing there is a node, and no reason."""
    proxy = make_proxy(config(collector, nodes=[{"host": "127.0.0.1", "port": postgres.port, "name": "alpha"}]))
    closing(proxy.wire()).query("SELECT 1 FROM pg_class LIMIT 0")
    span = collector.wait_request("SELECT pg_class")
    assert span.events["helios.routed"] == {"helios.node": "alpha", "helios.node.role": "primary"}
    assert by_kind(collector, span)["CLIENT"]["helios.node"] == "alpha"


def test_requests_on_shared_links(make_proxy, postgres, closing, collector):
    proxy = make_proxy(config(collector, proxy={"workers": 1}) | {"pool": {
        "mode": "transaction", "max_connections": 5, "share": "autocommit", "share_connections": 1, "share_max_cost": "1h"}})
    client = closing(proxy.wire())
    for _ in range(8):
        client.query("SELECT count(*) FROM pg_am")
        client.batch(run("SELECT count(*) FROM pg_am WHERE amname = $1", ["x"]))
    assert proxy.metric("shared_requests_total") > 0
    for span in collector.wait_request("SELECT pg_am", 16):
        assert by_kind(collector, span)["CLIENT"]["server.port"] == postgres.port


def test_metrics_are_those_of_the_page(make_proxy, closing, collector):
    proxy = make_proxy(config(collector, telemetry={"metrics": True, "traces": False, "metrics_interval": "1s"}))
    client = closing(proxy.wire())
    for _ in range(5):
        client.query("SELECT 1")

    def told():
        proxy.advance(1)
        m = collector.metrics().get("heliosdb_proxy_queries_total")
        return m is not None and m.sum.data_points[0].as_int >= 5 and m

    queries = wait_until(told)
    assert queries.sum.is_monotonic and queries.sum.aggregation_temporality == 2
    point = queries.sum.data_points[0]
    assert 0 < point.start_time_unix_nano < point.time_unix_nano
    assert not collector.spans()
    metrics = collector.metrics()
    assert metrics["heliosdb_proxy_clients"].gauge.data_points[0].as_int == 1
    pools = metrics["heliosdb_proxy_pool_links_idle"].gauge.data_points
    assert [{a.key: a.value.string_value for a in p.attributes}["database"] for p in pools] == ["app"]
    assert metrics["process_resident_memory_bytes"].unit == "By"
    assert metrics["heliosdb_proxy_queries_total"].description.startswith("Simple queries")
    page = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram)$", proxy.admin("/metrics")[1], re.M))
    samples = set(re.findall(r"^([a-z_]+?)(?:_bucket|_sum|_count)?[ {]", proxy.admin("/metrics")[1], re.M))
    assert page & samples <= set(metrics) | {n for n in page if not re.search(rf"^{n}[ {{]", proxy.admin("/metrics")[1],
                                                                             re.M)}
    for name in metrics:
        assert name in page


def test_reload_turns_it_on_elsewhere_and_off(make_proxy, closing, collector):
    second = closing(Collector())
    proxy = make_proxy({"pool": {"mode": "transaction", "max_connections": 1}})
    client = closing(proxy.wire())
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    proxy.reload(config(collector))
    client.query("SELECT 1 FROM pg_index LIMIT 0")
    collector.wait_request("SELECT pg_index")
    proxy.reload(config(second))
    client.query("SELECT 1 FROM pg_proc LIMIT 0")
    second.wait_request("SELECT pg_proc")
    proxy.reload({"telemetry": {"enabled": False}})
    client.query("SELECT 1 FROM pg_am LIMIT 0")
    assert proxy.metric("telemetry_traces_recorded_total") == 2
    assert {s.name for s in collector.spans() + second.spans() if s.kind == "SERVER"} == \
        {"SELECT pg_index", "SELECT pg_proc"}


def test_a_bad_collector_is_no_reload(make_proxy, collector):
    proxy = make_proxy(config(collector))
    proxy.reload({"telemetry": {"endpoint": "nowhere"}})
    assert "not reloaded" in proxy.log() and "is not of the form" in proxy.log()


# -- a collector that does not behave


def test_it_is_tried_again(make_proxy, closing):
    """503, then 429 with Retry-After, then it is taken: once."""
    told = []

    def answer(path, headers, message):
        told.append(path)
        return {1: (503, {}, b"busy"), 2: (429, {"Retry-After": "2"}, b"")}.get(len(told))

    collector = closing(Collector(answer))
    proxy = make_proxy(config(collector))
    closing(proxy.wire()).query("SELECT 1 FROM pg_class LIMIT 0")

    def came():
        proxy.advance(0.5)
        return collector.requests_named("SELECT pg_class")

    assert len(wait_until(came)) == 1 and len(told) == 3
    wait_until(lambda: proxy.metric("telemetry_spans_exported_total") == 2)
    assert proxy.metric("telemetry_retries_total") == 2 and proxy.metric("telemetry_export_failures_total") == 2
    assert proxy.metric("telemetry_spans_failed_total") == 0
    lines = [line for line in proxy.log_lines() if "telemetry collector" in line]
    assert len(lines) == 2 and "503" in lines[0] and "again" in lines[1]


@pytest.mark.parametrize("status", [400, 404, 500])
def test_what_is_refused_is_counted(make_proxy, closing, status):
    collector = closing(Collector(lambda *_: (status, {}, b"no")))
    proxy = make_proxy(config(collector))
    client = closing(proxy.wire())
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    wait_until(lambda: proxy.metric("telemetry_spans_failed_total") == 2)
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    wait_until(lambda: proxy.metric("telemetry_spans_failed_total") == 4)
    assert proxy.metric("telemetry_retries_total") == 0 and collector.count("/v1/traces") == 2
    assert sum("telemetry collector" in line for line in proxy.log_lines()) == 1


@pytest.mark.parametrize("body", [b"", b"\xff" * 100, b"<html>fine</html>", b"\x0a\xff\xff\xff\xff\x0f"])
def test_rubbish_that_says_yes(make_proxy, closing, body):
    collector = closing(Collector(lambda *_: (200, {}, body)))
    proxy = make_proxy(config(collector))
    closing(proxy.wire()).query("SELECT 1 FROM pg_class LIMIT 0")
    wait_until(lambda: proxy.metric("telemetry_spans_exported_total") == 2)


def test_a_part_is_rejected(make_proxy, closing):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans, answer.partial_success.error_message = 1, "too old"
    collector = closing(Collector(lambda *_: (200, {}, answer.SerializeToString())))
    proxy = make_proxy(config(collector))
    closing(proxy.wire()).query("SELECT 1 FROM pg_class LIMIT 0")
    wait_until(lambda: proxy.metric("telemetry_spans_rejected_total") == 1)
    assert proxy.metric("telemetry_spans_exported_total") == 1


def test_nobody_is_there_and_then_somebody_is(make_proxy, closing, collector):
    collector.stop()
    proxy = make_proxy(config(collector))
    client = closing(proxy.wire())
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    wait_until(lambda: proxy.metric("telemetry_export_failures_total") >= 2)
    collector.start()
    client.query("SELECT 1 FROM pg_index LIMIT 0")

    def came():
        proxy.advance(1)
        return len({s.name for s in collector.spans() if s.kind == "SERVER"}) == 2

    wait_until(came)
    assert [bool(re.search("again", line)) for line in proxy.log_lines() if "telemetry collector" in line] == \
        [False, True]


def test_given_up_after_a_while(make_proxy, closing, collector):
    collector.stop()
    proxy = make_proxy(config(collector))
    closing(proxy.wire()).query("SELECT 1 FROM pg_class LIMIT 0")

    def lost():
        proxy.advance(5)
        return proxy.metric("telemetry_spans_failed_total") == 2

    wait_until(lost)


def test_turned_off_while_it_is_tried_again(make_proxy, closing, collector):
    collector.stop()
    proxy = make_proxy(config(collector))
    closing(proxy.wire()).query("SELECT 1 FROM pg_class LIMIT 0")
    wait_until(lambda: proxy.metric("telemetry_export_failures_total") >= 1)
    proxy.reload({"telemetry": {"enabled": False, "endpoint": ""}})
    wait_until(lambda: proxy.metric("telemetry_spans_failed_total") == 2)


def test_a_silent_collector_holds_up_nobody(make_proxy, closing, collector):
    """It takes a request and does not answer: clients go on, far beyond the buffer; what has no room is counted."""
    proxy = make_proxy(config(collector, telemetry={"buffer": "64kB", "timeout": "600s"}, proxy={"workers": 1}))
    client = closing(proxy.wire())
    collector.held.clear()
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    wait_until(lambda: collector.count("/v1/traces") == 1)  # from now on nothing leaves the buffer
    text = "SELECT 1 FROM pg_class WHERE relname = '" + "x" * 1500 + "' LIMIT 0"
    for _ in range(40):
        client.send(*[run(text) for _ in range(10)], sync())
        client.until_ready()
    wait_until(lambda: proxy.metric("telemetry_traces_recorded_total") +
               proxy.metric("telemetry_traces_dropped_total") == 401)
    assert proxy.metric("telemetry_traces_dropped_total") > 300 and collector.count("/v1/traces") == 1
    collector.held.set()
    wait_until(lambda: len(collector.requests_named("SELECT pg_class")) ==
               proxy.metric("telemetry_traces_recorded_total"))
    client.query("SELECT 1 FROM pg_index LIMIT 0")
    collector.wait_request("SELECT pg_index")


def test_the_end_with_a_silent_collector(make_proxy, closing, collector):
    """SIGTERM waits for it, and not for long."""
    collector.held.clear()
    proxy = make_proxy(config(collector, telemetry={"timeout": "600s"}))
    client = closing(proxy.wire())
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    wait_until(lambda: collector.count("/v1/traces") == 1)
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    client.close()
    proxy.stop(timeout=60)


def test_the_last_spans_and_metrics_are_sent_at_the_end(make_proxy, closing, collector):
    proxy = make_proxy(config(collector, telemetry={"interval": "3600s", "metrics": True, "metrics_interval": "3600s"}))
    client = closing(proxy.wire())
    client.query("SELECT 1 FROM pg_class LIMIT 0")
    client.close()
    proxy.stop()
    collector.wait_request("SELECT pg_class")
    assert collector.metrics()["heliosdb_proxy_queries_total"].sum.data_points[0].as_int == 1


def test_many_requests_of_many_clients(make_proxy, closing, collector):
    proxy = make_proxy(config(collector) | {"pool": {"mode": "transaction", "max_connections": 5}})
    clients = [closing(proxy.wire()) for _ in range(8)]
    for _ in range(25):
        for client in clients:
            client.send(*[run("SELECT 1 FROM pg_class LIMIT 0") for _ in range(10)], sync())
        for client in clients:
            client.until_ready()
    wait_until(lambda: len(collector.requests_named("SELECT pg_class")) == 2000, 60)
    spans = collector.requests_named("SELECT pg_class")
    assert len({s.id for s in spans}) == len({s.trace for s in spans}) == 2000
    assert proxy.metric("telemetry_traces_dropped_total") == 0


def test_reloads_while_it_is_sent(make_proxy, closing, collector):
    proxy = make_proxy(config(collector, telemetry={"interval": "10ms"}))
    client = closing(proxy.wire())
    for i in range(6):
        for _ in range(20):
            client.query("SELECT 1 FROM pg_class LIMIT 0")
        proxy.reload({"telemetry": {"compression": "gzip" if i % 2 else "none", "buffer": f"{i + 1}MB"}})
    wait_until(lambda: len({s.id for s in collector.requests_named("SELECT pg_class")}) == 120)


def test_off_there_is_no_thread(make_proxy, collector):
    proxy = make_proxy()
    threads = subprocess.run(["ps", "-L", "-o", "comm=", "-p", str(proxy.process.pid)], capture_output=True, text=True,
                             check=True).stdout
    assert "telemetry" not in threads
    proxy.reload(config(collector))
    wait_until(lambda: "telemetry" in subprocess.run(["ps", "-L", "-o", "comm=", "-p", str(proxy.process.pid)],
                                                     capture_output=True, text=True, check=True).stdout)
