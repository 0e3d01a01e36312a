"""A device on the command line: `holdfast device simulate` and `device watch`, whose lines tests wait for."""

import json
import signal
import subprocess
import threading
import time
from contextlib import contextmanager

from harness.hub import Hub, binary


class Running:
    """A command that prints JSON lines until it is ended."""

    def __init__(self, hub: Hub, *arguments: str):
        command = [binary(), "device", *map(str, arguments), "--ready-file", str(hub.ready_file), "-o", "jsonl"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._came = threading.Condition()
        self.lines: list[dict] = []
        self.errors = ""
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def first(self, what: str, matches=lambda line: True, seconds: float = 20) -> dict:
        """The first line, past or to come, of this kind for which `matches` holds."""
        return self.several(what, 1, matches, seconds)[0]

    def several(self, what: str, count: int, matches=lambda line: True, seconds: float = 20) -> list[dict]:
        deadline = time.monotonic() + seconds
        with self._came:
            while True:
                found = [line for line in self.lines if line["what"] == what and matches(line)]
                if len(found) >= count:
                    return found
                left = deadline - time.monotonic()
                assert left > 0, f"{len(found)} of {count} `{what}` came, at last: {self.lines[-20:]} {self.errors}"
                self._came.wait(left)

    def ended(self, seconds: float = 20) -> int:
        """The exit code, once the command ends by itself."""
        code = self._process.wait(seconds)
        for thread in self._threads:
            thread.join(5)
        return code

    def interrupt(self) -> int:
        """Ends it by Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        return self.ended()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        for line in self._process.stdout:
            with self._came:
                self.lines.append(json.loads(line))
                self._came.notify_all()

    def _read_errors(self) -> None:
        self.errors = self._process.stderr.read()


@contextmanager
def running(hub: Hub, *arguments: str):
    command = Running(hub, *arguments)
    try:
        yield command
    finally:
        command.kill()


def ran(hub: Hub, *arguments: str) -> Running:
    """The command once it has ended by itself; `code` is its exit code."""
    command = Running(hub, *arguments)
    try:
        command.code = command.ended()
    except subprocess.TimeoutExpired:
        command.kill()
        raise
    return command
