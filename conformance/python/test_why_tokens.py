"""`holdfast why` on keys and tokens: what a device was not told of its credential."""

import time

import pytest
from azure.iot.hub import IoTHubRegistryManager

from harness import devices, mistakes, sas
from harness.raw_amqp import open_link
from harness.raw_mqtt import RawDevice
from harness.rest import Identity, Rest
from harness.why import Refusals, refused, the_refusal


def with_key(hub, identity: Identity, key: str) -> Identity:
    return Identity(hub, {**identity.record, "authentication": {"symmetricKey": {"primaryKey": key}}})


def rejected(hub, client_id: str, password: str | None) -> None:
    with RawDevice(hub, client_id, password) as device:
        assert device.connack == 5


def test_a_wrong_key(hub, registry, name):
    identity = registry.create(name)
    wrong = sas.new_key()
    refused(devices.by_key(hub, with_key(hub, identity, wrong)))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "wrong-key"
    assert name in entry["explanation"]
    for secret in (wrong, identity.key):
        assert secret not in str(entry)


def test_a_key_from_before_it_was_replaced(hub, registry, name):
    identity = registry.create(name)
    keys = {"primaryKey": sas.new_key(), "secondaryKey": sas.new_key()}
    registry.update(name, authentication={"type": "sas", "symmetricKey": keys})
    refused(devices.by_key(hub, identity))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "wrong-key"
    assert "was changed by policy iothubowner" in entry["explanation"] and "old key" in entry["explanation"]


def test_the_key_of_another_device(hub, registry, name):
    identity, other = registry.create(name), registry.create(f"{name}-other")
    refused(devices.by_key(hub, with_key(hub, identity, other.key)))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "key-of-another"
    assert f"device {name}-other" in entry["presented"]
    assert hub.cli(*entry["fix"].split()[1:])["deviceId"] == name
    assert other.key not in str(entry)


def test_the_key_of_a_device_that_is_no_neighbour(hub, registry, name):
    identity, other = registry.create(name), registry.create(f"zz-{name}")
    refused(devices.by_key(hub, with_key(hub, identity, other.key)))
    assert f"device zz-{name}" in the_refusal(hub, name)["presented"]


def test_the_key_of_a_module_for_another_one_and_for_its_device(hub, registry, name):
    identity = registry.create(name)
    module, other = registry.create_module(name, "reader"), registry.create_module(name, "writer")
    refused(devices.by_key(hub, with_key(hub, module, other.key)))
    [entry] = hub.why(name)
    assert entry["cause"] == "key-of-another"
    assert f"with a key of module {name}/writer, but it is a token for module {name}/reader" in entry["explanation"]
    refused(devices.by_key(hub, with_key(hub, identity, module.key)))
    assert f"module {name}/reader" in hub.why(name)[0]["presented"]


def test_the_key_of_another_policy(hub):
    token = sas.token(hub.hostname, hub.policy_key("device"), "registryRead")
    with Refusals(hub) as refusals:
        assert Rest(hub, authorization=token).call("GET", "/devices").status == 401
        assert "policy device" in refusals.of("key-of-another")["presented"]


def test_a_key_that_was_not_decoded(hub, registry, name):
    identity = registry.create(name)
    rejected(hub, name, mistakes.token(identity.resource, identity.key, key_is_text=True))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "key-not-decoded"
    assert "base64" in entry["explanation"]


def test_the_key_of_a_policy_as_the_python_sdk_uses_it(hub, registry, name):
    key = hub.policy_key("device")
    refused(devices.by_key(hub, with_key(hub, registry.create(name), key)))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "hub-key-without-skn"
    assert "policy `device`" in entry["explanation"] and "skn" in entry["explanation"]
    assert key not in str(entry)


