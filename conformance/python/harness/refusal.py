"""Refusals as azure-iot-hub raises them."""

from msrest.exceptions import HttpOperationError


def refusal(status: int, code: str):
    return Refusal(status, code)


class Refusal:
    """Expects msrest's error with this status and hub error code."""

    def __init__(self, status: int, code: str):
        self._status, self._code = status, code

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _trace):
        assert isinstance(error, HttpOperationError), f"expected a refusal with {self._status}, got {error!r}"
        response = error.response
        assert (response.status_code, response.headers.get("iothub-errorcode")) == (self._status, self._code)
        assert f"ErrorCode:{self._code};" in response.text
        return True
