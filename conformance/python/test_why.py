"""`holdfast why` tells the operator what the device was not told."""

import socket

import pytest
from azure.iot.device import exceptions

from harness import devices, sas
from harness.certificates import Authority, Validity, self_signed
from harness.hub import Hub
from harness.raw_mqtt import RawDevice
from harness.rest import Identity, Rest
from harness.wait import until

MEMBERS = ("cause", "explanation", "presented", "expected", "fix")


def the_refusal(hub: Hub, device: str) -> dict:
    """The one entry that a single refused attempt leaves, complete and free of secrets."""
    [entry] = until(lambda: hub.why(device), 3, f"an entry for {device}")
    for member in MEMBERS:
        assert entry[member], f"`{member}` says nothing: {entry}"
    return entry


def refused(client) -> None:
    with pytest.raises((exceptions.CredentialError, exceptions.ConnectionFailedError)), devices.connected(client):
        pass


def test_a_wrong_key(hub, registry, name):
    identity = registry.create(name)
    wrong = sas.new_key()
    refused(devices.by_key(hub, with_key(hub, identity, wrong)))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "wrong-key"
    assert name in entry["explanation"]
    for secret in (wrong, identity.key):
        assert secret not in str(entry)


def test_the_key_of_another_device(hub, registry, name):
    identity = registry.create(name)
    other = registry.create(f"{name}-other")
    refused(devices.by_key(hub, with_key(hub, identity, other.key)))
    assert the_refusal(hub, name)["cause"] == "wrong-key"


def test_an_expired_token_or_a_clock_that_is_off(hub, registry, name):
    token = registry.create(name).token(seconds=-2 * 3600)
    with RawDevice(hub, name, token) as device:
        assert device.connack == 5
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-expired"
    assert "2 h" in entry["explanation"] and "clock" in entry["explanation"]


def test_an_unknown_device_with_one_of_nearly_its_name(hub, registry, name):
    registry.create(name)
    almost = name[:-1] + ("0" if name[-1] != "0" else "1")
    refused(devices.by_key(hub, with_key(hub, named(hub, almost), sas.new_key())))
    entry = the_refusal(hub, almost)
    assert entry["cause"] == "unknown-device"
    assert name in entry["expected"]


def test_an_unknown_device_that_differs_in_case_only(hub, registry, name):
    registry.create(name)
    refused(devices.by_key(hub, with_key(hub, named(hub, name.upper()), sas.new_key())))
    assert name in the_refusal(hub, name.upper())["expected"]


def test_an_unknown_module(hub, registry, name):
    registry.create(name)
    registry.create_module(name, "thermostat")
    missing = Identity(hub, {"deviceId": name, "moduleId": "thermostad"})
    with RawDevice(hub, f"{name}/thermostad", sas.token(missing.resource, sas.new_key())) as device:
        assert device.connack == 5
    [entry] = [entry for entry in hub.why(name) if entry["cause"] == "unknown-module"]
    assert "thermostat" in entry["expected"]


def test_a_disabled_device(hub, registry, name):
    identity = registry.create(name, status="disabled", statusReason="returned to the maker")
    refused(devices.by_key(hub, identity))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "disabled"
    assert "returned to the maker" in entry["explanation"]
    assert name in entry["fix"] and "enabled" in entry["fix"]


def test_a_policy_without_the_right(hub, registry, name):
    resource = registry.create(name).resource
    refused(devices.by_token(hub, sas.token(resource, hub.policy_key("service"), "service")))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "missing-right"
    assert "service" in entry["explanation"] and "DeviceConnect" in entry["expected"]


def test_an_unknown_policy(hub, registry, name):
    resource = registry.create(name).resource
    with RawDevice(hub, name, sas.token(resource, sas.new_key(), "devices")) as device:
        assert device.connack == 5
    entry = the_refusal(hub, name)
    assert entry["cause"] == "unknown-policy"
    assert "devices" in entry["presented"]


def test_a_token_for_another_device(hub, registry, name):
    other = registry.create(f"{name}-other")
    registry.create(name)
    with RawDevice(hub, name, other.token()) as device:
        assert device.connack == 5
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-scope"
    assert f"{name}-other" in entry["presented"]


@pytest.mark.parametrize(
    "token", ["hunter2", "SharedAccessSignature sr=x", "SharedAccessSignature sr=x&sig=y&se=soon"]
)
def test_a_password_that_is_no_token(token, hub, registry, name):
    registry.create(name)
    with RawDevice(hub, name, token) as device:
        assert device.connack == 5
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-malformed"
    assert "hunter2" not in str(entry), "what may be a password is not repeated"


