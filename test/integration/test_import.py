"""PgBouncer's configuration: a real PgBouncer and the proxy run with the very same file, and answer the same."""

import os
import pathlib
import re
import signal
import stat
import subprocess

import psycopg
import pytest
from conftest import remove_all
from harness import IniProxy, PgBouncer, ServerError, Wire, wait_until
from harness.pgbouncer import programs
from harness.postgres import PASSWORD
from harness.wire import Closed

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BINARY = os.environ.get("HELIOS_PROXY_BINARY", str(ROOT / "build/src/server/heliosdb-proxy"))
DEF = (ROOT / "src/import/pgbouncer.def").read_text(encoding="utf-8")
SETTINGS = re.findall(r"^PGB_(SETTING|DATABASE|USER)\((\w+),", DEF, re.M)
PROGRAMS = programs()
EVERY = (HERE / "data/every_setting.ini").read_text(encoding="utf-8")
NEWER = {"pool_idle_timeout": "900"}  # that no released PgBouncer has yet
OF_WINDOWS = "service_name = pool\n"


@pytest.fixture(scope="module")
def second(template):
    """Another server; its database app says so."""
    from harness import Postgres
    made = Postgres(template)
    try:
        made.start()
        with made.admin("app") as db:
            db.execute("CREATE TABLE only_here (x int)")
            db.execute("GRANT ALL ON only_here TO PUBLIC")
        with made.admin() as db:
            db.execute("CREATE DATABASE unlisted OWNER app")
        yield made
    finally:
        made.remove()


@pytest.fixture
def make_ini(postgres, second, certs):
    """make_ini(text, **files) is a proxy that is not started; @...@ in its files is filled in."""
    made = []

    def make(text, **files):
        proxy = IniProxy(BINARY)
        made.append(proxy)
        cert, key = (os.path.join(proxy.root, "tls." + end) for end in ("crt", "key"))
        for source, target in ((certs.server.cert, cert), (certs.server.key, key)):
            with open(source, "rb") as f, open(target, "wb") as to:
                to.write(f.read())
        values = {"PORT1": postgres.port, "PORT2": second.port, "SOCKET1": postgres.root, "CERT": cert, "KEY": key,
                  "CA": certs.ca}
        for name, content in {"pgbouncer.ini": text, **{n.replace("_", ".", 1): c for n, c in files.items()}}.items():
            for word, value in values.items():
                content = content.replace(f"@{word}@", str(value))
            proxy.write(name, content)
        return proxy

    yield make
    remove_all(made)


def run(*arguments, cwd=None, binary=BINARY):
    return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=60, cwd=cwd)


def secrets_of(server):
    """PgBouncer's users.txt with what the server itself has, so that SCRAM's keys open it."""
    rows = server.sql("SELECT rolname, rolpassword FROM pg_authid WHERE rolname IN ('scram_user', 'md5_user')")
    lines = [f'"{name}" "{secret}"' for name, secret in rows]
    return "\n".join(lines + ['"app" "plain"', '"app2" "plain"', f'"plain_user" "{PASSWORD}"']) + "\n"


GLOBAL = """
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = @LISTEN@
unix_socket_dir = @ROOT@
auth_type = md5
auth_file = users.txt
pool_mode = transaction
default_pool_size = 4
min_pool_size = 1
server_login_retry = 1
ignore_startup_parameters = extra_float_digits
client_tls_sslmode = allow
client_tls_cert_file = @CERT@
client_tls_key_file = @KEY@
"""

DATABASES = """
; two servers
[databases]
first = host=127.0.0.1 port=@PORT1@ dbname=app
second = host=127.0.0.1 port=@PORT2@ dbname=app
sessions = host=127.0.0.1 port=@PORT1@ dbname=app pool_mode=session
forced = host=127.0.0.1 port=@PORT1@ dbname=app user=plain_user password='%s'
known = host=127.0.0.1 port=@PORT1@ dbname=app user=plain_user
folder = host=@SOCKET1@ port=@PORT1@ dbname=app
ready = host=127.0.0.1 port=@PORT1@ dbname=app connect_query='SET application_name = ''it is ready'''
""" % PASSWORD

