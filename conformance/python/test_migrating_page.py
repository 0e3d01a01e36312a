"""The program of docs/migrating.md, run as it stands there on lines as Azure exports them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness import sas
from harness.hub import Hub
from harness.rest import Rest

PAGE = (Path(__file__).parents[2] / "docs/migrating.md").read_text()
[(_, PROGRAM)] = re.findall(r"<!-- run: (\S+) -->\n```\w+\n(.*?)```\n", PAGE, re.S)


def line(name: str, module: str | None = None, **members) -> dict:
    """An identity as the export job writes it."""
    keys = {"primaryKey": sas.new_key(), "secondaryKey": sas.new_key()}
    return {
        "id": name,
        **({"moduleId": module} if module else {}),
        "eTag": "MzE1NjM0NDE5",
        "status": "enabled",
        "authentication": {
            "symmetricKey": keys,
            "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
            "type": "sas",
        },
        "twinETag": "AAAAAAAAAAE=",
        "tags": {},
        "properties": {"desired": {"$version": 1}, "reported": {"$version": 1}},
        **members,
    }


def run(hub: Hub, folder: Path, entries: list[dict], service: str | None = None) -> subprocess.CompletedProcess:
    exported = folder / "devices.txt"
    exported.write_text("".join(json.dumps(entry) + "\r\n" for entry in entries), encoding="utf-8-sig")
    variables = {**os.environ, "SERVICE": service or hub.service_connection_string, "CA": hub.ca_file}
    command = [sys.executable, "-c", PROGRAM, str(exported)]
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=60)


def test_a_fleet_moves_with_its_keys_twins_and_modules(hub, tmp_path, name):
    desired = {"rate": 5, "$metadata": {"$lastUpdated": "2024-01-01T00:00:00Z"}, "$version": 2}
    pump = line(name, tags={"site": "north"}, properties={"desired": desired, "reported": {"$version": 1}})
    module = line(name, "m1")
    scope = "ms-azure-iot-edge://gw-638000000000000000"
    gateway = line(f"{name}-gw", capabilities={"iotEdge": True}, deviceScope=scope, parentScopes=[])
    child = line(f"{name}-child", deviceScope=scope, parentScopes=[scope], status="disabled", statusReason="broken")
    agent = line(f"{name}-gw", "$edgeAgent")
    crowd = [line(f"{name}-{number}") for number in range(130)]
    done = run(hub, tmp_path, [module, pump, agent, gateway, child, *crowd])
    assert (done.returncode, done.stdout.splitlines()) == (0, ["135 registered, 0 failed"]), done.stdout + done.stderr
    rest = Rest(hub)
    for entry in (pump, gateway, child, crowd[-1]):
        device = rest.expect(200, "GET", f"/devices/{entry['id']}")
        assert device["authentication"]["symmetricKey"] == entry["authentication"]["symmetricKey"]
        assert device["status"] == entry["status"]
    for entry in (module, agent):
        keys = rest.expect(200, "GET", f"/devices/{entry['id']}/modules/{entry['moduleId']}")["authentication"]
        assert keys["symmetricKey"] == entry["authentication"]["symmetricKey"]
    twin = rest.expect(200, "GET", f"/twins/{name}")
    assert twin["tags"] == {"site": "north"}
    assert twin["properties"]["desired"]["rate"] == 5
    # Once more: nothing is left behind, and nothing is doubled.
    again = run(hub, tmp_path, [pump])
    assert again.stdout.splitlines() == ["1 registered, 0 failed"]


@pytest.mark.parametrize("bad", ["a b", ""])
def test_what_cannot_be_registered_is_named_and_the_others_are_there(hub, tmp_path, name, bad):
    done = run(hub, tmp_path, [line(bad), line(name)])
    failed, counted = done.stdout.splitlines()
    assert failed.startswith(f"failed {bad} None ") and counted == "1 registered, 1 failed"
    assert done.returncode == 1
    assert Rest(hub).expect(200, "GET", f"/devices/{name}")["deviceId"] == name


def test_a_policy_that_may_not_register_is_refused(hub, tmp_path, name):
    done = run(hub, tmp_path, [line(name)], service=hub.ready["policies"]["registryRead"])
    assert done.returncode == 1
    assert done.stderr.startswith("the hub refused: ") and done.stdout == ""
    assert Rest(hub).call("GET", f"/devices/{name}").status == 404
