"""Measured numbers, as runs have left them: files, medians, the best of the others."""

import json
import os
import statistics

from .peers import PEERS

ORDER = ["direct", "relay", "relay-unix", "helios", "helios-1w", "helios-unix", "helios-epoll", "helios-uring",
         "helios-shared", *PEERS]


def kind_of(name):
    return name.partition(":")[0]


def is_peer(name):
    return kind_of(name) in PEERS


class Results:
    """Of one file, or of several: then a cell comes from the newest that has it, as a whole."""

    def __init__(self, paths, newest_only):
        runs = []
        for path in paths:
            with open(path, encoding="utf-8") as f:
                runs.append((json.load(f), os.path.basename(path)))
        if not runs:
            raise SystemExit("run.py: there are no results yet")
        runs.sort(key=lambda run: run[0]["about"]["date"])
        self.about = runs[-1][0]["about"]
        if newest_only:  # and what else was measured of the same commit: rows on demand have runs of their own
            runs = [run for run in runs if run[0]["about"]["commit"] == self.about["commit"]]
        self.files = [name for _, name in runs]
        self.abouts = [result["about"] for result, _ in runs]
        self.cells = {}
        for result, _ in runs:
            self.cells.update({label: cell for label, cell in result["cells"].items() if cell})

    def values(self, label, target, key):
        return self.cells.get(label, {}).get(target, {}).get(key)

    def median(self, label, target, key):
        values = self.values(label, target, key)
        return statistics.median(values) if values else None

    def labels(self, *rows):
        """Cells of these rows; of select-only by the number of clients."""
        found = [label for label in self.cells if label.split("/")[0] in rows]
        return sorted(found, key=lambda label: (rows.index(label.split("/")[0]), *sort_key(label)))

    def targets(self, labels):
        """All that were measured in these cells, in the usual order; session mode is a note, no column."""
        found = {name for label in labels for name in self.cells[label] if name != "pgbouncer-session"}
        if any("pgbouncer-session" in self.cells[label] for label in labels):
            found.add("pgbouncer")
        return sorted(found, key=lambda name: (ORDER.index(kind_of(name)) if kind_of(name) in ORDER else 99, name))

    def peers(self, label):
        """Whom we compare with: session mode has no pooling to do, and counts where there is nobody else."""
        names = [name for name in self.cells.get(label, {}) if is_peer(name)]
        return [name for name in names if name != "pgbouncer-session"] or names

    def best_peer(self, label, key, best=max):
        found = [self.median(label, name, key) for name in self.peers(label)]
        return best(filter(lambda value: value is not None, found), default=None)

    def pgbouncer(self, label, key):
        """The newest PgBouncer that was measured."""
        for name in ("pgbouncer-new", "pgbouncer", "pgbouncer-session"):
            value = self.median(label, name, key)
            if value is not None:
                return value
        return None


def sort_key(label):
    last = label.rpartition("/")[2]
    return (label.split("/")[:-1], int(last), "") if last.isdigit() else (label.split("/")[:-1], 0, "")


def divide(a, b):
    return a / b if a is not None and b else None
