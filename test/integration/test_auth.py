"""Who comes in: every method on the client's side and on the server's, and what a refusal looks like."""

import base64
import hashlib
import hmac
import os
import socket
import subprocess

import psycopg
import pytest
from harness import Relay, ServerError, Wire, wait_until, wire
from harness.postgres import PASSWORD
from harness.wire import Closed

SECRET = "pässwörd with spaces"


def md5_secret(user, password):
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


def scram_secret(password, iterations=4096, salt=None):
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    b64 = [base64.b64encode(x).decode() for x in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{b64[0]}${b64[1]}:{b64[2]}"


def login(proxy, user, password, database="app", **parameters):
    return proxy.wire(user=user, database=database, password=password, **parameters)


def refused(proxy, user, password, database="app"):
    """The error of a login that must fail (in passthrough at the latest with the first query)."""
    try:
        with login(proxy, user, password, database) as client:
            client.rows("SELECT 1")
    except ServerError as e:
        return e
    raise AssertionError(f"{user} came in")


# ---------------------------------------------------------------- the oracle

@pytest.mark.matrix
@pytest.mark.parametrize("user,method", [("trust_user", 0), ("plain_user", 3), ("md5_user", 5), ("scram_user", 10)])
def test_the_server_asks_as_expected(postgres, user, method):
    with Wire(postgres.address) as client:
        client.login({"user": user, "database": "app"}, PASSWORD)
        assert client.auth_methods[0] == method
        assert client.value("SELECT 1") == "1"
    if method:
        with Wire(postgres.address) as client, pytest.raises(ServerError) as e:
            client.login({"user": user, "database": "app"}, "wrong")
        assert e.value.code == "28P01"


# ---------------------------------------------------------------- passthrough

@pytest.mark.matrix
@pytest.mark.parametrize("user", ["plain_user", "md5_user", "scram_user"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_passthrough(make_proxy, closing, user, mode):
    proxy = make_proxy({"pool": {"mode": mode}, "auth": {"mode": "passthrough"}})
    for _ in range(3):
        client = closing(login(proxy, user, PASSWORD))
        assert client.value("SELECT session_user") == user
    assert proxy.metric("link_login_failures_total") == 0, "finding out that the server asks for a password is none"
    assert "cannot log in to a server" not in proxy.log()
    assert refused(proxy, user, "wrong").code == "28P01"
    assert proxy.metric("link_login_failures_total") == 1
    assert closing(login(proxy, user, PASSWORD)).value("SELECT 1") == "1"


def test_passthrough_of_a_trusted_user(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "passthrough"}})
    client = closing(login(proxy, "trust_user", "anything"))
    assert client.value("SELECT session_user") == "trust_user"


def test_passthrough_never_serves_a_stranger_from_the_pool(make_proxy, closing):
    """Links of the user are there already, logged in: they are no proof for whoever comes next."""
    proxy = make_proxy({"auth": {"mode": "passthrough"}})
    known = [closing(login(proxy, "scram_user", PASSWORD)) for _ in range(3)]
    for client in known:
        client.query("SELECT 1")
    for wrong in ("", "wrong", PASSWORD + " ", PASSWORD.upper()):
        assert refused(proxy, "scram_user", wrong).code == "28P01"


@pytest.mark.matrix
def test_passthrough_follows_a_changed_password(make_proxy, closing, make_postgres):
    server = make_postgres()
    proxy = make_proxy(postgres=server, config={"auth": {"mode": "passthrough"}, "pool": {"login_retry": "1s"}})
    closing(login(proxy, "scram_user", PASSWORD)).query("SELECT 1")
    server.sql("ALTER ROLE scram_user PASSWORD 'new'")
    def accepts_the_new_one():
        proxy.advance(2)
        try:
            with login(proxy, "scram_user", "new") as client:
                return client.value("SELECT 1") == "1"
        except ServerError as e:
            assert e.code == "28P01"
    wait_until(accepts_the_new_one)


def test_passthrough_unknown_user(make_proxy):
    proxy = make_proxy({"auth": {"mode": "passthrough"}})
    assert refused(proxy, "nobody_here", "x").code in ("28000", "28P01")


# ---------------------------------------------------------------- the proxy decides

STORED = {
    "plain": lambda user: SECRET,
    "md5": lambda user: md5_secret(user, SECRET),
    "scram": lambda user: scram_secret(SECRET),
    "scram-many-iterations": lambda user: scram_secret(SECRET, 20000),
    "scram-short-salt": lambda user: scram_secret(SECRET, 4096, b"salt"),
}
WORKS = [("password", s) for s in STORED] + [("md5", "plain"), ("md5", "md5"), ("md5", "scram"), ("scram", "plain"),
                                             ("scram", "scram"), ("scram", "scram-many-iterations"),
                                             ("scram", "scram-short-salt")]


@pytest.mark.matrix
@pytest.mark.parametrize("mode,stored", WORKS, ids=["/".join(w) for w in WORKS])
@pytest.mark.parametrize("where", ["users", "file"])
def test_methods_and_stored_secrets(make_proxy, closing, tmp_path, mode, stored, where):
    secret = STORED[stored]("trust_user")
    if where == "users":
        config = {"auth": {"mode": mode}, "users": {"trust_user": {"password": secret}}}
    else:
        path = tmp_path / "userlist.txt"
        path.write_text(f'"trust_user" "{secret}"\n')
        config = {"auth": {"mode": mode, "auth_file": str(path)}}
    proxy = make_proxy(config)
    client = closing(login(proxy, "trust_user", SECRET))
    expected = {"password": 3, "md5": 10 if stored.startswith("scram") else 5, "scram": 10}[mode]
    assert client.auth_methods[0] == expected
    assert client.value("SELECT session_user") == "trust_user"
    for wrong in ("wrong", "", SECRET + "x"):
        error = refused(proxy, "trust_user", wrong)
        assert (error.code, error.message) == ("28P01", 'password authentication failed for user "trust_user"')


@pytest.mark.parametrize("mode", ["password", "md5", "scram"])
def test_unknown_user_looks_like_a_wrong_password(make_proxy, mode):
    proxy = make_proxy({"auth": {"mode": mode}, "users": {"trust_user": {"password": SECRET}}})
    seen = []
    for user in ("trust_user", "nobody_here"):
        client = Wire(proxy.address)
        with pytest.raises(ServerError) as e:
            client.login({"user": user, "database": "app"}, "wrong")
        fields = {k: v.replace(user, "USER") for k, v in e.value.fields.items()}
        seen.append((client.auth_methods, client.mechanisms, fields))
        client.socket.close()
    assert seen[0] == seen[1]


def test_salt_of_an_unknown_user_is_stable(make_proxy):
    """Else asking twice tells who exists."""
    proxy = make_proxy({"auth": {"mode": "scram"}, "users": {"trust_user": {"password": SECRET}}})

    def salt(user):
        with Wire(proxy.address) as client:
            client.startup({"user": user, "database": "app"})
            assert client.read().kind == "R"
            first = b"n,,n=,r=abcdefghijklmnop"
            client.send(wire.message("p", b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first))
            parts = dict(p.split(b"=", 1) for p in client.read().body[4:].split(b","))
            return parts[b"s"], parts[b"i"]

    for user in ("nobody_1", "nobody_2", "trust_user"):
        assert salt(user) == salt(user)
    assert salt("nobody_1")[0] != salt("nobody_2")[0]
    assert len(salt("nobody_1")[0]) == len(salt("trust_user")[0]) and salt("nobody_1")[1] == salt("trust_user")[1]


def test_trust(make_proxy, closing):
    client = closing(make_proxy({"auth": {"mode": "trust"}}).wire(user="trust_user"))
    assert client.auth_methods == [0]


def test_file_formats(make_proxy, closing, tmp_path):
    path = tmp_path / "users"
    path.write_text(f'''; PgBouncer's comment
# the reference's
"trust_user" "a ""quoted"" word"
app:{SECRET}
"app2":"{scram_secret("two")}"
  postgres : {md5_secret("postgres", "three")}
''')
    proxy = make_proxy({"auth": {"mode": "md5", "auth_file": str(path)}})
    for user, password in (("trust_user", 'a "quoted" word'), ("app", SECRET), ("app2", "two"), ("postgres", "three")):
        assert closing(login(proxy, user, password)).value("SELECT session_user") == user


def test_file_is_reloaded(make_proxy, closing, tmp_path):
    path = tmp_path / "users"
    path.write_text('"trust_user" "old"\n')
    proxy = make_proxy({"auth": {"mode": "scram", "auth_file": str(path)}})
    kept = closing(login(proxy, "trust_user", "old"))
    path.write_text('"trust_user" "new"\n"app" "x"\n')
    proxy.signal_reload()
    wait_until(lambda: _comes_in(proxy, "trust_user", "new"))
    assert refused(proxy, "trust_user", "old").code == "28P01"
    assert closing(login(proxy, "app", "x")).value("SELECT 1") == "1"
    assert kept.value("SELECT 1") == "1"


def _comes_in(proxy, user, password):
    try:
        login(proxy, user, password).close()
        return True
    except (ServerError, Closed):
        return False


@pytest.mark.matrix
@pytest.mark.parametrize("password", ["x" * 1000, "p" * 4000, "🙂 emoji", "\u00aa\u2168", "back\\slash'quote\"",
                                      "\u00a0x"])
def test_unusual_passwords(make_proxy, closing, password):
    """Long tokens, and what SASLprep maps: both sides must do the same (psycopg's libpq is the other side)."""
    proxy = make_proxy({"auth": {"mode": "scram"}, "users": {"trust_user": {"password": password}}})
    with psycopg.connect(proxy.dsn("trust_user", password=password)) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)
    proxy = make_proxy({"auth": {"mode": "password"}, "users": {"trust_user": {"password": password}}})
    assert closing(login(proxy, "trust_user", password)).value("SELECT 1") == "1"


