"""TCP ports that no other run of these tests takes: each is held by a lock on a file named after it."""

import fcntl
import os
import random
import socket

FIRST, LAST = 21000, 31000  # below the ephemeral range, so that no outgoing connection sits on one
LOCKS = "/tmp/helios-test-ports"


class PortLease:
    def __init__(self, port, lock):
        self.port = port
        self._lock = lock

    def release(self):
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def lease_port():
    os.makedirs(LOCKS, exist_ok=True)
    try:
        os.chmod(LOCKS, 0o1777)
    except PermissionError:
        pass  # another user's; it is open to all already
    start = random.SystemRandom().randrange(FIRST, LAST)
    for offset in range(LAST - FIRST):
        port = FIRST + (start - FIRST + offset) % (LAST - FIRST)
        try:
            lock = os.open(os.path.join(LOCKS, f"{port}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except PermissionError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        if _is_free(port):
            return PortLease(port, lock)
        os.close(lock)
    raise RuntimeError("no free port")
