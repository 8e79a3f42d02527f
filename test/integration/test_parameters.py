"""Session parameters: each client has its own, whichever link it runs on."""

import pytest
from harness import FakeServer, wait_until, wire
from harness.wire import errors, message, run, summary

pytestmark = pytest.mark.matrix

SETTINGS = [
    ("application_name", "'it''s \"me\"'", 'it\'s "me"'),
    ("search_path", "pg_catalog, public", "pg_catalog, public"),
    ("search_path", '"$user", "with space"', '"$user", "with space"'),
    ("search_path", "''", '""'),
    ("statement_timeout", "54321", "54321ms"),
    ("statement_timeout", "'2min'", "2min"),
    ("work_mem", "'7MB'", "7MB"),
    ("DateStyle", "'German'", "German, DMY"),
    ("DateStyle", "SQL, DMY", "SQL, DMY"),
    ("TimeZone", "'Asia/Tokyo'", "Asia/Tokyo"),
    ("IntervalStyle", "iso_8601", "iso_8601"),
    ("extra_float_digits", "-3", "-3"),
    ("standard_conforming_strings", "off", "off"),
    ("client_min_messages", "error", "error"),
    ("default_transaction_read_only", "on", "on"),
    ("default_transaction_isolation", "'serializable'", "serializable"),
    ("lock_timeout", "777", "777ms"),
    ("my.custom", "'hello'", "hello"),
    ("my.custom", "'back\\slash'", "back\\slash"),
    ("role", "pg_monitor", "pg_monitor"),
    ("bytea_output", "escape", "escape"),
    ("geqo", "off", "off"),
    ("seed_is_no_parameter.x", "'y'", "y"),
]


@pytest.fixture(autouse=True)
def may_set_role(postgres):
    postgres.sql("GRANT pg_monitor TO app")


@pytest.mark.parametrize("parameter,value,shown", SETTINGS, ids=[f"{p}={v}" for p, v, _ in SETTINGS])
def test_set_is_kept_for_its_client_only(narrow, parameter, value, shown):
    first, second = narrow.wire(), narrow.wire()
    unset = second.query(f"SHOW {parameter}")
    first.query(f"SET {parameter} = {value}") if parameter != "search_path" else \
        first.query(f"SET {parameter} TO {value}")
    for _ in range(3):
        assert first.value(f"SHOW {parameter}") == shown
        again = second.query(f"SHOW {parameter}")
        if errors(unset) == ["42704"] and not errors(again):
            assert wire.rows(again) == [[""]]  # a custom name stays known on a link, empty: as after RESET
        else:
            assert summary(again) == summary(unset)


def test_each_client_has_its_own_value(narrow):
    clients = [narrow.wire() for _ in range(8)]
    for i, client in enumerate(clients):
        client.query(f"SET work_mem = '{i + 1}MB'; SET application_name = 'client {i}'")
    for _ in range(3):
        for i, client in enumerate(clients):
            assert client.value("SHOW work_mem") == f"{i + 1}MB"
            assert client.rows("SELECT current_setting('application_name')") == [[f"client {i}"]]
            assert wire.rows(client.batch(run("SHOW work_mem"))) == [[f"{i + 1}MB"]]


@pytest.mark.parametrize("spelling", ["SET work_mem = '3MB'", "set WORK_MEM to '3MB'", "SET SESSION work_mem TO '3MB';",
                                      "/* c */ SET -- x\n work_mem\t=\n'3MB'", "SELECT 1; SET work_mem = '3MB'",
                                      "SET work_mem = '3MB'; SELECT 1", "SET \"work_mem\" = '3MB'",
                                      "SET work_mem = '9MB'; SET work_mem = '3MB'",
                                      "SELECT set_config('work_mem', '3MB', false)", "SET work_mem = 3072"])
@pytest.mark.parametrize("extended", [False, True])
def test_spellings_of_set(narrow, spelling, extended):
    if extended and ("; S" in spelling or spelling.startswith("SELECT 1;")):
        pytest.skip("one statement only")
    first, second = narrow.wire(), narrow.wire()
    messages = first.batch(run(spelling)) if extended else first.query(spelling)
    assert not errors(messages)
    for _ in range(2):
        assert second.value("SHOW work_mem") == "4MB"
        assert first.value("SHOW work_mem") == "3MB"


