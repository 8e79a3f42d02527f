"""PgBouncer itself, for tests that compare the proxy with it, and the proxy with PgBouncer's configuration."""

import os
import re
import shutil
import subprocess

import psycopg

from .postgres import spawn_arguments
from .proxy import Proxy
from .wait import wait_until

PEERS = os.environ.get("HELIOS_PEERS", "/var/cache/heliosproxy/peers")


def programs():
    """{version as (major, minor): path} of those that are here."""
    found = {}
    for path in (shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin"),
                 os.path.join(PEERS, "pgbouncer/bin/pgbouncer")):
        if path and os.access(path, os.X_OK):
            text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
            found[tuple(int(n) for n in re.search(r"(\d+)\.(\d+)", text).groups())] = path
    return found


class IniProxy(Proxy):
    """The proxy with --pgbouncer. `text` is the ini; @LISTEN@ and @ROOT@ in it are filled in, as in other files."""

    def __init__(self, binary, **kwargs):
        super().__init__(binary, clock=False, **kwargs)
        self.config_path = os.path.join(self.root, "pgbouncer.ini")
        self._give_away(self.root)

    @staticmethod
    def _give_away(path):
        """To the user that PgBouncer, which refuses to be root, runs as."""
        owner = spawn_arguments()
        if owner:
            os.chown(path, owner["user"], owner["group"])

    def write(self, name, text):
        path = os.path.join(self.root, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("@LISTEN@", str(self.port)).replace("@ROOT@", self.root))
        os.chmod(path, 0o640)
        self._give_away(path)
        return path

    def write_config(self):
        return self.config_path

    def command(self):
        return [self.binary, "--pgbouncer", self.config_path, "--admin", f"127.0.0.1:{self.admin_port}",
                *self.arguments]


class PgBouncer:
    """Runs with the ini, and at the port, of an IniProxy that does not run."""

    def __init__(self, program, of):
        self.of = of
        self.program = program
        self.log_path = os.path.join(of.root, "pgbouncer.out")
        self.process = None

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([self.program, self.of.config_path], stdout=log, stderr=log, cwd=self.of.root,
                                            stdin=subprocess.DEVNULL, **spawn_arguments())
        wait_until(self._listens, 30, lambda: "PgBouncer doesn't start:\n" + self.log())
        return self

    def _listens(self):
        if self.process.poll() is not None:
            raise AssertionError("PgBouncer ended:\n" + self.log())
        try:
            psycopg.connect(self.of.dsn("nobody_at_all", "nowhere")).close()
        except psycopg.OperationalError as e:
            return "refused" not in str(e) or "authentication" in str(e)
        return True

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()[-4000:]

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process = None
