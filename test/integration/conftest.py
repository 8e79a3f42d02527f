"""
Options and fixtures of the black-box suite. A test that takes `target` runs for each chosen target: `direct` is
PostgreSQL itself, the oracle that proves the test right; `session`, `transaction` and `statement` are the proxy in
that pool mode. `make_proxy` gives a proxy with a configuration of the test's own.
"""

import itertools
import os
import pathlib
import sys
import tempfile

import psycopg
import pytest

sys.path.insert(0, os.path.dirname(__file__))

from harness import Certificates, Gate, Postgres, Proxy, Wire  # noqa: E402
from harness.postgres import DEFAULT_BIN, Template  # noqa: E402

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("HELIOS_PROXY_BINARY", str(REPOSITORY / "build/src/server/heliosdb-proxy"))
MODES = ("session", "transaction", "statement")
TARGETS = {"direct": ("direct",), "proxy": MODES, "all": ("direct", *MODES), **{m: (m,) for m in MODES}}


def pytest_addoption(parser):
    parser.addoption("--target", default="proxy", help="direct, session, transaction, statement, proxy (all three "
                     "modes), all; a comma separates several")
    parser.addoption("--pg-bin", default=os.environ.get("HELIOS_PG_BIN", DEFAULT_BIN),
                     help="folder with initdb and postgres (scripts/get-postgres has some)")
    parser.addoption("--run-slow", action="store_true", help="also tests marked slow")


def chosen_targets(config):
    found = []
    for name in config.getoption("--target").split(","):
        if name not in TARGETS:
            raise pytest.UsageError(f"--target={name}: none of {', '.join(TARGETS)}")
        found += [t for t in TARGETS[name] if t not in found]
    return found


def pytest_configure(config):
    wanted = set(chosen_targets(config)) & set(MODES)
    if wanted and not os.access(BINARY, os.X_OK) and not config.option.collectonly:
        raise pytest.UsageError(f"no proxy at {BINARY}: build it, name it in HELIOS_PROXY_BINARY, or use "
                                "--target=direct")


def pytest_generate_tests(metafunc):
    fixture = next((f for f in ("target", "narrow") if f in metafunc.fixturenames), None)
    if fixture:
        targets = chosen_targets(metafunc.config)
        marker = metafunc.definition.get_closest_marker("modes")
        if marker:
            targets = [t for t in targets if t == "direct" or t in marker.args]
        if metafunc.definition.get_closest_marker("proxy_only"):
            targets = [t for t in targets if t != "direct"]
        metafunc.parametrize(fixture, targets, indirect=True)


def pytest_collection_modifyitems(config, items):
    targets = chosen_targets(config)
    for item in items:
        if "slow" in item.keywords and not config.getoption("--run-slow"):
            item.add_marker(pytest.mark.skip(reason="slow: --run-slow"))
        if "make_proxy" in item.fixturenames and not set(targets) & set(MODES):
            item.add_marker(pytest.mark.skip(reason="needs the proxy"))


# ---------------------------------------------------------------- servers

@pytest.fixture(scope="session")
def certs():
    with tempfile.TemporaryDirectory(prefix="hpit-certs-") as folder:
        os.chmod(folder, 0o755)
        yield Certificates(os.path.join(folder, "tls"))


@pytest.fixture(scope="session")
def template(request):
    made = Template(request.config.getoption("--pg-bin"))
    yield made
    made.remove()


@pytest.fixture(scope="session")
def postgres(template, certs):
    """The cluster that most tests share. Leave it as it was."""
    made = Postgres(template, certs=certs)
    try:
        yield made.start()
    finally:
        made.remove()


@pytest.fixture
def make_postgres(template):
    """Clusters of the test's own, to be broken."""
    made = []

    def make(settings=None, **kwargs):
        server = Postgres(template, settings, **kwargs)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.remove()


# ---------------------------------------------------------------- targets

