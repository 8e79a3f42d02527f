"""A headless Chromium for the tests of the web page, and a proxy with something to show."""

import contextlib
import os
import random
import shutil
import threading
import time

import psycopg

from .proxy import Proxy

HOSTILE = '"><img src=x onerror="document.title=\'owned\'"><b>'


def why_no_browser():
    """None: there is one."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "Playwright is not here: pip install playwright"
    return None if chromium_path() else "Chromium is not here: apt-get install chromium"


def chromium_path():
    return os.environ.get("HELIOS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def chromium():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        # Root has no sandbox here, and containers have a small /dev/shm.
        browser = playwright.chromium.launch(executable_path=chromium_path(), headless=True,
                                             args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def scene_config(primary, standby, **more):
    """A primary and a standby, both watched."""
    return {"nodes": [Proxy.node(primary, "primary", name="db-1"), Proxy.node(standby, "standby", name="db-2")],
            "health": {"user": "postgres", "check_interval": "1s"}, "analytics": {"enabled": True}, **more}


class Traffic:
    """Clients that read, write, wait in transactions and make mistakes; what fails because the proxy goes is no matter."""

    def __init__(self, proxy, clients=6):
        self.proxy = proxy
        self.stop = threading.Event()
        setup = proxy.connect(application_name="setup")
        setup.execute("CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text, amount int)")
        setup.execute("INSERT INTO orders (item, amount) SELECT 'item ' || i, i FROM generate_series(1, 200) i")
        setup.close()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def _run(self, number):
        names = ["checkout", "reports", "worker"]
        while not self.stop.is_set():
            try:
                with self.proxy.connect(application_name=names[number % 3]) as db:
                    while not self.stop.is_set():
                        self._work(db, number)
            except psycopg.Error:
                time.sleep(0.2)

    def _work(self, db, number):
        kind = random.random()
        if kind < 0.004:
            with contextlib.suppress(psycopg.errors.UndefinedColumn):
                db.execute("SELECT no_such_column FROM orders")
        elif kind < 0.08:
            db.execute("INSERT INTO orders (item, amount) VALUES (%s, %s)", ("item", number))
        elif kind < 0.1:
            db.execute("SELECT pg_sleep(%s)", (random.random() / 5,))
        else:
            db.execute("SELECT * FROM orders WHERE id = %s", (random.randint(1, 200),))
        time.sleep(0.02)

    def close(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