@pytest.mark.parametrize("statement,parameter,shown", [
    ("SET TIME ZONE 'Europe/Rome'", "TimeZone", "Europe/Rome"),
    ("SET TIME ZONE -7", "TimeZone", "<-07>+07"),
    ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", "TimeZone", "<-08>+08"),
    ("SET NAMES 'LATIN1'", "client_encoding", "LATIN1"),
    ("SET SCHEMA 'pg_catalog'", "search_path", "pg_catalog"),
    ("SET ROLE pg_monitor", "role", "pg_monitor"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "default_transaction_read_only", "on"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ", "default_transaction_isolation",
     "repeatable read"),
    ("SET XML OPTION DOCUMENT", "xmloption", "document"),
])
def test_special_forms_of_set(narrow, statement, parameter, shown):
    first, second = narrow.wire(), narrow.wire()
    default = second.value(f"SHOW {parameter}")
    assert not errors(first.query(statement))
    for _ in range(2):
        assert second.value(f"SHOW {parameter}") == default
        assert first.value(f"SHOW {parameter}") == shown


def test_failed_set_changes_nothing(narrow):
    first, second = narrow.wire(), narrow.wire()
    first.query("SET work_mem = '3MB'")
    assert errors(first.query("SET work_mem = 'lots'")) == ["22023"]
    assert len(errors(first.query("SET no_such_parameter = 1"))) == 1
    assert errors(first.query("SET work_mem = '8MB'; SELECT 1/0")) == ["22012"]
    for _ in range(2):
        assert second.value("SHOW work_mem") == "4MB"
        assert first.value("SHOW work_mem") == "3MB"


@pytest.mark.modes("session", "transaction")
def test_rollback_undoes(narrow):
    first, second = narrow.wire(), narrow.wire()
    first.query("SET work_mem = '3MB'")
    for end in ("ROLLBACK", "ABORT", "SELECT 1/0; COMMIT"):
        first.query("BEGIN")
        first.query("SET work_mem = '5MB'")
        assert first.value("SHOW work_mem") == "5MB"
        first.query(end)
        if first.status != "I":
            first.query("COMMIT")
        assert second.value("SHOW work_mem") == "4MB"
        assert first.value("SHOW work_mem") == "3MB"


@pytest.mark.modes("session", "transaction")
def test_commit_keeps(narrow):
    first, second = narrow.wire(), narrow.wire()
    first.query("BEGIN")
    first.query("SET work_mem = '5MB'")
    first.query("COMMIT")
    for _ in range(2):
        assert second.value("SHOW work_mem") == "4MB"
        assert first.value("SHOW work_mem") == "5MB"


@pytest.mark.modes("session", "transaction")
def test_chain_and_one_query_transactions(narrow):
    first, second = narrow.wire(), narrow.wire()
    first.query("BEGIN; SET work_mem = '5MB'; ROLLBACK")
    assert second.value("SHOW work_mem") == "4MB" and first.value("SHOW work_mem") == "4MB"
    first.query("BEGIN; SET work_mem = '5MB'; COMMIT AND CHAIN; SET work_mem = '6MB'; ROLLBACK")
    assert second.value("SHOW work_mem") == "4MB" and first.value("SHOW work_mem") == "5MB"
    first.query("BEGIN")
    first.query("SET work_mem = '7MB'")
    first.query("ROLLBACK AND CHAIN")
    first.query("SET work_mem = '8MB'")
    first.query("COMMIT")
    assert second.value("SHOW work_mem") == "4MB" and first.value("SHOW work_mem") == "8MB"


@pytest.mark.modes("session", "transaction")
def test_savepoints(narrow):
    first, second = narrow.wire(), narrow.wire()
    for text in ("BEGIN", "SET work_mem = '2MB'", "SAVEPOINT a", "SET work_mem = '3MB'", "SAVEPOINT b",
                 "SET work_mem = '5MB'", "ROLLBACK TO b"):
        first.query(text)
    assert first.value("SHOW work_mem") == "3MB"
    first.query("RELEASE b")
    first.query("SET work_mem = '6MB'")
    first.query("ROLLBACK TO SAVEPOINT a")
    assert first.value("SHOW work_mem") == "2MB"
    first.query("COMMIT")
    for _ in range(2):
        assert second.value("SHOW work_mem") == "4MB"
        assert first.value("SHOW work_mem") == "2MB"


