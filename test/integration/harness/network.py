"""
A network namespace for a server, behind a pair of virtual cables: so that a node can be cut off in ways that a process can't
be made to act. Replication goes over unix sockets, so it is not cut.
"""

import contextlib
import ctypes
import os
import subprocess

import pytest

from harness.ports import lease_port

CLONE_NEWNET = 0x40000000


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Network:
    """Skips the test where such things are not permitted."""

    def __init__(self):
        self.lease = lease_port()  # nobody else has what is named after it
        number = self.lease.port - 20000
        self.name = f"hpit{number}"
        self.ours, self.theirs = f"hpo{number}", f"hpt{number}"
        net = f"10.{200 + number // 16384}.{number // 64 % 256}.{number % 64 * 4}".rsplit(".", 1)
        self.gateway, self.address = f"{net[0]}.{int(net[1]) + 1}", f"{net[0]}.{int(net[1]) + 2}"
        try:
            ip("netns", "add", self.name)
        except (OSError, subprocess.CalledProcessError):
            self.lease.release()
            pytest.skip("no network namespaces here")
        try:
            ip("link", "add", self.ours, "type", "veth", "peer", "name", self.theirs, "netns", self.name)
            ip("addr", "add", f"{self.gateway}/30", "dev", self.ours)
            ip("link", "set", self.ours, "up")
            ip("-n", self.name, "addr", "add", f"{self.address}/30", "dev", self.theirs)
            ip("-n", self.name, "link", "set", "lo", "up")
            ip("-n", self.name, "link", "set", self.theirs, "up")
        except (OSError, subprocess.CalledProcessError):
            self.remove()
            pytest.skip("no virtual cables here")

    @contextlib.contextmanager
    def inside(self):
        """What this thread starts meanwhile lives in there."""
        libc = ctypes.CDLL(None, use_errno=True)
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            assert libc.setns(there, CLONE_NEWNET) == 0
            try:
                yield
            finally:
                assert libc.setns(back, CLONE_NEWNET) == 0
        finally:
            os.close(there)
            os.close(back)

    def cut(self, how):
        """blackhole: what the server sends vanishes; down: the cable is out, at the server's end."""
        if how == "blackhole":
            ip("-n", self.name, "route", "add", "blackhole", f"{self.gateway}/32")
        else:
            ip("-n", self.name, "link", "set", self.theirs, "down")

    def mend(self, how):
        if how == "blackhole":
            ip("-n", self.name, "route", "del", "blackhole", f"{self.gateway}/32")
        else:
            ip("-n", self.name, "link", "set", self.theirs, "up")

    def remove(self):
        subprocess.run(["ip", "link", "del", self.ours], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        self.lease.release()