USERS = "[users]\napp2 = pool_mode=statement max_user_connections=5\n"

WHO = "SELECT current_database(), current_user, current_setting('port')"

# (user, password, database, more of the connection string, statements that are run in autocommit)
CASES = [
    ("app", "plain", "first", {}, [WHO]),
    ("app", "plain", "second", {}, [WHO, "SELECT count(*) FROM only_here"]),
    ("app", "plain", "first", {}, ["SELECT count(*) FROM only_here"]),
    ("app", "wrong", "first", {}, [WHO]),
    ("scram_user", PASSWORD, "first", {}, [WHO]),
    ("scram_user", "wrong", "first", {}, [WHO]),
    ("md5_user", PASSWORD, "first", {}, [WHO]),
    ("md5_user", "wrong", "first", {}, [WHO]),
    ("stranger", "plain", "first", {}, [WHO]),
    ("app", "plain", "forced", {}, [WHO]),
    ("app", "plain", "known", {}, [WHO]),
    ("app", "plain", "folder", {}, [WHO]),
    ("app", "plain", "nowhere", {}, [WHO]),
    ("app", "plain", "unlisted", {}, [WHO]),
    ("app", "plain", "first", {"sslmode": "require"}, [WHO]),
    ("app", "plain", "first", {"sslmode": "disable"}, [WHO]),
    ("app", "plain", "first", {"host": "@ROOT@"}, [WHO]),
    ("app", "plain", "first", {"options": "-c extra_float_digits=0"}, ["SHOW server_version_num"]),
    ("app", "plain", "sessions", {}, ["SET work_mem = '7MB'", "CREATE TEMP TABLE t (x int)", "INSERT INTO t VALUES (1)",
                                      "SELECT count(*) FROM t", "SHOW work_mem"]),
    ("app", "plain", "first", {}, ["BEGIN", "SELECT 1", "COMMIT", "SELECT 2"]),
    ("app2", "plain", "first", {}, ["SELECT 1", "BEGIN"]),
    ("app", "plain", "ready", {}, ["SELECT 1"]),
    ("app", "plain", "first", {"application_name": "somebody"}, ["SHOW application_name"]),
]


def ask(proxy, user, password, database, more, statements):
    """What a client sees: rows, or "refused", which the two say in words of their own."""
    more = {name: value.replace("@ROOT@", proxy.root) for name, value in more.items()}
    seen = []
    try:
        dsn = proxy.dsn(user, database, password=password, **more)
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as client:
            for statement in statements:
                done = client.execute(statement)
                seen.append(done.fetchall() if done.description else done.statusmessage)
    except psycopg.errors.UndefinedTable as e:
        seen.append(e.sqlstate)
    except psycopg.Error:
        seen.append("refused")
    return seen


def answers(proxy, version):
    """By the case, without those that PgBouncer learned only later: options."""
    return {f"{case[0]}/{case[1][:5]}@{case[2]} {case[3]} {case[4]}": ask(proxy, *case) for case in CASES
            if version >= (1, 20) or "options" not in case[3]}


@pytest.mark.skipif(not PROGRAMS, reason="there is no PgBouncer here")
@pytest.mark.parametrize("version", sorted(PROGRAMS))
@pytest.mark.parametrize("star", ["listed", "star"])
def test_both_answer_the_same(make_ini, postgres, version, star):
    databases = DATABASES + ("* = host=127.0.0.1 port=@PORT2@\n" if star == "star" else "")
    proxy = make_ini("%include databases.ini\n" + USERS + GLOBAL, databases_ini=databases,
                     users_txt=secrets_of(postgres))
    bouncer = PgBouncer(PROGRAMS[version], proxy).start()
    try:
        expected = answers(proxy, version)
    finally:
        bouncer.stop()
    assert sum("refused" not in seen for seen in expected.values()) > 10, expected
    proxy.start()
    assert answers(proxy, version) == expected


