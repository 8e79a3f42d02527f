"""
A Patroni cluster of one's own: etcd and some members, each with a PostgreSQL that it looks after. All of it is on locked
ports, in one temporary folder, and runs as the user `postgres` where we are root.
"""

import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request

import psycopg

from .ports import lease_port
from .postgres import _is_gone, _owner, _signal, spawn_arguments
from .wait import wait_until

PROGRAMS = ("patroni", "patronictl", "etcd")

ETCD = """
name: etcd
data-dir: {root}/etcd
listen-client-urls: http://127.0.0.1:{port}
advertise-client-urls: http://127.0.0.1:{port}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: etcd=http://127.0.0.1:{peer}
unsafe-no-fsync: true
enable-grpc-gateway: true
logger: zap
log-level: error
"""

# The least that Patroni lets one set: a leader that is gone is missed after 20 s.
MEMBER = """
scope: demo
name: {name}
restapi:
  listen: 127.0.0.1:{api}
  connect_address: 127.0.0.1:{api}
{restapi}ctl: {ctl}
etcd3:
  hosts: 127.0.0.1:{etcd}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    postgresql:
      use_pg_rewind: false
      remove_data_directory_on_diverged_timelines: true
      parameters: {{max_connections: 100, wal_keep_size: 256MB}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, {{auth: trust}}, no-sync]
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {data}
  bin_dir: {bindir}
  pgpass: {root}/{name}.pgpass
  remove_data_directory_on_rewind_failure: true
  authentication:
    superuser: {{username: postgres}}
    replication: {{username: replicator}}
  basebackup: [{{checkpoint: fast}}, no-sync]
  create_replica_methods: [basebackup]
  pg_hba: [local all all trust, host all all all trust, host replication all all trust]
  parameters:
    unix_socket_directories: {root}
    fsync: "off"
    shared_buffers: 16MB
tags: {tags}
"""


def missing():
    """What is not installed of that which is needed, or ""."""
    return ", ".join(p for p in PROGRAMS if not shutil.which(p, path="/usr/bin"))


