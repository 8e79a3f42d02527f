"""TLS on both sides: modes, versions, ALPN, certificates, and what an attacker in the middle might try."""

import os
import shutil
import socket
import ssl
import struct

import psycopg
import pytest
from harness import FakeServer, ServerError, Wire, wait_until, wire
from harness.postgres import PASSWORD
from harness.wire import Closed, errors, query, rows, run

APP = {"user": "app", "database": "app"}


def context(certs=None, certificate=None, minimum=None, maximum=None, alpn=None):
    made = ssl.create_default_context(cafile=certs.ca) if certs else ssl._create_unverified_context()
    if certificate:
        made.load_cert_chain(certificate.cert, certificate.key)
    if minimum:
        made.minimum_version = minimum
    if maximum:
        made.maximum_version = maximum
    if alpn:
        made.set_alpn_protocols(alpn)
    return made


@pytest.fixture
def tls(certs):
    """The [tls] table."""
    return {"enabled": True, "cert_path": certs.server.cert, "key_path": certs.server.key}


def secure(address, tls_context, parameters=None, password=None, **more):
    client = Wire(address)
    try:
        assert client.ssl_request() == b"S"
        client.start_tls(tls_context)
        return client.login(parameters or APP, password, **more)
    except BaseException:
        client.socket.close()
        raise


# ---------------------------------------------------------------- the oracle

def test_server_with_tls(postgres, certs):
    with secure(postgres.address, context(certs)) as client:
        assert client.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"


# ---------------------------------------------------------------- clients

def test_client_with_tls(make_proxy, closing, certs, tls):
    proxy = make_proxy({"tls": tls})
    client = closing(secure(proxy.address, context(certs)))
    assert client.value("SELECT 1") == "1"
    assert rows(client.batch(*(run("SELECT $1::text", ["x" * 10000]) for _ in range(100)))) == [["x" * 10000]] * 100
    assert proxy.metric("tls_handshakes_total") == 1
    assert closing(proxy.wire()).value("SELECT 1") == "1", "prefer: without is fine, too"


def test_without_tls_configured(make_proxy, closing):
    proxy = make_proxy()
    client = closing(Wire(proxy.address))
    assert client.ssl_request() == b"N"
    assert client.login(APP).value("SELECT 1") == "1"


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_tls_is_demanded(make_proxy, certs, tls, mode):
    proxy = make_proxy({"tls": {**tls, "mode": mode, "ca_path": certs.ca}})
    with pytest.raises(ServerError) as e:
        proxy.wire()
    assert e.value.code == "28000"


def test_disabled(make_proxy, closing, tls):
    proxy = make_proxy({"tls": {**tls, "mode": "disable"}})
    assert closing(Wire(proxy.address)).ssl_request() == b"N"


@pytest.mark.parametrize("mode,works,fails", [
    ("disable", "plain", None), ("allow", "plain", None), ("prefer", "tls", None), ("require", "tls", None),
    ("verify-ca", "tls", "other"), ("verify-full", "tls", "other"),
])
def test_modes_of_libpq(make_proxy, certs, tls, mode, works, fails):
    proxy = make_proxy({"tls": tls})
    with psycopg.connect(proxy.dsn(host="localhost", hostaddr="127.0.0.1", sslmode=mode, sslrootcert=certs.ca)) as db:
        assert bool(db.pgconn.ssl_in_use) == (works == "tls")
    if fails:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(proxy.dsn(host="localhost", hostaddr="127.0.0.1", sslmode=mode, sslrootcert=certs.other_ca))


@pytest.mark.parametrize("minimum", ["TLSv1.2", "TLSv1.3"])
def test_minimum_version(make_proxy, closing, certs, tls, minimum):
    proxy = make_proxy({"tls": {**tls, "min_version": minimum}})
    newest = closing(secure(proxy.address, context(certs)))
    assert newest.socket.version() == "TLSv1.3"
    old = context(certs, maximum=ssl.TLSVersion.TLSv1_2)
    if minimum == "TLSv1.2":
        assert closing(secure(proxy.address, old)).socket.version() == "TLSv1.2"
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            secure(proxy.address, old)
    assert newest.value("SELECT 1") == "1"