@pytest.mark.skipif(not PROGRAMS, reason="there is no PgBouncer here")
@pytest.mark.parametrize("version", sorted(PROGRAMS))
def test_rules_and_auth_query(make_ini, version):
    """auth_type = hba, and users that only the server knows."""
    proxy = make_ini("[databases]\n* = host=127.0.0.1 port=@PORT1@\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
                     "listen_port = @LISTEN@\nunix_socket_dir = @ROOT@\nauth_type = hba\nauth_hba_file = rules.conf\n"
                     "auth_user = postgres\nauth_file = users.txt\npool_mode = session\nserver_login_retry = 1\n",
                     users_txt='"postgres" ""\n"app" "plain"\n',
                     rules_conf="host all scram_user 127.0.0.1/32 scram-sha-256\nhost other app 127.0.0.1/32 reject\n"
                                "host all app 127.0.0.1/32 trust\nhost app md5_user 127.0.0.1/32 md5\n")
    cases = [("scram_user", PASSWORD, "app", {}, [WHO]), ("scram_user", "wrong", "app", {}, [WHO]),
             ("app", "whatever", "app", {}, [WHO]), ("app", "plain", "other", {}, [WHO]),
             ("md5_user", PASSWORD, "app", {}, [WHO]), ("md5_user", PASSWORD, "other", {}, [WHO]),
             ("plain_user", PASSWORD, "app", {}, [WHO]), ("stranger", PASSWORD, "app", {}, [WHO])]
    bouncer = PgBouncer(PROGRAMS[version], proxy).start()
    try:
        expected = [ask(proxy, *case) for case in cases]
    finally:
        bouncer.stop()
    assert [seen != ["refused"] for seen in expected] == [True, False, True, False, True, False, False, False]
    proxy.start()
    assert [ask(proxy, *case) for case in cases] == expected


# ---------------------------------------------------------------- the command

def import_to(proxy, *arguments):
    """(path of the TOML, what was said)"""
    path = os.path.join(proxy.root, "proxy.toml")
    done = run("import", "pgbouncer", proxy.config_path, "--output", path, *arguments, cwd=proxy.root)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return path, done.stderr


def printed(proxy, *arguments):
    done = run(*arguments, "--print-config", "--strict", cwd=proxy.root)
    assert done.returncode == 0, done.stderr
    return re.sub(r"#.*", "", done.stdout)


def test_result_is_what_the_proxy_runs_with(make_ini, postgres):
    proxy = make_ini("%include databases.ini\n" + USERS + GLOBAL, databases_ini=DATABASES, users_txt=secrets_of(postgres))
    path, said = import_to(proxy)
    assert "became [pool] max_connections = 4" in said
    assert PASSWORD not in said
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # there are passwords in it
    done = run("--check-config", "--strict", "--config", path, cwd=proxy.root)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert printed(proxy, "--config", path) == printed(proxy, "--pgbouncer", proxy.config_path)
    to_stdout = run("import", "pgbouncer", proxy.config_path, cwd=proxy.root)
    with open(path, encoding="utf-8") as f:
        assert to_stdout.stdout == f.read()


def test_a_file_is_not_replaced_unless_told(make_ini, postgres):
    proxy = make_ini("[databases]\n* = host=127.0.0.1\n" + GLOBAL, users_txt=secrets_of(postgres))
    path = proxy.write("proxy.toml", "mine")
    done = run("import", "pgbouncer", proxy.config_path, "--output", path)
    assert done.returncode == 1 and "--force" in done.stderr
    assert pathlib.Path(path).read_text(encoding="utf-8") == "mine"
    import_to(proxy, "--force")
    assert "[pool]" in pathlib.Path(path).read_text(encoding="utf-8")
    assert not [name for name in os.listdir(proxy.root) if name.startswith("proxy.toml.")]


@pytest.mark.parametrize("arguments", [[], ["pgbouncer"], ["odyssey", "x"], ["pgbouncer", "a", "b"], ["--what"]])
def test_wrong_usage(arguments):
    done = run("import", *arguments)
    assert done.returncode == 2 and done.stdout == ""