def test_malformed_scram(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "scram"}, "users": {"trust_user": {"password": SECRET}}})
    for first in (b"", b"n", b"n,,", b"n,,n=,r=", b"y,,n=,r=abc", b"p=tls-unique,,n=,r=abc", b"n,a=x,n=,r=abc",
                  b"n,,m=ext,n=,r=abc", b"n,,n=,r=a\xffb", b"n,,n=,r=" + b"x" * 5000):
        client = closing(Wire(proxy.address))
        client.startup({"user": "trust_user", "database": "app"})
        assert client.read().kind == "R"
        client.send(wire.message("p", b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first),
                    wire.message("p", b"c=biws,r=abc,p=AAAA"))
        assert "Z" not in wire.kinds(client.until_closed())
    for body in (b"", b"SCRAM-SHA-256", b"SCRAM-SHA-1\0\0\0\0\0", b"SCRAM-SHA-256\0\xff\xff\xff\xff",
                 b"SCRAM-SHA-256\0\0\0\0\xff"):
        client = closing(Wire(proxy.address))
        client.startup({"user": "trust_user", "database": "app"})
        client.read()
        client.send(wire.message("p", body))
        client.socket.shutdown(1)
        assert "Z" not in wire.kinds(client.until_closed())
    assert closing(login(proxy, "trust_user", SECRET)).value("SELECT 1") == "1"