@pytest.mark.modes("session", "transaction")
def test_savepoints_of_the_same_name(narrow):
    first, second = narrow.wire(), narrow.wire()
    for text in ("BEGIN", "SAVEPOINT a", "SET work_mem = '2MB'", 'SAVEPOINT "A"', "SAVEPOINT a", "SET work_mem = '3MB'",
                 "ROLLBACK TO a", "RELEASE a", "SET work_mem = '9MB'", "SELECT 1/0", "ROLLBACK TO A", "COMMIT"):
        first.query(text)
    assert second.value("SHOW work_mem") == "4MB"
    assert first.value("SHOW work_mem") == "4MB"


@pytest.mark.modes("session", "transaction")
def test_error_then_rollback_to(narrow):
    first, second = narrow.wire(), narrow.wire()
    for text in ("BEGIN", "SET work_mem = '2MB'", "SAVEPOINT a", "SET work_mem = '3MB'", "SELECT 1/0", "ROLLBACK TO a",
                 "COMMIT"):
        first.query(text)
    assert second.value("SHOW work_mem") == "4MB"
    assert first.value("SHOW work_mem") == "2MB"


@pytest.mark.modes("session", "transaction")
def test_set_local_ends_with_the_transaction(narrow):
    first, second = narrow.wire(), narrow.wire()
    first.query("SET work_mem = '3MB'")
    for end in ("COMMIT", "ROLLBACK"):
        first.query("BEGIN")
        first.query("SET LOCAL work_mem = '5MB'")
        first.query("SET LOCAL application_name = 'local'")
        assert first.value("SHOW work_mem") == "5MB"
        assert first.parameters["application_name"] == "local"
        first.query(end)
        assert first.parameters["application_name"] == ""
        assert second.value("SHOW work_mem") == "4MB"
        assert first.value("SHOW work_mem") == "3MB"
        assert first.value("SHOW application_name") == ""


@pytest.mark.modes("session", "transaction")
def test_set_then_set_local(narrow):
    """SET behind SET LOCAL in one transaction: the SET's value is what stays."""
    first, second = narrow.wire(), narrow.wire()
    for text in ("BEGIN", "SET LOCAL work_mem = '5MB'", "SET work_mem = '6MB'", "SET LOCAL work_mem = '7MB'", "COMMIT"):
        first.query(text)
    assert second.value("SHOW work_mem") == "4MB"
    assert first.value("SHOW work_mem") == "6MB"


def test_reset(narrow):
    first, second = narrow.wire(work_mem="2MB"), narrow.wire()
    first.query("SET work_mem = '3MB'; SET DateStyle = 'German'")
    for text in ("RESET work_mem", "SET work_mem TO DEFAULT"):
        first.query("SET work_mem = '3MB'")
        first.query(text)
        assert second.value("SHOW work_mem") == "4MB"
        assert first.value("SHOW work_mem") == "2MB", "a startup parameter is the session's default"
        assert first.value("SHOW DateStyle") == "German, DMY"


@pytest.mark.parametrize("text", ["RESET ALL", "DISCARD ALL"])
def test_reset_all(narrow, text):
    first, second = narrow.wire(work_mem="2MB", application_name="mine"), narrow.wire()
    first.query("SET work_mem = '3MB'; SET DateStyle = 'German'; SET application_name = 'other'")
    assert not errors(first.query(text))
    assert first.parameters["application_name"] == "mine"
    for _ in range(2):
        assert second.value("SHOW work_mem") == "4MB"
        assert first.value("SHOW work_mem") == "2MB"
        assert first.value("SHOW DateStyle") == "ISO, MDY"
        assert first.value("SHOW application_name") == "mine"


@pytest.mark.modes("session", "transaction")
def test_reset_that_rolls_back(narrow):
    first, second = narrow.wire(), narrow.wire()
    first.query("SET work_mem = '3MB'")
    first.query("BEGIN")
    first.query("RESET ALL")
    first.query("ROLLBACK")
    assert second.value("SHOW work_mem") == "4MB"
    assert first.value("SHOW work_mem") == "3MB"


def test_startup_parameters_are_kept_apart(narrow):
    first = narrow.wire(application_name="first", options="-c work_mem=2MB", TimeZone="Asia/Tokyo")
    second = narrow.wire(application_name="second", extra_float_digits="0")
    third = narrow.wire()
    for _ in range(3):
        assert first.rows("SELECT current_setting('application_name'), current_setting('work_mem'), "
                          "current_setting('TimeZone')") == [["first", "2MB", "Asia/Tokyo"]]
        assert second.rows("SELECT current_setting('application_name'), current_setting('work_mem'), "
                           "current_setting('extra_float_digits')") == [["second", "4MB", "0"]]
        assert third.rows("SELECT current_setting('application_name'), current_setting('extra_float_digits')") == \
            [["", "1"]]


