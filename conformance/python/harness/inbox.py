"""Device-bound messages as a device takes them over HTTPS."""

from harness.hub import Hub
from harness.rest import Rest, device_path


class Inbox:
    """The queue of a device as it sees it over HTTPS."""

    def __init__(self, hub: Hub, identity):
        self.path = f"{device_path(identity.device)}/messages/deviceBound"
        self.rest = Rest(hub, authorization=identity.token())

    def receive(self):
        answer = self.rest.call("GET", self.path)
        assert answer.status in (200, 204), answer
        return answer if answer.status == 200 else None

    def settle(self, answer, how: str = "complete") -> int:
        lock = answer.headers["ETag"].strip('"')
        if how == "abandon":
            return self.rest.call("POST", f"{self.path}/{lock}/abandon").status
        return self.rest.call("DELETE", f"{self.path}/{lock}{'?reject' if how == 'reject' else ''}").status
