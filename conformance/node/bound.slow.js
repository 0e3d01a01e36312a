// Device-bound messages over AMQP whose locks lapse, which takes a minute each.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import iothub from 'azure-iothub';
import common from 'azure-iot-common';
import rhea from 'rhea';
import { byKey, transports } from './harness/devices.js';
import { createDevice, ready, registry, token } from './harness/hub.js';
import { connected, once, putToken } from './harness/rhea.js';

const service = iothub.Client.fromConnectionString(ready.service_connection_string);
before(() => service.open());
after(() => service.close());

test('a message that a client of the SDK keeps for too long comes again and does not count', async () => {
  const record = await createDevice();
  const client = byKey(record, transports.amqp);
  const came = [];
  const twice = new Promise((resolve) => client.on('message', (message) => came.push([Date.now(), message]) === 2 && resolve()));
  await client.open();
  await service.send(record.deviceId, new common.Message('slow'));
  await twice;
  const [[first], [second, message]] = came;
  assert.ok(second - first > 59_000 && second - first < 65_000, `it came again after ${second - first} ms`);
  assert.equal(message.transportObj.message_annotations['iothub-deliverycount'], 0);
  await client.complete(message);
  await client.close();
});

test('a client that settles second and too late is told that it lost the lock', async () => {
  const record = await createDevice();
  await connected(async (connection) => {
    const resource = `${ready.hostname}/devices/${record.deviceId}`;
    await putToken(connection, token(resource, record.authentication.symmetricKey.primaryKey));
    const source = `/devices/${record.deviceId}/messages/devicebound`;
    const receiver = connection.open_receiver({ source, autoaccept: false, autosettle: false, rcv_settle_mode: 1 });
    const first = once(receiver, 'message');
    await service.send(record.deviceId, new common.Message('late'));
    const { delivery } = await first;
    const second = await once(receiver, 'message', 65_000);
    const settled = once(receiver, 'settled');
    delivery.update(false, rhea.message.accepted().described());
    const { delivery: told } = await settled;
    assert.equal(told.remote_state.error.condition, 'com.microsoft:message-lock-lost');
    assert.equal((await registry.get(record.deviceId)).responseBody.cloudToDeviceMessageCount, 1);
    const done = once(receiver, 'settled');
    second.delivery.update(false, rhea.message.accepted().described());
    await done;
    assert.equal((await registry.get(record.deviceId)).responseBody.cloudToDeviceMessageCount, 0);
  });
});
