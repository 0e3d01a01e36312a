"""Reads events with the unmodified azure-eventhub. Prints `reading` once events of every partition have come, and in the
end one line of JSON: the client, how many events in how many seconds, and how long those were under way that say when
they were sent.

Usage: read_events.py READY_FILE from-start|latest SECONDS
"""

import json
import platform
import sys
import threading
import time
from importlib.metadata import version

from azure.eventhub import EventHubConsumerClient

# As in src/load/latency.rs.
PERCENTS = [1, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.9]

ready = json.load(open(sys.argv[1]))
position = "-1" if sys.argv[2] == "from-start" else "@latest"
seconds = float(sys.argv[3])
client = EventHubConsumerClient.from_connection_string(
    ready["eventhub_connection_string"],
    consumer_group="$Default",
    connection_verify=ready["ca_file"],
)
partitions = set(client.get_partition_ids())
count = 0
first = last = None
times = []


def on_event_batch(context, events):
    global count, first, last
    if not events:
        return
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    if partitions:
        partitions.discard(context.partition_id)
        if not partitions:
            print("reading", flush=True)
            threading.Thread(target=close_in_time, daemon=True).start()
    last = now
    first = first or now
    if position == "-1":
        count += len(events)
        return
    for event in events:
        sent = int.from_bytes(next(event.body)[:8], "little")
        if sent:
            count += 1
            times.append((now - sent) / 1e6)


def close_in_time():
    time.sleep(seconds)
    client.close()


# The SDK hands nothing of a partition over before it has read as many frames as the prefetch, or 0.2 s long none, and it
# gathers for the time to wait: much of both is good for the rate, little for the latency.
prefetch, max_wait_time = (3000, 1) if position == "-1" else (10, None)
if position == "-1":
    threading.Thread(target=close_in_time, daemon=True).start()
with client:
    client.receive_batch(
        on_event_batch=on_event_batch, starting_position=position,
        max_batch_size=1000, prefetch=prefetch, max_wait_time=max_wait_time,
    )
times.sort()


def at(percent):
    return times[min(int(len(times) * percent / 100), len(times) - 1)]


latency = None
if times:
    latency = {"p50_ms": at(50), "p99_ms": at(99), "percentiles_ms": [[percent, at(percent)] for percent in PERCENTS]}
name = f"azure-eventhub {version('azure-eventhub')} (Python {platform.python_version()}), prefetch {prefetch}"
taken = ((last or 0) - (first or 0)) / 1e9
print(json.dumps({"client": name, "events": count, "seconds": taken, "latency": latency}), flush=True)