def test_too_old_version(make_proxy, certs, tls):
    proxy = make_proxy({"tls": tls})
    ancient = context(certs, minimum=ssl.TLSVersion.TLSv1, maximum=ssl.TLSVersion.TLSv1_1)
    ancient.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        secure(proxy.address, ancient)


def test_ciphers(make_proxy, closing, certs, tls):
    proxy = make_proxy({"tls": {**tls, "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256",
                                "ciphersuites": "TLS_CHACHA20_POLY1305_SHA256"}})
    assert closing(secure(proxy.address, context(certs))).socket.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"
    old = context(certs, maximum=ssl.TLSVersion.TLSv1_2)
    assert closing(secure(proxy.address, old)).socket.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"


def test_direct_tls(make_proxy, closing, certs, tls):
    """PostgreSQL 17's sslnegotiation=direct: no SSLRequest, ALPN says what is meant."""
    proxy = make_proxy({"tls": tls})
    client = closing(Wire(proxy.address))
    client.start_tls(context(certs, alpn=["postgresql"]))
    assert client.socket.selected_alpn_protocol() == "postgresql"
    assert client.login(APP).value("SELECT 1") == "1"


@pytest.mark.parametrize("alpn", [None, ["http/1.1"], ["h2", "postgres"]])
def test_direct_tls_without_the_right_alpn_is_refused(make_proxy, certs, tls, alpn):
    proxy = make_proxy({"tls": tls})
    client = Wire(proxy.address)
    with pytest.raises((ssl.SSLError, ConnectionError, Closed)):
        client.start_tls(context(certs, alpn=alpn))
        client.login(APP)
    client.socket.close()


def test_direct_tls_where_there_is_none(make_proxy, certs):
    proxy = make_proxy()
    with pytest.raises((ssl.SSLError, OSError)):
        Wire(proxy.address).start_tls(context(certs, alpn=["postgresql"]))
    proxy.wire().close()


def test_alpn_behind_ssl_request(make_proxy, closing, certs, tls):
    proxy = make_proxy({"tls": tls})
    client = closing(Wire(proxy.address))
    assert client.ssl_request() == b"S"
    client.start_tls(context(certs, alpn=["postgresql"]))
    assert client.socket.selected_alpn_protocol() == "postgresql"
    assert client.login(APP).value("SELECT 1") == "1"


@pytest.mark.parametrize("request_code", [wire.SSL_REQUEST, wire.GSSENC_REQUEST])
def test_bytes_injected_behind_the_request_are_refused(make_proxy, closing, tls, request_code):
    """CVE-2021-23214: what was sent in clear before the handshake must never count as sent inside."""
    proxy = make_proxy({"tls": tls})
    client = closing(Wire(proxy.address))
    client.send(struct.pack("!II", 8, request_code), wire.startup_packet(APP), query("SELECT 'injected'"))
    said = client.bytes_until_closed()
    assert b"injected" not in said and b"Z\0\0\0\5" not in said


def test_injected_bytes_then_a_handshake(make_proxy, certs, tls):
    proxy = make_proxy({"tls": tls})
    client = Wire(proxy.address)
    client.send(struct.pack("!II", 8, wire.SSL_REQUEST) + b"\0\0\0")
    with pytest.raises((ssl.SSLError, ConnectionError, Closed, AssertionError)):
        assert client.read_bytes(1) == b"S"
        client.start_tls(context(certs))
        client.login(APP)
    client.socket.close()


def test_garbage_instead_of_a_handshake(make_proxy, closing, tls):
    proxy = make_proxy({"tls": tls})
    for garbage in (b"\x16\x03\x01\xff\xff" + b"x" * 70000, os.urandom(1000), b"\x16", b"\x80\x00\x00\x00"):
        client = closing(Wire(proxy.address))
        assert client.ssl_request() == b"S"
        try:
            client.send(garbage)
            client.socket.shutdown(socket.SHUT_WR)
            client.bytes_until_closed()
        except OSError:
            pass
    assert closing(proxy.wire()).value("SELECT 1") == "1"


