"""What is done beside the test, and may have to wait."""

import threading


class Later(threading.Thread):
    """Runs at once; its outcome is asked for by result()."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.value, self.error = work, None, None
        self.start()

    def run(self):
        try:
            self.value = self.work()
        except BaseException as e:  # noqa: BLE001 (result() raises it)
            self.error = e

    @property
    def is_over(self):
        return not self.is_alive()

    def result(self, timeout=60):
        self.join(timeout)
        assert not self.is_alive(), "it does not end"
        if self.error:
            raise self.error
        return self.value
