"""GET /metrics, read by promtool and by a Prometheus server, as they are installed from Debian."""

import json
import pathlib
import re
import shutil
import subprocess
import urllib.parse
import urllib.request

import pytest
from harness import prometheus_protobuf, wait_until
from harness.ports import lease_port

REPO = pathlib.Path(__file__).resolve().parents[2]
OPEN_METRICS = "application/openmetrics-text"
NAMES = re.compile(r"\b(?:heliosdb_proxy|process)_\w+")

pytestmark = pytest.mark.skipif(not shutil.which("promtool"), reason="the package prometheus is not installed")


def read(proxy, path="/metrics", accept=None):
    request = urllib.request.Request(f"http://127.0.0.1:{proxy.admin_port}{path}",
                                     headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        kind, body = answer.headers["Content-Type"], answer.read()
        return kind, body if "protobuf" in kind else body.decode()


def promtool(*arguments, text=None, cwd=None):
    done = subprocess.run(["promtool", *arguments], input=text, text=True, capture_output=True, timeout=60, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def busy(make_proxy, closing):
    """A proxy of which everything that has metrics is turned on, and used."""
    proxy = make_proxy({"circuit_breaker": {"enabled": True}, "load_balancer": {"read_write_split": True}})
    client = closing(proxy.wire())
    for _ in range(20):
        client.query("SELECT 1")
    return proxy


def emitted(proxy):
    """Names of all samples."""
    return {line.split("{")[0].split(" ")[0] for line in read(proxy)[1].splitlines() if not line.startswith("#")}


def test_promtool_has_no_complaint(busy):
    kind, text = read(busy)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert promtool("check", "metrics", text=text).strip() == ""


def test_open_metrics_for_those_who_accept_it(busy):
    plain = read(busy)[1]
    kind, text = read(busy, accept=f"{OPEN_METRICS};version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
    assert kind == f"{OPEN_METRICS}; version=1.0.0; charset=utf-8"
    assert text.endswith("\n# EOF\n") and "# EOF" not in plain

    def samples(text):
        return [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]

    assert samples(text) == samples(plain), "the same series, in the same order"
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    for name, kind in kinds.items():
        assert kind in ("counter", "gauge", "histogram", "unknown") and not name.endswith("_total")


PROTOBUF = prometheus_protobuf.MEDIA_TYPE.replace(" ", "")
needs_definitions = pytest.mark.skipif(not prometheus_protobuf.is_installed(), reason="needs protoc and client_model")


ACCEPTED = [
    ("*/*", "text/plain"),
    ("application/json, text/plain, */*", "application/json"),
    (f"{OPEN_METRICS};version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.5", "text/plain"),
    ("application/json;q=0.1,text/plain;q=0.2", "text/plain"),
    (f"{PROTOBUF},{OPEN_METRICS};version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
     "application/vnd.google.protobuf"),
    (f"{PROTOBUF};q=0.7,{OPEN_METRICS};version=1.0.0;q=0.8", OPEN_METRICS),
    ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text,text/plain;q=0.1",
     "text/plain"),
]


def test_who_asks_says_in_which_form(busy):
    for accept, kind in ACCEPTED:
        assert read(busy, accept=accept)[0].split(";")[0] == kind, accept


def samples_of(text):
    """{family: (type, help, {sample with its labels: value})}"""
    found = {}
    for line in text.splitlines():
        if line.startswith("# "):
            _, what, name, rest = line.split(" ", 3)
            entry = found.setdefault(name, ["", "", {}])
            entry[("TYPE", "HELP").index(what)] = rest.replace("\\\\", "\\")
        else:
            sample, value = line.rsplit(" ", 1)
            entry[2][sample] = float(value)
    return {name: tuple(entry) for name, entry in found.items()}


def quoted(labels):
    pairs = [f'{name}="' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
             for name, value in labels]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def samples_of_family(family, kind):
    found = {}
    for metric in family.metric:
        labels = [(label.name, label.value) for label in metric.label]
        value = getattr(metric, kind)
        if kind != "histogram":
            found[family.name + quoted(labels)] = value.value
            continue
        for bound, count in [(b.upper_bound, b.cumulative_count) for b in value.bucket] + [("+Inf", value.sample_count)]:
            found[family.name + "_bucket" + quoted(labels + [("le", str(bound))])] = count
        found[family.name + "_sum" + quoted(labels)] = value.sample_sum
        found[family.name + "_count" + quoted(labels)] = value.sample_count
    return found


@needs_definitions
def test_protocol_buffers_say_what_the_text_says(busy, closing):
    """The same families and series in the same order; and each value is what it was before, after, or in between."""
    closing(busy.wire(application_name='a"b\\c'))

    def agree():
        before = samples_of(read(busy)[1])
        kind, data = read(busy, accept=PROTOBUF)
        after = samples_of(read(busy)[1])
        assert kind == prometheus_protobuf.MEDIA_TYPE
        families = prometheus_protobuf.families(data)
        assert [f.name for f in families] == [name for name, (_, _, samples) in before.items() if samples]
        good = True
        for family in families:
            kind, about, wanted = before[family.name]
            assert (family.DESCRIPTOR.fields_by_name["type"].enum_type.values[family.type].name, family.help) == (
                kind.upper(), about)
            found = samples_of_family(family, kind)
            assert list(found) == list(wanted)
            for sample, value in found.items():
                ends = sorted([wanted[sample], after[family.name][2][sample]])
                good = good and ends[0] - 1e-9 <= value <= ends[1] + 1e-9
        return good

    wait_until(agree)


@needs_definitions
def test_native_histograms_add_up(busy):
    data = read(busy, accept=PROTOBUF)[1]
    histograms = {f.name: f.metric[0].histogram for f in prometheus_protobuf.families(data) if f.metric[0].HasField("histogram")}
    assert len(histograms) == 5
    for histogram in histograms.values():
        native = prometheus_protobuf.native_buckets(histogram)
        assert histogram.schema == 3 and histogram.zero_threshold == 2.0 ** -17
        assert histogram.zero_count + sum(native.values()) == histogram.sample_count
        for bucket in histogram.bucket:
            below = sum(count for i, count in native.items() if 2 ** (i / 8) <= bucket.upper_bound)
            reaches = sum(count for i, count in native.items() if 2 ** ((i - 1) / 8) < bucket.upper_bound)
            assert below <= bucket.cumulative_count - histogram.zero_count <= reaches
    assert histograms["heliosdb_proxy_query_duration_seconds"].sample_count == 20


@needs_definitions
def test_what_was_there_from_the_start_says_since_when(busy):
    families = {f.name: f.metric[0] for f in prometheus_protobuf.families(read(busy, accept=PROTOBUF)[1])}
    start = families["process_start_time_seconds"].gauge.value
    for found in (prometheus_protobuf.created(families["heliosdb_proxy_queries_total"].counter, 3),
                  prometheus_protobuf.created(families["heliosdb_proxy_query_duration_seconds"].histogram, 15)):
        assert abs(found - start) < 0.01
    assert prometheus_protobuf.created(families["heliosdb_proxy_pool_queries_total"].counter, 3) is None


def test_names_of_the_reference_stay(busy):
    """Its six counters, with its names."""
    names = emitted(busy)
    for name in ("connections_total", "connections_closed", "queries_total", "bytes_received_total", "bytes_sent_total",
                 "failovers_total"):
        assert f"heliosdb_proxy_{name}" in names


def test_json_stays_where_the_reference_has_it(busy):
    wanted = {"connections_accepted", "connections_closed", "connections_active", "queries_processed", "bytes_received",
              "bytes_sent", "failovers"}
    for path in ("/metrics", "/metrics.json"):
        kind, text = read(busy, path, accept="application/json")
        assert kind == "application/json" and set(json.loads(text)) == wanted
    kind, text = read(busy, "/metrics/prometheus", accept="application/json")
    assert kind == "application/json" and "# TYPE heliosdb_proxy_queries_total counter" in json.loads(text)["text"]
    assert read(busy, "/metrics/prometheus")[0].startswith("text/plain")


def test_histograms_add_up(busy):
    metrics = busy.metrics()
    for name in ("query", "transaction", "server", "link_wait", "login"):
        name = f"{name}_duration_seconds"
        buckets = sorted((float(dict(labels)["le"]), value) for (each, labels), value in metrics.items()
                         if each == f"{name}_bucket")
        assert len(buckets) == 21 and [v for _, v in buckets] == sorted(v for _, v in buckets)
        assert buckets[-1] == (float("inf"), metrics[f"{name}_count", frozenset()])
    assert metrics["query_duration_seconds_count", frozenset()] == 20
    assert metrics["query_duration_seconds_sum", frozenset()] > 0


def test_of_many_pools_some_are_shown_and_the_others_summed(make_proxy, closing, postgres):
    names = [f"pool{i}" for i in range(5)]
    proxy = make_proxy({"databases": {name: {"dbname": "app"} for name in names}})
    for count, name in enumerate(names):
        client = closing(proxy.wire(database=name))
        for _ in range(count + 1):
            client.query("SELECT 1")

    def queries(path):
        found = re.findall(r'^heliosdb_proxy_pool_queries_total\{database="([^"]*)",user="([^"]*)",node="[^"]*"\} (\d+)$',
                           read(proxy, path)[1], re.M)
        return {(database, user): int(count) for database, user, count in found}

    wanted = {(name, "app"): count + 1 for count, name in enumerate(names)}
    assert queries("/metrics") == queries("/metrics?pools=5") == queries("/metrics?pools=x") == wanted
    assert queries("/metrics?pools=3") == {("pool0", "app"): 1, ("pool1", "app"): 2, ("other pools", ""): 3 + 4 + 5}
    assert queries("/metrics?pools=1") == queries("/metrics?pools=0") == {("other pools", ""): 15}
    promtool("check", "metrics", text=read(proxy, "/metrics?pools=3")[1])


@pytest.mark.parametrize("odd", ['quo"te', "back\\slash", "line\nbreak", '{a="b"} 1', "\u00e9"])
def test_odd_names_are_escaped(make_proxy, closing, odd):
    proxy = make_proxy({"databases": {odd: {"dbname": "app"}}})
    closing(proxy.wire(database=odd)).query("SELECT 1")
    text = read(proxy)[1]
    promtool("check", "metrics", text=text)
    if prometheus_protobuf.is_installed():
        assert any(label.value == odd for family in prometheus_protobuf.families(read(proxy, accept=PROTOBUF)[1])
                   for metric in family.metric for label in metric.label)
    escaped = odd.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert f'database="{escaped}"' in text


# ---- a Prometheus server ----


class Prometheus:
    def __init__(self, folder, proxy, *arguments):
        self.lease = lease_port()
        self.port = self.lease.port
        (folder / "token").write_text("s3cret")
        (folder / "prometheus.yml").write_text(f"""
global:
  scrape_interval: 500ms
  evaluation_interval: 500ms
scrape_configs:
  - job_name: heliosproxy
    authorization: {{credentials_file: {folder}/token}}
    static_configs: [{{targets: ["127.0.0.1:{proxy.admin_port}"]}}]
""")
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{self.port}", *arguments], stdout=self.log, stderr=self.log)

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
        self.lease.release()

    def get(self, path, **parameters):
        assert self.process.poll() is None, "it has ended"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?" +
                                        urllib.parse.urlencode(parameters), timeout=60) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None  # it is starting

    def value(self, query):
        found = self.get("query", query=query)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None


def test_a_prometheus_server_reads_it(make_proxy, closing, tmp_path):
    proxy = make_proxy({"proxy": {"admin_token": "s3cret"}})
    client = closing(proxy.wire())
    for _ in range(7):
        client.query("SELECT 1")
    server = closing(Prometheus(tmp_path, proxy))
    wait_until(lambda: server.value("up") == 1, 60)
    wait_until(lambda: server.value("heliosdb_proxy_queries_total") == 7, 60)
    assert server.value("heliosdb_proxy_query_duration_seconds_count") == 7
    assert server.value('heliosdb_proxy_query_duration_seconds_bucket{le="+Inf"}') == 7
    assert server.value('sum(heliosdb_proxy_pool_queries_total{database="app"})') == 7
    for _ in range(5):
        client.query("SELECT 1")
    wait_until(lambda: server.value("heliosdb_proxy_queries_total") == 12, 60)
    wait_until(lambda: (server.value("histogram_quantile(0.99, rate(heliosdb_proxy_query_duration_seconds_bucket[1m]))")
                        or 0) > 0, 60)
    kinds = server.get("targets/metadata", metric="heliosdb_proxy_query_duration_seconds")
    assert [kind["type"] for kind in kinds] == ["histogram"]
    (target,) = server.get("targets")["activeTargets"]
    assert target["lastError"] == ""


def test_a_prometheus_server_reads_native_histograms(make_proxy, closing, tmp_path):
    proxy = make_proxy({"proxy": {"admin_token": "s3cret"}})
    client = closing(proxy.wire())
    for _ in range(7):
        client.query("SELECT 1")
    server = closing(Prometheus(tmp_path, proxy, "--enable-feature=native-histograms"))
    name = "heliosdb_proxy_query_duration_seconds"
    wait_until(lambda: server.value(f"histogram_count({name})") == 7, 60)
    assert server.value("heliosdb_proxy_queries_total") == 7
    assert server.value('sum(heliosdb_proxy_pool_queries_total{database="app",user="app"})') == 7
    total = server.value(f"histogram_sum({name})")
    assert 0 < server.value(f"histogram_quantile(0.5, {name})") <= total * 2 ** (1 / 8)
    assert server.value(f"histogram_fraction(0, 1e5, {name})") == 1
    (target,) = server.get("targets")["activeTargets"]
    assert target["lastError"] == ""


# ---- what is shipped

ALERTS = REPO / "monitoring/prometheus/alerts.yml"
DASHBOARD = REPO / "monitoring/grafana/heliosproxy.json"


def families(proxy):
    """Names of what samples are called, of all families that are exposed, with samples or without."""
    found = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", read(proxy)[1], re.M):
        found |= {name + end for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return found


def of_patroni(proxy):
    """Those of a proxy that asks Patroni: from the reference, which is printed from the same table."""
    page = subprocess.run([proxy.binary, "--generate", "metrics"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"`(heliosdb_proxy_patroni_\w+)`", page))


def expressions(found):
    """All values of "expr" in the dashboard."""
    if isinstance(found, dict):
        return [v for k, v in found.items() if k == "expr"] + [e for v in found.values() for e in expressions(v)]
    return [e for v in found for e in expressions(v)] if isinstance(found, list) else []


def test_the_dashboard_shows_what_there_is(busy):
    dashboard = json.loads(DASHBOARD.read_text())
    names = {name for expr in expressions(dashboard) for name in NAMES.findall(expr)}
    assert len(names) > 40
    assert names - families(busy) - of_patroni(busy) == set()
    panels = dashboard["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    for p in panels:
        assert p["type"] == "row" or p["title"] and p["targets"] and p["fieldConfig" if p["type"] != "heatmap" else "options"]


def test_alerts_are_about_what_there_is(busy):
    rules = ALERTS.read_text()
    names = {name for expr in re.findall(r"^ +expr: (.*)$", rules, re.M) for name in NAMES.findall(expr)}
    assert len(names) > 15
    assert names - families(busy) - of_patroni(busy) == set()


def test_alerts_fire_when_they_should():
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", "alerts_test.yml", cwd=ALERTS.parent)
    tested = re.findall(r"^  - name: (\w+)$", (ALERTS.parent / "alerts_test.yml").read_text(), re.M)
    assert tested == re.findall(r"- alert: (\w+)", ALERTS.read_text())


def test_each_alert_has_a_page_and_each_page_an_alert():
    rules = ALERTS.read_text()
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert re.findall(r"runbook_url: (\S+)", rules) == [f"docs/runbooks/{alert}.md" for alert in alerts]
    pages = {page.stem: page.read_text() for page in (REPO / "docs/runbooks").glob("*.md")}
    index = pages.pop("README")
    assert set(pages) == set(alerts)
    for alert in alerts:
        assert f"]({alert}.md)" in index
        assert all(f"\n## {part}\n" in pages[alert] for part in ("What it means", "How to see", "What to do"))


def test_metrics_that_pages_name_exist(busy):
    """In runbooks and docs/metrics.md; "..._x" stands for heliosdb_proxy_x."""
    known = families(busy) | of_patroni(busy)
    for page in [*(REPO / "docs/runbooks").glob("*.md"), REPO / "docs/metrics.md"]:
        for name in re.findall(r"\b(?:heliosdb_proxy|process)_[a-z0-9_]+[a-z0-9]\b(?!\*|_)", page.read_text()):
            assert name in known or any(k.startswith(name + "_") for k in known), f"{page.name}: {name}"
