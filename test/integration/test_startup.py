"""The first packets of a connection: what is negotiated, what is learnt, what is refused."""

import struct

import pytest
from harness import ServerError, wait_until, wire
from harness.wire import PROTOCOL_3_2, Wire

pytestmark = pytest.mark.matrix

REPORTED = {"server_version", "server_encoding", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone",
            "integer_datetimes", "standard_conforming_strings", "is_superuser", "session_authorization",
            "application_name"}
APP = {"user": "app", "database": "app"}


def test_login_reports_what_the_server_reports(target):
    client = target.wire()
    direct = target.oracle()
    assert REPORTED <= set(client.parameters)
    assert client.parameters == direct.parameters
    assert client.backend_key and len(client.backend_key[1]) == 4
    assert client.status == "I"


@pytest.mark.parametrize("first, second", [("x", None), (None, "x"), ("x", "y"), ("x", "")])
def test_login_reports_ones_own_application_name(make_proxy, first, second):
    """What the server reports is learned from whoever logs in first: all but this."""
    proxy = make_proxy()
    for name in (first, second, first):
        client = proxy.wire(**({"application_name": name} if name is not None else {}))
        assert client.parameters["application_name"] == (name or "")
        client.close()


def test_backend_pid_is_positive(target):
    """Old pgjdbc doesn't cancel with a negative one."""
    for _ in range(20):
        assert 0 < target.wire().backend_key[0] < 1 << 31


@pytest.mark.proxy_only
def test_gssenc_is_refused_and_the_connection_goes_on(target):
    client = target.raw()
    assert client.gssenc_request() == b"N"
    client.login(APP)
    assert client.value("SELECT 1") == "1"


@pytest.mark.proxy_only
def test_gssenc_then_ssl_then_plain(target):
    client = target.raw()
    assert client.gssenc_request() == b"N"
    if client.ssl_request() == b"S":
        pytest.skip("TLS is on: the plain way is closed now")
    assert client.login(APP).value("SELECT 1") == "1"


def test_database_defaults_to_the_user(target):
    client = target.raw().login({"user": "app"})
    assert client.value("SELECT current_database()") == "app"


def test_user_is_needed(target):
    client = target.raw()
    client.startup({"database": "app"})
    (error,) = client.until_closed()
    assert (error.kind, error.code) == ("E", "28000")


def test_no_parameters_at_all(target):
    client = target.raw()
    client.startup({})
    (error,) = client.until_closed()
    assert (error.kind, error.code) == ("E", "28000")


@pytest.mark.parametrize("version", [(3, 2), (3, 1), (3, 7), (3, 9999)])
def test_newer_minor_version_is_negotiated(target, version):
    client = target.raw().login(APP, version=version)
    assert client.value("SELECT 1") == "1"
    if client.negotiated is None:
        assert version in ((3, 1), (3, 2)), "only what is spoken needs no negotiation"  # 3.1 as PostgreSQL 18
    else:
        assert client.negotiated[0] in (0, 2) and client.negotiated[1] == []


def test_unknown_protocol_options_are_listed(target):
    options = {**APP, "_pq_.test_protocol_negotiation": "1", "_pq_.x": ""}
    client = target.raw().login(options)
    assert client.negotiated is not None
    assert client.negotiated[1] == ["_pq_.test_protocol_negotiation", "_pq_.x"]
    assert client.value("SELECT 1") == "1"


@pytest.mark.proxy_only
def test_protocol_3_2_has_a_long_cancel_key(target):
    client = target.raw().login(APP, version=PROTOCOL_3_2)
    if client.negotiated is None:
        assert 4 < len(client.backend_key[1]) <= 256


@pytest.mark.proxy_only
def test_protocol_3_0_has_a_short_cancel_key(target):
    assert len(target.wire().backend_key[1]) == 4


@pytest.mark.parametrize("version", [(2, 0), (1, 0), (4, 0), (0, 0)])
def test_other_major_version_is_refused(target, version):
    client = target.raw()
    client.startup(APP, version=version)
    said = client.bytes_until_closed()
    assert said[:1] == b"E" and b"rotocol" in said  # to a client of protocol 2 PostgreSQL says it in protocol 2


def test_startup_parameters_are_set(target):
    client = target.wire(application_name="it's me", DateStyle="German", extra_float_digits="1",
                         search_path="pg_catalog, public", statement_timeout="54321", TimeZone="Asia/Tokyo")
    assert client.parameters["application_name"] == "it's me"
    assert client.parameters["DateStyle"] == "German, DMY"
    assert client.parameters["TimeZone"] == "Asia/Tokyo"
    assert client.value("SHOW application_name") == "it's me"
    assert client.value("SHOW extra_float_digits") == "1"
    assert client.value("SHOW search_path") == "pg_catalog, public"
    assert client.value("SHOW statement_timeout") == "54321ms"
    assert client.value("SELECT '2020-02-01'::date") == "01.02.2020"


