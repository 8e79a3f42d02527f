"""
HeliosDB servers of one's own: the program heliosdb-nano, from HELIOS_HELIOSDB_BINARY or the PATH. Each has locked ports and
a temporary folder, and trusts its clients. docs/heliosdb.md says how the program is built.
"""

import os
import shutil
import signal
import subprocess
import tempfile

import psycopg

from .ports import lease_port
from .wait import wait_until

BINARY = os.environ.get("HELIOS_HELIOSDB_BINARY") or shutil.which("heliosdb-nano")


def missing():
    """Why there can be no server; "": nothing is missing."""
    return "" if BINARY and os.access(BINARY, os.X_OK) else "heliosdb-nano (HELIOS_HELIOSDB_BINARY)"


class HeliosDB:
    """role: standalone, primary, observer, or standby of `upstream`."""

    def __init__(self, role="standalone", upstream=None):
        self.leases = [lease_port(), lease_port()]
        self.port, self.replication_port = (lease.port for lease in self.leases)
        self.address = ("127.0.0.1", self.port)
        self.role, self.upstream = role, upstream
        self.root = tempfile.mkdtemp(prefix="hpit-heliosdb-")
        self.log_path = os.path.join(self.root, "log")
        self.process = None

    def command(self):
        more = ["--primary-host", f"127.0.0.1:{self.upstream.replication_port}"] if self.upstream else []
        return [BINARY, "start", "--data-dir", os.path.join(self.root, "data"), "--listen", "127.0.0.1", "--port",
                str(self.port), "--http-port", "0", "--replication-role", self.role, "--replication-port",
                str(self.replication_port), *more]

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            cwd=self.root, env=dict(os.environ, RUST_LOG="warn"))
        wait_until(self._answers, 60, lambda: "HeliosDB doesn't become ready:\n" + self.log()[-4000:])
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"HeliosDB ended with {self.process.returncode}:\n{self.log()[-4000:]}")
        try:
            return self.ask("SELECT role FROM pg_replication_status") == self.role
        except psycopg.Error:
            return False

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def ask(self, sql):
        """The first column of the first row; None: no rows."""
        with psycopg.connect(host="127.0.0.1", port=self.port, user="monitor", dbname="heliosdb", autocommit=True,
                             connect_timeout=60, prepare_threshold=None) as db:
            done = db.execute(sql)
            return done.fetchone()[0] if done.description else None

    def stop(self, number=signal.SIGTERM):
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def remove(self):
        self.stop(signal.SIGKILL)
        for lease in self.leases:
            lease.release()
        if not os.environ.get("HELIOS_TEST_KEEP"):
            shutil.rmtree(self.root, ignore_errors=True)