@pytest.mark.parametrize("mode", ["password", "md5", "passthrough"])
def test_query_right_behind_the_password(make_proxy, closing, mode):
    """Nobody has to wait for AuthenticationOk."""
    proxy = make_proxy({"auth": {"mode": mode}, "users": {"plain_user": {"password": PASSWORD}}})
    client = closing(Wire(proxy.address))
    client.startup({"user": "plain_user", "database": "app"})
    request = client.read()
    answer = PASSWORD.encode()
    if mode == "md5":
        inner = hashlib.md5((PASSWORD + "plain_user").encode()).hexdigest()
        answer = b"md5" + hashlib.md5(inner.encode() + request.body[4:8]).hexdigest().encode()
    client.send(wire.message("p", answer + b"\0"), wire.query("SELECT session_user"))
    client.finish_login({"user": "plain_user"})
    assert wire.rows(client.until_ready()) == [["plain_user"]]


def test_query_instead_of_a_password(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "scram"}, "users": {"trust_user": {"password": SECRET}}})
    client = closing(Wire(proxy.address))
    client.startup({"user": "trust_user", "database": "app"})
    client.read()
    client.send(wire.query("SELECT 1"))
    assert "Z" not in wire.kinds(client.until_closed())


# ---------------------------------------------------------------- rules