@pytest.mark.parametrize(
    "sent, signed",
    [
        ("{h}%2Fdevices%2F{d}", "{h}/devices/{d}"),
        ("{h}/devices/{d}", "{h}%2Fdevices%2F{d}"),
        ("{h}%2Fdevices%2F{d}", "{h}%252Fdevices%252F{d}"),
        ("{h}%2Fdevices%2F{d}", "{h}%2fdevices%2f{d}"),
    ],
    ids=["before encoding", "after encoding", "after encoding twice", "in small digits"],
)
def test_another_spelling_of_the_resource_was_signed(sent, signed, hub, registry, name):
    identity = registry.create(name)
    sent, signed = (text.format(h=hub.hostname, d=name) for text in (sent, signed))
    rejected(hub, name, mistakes.token(identity.resource, identity.key, sr=sent, signed=signed))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-signed-other-sr"
    assert sent in entry["presented"] and signed in entry["presented"]


@pytest.mark.parametrize("text", mistakes.SEPARATORS.values(), ids=mistakes.SEPARATORS)
def test_another_text_was_signed(text, hub, registry, name):
    identity = registry.create(name)
    rejected(hub, name, mistakes.token(identity.resource, identity.key, text=text))
    assert the_refusal(hub, name)["cause"] == "token-signed-other-text"


def test_a_signature_in_hexadecimal(hub, registry, name):
    identity = registry.create(name)
    rejected(hub, name, mistakes.token(identity.resource, identity.key, hexadecimal=True))
    assert "hexadecimal" in the_refusal(hub, name)["explanation"]


def test_an_expired_token_or_a_clock_that_is_off(hub, registry, name):
    rejected(hub, name, registry.create(name).token(seconds=-2 * 3600))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-expired"
    assert "2 h" in entry["explanation"] and "clock" in entry["explanation"]
    assert "local time" in entry["explanation"]


def test_a_lifetime_in_place_of_an_end(hub, registry, name):
    identity = registry.create(name)
    rejected(hub, name, mistakes.token(identity.resource, identity.key, se=3600))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-lifetime-as-end"
    assert entry["presented"] == "se=3600"


@pytest.fixture
def setting(hub):
    """Changes a setting for one test."""
    changed = []

    def change(name: str, value: str, before: str) -> None:
        hub.cli("settings", "set", name, value)
        changed.append((name, before))

    yield change
    for name, before in changed:
        hub.cli("settings", "set", name, before)


def test_a_token_that_lives_too_long(hub, registry, name, setting):
    setting("maxTokenLifetime", "24h", "none")
    rejected(hub, name, registry.create(name).token(seconds=30 * 86400))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-too-long"
    assert "maxTokenLifetime" in entry["explanation"]


def test_an_end_in_milliseconds_is_admitted_without_a_cap_and_explained_with_one(hub, registry, name, setting):
    identity = registry.create(name)
    end = int(time.time() + 3600) * 1000
    token = mistakes.token(identity.resource, identity.key, se=end)
    with RawDevice(hub, name, token) as device:
        assert device.connack == 0
    setting("maxTokenLifetime", "24h", "none")
    rejected(hub, name, token)
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-in-milliseconds"
    assert entry["expected"] == f"se={end // 1000}"


def test_a_policy_key_where_devices_need_their_own(hub, registry, name, setting):
    setting("deviceScopedTokensOnly", "true", "false")
    resource = registry.create(name).resource
    refused(devices.by_token(hub, sas.token(resource, hub.policy_key("device"), "device")))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "hub-key-not-allowed"
    assert "deviceScopedTokensOnly" in entry["explanation"]


@pytest.mark.parametrize(
    "token", ["hunter2", "SharedAccessSignature sr=x", "SharedAccessSignature sr=x&sig=y&se=soon"]
)
def test_a_password_that_is_no_token(token, hub, registry, name):
    registry.create(name)
    rejected(hub, name, token)
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-malformed"
    assert "hunter2" not in str(entry), "what may be a password is not repeated"


def test_the_key_as_password(hub, registry, name):
    identity = registry.create(name)
    rejected(hub, name, identity.key)
    entry = the_refusal(hub, name)
    assert entry["cause"] == "key-as-password"
    assert identity.key not in str(entry)


