"""A conversation of hours with two devices, held against what their programs say of it.

The devices are `soak_device.py` (MQTT) and `soak-device.js` (AMQP). Here is the back end that speaks to them, and the judge.
What counts is said in `Judge`.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

from harness.hub import Hub, connection_string_parts
from harness.rest import Identity
from harness.wait import until

CONFORMANCE = Path(__file__).resolve().parents[2]
# After a restart the SDKs come back by their own clocks: azure-iot-device tries every 10 s.
RETURN_SECONDS_MAX = 60
PAUSE_SECONDS = 0.5


class Device:
    """A program that is a device, and the lines that it printed."""

    def __init__(self, hub: Hub, identity: Identity, command: list[str], folder: str):
        self.name = identity.device
        self._lines: list[dict] = []
        self._changed = threading.Condition()
        self._record = open(hub.folder / f"{self.name}.stdout", "w")
        self._errors = open(hub.folder / f"{self.name}.stderr", "w")
        self._process = subprocess.Popen(
            command,
            cwd=CONFORMANCE / folder,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": hub.ca_file},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.await_one("ready", 0)

    def said(self, what: str) -> list[dict]:
        with self._changed:
            return [line for line in self._lines if line["is"] == what]

    def await_one(self, what: str, since: float, seconds: float = RETURN_SECONDS_MAX) -> dict:
        """The first line of a kind that was printed after a time."""
        found = lambda: next((line for line in self._lines if line["is"] == what and line["at"] > since), None)
        with self._changed:
            if not self._changed.wait_for(found, seconds):
                raise AssertionError(f"{self.name} said no `{what}` for {seconds} s; its last lines: {self._lines[-5:]}")
            return found()

    def end(self) -> None:
        """Closes its input, and waits until it has gone."""
        self._process.stdin.close()
        self._process.wait(60)
        self._record.close()
        self._errors.close()

    def kill(self) -> None:
        self._process.kill()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._record.write(line)
            self._record.flush()
            with self._changed:
                self._lines.append(json.loads(line))
                self._changed.notify_all()


def over_mqtt(hub: Hub, identity: Identity) -> Device:
    command = [sys.executable, "-m", "harness.soak_device", identity.resource, identity.key, hub.ca_file]
    return Device(hub, identity, command, "python")


def over_amqp(hub: Hub, identity: Identity) -> Device:
    return Device(hub, identity, ["node", "soak-device.js", identity.connection_string], "node")


class BackEnd:
    """Speaks to the devices in turn, with the unmodified azure-iot-hub: a message, a call, a change of the twin."""

    def __init__(self, hub: Hub, devices: list[Device]):
        self._hub = hub
        self._devices = devices
        self._over = threading.Event()
        self.done: list[dict] = []
        self._threads = [
            threading.Thread(target=self._repeat, args=[what, how], daemon=True)
            for what, how in (("message", self._message), ("call", self._call), ("desired", self._desire))
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "the back end hangs"

    def _repeat(self, what: str, how) -> None:
        """Takes a step with each device, again and again; notes when it began, when it ended, and why it failed."""
        manager, made, step = self._manager(), time.time(), 0
        while not self._over.wait(PAUSE_SECONDS):
            step += 1
            for device in self._devices:
                done = {"is": what, "device": device.name, "step": step, "begun": time.time(), "failure": None}
                try:
                    how(manager, device.name, step)
                except Exception as error:  # whether it was allowed to fail is for the judge
                    done |= {"failure": repr(error), "connected": made}
                    manager, made = self._manager(), time.time()
                self.done.append({**done, "at": time.time()})

    def _manager(self) -> IoTHubRegistryManager:
        return IoTHubRegistryManager.from_connection_string(self._hub.service_connection_string)

    @staticmethod
    def _message(manager, device: str, step: int) -> None:
        manager.send_c2d_message(device, f"{step}", {"messageId": f"{step}"})

    @staticmethod
    def _call(manager, device: str, step: int) -> None:
        call = CloudToDeviceMethod(
            method_name="echo", payload={"step": step}, connect_timeout_in_seconds=30, response_timeout_in_seconds=30
        )
        answer = manager.invoke_device_method(device, call)
        assert (answer.status, answer.payload) == (200, {"step": step}), answer

    @staticmethod
    def _desire(manager, device: str, step: int) -> None:
        manager.update_twin(device, Twin(properties=TwinProperties(desired={"step": step})), "*")


class Judge:
    """What may fail, and what may not.

    While the hub is away, and until a device has come back, things may fail; so they may while a device renews its token over
    MQTT, which takes a new connection. At any other time nothing may. What was acknowledged is never lost. A message may come
    twice only when the connection broke between: its sender or its receiver then could not know what had become of it.
    """

    def __init__(self, devices: list[Device]):
        self._devices = devices
        self._restarts: list[tuple[float, float]] = []

    def restarted(self, away: float, back: float) -> None:
        self._restarts.append((away, back))
        for device in self._devices:
            device.await_one("sent", back)

    def breaks(self, device: Device, what: str) -> list[tuple[float, float]]:
        """When the device may have been without a connection, or without its subscription to `what`.

        azure-iot-device for Node restores each of its links by itself, and tries again later and later.
        """
        returns = [(away, device.await_one(what, back)["at"]) for away, back in self._restarts]
        begun = [line["at"] for line in device.said("renewing")]
        renewed = [line["at"] for line in device.said("renewed")]
        # Over AMQP a new token is put on the open connection.
        return returns + list(zip(begun, renewed)) if begun else returns

    def broken(self, device: Device, what: str, begun: float, ended: float) -> bool:
        return any(start <= ended and begun <= end for start, end in self.breaks(device, what))

    def telemetry(self, device: Device, arrived: list[str]) -> int:
        """Every message that the SDK says was sent is in the stream, once; how many."""
        sent = {line["id"]: line for line in device.said("sent")}
        tried = sent | {line["id"]: line for line in device.said("failed") if "id" in line}
        times = Counter(arrived)
        lost = [id for id in sent if not times[id]]
        assert not lost, f"{device.name}: acknowledged and not in the stream: {lost}"
        strange = [id for id in times if id not in tried]
        assert not strange, f"{device.name}: in the stream and never sent: {strange}"
        doubled = [
            tried[id]
            for id, count in times.items()
            if count > 1 and not self.broken(device, "sent", tried[id]["begun"], tried[id]["at"])
        ]
        assert not doubled, f"{device.name}: doubled while the connection held: {doubled}"
        return len(sent)

    def messages(self, device: Device, done: list[dict]) -> int:
        """Every message that the back end was told is in the queue came to the device, and came twice only over a break."""
        sent = [f"{step['step']}" for step in of(done, "message", device) if not step["failure"]]
        came: dict[str, list[float]] = {}
        for line in device.said("received"):
            came.setdefault(line["id"], []).append(line["at"])
        lost = [id for id in sent if id not in came]
        assert not lost, f"{device.name}: taken by the hub and never delivered: {lost}"
        doubled = {
            id: times
            for id, times in came.items()
            if len(times) > 1 and not all(self.broken(device, "received", *pair) for pair in zip(times, times[1:]))
        }
        assert not doubled, f"{device.name}: delivered twice while the connection held: {doubled}"
        return len(sent)

    def calls(self, device: Device, done: list[dict]) -> int:
        """Every call that a restart or a renewal did not interrupt was answered by the device."""
        calls = of(done, "call", device)
        failed = [call for call in calls if call["failure"] and not self.broken(device, "called", call["begun"], call["at"])]
        assert not failed, f"{device.name}: calls that failed while it was connected: {failed}"
        return sum(1 for call in calls if not call["failure"])

    def desired(self, device: Device, done: list[dict]) -> int:
        """Every change that was made while the device was connected was pushed to it, in order."""
        pushed = [line["step"] for line in device.said("desired")]
        assert pushed == sorted(set(pushed)), f"{device.name}: pushed out of order or twice: {pushed}"
        changes = of(done, "desired", device)
        missing = [
            change
            for change in changes
            if not change["failure"]
            and change["step"] not in pushed
            and not self.broken(device, "desired", change["begun"], change["at"] + 1)
        ]
        assert not missing, f"{device.name}: changes that were never pushed: {missing}"
        return len(pushed)

    def service(self, done: list[dict]) -> None:
        """The back end failed only while the hub was away, or over a connection from before. (For calls see `calls`.)"""
        failed = [
            step
            for step in done
            if step["failure"]
            and step["is"] != "call"
            and not any(away <= step["at"] and step["connected"] <= back for away, back in self._restarts)
        ]
        assert not failed, f"the back end failed while the hub was there: {failed}"

    def each_phase(self, device: Device, done: list[dict]) -> None:
        """After each restart the device heard a message, a call and a change: no subscription was forgotten."""
        for _, back in self._restarts:
            for what in ("received", "called", "desired"):
                device.await_one(what, back)


def of(done: list[dict], what: str, device: Device) -> list[dict]:
    return [step for step in done if step["is"] == what and step["device"] == device.name]


def all_delivered(device: Device, done: list[dict]) -> None:
    """Waits until the device has what the hub has taken for it."""
    sent = {f"{step['step']}" for step in of(done, "message", device) if not step["failure"]}
    until(lambda: sent <= {line["id"] for line in device.said("received")}, RETURN_SECONDS_MAX, "the last messages")