def test_wrong_files_have_no_result(make_ini):
    proxy = make_ini("[pgbouncer]\nlisten_port = many\npool_moed = session\nauth_type = pam\n")
    done = run("import", "pgbouncer", proxy.config_path)
    assert done.returncode == 1 and done.stdout == ""
    assert ":2: listen_port = many is wrong" in done.stderr
    assert "did you mean pool_mode?" in done.stderr
    assert ":4: auth_type = pam is wrong" in done.stderr
    for option in ("--check-config", "--print-config"):
        done = run("--pgbouncer", proxy.config_path, option)
        assert done.returncode == 1 and ":2: error: listen_port = many is wrong" in done.stderr
    assert run("import", "pgbouncer", proxy.root).returncode == 1
    assert run("import", "pgbouncer", os.path.join(proxy.root, "nothing.ini")).returncode == 1


@pytest.mark.skipif(not os.access("/etc/pgbouncer/pgbouncer.ini", os.R_OK), reason="the package's file is not here")
def test_debians_file():
    done = run("import", "pgbouncer", "/etc/pgbouncer/pgbouncer.ini")
    assert done.returncode == 0, done.stderr
    assert "0 is wrong" in done.stderr and "[proxy]" in done.stdout


# ---------------------------------------------------------------- every setting

def every(make_ini, postgres):
    return make_ini(EVERY, users_txt=secrets_of(postgres), ident_conf="m cn app\n",
                    hba_conf="host all all 127.0.0.1/32 md5\n")


def test_every_setting_stands_in_the_file():
    assert len(SETTINGS) > 120
    for table, name in SETTINGS:
        pattern = rf"^{name} =" if table == "SETTING" else rf"[= ]{name}="
        assert name in NEWER or re.search(pattern, EVERY, re.M), name


def test_every_setting_is_told_of(make_ini, postgres):
    proxy = every(make_ini, postgres)
    with open(proxy.config_path, "a", encoding="utf-8") as f:
        f.writelines(f"{name} = {value}\n" for name, value in NEWER.items())
    path, said = import_to(proxy)
    for table, name in SETTINGS:
        where = r"^\S+:\d+: " + ("" if table == "SETTING" else r"\[(databases|users)\] \w+: ")
        assert re.search(where + rf"{name} = .*(became|needs nothing|is not there in this version)", said, re.M), name
    assert "[peers] 2 is not there" in said
    done = run("--check-config", "--strict", "--config", path)
    assert done.returncode == 0, done.stderr
    assert printed(proxy, "--config", path) == re.sub(
        "#.*", "", run("--print-config", "--pgbouncer", proxy.config_path).stdout)


@pytest.mark.skipif(max(PROGRAMS, default=(0, 0)) < (1, 25), reason="there is no PgBouncer 1.25 here")
def test_every_setting_is_one_of_pgbouncers(make_ini, postgres):
    """So the file, and the table that is held against it, has no name that PgBouncer does not know."""
    proxy = every(make_ini, postgres)
    ini = pathlib.Path(proxy.config_path)
    ini.write_text(ini.read_text(encoding="utf-8").replace(OF_WINDOWS, ""), encoding="utf-8")
    bouncer = PgBouncer(PROGRAMS[max(PROGRAMS)], proxy)
    try:
        bouncer.start()
    finally:
        bouncer.stop()


def test_the_page_has_every_setting():
    page = (ROOT / "docs/reference/pgbouncer.md").read_text(encoding="utf-8")
    for table, name in SETTINGS:
        assert re.search(rf"^\| .*`{name}`", page, re.M), f"docs/reference/pgbouncer.md has no row for {name} ({table})"


# ---------------------------------------------------------------- running with it

def test_reload_and_replacement(make_ini, postgres):
    text = DATABASES + USERS + GLOBAL
    proxy = make_ini(text, users_txt=secrets_of(postgres))
    proxy.start()
    ini = pathlib.Path(proxy.config_path)
    changed = ini.read_text(encoding="utf-8").replace("default_pool_size = 4", "default_pool_size = 9")
    ini.write_text(changed + "max_packet_size = 1000000\n", encoding="utf-8")
    proxy.signal_reload()
    assert re.search(r"configuration changed.*max_connections.*4.*9", proxy.log())
    assert "max_packet_size = 1000000 is not there in this version" in proxy.log()
    ini.write_text(changed + "listen_port = many\n", encoding="utf-8")
    proxy.signal_reload()
    assert "configuration not reloaded" in proxy.log()
    ini.write_text(changed, encoding="utf-8")
    old = proxy.take_over()
    assert ask(proxy, "app", "plain", "second", {}, [WHO]) == [[("app", "app", str(ini_port(text, proxy)))]]
    wait_until(lambda: old.poll() is not None)
    assert old.returncode == 0