def test_options_are_split_as_postgres_does(target):
    client = target.wire(options=r"-c statement_timeout=1234 --extra-float-digits=2 -cwork_mem=5MB "
                                 r"-c application_name=a\ b\\c -c geqo=off")
    assert client.value("SHOW statement_timeout") == "1234ms"
    assert client.value("SHOW extra_float_digits") == "2"
    assert client.value("SHOW work_mem") == "5MB"
    assert client.value("SHOW application_name") == r"a b\c"
    assert client.value("SHOW geqo") == "off"


def test_named_parameter_wins_over_options(target):
    direct = target.oracle(options="-c application_name=x", application_name="y").value("SHOW application_name")
    client = target.wire(options="-c application_name=x", application_name="y")
    assert client.value("SHOW application_name") == direct


def first_error(client):
    """The error of a login, or of the first query after it: a proxy may ask the server later than PostgreSQL does."""
    try:
        client.finish_login(APP)
        client.rows("SELECT 1")
    except ServerError as e:
        return e
    raise AssertionError("no error")


@pytest.mark.parametrize("parameters", [
    {"no_such_parameter": "1"},
    {"DateStyle": "nonsense"},
    {"work_mem": "lots"},
    {"client_encoding": "KLINGON"},
    {"max_connections": "3"},
    {"options": "-c no_such_parameter=1"},
    {"TimeZone": "Mars/Olympus"},
], ids=str)
def test_wrong_parameter_gives_the_servers_own_error(target, parameters):
    client, direct = target.raw(), Wire(target.postgres.address)
    direct.startup({**APP, **parameters})
    expected = first_error(direct)
    direct.socket.close()
    client.startup({**APP, **parameters})
    found = first_error(client)
    assert (found.code, found.message) == (expected.code, expected.message)


@pytest.mark.parametrize("options", ["--nonsense", "nonsense", "-c", "-x y", "-c =1", "--=1"])
def test_options_that_are_no_settings(target, options):
    client = target.raw()
    client.startup({**APP, "options": options})
    assert first_error(client).code in ("42601", "42704", "22023", "42602")


def test_a_wrong_parameter_of_one_client_leaves_others_alone(target):
    for _ in range(5):
        client = target.raw()
        client.startup({**APP, "work_mem": "lots"})
        first_error(client)
        assert target.wire().value("SELECT 1") == "1"


def test_utf8_in_startup_parameters(target):
    assert target.wire(application_name="plain").value("SHOW application_name") == "plain"
    direct = target.oracle(application_name="größe").value("SHOW application_name")
    assert target.wire(application_name="größe").value("SHOW application_name") == direct


def test_unknown_database(target):
    with pytest.raises(ServerError) as e:
        target.wire(database="no_such_database").value("SELECT 1")
    assert e.value.code == "3D000"
    assert "no_such_database" in e.value.message


def test_unknown_role(target):
    with pytest.raises(ServerError) as e:
        target.wire(user="no_such_role").value("SELECT 1")
    assert e.value.code in ("28000", "28P01")


def test_long_names(target):
    """A server cuts names to 63 bytes; whoever does it, the client must get an answer."""
    with pytest.raises(ServerError) as e:
        target.wire(database="d" * 500).value("SELECT 1")
    assert e.value.code == "3D000"


def test_packet_byte_by_byte(target):
    client = target.raw()
    for byte in wire.startup_packet(APP):
        client.send(bytes([byte]))
    client.finish_login(APP)
    assert client.value("SELECT 1") == "1"


def test_query_right_behind_the_startup_packet(target):
    """Nothing forbids a client without a password to pipeline."""
    client = target.raw()
    client.send(wire.startup_packet(APP), wire.query("SELECT 7"))
    client.finish_login(APP)
    assert wire.rows(client.until_ready()) == [["7"]]


@pytest.mark.parametrize("length", [0, 4, 7, 10005, 0x7fffffff, 0xffffffff])
def test_impossible_length_of_the_startup_packet(target, length):
    client = target.raw()
    client.send(struct.pack("!II", length, 196608))
    assert all(m.kind == "E" for m in client.until_closed())
    assert target.wire().value("SELECT 1") == "1"


@pytest.mark.parametrize("body", [b"", b"user", b"user\0", b"user\0app", b"user\0app\0", b"user\0app\0database\0\0x\0",
                                  b"\0\0\0"], ids=repr)
