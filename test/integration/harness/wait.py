"""The only place where a test sleeps."""

import time


PATIENCE = 60  # seconds for an answer: a machine may be busy, and a sanitizer slow


def wait_until(condition, timeout=PATIENCE, message=None):
    """Returns the first true value of condition(); AssertionError when there is none within timeout seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(message() if callable(message) else message or f"not within {timeout} s: {condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
