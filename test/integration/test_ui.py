"""
The web page in a real browser: a proxy before a primary and a standby, with clients that work. What a person on call does
there is done here, and looked at on the proxy's side.
"""

import contextlib
import gzip
import json
import os
import re
import threading
import urllib.error
import urllib.request

import psycopg
import pytest

from conftest import BINARY
from harness import Postgres, Proxy
from harness.browser import HOSTILE, Traffic, chromium, scene_config, why_no_browser
from harness.wait import wait_until

PANELS = ("overview", "nodes-and-topology", "pools-and-waiting", "client-sessions", "running-queries", "sql-console",
          "configuration", "log-tail", "event-stream", "more")
# of the reference's page (its tests look for them), as far as there is such a panel
IDS = ("nodes", "metrics-traffic", "metrics-cluster", "topology", "edge-stats", "anomalies", "plugins", "sql", "run",
       "sql-result", "token-btn", "version", "last-refresh")

needs_browser = pytest.mark.skipif(why_no_browser() is not None, reason=str(why_no_browser()))
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


# ---- what is served, without a browser

def fetch(proxy, path, **headers):
    """(status, headers, body)"""
    request = urllib.request.Request(f"http://127.0.0.1:{proxy.admin_port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read()


def test_page_and_its_files_are_served_without_a_token(make_proxy):
    proxy = make_proxy({"proxy": {"admin_token": "secret"}})
    status, headers, page = fetch(proxy, "/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert fetch(proxy, "/ui")[2] == page and fetch(proxy, "/ui/")[2] == page
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    names, files = [n.decode() for n in re.findall(rb'(?:src|href)="/ui/([^"]+)"', page)], {}
    while names:
        name = names.pop()
        if name not in files:
            status, headers, files[name] = fetch(proxy, "/ui/" + name)
            assert status == 200, name
            names += [n.decode() for n in re.findall(rb'from "\./([^"]+)"', files[name])]
            packed = fetch(proxy, "/ui/" + name, **{"Accept-Encoding": "gzip"})
            assert packed[1]["Content-Encoding"] == "gzip" and gzip.decompress(packed[2]) == files[name]
            assert packed[1]["ETag"] != headers["ETag"]
            again = fetch(proxy, "/ui/" + name, **{"If-None-Match": headers["ETag"]})
            assert (again[0], again[2]) == (304, b"")
            assert fetch(proxy, "/ui/" + name, **{"If-None-Match": '"old"'})[0] == 200
    here = set(os.listdir(os.path.join(os.path.dirname(__file__), "../../src/admin/ui")))
    assert set(files) | {"index.html"} == here - {"embed.py", "meson.build"}
    for name, text in {**files, "index.html": page}.items():
        assert not re.search(rb"https?://(?!www\.w3\.org/)", text), name  # those are names of XML
    assert not re.search(rb"<script(?![^>]*\bsrc=)|<style|\son\w+=|style=", page)
    assert not re.search(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function",
                         b"".join(files.values()))


def test_what_is_not_of_the_page_is_not_found(make_proxy):
    proxy = make_proxy({"proxy": {"admin_token": "secret"}})
    for name in ("none.js", "..%2fadmin.c", "%2e%2e/config", "x" * 300):
        assert fetch(proxy, "/ui/" + name)[0] in (401, 404), name
    status, headers, text = fetch(proxy, "/endpoints")
    assert status == 200 and b"<code>/readyz</code>" in text
    assert "script-src" not in headers["Content-Security-Policy"]


# ---- in the browser

@pytest.fixture(scope="module")
def servers(template, certs):
    primary = Postgres(template, certs=certs)
    try:
        primary.start()
        # by an address that the proxy knows: then it sees who receives from whom
        standby = primary.standby(primary_conninfo=f"host=127.0.0.1 port={primary.port} user=postgres")
        yield primary, standby
    finally:
        primary.remove()


@pytest.fixture(scope="module")
def scene(servers):
    """A proxy that all tests use which leave it as it was."""
    proxy = Proxy(BINARY, servers[0], scene_config(*servers), clock=False)
    try:
        proxy.start()
        traffic = Traffic(proxy)
        yield proxy
        traffic.close()
    finally:
        proxy.remove()


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


@pytest.fixture
def open_page(browser):
    """open_page(proxy, panel): a tab of its own, watched; its complaints are in page.complaints."""
    contexts = []

    def make(proxy, panel="overview", **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30000)
        page.complaints, page.asked = [], []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda message: page.complaints.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text else None)
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(f"http://127.0.0.1:{proxy.admin_port}/#{panel}")
        return page

    yield make
    for context in contexts:
        complaints = [c for page in context.pages for c in page.complaints]
        context.close()
        assert not complaints


def see(where, selector=None, text=None):
    """Waits until that text stands there, in the page or in an element of it."""
    from playwright.sync_api import expect
    expect((where.locator(selector) if selector else where).first).to_contain_text(text, timeout=30000)


def row_of(page, table, text):
    return page.locator(f"#{table} tbody tr", has_text=text).first


def answer_dialog(page, button=".go"):
    page.locator(f"dialog[open] {button}").click()
    page.locator("dialog[open]").wait_for(state="detached")


@needs_browser
def test_every_panel_asks_only_this_proxy(scene, open_page):
    page = open_page(scene)
    for panel in PANELS:
        page.goto(f"http://127.0.0.1:{scene.admin_port}/#{panel}")
        page.locator(f"#panel-{panel}").wait_for()
        see(page, "#state", text="ready")
        see(page, "#version", text="v")
        assert page.locator("section.panel:visible").count() == 1
    assert all(page.locator("#" + name).count() == 1 for name in IDS)
    assert {url.split("/")[2] for url in page.asked} == {f"127.0.0.1:{scene.admin_port}"}


@needs_browser
def test_nodes_are_drawn_and_drained(scene, open_page, servers):
    page = open_page(scene, "nodes-and-topology")
    see(page, "#topology", text="db-1")
    see(row_of(page, "nodes", "db-1"), "td >> nth=1", text="primary")
    see(row_of(page, "nodes", "db-2"), "td >> nth=1", text="standby")
    page.locator("#topology path.arrow").wait_for(state="attached")
    assert "db-2: standby, healthy, receives from db-1" in page.locator("#topology svg").get_attribute("aria-label")
    row = row_of(page, "nodes", "db-2")
    row.get_by_role("button", name="Drain", exact=True).click()
    answer_dialog(page, ".cancel")
    assert scene.json("/api/v1/nodes/db-2")["draining"] is None
    row.get_by_role("button", name="Drain", exact=True).click()
    answer_dialog(page)
    wait_until(lambda: scene.json("/api/v1/nodes/db-2")["draining"])
    see(row, "td >> nth=2", text="draining")
    see(page, "#topology", text="draining")
    row.get_by_role("button", name="Undrain").click()
    wait_until(lambda: not scene.json("/api/v1/nodes/db-2")["draining"])
    row.get_by_role("button", name="Disable").click()
    answer_dialog(page)
    see(row, "td >> nth=2", text="disabled")
    row.get_by_role("button", name="Enable").click()
    see(row, "td >> nth=2", text="healthy")
    row_of(page, "nodes", "db-1").get_by_role("button", name="Drain", exact=True).click()
    see(page, "dialog[open]", text="IT IS THE PRIMARY")
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    assert scene.json("/api/v1/nodes/db-1")["draining"] is None


@needs_browser
def test_names_of_clients_are_texts(scene, open_page, closing):
    hostile = closing(scene.connect(application_name=HOSTILE))
    page = open_page(scene, "client-sessions")
    row = row_of(page, "sessions", "onerror")
    see(row, "td >> nth=2", text=HOSTILE)
    page.locator("#session-application").fill("onerror")
    see(page, "#panel-client-sessions", text="1 sessions")
    assert page.locator("main img, main b:not(.legend b):not(.flow b)").count() == 0 and page.title() != "owned"
    assert row_of(page, "sessions", "onerror").count() == 1
    # and where texts as markup were tried all the same, the browser refuses
    refused = page.evaluate("() => { try { document.body.innerHTML = '<i>x</i>'; return ''; } catch (e) { return e.name; } }")
    assert refused == "TypeError"
    page.complaints.clear()
    hostile.execute("SELECT 1")


@needs_browser
def test_sessions_are_cancelled_and_closed(scene, open_page, closing):
    sleeper = closing(scene.connect(application_name="sleeper"))
    problems = []

    def sleep():
        try:
            sleeper.execute("SELECT pg_sleep(600)")
        except psycopg.Error as e:
            problems.append(e)

    thread = threading.Thread(target=sleep)
    thread.start()
    page = open_page(scene, "client-sessions")
    page.locator("#session-application").fill("sleeper")
    row = row_of(page, "sessions", "sleeper")
    see(row, text="active")
    row.get_by_role("button", name="Cancel").click()
    answer_dialog(page)
    thread.join(60)
    assert isinstance(problems[0], psycopg.errors.QueryCanceled)
    sleeper.execute("SELECT 1")
    row.get_by_role("button", name="Kill").click()
    answer_dialog(page, ".cancel")
    sleeper.execute("SELECT 1")
    row.get_by_role("button", name="Kill").click()
    answer_dialog(page)
    see(page, "#panel-client-sessions", text="0 sessions")
    with pytest.raises(psycopg.OperationalError):
        sleeper.execute("SELECT 1")


@needs_browser
def test_pools_are_shown_and_paused(scene, open_page):
    page = open_page(scene, "pools-and-waiting")
    row = row_of(page, "pools", "db-1")
    see(row, text="transaction")
    row.get_by_role("button", name="Pause").click()
    answer_dialog(page)
    see(row, text="paused")
    wait_until(lambda: any(pool["paused"] for pool in scene.json("/api/v1/pools")["items"]))
    row.get_by_role("button", name="Resume").click()
    see(row, "td >> nth=3", text="open")
    assert not any(pool["paused"] for pool in scene.json("/api/v1/pools")["items"])


@needs_browser
def test_configuration_is_searched_and_reloaded(make_proxy, open_page):
    proxy = make_proxy()
    page = open_page(proxy, "configuration")
    page.locator("#config-search").fill("pool.max_connections")
    row = row_of(page, "config", "pool.max_connections")
    see(row, text="20")
    see(row, text="file")
    page.locator("#config-search").fill("no such key at all")
    see(page, "#config", text="No key fits.")
    page.locator("#config-search").fill("pool.max_connections")
    proxy.config["pool"]["max_connections"] = 21
    proxy.write_config()
    page.locator("#reload").click()
    answer_dialog(page)
    see(page, "#reload-result", text="pool.max_connections")
    see(row, text="21")


@needs_browser
def test_overview_shows_what_the_clients_do(scene, open_page):
    page = open_page(scene)
    see(page, "#metrics-cluster", text="2 of 2")
    figure = "() => parseFloat(document.querySelector('#metrics-traffic dd').textContent) > 0"
    page.wait_for_function(figure)
    page.wait_for_function("() => document.querySelectorAll('.chart path.line[d^=M]').length >= 6", timeout=30000)
    chart = page.locator(".chart > svg").first
    assert "queries:" in chart.get_attribute("aria-label")
    chart.focus()
    page.keyboard.press("ArrowLeft")
    page.locator(".chart .cursor").first.wait_for(state="attached")
    page.locator("#span").select_option("900")
    see(page, ".chart .tick", text="0")
    see(page.locator(".chart .tick", has_text="900"), text="s")


@needs_browser
def test_running_statements_are_shown(scene, open_page, closing):
    sleeper = closing(scene.connect(application_name="long one"))

    def sleep():
        with contextlib.suppress(psycopg.Error):
            sleeper.execute("SELECT pg_sleep(600), '<b>x</b>'")

    thread = threading.Thread(target=sleep, daemon=True)
    thread.start()
    page = open_page(scene, "running-queries")
    row = row_of(page, "running", "long one")
    see(row, text="SELECT pg_sleep(600), '<b>x</b>'")
    pid = next(s["pid"] for s in scene.json("/api/v1/sessions?application=long%20one")["items"])
    assert scene.admin(f"/api/v1/sessions/{pid}", method="DELETE")[0] == 200
    row.wait_for(state="detached")
    thread.join(60)


def top_queries(page):
    return page.locator("#top-queries tbody th").all_text_contents()


@needs_browser
def test_top_queries_are_sorted_and_found(make_proxy, open_page, closing):
    """They are turned on from the page, as it says; then the proxy sorts and finds."""
    proxy = make_proxy()
    client = closing(proxy.connect(application_name="shop"))
    page = open_page(proxy, "running-queries")
    see(page, "#queries-off", text="enabled = true")
    assert not page.locator("#top-queries").is_visible()
    proxy.config["analytics"] = {"enabled": True}
    proxy.write_config()
    page.locator("#queries-off a").click()
    page.locator("#reload").click()
    answer_dialog(page)
    see(page, "#reload-result", text="analytics.enabled")
    for number in range(30):
        client.execute(f"SELECT {number} AS often")
    client.execute("SELECT generate_series(1, 500) AS \"<b>many</b>\"")
    client.execute("SELECT pg_sleep(0.2) AS slow")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        client.execute("SELECT no_such AS wrong")
    page.goto(f"http://127.0.0.1:{proxy.admin_port}/#running-queries")
    see(page, "#top-queries tbody tr >> nth=0", text="select pg_sleep(?) as slow")  # by total time
    for head, first in (("Calls", "often"), ("Rows", '"<b>many</b>"'), ("Errors", "wrong"), ("p99", "slow")):
        page.locator("#top-queries thead").get_by_role("button", name=head).click()
        page.wait_for_function("wanted => document.querySelector('#top-queries tbody th')?.textContent.endsWith(wanted)", arg=first)
        assert page.locator("#top-queries th[aria-sort=descending]").text_content() == head
    assert "4 kinds of queries" in page.locator("#panel-running-queries [role=status]").text_content()
    page.locator("#query-query").fill("SLOW")
    page.wait_for_function("() => document.querySelectorAll('#top-queries tbody tr').length === 1")
    assert top_queries(page) == ["select pg_sleep(?) as slow"]
    page.locator("#query-query").fill("")
    page.locator("#query-class").select_option("storage")
    see(page, "#top-queries", text="No query fits.")


@needs_browser
def test_one_of_the_top_queries_in_full(scene, open_page):
    page = open_page(scene, "running-queries", permissions=["clipboard-read", "clipboard-write"])
    page.locator("#query-query").fill("select * from orders where id = ?")
    row = row_of(page, "top-queries", "select * from orders where id = ?")
    row.get_by_role("button", name="select *").click()
    see(page, "dialog[open] pre", text="select * from orders where id = ?")
    see(page, "dialog[open]", text="6cdf8c3f21acc0e8")
    see(page.locator("dialog[open] dt", has_text="Calls").locator("+ dd"), text="failed")
    page.get_by_role("button", name="Copy the fingerprint").click()
    see(page, "dialog[open] .buttons", text="Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "6cdf8c3f21acc0e8"
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    row.get_by_role("button", name="Copy", exact=True).click()
    page.wait_for_function("navigator.clipboard.readText().then(text => text === 'select * from orders where id = ?')")
    page.locator("#query-query").fill("6cdf8c3f21acc0e8")
    page.wait_for_function("() => document.querySelectorAll('#top-queries tbody tr').length === 1")
    since = scene.json("/api/v1/queries")["since"]
    page.locator("#queries-reset").click()
    answer_dialog(page, ".cancel")
    assert scene.json("/api/v1/queries")["since"] == since
    page.locator("#queries-reset").click()
    answer_dialog(page)
    wait_until(lambda: scene.json("/api/v1/queries")["since"] != since)


@needs_browser
def test_sql_console(scene, open_page):
    page = open_page(scene, "sql-console")
    page.locator("#sql-database").fill("app")
    page.locator("#sql-user").fill("app")
    page.locator("#sql").fill("SELECT 1 AS n, NULL AS nothing, '<i>a</i>,\"b\"' AS t")
    page.keyboard.press("Control+Enter")
    see(page, "#sql-result", text="1 rows")
    assert page.locator("#sql-result tbody td").all_text_contents() == ["1", "NULL", '<i>a</i>,"b"']
    with page.expect_download() as download:
        page.locator("#sql-csv").click()
    with open(download.value.path(), encoding="utf-8", newline="") as f:
        assert f.read() == 'n,nothing,t\r\n1,,"<i>a</i>,""b"""\r\n'
    page.locator("#explain").click()
    see(page, "#sql-route", text="Where it would go")
    page.locator("#sql").fill("SELECT no_such_column")
    page.locator("#run").click()
    see(page, "#sql-result .bad", text="42703")
    page.locator("#sql").fill("CREATE TABLE never (n int)")
    page.locator("#run").click()
    see(page, "#sql-result .bad", text="25006")  # READ ONLY
    page.locator("#sql-writes").check()
    page.locator("#run").click()
    see(page, "#sql-result .bad", text="sql_allow_writes")


@needs_browser
@pytest.mark.parametrize("panel,flow", [("event-stream", "events"), ("log-tail", "log")])
def test_events_and_log_come_live(scene, open_page, panel, flow):
    page = open_page(scene, panel)
    see(page, f"#panel-{panel} .fields .pill", text="live")
    for action in ("drain", "undrain"):
        assert scene.admin(f"/api/v1/nodes/db-2/{action}", method="POST", body=b"")[0] == 200
    see(page.locator(f"#{flow} > *", has_text="db-2").filter(has_text="drain"), text="db-2")
    page.locator(f"#panel-{panel} input[type=search]").fill("no such text")
    page.wait_for_function("flow => ![...document.querySelectorAll(`#${flow} > *`)].some(li => !li.hidden)", arg=flow)


@needs_browser
def test_what_is_missing_is_told_in_the_proxys_words(scene, open_page):
    page = open_page(scene, "more")
    for name, path in (("plugins", "/plugins"), ("anomalies", "/anomalies"), ("edge-stats", "/api/edge"),
                       ("chaos", "/api/chaos"), ("shadow", "/api/shadow"), ("replay", "/api/replay")):
        status, text = scene.admin(path)
        assert status == 501
        see(page, f"#{name} .notice", text=json.loads(text)["error"])


# ---- the token

@needs_browser
def test_token_is_asked_for_once_and_kept_for_the_tab(make_proxy, open_page):
    proxy = make_proxy({"proxy": {"admin_token": "secret-token"}})
    page = open_page(proxy, "pools-and-waiting")
    see(page, "dialog[open]", text="asks for a token")
    page.keyboard.press("Escape")
    see(page, "#panel-pools-and-waiting", text="asks for a token here")
    see(page, "#state", text="token needed")
    page.locator("#token-btn").click()
    page.locator("#token-input").fill("wrong")
    page.keyboard.press("Enter")
    see(page, "dialog[open]", text="does not accept")
    page.locator("#token-input").fill("secret-token")
    page.locator("#token-save").click()
    see(page, "#state", text="ready")
    see(page, "#pools", text="No pools yet")
    assert page.evaluate("sessionStorage.getItem('helios_admin_token')") == "secret-token"
    page.reload()
    see(page, "#state", text="ready")
    assert page.locator("dialog").count() == 0
    page.locator("#token-btn").click()
    page.get_by_role("button", name="Forget").click()
    see(page, "#state", text="token needed")
    assert page.evaluate("sessionStorage.getItem('helios_admin_token')") is None


@needs_browser
def test_what_the_token_does_not_allow_is_off_and_says_why(make_proxy, open_page, closing):
    proxy = make_proxy({"proxy": {"admin_token": "all-of-it"},
                        "admin_tokens": {"watcher": {"token": "only-looks", "role": "read"}}})
    client = closing(proxy.connect(application_name="watched"))
    page = open_page(proxy, "client-sessions")
    page.locator("#token-input").fill("only-looks")
    page.locator("#token-save").click()
    see(page, "#limited", text="may only look")
    kill = row_of(page, "sessions", "watched").get_by_role("button", name="Kill")
    assert kill.get_attribute("aria-disabled") == "true" and "operate" in kill.get_attribute("title")
    kill.click(force=True)
    see(page, "#toasts", text="operate")
    assert page.locator("dialog").count() == 0
    client.execute("SELECT 1")
    page.locator("#token-btn").click()
    page.locator("#token-input").fill("all-of-it")
    page.keyboard.press("Enter")
    page.locator("#limited").wait_for(state="hidden")
    kill.click()
    answer_dialog(page)
    see(page, "#panel-client-sessions", text="0 sessions")


# ---- when the proxy is away, or nobody looks

@needs_browser
def test_lost_connection_is_told_and_found_again(make_proxy, open_page):
    from playwright.sync_api import expect
    proxy = make_proxy()
    page = open_page(proxy, "pools-and-waiting")
    see(page, "#state", text="ready")
    proxy.process.terminate()
    proxy.process.wait(60)
    see(page, "#lost", text="Connection lost")
    see(page, "#state", text="no answer")
    proxy.spawn()
    wait_until(proxy._is_ready, 60)
    page.locator("#lost-retry").click(timeout=1000 if page.locator("#lost").is_hidden() else 30000)
    expect(page.locator("#lost")).to_be_hidden(timeout=60000)
    see(page, "#state", text="ready")


@needs_browser
def test_nothing_is_asked_while_the_tab_is_hidden_or_paused(make_proxy, open_page):
    proxy = make_proxy()
    page = open_page(proxy, "running-queries")  # refreshed every two seconds
    see(page, "#state", text="ready")
    clock = "() => document.getElementById('last-refresh').textContent"
    page.wait_for_function("before => document.getElementById('last-refresh').textContent !== before", arg=page.evaluate(clock))

    def asks_while(begin, end):
        page.evaluate(begin)
        page.wait_for_load_state("networkidle")
        before = len(page.asked)
        page.wait_for_timeout(4500)
        assert len(page.asked) == before
        page.evaluate(end)
        wait_until(lambda: page.wait_for_timeout(50) or len(page.asked) > before)

    hide = "h => { Object.defineProperty(document, 'hidden', { configurable: true, get: () => %s }); " \
           "document.dispatchEvent(new Event('visibilitychange')); }"
    asks_while(hide % "true", hide % "false")
    pause = "() => document.getElementById('pause').click()"
    asks_while(pause, pause)


# ---- keyboard, eyes, small screens

@needs_browser
def test_keyboard_reaches_everything(scene, open_page):
    page = open_page(scene)
    see(page, "#state", text="ready")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main" and page.url.endswith("#overview")
    page.keyboard.press("4")
    page.locator("#panel-client-sessions").wait_for()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "session-database"
    page.keyboard.type("1")  # in a field it is text
    assert page.locator("#panel-client-sessions").is_visible()
    page.keyboard.press("Backspace")
    page.locator("#help").focus()
    page.keyboard.press("?")
    see(page, "dialog[open] dd >> nth=0", text="a panel, in the order of the list")
    page.get_by_label("Keys of one character are on").uncheck()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.id") == "help"
    page.keyboard.press("1")
    assert page.locator("#panel-client-sessions").is_visible()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.locator("#panel-client-sessions tbody tr >> nth=0").wait_for()
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {"Kill", "Cancel", "session-state", "sessions"} <= seen


@needs_browser
def test_theme_follows_the_system_and_the_switch(scene, open_page):
    page = open_page(scene, color_scheme="dark")
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    page.locator("#theme").click()
    assert page.evaluate(theme) == "light"
    page.reload()
    assert page.evaluate(theme) == "light"


@needs_browser
def test_narrow_screens_scroll_in_one_direction_only(scene, open_page):
    page = open_page(scene, viewport={"width": 360, "height": 740})
    for panel in PANELS:
        page.goto(f"http://127.0.0.1:{scene.admin_port}/#{panel}")
        page.locator(f"#panel-{panel}").wait_for()
        see(page, "#state", text="ready")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, f"{panel}: {width}"


@needs_browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible_by_axe(scene, open_page, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(scene, color_scheme=theme, reduced_motion="reduce", bypass_csp=True)  # no colour in between
    for panel in PANELS:
        page.goto(f"http://127.0.0.1:{scene.admin_port}/#{panel}")
        page.locator(f"#panel-{panel}").wait_for()
        see(page, "#state", text="ready")
        # but for colours both themes are the same
        rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] if theme == "light" else {"type": "rule", "values": ["color-contrast"]}
        found = axe.Axe().run(page, options={"runOnly": rules})
        problems = [(v["id"], node["html"][:200]) for v in found.response["violations"] for node in v["nodes"]]
        assert not problems, f"{panel}: {problems}"
