"""A hosts file that only the proxy under test sees: it runs in a mount namespace of its own."""

import shlex
import subprocess

import pytest


class Hosts:
    """names: {"db.test": ["127.0.0.1"]}. Skips the test where there are no mount namespaces."""

    def __init__(self, folder, names):
        self.folder = folder
        self.path = folder / "hosts"
        self.set(names)
        try:
            self.run("true")
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no mount namespaces here")

    def set(self, names):
        """From now on: written in place, for it is the file itself that is mounted."""
        lines = [f"{address} {name}" for name, addresses in names.items() for address in addresses]
        self.path.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))

    def inside(self, *command):
        return ["unshare", "-rm", "sh", "-c", f'mount --bind {self.path} /etc/hosts && exec "$@"', "sh", *command]

    def run(self, *command, check=True):
        return subprocess.run(self.inside(*command), capture_output=True, text=True, check=check).stdout

    def resolve(self, name):
        """Its IPv4 addresses, in the resolver's order."""
        return [line.split()[0] for line in self.run("getent", "ahostsv4", name).splitlines() if "STREAM" in line]

    def show_to(self, proxy):
        """Before it is started."""
        wrapper = self.folder / "wrapper"
        wrapper.write_text(f"#!/bin/sh\nexec {shlex.join(self.inside(str(proxy.binary)))} \"$@\"\n")
        wrapper.chmod(0o755)
        proxy.binary = str(wrapper)
