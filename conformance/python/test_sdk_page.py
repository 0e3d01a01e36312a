"""The programs in Python of docs/sdk.md, run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from harness.hub import Hub
from harness.rest import Registry

PAGE = (Path(__file__).parents[2] / "docs/sdk.md").read_text()
PROGRAMS = dict(re.findall(r"<!-- run: (\S+) -->\n```\w+\n(.*?)```\n", PAGE, re.S))


def test_the_programs_of_the_page_talk_to_each_other(hub: Hub, registry: Registry, name):
    identity = registry.create(name)
    variables = {
        **os.environ,
        "DEVICE": identity.connection_string,
        "SERVICE": hub.service_connection_string,
        "EVENTHUB": hub.eventhub_connection_string,
        "CA": hub.ca_file,
    }
    command = [sys.executable, "-c", PROGRAMS["device.py"]]
    device = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables)
    try:
        command = [sys.executable, "-c", PROGRAMS["backend.py"], name]
        backend = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=60)
        assert backend.returncode == 0, backend.stderr
        told, _ = device.communicate(timeout=30)
    finally:
        device.kill()
    assert backend.stdout.splitlines() == [
        'event {"temperature": 21.5}',
        "answer 200 {'done': True}",
        "reported 5",
    ]
    assert told.splitlines() == ["method reboot {'delay': 2}", "desired 5", "message open the valve"]
    assert device.returncode == 0
