"""The proxy under test: started on locked ports from a configuration given as a dict, watched, and stopped."""

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import psycopg

from .ports import lease_port
from .wait import PATIENCE, wait_until
from .wire import Wire

REPORTS = re.compile(r"ERROR: AddressSanitizer|runtime error:|WARNING: ThreadSanitizer|LeakSanitizer|"
                     r"Assertion .* failed|ERROR: libFuzzer|stack smashing detected")


PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class SanitizerReport(AssertionError):
    pass


def toml(config):
    """A dict as TOML: dicts are tables, lists of dicts are arrays of tables."""
    plain, tables = [], []

    def literal(value):
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (int, float)):
            return str(value)
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(literal(v) for v in value) + "]"
        return json.dumps(str(value), ensure_ascii=False)

    def key(name):
        return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)

    def walk(table, path, to):
        for name, value in table.items():
            if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
                continue
            to.append(f"{key(name)} = {literal(value)}")
        for name, value in table.items():
            inner = path + [key(name)]
            if isinstance(value, dict):
                tables.append("\n[" + ".".join(inner) + "]")
                walk(value, inner, tables)
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                for each in value:
                    tables.append("\n[[" + ".".join(inner) + "]]")
                    walk(each, inner, tables)

    walk(config, [], plain)
    return "\n".join(plain + tables) + "\n"


def merge(base, changes):
    """base with changes laid over it, table by table. None takes a key away."""
    result = dict(base)
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = merge(result[name], value)
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def settings_for_all():
    """HELIOS_TEST_SET, "pool.share=autocommit pool.share_depth=4": a suite with other defaults. Values are TOML, or
    strings without their quotes."""
    settings = {}
    for each in os.environ.get("HELIOS_TEST_SET", "").split():
        path, _, value = each.partition("=")
        table, key = path.rsplit(".", 1)
        typed = value == "true" if value in ("true", "false") else int(value) if value.isdigit() else value
        settings = merge(settings, {table: {key: typed}})
    return settings


