"""
A PostgreSQL cluster of one's own: on a locked port, in a temporary folder, without fsync. PostgreSQL refuses to
run as root, so that then it runs as the user `postgres`.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile

import psycopg

from .ports import lease_port
from .wait import wait_until

DEFAULT_BIN = "/usr/lib/postgresql/15/bin"
MEMORY = "/dev/shm"

# One rule for each kind of server-side authentication; everybody else is trusted.
HBA = """
local   all          all                     trust
local   replication  all                     trust
host    all          scram_user   all        scram-sha-256
host    all          md5_user     all        md5
host    all          plain_user   all        password
hostssl all          cert_user    all        cert
host    all          cert_user    all        reject
hostssl all          tls_user     all        trust
host    all          tls_user     all        reject
host    all          rejected     all        reject
host    replication  all          all        trust
host    all          all          all        trust
"""

SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": 400,
    "max_prepared_transactions": 10,
    "shared_buffers": "64MB",
    "wal_level": "logical",
    "max_wal_size": "256MB",
    "max_wal_senders": 10,
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "listen_addresses": "127.0.0.1",
    "lc_messages": "C",
    "timezone": "UTC",
    "autovacuum": "off",
    "password_encryption": "scram-sha-256",
}

PASSWORD = "correct horse, battery staple"


def _owner():
    """The user that the server runs as: (uid, gid), or None for ourselves."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("postgres")
    return entry.pw_uid, entry.pw_gid


def _give_away(path):
    owner = _owner()
    if owner:
        for root, folders, files in os.walk(path):
            for name in folders + files:
                os.lchown(os.path.join(root, name), *owner)
        os.chown(path, *owner)


def spawn_arguments():
    owner = _owner()
    return {"user": owner[0], "group": owner[1], "extra_groups": []} if owner else {}


def _room_in_memory():
    """Is there so much that servers' files may be there? Hundreds of them are made, and each is a thousand files."""
    try:
        found = os.statvfs(MEMORY)
        with open("/proc/meminfo", encoding="ascii") as f:
            available = int(re.search(r"MemAvailable: *(\d+) kB", f.read())[1]) << 10
    except (OSError, TypeError):
        return False
    return found.f_bavail * found.f_frsize > 4 << 30 and available > 8 << 30 and os.access(MEMORY, os.W_OK)


def _make_folder(kind):
    """One of this process. What processes have left that were killed is removed: it may be memory."""
    inside = MEMORY if "TMPDIR" not in os.environ and _room_in_memory() else tempfile.gettempdir()
    for entry in os.scandir(inside):
        m = re.fullmatch(r"hpit-(?:pg|template)-(\d+)-.*", entry.name)
        if m and not os.path.exists(f"/proc/{m[1]}"):
            shutil.rmtree(entry.path, ignore_errors=True)
    made = tempfile.mkdtemp(prefix=f"hpit-{kind}-{os.getpid()}-", dir=inside)
    os.chmod(made, 0o755)
    return made


class Template:
    """initdb is slow, and so are databases: made once a version and copied."""

    def __init__(self, bindir):
        self.bindir = bindir
        self.root = _make_folder("template")
        _give_away(self.root)
        self.path = os.path.join(self.root, "data")
        self.version = int(subprocess.run([os.path.join(bindir, "postgres"), "--version"], text=True, check=True,
                                          stdout=subprocess.PIPE).stdout.split()[2].split(".")[0])
        done = subprocess.run([os.path.join(bindir, "initdb"), "-D", self.path, "-U", "postgres", "--no-sync",
                               "-E", "UTF8", "--locale=C", "-A", "trust"], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, cwd="/", **spawn_arguments())
        if done.returncode:
            raise RuntimeError(done.stdout)
        first = Postgres(self).start()
        first.create_roles()
        first.stop("fast")
        shutil.rmtree(self.path)
        os.rename(first.data, self.path)
        first.remove()

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)


