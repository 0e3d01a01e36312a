"""Waiting with a deadline, in one place."""

import time


def until(condition, seconds: float = 10, what: str = "the expected state"):
    """Returns the first truthy result of `condition`; fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what} did not come within {seconds} s")
        time.sleep(0.02)
