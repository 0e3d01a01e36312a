// What devices and modules get over AMQP: device-bound messages, calls of methods, their twins. Through the unmodified
// azure-iot-device-amqp and azure-iothub.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import iothub from 'azure-iothub';
import common from 'azure-iot-common';
import { byKey, signIn, transports } from './harness/devices.js';
import { createDevice, newName, ready, registry } from './harness/hub.js';

const service = iothub.Client.fromConnectionString(ready.service_connection_string);
const live = { amqp: transports.amqp, 'amqp-ws': transports['amqp-ws'] };

before(() => service.open());
after(() => service.close());

// A client with a queue of the messages that it was sent, and a function that waits for the next one.
async function receiver(client, event = 'message') {
  const [came, waiting] = [[], []];
  client.on(event, (...args) => {
    const message = args.at(-1);
    waiting.length > 0 ? waiting.shift()(message) : came.push(message);
  });
  await client.open();
  return () => (came.length > 0 ? Promise.resolve(came.shift()) : new Promise((resolve) => waiting.push(resolve)));
}

const waitingFor = async (id) => (await registry.get(id)).responseBody.cloudToDeviceMessageCount;

async function until(condition, what, ms = 5_000) {
  for (const end = Date.now() + ms; !(await condition()); await pause(20)) {
    assert.ok(Date.now() < end, `${what} within ${ms} ms`);
  }
}

for (const [name, transport] of Object.entries(live)) {
  test(`a device over ${name} gets a message with all that is in it, and completes it`, async () => {
    const record = await createDevice();
    const client = byKey(record, transport);
    const next = await receiver(client);
    const message = new common.Message('hello');
    Object.assign(message, { messageId: 'm-1', correlationId: 'c-1', ack: 'full', contentType: 'text/plain', contentEncoding: 'utf-8' });
    message.expiryTimeUtc = Date.now() + 60_000;
    message.properties.add('color', 'red brick & more=%');
    await service.send(record.deviceId, message);
    const got = await next();
    assert.equal(got.getData().toString(), 'hello');
    assert.deepEqual([got.messageId, got.correlationId, got.ack], ['m-1', 'c-1', 'full']);
    assert.deepEqual([got.contentType, got.contentEncoding], ['text/plain', 'utf-8']);
    assert.equal(got.to, `/devices/${record.deviceId}/messages/deviceBound`);
    assert.equal(got.properties.getValue('color'), 'red brick & more=%');
    assert.equal(Number(got.expiryTimeUtc), message.expiryTimeUtc);
    await client.complete(got);
    await until(async () => (await waitingFor(record.deviceId)) === 0, 'it is gone');
    await client.close();
  });
}
