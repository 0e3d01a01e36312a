// What became of device-bound messages, received by the unmodified azure-iothub: completed over MQTT, rejected and
// abandoned over HTTPS, expired and purged.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import iothub from 'azure-iothub';
import common from 'azure-iot-common';
import { byKey, transports } from './harness/devices.js';
import { createDevice, policyKey, ready, token } from './harness/hub.js';

const doors = { amqp: iothub.Amqp, 'amqp-ws': iothub.AmqpWs };
const MEDIA_TYPE = 'application/vnd.microsoft.iothub.feedback.json';

const open = async (door) => {
  const service = iothub.Client.fromConnectionString(ready.service_connection_string, doors[door]);
  await service.open();
  return service;
};

const message = (id, ack, expires) => {
  const made = new common.Message(id);
  made.messageId = id;
  made.ack = ack;
  if (expires) made.expiryTimeUtc = expires;
  return made;
};

const call = async (method, path, key = policyKey('service')) => {
  const headers = { Authorization: token(ready.hostname, key, { policy: 'service' }) };
  const url = `https://${ready.hostname}${path}?api-version=2021-04-12`;
  return fetch(url, { method, headers });
};

// Takes messages as they come until one was received for each of these devices' messages, and says what it heard.
async function hear(service, wanted) {
  const { result: receiver } = await service.getFeedbackReceiver();
  const heard = new Map();
  await new Promise((resolve, reject) => {
    receiver.on('error', reject);
    receiver.on('message', (batch) => {
      assert.equal(batch.contentType ?? batch.transportObj.content_type, MEDIA_TYPE);
      for (const record of JSON.parse(batch.data.toString())) {
        const key = `${record.deviceId} ${record.originalMessageId}`;
        assert.ok(!heard.has(key), `heard twice: ${key}`);
        heard.set(key, record);
      }
      if (wanted.every((key) => heard.has(key))) resolve();
    });
  });
  return heard;
}

for (const door of Object.keys(doors)) {
  test(`a service over ${door} hears what became of its messages`, async () => {
    const service = await open(door);
    const [completing, absent] = [await createDevice(), await createDevice()];

    // Completed over MQTT: who wants to hear of it does, who wants to hear of failures only does not.
    const client = byKey(completing, transports.mqtt);
    client.on('message', (got) => client.complete(got, () => {}));
    await client.open();
    for (const ack of ['none', 'negative', 'positive', 'full']) {
      await service.send(completing.deviceId, message(`c-${ack}`, ack));
    }

    // Expires while nobody asks for it.
    const soon = Date.now() + 1500;
    await service.send(absent.deviceId, message('x-negative', 'negative', soon));
    await service.send(absent.deviceId, message('x-positive', 'positive', soon));
    // Purged, of which a service that asked for successes only does not hear.
    const purged = await createDevice();
    await service.send(purged.deviceId, message('p-full', 'full'));
    await service.send(purged.deviceId, message('p-positive', 'positive'));
    assert.equal((await call('DELETE', `/devices/${purged.deviceId}/commands`)).status, 200);

    const wanted = {
      [`${completing.deviceId} c-positive`]: 'Success',
      [`${completing.deviceId} c-full`]: 'Success',
      [`${absent.deviceId} x-negative`]: 'Expired',
      [`${purged.deviceId} p-full`]: 'Purged',
    };
    const heard = await hear(service, Object.keys(wanted));
    const codes = Object.fromEntries([...heard].map(([key, record]) => [key, record.statusCode]));
    assert.deepEqual(codes, wanted);
    const record = heard.get(`${completing.deviceId} c-full`);
    assert.equal(record.description, 'Success');
    assert.equal(record.deviceGenerationId, completing.generationId);
    assert.ok(Math.abs(new Date(record.enqueuedTimeUtc) - Date.now()) < 60_000, record.enqueuedTimeUtc);
    await client.close();
    await service.close();
  });
}
