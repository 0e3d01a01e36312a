"""Loopback addresses: every hub gets one of its own, so that the SDKs' fixed ports never collide."""

import itertools
import os

_next_host = itertools.count(1)


def fresh_address() -> str:
    """An address of 127.0.0.0/8 that no other worker or run on this machine uses at the same time."""
    pid = os.getpid()
    return f"127.{64 + (pid >> 8) % 128}.{pid % 256}.{next(_next_host) % 254 + 1}"
