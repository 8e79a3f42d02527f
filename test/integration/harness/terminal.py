"""A program on a terminal of its own: what is on its screen, and keys for it."""

import os
import time

import pexpect
import pyte

from harness.wait import wait_until


class Terminal:
    """The screen is pyte's, so what a test sees is what a person would."""

    def __init__(self, command, arguments, columns=80, lines=24, env=None):
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.bytes = b""
        self.process = pexpect.spawn(command, [str(a) for a in arguments], dimensions=(lines, columns), timeout=30,
                                     env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(env or {})})
        self.process.delaybeforesend = None

    def read(self):
        """Takes what has come. False: the program has closed its side."""
        try:
            while True:
                data = self.process.read_nonblocking(65536, timeout=0)
                self.bytes += data
                self.stream.feed(data)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False

    def text(self):
        self.read()
        return "\n".join(self.screen.display)

    def wait_for(self, *texts, timeout=30, gone=()):
        """Until all of it is on the screen, and nothing of `gone`."""
        return wait_until(lambda: all(t in self.text() for t in texts) and not any(g in self.text() for g in gone),
                          timeout, lambda: f"{texts} (without {gone}) on:\n" + self.text())

    def line(self, text):
        """The line with this text."""
        found = [line for line in self.text().splitlines() if text in line]
        assert len(found) == 1, self.text()
        return found[0]

    def send(self, keys):
        self.process.send(keys)

    def resize(self, columns, lines):
        self.read()
        self.screen.resize(lines, columns)
        self.process.setwinsize(lines, columns)

    def wait_end(self, timeout=30):
        """Its exit status."""
        deadline = time.monotonic() + timeout
        while self.read():
            assert time.monotonic() < deadline, "it does not end:\n" + self.text()
            time.sleep(0.02)
        self.process.wait()
        return self.process.exitstatus if self.process.exitstatus is not None else -self.process.signalstatus

    def close(self):
        self.process.close(force=True)