def test_hba_file(make_proxy, closing, tmp_path, certs):
    hba = tmp_path / "pg_hba.conf"
    hba.write_text("""# type database user address method
host  app    trust_user   127.0.0.1/32   trust
host  other  trust_user   127.0.0.0/8    reject
host  all    app,app2     samehost       scram-sha-256
hostssl all  cert_user    all            cert
host  "app"  md5_user     127.0.0.1 255.255.255.255  md5
local all    all                         trust
""")
    tls = {"enabled": True, "cert_path": certs.server.cert, "key_path": certs.server.key, "ca_path": certs.ca}
    proxy = make_proxy({"auth": {"hba_file": str(hba)}, "tls": tls,
                        "users": {"app": {"password": "a"}, "md5_user": {"password": PASSWORD}}})
    assert closing(login(proxy, "trust_user", None)).auth_methods == [0]
    assert refused(proxy, "trust_user", None, "other").code == "28000"
    assert closing(login(proxy, "app", "a")).auth_methods[0] == 10
    assert refused(proxy, "app", "b").code == "28P01"
    assert refused(proxy, "app2", "b").code == "28P01"
    assert closing(login(proxy, "md5_user", PASSWORD)).auth_methods[0] == 5
    error = refused(proxy, "postgres", None)
    assert error.code == "28000" and "postgres" in error.message
    assert refused(proxy, "cert_user", None).code == "28000"


def test_hba_of_the_reference(make_proxy, closing):
    proxy = make_proxy({"hba": [{"action": "reject", "user": "app2"},
                                {"action": "allow", "user": "all", "address": "127.0.0.0/8"},
                                {"action": "reject"}]})
    assert closing(proxy.wire("app")).value("SELECT 1") == "1"
    assert refused(proxy, "app2", None).code == "28000"


def test_damaged_hba_file_is_refused(make_proxy, tmp_path):
    hba = tmp_path / "pg_hba.conf"
    hba.write_text("host all all 300.0.0.1/33 trust\n")
    proxy = make_proxy({"auth": {"hba_file": str(hba)}}, start=False)
    proxy.expects_failure = True
    proxy.spawn()
    assert proxy.process.wait(20) != 0
    assert "pg_hba.conf" in proxy.log() and ":1" in proxy.log()


# ---------------------------------------------------------------- auth_query

@pytest.mark.matrix
def test_auth_query(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "scram", "auth_user": "postgres", "auth_database": "postgres"}})
    client = closing(login(proxy, "scram_user", PASSWORD))
    assert client.value("SELECT session_user") == "scram_user"
    assert refused(proxy, "scram_user", "wrong").code == "28P01"
    assert refused(proxy, "nobody_here", "wrong").code == "28P01"


@pytest.mark.matrix
def test_auth_query_of_md5(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "md5", "auth_user": "postgres", "auth_database": "postgres"}})
    assert closing(login(proxy, "md5_user", PASSWORD)).value("SELECT session_user") == "md5_user"


def test_auth_query_in_the_clients_database(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "scram", "auth_user": "postgres"}})
    assert closing(login(proxy, "scram_user", PASSWORD, "other")).value("SELECT current_database()") == "other"


def test_auth_query_is_safe_from_names(make_proxy):
    proxy = make_proxy({"auth": {"mode": "scram", "auth_user": "postgres", "auth_database": "postgres"}})
    for user in ("'; DROP ROLE app; --", "x' OR 'a'='a", "$1", "\\", "a" * 200):
        assert refused(proxy, user, "x").code == "28P01"


def test_auth_query_sees_expired_and_locked_users(make_proxy, make_postgres):
    server = make_postgres()
    server.sql("ALTER ROLE scram_user VALID UNTIL '2001-01-01'; ALTER ROLE md5_user NOLOGIN")
    proxy = make_proxy(postgres=server,
                       config={"auth": {"mode": "md5", "auth_user": "postgres", "auth_database": "postgres"}})
    assert refused(proxy, "scram_user", PASSWORD).code == "28P01"
    assert refused(proxy, "md5_user", PASSWORD).code == "28P01"


def test_auth_query_follows_a_new_password(make_proxy, closing, make_postgres):
    """The cached secret is wrong now: a login that fails asks again."""
    server = make_postgres()
    proxy = make_proxy(postgres=server,
                       config={"auth": {"mode": "scram", "auth_user": "postgres", "auth_database": "postgres"}})
    closing(login(proxy, "scram_user", PASSWORD)).query("SELECT 1")
    server.sql("ALTER ROLE scram_user PASSWORD 'new'")
    wait_until(lambda: _comes_in(proxy, "scram_user", "new"))
    proxy.advance(61)
    wait_until(lambda: not _comes_in(proxy, "scram_user", PASSWORD))


def test_auth_query_when_the_server_is_away(make_proxy, make_postgres):
    server = make_postgres()
    proxy = make_proxy(postgres=server,
                       config={"auth": {"mode": "scram", "auth_user": "postgres", "auth_database": "postgres"}})
    server.stop()
    error = refused(proxy, "scram_user", PASSWORD)
    assert error.code[:2] in ("08", "57", "28")