def test_no_credential_at_all(hub, registry, name):
    registry.create(name)
    with RawDevice(hub, name) as device:
        assert device.connack == 5
    assert the_refusal(hub, name)["cause"] == "no-credential"


def test_a_thumbprint_that_does_not_match(hub, registry, name, tmp_path):
    registered, presented = self_signed(tmp_path, name), self_signed(tmp_path, f"{name}-new")
    registry.create(name, {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": registered.sha256}})
    refused(devices.by_certificate(hub, name, presented))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "thumbprint-mismatch"
    assert presented.sha256 in entry["presented"].upper()
    assert registered.sha256 in entry["expected"].upper()


def test_a_chain_that_nobody_vouches_for(hub, registry, name, tmp_path):
    registry.create(name, {"type": "certificateAuthority"})
    refused(devices.by_certificate(hub, name, Authority(tmp_path, "Backyard CA").issue(name)))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "untrusted-chain"
    assert "Backyard CA" in entry["presented"] + entry["explanation"]


def test_a_chain_that_has_ended(hub, registry, name, tmp_path):
    root = Authority(tmp_path, f"root of {name}")
    hub.cli("certificate", "add", str(root.certificate_file), "--verified")
    registry.create(name, {"type": "certificateAuthority"})
    refused(devices.by_certificate(hub, name, root.issue(name, validity=Validity.past())))
    assert the_refusal(hub, name)["cause"] == "certificate-expired"


def test_a_topic_of_another_device(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert not device.publish("devices/somebody/messages/events/", b"x")
    entry = the_refusal(hub, name)
    assert entry["cause"] == "topic"
    assert "somebody" in entry["presented"]


def test_a_message_over_the_limit(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert not device.publish(f"devices/{name}/messages/events/", bytes(256 * 1024 + 1))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "message-too-large"
    assert "262145" in entry["presented"].replace(",", "").replace(" ", "")


def test_a_client_id_that_is_not_the_user_names(hub, registry, name):
    identity = registry.create(name)
    user_name = f"{hub.hostname}/{name}/?api-version=2021-04-12"
    with RawDevice(hub, f"{name}-x", identity.token(), user_name) as device:
        assert device.connack == 5
    until(lambda: [entry for entry in hub.why(name) if entry["cause"] == "client-id"], 3)


def test_a_refusal_over_https(hub, registry, name):
    identity = registry.create(name)
    rest = Rest(hub, authorization=identity.token(key=sas.new_key()))
    assert rest.call("POST", f"/devices/{name}/messages/events", data=b"x").status == 401
    assert the_refusal(hub, name)["cause"] == "wrong-key"


@pytest.mark.parametrize("port, spoken", [("mqtt", "MQTT"), ("amqp", "AMQP"), ("https", "HTTP")])
def test_plain_text_at_the_door(port, spoken, hub):
    greetings = {
        "MQTT": b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04dev1",
        "AMQP": b"AMQP\x00\x01\x00\x00",
        "HTTP": b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
    }
    with socket.create_connection((hub.address, hub.ports[port]), 5) as stream:
        stream.sendall(greetings[spoken])
        stream.settimeout(10)
        try:
            stream.recv(100)
        except ConnectionResetError:
            pass
    found = until(lambda: [entry for entry in hub.why() if is_plain(entry, spoken)], 3)
    assert all(found[0][member] for member in MEMBERS)


def is_plain(entry: dict, spoken: str) -> bool:
    return entry["cause"] == "plain-text" and spoken in entry["presented"]


def test_a_client_that_does_not_trust_the_hub(hub, registry, name):
    import ssl

    with socket.create_connection((hub.address, hub.ports["mqtt"]), 5) as plain:
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname=hub.hostname)
    until(lambda: [entry for entry in hub.why() if entry["cause"] == "tls-server-not-trusted"], 3)


def test_the_newest_refusal_comes_first(hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token(key=sas.new_key())) as device:
        assert device.connack == 5
    with RawDevice(hub, name, identity.token(seconds=-7200)) as device:
        assert device.connack == 5
    until(lambda: [entry["cause"] for entry in hub.why(name)] == ["token-expired", "wrong-key"], 3)


def test_an_admitted_device_has_nothing_to_explain(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert device.connack == 0
    assert hub.why(name) == []


def named(hub: Hub, device: str) -> Identity:
    return Identity(hub, {"deviceId": device})


def with_key(hub: Hub, identity: Identity, key: str) -> Identity:
    keys = {"symmetricKey": {"primaryKey": key}}
    return Identity(hub, {**identity.record, "authentication": keys})