class Target:
    """What a test talks to: PostgreSQL, or the proxy in front of it."""

    def __init__(self, name, postgres, proxy=None):
        self.name = name
        self.mode = None if name == "direct" else name
        self.postgres = postgres
        self.proxy = proxy
        self.clients = []

    @property
    def address(self):
        return self.proxy.address if self.proxy else self.postgres.address

    @property
    def shares_links(self):
        """Two transactions of a client may run on two server connections."""
        return self.name in ("transaction", "statement")

    def dsn(self, user="app", database="app", **more):
        host, port = self.address
        return psycopg.conninfo.make_conninfo(host=host, port=port, user=user, dbname=database, connect_timeout=60,
                                              **more)

    def connect(self, user="app", database="app", autocommit=True, prepare_threshold=5, **more):
        client = psycopg.connect(self.dsn(user, database, **more), autocommit=autocommit,
                                 prepare_threshold=prepare_threshold)
        self.clients.append(client)
        return client

    def raw(self):
        """A connection that hasn't said anything yet."""
        client = Wire(self.address)
        self.clients.append(client)
        return client

    def wire(self, user="app", database="app", password=None, version=(3, 0), **parameters):
        return self.raw().login({"user": user, "database": database, **parameters}, password, version)

    def oracle(self, **parameters):
        """The same, straight to PostgreSQL."""
        client = Wire(self.postgres.address)
        self.clients.append(client)
        return client.login({"user": "app", "database": "app", **parameters})

    def close_clients(self):
        clients, self.clients = self.clients, []
        for client in clients:
            try:
                client.close()
            except Exception:  # noqa: BLE001  a broken connection is what many tests are about
                pass


@pytest.fixture(scope="session")
def _targets(postgres):
    made = {}

    def get(name, links=20):
        key = name, links
        if key not in made:
            config = {"pool": {"mode": name, "max_connections": links}}
            proxy = None if name == "direct" else Proxy(BINARY, postgres, config).start()
            made[key] = Target(name, postgres, proxy)
        elif made[key].proxy and made[key].proxy.process.poll() is not None:
            Proxy.live.remove(made[key].proxy)
            made[key].proxy.start()  # it died: the test that saw it has failed, the others go on
        return made[key]

    yield get
    problems = []
    for target in made.values():
        target.close_clients()
        if target.proxy:
            try:
                target.proxy.remove()
            except AssertionError as e:
                problems.append(str(e))
    assert not problems, "\n".join(problems)


@pytest.fixture
def target(request, _targets):
    chosen = _targets(request.param)
    yield chosen
    chosen.close_clients()


@pytest.fixture
def narrow(request, _targets):
    """As target, but where links are shared there is only one of them: all clients run on it in turns."""
    chosen = _targets(request.param, 20 if request.param in ("direct", "session") else 1)
    yield chosen
    chosen.close_clients()


def remove_all(proxies):
    """All of them, also when one complains."""
    problems = []
    for proxy in proxies:
        try:
            proxy.remove()
        except AssertionError as e:
            problems.append(str(e))
    assert not problems, "\n".join(problems)


@pytest.fixture
def make_proxy(request, postgres):
    """make_proxy({"pool": {...}}, postgres=...) starts a proxy with a configuration of its own."""
    made = []

    def make(config=None, start=True, **kwargs):
        server = kwargs.pop("postgres", postgres)
        proxy = Proxy(BINARY, server, config, **kwargs)
        made.append(proxy)
        return proxy.start() if start else proxy

    yield make
    remove_all(made)


@pytest.fixture
def closing():
    """Closes what a test opens, at its end: c = closing(proxy.wire())."""
    opened = []

    def add(thing):
        opened.append(thing)
        return thing

    yield add
    for thing in reversed(opened):
        try:
            thing.close()
        except Exception:  # noqa: BLE001
            pass


@pytest.fixture
def gate(postgres, closing):
    """gate() makes one that queries wait at: see harness/gate.py."""
    def make():
        made = Gate(postgres)
        closing(made.holder)
        return made
    return make


_names = itertools.count(1)


@pytest.fixture
def name():
    """An identifier that no other test uses."""
    return f"t{os.getpid()}_{next(_names)}"


@pytest.fixture
def table(name, postgres):
    """A table (id int primary key, v text) of role app, with ten rows; everybody may do everything with it."""
    with postgres.admin("app") as db:
        db.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, v text)")
        db.execute(f"INSERT INTO {name} SELECT i, 'v' || i FROM generate_series(1, 10) i")
        db.execute(f"ALTER TABLE {name} OWNER TO app")
        db.execute(f"GRANT ALL ON {name} TO PUBLIC")
    yield name
    with postgres.admin("app") as db:
        db.execute("SET lock_timeout = '5s'")
        db.execute(f"DROP TABLE IF EXISTS {name}")


@pytest.hookimpl(hookwrapper=True)  # the old kind: Debian's pytest knows no other
def pytest_runtest_call(item):
    """A proxy that died or whose sanitizer spoke fails the test that ran at that time."""
    yield
    for proxy in list(Proxy.live):
        proxy.check_log()
        proxy.check_alive()
