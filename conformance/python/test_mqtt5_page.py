"""The program of docs/mqtt5.md, run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from harness.events import body_of, properties_of

PAGE = (Path(__file__).parents[2] / "docs/mqtt5.md").read_text()
[(_, PROGRAM)] = re.findall(r"<!-- run: (\S+) -->\n```\w+\n(.*?)```\n", PAGE, re.S)


def test_the_program_of_the_page_talks_to_the_hub(hub, registry, reader, name):
    identity = registry.create(name)
    variables = {**os.environ, "HOST": hub.hostname, "DEVICE": name, "KEY": identity.key, "CA": hub.ca_file}
    device = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, env=variables)
    try:
        [event] = reader.from_device(name)
        assert (body_of(event), properties_of(event)) == (b'{"temperature":21.5}', {"room": "7"})
        answer = hub.cli("method", "call", name, "reboot", "--payload", '{"delay":2}')
        assert answer["payload"] == {"done": True}
        hub.cli("c2d", "send", name, "open the valve")
        told, _ = device.communicate(timeout=30)
    finally:
        device.kill()
    assert device.returncode == 0
    connected, twin, *others = told.splitlines()
    assert connected == "connected Success" and twin.startswith('twin {"desired":{')
    assert others == ['method $iothub/methods/reboot {"delay":2}', "command open the valve"]
