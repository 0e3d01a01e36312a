"""A storage account that does not answer holds up the devices that wait for it, and nobody else."""

import os
import socket
import threading
import time

import pytest

from harness import sas
from harness.rest import Rest, device_path

DEVICES = 24


@pytest.fixture
def silent():
    """A storage that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener.getsockname()[1]


def test_a_storage_that_does_not_answer_does_not_hold_up_the_operator(hub, registry, name, silent, tmp_path):
    account = tmp_path / "account.txt"
    endpoint = f"https://127.0.0.1:{silent}/account"
    account.write_text(
        f"DefaultEndpointsProtocol=https;AccountName=account;AccountKey={sas.new_key()};BlobEndpoint={endpoint};"
    )
    hub.cli("file", "storage", "set", "--connection-string-file", str(account), "--container", "uploads")
    hub.cli("settings", "set", "fileNotifications", "true")
    begun = threading.Barrier(DEVICES + 1)

    def upload(identity) -> None:
        rest = Rest(hub, authorization=identity.token())
        path = f"{device_path(identity.device)}/files"
        info = rest.expect(200, "POST", path, {"blobName": "a.txt"})
        begun.wait()
        rest.call("POST", f"{path}/notifications", {"correlationId": info["correlationId"], "isSuccess": True})

    identities = [registry.create(f"{name}-{number}") for number in range(DEVICES)]
    waiting = [threading.Thread(target=upload, args=(identity,), daemon=True) for identity in identities]
    before = len(os.listdir(f"/proc/{hub.ready['pid']}/task"))
    for thread in waiting:
        thread.start()
    begun.wait()
    started, threads = time.monotonic(), []
    for number in range(5):
        hub.cli("file", "list")
        registry.create(f"{name}-other-{number}")
        threads.append(len(os.listdir(f"/proc/{hub.ready['pid']}/task")))
    assert time.monotonic() - started < 10
    # Each question keeps a thread: with one for each device there would be none left in the end.
    assert max(threads) < before + DEVICES / 2, (before, threads)
    assert any(thread.is_alive() for thread in waiting), "the storage does not answer"
    hub.cli("file", "storage", "clear")
