"""Processes of a benchmark: started as an unprivileged user, watched, accounted for, and ended by their own id."""

import os
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("HELIOS_PG_BIN", "/usr/lib/postgresql/15/bin")


class Failed(Exception):
    """This measurement, or this target, came to nothing; the others go on."""


def account():
    """The user that servers run as: PostgreSQL refuses to be root's. None: ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise SystemExit("run.py: as root it needs the user postgres (package postgresql-15)")


def as_user():
    """Arguments of subprocess that demote a child."""
    who = account()
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []} if who else {}


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    return {**kept, "LC_ALL": "C", "PGAPPNAME": "bench", "PGSSLMODE": "disable", "PGGSSENCMODE": "disable", "HOME": "/nonexistent",
            **more}


def give(path):
    who = account()
    if who:
        os.chown(path, who.pw_uid, who.pw_gid)


def free_port():
    """Below the range of outgoing connections, so that no client of ours takes it before its server does."""
    for port in range(20000 + os.getpid() % 5000, 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                if port not in free_port.given:
                    free_port.given.add(port)
                    return port
            except OSError:
                continue
    raise SystemExit("run.py: no free port")


free_port.given = set()


def allow_files(count):
    """For us and for all that we start; how many open files there may be: here and there even root gets no more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(count, hard), max(count, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return max(count, hard)


def compile_tool(folder, name, *libraries):
    """A program of bench/: its own compiler run, for the proxy's build has nothing to do with it."""
    path = os.path.join(folder, name)
    done = subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", "-pthread", "-o", path,
                           os.path.join(HERE, "..", name + ".c"), *libraries], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"run.py: {name}.c can't be compiled:\n{done.stderr[-2000:]}")
    return path


