"""A device as an application writes it, with the unmodified azure-iot-device over MQTT and tokens of one minute.

    python -m harness.soak_device RESOURCE KEY CA_FILE

It sends all the time, answers calls of methods, and prints a JSON line for each thing that happens to it; `soak.py` judges
them. It ends when its standard input does.
"""

import json
import sys
import threading
import time
from pathlib import Path

from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse

from harness import sas

TOKEN_SECONDS = 60
# The SDK asks for a new token two minutes before the old one ends, which is at once for such a short one. So the
# application renews it by its own clock.
RENEWAL_SECONDS = 20
PAUSE_SECONDS = 0.2


def main(resource: str, key: str, ca_file: str) -> None:
    over = threading.Event()

    def token() -> str:
        return sas.token(resource, key, seconds=TOKEN_SECONDS)

    client = IoTHubDeviceClient.create_from_sastoken(token(), server_verification_cert=Path(ca_file).read_text())
    client.on_message_received = lambda message: say("received", id=message.message_id)
    client.on_twin_desired_properties_patch_received = lambda patch: say("desired", step=patch["step"])

    def answer(request) -> None:
        say("called", step=request.payload["step"])
        client.send_method_response(MethodResponse.create_from_method_request(request, 200, request.payload))

    client.on_method_request_received = answer

    def renew() -> None:
        while not over.wait(RENEWAL_SECONDS):
            say("renewing")
            try:
                client.update_sastoken(token())
            except Exception as error:  # the hub is away; the SDK comes back with the new token
                say("failed", error=repr(error))
            say("renewed")

    client.connect()
    say("ready")
    renewals = threading.Thread(target=renew)
    renewals.start()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    number = 0
    while not over.wait(PAUSE_SECONDS):
        number += 1
        begun = time.time()
        message = Message(f"{number}")
        message.message_id = f"{number}"
        try:
            client.send_message(message)
        except Exception as error:
            say("failed", error=repr(error), id=message.message_id, begun=begun)
        else:
            say("sent", id=message.message_id, begun=begun)
    renewals.join()
    client.shutdown()
    say("over")


SAYING = threading.Lock()


def say(what: str, **facts) -> None:
    # The SDK calls from threads of its own, and `print` writes a line and its end one after the other.
    with SAYING:
        print(json.dumps({"is": what, "at": time.time(), **facts}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