def test_handshake_left_half_done(make_proxy, closing, tls):
    proxy = make_proxy({"tls": tls, "pool": {"client_login_timeout": "60s"}})
    client = closing(Wire(proxy.address))
    assert client.ssl_request() == b"S"
    client.send(b"\x16\x03\x01\x02\x00")
    wait_until(lambda: proxy.metric("connections_total") >= 1)
    proxy.advance(61)
    client.bytes_until_closed()
    wait_until(lambda: proxy.metric("clients") == 0)


def assert_session_is_resumed(proxy, closing, shared):
    first = closing(secure(proxy.address, shared))
    first.query("SELECT 1")
    again = closing(Wire(proxy.address))
    assert again.ssl_request() == b"S"
    again.socket = shared.wrap_socket(again.socket, server_hostname="localhost", session=first.socket.session)
    assert again.socket.session_reused
    assert again.login(APP).value("SELECT 1") == "1"


def test_session_resumption(make_proxy, closing, certs, tls):
    proxy = make_proxy({"tls": tls})
    shared = context(certs, maximum=ssl.TLSVersion.TLSv1_2)
    assert_session_is_resumed(proxy, closing, shared)


def test_cancel_over_tls(make_proxy, closing, postgres, certs, tls, name):
    proxy = make_proxy({"tls": {**tls, "mode": "require"}})
    client = closing(secure(proxy.address, context(certs)))
    client.send(query(f"SELECT pg_sleep(60) /* {name} */"))
    wait_until(lambda: postgres.backends("query LIKE %s AND wait_event = 'PgSleep'", [f"%{name}%"]))
    client.cancel(context(certs))
    assert errors(client.until_ready()) == ["57014"]


def test_cancel_in_clear_of_a_tls_client(make_proxy, closing, postgres, certs, tls, name):
    """libpq before 17 always cancels in clear; that must work unless TLS is demanded."""
    proxy = make_proxy({"tls": tls})
    client = closing(secure(proxy.address, context(certs)))
    client.send(query(f"SELECT pg_sleep(60) /* {name} */"))
    wait_until(lambda: postgres.backends("query LIKE %s AND wait_event = 'PgSleep'", [f"%{name}%"]))
    client.cancel()
    assert errors(client.until_ready()) == ["57014"]


def test_large_traffic_both_ways(make_proxy, tls):
    """Both sides have more to write than sockets hold: who doesn't read while it writes, hangs."""
    proxy = make_proxy({"tls": tls})
    text = "y" * 300_000
    with psycopg.connect(proxy.dsn(sslmode="require")) as db, db.pipeline():
        cursors = [db.execute("SELECT %s::text", [text]) for _ in range(60)]
        assert all(c.fetchone() == (text,) for c in cursors)


def hello():
    """The first words of a handshake, which goes no further."""
    out = ssl.MemoryBIO()
    handshake = ssl._create_unverified_context().wrap_bio(ssl.MemoryBIO(), out)
    with pytest.raises(ssl.SSLWantReadError):
        handshake.do_handshake()
    return out.read()


def a_crowd(proxy, closing, words):
    """So many that their handshakes have to wait in line."""
    crowd = [closing(Wire(proxy.address)) for _ in range(40)]
    for client in crowd:
        assert client.ssl_request() == b"S"
    for client in crowd:
        client.send(words)
    return crowd


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crowd_whose_half_vanishes(make_proxy, closing, certs, tls, workers):
    proxy = make_proxy({"tls": tls, "proxy": {"workers": workers}})
    plain = closing(proxy.wire())
    for words in (hello(), hello()[:20], b"no handshake at all", b""):
        crowd = a_crowd(proxy, closing, words)
        assert plain.value("SELECT 1") == "1"
        for client in crowd[::2]:
            client.abort()
        assert closing(secure(proxy.address, context(certs))).value("SELECT 1") == "1"
        for client in crowd[1::2]:
            client.close()
        assert plain.value("SELECT 1") == "1"
    wait_until(lambda: proxy.metric("clients") == 5)


