// What became of device-bound messages, received by the unmodified azure-iothub: completed over MQTT and AMQP, rejected
// over AMQP, expired and purged (over HTTPS: conformance/python).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import iothub from 'azure-iothub';
import common from 'azure-iot-common';
import { byKey, transports } from './harness/devices.js';
import { createDevice, policyKey, ready, token } from './harness/hub.js';
import { connected, once, putToken, refusal } from './harness/rhea.js';

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

for (const [door, transport] of [['amqp', 'mqtt'], ['amqp-ws', 'amqp']]) {
  test(`a service over ${door} hears what became of its messages to a device over ${transport}`, async () => {
    const service = await open(door);
    const [completing, absent] = [await createDevice(), await createDevice()];

    // Completed: who wants to hear of it does, who wants to hear of failures only does not.
    const client = byKey(completing, transports[transport]);
    client.on('message', (got) => client[got.messageId === 'c-rejected' ? 'reject' : 'complete'](got, () => {}));
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
    // MQTT has no word for it.
    if (transport === 'amqp') {
      await service.send(completing.deviceId, message('c-rejected', 'negative'));
      wanted[`${completing.deviceId} c-rejected`] = 'Rejected';
    }
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

// azure-iothub accepts what arrives before the application has seen it; other SDKs settle themselves.
test('a batch that is released comes again with its count, and a receiver that is gone gives it back', async () => {
  const owner = await createDevice();
  const service = await open('amqp');
  await service.send(owner.deviceId, message('by-hand', 'full'));
  assert.equal((await call('DELETE', `/devices/${owner.deviceId}/commands`)).status, 200);
  await service.close();
  const receive = async (use) =>
    connected(async (connection) => {
      await putToken(connection, token(ready.hostname, policyKey('service'), { policy: 'service' }));
      const source = '/messages/serviceBound/feedback';
      const receiver = connection.open_receiver({ source, credit_window: 0, autoaccept: false });
      const next = async () => {
        receiver.add_credit(1);
        const { message, delivery } = await once(receiver, 'message', 25_000);
        assert.equal(delivery.tag.length, 16, '.NET reads it as a GUID');
        assert.equal(message.user_id.toString(), ready.hostname);
        const at = message.message_annotations['iothub-enqueuedtime'];
        assert.ok(Math.abs(at - Date.now()) < 60_000, `${at}`);
        const [record] = JSON.parse(message.body.content.toString());
        assert.equal(record.originalMessageId, 'by-hand');
        return { delivery, count: message.delivery_count ?? 0 };
      };
      await use(next, receiver);
    });
  await receive(async (next) => {
    const first = await next();
    assert.equal(first.count, 0);
    first.delivery.release({ delivery_failed: true });
    const second = await next();
    assert.equal(second.count, 1);
    // The connection ends without a word about it.
  });
  await receive(async (next) => {
    const third = await next();
    assert.equal(third.count, 1, 'that a receiver went counts for nothing');
    third.delivery.reject();
  });
  // Nothing comes any more: another message of feedback is the next one.
  const empty = await fetch(`https://${ready.hostname}/messages/serviceBound/feedback?api-version=2021-04-12`, {
    headers: { Authorization: token(ready.hostname, policyKey('service'), { policy: 'service' }) },
  });
  assert.equal(empty.status, 204);
});

test('receivers need ServiceConnect, and lose the link when the right ends', async () => {
  for (const address of ['/messages/serviceBound/feedback', '/messages/serviceBound/filenotifications']) {
    await connected(async (connection) => {
      const text = token(ready.hostname, policyKey('registryReadWrite'), { policy: 'registryReadWrite' });
      await putToken(connection, text);
      assert.equal(await refusal(connection.open_receiver(address)), 'amqp:unauthorized-access');
    });
    await connected(async (connection) => {
      await putToken(connection, token(ready.hostname, policyKey('service'), { policy: 'service', seconds: 3 }));
      const receiver = connection.open_receiver(address);
      await once(receiver, 'receiver_open');
      assert.equal(await refusal(receiver), 'amqp:unauthorized-access');
    });
  }
});