def make_certificate(folder):
    """(certificate, key): P-256, signed by itself, readable for the user of the servers only."""
    cert, key = (os.path.join(folder, "tls." + kind) for kind in ("crt", "key"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "30", "-subj", "/CN=localhost", "-keyout", key, "-out", cert], stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    os.chmod(key, 0o600)
    give(cert)
    give(key)
    return cert, key


def wait_for_port(port, process, log, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    with open(log, encoding="utf-8", errors="replace") as f:
        raise Failed(f"nothing listens on port {port}: {f.read()[-300:].strip()}")


def stat_fields(pid):
    """/proc/PID/stat from the state on; [11:15]: utime, stime, and those of children that were waited for."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return [0] * 15
    return [int(n) if n.lstrip("-").isdigit() else 0 for n in fields]


def machine_seconds():
    """CPU time that the whole machine was busy."""
    with open("/proc/stat", encoding="ascii") as f:
        fields = [int(n) for n in f.readline().split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / os.sysconf("SC_CLK_TCK")  # all but idle and iowait


class Server:
    """One process under measurement."""

    def __init__(self, folder, name, command, port):
        self.log = os.path.join(folder, re.sub(r"\W", "_", name) + ".log")
        self.port = port
        with open(self.log, "ab") as log:
            give(self.log)
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
                                            env=environment(), **as_user())
        try:
            wait_for_port(port, self.process, self.log)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self):
        return self.process.pid

    def cpu_seconds(self):
        """Of all its threads, to the nanosecond where the scheduler says so; else in clock ticks."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            try:
                with open(f"/proc/{self.pid}/task/{task}/schedstat", encoding="ascii") as f:
                    total += int(f.read().split()[0])
            except OSError:
                continue
        if total:
            return total / 1e9
        return sum(stat_fields(self.pid)[11:13]) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as f:
            return int(re.search(r"^Rss:\s+(\d+) kB", f.read(), re.M)[1]) * 1024

    def forget_peak(self):
        try:
            with open(f"/proc/{self.pid}/clear_refs", "w", encoding="ascii") as f:
                f.write("5")
        except OSError:
            pass  # then it is the peak since the start

    def peak_bytes(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as f:
            return int(re.search(r"^VmHWM:\s+(\d+) kB", f.read(), re.M)[1]) * 1024

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.alive():
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class Postgres:
    """A cluster of its own: durability off, so that the disk has no say."""

    SETTINGS = """
        listen_addresses = '127.0.0.1'
        max_connections = 1200
        superuser_reserved_connections = 3
        shared_buffers = '512MB'
        fsync = off
        synchronous_commit = off
        full_page_writes = off
        wal_level = minimal
        max_wal_senders = 0
        autovacuum = off
        max_wal_size = '8GB'
        checkpoint_timeout = '1h'
        jit = off
        password_encryption = 'scram-sha-256'
        ssl = on
    """
    HBA = ("local all bench_scram scram-sha-256\nlocal all all trust\n"
           "host all bench_scram 127.0.0.0/8 scram-sha-256\nhost all all 127.0.0.0/8 trust\n")

    def __init__(self, folder, scale, certificate):
        self.data = os.path.join(folder, "data")
        self.port = free_port()
        self._run([f"{BIN}/initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
                   "--no-sync"])
        self._append("postgresql.conf", f"port = {self.port}\nunix_socket_directories = '{folder}'\n"
                     f"ssl_cert_file = '{certificate[0]}'\nssl_key_file = '{certificate[1]}'\n{self.SETTINGS}")
        with open(os.path.join(self.data, "pg_hba.conf"), "w", encoding="ascii") as f:
            f.write(self.HBA)
        self.log = os.path.join(folder, "postgres.log")
        self._run([f"{BIN}/pg_ctl", "-D", self.data, "-l", self.log, "-w", "start"])
        for user in ("bench", "bench_scram"):
            self.sql(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{user}'")
        self.sql("CREATE DATABASE bench OWNER bench")
        self._run([f"{BIN}/pgbench", "-h", "127.0.0.1", "-p", str(self.port), "-U", "bench", "-i", "-q", "-s",
                   str(scale), "bench"])
        self.sql("VACUUM FREEZE ANALYZE", "bench")
        self.sql("CHECKPOINT")

    def _append(self, name, text):
        with open(os.path.join(self.data, name), "a", encoding="utf-8") as f:
            f.write(text)

    @staticmethod
    def _run(command):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              cwd="/", env=environment(), text=True, check=False, **as_user())
        if done.returncode:
            raise SystemExit(f"run.py: {' '.join(command)} failed:\n{done.stdout[-3000:]}")
        return done.stdout

    def sql(self, text, database="postgres"):
        return self._run([f"{BIN}/psql", "-XAtq", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d",
                          database, "-c", text]).strip()

    def pid(self):
        with open(os.path.join(self.data, "postmaster.pid"), encoding="ascii") as f:
            return int(f.readline())

    def children(self):
        pid = self.pid()
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return f.read().split()

    def settle(self):
        """Waits for the server processes of those who had one for each client: they take their time to end."""
        deadline = time.monotonic() + 60
        while len(self.children()) > 400 and time.monotonic() < deadline:
            time.sleep(0.1)

    def cpu_seconds(self):
        """Of the postmaster and all its children, also those that have ended."""
        children = None
        for _ in range(40):  # while some end, the list has gaps, and who ends is counted twice or not at all
            before, children = children, self.children()
            if children == before:
                break
            time.sleep(0.05)
        total = sum(stat_fields(self.pid())[11:15]) + sum(sum(stat_fields(child)[11:13]) for child in children)
        return total / os.sysconf("SC_CLK_TCK")

    def stop(self):
        subprocess.run([f"{BIN}/pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop"], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", check=False, **as_user())


def peers_folder():
    """Where scripts/get-peers puts what it builds: NAME/bin below it."""
    if os.geteuid() == 0:
        return "/var/cache/heliosproxy/peers"
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "heliosproxy", "peers")


def find_program(name, peer=None, on_path=True):
    """Its path, or None: on the PATH, or what was built for the peer."""
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/sbin"] if on_path else []
    return shutil.which(name, path=os.pathsep.join(places + [os.path.join(peers_folder(), peer or name, "bin")]))
