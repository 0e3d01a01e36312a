"""What clients chose is printed by every command so that no terminal obeys it and no line is forged."""

import json
import subprocess
import unicodedata
from urllib.parse import quote

import pytest
from azure.iot.device import Message, MethodResponse
from azure.iot.hub.models import Twin, TwinProperties

from harness import devices
from harness.hub import binary
from harness.raw_mqtt import RawDevice
from harness.sas import token
from harness.wait import until

FORGED = "2026-11-30T00:00:00Z forged"
# A title, a bell, a cleared screen, a line, DEL, a C1 control, both kinds of marks that turn text round, a separator, a BOM.
HOSTILE = f"a\x1b]0;owned\x07\x1b[2J\r\n{FORGED}\n\x7f\x9b31m\u202e\u2066\u2028\ufeff\U000e0041z"
# Names of twin properties have no control characters.
HOSTILE_NAME = "k\u202e\u2066\u2028\ufeff"


def assert_harmless(text: str, where: str) -> None:
    obeyed = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")}
    assert not obeyed, f"{where}: {sorted(map(ascii, obeyed))}"
    assert not [line for line in text.split("\n") if line.startswith(FORGED)], f"{where}: {text}"


def printed(hub, *arguments: str, given: str | None = None) -> str:
    """What a command prints, on both outputs, which has to be harmless."""
    command = [binary(), *arguments, "--ready-file", str(hub.ready_file)]
    done = subprocess.run(command, capture_output=True, input=given and given.encode(), timeout=30)
    assert_harmless(done.stdout.decode(), " ".join(arguments))
    assert_harmless(done.stderr.decode(), f"{' '.join(arguments)}: standard error")
    return done.stdout.decode()


@pytest.fixture(scope="module")
def victim(hub, registry):
    """A device that says hostile things wherever it may, and is spoken of in hostile words."""
    name = "victim"
    identity = registry.create(name)
    forged = token(f"{hub.hostname}/devices/{name}", "c2VjcmV0", policy=quote(HOSTILE))
    user_name = f"{hub.hostname}/{name}/?api-version=2021-04-12&DeviceClientType={quote(HOSTILE)}"
    refused = RawDevice(hub, name, forged, user_name).open()
    assert refused.connack == 5
    until(lambda: hub.why(name), 5, "the refusal")
    with devices.connected(devices.by_key(hub, identity)) as client:
        yield name, client


def test_what_a_refused_client_says_is_printed_as_text(hub, victim):
    name, _ = victim
    for command in (["audit", "list"], ["why"], ["why", name], ["posture", "--all"], ["export"]):
        printed(hub, *command)
        printed(hub, *command, "-o", "json")
    records = [json.loads(line) for line in printed(hub, "audit", "list", "-o", "jsonl").splitlines()]
    policies = [(record["facts"].get("token") or {}).get("skn") for record in records]
    assert HOSTILE in policies, "JSON gives back what was sent"
    for form in ("text", "html", "json"):
        printed(hub, "posture", "report", "--format", form)


def test_what_a_device_sends_is_printed_as_text(hub, victim):
    name, client = victim
    message = Message(HOSTILE)
    message.custom_properties = {HOSTILE_NAME: HOSTILE}
    client.send_message(message)
    for output in ("table", "json"):
        seen = printed(hub, "events", "watch", "--earliest", "--count", "1", "--device", name, "-o", output)
        assert "owned" in seen


def test_a_twin_is_printed_as_text_and_comes_back_whole(hub, victim, service):
    name, client = victim
    client.patch_twin_reported_properties({HOSTILE_NAME: HOSTILE})
    service.update_twin(name, Twin(tags={HOSTILE_NAME: HOSTILE}, properties=TwinProperties(desired={})), "*")
    for output in ("table", "json", "jsonl"):
        twin = printed(hub, "twin", "get", name, "-o", output)
        assert "owned" in twin
    assert json.loads(twin)["tags"] == {HOSTILE_NAME: HOSTILE}
    printed(hub, "device", "show", name)


def test_the_answer_of_a_method_is_printed_as_text(hub, victim):
    name, client = victim
    client.on_method_request_received = lambda request: client.send_method_response(
        MethodResponse.create_from_method_request(request, 200, {"said": HOSTILE})
    )
    for output in ("table", "json"):
        assert "owned" in printed(hub, "method", "call", name, "speak", "-o", output)


def test_the_words_of_a_back_end_are_printed_as_text(hub, victim, service):
    name, _ = victim
    printed(hub, "device", "update", name, "--status", "enabled", "--status-reason", HOSTILE)
    for output in ("table", "json"):
        assert "owned" in printed(hub, "device", "show", name, "-o", output)
        printed(hub, "device", "list", "-o", output)
    service.send_c2d_message(name, HOSTILE, properties={"messageId": "order-1", "said": HOSTILE})
    printed(hub, "c2d", "list", name)
    printed(hub, "trace", "order-1")


def test_a_credential_is_explained_as_text(hub):
    text = f"HostName={hub.hostname};DeviceId={HOSTILE};SharedAccessKey={HOSTILE}"
    printed(hub, "explain", "-", given=text)


def test_the_log_of_the_hub_is_text(hub, victim):
    log = (hub.folder / "stderr").read_bytes().decode()
    assert_harmless(log, "the log")