def ini_port(text, proxy):
    """The port of the database `second` in the file as it was written."""
    return re.search(r"^second = .*port=(\d+)", pathlib.Path(proxy.config_path).read_text(encoding="utf-8"), re.M)[1]


def test_without_admin_there_is_none(make_ini, postgres):
    """PgBouncer opens no second port, so neither does the proxy unless it is told to."""
    proxy = make_ini("[databases]\n* = host=127.0.0.1\n" + GLOBAL, users_txt=secrets_of(postgres))
    shown = run("--pgbouncer", proxy.config_path, "--print-config", cwd=proxy.root).stdout
    assert re.search(r'^admin_address = "" ', shown, re.M)
    shown = run("--pgbouncer", proxy.config_path, "--admin", "127.0.0.1:9191", "--print-config", cwd=proxy.root).stdout
    assert re.search(r'^admin_address = "127.0.0.1:9191"', shown, re.M)


def test_settings_of_pools_hold(make_ini, postgres, closing):
    """pool_size of the database: the second client waits, and is refused at query_wait_timeout."""
    proxy = make_ini("[databases]\nfirst = host=127.0.0.1 port=@PORT1@ dbname=app pool_size=1 query_wait_timeout=1\n" +
                     GLOBAL, users_txt=secrets_of(postgres))
    proxy.start()
    one = closing(psycopg.connect(proxy.dsn("app", "first", password="plain"), autocommit=True))
    two = closing(psycopg.connect(proxy.dsn("app", "first", password="plain"), autocommit=True))
    one.execute("BEGIN")
    with pytest.raises(psycopg.OperationalError):
        two.execute("SELECT 1")


def test_a_lifetime_of_nothing_is_one_use(make_ini, postgres, closing):
    """server_lifetime = 0: each transaction has a server connection of its own, as with PgBouncer."""
    proxy = make_ini("[databases]\nfirst = host=127.0.0.1 port=@PORT1@ dbname=app\n" + GLOBAL + "server_lifetime = 0\n",
                     users_txt=secrets_of(postgres))
    proxy.start()
    client = closing(psycopg.connect(proxy.dsn("app", "first", password="plain"), autocommit=True))
    pids = [client.execute("SELECT pg_backend_pid(), pg_sleep(0.01)").fetchone()[0] for _ in range(3)]
    assert len(set(pids)) == 3


def test_stopped_by_signal(make_ini, postgres):
    proxy = make_ini("[databases]\n* = host=127.0.0.1\n" + GLOBAL, users_txt=secrets_of(postgres))
    proxy.start()
    proxy.stop(signal.SIGINT)


@pytest.mark.skipif(not PROGRAMS, reason="there is no PgBouncer here")
@pytest.mark.parametrize("star", ["", "* = host=127.0.0.1 port=@PORT1@\n"])
def test_who_may_use_the_console(make_ini, postgres, star):
    """admin_users and stats_users, whatever other databases there are."""
    proxy = make_ini(DATABASES + star + GLOBAL + "admin_users = app, md5_user\nstats_users = scram_user\n",
                     users_txt=secrets_of(postgres))
    cases = [("app", "plain"), ("scram_user", PASSWORD), ("app2", "plain"), ("app", "wrong"), ("md5_user", PASSWORD)]
    bouncer = PgBouncer(PROGRAMS[max(PROGRAMS)], proxy).start()
    try:
        expected = [console(proxy, *case) for case in cases]
    finally:
        bouncer.stop()
    assert expected == [True, True, False, False, True]
    proxy.start()
    assert [console(proxy, *case) for case in cases] == expected


def console(proxy, user, password):
    try:
        with Wire(proxy.address) as client:
            client.login({"user": user, "database": "pgbouncer"}, password)
            return len(client.rows("SHOW DATABASES")) > 0
    except (ServerError, Closed):
        return False
