"""Who may use the admin API, over what: tokens and roles, TLS, the unix socket, browsers, limits, faults."""

import hashlib
import http.client
import json
import os
import pathlib
import socket
import ssl
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import wait_until
from harness.wait import PATIENCE

TOKENS = {name: {"token": f"{name}-0123456789abcdef", "role": name} for name in ("read", "operate", "admin")}


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()


class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def ask(proxy, path, method="GET", token=None, source="127.0.0.1", body=None, tls=None, unix=None, **headers):
    """One request, with a new connection; source: the address it comes from."""
    if unix:
        connection = Unix(str(unix), timeout=PATIENCE)
    elif tls:
        connection = http.client.HTTPSConnection("127.0.0.1", proxy.admin_port, timeout=PATIENCE, context=tls)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.admin_port, timeout=PATIENCE, source_address=(source, 0))
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        fields["Authorization"] = f"Bearer {token}"
    if unix:
        fields.setdefault("Host", "localhost")
    try:
        connection.request(method, path, body=body, headers=fields)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def with_tokens(make_proxy, tokens=TOKENS, **more):
    """The harness's own token is one of the proxy's."""
    return make_proxy({"proxy": {"admin_token": "of the harness"}, "admin_tokens": tokens, **more})


def raw(proxy, text, until_closed=True):
    with socket.create_connection(("127.0.0.1", proxy.admin_port), PATIENCE) as s:
        s.sendall(text)
        got = b""
        while until_closed or b"\r\n\r\n" not in got:
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
        return got


# ---------------------------------------------------------------- tokens and roles

def test_roles(make_proxy):
    proxy = with_tokens(make_proxy)
    rows = [  # method, path, what it answers to those who may, the least role
        ("GET", "/pools", 200, "read"),
        ("DELETE", "/sessions/4294967295", 404, "operate"),
        ("POST", "/nodes", 400, "admin"),
    ]
    order = ["read", "operate", "admin"]
    for method, path, status, least in rows:
        assert ask(proxy, path, method).status == 401
        for role in order:
            answer = ask(proxy, path, method, token=TOKENS[role]["token"])
            if order.index(role) >= order.index(least):
                assert answer.status == status, (method, path, role, answer.text)
            else:
                assert answer.status == 403 and f"needs the role {least}" in answer.text, (method, path, role)
                assert f"{role} has {role}" in answer.text
        assert proxy.admin(path, method)[0] == status, "admin_token is one more, with the role admin"
    assert ask(proxy, "/livez").status == 200
    assert ask(proxy, "/pools", Authorization="Basic cmVhZDp4").status == 401
    assert ask(proxy, "/none", token=TOKENS["read"]["token"]).status == 404
    assert ask(proxy, "/reload", "BREW", token=TOKENS["read"]["token"]).status == 405


def test_tokens_are_rotated(make_proxy, tmp_path):
    """Old and new at the same time; from files and as digests; what a reload drops is refused."""
    file = tmp_path / "token"
    file.write_text("from-a-file-0123456789\n")
    file.chmod(0o600)
    digest = hashlib.sha256(b"as-a-digest-0123456789").hexdigest()
    proxy = with_tokens(make_proxy, {"old": {"token": "old-0123456789abcdef"}, "file": {"token_file": str(file)},
                                     "digest": {"token_sha256": digest, "role": "operate"}})
    for token in ("old-0123456789abcdef", "from-a-file-0123456789", "as-a-digest-0123456789"):
        assert ask(proxy, "/pools", token=token).status == 200
    assert ask(proxy, "/pools", token=digest).status == 401, "the digest is no token"
    file.write_text("another-0123456789abc\n")
    proxy.config["admin_tokens"].pop("old")
    proxy.reload()
    assert "admin_tokens.old" in proxy.log() and "admin_tokens.file" in proxy.log()
    assert ask(proxy, "/pools", token="old-0123456789abcdef").status == 401
    assert ask(proxy, "/pools", token="from-a-file-0123456789").status == 401
    assert ask(proxy, "/pools", token="another-0123456789abc").status == 200
    file.unlink()
    proxy.reload()
    assert "not reloaded" in proxy.log()
    assert ask(proxy, "/pools", token="another-0123456789abc").status == 200, "the old configuration stays"
    assert "another-0123" not in proxy.log() and "old-0123" not in proxy.log()