def test_the_connection_string_as_password(hub, registry, name):
    identity = registry.create(name)
    rejected(hub, name, identity.connection_string)
    entry = the_refusal(hub, name)
    assert entry["cause"] == "connection-string-as-password"
    assert identity.key not in str(entry)


def test_a_token_of_entra_id(hub):
    with Refusals(hub) as refusals:
        token = "Bearer eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln"
        assert Rest(hub, authorization=token).call("GET", "/devices").status == 401
        assert "eyJ" not in str(refusals.of("entra-token"))


def test_a_token_in_the_query(hub, registry, name):
    import requests

    identity = registry.create(name)
    query = identity.token().removeprefix("SharedAccessSignature ")
    url = f"https://{hub.hostname}/devices/{name}/messages/events?api-version=2021-04-12&{query}"
    assert requests.post(url, data=b"{}", verify=hub.ca_file, timeout=10).status_code == 401
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-in-query"
    assert identity.token().split("sig=")[1].split("&")[0] not in str(entry)


def test_a_token_for_another_device(hub, registry, name):
    other = registry.create(f"{name}-other")
    registry.create(name)
    rejected(hub, name, other.token())
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-scope"
    assert f"{name}-other" in entry["presented"]


def test_a_token_for_another_host(hub, registry, name):
    identity = registry.create(name)
    rejected(hub, name, sas.token(f"plant.azure-devices.net/devices/{name}", identity.key))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "token-host"
    assert "plant.azure-devices.net" in entry["presented"] and hub.hostname in entry["expected"]


def test_an_unknown_policy(hub, registry, name):
    rejected(hub, name, sas.token(registry.create(name).resource, sas.new_key(), "devices"))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "unknown-policy"
    assert "devices" in entry["presented"] and "`device`" in entry["explanation"]


def test_a_policy_without_the_right(hub, registry, name):
    resource = registry.create(name).resource
    refused(devices.by_token(hub, sas.token(resource, hub.policy_key("service"), "service")))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "missing-right"
    assert "service" in entry["explanation"] and "DeviceConnect" in entry["expected"]


def test_a_service_without_the_right(hub, name):
    text = f"HostName={hub.hostname};SharedAccessKeyName=registryRead;SharedAccessKey={hub.policy_key('registryRead')}"
    with Refusals(hub) as refusals:
        with pytest.raises(Exception, match="Unauthorized|401"):
            IoTHubRegistryManager.from_connection_string(text).create_device_with_sas(name, "", "", "enabled")
        assert "RegistryWrite" in refusals.of("missing-right")["expected"]


def test_no_credential_at_all(hub, registry, name):
    registry.create(name)
    rejected(hub, name, None)
    assert the_refusal(hub, name)["cause"] == "no-credential"


def test_a_refusal_over_https(hub, registry, name):
    identity = registry.create(name)
    rest = Rest(hub, authorization=identity.token(key=sas.new_key()))
    assert rest.call("POST", f"/devices/{name}/messages/events", data=b"x").status == 401
    assert the_refusal(hub, name)["cause"] == "wrong-key"


def test_the_management_credential(hub):
    with Refusals(hub) as refusals:
        assert Rest(hub, authorization="Bearer nobody").call("GET", "/holdfast/v1/why").status == 401
        refusals.of("management-credential")


def test_why_says_that_the_resource_of_a_token_is_too_narrow_for_a_link(hub):
    token = sas.token(f"{hub.hostname}/messages/devicebound", hub.policy_key("service"), "service")
    with Refusals(hub) as refusals:
        assert b"amqp:unauthorized-access" in open_link(hub, token, "/messages/serviceBound/feedback", sends=False)
        entry = refusals.of("token-scope")
        assert entry["presented"].endswith("/messages/devicebound")
        assert "/messages/servicebound/feedback" in entry["expected"]