class Member:
    def __init__(self, cluster, name, tags):
        self.cluster, self.name, self.tags = cluster, name, tags
        self.leases = [lease_port(), lease_port()]
        self.port, self.api_port = (lease.port for lease in self.leases)
        self.data = os.path.join(cluster.root, name)
        self.config_path = os.path.join(cluster.root, name + ".yml")
        self.process = None
        self.write_config()

    def write_config(self):
        with open(self.config_path, "w", encoding="utf-8") as f:
            f.write(MEMBER.format(name=self.name, api=self.api_port, etcd=self.cluster.etcd_port, port=self.port,
                                  data=self.data, bindir=self.cluster.bindir, root=self.cluster.root,
                                  restapi="".join(f"  {k}: {v}\n" for k, v in self.cluster.restapi.items()),
                                  ctl=json.dumps(self.cluster.ctl_settings), tags=json.dumps(self.tags)))

    @property
    def url(self):
        return f"{'https' if self.cluster.restapi else 'http'}://127.0.0.1:{self.api_port}"

    def start(self):
        self.process = self.cluster.spawn(self.name, ["/usr/bin/patroni", self.config_path])

    def postmaster(self):
        """Its pid, or None. A pid file may outlive who wrote it."""
        try:
            with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as f:
                pid = int(f.readline())
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                return pid if self.data.encode() in f.read() else None
        except (OSError, ValueError):
            return None

    def kill_patroni(self):
        """kill -9: its PostgreSQL goes on."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
        self.process = None

    def pause_patroni(self):
        """Its REST API accepts and does not answer, and it renews nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume_patroni(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        """kill -9 of Patroni and PostgreSQL, at once."""
        pid = self.postmaster()
        self.kill_patroni()
        if pid:
            family = [pid, *_children(pid)]
            for each in family:
                _signal(each, signal.SIGKILL)
            wait_until(lambda: all(_is_gone(each) for each in family))

    def sql(self, statement, parameters=None, database="postgres"):
        with psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True,
                             connect_timeout=60) as db:
            done = db.execute(statement, parameters)
            return done.fetchall() if done.description else None

    def remove(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        self.kill()
        for lease in self.leases:
            lease.release()


class PatroniCluster:
    """tags: of each member, p1, p2 ... The role `app` owns the database `app`, with the
    table `t` and the function whoami(), which tells the port of the server. server, client, ca: certificates of the REST
    API, which then asks for one that the authority has signed."""

    def __init__(self, bindir, tags=({}, {}, {}), server=None, client=None, ca=None):
        self.bindir = bindir
        self.restapi, self.ctl_settings = {}, {}
        self.root = tempfile.mkdtemp(prefix="hpit-patroni-")
        os.chmod(self.root, 0o755)
        self.leases = [lease_port(), lease_port()]
        self.etcd_port = self.leases[0].port
        self.etcd = None
        self.members = {}
        if server:
            self.restapi = {"certfile": self.own(server.cert), "keyfile": self.own(server.key), "cafile": self.own(ca),
                            "verify_client": "required"}
            self.ctl_settings = {"cacert": ca, "certfile": client.cert, "keyfile": client.key}
        for i, each in enumerate(tags, 1):
            self.members[f"p{i}"] = Member(self, f"p{i}", each)
        with open(os.path.join(self.root, "etcd.yml"), "w", encoding="utf-8") as f:
            f.write(ETCD.format(root=self.root, port=self.etcd_port, peer=self.leases[1].port))
        if _owner():
            os.chown(self.root, *_owner())
        self.ending = threading.Event()
        self.reaper = threading.Thread(target=self.reap)

    def own(self, path):
        """A copy that Patroni can read."""
        copy = shutil.copy(path, self.root)
        if _owner():
            os.chown(copy, *_owner())
        return copy

    def reap(self):
        """Patroni's PostgreSQLs are orphans, and so ours (the subreaper in proxy.py). While nobody has waited for one
        that has ended, Patroni takes it for one that does not end."""
        seen = set()
        while not self.ending.wait(0.02):
            seen |= {m.postmaster() for m in self.members.values()} - {None}
            seen = {pid for pid in seen if not _is_gone(pid)}

    def spawn(self, name, command):
        with open(os.path.join(self.root, name + ".log"), "ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/",
                                    env={"PATH": "/usr/bin:/bin", "HOME": self.root, "LC_ALL": "C"},
                                    **spawn_arguments())

    def start(self):
        self.etcd = self.spawn("etcd", ["/usr/bin/etcd", "--config-file", os.path.join(self.root, "etcd.yml")])
        self.reaper.start()
        first, *others = self.members.values()
        first.start()
        wait_until(lambda: self.leader() == first.name, 60, lambda: "no leader:\n" + self.logs())
        for member in others:
            member.start()
        first.sql("CREATE ROLE app LOGIN")
        first.sql("CREATE DATABASE app OWNER app")
        first.sql("CREATE TABLE t (i int); ALTER TABLE t OWNER TO app; "
                  "CREATE FUNCTION whoami() RETURNS int LANGUAGE sql STABLE "
                  "AS $$ SELECT current_setting('port')::int $$", database="app")
        self.wait_healthy()
        return self

    def tls(self):
        if not self.restapi:
            return None
        made = ssl.create_default_context(cafile=self.ctl_settings["cacert"])
        made.load_cert_chain(self.ctl_settings["certfile"], self.ctl_settings["keyfile"])
        return made

    def logs(self):
        text = ""
        for name in ("etcd", *self.members):
            try:
                with open(os.path.join(self.root, name + ".log"), encoding="utf-8", errors="replace") as f:
                    text += f"--- {name}\n" + f.read()[-3000:]
            except FileNotFoundError:
                pass
        return text

    def state(self):
        """GET /cluster of whoever answers; None: nobody does."""
        for member in self.members.values():
            try:
                with urllib.request.urlopen(member.url + "/cluster", timeout=2, context=self.tls()) as answer:
                    return json.loads(answer.read())
            except (OSError, ValueError):
                pass
        return None

    def roles(self):
        """{"p1": ("leader", "running")}"""
        state = self.state() or {"members": []}
        return {m["name"]: (m["role"], m["state"]) for m in state["members"]}

    def leader(self):
        return next((name for name, role in self.roles().items() if role == ("leader", "running")), None)

    def is_healthy(self):
        roles = self.roles()
        return (len(roles) == len(self.members) and self.leader()
                and all(state in ("running", "streaming") for _, state in roles.values())
                and all(m.get("lag", 0) == 0 for m in self.state()["members"]))

    def wait_healthy(self, timeout=90):
        wait_until(self.is_healthy, timeout, lambda: f"{self.roles()}\n{self.logs()}")

    def ctl(self, *words):
        member = next(m for m in self.members.values() if m.process)
        done = subprocess.run(["/usr/bin/patronictl", "-c", member.config_path, *words], text=True, cwd="/", timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                              env={"PATH": "/usr/bin:/bin", "HOME": self.root, "LC_ALL": "C.UTF-8"})
        assert done.returncode == 0, done.stdout
        return done.stdout

    def remove(self):
        for member in self.members.values():
            member.remove()
        self.ending.set()
        if self.etcd:
            self.etcd.kill()
            self.etcd.wait()
            self.reaper.join()
        for lease in self.leases:
            lease.release()
        if not os.environ.get("HELIOS_TEST_KEEP"):
            shutil.rmtree(self.root, ignore_errors=True)


def _children(parent):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as f:
                    if int(f.read().rpartition(")")[2].split()[1]) == parent:
                        found.append(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found
