"""`holdfast why` on the handshake, and on what comes in its place."""

import socket
import ssl
import subprocess

import pytest

from harness import devices
from harness.raw_amqp import to_the_end
from harness.raw_mqtt import client_context, tls_stream
from harness.why import Refusals, tried

GREETINGS = {
    "MQTT": b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04dev1",
    "AMQP": b"AMQP\x03\x01\x00\x00",
    "HTTP": b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
}


@pytest.mark.parametrize("port, spoken", [("mqtt", "MQTT"), ("amqp", "AMQP"), ("https", "HTTP"), ("mqtt", "HTTP")])
def test_plain_text_at_the_door(port, spoken, hub):
    with Refusals(hub) as refusals:
        with socket.create_connection((hub.address, hub.ports[port]), 5) as stream:
            stream.sendall(GREETINGS[spoken])
            to_the_end(stream)
        assert spoken in refusals.of("plain-text")["presented"]


@pytest.mark.parametrize(
    "port, spoken", [("mqtt", "HTTP"), ("mqtt", "AMQP"), ("https", "MQTT"), ("https", "AMQP"), ("amqp", "MQTT"), ("amqp", "HTTP")]
)
def test_the_right_hub_by_the_wrong_port(port, spoken, hub):
    with Refusals(hub) as refusals:
        with tls_stream(hub, port) as stream:
            stream.sendall(GREETINGS[spoken])
            to_the_end(stream)
        entry = refusals.of("wrong-port")
    assert spoken in entry["presented"] and port.upper() in entry["expected"]


def openssl(hub, *options: str) -> None:
    command = ["openssl", "s_client", "-connect", f"{hub.address}:{hub.ports['mqtt']}", *options]
    subprocess.run(command, input=b"", capture_output=True, timeout=15)


@pytest.mark.parametrize("option, version", [("-tls1", "1.0"), ("-tls1_1", "1.1")])
def test_a_version_that_is_too_old(option, version, hub):
    with Refusals(hub) as refusals:
        openssl(hub, option, "-cipher", "ALL:@SECLEVEL=0")
        assert version in refusals.of("tls-version")["presented"]


def test_no_common_cipher(hub):
    with Refusals(hub) as refusals:
        openssl(hub, "-tls1_2", "-cipher", "AES128-SHA:AES256-SHA256:@SECLEVEL=0")
        entry = refusals.of("no-common-cipher")
    assert entry["presented"] == "RSA_WITH_AES_256_CBC_SHA256, RSA_WITH_AES_128_CBC_SHA" or "AES_128_CBC_SHA" in entry["presented"]


def test_no_common_parameters(hub):
    with Refusals(hub) as refusals:
        openssl(hub, "-tls1_3", "-groups", "ffdhe2048")
        refusals.of("tls-parameters")


def test_a_client_that_was_not_given_the_authority(hub, registry, name):
    identity = registry.create(name)
    with Refusals(hub) as refusals:
        client = devices.IoTHubDeviceClient.create_from_connection_string(
            identity.connection_string, connection_retry=False
        )
        tried(client)
        assert "UnknownCA" in refusals.of("tls-server-not-trusted")["presented"]


def test_a_client_that_dials_another_name_than_the_certificates(hub):
    with Refusals(hub) as refusals:
        with socket.create_connection((hub.address, hub.ports["mqtt"]), 5) as plain:
            with pytest.raises(ssl.SSLCertVerificationError):
                client_context(hub).wrap_socket(plain, server_hostname="plant.example.net")
        entry = refusals.of("tls-server-name")
    assert "plant.example.net" in entry["presented"] and hub.hostname in entry["expected"]
    assert entry["facts"]["serverName"] == "plant.example.net"


def test_a_handshake_of_rubbish(hub):
    with Refusals(hub) as refusals:
        with socket.create_connection((hub.address, hub.ports["mqtt"]), 5) as stream:
            stream.sendall(b"\x16\x03\x01\x00\x20" + bytes(32))
            to_the_end(stream)
        refusals.of("tls-failed")
