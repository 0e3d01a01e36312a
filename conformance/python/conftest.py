"""One hub per test module; what it printed is shown with every failure."""

import os
import uuid

import pytest
from azure.iot.hub import IoTHubRegistryManager

from harness.events import Reader
from harness.hub import Hub
from harness.rest import Registry


@pytest.fixture(scope="module")
def hub(request, tmp_path_factory):
    hub = Hub(data=tmp_path_factory.mktemp("data"), hub_events=getattr(request.module, "HUB_EVENTS", None))
    hub.start()
    # The one way to hand a CA to azure-iot-hub over HTTPS, which speaks through `requests`.
    before = os.environ.get("REQUESTS_CA_BUNDLE")
    os.environ["REQUESTS_CA_BUNDLE"] = hub.ca_file
    yield hub
    if before is None:
        os.environ.pop("REQUESTS_CA_BUNDLE", None)
    else:
        os.environ["REQUESTS_CA_BUNDLE"] = before
    hub.stop()


@pytest.fixture(scope="module")
def registry(hub):
    return Registry(hub)


@pytest.fixture(scope="module")
def reader(hub):
    reader = Reader(hub)
    yield reader
    reader.close()


@pytest.fixture
def service(hub, monkeypatch):
    """The unmodified azure-iot-hub with all rights."""
    # The one way to hand a CA to uamqp through azure-iot-hub, which offers none.
    monkeypatch.setenv("SSL_CERT_FILE", hub.ca_file)
    manager = IoTHubRegistryManager.from_connection_string(hub.service_connection_string)
    yield manager
    manager.amqp_svc_client.amqp_client.close()


@pytest.fixture
def name():
    """An identity name that no other test uses."""
    return f"d-{uuid.uuid4().hex[:12]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    hub = getattr(item, "funcargs", {}).get("hub")
    if report.failed and isinstance(hub, Hub):
        report.sections.append(("hub stderr", hub.stderr()))
    return report


def pytest_terminal_summary(terminalreporter):
    """Prints what tests measured, whichever worker ran them."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", []):
                if name == "figure" and report.when == "call":
                    terminalreporter.write_line(f"figure: {value}")
