"""Where a query waits for as long as a test wants: what is to be seen while it runs is seen on a slow machine, too."""

import itertools

from .wait import wait_until

_keys = itertools.count(47110001)


class Gate:
    """A query with `passage` in its list of columns waits there until the gate opens. In database app."""

    def __init__(self, postgres):
        self.postgres = postgres
        self.key = next(_keys)
        self.passage = f"pg_advisory_xact_lock_shared({self.key})"
        self.holder = postgres.admin("app")
        self.holder.execute("SELECT pg_advisory_lock(%s)", [self.key])

    def wait(self):
        """Until a query waits here."""
        wait_until(lambda: self.postgres.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = %s "
                                             "AND NOT granted", [self.key], database="app"))

    def open(self):
        self.holder.close()