class Adopted:
    """A process that we didn't start ourselves: as subprocess.Popen, as far as it is used here."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)  # ours once its parent is gone: we are the subreaper
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            except ChildProcessError:
                if not os.path.exists(f"/proc/{self.pid}"):
                    self.returncode = 0  # another's child: how it ended isn't known
        return self.returncode

    def wait(self, timeout=None):
        deadline = time.monotonic() + (timeout or 3600)
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return self.returncode


class Proxy:
    """
    config is laid over a default that listens on a port of its own with two workers, trusts its clients, lets them
    wait for links, and has the given server as its only node. Its clock can be moved (advance), so no test waits for a
    time-out; it does not stand still either: a slow machine needs many seconds between two steps.
    """

    live = []  # all that run now, for the check of logs after each test

    def __init__(self, binary, postgres=None, config=None, clock=True, env=None, nofile=None, arguments=()):
        self.binary = binary
        self.postgres = postgres
        self.leases = [lease_port(), lease_port()]
        self.port, self.admin_port = (lease.port for lease in self.leases)
        self.root = tempfile.mkdtemp(prefix="hpit-proxy-")
        os.chmod(self.root, 0o755)
        self.config_path = os.path.join(self.root, "proxy.toml")
        self.log_path = os.path.join(self.root, "log")
        self.clock = clock
        self.env = dict(os.environ, **(env or {}))
        self.nofile = nofile
        self.arguments = list(arguments)
        self.process = None
        self.expects_failure = False  # a test that kills it says so
        self._scanned = 0
        base = {
            "proxy": {"listen_address": f"127.0.0.1:{self.port}", "admin_address": f"127.0.0.1:{self.admin_port}",
                      "workers": 2},
            "pool": {"mode": "transaction", "max_connections": 20, "query_wait_timeout": "300s"},
            "auth": {"mode": "trust"},
        }
        if os.environ.get("HELIOS_TEST_IO"):  # which back end all proxies run with; else what they choose
            base["proxy"]["io"] = os.environ["HELIOS_TEST_IO"]
        if postgres is not None:
            base["nodes"] = [self.node(postgres)]
        self.config = merge(merge(base, settings_for_all()), config or {})

    @staticmethod
    def node(address, role="primary", **more):
        """An entry of [[nodes]] for a Postgres, a FakeServer, a Relay, or (host, port)."""
        host, port = getattr(address, "address", address)
        return {"host": host, "port": port, "role": role, **more}

    # -- life

    def write_config(self):
        with open(self.config_path, "w", encoding="utf-8") as f:
            f.write(toml(self.config))
        return self.config_path

    def command(self):
        return [self.binary, "--config", self.config_path, *(["--test-clock"] if self.clock else []), *self.arguments]

    def spawn(self):
        """Starts the process and doesn't wait for anything."""
        self.write_config()

        def limit():
            if self.nofile:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.nofile, self.nofile))

        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            cwd=self.root, env=self.env, preexec_fn=limit if self.nofile else None)
        return self

    def start(self):
        self.spawn()
        Proxy.live.append(self)
        wait_until(self._is_ready, 30, lambda: "the proxy doesn't become ready:\n" + self.log()[-4000:])
        return self

    def _is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the proxy ended with {self.process.returncode}:\n{self.log()[-4000:]}")
        try:
            return self.admin("/readyz")[0] == 200
        except OSError:
            return False

    def take_over(self):
        """SIGUSR2: waits for the successor and watches that one from now on. Returns the predecessor's process."""
        old, before = self.process, len(self.log())
        old.send_signal(signal.SIGUSR2)
        pid = wait_until(lambda: re.search(r"next_pid\D+(\d+)", self.log()[before:]), 20,
                         lambda: "no successor:\n" + self.log()[-4000:])[1]
        self.process = Adopted(int(pid))
        wait_until(lambda: "next process serves" in self.log()[before:], 20,
                   lambda: "the successor doesn't serve:\n" + self.log()[-4000:])
        return old

    def _family(self):
        """All processes that run with this configuration file."""
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/cmdline", "rb") as f:
                        words = f.read().split(b"\0")
                    with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as f:
                        zombie = f.read().rpartition(")")[2].split()[0] == "Z"
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if self.config_path.encode() in words and not zombie:
                    yield int(entry)

    def stop(self, number=signal.SIGTERM, timeout=20, expected=0):
        """Ends it and checks how it ended."""
        if self in Proxy.live:
            Proxy.live.remove(self)
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(number)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("the proxy doesn't end:\n" + self.log()[-4000:]) from None
        self.check_log()
        if not self.expects_failure:
            assert code == expected, f"the proxy ended with {code}:\n{self.log()[-4000:]}"

    def wait_end(self, expected=0, timeout=60):
        """It ends by itself (or was told to, by a signal that the test has sent)."""
        wait_until(lambda: self.process.poll() is not None, timeout,
                   lambda: "the proxy doesn't end:\n" + self.log()[-4000:])
        self.stop(expected=expected)

    def remove(self):
        try:
            self.stop()
        finally:
            for pid in self._family():
                os.kill(pid, signal.SIGKILL)
            for lease in self.leases:
                lease.release()
            if not os.environ.get("HELIOS_TEST_KEEP"):
                shutil.rmtree(self.root, ignore_errors=True)

    def reload(self, changes=None):
        """Writes the changed configuration, sends SIGHUP, and waits until it is in force (or was refused)."""
        if changes:
            self.config = merge(self.config, changes)
        self.write_config()
        self.signal_reload()

    def signal_reload(self):
        before = len(self.log())
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: re.search(r"configuration (not )?reloaded", self.log()[before:]), 20,
                   "no log line tells of the reload")
        self.settle()

    def settle(self):
        """Every worker has handled what was posted to it before now, such as a reload."""
        wait_until(lambda: self.json("/sessions?limit=0")["workers_late"] == 0)

    # -- looking at it

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def log_lines(self):
        """Those that are whole: the last one may just be written."""
        return self.log().rpartition("\n")[0].splitlines()

    def wait_log(self, pattern, timeout=60):
        return wait_until(lambda: re.search(pattern, self.log()), timeout,
                          lambda: f"{pattern!r} is not in the log:\n{self.log()[-4000:]}")

    def check_log(self):
        """Raises when a sanitizer has reported something since the last call."""
        text = self.log()
        fresh, self._scanned = text[self._scanned:], len(text)
        found = REPORTS.search(fresh)
        if found:
            raise SanitizerReport(fresh[max(0, found.start() - 200):found.start() + 6000])

    def check_alive(self):
        if self.process is not None and not self.expects_failure and self.process.poll() is not None:
            raise AssertionError(f"the proxy died ({self.process.returncode}):\n{self.log()[-6000:]}")

    def admin(self, path, method="GET", token=None, body=None):
        """(status, text) of a request to the admin address."""
        https = "tls_cert_path" in self.config.get("admin", {})
        request = urllib.request.Request(f"http{'s' if https else ''}://127.0.0.1:{self.admin_port}{path}",
                                         method=method, data=body)
        token = token or self.config["proxy"].get("admin_token")
        if token:
            request.add_header("Authorization", "Bearer " + token)
        try:
            context = ssl._create_unverified_context() if https else None
            with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def json(self, path):
        status, text = self.admin(path)
        assert status == 200, f"{path}: {status} {text}"
        return json.loads(text)

    def is_live(self):
        try:
            return self.admin("/livez")[0] == 200
        except OSError:
            return False

    def open_links(self):
        return self.metric("links_opened_total") - self.metric("links_closed_total")

    def pools(self):
        found = self.json("/pools")
        return found if isinstance(found, list) else found["pools"]

    def sessions(self):
        found = self.json("/sessions")
        return found if isinstance(found, list) else found["sessions"]

    def metrics(self):
        """{(name without heliosdb_proxy_, frozenset of labels): value}"""
        status, text = self.admin("/metrics")
        assert status == 200
        found = {}
        for line in text.splitlines():
            if not line or line.startswith("#"):
                continue
            m = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\d+)?", line)
            assert m, f"not Prometheus text: {line!r}"
            labels = frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m[2] or ""))
            found[m[1].removeprefix("heliosdb_proxy_"), labels] = float(m[3])
        return found

    def metric(self, name, **labels):
        """Sum of the series of that name that have these labels. A name that isn't there is an error."""
        wanted = set(labels.items())
        name = name.removeprefix("heliosdb_proxy_")
        found = [value for (each, has), value in self.metrics().items() if each == name and wanted <= has]
        assert found, f"no metric {name} {labels}"
        return sum(found)

    def advance(self, seconds, stuck=False):
        """Moves the proxy's clock. What is due by then has run, unless a worker is stuck and the test says so."""
        status, text = self.admin(f"/debug/clock?advance_ms={int(seconds * 1000)}", method="POST", body=b"")
        assert status == 200, f"the clock doesn't move: {status} {text}"
        if not json.loads(text)["settled"] and not stuck:  # it was late; after three turns it has run its timers
            for _ in range(3):
                self.settle()

    def advance_until(self, condition, step, limit=1000, timeout=60):
        """Moves the clock in steps until the condition holds (timers may be armed anew by what happens)."""
        deadline = time.monotonic() + timeout
        moved = 0
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < deadline, "not within the time"
            if moved < limit:
                self.advance(step)
                moved += step
            time.sleep(0.01)

    @property
    def measures_memory(self):
        """A sanitizer keeps what is freed: then VmRSS says nothing."""
        with open(self.binary, "rb") as f:
            return not re.search(rb"__(asan|tsan|msan)_init", f.read())

    def rss(self):
        """Bytes resident now."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    # -- using it

    @property
    def address(self):
        return "127.0.0.1", self.port

    def dsn(self, user="app", database="app", **more):
        pairs = {"host": "127.0.0.1", "port": self.port, "user": user, "dbname": database, "connect_timeout": 20,
                 **more}
        return psycopg.conninfo.make_conninfo(**pairs)

    def connect(self, user="app", database="app", autocommit=True, **more):
        prepare = more.pop("prepare_threshold", 5)
        return psycopg.connect(self.dsn(user, database, **more), autocommit=autocommit, prepare_threshold=prepare)

    def wire(self, user="app", database="app", password=None, version=(3, 0), **parameters):
        client = Wire(self.address)
        try:
            return client.login({"user": user, "database": database, **parameters}, password, version)
        except BaseException:
            client.socket.close()
            raise
