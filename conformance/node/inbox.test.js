// Device-bound messages through the unmodified azure-iothub and azure-iot-device.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import iothub from 'azure-iothub';
import device from 'azure-iot-device';
import common from 'azure-iot-common';
import { until } from './harness/again.js';
import { transports } from './harness/devices.js';
import { createDevice, ready, registry } from './harness/hub.js';

const doors = {
  amqp: iothub.Client.fromConnectionString(ready.service_connection_string),
  'amqp-ws': iothub.Client.fromConnectionString(ready.service_connection_string, iothub.AmqpWs),
};

// A client with a queue of what it was sent.
async function receiver(transport) {
  const owner = await createDevice();
  const key = owner.authentication.symmetricKey.primaryKey;
  const text = `HostName=${ready.hostname};DeviceId=${owner.deviceId};SharedAccessKey=${key}`;
  const client = device.Client.fromConnectionString(text, transport);
  client.setRetryPolicy(new common.NoRetry());
  const [came, waiting] = [[], []];
  client.on('message', (message) => (waiting.length > 0 ? waiting.shift()(message) : came.push(message)));
  await client.open();
  const next = () => (came.length > 0 ? came.shift() : new Promise((resolve) => waiting.push(resolve)));
  return { client, id: owner.deviceId, next };
}

const count = async (id) => (await registry.get(id)).responseBody.cloudToDeviceMessageCount;

for (const [door, service] of Object.entries(doors)) {
  for (const name of ['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws']) {
    test(`a message of a service over ${door} reaches a device over ${name}, and completing it takes it away`, async () => {
      const { client, id, next } = await receiver(transports[name]);
      await service.open();
      const message = new common.Message('hello');
      message.messageId = 'm-1';
      message.ack = 'full';
      message.contentType = 'text/plain';
      message.properties.add('color', 'red brick & more=%');
      await service.send(id, message);
      const got = await next();
      assert.equal(got.getData().toString(), 'hello');
      assert.deepEqual([got.messageId, got.contentType], ['m-1', 'text/plain']);
      assert.equal(got.properties.getValue('color'), 'red brick & more=%');
      await client.complete(got);
      await service.send(id, new common.Message('and again'));
      await client.complete(await next());
      await until(async () => (await count(id)) === 0, 'both left the queue');
      await client.close();
      await service.close();
    });
  }
}

test('a message for a device that there is not is refused', async () => {
  const service = iothub.Client.fromConnectionString(ready.service_connection_string);
  await service.open();
  await assert.rejects(service.send('nobody-of-this-name', new common.Message('x')));
  await service.close();
});
