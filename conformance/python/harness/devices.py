"""Devices as users write them: the unmodified azure-iot-device with the hub's CA as its only extra."""

from contextlib import contextmanager

from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, X509

from harness.certificates import Credential
from harness.hub import Hub
from harness.rest import Identity


@contextmanager
def connected(client):
    """Connects, hands the client over, and shuts it down whatever happens."""
    try:
        client.connect()
        yield client
    finally:
        client.shutdown()


def by_key(hub: Hub, identity: Identity, websockets: bool = False, **options):
    kind = IoTHubModuleClient if identity.module else IoTHubDeviceClient
    return kind.create_from_connection_string(identity.connection_string, **common(hub, websockets, options))


def by_token(hub: Hub, token: str, websockets: bool = False, **options):
    return IoTHubDeviceClient.create_from_sastoken(token, **common(hub, websockets, options))


def by_certificate(hub: Hub, device: str, credential: Credential, websockets: bool = False, **options):
    return IoTHubDeviceClient.create_from_x509_certificate(
        x509=X509(cert_file=str(credential.chain_file), key_file=str(credential.key_file)),
        hostname=hub.hostname,
        device_id=device,
        **common(hub, websockets, options),
    )


def common(hub: Hub, websockets: bool, options: dict) -> dict:
    return {
        "server_verification_cert": hub.ca_text,
        "websockets": websockets,
        "connection_retry": False,
        **options,
    }