def test_application_name_reaches_the_server(narrow):
    for name in ("one", "two", "ünï"[0:0] + "three"):
        client = narrow.wire(application_name=name)
        assert client.value("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()") == name


def test_client_encoding(narrow):
    """Converted by the server: a link that has another client's encoding would give other bytes."""
    latin, utf8 = narrow.wire(client_encoding="LATIN1"), narrow.wire()
    assert latin.parameters["client_encoding"] == "LATIN1"
    for _ in range(3):
        assert [m.values for m in latin.query("SELECT chr(228)") if m.kind == "D"] == [[b"\xe4"]]
        assert [m.values for m in utf8.query("SELECT chr(228)") if m.kind == "D"] == [[b"\xc3\xa4"]]
    utf8.query("SET client_encoding = 'LATIN9'")
    assert utf8.parameters["client_encoding"] == "LATIN9"
    assert [m.values for m in utf8.query("SELECT chr(8364)") if m.kind == "D"] == [[b"\xa4"]]
    assert [m.values for m in latin.query("SELECT chr(228)") if m.kind == "D"] == [[b"\xe4"]]


def test_parameter_status_comes_with_the_change(narrow):
    first, second = narrow.wire(), narrow.wire()
    first.query("SET application_name = 'told'; SET TimeZone = 'Europe/Rome'")
    assert first.parameters["application_name"] == "told" and first.parameters["TimeZone"] == "Europe/Rome"
    for _ in range(3):
        second.query("SELECT 1")
        assert second.parameters["application_name"] == "" and second.parameters["TimeZone"] == "UTC"
        first.query("SELECT 1")
        assert first.parameters["application_name"] == "told" and first.parameters["TimeZone"] == "Europe/Rome"


def test_no_parameter_status_that_the_client_did_not_cause(narrow):
    """What the proxy puts onto a link for one client is told to nobody."""
    first, second = narrow.wire(), narrow.wire()
    second.query("SELECT 1")  # what the server's own defaults have become since it logged in is told now
    first.query("SET application_name = 'mine'")
    for _ in range(3):
        second.send(wire.query("SELECT 1"))
        messages = []
        while not messages or messages[-1].kind != "Z":
            messages.append(second.read_raw())
        assert wire.kinds(messages) == "TDCZ", messages
        first.query("SELECT 1")


@pytest.mark.modes("session", "transaction")
def test_role_and_session_authorization(narrow):
    first, second = narrow.wire(user="postgres"), narrow.wire(user="postgres")
    first.query("SET ROLE app2")
    for _ in range(2):
        assert second.rows("SELECT current_user, session_user") == [["postgres", "postgres"]]
        assert first.rows("SELECT current_user, session_user") == [["app2", "postgres"]]
    first.query("RESET ROLE")
    first.query("SET SESSION AUTHORIZATION app")
    for _ in range(2):
        assert second.rows("SELECT current_user, session_user") == [["postgres", "postgres"]]
        assert first.rows("SELECT current_user, session_user") == [["app", "app"]]
    assert first.parameters["session_authorization"] == "app" and first.parameters["is_superuser"] == "off"
    first.query("RESET SESSION AUTHORIZATION")
    for _ in range(2):
        assert second.value("SELECT current_user") == "postgres"
        assert first.value("SELECT current_user") == "postgres"


def test_statement_timeout_is_the_clients_own(narrow):
    hasty, patient = narrow.wire(), narrow.wire()
    hasty.query("SET statement_timeout = '500ms'")  # the proxy's own SETs on that link run under it, too
    for _ in range(2):
        assert errors(patient.query("SELECT pg_sleep(0.6)")) == []
        assert errors(hasty.query("SELECT pg_sleep(10)")) == ["57014"]


def test_read_only_is_not_left_behind(narrow, table):
    reader, writer = narrow.wire(), narrow.wire()
    reader.query("SET default_transaction_read_only = on")
    assert errors(reader.query(f"INSERT INTO {table} VALUES (100, 'x')")) == ["25006"]
    assert errors(writer.query(f"INSERT INTO {table} VALUES (101, 'x')")) == []


