"""The bounds of docs/limits.md that a back end and an operator come to: the last one is taken, and one more is refused."""

import base64
import ssl
from pathlib import Path

import pytest
import requests

from harness.certificates import Authority
from harness.hub import Hub
from harness.rest import Rest, device_path


@pytest.fixture
def fresh(tmp_path):
    hub = Hub(data=tmp_path / "data").start()
    yield hub
    hub.stop()


def own(hub: Hub, method: str, path: str, body: dict | None = None) -> requests.Response:
    """A call of Holdfast's own API."""
    credential = Path(hub.ready["management_credential_file"]).read_text().strip()
    return requests.request(
        method,
        f"https://{hub.hostname}/holdfast/v1/{path}",
        json=body,
        headers={"Authorization": f"Bearer {credential}"},
        verify=hub.ca_file,
        timeout=10,
    )


def test_consumer_groups(fresh):
    # With `$Default` it is twenty.
    for number in range(19):
        assert own(fresh, "PUT", f"consumer-groups/g{number}").status_code == 204
    refused = own(fresh, "PUT", "consumer-groups/one-more")
    assert refused.status_code == 409 and "20" in refused.text
    assert own(fresh, "DELETE", "consumer-groups/g7").status_code == 204
    assert own(fresh, "PUT", "consumer-groups/one-more").status_code == 204


def test_shared_access_policies(fresh):
    # A new hub has five.
    for number in range(11):
        assert own(fresh, "PUT", f"policies/p{number}", {"rights": "ServiceConnect"}).status_code == 200
    refused = own(fresh, "PUT", "policies/one-more", {"rights": "ServiceConnect"})
    assert refused.status_code == 409 and "16" in refused.text
    assert own(fresh, "PUT", "policies/p3", {"rights": "RegistryRead"}).status_code == 200, "a change is none more"
    assert own(fresh, "DELETE", "policies/p3").status_code == 204
    assert own(fresh, "PUT", "policies/one-more", {"rights": "ServiceConnect"}).status_code == 200


def test_certificate_authorities(fresh, tmp_path):
    pem = Authority(tmp_path, "plant").certificate_file.read_text()
    body = {"certificate": base64.b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode(), "verified": True}
    for number in range(25):
        assert own(fresh, "PUT", f"certificates/a{number}", body).status_code == 200
    refused = own(fresh, "PUT", "certificates/one-more", body)
    assert refused.status_code == 409 and "25" in refused.text
    assert own(fresh, "DELETE", "certificates/a3").status_code == 204
    assert own(fresh, "PUT", "certificates/one-more", body).status_code == 200


def test_modules_of_a_device(fresh):
    rest = Rest(fresh)
    rest.expect(200, "PUT", device_path("d1"), {"deviceId": "d1"})
    module = lambda name: rest.call("PUT", f"/devices/d1/modules/{name}", {"deviceId": "d1", "moduleId": name})  # noqa: E731
    for number in range(50):
        assert module(f"m{number}").status in (200, 201)
    refused = module("one-more")
    assert refused.status == 413 and "TooManyModulesOnDevice" in str(refused.body)
    assert rest.call("DELETE", "/devices/d1/modules/m3", headers={"If-Match": "*"}).status == 204
    assert module("one-more").status in (200, 201)
