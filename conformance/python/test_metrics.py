"""Metrics as Prometheus reads them: every counter has the exact value of a scripted run."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from harness import sas
from harness.hub import Hub
from harness.raw_mqtt import RawDevice
from harness.rest import Registry, Rest
from harness.wait import until

SERIES = re.compile(r"^(?P<name>[a-z_0-9]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")


def scrape(hub: Hub) -> dict:
    """Values by name and labels, the label `hub` left out."""
    answer = requests.get(f"https://{hub.hostname}/metrics", verify=hub.ca_file, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    values = {}
    for line in answer.text.splitlines():
        if line.startswith("#"):
            continue
        found = SERIES.match(line)
        assert found, line
        labels = dict(re.findall(r'([a-z]+)="([^"]*)"', found["labels"] or ""))
        labels.pop("hub", None)
        values[found["name"], *sorted(labels.items())] = float(found["value"])
    return values


@pytest.fixture
def fresh(tmp_path):
    hub = Hub(data=tmp_path).start()
    yield hub
    hub.stop()


def test_every_counter_has_the_value_of_the_script(fresh):
    registry = Registry(fresh)
    one, two = registry.create("d1"), registry.create("d2", status="disabled")
    with RawDevice(fresh, "d1", one.token()) as device:
        for number in range(100):
            assert device.publish("devices/d1/messages/events/", b"x" * 10)
        metrics = scrape(fresh)
        assert metrics["holdfast_connected_devices", ("auth", "sas"), ("protocol", "mqtt")] == 1
    token = {"Authorization": one.token()}
    for number in range(10):
        url = f"https://{fresh.hostname}/devices/d1/messages/events?api-version=2021-04-12"
        assert requests.post(url, data=b"y" * 20, headers=token, verify=fresh.ca_file, timeout=10).status_code == 204
    large = requests.post(url, data=b"z" * 300_000, headers=token, verify=fresh.ca_file, timeout=10)
    assert large.status_code == 413
    for name, wrong in (("d1", one.token(key=sas.new_key())), ("d2", two.token())):
        with RawDevice(fresh, name, wrong) as refused:
            assert refused.connack == 5
    Rest(fresh, "registryRead").expect(200, "GET", "/devices")
    assert Rest(fresh, "registryRead").call("DELETE", "/devices/d1", headers={"If-Match": '"*"'}).status == 401

    expected = {
        ("holdfast_d2c_messages_total", ("protocol", "mqtt"), ("result", "accepted")): 100,
        ("holdfast_d2c_messages_total", ("protocol", "https"), ("result", "accepted")): 10,
        ("holdfast_d2c_messages_total", ("protocol", "https"), ("result", "too_large")): 1,
        ("holdfast_device_bytes_total", ("direction", "d2c"), ("protocol", "mqtt")): 1_000,
        ("holdfast_device_bytes_total", ("direction", "d2c"), ("protocol", "https")): 200,
        ("holdfast_d2c_ack_seconds_count", ("protocol", "mqtt")): 100,
        ("holdfast_d2c_ack_seconds_count", ("protocol", "https")): 10,
        ("holdfast_connected_devices", ("auth", "sas"), ("protocol", "mqtt")): 0,
        ("holdfast_connection_duration_seconds_count", ("protocol", "mqtt")): 1,
        ("holdfast_connections_total", ("auth", "sas"), ("protocol", "mqtt"), ("result", "success")): 1,
        ("holdfast_connections_total", ("auth", "sas"), ("protocol", "mqtt"), ("result", "failure")): 2,
        ("holdfast_auth_failures_total", ("reason", "wrong-key")): 1,
        ("holdfast_auth_failures_total", ("reason", "disabled")): 1,
        ("holdfast_auth_failures_total", ("reason", "missing-right")): 1,
        # Two devices made, one list, and one delete that was refused.
        ("holdfast_service_operations_total", ("protocol", "https"), ("result", "success")): 3,
        ("holdfast_service_operations_total", ("protocol", "https"), ("result", "failure")): 1,
        ("holdfast_devices", ("state", "enabled")): 1,
        ("holdfast_devices", ("state", "disabled")): 1,
    }

    def counted():
        metrics = scrape(fresh)
        found = {series: metrics.get(series) for series in expected}
        return found == expected

    try:
        until(counted, 10)
    except AssertionError:
        metrics = scrape(fresh)
        assert {series: metrics.get(series) for series in expected} == expected


def test_twins_and_methods_are_counted_by_their_outcome(fresh):
    registry = Registry(fresh)
    identity = registry.create("counted")
    with RawDevice(fresh, "counted", identity.token()) as device:
        device.subscribe("$iothub/methods/POST/#")
        for topic, body in [
            ("GET/?$rid=1", b""),
            ("PATCH/properties/reported/?$rid=2", b'{"a": 1}'),
            ("PATCH/properties/reported/?$rid=3", b'{"a": 2}'),
            ("PATCH/properties/reported/?$rid=4", b'{"a.b": 1}'),
        ]:
            assert device.publish(f"$iothub/twin/{topic}", body)
        rest = Rest(fresh, "service")
        rest.expect(200, "GET", "/twins/counted")
        rest.expect(404, "GET", "/twins/nobody")
        rest.expect(200, "PATCH", "/twins/counted", {"tags": {"a": 1}})
        rest.expect(400, "PUT", "/twins/counted", {"tags": 1})
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(rest.expect, 200, "POST", "/twins/counted/methods", {"methodName": "m"})
            until(lambda: device.messages, 10, "the call")
            device.send(f"$iothub/methods/res/200/{device.messages[0].topic.rpartition('/')[2]}", b"{}")
            pending.result(10)
    rest.expect(404, "POST", "/twins/counted/methods", {"methodName": "m"})
    rest.expect(400, "POST", "/twins/counted/methods", {})
    twins = lambda origin, op, result: ("holdfast_twin_operations_total", ("op", op), ("origin", origin), ("result", result))
    metrics = scrape(fresh)
    assert metrics[twins("device", "read", "success")] == 1
    assert metrics[twins("device", "update", "success")] == 2
    assert metrics[twins("device", "update", "failure")] == 1
    assert [metrics[twins("service", op, result)] for op in ("read", "update") for result in ("success", "failure")] == [1] * 4
    assert metrics["holdfast_direct_methods_total", ("result", "success")] == 1
    assert metrics["holdfast_direct_methods_total", ("result", "failure")] == 1, "what could not be called is none"


def test_the_posture_and_the_process_are_metrics_too(fresh):
    fresh.posture()
    metrics = scrape(fresh)
    assert metrics["holdfast_posture_score",] == 100
    assert metrics["holdfast_findings", ("family", "id"), ("severity", "critical")] == 0
    keys = {"primaryKey": sas.new_key(), "secondaryKey": sas.new_key()}
    for name in ("d1", "d2"):
        Registry(fresh).create(name, {"type": "sas", "symmetricKey": keys})
    assert fresh.posture()["score"] < 100
    metrics = scrape(fresh)
    assert metrics["holdfast_posture_score",] < 100
    assert metrics["holdfast_findings", ("family", "id"), ("severity", "critical")] == 1
    assert metrics["process_resident_memory_bytes",] > 1_000_000
    assert metrics["holdfast_tls_certificate_expiry_timestamp_seconds", ("kind", "server")] > 1_700_000_000


def test_a_thousand_devices_make_no_series(fresh):
    registry = Registry(fresh)
    before = len(scrape(fresh))
    for number in range(20):
        name = f"d{number}"
        with RawDevice(fresh, name, registry.create(name).token()) as device:
            assert device.publish(f"devices/{name}/messages/events/", b"x")
    until(lambda: scrape(fresh)["holdfast_connection_duration_seconds_count", ("protocol", "mqtt")] == 20, 10)
    # What was never counted before has one series, whoever it was.
    assert len(scrape(fresh)) - before <= 3
    text = requests.get(f"https://{fresh.hostname}/metrics", verify=fresh.ca_file, timeout=10).text
    assert '"d1"' not in text


def test_logs_are_json_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_LOG_FORMAT", "json")
    hub = Hub(data=tmp_path).start()
    try:
        keys = {"primaryKey": sas.new_key(), "secondaryKey": "A" * 43 + "="}
        Registry(hub).create("d1", {"type": "sas", "symmetricKey": keys})
        hub.posture()
        lines = [json.loads(line) for line in (hub.folder / "stderr").read_text().splitlines()]
        opened = next(line for line in lines if line["message"] == "a finding opened")
        assert (opened["check"], opened["resource"], opened["level"]) == ("key-sym-weak", "device/d1", "INFO")
    finally:
        hub.stop()


def test_the_text_is_what_the_reference_parser_takes(fresh):
    """Prometheus' own client library reads the text strictly."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    text = requests.get(f"https://{fresh.hostname}/metrics", verify=fresh.ca_file, timeout=10).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["holdfast_d2c_messages"].type == "counter"
    assert families["holdfast_d2c_ack_seconds"].type == "histogram"
    assert families["holdfast_build_info"].samples


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "Via", "X-Real-IP"])
def test_a_proxy_on_this_machine_is_not_this_machine(header, hub):
    url, sent = f"https://{hub.hostname}/metrics", {header: "203.0.113.7"}
    refused = requests.get(url, headers=sent, verify=hub.ca_file, timeout=10)
    assert refused.status_code == 401 and "holdfast_" not in refused.text
    credential = open(hub.ready["management_credential_file"]).read().strip()
    sent["Authorization"] = f"Bearer {credential}"
    assert requests.get(url, headers=sent, verify=hub.ca_file, timeout=10).status_code == 200


def test_the_operator_can_shut_the_metrics_to_this_machine(tmp_path):
    config = tmp_path / "hub.toml"
    config.write_text("local-metrics = false\n")
    hub = Hub(config=config).start()
    try:
        assert requests.get(f"https://{hub.hostname}/metrics", verify=hub.ca_file, timeout=10).status_code == 401
    finally:
        hub.stop()