@pytest.mark.parametrize("tokens, why", [
    ({"a": {"role": "read"}}, "needs token, token_file, token_sha256 or certificate"),
    ({"a": {"token": "x" * 20, "token_file": "/x"}}, "give one of"),
    ({"a": {"token": "x" * 20}, "b": {"token": "x" * 20}}, "is the same token as a"),
    ({"a": {"token": "of the harness"}}, "without blanks"),
    ({"a": {"token_sha256": "abc"}}, "64 hex digits"),
    ({"a": {"token": "x" * 20, "role": "root"}}, "must be one of"),
    ({"a": {"certificate": "x"}}, "needs [admin] tls_ca_path"),
    ({"a": {"token_file": "/nonexistent"}}, "No such file"),
    ({"a b": {"token": "x" * 20}}, "the name must be"),
    ({"admin_token": {"token": "x" * 20}}, "has two tables"),
])
def test_bad_tokens_are_refused(make_proxy, tokens, why):
    proxy = make_proxy({"admin_tokens": tokens}, start=False)
    proxy.write_config()
    done = subprocess.run([*proxy.command(), "--check-config"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=60)
    assert done.returncode != 0 and why in done.stdout, done.stdout


def test_changes_are_written_down(make_proxy):
    proxy = with_tokens(make_proxy)
    assert ask(proxy, "/sessions/77", "DELETE", token=TOKENS["operate"]["token"]).status == 404
    proxy.wait_log(r"asked for over the admin API method=DELETE path=/sessions/77 status=404 token=operate "
                   r"role=operate proof=token admin_client=127.0.0.1:\d+")
    assert ask(proxy, "/sessions/78", "DELETE", token=TOKENS["read"]["token"]).status == 403
    proxy.wait_log("path=/sessions/78 status=403 token=read")
    assert ask(proxy, "/pools", token=TOKENS["read"]["token"]).status == 200
    assert "path=/pools" not in proxy.log(), "who looks is not written down"


def test_a_wrong_token_makes_its_address_wait(make_proxy):
    """Others are not touched, and a right one is not looked at meanwhile; the wait grows, and ends."""
    proxy = with_tokens(make_proxy)
    guess, right = {"source": "127.0.0.2", "token": "wrong"}, {"source": "127.0.0.2", "token": TOKENS["read"]["token"]}
    assert [ask(proxy, "/pools", **guess).status for _ in range(5)] == [401] * 5
    while proxy.metric("admin_tokens_refused_total") < 11:  # until there is a long wait, however slow this machine is
        answer = ask(proxy, "/pools", **guess)
        if answer.status == 429:
            proxy.advance(int(answer.headers["Retry-After"]))
    answer = ask(proxy, "/pools", **guess)
    assert answer.status == 429 and 1 <= int(answer.headers["Retry-After"]) <= 64
    assert ask(proxy, "/pools", **right).status == 429
    assert ask(proxy, "/pools", source="127.0.0.2").status == 401, "who shows no token does not guess"
    assert ask(proxy, "/livez", **guess).status == 200
    assert ask(proxy, "/pools", token=TOKENS["read"]["token"]).status == 200
    proxy.wait_log("warning wrong token for the admin API admin_client=127.0.0.2:.* of_late=5")
    assert proxy.metric("admin_tokens_refused_total") == 11 and proxy.metric("admin_tokens_delayed_total") >= 2
    assert proxy.metric("admin_requests_total", status="4xx") >= 14
    proxy.advance(64)
    assert ask(proxy, "/pools", **right).status == 200
    assert ask(proxy, "/pools", **guess).status == 401
    assert ask(proxy, "/pools", **right).status == 429, "that there was a right one forgives nothing"
    assert "wrong" not in proxy.log().replace("wrong token", "")


# ---------------------------------------------------------------- TLS

def context(certs, client=None):
    made = ssl.create_default_context(cafile=certs.ca)
    if client:
        made.load_cert_chain(client.cert, client.key)
    return made


@pytest.fixture(scope="module")
def clients(certs):
    return {name: certs.issue(f"admin-{name}", name) for name in ("deploy", "nobody-knows")}


def tls_settings(certs, **more):
    return {"tls_cert_path": certs.server.cert, "tls_key_path": certs.server.key, **more}


def serial_of(proxy, certs):
    with socket.create_connection(("127.0.0.1", proxy.admin_port), PATIENCE) as s, \
            context(certs).wrap_socket(s, server_hostname="127.0.0.1") as tls:
        return tls.getpeercert()["serialNumber"]


def test_https(make_proxy, certs):
    """New files take effect with a reload; connections that are open go on; broken files are refused."""
    proxy = with_tokens(make_proxy, admin=tls_settings(certs))
    tls = context(certs)
    assert ask(proxy, "/pools", tls=tls, token=TOKENS["read"]["token"]).status == 200
    with pytest.raises(ConnectionError):
        ask(proxy, "/livez")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(certs.ca)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert ask(proxy, "/livez", tls=old).status == 200
    before = serial_of(proxy, certs)
    kept = http.client.HTTPSConnection("127.0.0.1", proxy.admin_port, timeout=PATIENCE, context=tls)
    kept.request("GET", "/livez")
    assert Answer(kept.getresponse()).status == 200
    fresh = certs.issue("admin-fresh", "localhost", "DNS:localhost,IP:127.0.0.1")
    proxy.reload({"admin": {"tls_cert_path": fresh.cert, "tls_key_path": fresh.key}})
    assert serial_of(proxy, certs) != before
    kept.request("GET", "/livez")
    assert Answer(kept.getresponse()).status == 200
    kept.close()
    proxy.reload({"admin": {"tls_key_path": certs.server.key}})
    assert "not reloaded" in proxy.log() and "TLS of the admin API is not possible" in proxy.log()
    assert ask(proxy, "/livez", tls=tls).status == 200
    proxy.reload({"admin": {"tls_key_path": fresh.key}})
    proxy.take_over()
    assert ask(proxy, "/livez", tls=tls).status == 200


def test_client_certificates(make_proxy, certs, clients):
    proxy = with_tokens(make_proxy, {**TOKENS, "deploy": {"certificate": "deploy", "role": "operate"}},
                        admin=tls_settings(certs, tls_ca_path=certs.ca))
    known, unknown = context(certs, clients["deploy"]), context(certs, clients["nobody-knows"])
    assert ask(proxy, "/pools", tls=known).status == 200
    assert ask(proxy, "/sessions/77", "DELETE", tls=known).status == 404
    proxy.wait_log("path=/sessions/77 status=404 token=deploy role=operate proof=certificate")
    assert ask(proxy, "/nodes", "POST", tls=known).status == 403
    assert ask(proxy, "/pools", tls=known, token=TOKENS["admin"]["token"]).status == 200
    assert ask(proxy, "/pools", tls=known, token="wrong").status == 401, "who shows a token wants it to count"
    assert ask(proxy, "/pools", tls=unknown).status == 401
    assert ask(proxy, "/pools", tls=context(certs)).status == 401
    assert ask(proxy, "/pools", tls=context(certs), token=TOKENS["read"]["token"]).status == 200
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(proxy, "/livez", tls=context(certs, certs.untrusted))
    proxy.config["admin_tokens"].pop("deploy")
    proxy.reload()
    assert ask(proxy, "/pools", tls=known).status == 401


def test_a_client_certificate_can_be_demanded(make_proxy, certs, clients):
    proxy = make_proxy({"admin": tls_settings(certs, tls_ca_path=certs.ca)})
    proxy.config["admin"]["tls_require_client_cert"] = True
    proxy.config["admin_tokens"] = {"deploy": {"certificate": "deploy"}}
    proxy.write_config()
    before = len(proxy.log())
    proxy.process.send_signal(1)
    wait_until(lambda: "configuration reloaded" in proxy.log()[before:])
    assert ask(proxy, "/pools", tls=context(certs, clients["deploy"])).status == 200
    assert ask(proxy, "/pools", tls=context(certs, clients["nobody-knows"])).status == 401
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(proxy, "/livez", tls=context(certs))


# ---------------------------------------------------------------- the unix socket

@pytest.fixture
def open_folder():
    """One that other users may look into; pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="hpit-admin-") as folder:
        os.chmod(folder, 0o755)
        yield pathlib.Path(folder)


def test_unix_socket(make_proxy, open_folder):
    """Beside the address: the own user needs no token there, others do; it is handed over, and gone at the end."""
    path = open_folder / "admin.sock"
    proxy = with_tokens(make_proxy, admin={"socket": str(path), "socket_mode": "0666"})
    assert path.stat().st_mode & 0o777 == 0o666
    assert ask(proxy, "/pools", unix=path).status == 200
    assert ask(proxy, "/sessions/77", "DELETE", unix=path).status == 404
    proxy.wait_log('path=/sessions/77 status=404 token="" role=admin proof="unix socket" admin_client=unix')
    assert ask(proxy, "/pools", unix=path, token="wrong").status == 401
    assert ask(proxy, "/pools").status == 401
    if os.getuid() == 0:
        code = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
                "s.sendall(b'GET /pools HTTP/1.0\\r\\n' + sys.argv[2].encode() + b'\\r\\n\\r\\n');"
                "print(s.recv(100))")

        def as_nobody(header):
            return subprocess.run(["/usr/bin/python3", "-I", "-c", code, str(path), header], user="nobody", check=True,
                                  stdout=subprocess.PIPE, text=True, timeout=20, cwd="/").stdout
        assert " 401 " in as_nobody("Accept: */*")
        assert " 200 " in as_nobody(f"Authorization: Bearer {TOKENS['read']['token']}")
        proxy.config["proxy"].pop("admin_token")
        proxy.config.pop("admin_tokens")
        proxy.reload()
        assert " 403 " in as_nobody("Accept: */*"), "without tokens nobody else has one"
        assert ask(proxy, "/pools", unix=path).status == 200
    old = proxy.process
    proxy.take_over()
    wait_until(lambda: old.poll() is not None)
    assert ask(proxy, "/pools", unix=path).status == 200
    assert ask(proxy, "/livez").status == 200
    proxy.stop()
    assert not path.exists()


# ---------------------------------------------------------------- browsers

def test_pages_of_other_sites(make_proxy):
    proxy = make_proxy()
    host = f"127.0.0.1:{proxy.admin_port}"
    change = {"path": "/sessions/77", "method": "DELETE"}
    assert ask(proxy, **change).status == 404
    for foreign in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"},
                    {"Sec_Fetch_Site": "same-site"}, {"Origin": f"http://{host}", "Sec_Fetch_Site": "cross-site"}):
        assert ask(proxy, **change, **foreign).status == 403, foreign
    assert ask(proxy, **change, Origin=f"http://{host}", Sec_Fetch_Site="same-origin").status == 404
    page = {"Origin": f"http://{host}", "body": b"{}"}
    assert ask(proxy, "/nodes", "POST", **page, Content_Type="text/plain").status == 415
    assert ask(proxy, "/nodes", "POST", **page, Content_Type="application/json").status == 400
    assert ask(proxy, "/nodes", "POST", body=b"{}", Content_Type="text/plain").status == 400, "curl -d"
    preflight = ask(proxy, "/nodes", "OPTIONS", Origin="http://evil.example", Access_Control_Request_Method="POST")
    assert preflight.status == 403
    assert not [name for name in preflight.headers if name.lower().startswith("access-control")]


def test_a_foreign_name_that_leads_here(make_proxy):
    """DNS rebinding: for the browser the page and the API are one site then."""
    proxy = make_proxy({"admin": {"hosts": ["proxy.internal"]}})
    for host, status in (("evil.example", 403), (f"evil.example:{proxy.admin_port}", 403), ("localhost", 200),
                         ("127.0.0.1", 200), ("[::1]:1", 200), ("Proxy.Internal:80", 200)):
        assert ask(proxy, "/pools", Host=host).status == status, host
    assert ask(proxy, "/livez", Host="evil.example").status == 200
    assert b" 200 " in raw(proxy, b"GET /pools HTTP/1.0\r\n\r\n")
    tokens = with_tokens(make_proxy)
    assert ask(tokens, "/pools", Host="any.example", token=TOKENS["read"]["token"]).status == 200


# ---------------------------------------------------------------- bad input, limits

def test_bad_requests(make_proxy):
    proxy = make_proxy()
    assert ask(proxy, "/nodes", "POST", body=b'{"host": ').status == 400
    assert ask(proxy, "/nodes", "POST", body=b"x" * 70000).status == 413
    chunks = b"11170\r\n" + b"x" * 0x11170 + b"\r\n0\r\n\r\n"
    assert b" 413 " in raw(proxy, b"POST /nodes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert ask(proxy, "/nodes/none/drain", "POST").status == 404
    assert ask(proxy, "/sessions/none", "DELETE").status == 400
    assert ask(proxy, "/pools", "DELETE").status == 405
    assert ask(proxy, "/pools", "BREW").status == 405
    for path in ("/../../etc/passwd", "/pools/../../etc/passwd", "/..%2f..%2fetc/passwd", "/ui/../etc/passwd", "//",
                 "/%00", "/nodes/%2e%2e%2fetc%2fpasswd", "/pools%00.html"):
        answer = raw(proxy, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.split(b" ")[1] in (b"400", b"404", b"501"), (path, answer[:200])
        assert b"root:" not in answer
    assert b" 431 " in raw(proxy, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40000 + b"\r\n\r\n")
    assert ask(proxy, "/livez").status == 200
    assert proxy.metric("admin_requests_total", status="5xx") == 0


@pytest.mark.parametrize("https", [False, True])
def test_a_request_that_never_ends(make_proxy, certs, https):
    """A byte now and then keeps no connection: a request has to come whole (and before it a handshake)."""
    proxy = make_proxy({"admin": tls_settings(certs)} if https else {})
    slow = [socket.create_connection(("127.0.0.1", proxy.admin_port), PATIENCE) for _ in range(3)]
    slow[0].sendall(b"\x16\x03\x01" if https else b"GET /pools HTTP/1.1\r\nHost: localhost\r\nX-")
    if not https:
        slow[1].sendall(b"POST /nodes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    wait_until(lambda: proxy.metric("admin_connections") >= 4)
    proxy.advance(10)
    for s in [] if https else slow[:2]:
        s.sendall(b"x")
    proxy.advance(11)
    for s in slow:
        try:
            assert s.recv(1000) == b""
        except ConnectionResetError:
            pass
        s.close()
    proxy.wait_log("no whole request came in time")
    wait_until(lambda: proxy.metric("admin_connections") == 1)
    assert 1 <= proxy.metric("admin_connections_late_total") <= 3, "the others were silent for too long"


def is_closed(s):
    """Closed by the proxy, or still open?"""
    s.setblocking(False)
    try:
        return s.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def is_served(proxy):
    """Or does the proxy still count connections that have just ended, and closes this one at once?"""
    try:
        return b" 200 " in raw(proxy, b"GET /livez HTTP/1.0\r\n\r\n")
    except ConnectionError:
        return False


def refused_total(proxy, path):
    """By the unix socket, where there is room."""
    found, = [line for line in ask(proxy, "/metrics", unix=path).text.splitlines()
              if line.startswith("heliosdb_proxy_admin_connections_refused_total ")]
    return float(found.split()[1])


def test_a_thousand_connections(make_proxy, closing, tmp_path):
    """One address can't have all of them; who comes from another is served, and so is the unix socket."""
    path = tmp_path / "admin.sock"
    proxy = make_proxy({"admin": {"max_connections": 60, "max_connections_per_address": 50, "socket": str(path)}})
    crowd = [closing(socket.create_connection(("127.0.0.1", proxy.admin_port), PATIENCE, ("127.0.0.2", 0)))
             for _ in range(1000)]
    wait_until(lambda: sum(map(is_closed, crowd)) >= 925)
    proxy.advance(3)  # a few were waited for, to be told
    wait_until(lambda: sum(map(is_closed, crowd)) >= 940)
    held = [s for s in crowd if not is_closed(s)]
    assert 1 <= len(held) <= 55, "it is not exact: some may come at the same moment"
    assert ask(proxy, "/pools").status == 200
    others = [closing(socket.create_connection(("127.0.0.1", proxy.admin_port), PATIENCE, ("127.0.0.3", 0)))
              for _ in range(30)]
    assert ask(proxy, "/debug/clock?advance_ms=3000", "POST", body=b"", unix=path).status == 200
    wait_until(lambda: sum(map(is_closed, others)) >= 15)
    assert ask(proxy, "/pools", unix=path).status == 200
    assert refused_total(proxy, path) >= 960
    for s in held + others:
        s.close()
    wait_until(lambda: is_served(proxy))
    proxy.reload({"admin": {"max_connections": 5000, "max_connections_per_address": 4000}})
    crowd = [closing(socket.create_connection(("127.0.0.1", proxy.admin_port), PATIENCE)) for _ in range(300)]
    wait_until(lambda: proxy.metric("admin_connections") >= 300)
    assert not [s for s in crowd if is_closed(s)]


def refused(proxy, path, method="GET", body=None, tls=None):
    """The answer of a proxy that has no room; "closed" without one; None: it had room (still)."""
    try:
        answer = ask(proxy, path, method, body=body, tls=tls)
    except (ConnectionError, ssl.SSLEOFError):
        return "closed"
    return answer if answer.status == 503 else None


def hold(proxy, closing, count):
    return [closing(socket.create_connection(("127.0.0.1", proxy.admin_port), PATIENCE)) for _ in range(count)]


def test_who_comes_too_late_is_told(make_proxy, closing, tmp_path):
    """503 whatever is asked, with the time to try again."""
    path_of_socket = tmp_path / "admin.sock"
    proxy = make_proxy({"admin": {"max_connections": 8, "socket": str(path_of_socket)}})
    held = hold(proxy, closing, 8)

    def told(method, path):
        answer = refused(proxy, path, method, b"{}" if method == "POST" else None)
        if answer is None:  # those that are held are silent, and end after 15 s
            held.extend(hold(proxy, closing, 1))
        return answer

    for method, path in ("GET", "/api/v1/pools"), ("POST", "/api/v1/nodes"), ("GET", "/livez"), ("POST", "/nodes"):
        answer = wait_until(lambda: told(method, path), 60)  # pylint: disable=W0640
        assert answer != "closed", (method, path)
        assert answer.headers["Retry-After"] == "1" and answer.headers["Connection"].lower() == "close"
        if path.startswith("/api/v1/"):
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert json.loads(answer.text)["code"] == "too_many_connections"
        else:
            assert "max_connections" in json.loads(answer.text)["error"]
    for s in held:
        s.close()
    wait_until(lambda: refused(proxy, "/pools") is None)
    assert refused_total(proxy, path_of_socket) >= 4


def test_who_comes_too_late_with_tls_is_closed(make_proxy, closing, certs, tmp_path):
    """No handshake is worth it."""
    path_of_socket = tmp_path / "admin.sock"
    proxy = make_proxy({"admin": {"max_connections": 8, "socket": str(path_of_socket), **tls_settings(certs)}})
    held = hold(proxy, closing, 8)
    assert wait_until(lambda: refused(proxy, "/pools", tls=context(certs))) == "closed"
    for s in held:
        s.close()
    wait_until(lambda: refused(proxy, "/pools", tls=context(certs)) is None)
    assert refused_total(proxy, path_of_socket) >= 1


def test_scrapes_during_reloads(make_proxy):
    proxy = with_tokens(make_proxy)
    stop, seen = [], []

    def scrape():
        while not stop:
            seen.append(ask(proxy, "/metrics", token=TOKENS["read"]["token"]).status)

    threads = [threading.Thread(target=scrape) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            proxy.reload()
        wait_until(lambda: len(seen) > 10)
    finally:
        stop.append(True)
        for thread in threads:
            thread.join()
    assert set(seen) == {200}


def test_killing_a_session_that_just_ended(make_proxy):
    """200 for the one that did it, 404 for those that came late; nobody is told of an error of ours."""
    proxy = make_proxy()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            client = proxy.wire()
            pid = proxy.sessions()[0]["pid"]
            asked = [pool.submit(ask, proxy, f"/sessions/{pid}", "DELETE") for _ in range(4)]
            client.close()
            statuses = sorted(a.result().status for a in asked)
            assert set(statuses) <= {200, 404} and statuses.count(200) <= 1, statuses
            wait_until(lambda: not proxy.sessions())
