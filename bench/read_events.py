"""Reads all events from the beginning with the unmodified azure-eventhub, and prints how many in how many seconds.

Usage: read_events.py READY_FILE SECONDS
"""

import json
import sys
import threading
import time

from azure.eventhub import EventHubConsumerClient

ready = json.load(open(sys.argv[1]))
seconds = float(sys.argv[2])
client = EventHubConsumerClient.from_connection_string(
    ready["eventhub_connection_string"],
    consumer_group="$Default",
    connection_verify=ready["ca_file"],
)
count = 0
first = last = None


def on_event_batch(_context, events):
    global count, first, last
    if events:
        last = time.monotonic()
        first = first or last
        count += len(events)


def close_in_time():
    time.sleep(seconds)
    client.close()


threading.Thread(target=close_in_time, daemon=True).start()
with client:
    client.receive_batch(
        on_event_batch=on_event_batch, starting_position="-1", max_batch_size=1000, max_wait_time=1, prefetch=3000
    )
print(count, (last or 0) - (first or 0))
