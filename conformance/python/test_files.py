"""Files that devices upload: with the unmodified azure-iot-device and azure-storage-blob, and by hand."""

import base64
import hashlib
import json
import subprocess
import threading
import time
from urllib.parse import quote

import pytest
import requests
import uamqp
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobClient

from harness import devices, sas
from harness.hub import Hub, binary
from harness.rest import Registry, Rest, device_path
from harness.wait import until

TRANSPORTS = {"mqtt": False, "mqtt-ws": True}
MEGABYTE = 1024 * 1024


@pytest.fixture
def device(registry, name):
    return registry.create(name)


def content(bytes_: int) -> bytes:
    """Bytes of which no two stretches are alike."""
    block = b"".join(hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(MEGABYTE // 32))
    return b"".join(n.to_bytes(4, "big") + block[4:] for n in range(bytes_ // MEGABYTE)) + block[: bytes_ % MEGABYTE]


def url(info: dict) -> str:
    return f"https://{info['hostName']}/{info['containerName']}/{quote(info['blobName'])}{info['sasToken']}"


def blob_client(hub: Hub, info: dict, **options) -> BlobClient:
    return BlobClient.from_blob_url(url(info), connection_verify=hub.ca_file, **options)


def fetched(hub: Hub, device: str, name: str) -> bytes:
    """A file as the operator gets it."""
    command = [binary(), "file", "get", device, name, "--ready-file", str(hub.ready_file)]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def files(hub: Hub, device: str) -> dict[str, int]:
    return {file["name"]: file["bytes"] for file in hub.cli("file", "list", device)}


class ByHand:
    """A device that speaks plain HTTPS, as any SDK might."""

    def __init__(self, hub: Hub, identity):
        self.hub = hub
        self.rest = Rest(hub, authorization=identity.token())
        self.path = f"{device_path(identity.device)}/files"

    def start(self, name: str) -> dict:
        return self.rest.expect(200, "POST", self.path, {"blobName": name})

    def finish(self, correlation_id: str, success: bool = True, in_path: bool = False):
        body = {"isSuccess": success, "statusCode": -1}
        if in_path:
            return self.rest.call("POST", f"{self.path}/notifications/{correlation_id}", body)
        return self.rest.call("POST", f"{self.path}/notifications/", {"correlationId": correlation_id, **body})

    def put(self, info: dict, data: bytes, query: str = "", headers: dict | None = None, link: str | None = None):
        return requests.put(
            (link or url(info)) + query, data=data, headers=headers or {}, verify=self.hub.ca_file, timeout=30
        )

    def whole(self, info: dict, data: bytes, **more):
        return self.put(info, data, headers={"x-ms-blob-type": "BlockBlob", **more})

    def block(self, info: dict, number: int, data: bytes):
        # As the C SDK does it: no header of storage's, six characters padded with blanks, base64 as it is.
        return self.put(info, data, f"&comp=block&blockid={block_id(number)}")

    def commit(self, info: dict, numbers: list[int]):
        ids = "".join(f"<Latest>{block_id(number)}</Latest>" for number in numbers)
        xml = f'<?xml version="1.0" encoding="utf-8"?>\n<BlockList>\n{ids}</BlockList>'
        return self.put(info, xml.encode(), "&comp=blocklist")


def block_id(number: int) -> str:
    return base64.b64encode(b"%6d" % number).decode()


@pytest.mark.parametrize("websockets", TRANSPORTS.values(), ids=TRANSPORTS)
@pytest.mark.parametrize("bytes_", [1, 5 * MEGABYTE, 100 * MEGABYTE], ids=["1 B", "5 MB", "100 MB"])
def test_a_device_uploads_a_file_and_it_arrives_byte_for_byte(hub, device, websockets, bytes_):
    data = content(bytes_)
    with devices.connected(devices.by_key(hub, device, websockets)) as client:
        info = client.get_storage_info_for_blob("logs/a b.txt")
        assert info["blobName"] == f"{device.device}/logs/a b.txt"
        assert files(hub, device.device) == {}
        # Small files go as a whole, larger ones in blocks.
        blob_client(hub, info, max_single_put_size=4 * MEGABYTE).upload_blob(data)
        client.notify_blob_upload_status(info["correlationId"], True, 200, "Created")
    assert files(hub, device.device) == {"logs/a b.txt": bytes_}
    assert fetched(hub, device.device, "logs/a b.txt") == data


@pytest.mark.parametrize("name_", ["a b", "ü.txt", "x?y", "x%2Fy", "a/b/c", "#1", "%", "'quoted'.txt", "a&b=c+d"])
def test_names_are_what_the_device_gave(hub, device, name_):
    with devices.connected(devices.by_key(hub, device)) as client:
        info = client.get_storage_info_for_blob(name_)
        blob_client(hub, info).upload_blob(b"x")
        client.notify_blob_upload_status(info["correlationId"], True, 200, "")
    assert files(hub, device.device) == {name_: 1}
    assert fetched(hub, device.device, name_) == b"x"


def test_blocks_as_the_c_sdk_sends_them_make_a_file_in_the_order_of_the_list(hub, device):
    hand = ByHand(hub, device)
    info = hand.start("c.bin")
    parts = {number: bytes([number]) * (MEGABYTE + number) for number in range(12)}
    for number in reversed(parts):
        answer = hand.block(info, number, parts[number])
        assert (answer.status_code, answer.text) == (201, "")
    assert files(hub, device.device) == {}, "nothing is seen before the list"
    answer = hand.commit(info, [3, 0, 11, 3])
    assert answer.status_code == 201 and answer.headers["ETag"] and answer.headers["Last-Modified"]
    assert fetched(hub, device.device, "c.bin") == parts[3] + parts[0] + parts[11] + parts[3]
    # Who missed the answer asks again, and a list of what there is not changes nothing.
    assert hand.commit(info, [3, 0, 11, 3]).status_code == 201
    answer = hand.commit(info, [99])
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (400, "InvalidBlockList")
    assert "<Code>InvalidBlockList</Code>" in answer.text
    assert hand.finish(info["correlationId"]).status == 204


def test_encoded_slashes_are_slashes_and_the_name_of_a_file_is_not_that_of_its_folder(hub, device):
    hand = ByHand(hub, device)
    for name in ("logs", "logs/a.txt"):
        info = hand.start(name)
        link = f"https://{hub.hostname}/uploads/{quote(info['blobName'], safe='').replace('%2F', '%2f')}{info['sasToken']}"
        assert hand.put(info, name.encode(), link=link, headers={"x-ms-blob-type": "BlockBlob"}).status_code == 201
        assert hand.finish(info["correlationId"], in_path=True).status == 204
    assert {name: fetched(hub, device.device, name) for name in files(hub, device.device)} == {
        "logs": b"logs",
        "logs/a.txt": b"logs/a.txt",
    }


def test_a_new_upload_takes_the_place_of_the_old_file_when_it_is_whole(hub, device):
    hand = ByHand(hub, device)
    info = hand.start("f")
    assert hand.whole(info, b"old").status_code == 201
    # The same link writes once more, block by block: what is there stays until the list.
    assert hand.block(info, 0, b"ne").status_code == 201
    assert hand.block(info, 1, b"w").status_code == 201
    assert fetched(hub, device.device, "f") == b"old"
    assert hand.commit(info, [0, 1]).status_code == 201
    assert fetched(hub, device.device, "f") == b"new"
    assert hand.finish(info["correlationId"]).status == 204
    again = hand.start("f")
    assert hand.block(again, 0, b"newer").status_code == 201
    assert fetched(hub, device.device, "f") == b"new"
    assert hand.commit(again, [0]).status_code == 201
    assert fetched(hub, device.device, "f") == b"newer"
    assert hand.finish(again["correlationId"]).status == 204
    uploads = hub.data / "uploads"
    until(lambda: not (uploads / info["correlationId"]).exists(), 10, "the old content to go")
    assert fetched(hub, device.device, "f") == b"newer"
    third = hand.start("f")
    with pytest.raises(ResourceExistsError):
        blob_client(hub, third).upload_blob(b"only if new")
    blob_client(hub, third).upload_blob(b"newest", overwrite=True)
    assert fetched(hub, device.device, "f") == b"newest"


def test_a_failed_upload_frees_its_place_and_leaves_nothing(hub, device):
    hand = ByHand(hub, device)
    for _ in range(12):
        info = hand.start("f")
        assert hand.block(info, 0, b"half").status_code == 201
        assert hand.finish(info["correlationId"], success=False).status == 204
    assert files(hub, device.device) == {}
    left = hub.data / "uploads" / info["correlationId"]
    until(lambda: not left.exists(), 10, "the staged block to go")


def why(hub: Hub, identity) -> str:
    return hub.why(identity.device)[0]["cause"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_reads_nothing_and_says_so_as_storage_does(hub, device, method):
    hand = ByHand(hub, device)
    info = hand.start("secret")
    assert hand.whole(info, b"x").status_code == 201
    answer = requests.request(method, url(info), verify=hub.ca_file, timeout=10)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (403, "AuthorizationPermissionMismatch")
    assert (b"<Code>AuthorizationPermissionMismatch</Code>" in answer.content) == (method == "GET")
    entry = hub.why(device.device)[0]
    assert entry["cause"] == "upload-link-read" and "key" not in entry["change"]
    forged = requests.request(method, url(info)[:-1] + "!", verify=hub.ca_file, timeout=10)
    assert (forged.status_code, forged.headers["x-ms-error-code"]) == (403, "AuthenticationFailed")
    assert hub.cli("why", "--recent")[0]["cause"] == "upload-link"
    token = {"Authorization": sas.token(hub.hostname, hub.policy_key("service"), "service")}
    whole = requests.get(url(info).split("?")[0], headers=token, verify=hub.ca_file, timeout=10)
    assert whole.content == b"x"


def test_what_a_device_says_in_host_chooses_no_port(hub, device):
    hand = ByHand(hub, device)
    for said in [f"{hub.address}:8443", "localhost:1", f"{hub.address}:0443", "evil.example:443", f"{hub.address}:x"]:
        info = hand.rest.call("POST", f"{hand.path}", {"blobName": "f"}, {"Host": said}).body
        assert info["hostName"] == ("localhost" if said.startswith("localhost") else hub.address), said
        assert hand.finish(info["correlationId"], success=False).status == 204


def test_links_have_the_port_that_is_mapped_to_the_hub(tmp_path):
    config = tmp_path / "hub.toml"
    config.write_text("public-https-port = 9443\n")
    hub = Hub(config=config).start()
    try:
        assert ByHand(hub, Registry(hub).create("behind")).start("f")["hostName"] == f"{hub.address}:9443"
    finally:
        hub.stop()


def test_the_eleventh_open_upload_is_refused_until_one_is_done(hub, device):
    hand = ByHand(hub, device)
    opened = [hand.start(f"{number}") for number in range(10)]
    answer = hand.rest.call("POST", hand.path, {"blobName": "one more"})
    assert (answer.status, answer.error) == (403, "DeviceMaximumActiveFileUploadLimitExceeded")
    assert why(hub, device) == "uploads-full"
    assert hand.finish(opened[3]["correlationId"], success=False).status == 204
    hand.start("one more")


def test_an_upload_that_wrote_nothing_ends_well_without_a_file(hub, registry, device, name):
    hand = ByHand(hub, device)
    empty = hand.start("nothing")
    for success in (True, "true", "True"):
        assert hand.finish(hand.start("nothing")["correlationId"], success=success).status == 204
    assert hand.finish(empty["correlationId"]).status == 204
    assert files(hub, device.device) == {}
    assert hand.whole(empty, b"late").status_code == 403, "its link is over"


def test_what_is_no_end_of_an_upload_is_refused(hub, registry, device, name):
    hand, other = ByHand(hub, device), ByHand(hub, registry.create(f"{name}-other"))
    info = hand.start("f")
    identity = info["correlationId"]
    answer = other.finish(identity)
    assert (answer.status, answer.error) == (400, "InvalidFileUploadCorrelationId"), "another device's"
    assert hand.whole(info, b"x").status_code == 201
    conflicting = hand.rest.call(
        "POST", f"{hand.path}/notifications/{identity}", {"correlationId": "other", "isSuccess": True}
    )
    assert conflicting.status == 400
    broken = hand.rest.call("POST", f"{hand.path}/notifications", data=b'{"isSuccess": tr')
    assert broken.status == 400
    assert hand.finish(identity).status == 204
    answer = hand.finish(identity)
    assert (answer.status, answer.error) == (400, "InvalidFileUploadCorrelationId"), "the second time"
    assert why(hub, device) == "upload-unknown"
    for wrong in ("", "../x", "/x", "a//b", "x" * 1025, "a\\b", "a\nb"):
        assert hand.rest.call("POST", hand.path, {"blobName": wrong}).status == 400, wrong
    assert why(hub, device) == "upload-name"
    assert hand.rest.call("POST", hand.path, {}).status == 400


def test_a_link_writes_its_own_file_and_no_other_and_reads_nothing(hub, device):
    hand = ByHand(hub, device)
    info, other = hand.start("f"), hand.start("other")
    block_blob = {"x-ms-blob-type": "BlockBlob"}

    def put(link: str):
        answer = hand.put(info, b"x", link=link, headers={"x-ms-version": "2021-08-06", **block_blob})
        assert (answer.status_code, answer.headers["x-ms-error-code"]) == (403, "AuthenticationFailed"), link
        assert answer.headers["x-ms-version"] == "2021-08-06"
        return answer.content

    good = url(info)
    bodies = {
        put(link)
        for link in (
            good.replace("/f?", "/g?"),
            good.replace("sp=cw", "sp=rcw"),
            good.replace("sig=", "sig=0"),
            good.split("?")[0],
            good.replace("se=2", "se=3"),
            url({**info, "sasToken": other["sasToken"]}),
        )
    }
    assert len(bodies) == 1, "the answers tell nothing"
    assert hub.cli("why", "--recent")[0]["cause"] == "upload-link"
    with pytest.raises(HttpResponseError) as refused:
        blob_client(hub, info).download_blob()
    assert (refused.value.status_code, refused.value.error_code) == (403, "AuthorizationPermissionMismatch")
    assert hand.put(info, b"x", headers={"x-ms-blob-type": "PageBlob"}).status_code == 400
    assert hand.put(info, b"x").status_code == 400, "the kind of blob is missing"
    assert hand.put(info, b"x", "&comp=metadata").status_code == 400
    assert hand.whole(info, b"x").status_code == 201
    assert hand.finish(info["correlationId"]).status == 204
    assert hand.whole(info, b"later").status_code == 403, "the upload is done"
    assert why(hub, device) == "upload-link-ended"
    assert fetched(hub, device.device, "f") == b"x"


def test_a_disabled_device_and_a_deleted_one_write_no_more(hub, registry, name):
    for end in ("disable", "delete"):
        device = registry.create(f"{name}-{end}")
        hand = ByHand(hub, device)
        info = hand.start("f")
        if end == "disable":
            registry.update(device.device, status="disabled")
        else:
            registry.delete(device.device)
            registry.create(device.device)
        assert hand.whole(info, b"x").status_code == 403
        assert files(hub, device.device) == {}


def test_an_operator_deletes_a_file_and_its_content_goes(hub, device):
    hand = ByHand(hub, device)
    info = hand.start("logs/a b.txt")
    assert hand.whole(info, b"x").status_code == 201
    assert hand.finish(info["correlationId"]).status == 204
    hub.cli("file", "delete", device.device, "logs/a b.txt")
    assert files(hub, device.device) == {}
    until(lambda: not (hub.data / "uploads" / info["correlationId"]).exists(), 10, "the content to go")
    hub.cli("file", "delete", device.device, "logs/a b.txt", accepted=(1,))
    changes = hub.cli("audit", "list", "--kind", "change")
    assert any("delete file" in str(change) for change in changes), changes


def test_services_read_files_and_devices_do_not(hub, device):
    hand = ByHand(hub, device)
    info = hand.start("f.bin")
    data = content(3 * MEGABYTE + 7)
    assert hand.whole(info, data).status_code == 201
    path = f"/uploads/{device.device}/f.bin"
    answer = Rest(hub, policy="service").call("GET", path)
    assert (answer.status, answer.body) == (200, data)
    for policy in ("registryReadWrite", "device"):
        assert Rest(hub, policy=policy).call("GET", path).status == 401
    assert Rest(hub, authorization=device.token()).call("GET", path).status == 401
    assert Rest(hub, policy="service").call("GET", f"{path}x").status == 404


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_body_that_trickles_is_given_up_after_a_minute(hub, device):
    hand, begun = ByHand(hub, device), time.monotonic()
    info = hand.start("slow")
    given_up = threading.Event()

    def drops():
        for _ in range(110):
            yield b"x" * 100
            if given_up.wait(1):
                return

    try:
        answer = hand.put(info, drops(), headers={"x-ms-blob-type": "BlockBlob"})
        assert (answer.status_code, answer.headers["x-ms-error-code"]) == (400, "IncompleteBody")
    except requests.exceptions.ConnectionError:
        pass  # The answer came while it wrote.
    finally:
        given_up.set()
    assert 55 < time.monotonic() - begun < 80
    assert files(hub, device.device) == {}


def test_a_link_ends_with_its_time_and_with_it_what_it_left(tmp_path):
    hub = Hub(data=tmp_path / "data", moves_clock=True)
    hub.start()
    try:
        device = Registry(hub).create("late")
        hub.cli("settings", "set", "uploadLinkLifetime", "10m")
        hand = ByHand(hub, device)
        opened = [hand.start(f"{number}") for number in range(10)]
        info = opened[0]
        assert hand.block(info, 0, b"half").status_code == 201
        hub.clock.advance(601)
        assert hand.block(info, 1, b"late").status_code == 403
        assert hand.commit(info, [0]).status_code == 403
        assert why(hub, device) == "upload-link-ended"
        answer = hand.finish(info["correlationId"])
        assert (answer.status, answer.error) == (400, "ExpiredFileUploadCorrelationId")
        # Its place is free again, and what it left goes.
        hand.start("another")
        left = hub.data / "uploads" / info["correlationId"]
        until(lambda: not left.exists(), 10, "the staged block to go")
        assert files(hub, "late") == {}
    finally:
        hub.stop()


def test_a_file_over_the_limit_is_refused_however_it_is_cut(tmp_path):
    config = tmp_path / "holdfast.toml"
    config.write_text("upload-megabytes-max = 1\n")
    hub = Hub(data=tmp_path / "data", config=config)
    hub.start()
    try:
        device = Registry(hub).create("large")
        hand = ByHand(hub, device)
        info = hand.start("f")
        answer = hand.whole(info, b"x" * (MEGABYTE + 1))
        assert (answer.status_code, answer.headers["x-ms-error-code"]) == (413, "RequestBodyTooLarge")
        assert why(hub, device) == "upload-too-large"
        assert hand.block(info, 0, b"x" * MEGABYTE).status_code == 201
        assert hand.block(info, 1, b"x").status_code == 413
        assert hand.commit(info, [0]).status_code == 201
        assert files(hub, "large") == {"f": MEGABYTE}
    finally:
        hub.stop()


def notices(hub: Hub, monkeypatch, count: int, settle: bool = True) -> list[tuple]:
    """So many notices, or those that come in three seconds when none is wanted, through uamqp as azure-iot-hub uses it, which
    has no receiver of its own."""
    monkeypatch.setenv("SSL_CERT_FILE", hub.ca_file)
    token = sas.token(hub.hostname, hub.policy_key("service"), "service")
    auth = uamqp.authentication.JWTTokenAuth(
        audience=f"https://{hub.hostname}",
        uri=f"https://{hub.hostname}",
        get_token=lambda: AccessToken(token, int(time.time()) + 3600),
        token_type=b"servicebus.windows.net:sastoken",
    )
    auth.update_token()
    address = f"amqps://{hub.hostname}/messages/serviceBound/filenotifications"
    client = uamqp.ReceiveClient(address, auth=auth, auto_complete=False)
    try:
        heard = []
        deadline = time.monotonic() + 20
        while True:
            # It returns once something came, which need not be everything.
            for message in client.receive_message_batch(max_batch_size=10, timeout=3_000):
                assert message.properties.content_type == b"application/vnd.microsoft.iothub.filenotification.json"
                notice = json.loads(b"".join(message.get_data()))
                heard.append((notice["deviceId"], notice["blobName"], notice["blobSizeInBytes"]))
                if settle:
                    message.accept()
            if len(heard) >= count or time.monotonic() > deadline:
                return heard
    finally:
        client.close()


def test_a_notice_outlives_a_crash_and_comes_once(tmp_path, monkeypatch):
    hub = Hub(data=tmp_path / "data")
    hub.start()
    try:
        device = Registry(hub).create("teller")
        hub.cli("settings", "set", "fileNotifications", "true")
        hand = ByHand(hub, device)
        for name in ("a", "b"):
            info = hand.start(name)
            assert hand.whole(info, name.encode()).status_code == 201
            assert hand.finish(info["correlationId"]).status == 204
            hub.kill()
            hub.start()
        expected = [("teller", f"teller/{name}", 1) for name in ("a", "b")]
        # A receiver that goes without a word gives back what it had.
        assert notices(hub, monkeypatch, 2, settle=False) == expected
        assert notices(hub, monkeypatch, 2) == expected
        hub.kill()
        hub.start()
        assert notices(hub, monkeypatch, 0) == []
        hub.cli("settings", "set", "fileNotifications", "false")
        info = hand.start("c")
        assert hand.whole(info, b"c").status_code == 201
        assert hand.finish(info["correlationId"]).status == 204
        assert notices(hub, monkeypatch, 0) == [], "it is switched off"
    finally:
        hub.stop()


def test_a_crash_loses_no_block_that_was_taken_and_shows_no_file_by_halves(tmp_path):
    hub = Hub(data=tmp_path / "data")
    hub.start()
    try:
        device = Registry(hub).create("survivor")
        hand = ByHand(hub, device)
        whole, torn = hand.start("whole"), hand.start("torn")
        parts = {number: content(MEGABYTE + number) for number in range(6)}
        for number, part in parts.items():
            assert hand.block(whole, number, part).status_code == 201
            hub.kill()
            hub.start()
        assert files(hub, "survivor") == {}
        assert hand.commit(whole, list(parts)).status_code == 201
        hub.kill()
        hub.start()
        assert fetched(hub, "survivor", "whole") == b"".join(parts.values())

        # The hub ends in the middle of a file that is written at once.
        begun = threading.Event()

        def slowly():
            for _ in range(64):
                yield b"x" * MEGABYTE
                begun.set()
            threading.Event().wait(30)

        def write():
            with pytest.raises(requests.exceptions.RequestException):
                hand.whole(torn, slowly())

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        assert begun.wait(10)
        hub.kill()
        writer.join(30)
        hub.start()
        assert files(hub, "survivor") == {"whole": sum(map(len, parts.values()))}
        assert hand.finish(torn["correlationId"]).status == 204
        assert list(files(hub, "survivor")) == ["whole"], "what was torn is no file"
        left = hub.data / "uploads" / torn["correlationId"]
        until(lambda: not left.exists(), 10, "what the crash left to go")
        assert hand.finish(whole["correlationId"]).status == 204
        assert fetched(hub, "survivor", "whole") == b"".join(parts.values())
    finally:
        hub.stop()