def test_a_crowd_at_the_end_of_the_process(make_proxy, closing, tls):
    proxy = make_proxy({"tls": tls, "proxy": {"workers": 1}})
    a_crowd(proxy, closing, hello())
    proxy.stop()


def test_a_crowd_has_its_deadline(make_proxy, closing, certs, tls):
    """Handshakes that nobody goes on with hold up nobody, and end with client_login_timeout."""
    proxy = make_proxy({"tls": tls, "proxy": {"workers": 1}})
    crowd = a_crowd(proxy, closing, hello())
    client = closing(secure(proxy.address, context(certs)))
    assert client.value("SELECT 1") == "1"
    proxy.advance(61)
    for late in crowd:
        late.bytes_until_closed()
    wait_until(lambda: proxy.metric("clients") == 1)
    assert client.value("SELECT 1") == "1"


def test_client_that_vanishes(make_proxy, closing, certs, tls):
    proxy = make_proxy({"tls": tls})
    for _ in range(5):
        client = secure(proxy.address, context(certs))
        client.query("BEGIN")
        client.abort()
    wait_until(lambda: proxy.metric("clients") == 0)
    assert closing(secure(proxy.address, context(certs))).value("SELECT 1") == "1"


def test_gssenc_then_tls(make_proxy, closing, certs, tls):
    """libpq's order where Kerberos is around."""
    proxy = make_proxy({"tls": tls})
    client = closing(Wire(proxy.address))
    assert client.gssenc_request() == b"N"
    assert client.ssl_request() == b"S"
    client.start_tls(context(certs))
    assert client.login(APP).value("SELECT 1") == "1"


@pytest.mark.parametrize("code", [wire.SSL_REQUEST, wire.GSSENC_REQUEST])
def test_request_for_encryption_inside_of_tls(make_proxy, closing, certs, tls, code):
    """There is none in there; and whoever asks must not hang."""
    proxy = make_proxy({"tls": tls})
    client = closing(Wire(proxy.address))
    assert client.ssl_request() == b"S"
    client.start_tls(context(certs))
    client.send(struct.pack("!II", 8, code))
    client.socket.settimeout(5)
    assert client.socket.recv(1) in (b"N", b"E", b"")
    assert closing(secure(proxy.address, context(certs))).value("SELECT 1") == "1"


def test_login_in_one_packet_inside_of_tls(make_proxy, closing, certs, tls):
    proxy = make_proxy({"tls": {**tls, "mode": "require"}, "auth": {"mode": "password"},
                        "users": {"app": {"password": "x"}}})
    client = closing(Wire(proxy.address))
    assert client.ssl_request() == b"S"
    client.start_tls(context(certs))
    client.send(wire.startup_packet(APP) + wire.message("p", b"x\0") + query("SELECT 7"))
    assert client.read().kind == "R"
    client.finish_login(APP)
    assert rows(client.until_ready()) == [["7"]]


# ---------------------------------------------------------------- certificates of clients

def test_certificate_besides_a_password(make_proxy, closing, certs, tls, tmp_path):
    hba = tmp_path / "hba"
    hba.write_text("hostssl app  all all scram-sha-256 clientcert=verify-full\n"
                   "hostssl other all all scram-sha-256 clientcert=verify-ca\n")
    proxy = make_proxy({"tls": {**tls, "ca_path": certs.ca}, "auth": {"hba_file": str(hba)},
                        "users": {"app": {"password": "x"}}})
    right, another = certs.issue("both-app", "app"), certs.issue("both-another", "another")
    other = {"user": "app", "database": "other"}
    assert closing(secure(proxy.address, context(certs, right), password="x")).value("SELECT 1") == "1"
    assert closing(secure(proxy.address, context(certs, another), other, "x")).value("SELECT 1") == "1"
    for certificate, parameters, password, code in ((another, APP, "x", "28000"), (None, APP, "x", "28000"),
                                                    (None, other, "x", "28000"), (right, APP, "y", "28P01")):
        with pytest.raises(ServerError) as e:
            secure(proxy.address, context(certs, certificate), parameters, password)
        assert e.value.code == code