def test_malformed_startup_packet(target, body):
    client = target.raw()
    client.send(struct.pack("!II", len(body) + 8, 196608) + body)
    messages = client.until_closed()
    assert [m.kind for m in messages] in (["E"], [])
    assert target.wire().value("SELECT 1") == "1"


def test_large_but_legal_startup_packet(target):
    client = target.wire(application_name="x" * 60, options="-c search_path=" + ",".join(["public"] * 1200))
    assert client.value("SHOW search_path").count("public") == 1200


@pytest.mark.parametrize("value", ["database", "true"])
def test_replication_connection(target, value):
    client = target.wire(user="postgres", replication=value)
    (row,) = client.rows("IDENTIFY_SYSTEM")
    assert len(row) == 4
    assert row[3] == ("app" if value == "database" else None)


@pytest.mark.parametrize("value", ["false", "off", "0", "no"])
def test_replication_switched_off_is_none(target, value):
    assert target.wire(replication=value).value("SELECT 1") == "1"


def test_physical_replication_streams(target):
    """pg_receivewal's conversation: CopyBoth, until the client ends it."""
    client = target.wire(user="postgres", replication="true")
    ((_, timeline, position, _),) = client.rows("IDENTIFY_SYSTEM")
    client.send(wire.query(f"START_REPLICATION PHYSICAL {position} TIMELINE {timeline}"))
    assert client.read().kind == "W"
    target.postgres.sql("SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000)), pg_switch_wal()")
    data = client.read()
    assert data.kind == "d" and data.body[:1] in b"wk"
    client.send(wire.copy_done())
    messages = client.read_until("Z")
    assert "c" in wire.kinds(messages)


def test_terminate_before_anything(target):
    client = target.raw()
    client.close()
    assert target.wire().value("SELECT 1") == "1"


def test_ssl_request_twice(target):
    """PostgreSQL answers only the first; a second one is a protocol violation or refused. Never a hang."""
    client = target.raw()
    if client.ssl_request() == b"N":
        client.send(struct.pack("!II", 8, wire.SSL_REQUEST))
        client.socket.settimeout(5)
        assert client.socket.recv(1) in (b"E", b"N", b"")


def test_many_logins_one_after_the_other(target):
    for i in range(100):
        client = target.wire()
        assert client.value(f"SELECT {i}") == str(i)
        client.close()


@pytest.mark.parametrize("name", [b"gr\xc3\xb6\xc3\x9fe", b"\xff\xfe", b"tab\there", b"line\nfeed", b"\x7f", b"'quote\\"],
                         ids=repr)
def test_odd_application_name(target, name):
    """Whatever bytes these are, PostgreSQL cleans them; so must whoever sets the name later on."""
    direct = target.oracle(application_name=name)
    client = target.wire(application_name=name)
    for _ in range(2):
        assert client.value("SHOW application_name") == direct.value("SHOW application_name")
    assert client.parameters["application_name"] == direct.parameters["application_name"]


@pytest.mark.parametrize("name", [b"\xd0\x96" * 40, b"x" + b"\xe2\x82\xac" * 30, b"\x80" * 80, b"\xc3" * 70,
                                  b"\xf0" * 99, b"y" * 62 + b"\xc3\xa4"], ids=lambda name: repr(name[:4]))
def test_long_odd_application_name(target, name):
    """Cut between characters. (From 16 on SHOW has more of it than 63 bytes, which no statement can set.)"""
    seen = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    direct = target.oracle(application_name=name).value(seen)
    client = target.wire(application_name=name)
    assert client.value(seen) == direct
    assert client.parameters["application_name"].startswith(direct)


def test_odd_application_name_under_a_search_path(target, postgres, name):
    """What sets the name is not fooled by operators and functions of the client's own."""
    with postgres.admin("app") as db:
        db.execute(f"CREATE SCHEMA {name}")
        db.execute(f"GRANT USAGE ON SCHEMA {name} TO app")
        db.execute(f"CREATE FUNCTION {name}.wrong(int, int) RETURNS bool LANGUAGE SQL AS 'SELECT $1 >= $2'")
        db.execute(f"CREATE OPERATOR {name}.< (LEFTARG = int, RIGHTARG = int, FUNCTION = {name}.wrong)")
    odd, path = b"\xc3\xa4", f"{name}, pg_catalog"
    direct = target.oracle(application_name=odd).value("SHOW application_name")
    client, other = target.wire(application_name=odd, search_path=path), target.wire(search_path=path)
    for _ in range(2):
        assert other.value("SELECT 1 < 2") == "f"
        assert client.value("SHOW application_name") == direct
    with postgres.admin("app") as db:
        db.execute(f"DROP SCHEMA {name} CASCADE")