# ---------------------------------------------------------------- towards the server

@pytest.mark.matrix
@pytest.mark.parametrize("user", ["plain_user", "md5_user", "scram_user"])
def test_login_to_the_server(make_proxy, closing, user):
    proxy = make_proxy({"auth": {"mode": "scram"}, "users": {user: {"password": PASSWORD}}})
    clients = [closing(login(proxy, user, PASSWORD)) for _ in range(3)]
    for client in clients:
        client.query("BEGIN")
    for client in clients:
        assert client.value("SELECT session_user") == user


@pytest.mark.matrix
def test_md5_hash_is_enough_for_md5(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "md5"}, "users": {"md5_user": {"password": md5_secret("md5_user", PASSWORD)}}})
    assert closing(login(proxy, "md5_user", PASSWORD)).value("SELECT session_user") == "md5_user"


@pytest.mark.matrix
def test_scram_verifier_passes_the_clients_proof_through(make_proxy, closing, postgres, tmp_path):
    """No clear password anywhere: the client's key, learnt from its proof, opens the server (same salt, same count)."""
    verifier = postgres.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'scram_user'")
    path = tmp_path / "users"
    path.write_text(f'"scram_user" "{verifier}"\n')
    proxy = make_proxy({"auth": {"mode": "scram", "auth_file": str(path)}, "pool": {"max_connections": 3}})
    clients = [closing(login(proxy, "scram_user", PASSWORD)) for _ in range(5)]
    for client in clients[:3]:
        client.query("BEGIN")
    for client in clients[:3]:
        assert client.value("SELECT session_user") == "scram_user"
        client.query("COMMIT")
    assert refused(proxy, "scram_user", "wrong").code == "28P01"
    with psycopg.connect(proxy.dsn("scram_user", password=PASSWORD)) as db:
        assert db.execute("SELECT 1").fetchone() == (1,)


def test_foreign_scram_verifier_gives_a_clear_error(make_proxy):
    """A verifier with another salt lets the client in, but opens no server: the client must be told."""
    proxy = make_proxy({"auth": {"mode": "scram"}, "users": {"scram_user": {"password": scram_secret(PASSWORD)}}})
    assert refused(proxy, "scram_user", PASSWORD).code in ("08004", "28P01", "28000")


def test_wrong_password_towards_the_server(make_proxy):
    proxy = make_proxy({"auth": {"mode": "trust"}, "databases": {"app": {"user": "scram_user", "password": "wrong"}}})
    error = refused(proxy, "trust_user", None)
    assert error.code == "28P01"


def test_password_of_the_database(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "trust"}, "databases": {"app": {"user": "scram_user", "password": PASSWORD}}})
    assert closing(proxy.wire("trust_user")).value("SELECT session_user") == "scram_user"