def test_certificate_by_its_whole_name(make_proxy, closing, certs, tls, tmp_path):
    hba, ident = tmp_path / "hba", tmp_path / "ident"
    hba.write_text("hostssl all all all cert clientname=DN map=dn\n")
    ident.write_text('dn  /^.*CN=whole.*$  app\n')
    proxy = make_proxy({"tls": {**tls, "ca_path": certs.ca},
                        "auth": {"hba_file": str(hba), "ident_file": str(ident)}})
    whole = certs.issue("whole", "whole")
    assert closing(secure(proxy.address, context(certs, whole))).value("SELECT session_user") == "app"
    with pytest.raises(ServerError) as e:
        secure(proxy.address, context(certs, certs.issue("part", "part")))
    assert e.value.code == "28000"


def test_reload_of_authorities(make_proxy, closing, certs, tls, tmp_path):
    """Who is in stays; who comes is judged by the new file."""
    ca = tmp_path / "ca.crt"
    shutil.copy(certs.ca, ca)
    proxy = make_proxy({"tls": {**tls, "ca_path": str(ca)}, "auth": {"mode": "cert"}})
    mine = certs.issue("reload-app", "app")
    kept = closing(secure(proxy.address, context(certs, mine)))
    shutil.copy(certs.other_ca, ca)
    proxy.signal_reload()

    def refused():
        try:
            secure(proxy.address, context(certs, mine)).socket.close()
            return False
        except (ServerError, Closed, ssl.SSLError, ConnectionError):
            return True

    wait_until(refused)
    assert kept.value("SELECT 'still there'") == "still there"

def test_certificate_login(make_proxy, closing, certs, tls):
    proxy = make_proxy({"tls": {**tls, "ca_path": certs.ca}, "auth": {"mode": "cert"}})
    right = certs.issue("app-client", "app")
    client = closing(secure(proxy.address, context(certs, right)))
    assert client.auth_methods == [0] and client.value("SELECT session_user") == "app"
    with pytest.raises(ServerError) as e:
        secure(proxy.address, context(certs, right), {"user": "app2", "database": "app"})
    assert e.value.code == "28000"
    with pytest.raises((ServerError, Closed, ssl.SSLError)) as e:
        secure(proxy.address, context(certs))
    assert getattr(e.value, "code", "28000") == "28000"
    with pytest.raises(ServerError) as e:
        proxy.wire()
    assert e.value.code == "28000"


def test_certificate_of_a_stranger(make_proxy, certs, tls):
    proxy = make_proxy({"tls": {**tls, "ca_path": certs.ca, "mode": "verify-full"}})
    stranger = certs.issue("stranger", "app", authority=certs._other)
    with pytest.raises((ssl.SSLError, ConnectionError, Closed, ServerError)):
        secure(proxy.address, context(certs, stranger)).query("SELECT 1")


def test_certificate_map(make_proxy, closing, certs, tls, tmp_path):
    hba, ident = tmp_path / "hba", tmp_path / "ident"
    hba.write_text("hostssl all all all cert map=m\n")
    ident.write_text("m  someone@example.org  app\nm  /^svc-(.*)$  \\1\n")
    proxy = make_proxy({"tls": {**tls, "ca_path": certs.ca},
                        "auth": {"hba_file": str(hba), "ident_file": str(ident)}})
    mapped = certs.issue("mapped", "someone@example.org")
    assert closing(secure(proxy.address, context(certs, mapped))).value("SELECT session_user") == "app"
    by_pattern = certs.issue("svc", "svc-app2")
    assert closing(secure(proxy.address, context(certs, by_pattern), {"user": "app2", "database": "app"})) \
        .value("SELECT session_user") == "app2"
    with pytest.raises(ServerError):
        secure(proxy.address, context(certs, mapped), {"user": "app2", "database": "app"})


