"""The service API by plain HTTPS, for what an SDK would hide: status, headers, tokens of any shape."""

from dataclasses import dataclass
from urllib.parse import quote

import requests

from harness import sas
from harness.hub import Hub

API_VERSION = "2021-04-12"


@dataclass
class Answer:
    status: int
    headers: dict
    body: object

    @property
    def error(self) -> str | None:
        return self.headers.get("iothub-errorcode")


class Rest:
    """Calls a hub with the token of one policy, or with any `authorization` text."""

    def __init__(self, hub: Hub, policy: str = "iothubowner", authorization: str | None = None):
        self._base = f"https://{hub.hostname}"
        self._session = requests.Session()
        self._session.verify = hub.ca_file
        self._session.trust_env = False
        ahead = hub.clock.seconds if hub.clock else 0
        self._authorization = authorization or sas.token(
            hub.hostname, hub.policy_key(policy), policy, seconds=ahead + 3600
        )

    def call(self, method: str, path: str, body=None, headers: dict | None = None, data=None) -> Answer:
        joiner = "&" if "?" in path else "?"
        response = self._session.request(
            method,
            f"{self._base}{path}{joiner}api-version={API_VERSION}",
            json=body,
            data=data,
            headers={"Authorization": self._authorization, **(headers or {})},
            timeout=15,
        )
        is_json = response.content and "json" in response.headers.get("Content-Type", "")
        return Answer(response.status_code, response.headers, response.json() if is_json else response.content)

    def expect(self, status: int, method: str, path: str, body=None, headers: dict | None = None):
        answer = self.call(method, path, body, headers)
        assert answer.status == status, f"{method} {path}: {answer.status} {answer.body}, expected {status}"
        return answer.body


class Registry:
    """The few registry calls that other tests need to set their scene."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self.rest = Rest(hub)

    def create(self, device: str, authentication: dict | None = None, **fields) -> "Identity":
        body = {"deviceId": device, **fields}
        if authentication:
            body["authentication"] = authentication
        return Identity(self._hub, self.rest.expect(200, "PUT", device_path(device), body))

    def create_module(self, device: str, module: str) -> "Identity":
        body = {"deviceId": device, "moduleId": module}
        answer = self.rest.call("PUT", f"{device_path(device)}/modules/{quote(module, safe='')}", body)
        assert answer.status in (200, 201), answer
        return Identity(self._hub, answer.body)

    def update(self, device: str, **fields) -> dict:
        current = self.rest.expect(200, "GET", device_path(device))
        return self.rest.expect(200, "PUT", device_path(device), {**current, **fields}, {"If-Match": '"*"'})

    def delete(self, device: str) -> None:
        self.rest.expect(204, "DELETE", device_path(device), headers={"If-Match": '"*"'})


class Identity:
    """A device or module as the registry answered it."""

    def __init__(self, hub: Hub, record: dict):
        self._hub = hub
        self.record = record

    @property
    def device(self) -> str:
        return self.record["deviceId"]

    @property
    def module(self) -> str | None:
        return self.record.get("moduleId")

    @property
    def key(self) -> str:
        return self.record["authentication"]["symmetricKey"]["primaryKey"]

    @property
    def resource(self) -> str:
        module = f"/modules/{self.module}" if self.module else ""
        return f"{self._hub.hostname}/devices/{self.device}{module}"

    @property
    def connection_string(self) -> str:
        module = f";ModuleId={self.module}" if self.module else ""
        return f"HostName={self._hub.hostname};DeviceId={self.device}{module};SharedAccessKey={self.key}"

    def token(self, seconds: float = 3600, key: str | None = None) -> str:
        return sas.token(self.resource, key or self.key, seconds=seconds)


def device_path(device: str) -> str:
    return f"/devices/{quote(device, safe='')}"
