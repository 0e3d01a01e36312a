"""`holdfast explain`: what a connection string or token is, and what is wrong with it."""

import json
import subprocess

import pytest

from harness import mistakes, sas
from harness.hub import binary


def explain(text: str, *options: str, stdin: bool = False) -> tuple[int, dict]:
    command = [binary(), "explain", "-" if stdin else text, "-o", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, input=text if stdin else None)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def against(hub):
    """Explains a text and holds it against the hub."""

    def explained(text: str, **options) -> tuple[int, dict]:
        return explain(text, "--ready-file", str(hub.ready_file), **options)

    return explained


def test_what_the_hub_hands_out_is_good(against, hub, registry, name):
    identity, module = registry.create(name), registry.create_module(name, "reader")
    good = {
        identity.connection_string: "device",
        module.connection_string: "module",
        hub.service_connection_string: "service",
        hub.eventhub_connection_string: "Event Hubs",
        identity.token(): "SAS token",
        sas.token(hub.hostname, hub.policy_key("device"), "device"): "SAS token",
    }
    for text, kind in good.items():
        code, answer = against(text)
        assert (code, answer["problems"]) == (0, []), answer
        assert kind in answer["kind"] and answer["checked"].startswith("against the hub")
        for secret in (identity.key, module.key, hub.policy_key("iothubowner"), text.split("sig=")[-1][:20]):
            assert secret not in json.dumps(answer)


def test_what_is_not_right_at_this_hub_is_named(against, hub, registry, name):
    identity, other = registry.create(name), registry.create(f"{name}-other")
    registry.create(f"{name}-off", status="disabled")
    text = identity.connection_string
    wrong = {
        text.replace(identity.key, sas.new_key()): "The key is none of this identity.",
        text.replace(identity.key, other.key): f"that of the device `{name}-other`",
        text.replace(name, name + "x"): f"No device is called `{name}x`.",
        text.replace(name, f"{name}-off"): "disabled",
        text.replace(hub.hostname, "plant.azure-devices.net"): "no name of this hub",
        text.replace(";SharedAccessKey=", ";ModuleId=camera;SharedAccessKey="): "no module `camera`",
        hub.service_connection_string.replace("iothubowner", "owner"): "no shared access policy `owner`",
        hub.service_connection_string.replace("iothubowner", "service"): "none of the policy `service`",
        hub.eventhub_connection_string.replace("EntityPath=", "EntityPath=x"): "There is no event hub `x",
        identity.token(key=other.key): f"that of the device `{name}-other`",
        mistakes.token(identity.resource, identity.key, se=3600): "a length of time",
    }
    for text, problem in wrong.items():
        code, answer = against(text)
        assert code == 1, answer
        assert problem in json.dumps(answer["problems"]), answer
        assert identity.key not in json.dumps(answer)


def test_without_a_hub_it_is_read_all_the_same(hub, registry, name):
    identity = registry.create(name)
    code, answer = explain(identity.connection_string)
    assert (code, answer["checked"]) == (0, "here only: no hub is named")
    code, answer = explain(f'"{identity.connection_string}"\n\n', stdin=True)
    assert code == 1
    assert len(answer["problems"]) == 2


def test_asking_leaves_no_refusal_behind(against, hub, registry, name):
    identity = registry.create(name)
    against(identity.connection_string.replace(name, f"{name}-unknown"))
    against(identity.connection_string.replace(identity.key, sas.new_key()))
    assert hub.why(name) == [] and hub.why(f"{name}-unknown") == []