def test_scram_plus(make_proxy, closing, certs, tls):
    proxy = make_proxy({"tls": tls, "auth": {"mode": "scram"}, "users": {"app": {"password": "x"}}})
    client = Wire(proxy.address)
    closing(client)
    assert client.ssl_request() == b"S"
    client.start_tls(context(certs))
    client.startup(APP)
    client.finish_login(APP, "x", channel_binding=True)
    assert client.mechanisms == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]
    assert client.value("SELECT 1") == "1"
    with psycopg.connect(proxy.dsn(password="x", sslmode="require", channel_binding="require")) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_scram_plus_is_not_offered_in_clear(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "scram"}, "users": {"app": {"password": "x"}}})
    client = closing(proxy.wire(password="x"))
    assert client.mechanisms == ["SCRAM-SHA-256"]


def test_channel_binding_downgrade_is_noticed(make_proxy, closing, certs, tls):
    """A client that could bind but was told that the server can't says 'y': a lie in between is found out."""
    proxy = make_proxy({"tls": tls, "auth": {"mode": "scram"}, "users": {"app": {"password": "x"}}})
    client = closing(Wire(proxy.address))
    assert client.ssl_request() == b"S"
    client.start_tls(context(certs))
    client.startup(APP)
    client.read()
    first = b"y,,n=,r=abcdefghijklmnop"
    client.send(wire.message("p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
    assert [m.kind for m in client.until_closed()] == ["E"]


# ---------------------------------------------------------------- reload

def test_certificate_reload(make_proxy, closing, certs, tmp_path):
    cert, key = tmp_path / "server.crt", tmp_path / "server.key"

    def install(certificate):
        shutil.copy(certificate.cert, cert)
        shutil.copy(certificate.key, key)

    def serial():
        client = Wire(proxy.address)
        assert client.ssl_request() == b"S"
        client.start_tls(context(certs))
        return client.socket.getpeercert()["serialNumber"], client.socket.close()

    install(certs.server)
    proxy = make_proxy({"tls": {"enabled": True, "cert_path": str(cert), "key_path": str(key)}})
    before = serial()
    kept = closing(secure(proxy.address, context(certs)))
    install(certs.issue("renewed", "localhost", "DNS:localhost"))
    proxy.signal_reload()
    wait_until(lambda: serial() != before)
    assert kept.value("SELECT 'not dropped'") == "not dropped"


def test_reload_of_a_broken_certificate_keeps_the_old(make_proxy, closing, certs, tmp_path):
    cert, key = tmp_path / "server.crt", tmp_path / "server.key"
    shutil.copy(certs.server.cert, cert)
    shutil.copy(certs.server.key, key)
    proxy = make_proxy({"tls": {"enabled": True, "cert_path": str(cert), "key_path": str(key)}})
    cert.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    proxy.signal_reload()
    assert closing(secure(proxy.address, context(certs))).value("SELECT 1") == "1"


@pytest.mark.parametrize("broken", ["missing", "mismatch", "garbage"])
def test_broken_certificate_at_start(make_proxy, certs, tmp_path, broken):
    path = tmp_path / "garbage"
    path.write_text("garbage")
    table = {"missing": {"cert_path": "/nonexistent.crt", "key_path": certs.server.key},
             "mismatch": {"cert_path": certs.server.cert, "key_path": certs.wrong_host.key},
             "garbage": {"cert_path": str(path), "key_path": certs.server.key}}[broken]
    proxy = make_proxy({"tls": {"enabled": True, **table}}, start=False)
    proxy.expects_failure = True
    proxy.spawn()
    assert proxy.process.wait(20) != 0
    assert proxy.log().strip()


# ---------------------------------------------------------------- servers

def in_tls(client):
    return client.value("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"


@pytest.mark.matrix
@pytest.mark.parametrize("mode,expected", [("disable", False), ("allow", False), ("prefer", True), ("require", True),
                                           ("verify-ca", True), ("verify-full", True)])
def test_modes_towards_the_server(make_proxy, closing, certs, mode, expected):
    proxy = make_proxy({"server_tls": {"mode": mode, "ca_path": certs.ca}})
    assert in_tls(closing(proxy.wire())) == expected


def test_prefer_takes_a_server_without_tls(make_proxy, closing, make_postgres):
    proxy = make_proxy(postgres=make_postgres(), config={"server_tls": {"mode": "prefer"}})
    assert not in_tls(closing(proxy.wire()))


def test_require_refuses_a_server_without_tls(make_proxy, make_postgres):
    proxy = make_proxy(postgres=make_postgres(), config={"server_tls": {"mode": "require"}})
    with pytest.raises(ServerError) as e:
        proxy.wire().query("SELECT 1")
    assert e.value.code[:2] == "08"


def test_allow_takes_tls_when_the_server_insists(make_proxy, closing):
    proxy = make_proxy({"server_tls": {"mode": "allow"}})
    assert in_tls(closing(proxy.wire("tls_user")))


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_unknown_authority_is_refused(make_proxy, certs, mode):
    proxy = make_proxy({"server_tls": {"mode": mode, "ca_path": certs.other_ca}})
    with pytest.raises(ServerError) as e:
        proxy.wire().rows("SELECT 1")
    assert e.value.code[:2] == "08"


def test_wrong_host_is_refused_by_verify_full_only(make_proxy, closing, make_postgres, certs):
    class Elsewhere:
        server, ca = certs.wrong_host, certs.ca

    server = make_postgres(certs=Elsewhere)
    config = {"server_tls": {"mode": "verify-ca", "ca_path": certs.ca}}
    assert in_tls(closing(make_proxy(postgres=server, config=config).wire()))
    config["server_tls"]["mode"] = "verify-full"
    with pytest.raises(ServerError) as e:
        make_proxy(postgres=server, config=config).wire().rows("SELECT 1")
    assert e.value.code[:2] == "08"


@pytest.mark.matrix
def test_scram_plus_towards_the_server(make_proxy, closing, make_postgres, certs):
    """Over TLS the server offers -PLUS; a proxy that knows the password must take it."""
    server = make_postgres(certs=certs)
    proxy = make_proxy(postgres=server, config={"server_tls": {"mode": "require"}, "auth": {"mode": "scram"},
                                                "log": {"level": "debug"},
                                                "users": {"scram_user": {"password": PASSWORD}}})
    client = closing(proxy.wire("scram_user", password=PASSWORD))
    assert in_tls(client)
    proxy.wait_log("method=scram-sha-256-plus tls=TLSv1.3")


@pytest.mark.parametrize("user,mode,method", [
    ("scram_user", "disable", "scram-sha-256"), ("scram_user", "require", "scram-sha-256-plus"),
    ("md5_user", "disable", "md5"), ("plain_user", "require", "password"), ("trust_user", "require", "trust"),
])
@pytest.mark.matrix
def test_method_towards_the_server(make_proxy, closing, user, mode, method):
    proxy = make_proxy({"server_tls": {"mode": mode}, "auth": {"mode": "scram"}, "log": {"level": "debug"},
                        "users": {user: {"password": PASSWORD}}})
    assert closing(proxy.wire(user, password=PASSWORD)).value("SELECT session_user") == user
    proxy.wait_log(rf"method={method}\b")


def test_verifier_opens_the_server_by_scram_plus(make_proxy, closing, postgres):
    """No password anywhere: the client's key, learnt from its proof, also binds the proxy's own channel."""
    verifier = postgres.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'scram_user'")
    proxy = make_proxy({"server_tls": {"mode": "require"}, "auth": {"mode": "scram"}, "log": {"level": "debug"},
                        "users": {"scram_user": {"password": verifier}}})
    assert in_tls(closing(proxy.wire("scram_user", password=PASSWORD)))
    proxy.wait_log("method=scram-sha-256-plus")


def test_cancel_with_tls_to_the_server(make_proxy, closing, postgres, certs, name):
    proxy = make_proxy({"server_tls": {"mode": "require"}})
    client = closing(proxy.wire("tls_user"))
    client.send(query(f"SELECT pg_sleep(60) /* {name} */"))
    wait_until(lambda: postgres.backends("query LIKE %s AND wait_event = 'PgSleep'", [f"%{name}%"]))
    client.cancel()
    assert errors(client.until_ready()) == ["57014"]


def test_tls_on_both_sides(make_proxy, closing, certs, tls):
    proxy = make_proxy({"tls": tls, "server_tls": {"mode": "verify-full", "ca_path": certs.ca}})
    clients = [closing(secure(proxy.address, context(certs))) for _ in range(10)]
    for i, client in enumerate(clients):
        assert client.value(f"SELECT length(repeat('x', {i} * 100000))") == str(i * 100000)
        assert len(client.value(f"SELECT repeat('x', {i} * 100000)")) == i * 100000


def test_session_resumption_of_tls_1_3(make_proxy, closing, certs, tls):
    """Its tickets come behind the handshake, with the first bytes that are read."""
    proxy = make_proxy({"tls": tls})
    shared = context(certs, minimum=ssl.TLSVersion.TLSv1_3)
    assert_session_is_resumed(proxy, closing, shared)


def test_ktls_where_it_may_not_be_there(make_proxy, closing, certs, tls):
    """Asked for on both sides: with or without the kernel's help every byte arrives, in both directions."""
    proxy = make_proxy({"tls": {**tls, "ktls": True}, "server_tls": {"mode": "require", "ktls": True}})
    client = closing(secure(proxy.address, context(certs)))
    assert in_tls(client)
    for size in (1, 16384, 3_000_000):
        assert client.value(f"SELECT repeat('x', {size})") == "x" * size
        assert rows(client.batch(run("SELECT length($1::text)", ["y" * size]))) == [[str(size)]]


def test_minimum_version_towards_the_server(make_proxy, closing, make_postgres, certs):
    server = make_postgres({"ssl_max_protocol_version": "TLSv1.2"}, certs=certs)
    old = make_proxy({"server_tls": {"mode": "require", "min_version": "TLSv1.2"}}, postgres=server)
    assert in_tls(closing(old.wire("tls_user")))
    new = make_proxy({"server_tls": {"mode": "require", "min_version": "TLSv1.3"}}, postgres=server)
    with pytest.raises(ServerError) as e:
        new.wire("tls_user").rows("SELECT 1")
    assert e.value.code[:2] == "08"


@pytest.mark.parametrize("key,value,cipher", [
    ("ciphersuites", "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    ("ciphersuites", "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
])
def test_ciphers_towards_the_server(make_proxy, closing, key, value, cipher):
    proxy = make_proxy({"server_tls": {"mode": "require", key: value}})
    client = closing(proxy.wire("tls_user"))
    assert client.value("SELECT cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == cipher


class DirectTlsServer(FakeServer):
    """As PostgreSQL 17 with sslnegotiation=direct: the first byte is TLS's, and ALPN says what is meant."""

    def __init__(self, certs):
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certs.server.cert, certs.server.key)
        self.tls.set_alpn_protocols(["postgresql"])
        self.chosen = []
        super().__init__()

    def _serve(self, connection):
        secured = self.tls.wrap_socket(connection, server_side=True)
        self.chosen.append(secured.selected_alpn_protocol())
        super()._serve(secured)


def test_direct_tls_towards_the_server(make_proxy, closing, certs):
    fake = DirectTlsServer(certs)
    try:
        proxy = make_proxy({"server_tls": {"mode": "verify-ca", "ca_path": certs.ca, "direct": True},
                            "health": {"check_interval": "86400s"}}, postgres=fake)
        assert closing(proxy.wire()).value("SELECT 1") == "1"
        assert "postgresql" in fake.chosen
    finally:
        fake.close()


def test_tls_towards_the_server_follows_a_reload(make_proxy, closing):
    proxy = make_proxy({"server_tls": {"mode": "disable"}, "pool": {"login_retry": 0}})
    with pytest.raises(ServerError) as e:
        proxy.wire("tls_user").rows("SELECT 1")
    assert e.value.code == "28000"
    proxy.reload({"server_tls": {"mode": "require"}})

    def comes_in():
        try:
            return closing(proxy.wire("tls_user"))
        except ServerError:
            return None  # the failure of before is remembered for 100 ms

    assert in_tls(wait_until(comes_in))
