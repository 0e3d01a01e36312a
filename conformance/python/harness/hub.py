"""One `holdfast dev` process on a loopback address of its own.

`HOLDFAST_BIN` names the binary. Readiness is the ready file, not a pause; a hub that does not end
within ten seconds of SIGTERM fails the test that stopped it.
"""

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from harness.address import fresh_address

READY_SECONDS_MAX = 15
STOP_SECONDS_MAX = 10


class HubFailure(AssertionError):
    """The hub itself did not start, stop or answer as its contract says."""


def binary() -> str:
    path = os.environ.get("HOLDFAST_BIN")
    if not path:
        raise HubFailure("set HOLDFAST_BIN to the holdfast binary under judgement")
    return path


class Hub:
    """A running hub and what its ready file says of it."""

    def __init__(
        self,
        data: Path | None = None,
        hostnames: tuple[str, ...] = (),
        config: Path | None = None,
        moves_clock: bool = False,
        refusals_per_minute: int | None = None,
        hub_events: str | None = None,
        accept_loss: bool = False,
    ):
        self.address = fresh_address()
        self.data = data
        self.hostnames = hostnames
        self.config = config
        self.clock = Clock() if moves_clock else None
        self.refusals_per_minute = refusals_per_minute
        self.hub_events = hub_events
        self.accept_loss = accept_loss
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-conformance-"))
        self.ready: dict = {}
        self._process: subprocess.Popen | None = None

    def start(self) -> "Hub":
        ready_file = self.ready_file
        ready_file.unlink(missing_ok=True)
        command = [binary(), "dev", "--listen", self.address, "--ready-file", str(ready_file)]
        if self.data:
            command += ["--data", str(self.data)]
        if self.config:
            command += ["--config", str(self.config)]
        if self.accept_loss:
            command += ["--accept-loss"]
        for name in self.hostnames:
            command += ["--hostname", name]
        with open(self.folder / "stdout", "ab") as out, open(self.folder / "stderr", "ab") as err:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=self._environment()
            )
        self.ready = self._await_ready()
        return self

    def stop(self) -> None:
        """Ends the hub as an operator does, and fails when it lingers."""
        self.end(signal.SIGTERM)

    def end(self, sent: signal.Signals) -> int | None:
        """Sends a signal and returns the exit status; fails when the hub lingers."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return None
        process.send_signal(sent)
        try:
            return process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise HubFailure(f"the hub lingered {STOP_SECONDS_MAX} s after {sent.name}\n{self.stderr()}") from None

    def kill(self) -> None:
        """Ends the hub as a power loss does."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    def cli(self, *arguments: str, accepted: tuple[int, ...] = (0,)):
        """Runs a command of the binary against this hub and returns its JSON answer."""
        command = [binary(), *arguments, "--ready-file", str(self.ready_file), "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=self._environment())
        if done.returncode not in accepted:
            raise HubFailure(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def why(self, *device: str) -> list[dict]:
        """The explained refusals, newest first; all of them when no device is named."""
        answer = self.cli("why", *device)
        return answer["entries"] if isinstance(answer, dict) else answer

    def posture(self) -> dict:
        """The posture of the fleet, as new as can be."""
        return self.cli("posture", accepted=(0, 1))

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, **(self.clock.environment() if self.clock else {})}
        if self.refusals_per_minute is not None:
            environment["HOLDFAST_REFUSALS_PER_MINUTE"] = str(self.refusals_per_minute)
        if self.hub_events is not None:
            environment["HOLDFAST_HUB_EVENTS"] = self.hub_events
        return environment

    def stderr(self, lines: int = 80) -> str:
        path = self.folder / "stderr"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    @property
    def ready_file(self) -> Path:
        return self.folder / "ready.json"

    @property
    def hostname(self) -> str:
        return self.ready["hostname"]

    @property
    def ca_file(self) -> str:
        return self.ready["ca_file"]

    @property
    def ca_text(self) -> str:
        return Path(self.ca_file).read_text()

    @property
    def ports(self) -> dict[str, int]:
        return self.ready["ports"]

    @property
    def service_connection_string(self) -> str:
        return self.ready["service_connection_string"]

    @property
    def eventhub_connection_string(self) -> str:
        return self.ready["eventhub_connection_string"]

    def policy_key(self, policy: str) -> str:
        return connection_string_parts(self.ready["policies"][policy])["SharedAccessKey"]

    def _await_ready(self) -> dict:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise HubFailure(f"the hub ended with {self._process.returncode} before it was ready\n{self.stderr()}")
            try:
                return json.loads(self.ready_file.read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                time.sleep(0.02)
        self.kill()
        raise HubFailure(f"no ready file within {READY_SECONDS_MAX} s\n{self.stderr()}")


class Clock:
    """The time of day of a hub and of the commands that speak to it, moved by libfaketime; time-outs are not moved."""

    LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"

    def __init__(self):
        self._file = Path(tempfile.mkdtemp(prefix="holdfast-clock-")) / "offset"
        self.seconds = 0
        self.advance(0)

    def advance(self, seconds: int) -> None:
        self.seconds += seconds
        written = self._file.with_suffix(".new")
        written.write_text(f"{self.seconds:+d}\n")
        written.rename(self._file)

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": self.LIBRARY,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def connection_string_parts(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(";") if part)
