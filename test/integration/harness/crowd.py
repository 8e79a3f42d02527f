"""Threads that do the same over and over, while a test does something to the proxy."""

import contextlib
import threading

from .wait import wait_until


class Crowd:
    def __init__(self):
        self.stop = threading.Event()
        self.problems, self.done = [], []

    def goes_on(self):
        """Fifty times more it has been done."""
        count = len(self.done)
        wait_until(lambda: len(self.done) > count + 50 or self.problems)


@contextlib.contextmanager
def crowd(work, count=4):
    """with crowd(work): `count` threads call work() until the end. Each time it must work."""
    made = Crowd()

    def member():
        try:
            while not made.stop.is_set() and not made.problems:
                work()
                made.done.append(1)
        except BaseException as e:  # noqa: BLE001
            made.problems.append(repr(e))

    threads = [threading.Thread(target=member) for _ in range(count)]
    for t in threads:
        t.start()
    try:
        yield made
    finally:
        made.stop.set()
        for t in threads:
            t.join()
    assert not made.problems