@pytest.mark.matrix
def test_certificate_towards_the_server(make_proxy, closing, certs):
    certificate = certs.issue("proxy-cert-user", "cert_user")
    proxy = make_proxy({"server_tls": {"mode": "require", "cert_path": certificate.cert, "key_path": certificate.key}})
    client = closing(proxy.wire("cert_user"))
    assert client.rows("SELECT session_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [["cert_user", "t"]]


# ---------------------------------------------------------------- secrets stay secret

def test_secrets_are_nowhere(make_proxy, closing, tmp_path):
    plain = "Very.Secret.4711"
    verifier = scram_secret("other secret")
    path = tmp_path / "users"
    path.write_text(f'"trust_user" "{plain}"\n"app" "{verifier}"\n')
    proxy = make_proxy({"proxy": {"admin_token": "Token.Secret.815"}, "log": {"level": "trace"},
                        "auth": {"mode": "md5", "auth_file": str(path)},
                        "users": {"app2": {"password": plain + "2"}},
                        "databases": {"other": {"user": "app", "password": plain + "3"}, "*": {}}})
    closing(login(proxy, "trust_user", plain)).query("SELECT 1")
    _comes_in(proxy, "trust_user", plain + " wrong")
    closing(login(proxy, "app2", plain + "2"))
    said = proxy.log() + "".join(proxy.admin(p)[1] for p in ("/pools", "/sessions", "/nodes", "/metrics", "/config"))
    printed = subprocess.run([proxy.binary, "--config", proxy.config_path, "--print-config"], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout
    for secret in (plain, verifier.split("$")[2].split(":")[0], verifier.split(":")[-1], "Token.Secret"):
        assert secret not in said
        assert secret not in printed


def test_cleartext_is_not_asked_for_over_the_network(make_proxy):
    """127.0.0.1 counts as safe; that needs no allow_cleartext."""
    proxy = make_proxy({"auth": {"mode": "password", "allow_cleartext": False},
                        "users": {"trust_user": {"password": SECRET}}})
    with login(proxy, "trust_user", SECRET) as client:
        assert client.auth_methods == [3, 0]


@pytest.mark.parametrize("mode", ["password", "passthrough"])
def test_cleartext_is_refused_over_the_network(make_proxy, closing, mode):
    """By way of an address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # sends nothing: only a route is looked for
        except OSError:
            pytest.skip("this machine has no network")
        host = probe.getsockname()[0]
    if host.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    proxy = make_proxy({"auth": {"mode": mode}, "users": {"plain_user": {"password": PASSWORD}}}, start=False)
    proxy.config["proxy"]["listen_address"] = [f"127.0.0.1:{proxy.port}", f"{host}:{proxy.port}"]
    proxy.start()
    client = closing(Wire((host, proxy.port)))
    client.startup({"user": "plain_user", "database": "app"})
    assert [m.code for m in client.until_closed()] == ["28000"]
    proxy.reload({"auth": {"allow_cleartext": True}})

    def comes_in():
        with Wire((host, proxy.port)) as again:
            try:
                again.login({"user": "plain_user", "database": "app"}, PASSWORD)
                return again.value("SELECT session_user") == "plain_user"
            except ServerError:
                return False

    wait_until(comes_in)  # each worker has it a moment later


def test_no_password_passes_in_clear_to_a_scram_server(make_proxy, postgres):
    relay = Relay(postgres)
    try:
        proxy = make_proxy(postgres=relay, config={"auth": {"mode": "scram"}, "server_tls": {"mode": "disable"},
                                                   "users": {"scram_user": {"password": PASSWORD}}})
        with login(proxy, "scram_user", PASSWORD) as client:
            assert client.value("SELECT 1") == "1"
        assert b"SCRAM-SHA-256" in relay.requests and PASSWORD.encode() not in relay.requests
    finally:
        relay.close()

# ---------------------------------------------------------------- what comes ahead of its time

@pytest.mark.parametrize("mode", ["password", "passthrough"])
def test_password_ahead_of_the_request(make_proxy, closing, mode):
    """Startup packet, password and query in one packet: each waits for its turn."""
    proxy = make_proxy({"auth": {"mode": mode}, "users": {"plain_user": {"password": PASSWORD}}})
    client = closing(Wire(proxy.address))
    client.send(wire.startup_packet({"user": "plain_user", "database": "app"}),
                wire.message("p", PASSWORD.encode() + b"\0"), wire.query("SELECT session_user"))
    assert client.read().kind == "R"
    client.finish_login({"user": "plain_user"})
    assert wire.rows(client.until_ready()) == [["plain_user"]]


def test_password_ahead_of_auth_query(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "password", "auth_user": "postgres", "auth_database": "postgres"}})
    client = closing(Wire(proxy.address))
    client.send(wire.startup_packet({"user": "plain_user", "database": "app"}),
                wire.message("p", PASSWORD.encode() + b"\0"), wire.query("SELECT session_user"))
    assert client.read().kind == "R"
    client.finish_login({"user": "plain_user"})
    assert wire.rows(client.until_ready()) == [["plain_user"]]


def test_derived_keys_follow_the_password(make_proxy, closing):
    """Keys are derived once and kept: not longer than the password is the same."""
    proxy = make_proxy({"auth": {"mode": "scram"}, "proxy": {"workers": 1},
                        "users": {"trust_user": {"password": SECRET}, "app2": {"password": scram_secret("two")}}})
    for _ in range(3):
        assert closing(login(proxy, "trust_user", SECRET)).value("SELECT 1") == "1"
        assert closing(login(proxy, "app2", "two")).value("SELECT 1") == "1"
        for user in ("trust_user", "app2", "nobody_here"):
            assert refused(proxy, user, "wrong").code == "28P01"
    proxy.reload({"users": {"trust_user": {"password": "new"}}})
    wait_until(lambda: not _comes_in(proxy, "trust_user", SECRET))  # each worker has it a moment later
    wait_until(lambda: _comes_in(proxy, "trust_user", "new"))
    assert refused(proxy, "trust_user", SECRET).code == "28P01"
    assert closing(login(proxy, "trust_user", "new")).value("SELECT 1") == "1"


# ---------------------------------------------------------------- rules that change, rules that ask for certificates

def test_reload_counts_for_logins_under_way(make_proxy, closing, tmp_path):
    hba = tmp_path / "pg_hba.conf"
    hba.write_text("host all all all scram-sha-256\n")
    proxy = make_proxy({"auth": {"hba_file": str(hba)}, "users": {"app": {"password": "x"}, "app2": {"password": "x"}}})
    waiting = {user: closing(Wire(proxy.address)) for user in ("app", "app2", "trust_user")}
    for user, client in waiting.items():
        client.startup({"user": user, "database": "app"})
        assert client.read().kind == "R"
    hba.write_text("host all app all scram-sha-256\nhost all app2 all md5\nhost all trust_user all reject\n")
    proxy.signal_reload()
    for user in ("app2", "trust_user"):
        assert [m.code for m in waiting[user].until_closed()] == ["28000"]
    waiting["app"].send(wire.query("SELECT 1"))  # still asked for its proof
    assert [m.code for m in waiting["app"].until_closed()] == ["08P01"]


def test_certificate_rule_without_authorities_is_explained(make_proxy, tmp_path):
    hba = tmp_path / "pg_hba.conf"
    hba.write_text("hostssl all all all cert\n")
    proxy = make_proxy({"auth": {"hba_file": str(hba)}}, start=False)
    proxy.expects_failure = True
    proxy.spawn()
    assert proxy.process.wait(20) != 0
    assert "pg_hba.conf:1" in proxy.log() and "ca_path" in proxy.log()


# ---------------------------------------------------------------- auth_query: what may go wrong

QUERY = {"mode": "scram", "auth_user": "postgres", "auth_database": "postgres"}


@pytest.mark.parametrize("sql", ["SELECT rolname FROM pg_authid WHERE rolname = $1", "SELECT nonsense($1)",
                                 "SELECT $1::text, 1/0", "SELECT $1::text, 'SCRAM-SHA-256$damaged'"])
def test_auth_query_that_fails(make_proxy, sql):
    """Not the client's fault, and none of its business: it may try again, the log says why."""
    proxy = make_proxy({"auth": {**QUERY, "auth_query": sql}})
    for _ in range(2):
        error = refused(proxy, "scram_user", PASSWORD)
        assert error.code == "57P03" and "nonsense" not in str(error.fields) and "postgres" not in error.message
    proxy.wait_log("auth_query failed")


@pytest.mark.parametrize("sql", ["SELECT $1::text, NULL::text", "SELECT $1::text, ''",
                                 "SELECT rolname, rolpassword FROM pg_authid WHERE false AND rolname = $1"])
def test_auth_query_of_users_without_a_secret(make_proxy, sql):
    proxy = make_proxy({"auth": {**QUERY, "auth_query": sql}})
    for password in (PASSWORD, ""):
        assert refused(proxy, "scram_user", password).code == "28P01"


def test_auth_query_with_more_columns(make_proxy, closing):
    sql = "SELECT rolname, rolpassword, 1, 2 FROM pg_authid WHERE rolname = $1 UNION ALL SELECT 'x', 'y', 1, 2"
    proxy = make_proxy({"auth": {**QUERY, "auth_query": sql}})
    assert closing(login(proxy, "scram_user", PASSWORD)).value("SELECT 1") == "1"


def test_auth_query_whose_user_cannot_log_in(make_proxy, closing):
    proxy = make_proxy({"auth": {**QUERY, "auth_user": "scram_user"}, "users": {"scram_user": {"password": "wrong"}}})
    error = refused(proxy, "md5_user", PASSWORD)
    assert error.code == "57P03" and "scram_user" not in str(error.fields)


def test_auth_query_is_kept(make_proxy, closing, make_postgres):
    server = make_postgres()
    server.sql("CREATE TABLE asked (who text); CREATE FUNCTION secret_of(who text) RETURNS TABLE (a text, b text) "
               "LANGUAGE sql AS $$ INSERT INTO asked VALUES (who); "
               "SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = who $$")
    proxy = make_proxy(postgres=server, config={"auth": {**QUERY, "auth_query": "SELECT * FROM secret_of($1)"},
                                                "proxy": {"workers": 1}})

    def asked(who):
        return int(server.value(f"SELECT count(*) FROM asked WHERE who = '{who}'"))

    for _ in range(5):
        assert closing(login(proxy, "scram_user", PASSWORD)).value("SELECT session_user") == "scram_user"
    assert asked("scram_user") == 1
    proxy.advance(61)
    closing(login(proxy, "scram_user", PASSWORD))
    assert asked("scram_user") == 2
    assert refused(proxy, "scram_user", "wrong").code == "28P01"
    closing(login(proxy, "scram_user", PASSWORD))
    assert asked("scram_user") == 3, "a login that failed is no reason to go on believing"
    closing(login(proxy, "scram_user", PASSWORD))
    assert asked("scram_user") == 3
    proxy.signal_reload()
    wait_until(lambda: login(proxy, "scram_user", PASSWORD).close() or asked("scram_user") == 4)


def test_auth_query_of_many_at_once_is_one(make_proxy, closing, make_postgres):
    server = make_postgres()
    server.sql("CREATE TABLE asked (who text); CREATE FUNCTION secret_of(who text) RETURNS TABLE (a text, b text) "
               "LANGUAGE sql AS $$ INSERT INTO asked VALUES (who); SELECT pg_sleep(0.5); "
               "SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = who $$")
    proxy = make_proxy(postgres=server, config={"auth": {**QUERY, "auth_query": "SELECT * FROM secret_of($1)"},
                                                "proxy": {"workers": 1}})
    clients = [closing(Wire(proxy.address)) for _ in range(10)]
    for client in clients:
        client.startup({"user": "scram_user", "database": "app"})
    clients[3].abort()
    for client in clients[:3] + clients[4:]:
        client.finish_login({"user": "scram_user", "database": "app"}, PASSWORD)
        assert client.value("SELECT session_user") == "scram_user"
    assert int(server.value("SELECT count(*) FROM asked")) == 1


def test_auth_query_does_not_run_under_a_clients_settings(make_proxy, closing, make_postgres):
    """A client that is auth_user may set what it likes: the next auth_query on its link must not see it."""
    server = make_postgres()
    proxy = make_proxy(postgres=server, config={
        "auth": {**QUERY, "mode": "password", "auth_query": "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1"},
        "users": {"postgres": {"password": "x"}}, "proxy": {"workers": 1},
        "pool": {"mode": "transaction", "max_connections": 1}})
    client = closing(login(proxy, "postgres", "x", "postgres"))
    client.query("CREATE SCHEMA trap")
    client.query("CREATE TABLE trap.pg_authid (rolname text, rolpassword text)")
    client.query("INSERT INTO trap.pg_authid VALUES ('scram_user', 'mine')")
    client.query("SET search_path = trap, pg_catalog")
    client.query("SET ROLE app")
    assert refused(proxy, "scram_user", "mine").code == "28P01"
    assert closing(login(proxy, "scram_user", PASSWORD)).value("SELECT session_user") == "scram_user"
    assert client.value("SELECT current_user") == "app" and client.value("SHOW search_path") == "trap, pg_catalog"


# ---------------------------------------------------------------- whose secret opens the server

def test_users_table_opens_the_server(make_proxy, closing):
    """Trusted by the proxy, not by the server: the stored password is what the proxy logs in with."""
    proxy = make_proxy({"auth": {"mode": "trust"}, "users": {"scram_user": {"password": PASSWORD}}})
    assert closing(proxy.wire("scram_user")).value("SELECT session_user") == "scram_user"


def test_forced_user_whose_secret_is_in_the_users_table(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "scram"}, "databases": {"app": {"user": "scram_user"}},
                        "users": {"scram_user": {"password": PASSWORD}, "trust_user": {"password": "mine"}}})
    assert closing(login(proxy, "trust_user", "mine")).value("SELECT session_user") == "scram_user"
    assert refused(proxy, "trust_user", PASSWORD).code == "28P01"


def test_forced_password_with_the_clients_own_user(make_proxy, closing):
    proxy = make_proxy({"auth": {"mode": "trust"}, "databases": {"app": {"password": PASSWORD}}})
    for user in ("scram_user", "md5_user", "plain_user"):
        assert closing(proxy.wire(user)).value("SELECT session_user") == user


def test_a_client_cannot_hasten_login_retry(make_proxy, make_postgres):
    """A wrong stored password: who logs in again and again must not make the proxy try again and again."""
    proxy = make_proxy({"auth": {"mode": "scram"}, "users": {"scram_user": {"password": "wrong"}},
                        "pool": {"login_retry": "60s"}})
    for _ in range(5):
        assert refused(proxy, "scram_user", "wrong").code == "28P01"
    assert proxy.metric("links_opened_total") <= 2
