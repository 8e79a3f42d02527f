"""A process that is to miss something, for sure."""

import os
import signal

from .wait import wait_until


def stand_still(pid):
    """SIGSTOP; returns when it stands: of two signals that wait for a busy machine the lower one, SIGINT, is taken first."""
    def state():
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state() == "T")


def interrupt_is_pending(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        pending = next(line for line in status if line.startswith("ShdPnd:"))
    return int(pending.split()[1], 16) >> (signal.SIGINT - 1) & 1