class Postgres:
    """
    settings: of postgresql.conf, on top of the above. certs: TLS on, with this authority's server certificate.
    The role `app` owns the database `app`; scram_user, md5_user, plain_user (PASSWORD), cert_user, tls_user
    are asked for what their names say when they come over TCP. The superuser is `postgres`.
    """

    def __init__(self, template, settings=None, hba=HBA, certs=None, data=None):
        self.bindir = template.bindir
        self.version = template.version
        self.template = template
        self.lease = lease_port()
        self.port = (settings or {}).get("port", self.lease.port)
        self.host = "127.0.0.1"
        self.root = _make_folder("pg")
        self.data = os.path.join(self.root, "data")
        self.log_path = os.path.join(self.root, "log")
        self.process = None
        self.wrapper = []  # a command in front of the server's
        self.settings = {**SETTINGS, "port": self.port, "unix_socket_directories": self.root, **(settings or {})}
        self.standbys = []
        if data is None:
            shutil.copytree(template.path, self.data)
        else:
            data(self.data)
        if certs is not None:
            for part, mode in (("cert", 0o644), ("key", 0o600)):
                path = os.path.join(self.root, "server." + part)
                shutil.copy(getattr(certs.server, part), path)
                os.chmod(path, mode)
            shutil.copy(certs.ca, os.path.join(self.root, "ca.crt"))
            self.settings.update(ssl="on", ssl_cert_file=os.path.join(self.root, "server.cert"),
                                 ssl_key_file=os.path.join(self.root, "server.key"),
                                 ssl_ca_file=os.path.join(self.root, "ca.crt"))
        self.write_settings()
        with open(os.path.join(self.data, "pg_hba.conf"), "w", encoding="utf-8") as f:
            f.write(hba)
        _give_away(self.root)
        os.chmod(self.data, 0o700)

    # -- configuration

    def write_settings(self, **changes):
        self.settings.update(changes)
        path = os.path.join(self.data, "postgresql.conf")
        with open(path, "w", encoding="utf-8") as f:
            for name, value in self.settings.items():
                quoted = str(value).replace("'", "''")
                f.write(f"{name} = '{quoted}'\n")

    def create_roles(self):
        """Those of the template."""
        secret = PASSWORD.replace("'", "''")
        with self.admin() as db:
            for role in ("app", "app2", "trust_user", "cert_user", "tls_user", "rejected"):
                db.execute(f"CREATE ROLE {role} LOGIN")
            for role, encryption in (("scram_user", "scram-sha-256"), ("md5_user", "md5"),
                                     ("plain_user", "scram-sha-256")):
                db.execute(f"SET password_encryption = '{encryption}'")
                db.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{secret}'")
            for database in ("app", "other"):
                db.execute(f"CREATE DATABASE {database} OWNER app")
        for database in ("app", "other"):
            with self.admin(database) as db:
                db.execute("GRANT ALL ON SCHEMA public TO PUBLIC")

    # -- life

    def start(self, wait=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.wrapper, os.path.join(self.bindir, "postgres"), "-D", self.data],
                                            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/",
                                            **spawn_arguments())
        if wait:
            wait_until(self._accepts, 60, lambda: "PostgreSQL doesn't start: " + self.log())
        return self

    def _accepts(self):
        if self.process.poll() is not None:
            raise RuntimeError("PostgreSQL ended: " + self.log())
        try:
            self.admin().close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, mode="immediate"):
        if self.process is None:
            return
        self.resume()
        number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self, mode="fast"):
        self.stop(mode)
        return self.start()

    def kill(self):
        """kill -9 of everything, at once."""
        family = self.processes()
        for pid in family:
            _signal(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        wait_until(lambda: all(_is_gone(pid) for pid in family))
        try:
            os.unlink(os.path.join(self.data, "postmaster.pid"))
        except FileNotFoundError:
            pass

    def pause(self):
        """SIGSTOP of everything: connections are accepted by the kernel and nobody answers."""
        for pid in self.processes():
            _signal(pid, signal.SIGSTOP)

    def resume(self):
        for pid in self.processes():
            _signal(pid, signal.SIGCONT)

    def processes(self):
        """The postmaster first, then its children."""
        if self.process is None or self.process.poll() is not None:
            return []
        found = [self.process.pid]
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as f:
                        if int(f.read().rpartition(")")[2].split()[1]) == self.process.pid:
                            found.append(int(entry))
                except (FileNotFoundError, ProcessLookupError):
                    pass
        return found

    def remove(self):
        for standby in self.standbys:
            standby.remove()
        self.stop()
        self.lease.release()
        shutil.rmtree(self.root, ignore_errors=True)

    def standby(self, **settings):
        """A streaming standby, started."""
        conninfo = f"host={self.root} port={self.port} user=postgres application_name=standby{len(self.standbys) + 1}"
        made = Postgres(self.template, {"primary_conninfo": conninfo, **settings}, data=self._copy_to).start()
        self.standbys.append(made)
        return made

    def _copy_to(self, to):
        """A base backup by the server's own functions: not every server that we test has its pg_basebackup with it."""
        start, stop = (("pg_backup_start('copy', true)", "pg_backup_stop(false)") if self.version >= 15 else
                       ("pg_start_backup('copy', true, false)", "pg_stop_backup(false, false)"))
        with self.admin() as db:
            db.execute(f"SELECT {start}")
            shutil.copytree(self.data, to, copy_function=_copy_if_there,
                            ignore=shutil.ignore_patterns("postmaster.*", "pg_wal", "pg_replslot", "pgsql_tmp*"))
            label, = db.execute(f"SELECT labelfile FROM {stop}").fetchone()
        # with all that was written until the copy was done
        shutil.copytree(os.path.join(self.data, "pg_wal"), os.path.join(to, "pg_wal"), copy_function=_copy_if_there)
        os.mkdir(os.path.join(to, "pg_replslot"))
        for name, content in (("backup_label", label), ("standby.signal", "")):
            with open(os.path.join(to, name), "w", encoding="utf-8") as f:
                f.write(content)

    # -- use

    @property
    def address(self):
        return self.host, self.port

    @property
    def socket(self):
        return os.path.join(self.root, f".s.PGSQL.{self.port}")

    def admin(self, database="postgres", **kwargs):
        """A superuser's connection in autocommit that goes past everything."""
        return psycopg.connect(host=self.root, port=self.port, user="postgres", dbname=database, autocommit=True,
                               connect_timeout=60, **kwargs)

    def sql(self, statement, parameters=None, database="postgres"):
        """Rows of a statement run by the superuser, or None."""
        with self.admin(database) as db:
            done = db.execute(statement, parameters)
            return done.fetchall() if done.description else None

    def value(self, statement, parameters=None, database="postgres"):
        return self.sql(statement, parameters, database)[0][0]

    def backends(self, where="true", parameters=None):
        """pids of the connections of clients (this one excepted)."""
        return [pid for (pid,) in self.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
                                           f"AND pid <> pg_backend_pid() AND ({where})", parameters)]

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()


def _copy_if_there(source, target):
    try:
        shutil.copy2(source, target)
    except FileNotFoundError:
        pass  # removed while we copied: the WAL says so, too


def _is_gone(pid):
    try:
        os.waitpid(pid, os.WNOHANG)  # orphans are ours: see the subreaper in proxy.py
    except ChildProcessError:
        pass
    return not os.path.exists(f"/proc/{pid}")


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