def same_as_direct(target, packet, sql=None):
    """The outcome of a startup packet: the error, or what a query gives."""
    found = []
    for client in (Wire(target.postgres.address), target.raw()):
        client.send(packet)
        try:
            client.finish_login(APP)
            found.append(client.value(sql or "SELECT 1"))
        except ServerError as e:
            found.append((e.code, e.message))
        client.socket.close()
    assert found[0] == found[1]
    return found[0]


def packet_of(pairs):
    body = b"".join(name.encode() + b"\0" + value.encode() + b"\0" for name, value in pairs) + b"\0"
    return struct.pack("!II", len(body) + 8, 196608) + body


PAIRS = [("user", "app"), ("database", "app")]


@pytest.mark.parametrize("name", ["a b", "No_Such_Parameter", "x.y", "My.Custom", "a'b", 'a"b', "1x", "x.", ".x", "x.y z",
                                  "n" * 70, "x." + "n" * 70, "USER", "-c", "\\"])
def test_names_that_are_odd(target, name):
    same_as_direct(target, packet_of(PAIRS + [(name, "1")]))


@pytest.mark.parametrize("pairs", [
    [("work_mem", "1MB"), ("work_mem", "2MB")],
    [("work_mem", "1MB"), ("WORK_MEM", "3MB")],
    [("work_mem", "1MB"), ("options", "-c work_mem=2MB")],
    [("options", "-c work_mem=4MB"), ("options", "-c geqo=off")],
    [("options", "-c work_mem=4MB -c work_mem=5MB")],
], ids=str)
def test_the_last_one_counts(target, pairs):
    same_as_direct(target, packet_of(PAIRS + pairs), "SHOW work_mem")


def test_the_last_user_counts(target):
    same_as_direct(target, packet_of([("user", "nobody"), *PAIRS, ("database", "other")]),
                   "SELECT session_user || current_database()")


@pytest.mark.parametrize("options", [r"-c search_path=a\ b", r"-c search_path=a\\b", "-c\tsearch_path=x", "-c search_path=",
                                     "--search-path=y", "-csearch_path=z", "  ", "-c search_path=a -c", "-c", "--",
                                     "--search_path", r"-c search_path=end\\", "-c search_path=end\\", "-c x=",
                                     "-c search_path='a=b'", "-c search_path=\x0bq"], ids=repr)
def test_every_escape_of_options(target, options):
    same_as_direct(target, packet_of(PAIRS + [("options", options)]), "SHOW search_path")


@pytest.mark.parametrize("value", ["x" * 63, "x" * 64, "y" * 3000])
def test_long_application_name(target, value):
    same_as_direct(target, packet_of(PAIRS + [("application_name", value)]), "SHOW application_name")


def test_many_parameters(target):
    pairs = PAIRS + [(f"my.parameter_{i}", f"value {i}") for i in range(120)]
    assert same_as_direct(target, packet_of(pairs), "SHOW my.parameter_119") == "value 119"


@pytest.mark.parametrize("value", ["maybe", "", "of", "of\xe9", "tr", "databas", "2"])
def test_replication_that_is_no_boolean(target, value):
    same_as_direct(target, packet_of([("user", "postgres"), ("database", "app"), ("replication", value)]),
                   "IDENTIFY_SYSTEM" if value == "tr" else None)


@pytest.mark.proxy_only
@pytest.mark.parametrize("name", ["ignore_system_indexes", "post_auth_delay", "log_connections"])
def test_what_only_a_beginning_connection_can_set_is_refused(target, name):
    """Server connections are shared: such a parameter would be set for somebody else."""
    with pytest.raises(ServerError) as e:
        target.wire(**{name: "1"}).rows("SELECT 1")
    assert e.value.code in ("55P02", "42501")


def test_logins_that_wait_together_are_told_their_own_parameters(make_proxy, closing):
    """The link that the later ones get has another's settings; that the server accepts theirs is known by then."""
    proxy = make_proxy({"proxy": {"workers": 1}, "pool": {"max_connections": 1}})
    holder = closing(proxy.wire(TimeZone="UTC"))
    holder.query("BEGIN")
    clients = []
    for zone in ("Asia/Tokyo", "Europe/Rome", "Asia/Tokyo", "Europe/Rome"):
        client = closing(Wire(proxy.address))
        client.startup({**APP, "TimeZone": zone})
        clients.append((client, zone))
        wait_until(lambda: proxy.metric("clients_waiting") == len(clients))
    holder.query("COMMIT")
    for client, zone in clients:
        client.finish_login(APP)
        assert client.parameters["TimeZone"] == zone
        assert client.value("SHOW TimeZone") == zone
    for _, zone in clients:
        assert closing(proxy.wire(TimeZone=zone)).parameters["TimeZone"] == zone