def test_search_path_of_pg_dump_poisons_nobody(narrow, table):
    dump, other = narrow.wire(), narrow.wire()
    dump.query("SELECT pg_catalog.set_config('search_path', '', false)")
    for _ in range(2):
        assert other.value(f"SELECT count(*) FROM {table}") == "10"
        assert errors(dump.query(f"SELECT count(*) FROM {table}")) == ["42P01"]


def test_nothing_is_left_of_a_client_that_went(narrow):
    for i in range(3):
        client = narrow.wire(application_name=f"gone {i}", options="-c work_mem=2MB")
        client.query("SET statement_timeout = '20s'; SET my.custom = 'x'; SET ROLE pg_monitor")
        client.close()
        other = narrow.wire()
        assert other.rows("SELECT current_setting('application_name'), current_setting('work_mem'), "
                          "current_setting('statement_timeout'), coalesce(current_setting('my.custom', true), ''), "
                          "current_user") == [["", "4MB", "0", "", "app"]]
        other.close()


def test_long_values(narrow):
    """Longer than any buffer that a proxy might think is enough."""
    first, second = narrow.wire(), narrow.wire()
    path = ", ".join(f"schema_{i}" for i in range(500))
    value = "v'\\" * 5000
    first.query(f"SET search_path = {path}")
    first.query("SET my.long = '" + value.replace("'", "''") + "'")
    for _ in range(2):
        assert second.value("SHOW search_path") == '"$user", public'
        assert first.value("SHOW search_path") == path
        assert first.value("SHOW my.long") == value


def test_many_parameters(narrow):
    first, second = narrow.wire(), narrow.wire()
    for i in range(100):
        first.query(f"SET my.p{i} = 'v{i}'")
    for _ in range(2):
        second.query("SELECT 1")
        assert first.value("SELECT current_setting('my.p0') || current_setting('my.p99')") == "v0v99"


def test_set_with_string_syntax_of_the_session(narrow):
    """With standard_conforming_strings off a backslash escapes: the proxy must not read it another way."""
    first, second = narrow.wire(), narrow.wire()
    first.query("SET standard_conforming_strings = off; SET escape_string_warning = off")
    first.query("SET my.a = 'x\\'; SET work_mem = ''9MB'' --'")
    for _ in range(2):
        assert second.value("SHOW work_mem") == "4MB"
        assert first.value("SHOW work_mem") == "4MB"


def test_ignored_startup_parameters(make_proxy, closing):
    proxy = make_proxy({"pool": {"ignore_startup_parameters": ["no_such_parameter", "extra_float_digits"]}})
    client = closing(proxy.wire(no_such_parameter="1", extra_float_digits="3"))
    assert client.value("SHOW extra_float_digits") == "1"


def test_tracked_parameters_changed_by_a_function(make_proxy, closing, postgres, name):
    postgres.sql(f"CREATE FUNCTION {name}() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM "
                 "set_config('work_mem', '9MB', false); END $$", database="app")
    proxy = make_proxy({"pool": {"max_connections": 1, "track_parameters": ["work_mem"]}})
    first, second = closing(proxy.wire()), closing(proxy.wire())
    first.query(f"SELECT {name}()")
    for _ in range(2):
        assert second.value("SHOW work_mem") == "4MB"
        assert first.value("SHOW work_mem") == "9MB"


def test_reported_parameter_changed_by_a_function(narrow, name):
    """ParameterStatus tells of it, wherever it came from."""
    narrow.postgres.sql(f"CREATE FUNCTION {name}() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM "
                        "set_config('application_name', 'by function', false); END $$", database="app")
    first, second = narrow.wire(), narrow.wire()
    first.query(f"SELECT {name}()")
    assert first.parameters["application_name"] == "by function"
    for _ in range(2):
        assert second.value("SHOW application_name") == ""
        assert first.value("SHOW application_name") == "by function"


def test_many_clients_with_settings_of_their_own_on_one_link(make_proxy, closing):
    """More settings than a worker remembers the server has accepted: each client keeps the link that they were put on."""
    proxy = make_proxy({"proxy": {"workers": 1}, "pool": {"max_connections": 1}})
    clients = [closing(proxy.wire()) for _ in range(100)]
    for i, client in enumerate(clients):
        client.query(f"SET my.number = '{i}'")
    for _ in range(2):
        clients[0].query("BEGIN")
        for client in clients[1:]:
            client.send(wire.query("SELECT current_setting('my.number')"))
        wait_until(lambda: proxy.metric("clients_waiting") == len(clients) - 1)
        clients[0].query("COMMIT")
        for i, client in enumerate(clients[1:], 1):
            assert wire.rows(client.until_ready()) == [[str(i)]]


