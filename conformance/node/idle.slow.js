// A reader that hears nothing for minutes: heartbeats must hold its connection, and the next event must reach it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { byKey, Message, transports } from './harness/devices.js';
import { Reader, readerTransports } from './harness/events.js';
import { createDevice } from './harness/hub.js';

// The hub asks for a sign of life every 240 s and gives one every 120 s at least.
const SILENCE_MS = 300_000;

test('readers hear the first event after five minutes of silence', async () => {
  const device = await createDevice();
  const readers = Object.values(readerTransports).map((webSocket) => new Reader({ webSocket, retries: 0 }));
  try {
    await send(device, 'before');
    for (const reader of readers) await reader.fromDevice(device.deviceId, 1, 5_000);
    await pause(SILENCE_MS);
    await send(device, 'after');
    for (const reader of readers) await reader.fromDevice(device.deviceId, 2, 5_000);
    assert.deepEqual(readers.map((reader) => reader.errors), [[], []]);
  } finally {
    await Promise.all(readers.map((reader) => reader.close()));
  }
});

async function send(device, body) {
  const client = byKey(device, transports.mqtt);
  await client.open();
  await client.sendEvent(new Message(body));
  await client.close();
}
