"""Settings of the running hub: what they refuse, for new and for live connections."""

import pytest

from harness import sas
from harness.hub import HubFailure
from harness.raw_mqtt import RawDevice

YEAR = 365 * 86_400


@pytest.fixture
def settings(hub):
    yield lambda name, value: hub.cli("settings", "set", name, value)
    hub.cli("settings", "set", "deviceScopedTokensOnly", "false")
    hub.cli("settings", "set", "maxTokenLifetime", "none")


def test_a_policy_key_on_a_device_ends_and_is_refused(hub, registry, name, settings):
    token = sas.token(registry.create(name).resource, hub.policy_key("device"), "device")
    with RawDevice(hub, name, token) as device:
        assert device.connack == 0
        settings("deviceScopedTokensOnly", "true")
        assert device.closed.wait(5)
    with RawDevice(hub, name, token) as device:
        assert device.connack == 5
    entry = hub.why(name)[0]
    assert entry["cause"] == "hub-key-not-allowed"
    settings("deviceScopedTokensOnly", "false")
    with RawDevice(hub, name, token) as device:
        assert device.connack == 0


def test_a_token_that_lives_too_long_ends_and_is_refused(hub, registry, name, settings):
    identity, other = registry.create(name), registry.create(f"{name}-short")
    with RawDevice(hub, name, identity.token(seconds=YEAR)) as long, RawDevice(hub, other.device, other.token()) as short:
        assert (long.connack, short.connack) == (0, 0)
        settings("maxTokenLifetime", "24h")
        assert long.closed.wait(5)
        assert not short.closed.is_set()
    with RawDevice(hub, name, identity.token(seconds=YEAR)) as device:
        assert device.connack == 5
    assert hub.why(name)[0]["cause"] == "token-too-long"


@pytest.mark.parametrize(("name_of", "value"), [("maxTokenLifetime", "30m"), ("maxTokenLifetime", "soon"), ("minTlsVersion", "1.0")])
def test_a_setting_that_makes_no_sense_is_refused_with_what_would(hub, name_of, value):
    with pytest.raises(HubFailure, match="maxTokenLifetime"):
        hub.cli("settings", "set", name_of, value)