def test_parameters_cost_no_round_trip_when_equal(make_proxy, closing):
    proxy = make_proxy({"pool": {"max_connections": 1}})
    clients = [closing(proxy.wire(application_name="same", extra_float_digits="2")) for _ in range(5)]
    for client in clients:
        client.query("SELECT 1")
    before = proxy.metric("parameter_syncs_total")
    for _ in range(5):
        for client in clients:
            client.query("SELECT 1")
    assert proxy.metric("parameter_syncs_total") == before


def test_error_of_a_parameter_that_became_wrong(narrow, closing, name):
    """A role that was dropped or revoked meanwhile: the client is told so once, and others are not disturbed. It can't go on:
    its settings stand in front of all it sends, of RESET ROLE, too. Who has a server connection of its own can."""
    for end, code in ((f"REVOKE {name} FROM app", "42501"), (f"DROP ROLE {name}", "22023")):
        narrow.postgres.sql(f"DROP ROLE IF EXISTS {name}; CREATE ROLE {name}; GRANT {name} TO app")
        first, second = closing(narrow.wire()), closing(narrow.wire())
        first.query(f"SET ROLE {name}")
        second.query("SELECT 1")
        narrow.postgres.sql(end)
        if narrow.shares_links:
            first.send(wire.query("RESET ROLE"))
            messages = first.until_closed()
            assert [(m.code, m.fields["S"]) for m in messages if m.kind == "E"] == [(code, "FATAL")]
        else:  # it stays where it is, and nothing is set again
            assert not errors(first.query("RESET ROLE"))
        assert second.value("SELECT current_user") == "app"
        assert closing(narrow.wire()).value("SELECT current_user") == "app"


def test_messages_that_may_come_at_any_time(make_proxy, closing):
    """ParameterStatus and NoticeResponse before, between and behind the messages of an answer: in place, none lost."""
    status = [message("S", b"DateStyle\0" + value + b"\0") for value in (b"SQL, DMY", b"German, DMY", b"ISO, MDY")]
    notice = message("N", b"SNOTICE\0VNOTICE\0C00000\0Mlisten\0\0")
    answer = FakeServer.answer()
    cuts = [0]
    while cuts[-1] < len(answer):
        cuts.append(cuts[-1] + 1 + int.from_bytes(answer[cuts[-1] + 1:cuts[-1] + 5], "big"))
    described, row, complete, ready = (answer[a:b] for a, b in zip(cuts, cuts[1:]))

    def serve(kind, body, reply):
        if kind == "Q":
            reply(status[0] + notice + described + notice + row + status[1] + notice + complete + status[2] + ready)

    fake = FakeServer(serve)
    try:
        client = closing(make_proxy(postgres=fake).wire())
        for _ in range(3):
            client.send(wire.query("SELECT 1"))
            messages = []
            while not messages or messages[-1].kind != "Z":
                messages.append(client.read_raw())
            assert wire.kinds(messages) == "SNTNDSNCSZ"
            assert [m.strings[1] for m in messages if m.kind == "S"] == ["SQL, DMY", "German, DMY", "ISO, MDY"]
    finally:
        fake.close()


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_parameter_status_of_a_reload_of_the_server(make_proxy, closing, make_postgres, mode):
    """The default changes under clients that are connected: they see it, and are told."""
    server = make_postgres()
    proxy = make_proxy({"pool": {"mode": mode, "max_connections": 1}}, postgres=server)
    client = closing(proxy.wire())
    assert client.value("SHOW DateStyle") == client.parameters["DateStyle"] == "ISO, MDY"
    server.sql("ALTER SYSTEM SET DateStyle = 'SQL, DMY'")
    server.sql("SELECT pg_reload_conf()")
    wait_until(lambda: client.value("SHOW DateStyle") == "SQL, DMY")
    assert client.parameters["DateStyle"] == "SQL, DMY"
    client.query("SET DateStyle = 'German'")
    assert client.value("SHOW DateStyle") == "German, DMY"
    client.query("RESET DateStyle")
    assert client.value("SHOW DateStyle") == client.parameters["DateStyle"] == "SQL, DMY"
