// What devices and modules get over AMQP: device-bound messages, calls of methods, their twins. Through the unmodified
// azure-iot-device-amqp and azure-iothub; what these do not show stands in amqp-bound-wire.test.js.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import iothub from 'azure-iothub';
import device from 'azure-iot-device';
import common from 'azure-iot-common';
import { endAgain, restart, until } from './harness/again.js';
import { byKey, signIn, transports } from './harness/devices.js';
import { cli, createDevice, policyKey, ready, registry, token } from './harness/hub.js';
import { connected, openSender, outcome, putToken } from './harness/rhea.js';

let service;
const live = { amqp: transports.amqp, 'amqp-ws': transports['amqp-ws'] };

before(() => openService());
after(async () => {
  await service.close();
  endAgain();
});

async function openService() {
  service = iothub.Client.fromConnectionString(ready.service_connection_string);
  await service.open();
}

// Connects a client that wants messages. The function that comes back waits for the next one.
async function receiver(client, event = 'message') {
  const [came, waiting] = [[], []];
  client.on(event, (...args) => {
    const message = args.at(-1);
    waiting.length > 0 ? waiting.shift()(message) : came.push(message);
  });
  await client.open();
  return () => (came.length > 0 ? Promise.resolve(came.shift()) : new Promise((resolve) => waiting.push(resolve)));
}

const text = (message) => message.getData().toString();
const deliveryCount = (message) => message.transportObj.message_annotations['iothub-deliverycount'];
const waitingFor = async (id) => (await registry.get(id)).responseBody.cloudToDeviceMessageCount;
const gone = (id) => until(async () => (await waitingFor(id)) === 0, 'it left the queue');
const report = (twin, patch) => promisify(twin.properties.reported.update.bind(twin.properties.reported))(patch);
const call = (id, methodName, payload) =>
  service.invokeDeviceMethod(id, { methodName, payload, responseTimeoutInSeconds: 15, connectTimeoutInSeconds: 15 });

for (const [name, transport] of Object.entries(live)) {
  test(`a device over ${name} gets a message with all that is in it`, async () => {
    const record = await createDevice();
    const client = byKey(record, transport);
    const next = await receiver(client);
    const message = new common.Message('hello');
    const fields = { messageId: 'm-1', correlationId: 'c-1', ack: 'full', contentType: 'text/plain', contentEncoding: 'utf-8' };
    Object.assign(message, fields, { expiryTimeUtc: Date.now() + 60_000 });
    message.properties.add('color', 'red brick & more=%');
    await service.send(record.deviceId, message);
    const got = await next();
    assert.equal(text(got), 'hello');
    for (const [field, value] of Object.entries(fields)) assert.equal(got[field], value);
    assert.equal(got.to, `/devices/${record.deviceId}/messages/deviceBound`);
    assert.equal(got.properties.getValue('color'), 'red brick & more=%');
    assert.equal(Number(got.expiryTimeUtc), message.expiryTimeUtc);
    await client.complete(got);
    await gone(record.deviceId);
    await client.close();
  });

  for (const credential of ['device key', 'policy key', 'thumbprint', 'CA-signed']) {
    test(`a device with ${credential} over ${name} has messages, methods and its twin on one connection`, async () => {
      const { deviceId } = await createDevice();
      const { fields, client: connect } = signIn(credential, deviceId);
      const record = (await registry.update({ deviceId, ...fields })).responseBody;
      const client = await connect(transport, record);
      const next = await receiver(client);
      client.onDeviceMethod('echo', (request, response) => response.send(201, { got: request.payload }));
      const twin = await client.getTwin();
      const told = once(twin, 'properties.desired.rate');

      await service.send(deviceId, new common.Message('one'));
      await client.complete(await next());
      assert.deepEqual((await call(deviceId, 'echo', { a: [1] })).result, { status: 201, payload: { got: { a: [1] } } });
      await report(twin, { mode: 'auto' });
      assert.equal((await registry.getTwin(deviceId)).responseBody.properties.reported.mode, 'auto');
      // The report is behind the subscription on the wire.
      await registry.updateTwin(deviceId, { properties: { desired: { rate: 5 } } }, '*');
      assert.deepEqual(await told, [5]);
      await gone(deviceId);
      await client.close();
      await until(async () => (await registry.get(deviceId)).responseBody.connectionState === 'Disconnected', 'disconnected');
    });
  }

  test(`a message that is abandoned over ${name} comes again and counts, and the tenth time is the last`, async () => {
    const record = await createDevice();
    const client = byKey(record, transport);
    const next = await receiver(client);
    await service.send(record.deviceId, new common.Message('again'));
    for (let count = 0; count < 10; count += 1) {
      const message = await next();
      assert.deepEqual([text(message), deliveryCount(message)], ['again', count]);
      assert.equal(await waitingFor(record.deviceId), 1);
      await client.abandon(message);
    }
    await gone(record.deviceId);
    await client.close();
  });

  test(`a message that is rejected over ${name} is gone, and the next one comes`, async () => {
    const record = await createDevice();
    const client = byKey(record, transport);
    const next = await receiver(client);
    await service.send(record.deviceId, new common.Message('bad'));
    await client.reject(await next());
    await gone(record.deviceId);
    await service.send(record.deviceId, new common.Message('good'));
    const message = await next();
    assert.equal(text(message), 'good');
    await client.complete(message);
    await gone(record.deviceId);
    await client.close();
  });

  test(`what waits for a device comes over ${name} in order when it connects, and once`, async () => {
    const record = await createDevice();
    const count = 50;
    for (let number = 0; number < count; number += 1) await service.send(record.deviceId, new common.Message(String(number)));
    await assert.rejects(service.send(record.deviceId, new common.Message('one too many')), { name: 'DeviceMaximumQueueDepthExceededError' });
    const client = byKey(record, transport);
    const next = await receiver(client);
    for (let number = 0; number < count; number += 1) {
      const message = await next();
      assert.equal(text(message), String(number));
      await client.complete(message);
    }
    // A client that closes at once has still completed what it said it did.
    await client.close();
    await gone(record.deviceId);
  });

  test(`what a device over ${name} did not settle comes again on its next connection, and does not count`, async () => {
    const record = await createDevice();
    const first = byKey(record, transport);
    const next = await receiver(first);
    for (const body of ['kept', 'completed']) await service.send(record.deviceId, new common.Message(body));
    const kept = await next();
    await first.complete(await next());
    await first.close();
    const second = byKey(record, transport);
    const nextAgain = await receiver(second);
    const message = await nextAgain();
    assert.deepEqual([text(message), deliveryCount(message)], [text(kept), 0]);
    await second.complete(message);
    await gone(record.deviceId);
    await second.close();
  });

  test(`a link over ${name} that ends gives back what it had, and the connection goes on`, async () => {
    const record = await createDevice();
    const client = byKey(record, transport);
    const listener = () => {};
    const came = new Promise((resolve) => client.once('message', resolve));
    client.on('message', listener);
    await client.open();
    await client.sendEvent(new common.Message('telemetry'));
    await service.send(record.deviceId, new common.Message('bound'));
    assert.equal(text(await came), 'bound');
    client.removeListener('message', listener);
    // HTTPS gets what nobody has.
    let answer;
    await until(async () => (answer = await https(record)).status === 200, 'it is back in the queue');
    assert.equal(await answer.text(), 'bound');
    await https(record, { method: 'DELETE', lock: JSON.parse(answer.headers.get('etag')) });
    await gone(record.deviceId);
    await client.sendEvent(new common.Message('goes on'));
    await client.close();
  });

  test(`a newer connection over ${name} gets what the older one had`, async () => {
    const record = await createDevice();
    const older = byKey(record, transport);
    older.on('error', () => {});
    const ended = new Promise((resolve) => older.on('disconnect', resolve));
    const next = await receiver(older);
    await service.send(record.deviceId, new common.Message('moves'));
    await next();
    const newer = byKey(record, transport);
    const nextOfNewer = await receiver(newer);
    const message = await nextOfNewer();
    assert.deepEqual([text(message), deliveryCount(message)], ['moves', 0]);
    await ended;
    await newer.complete(message);
    await gone(record.deviceId);
    await newer.close();
  });

  test(`links over ${name} outlive the tokens that they were opened with`, async () => {
    const record = await createDevice();
    const key = record.authentication.symmetricKey.primaryKey;
    const connectionString = `HostName=${ready.hostname};DeviceId=${record.deviceId};SharedAccessKey=${key}`;
    // Tokens of four seconds, renewed after two.
    const provider = device.SharedAccessKeyAuthenticationProvider.fromConnectionString(connectionString, 4, 2);
    const client = new device.Client(new transport(provider));
    client.setRetryPolicy(new common.NoRetry());
    const ends = [];
    client.on('disconnect', (error) => ends.push(error));
    const next = await receiver(client);
    client.onDeviceMethod('echo', (request, response) => response.send(200, request.payload));
    const twin = await client.getTwin();
    const desired = [];
    twin.on('properties.desired.n', (n) => desired.push(n));
    await report(twin, { ready: true });
    const begun = Date.now();
    let number = 0;
    for (; Date.now() - begun < 6_000; number += 1) {
      await service.send(record.deviceId, new common.Message(String(number)));
      const message = await next();
      assert.equal(text(message), String(number));
      await client.complete(message);
      assert.equal((await call(record.deviceId, 'echo', number)).result.payload, number);
      await registry.updateTwin(record.deviceId, { properties: { desired: { n: number } } }, '*');
      await report(twin, { n: number });
      await pause(100);
    }
    await until(() => desired.length === number, 'every change was told');
    assert.deepEqual(desired, Array.from({ length: number }, (_, at) => at));
    assert.deepEqual(ends, []);
    await client.close();
    const kinds = cli('audit', 'list', '--device', record.deviceId, '--limit', '500').map(({ act }) => act.kind);
    assert.equal(kinds.filter((kind) => kind === 'connect').length, 1);
    assert.ok(kinds.filter((kind) => kind === 'token').length >= 3, `${kinds}`);
  });

  test(`a module over ${name} gets its messages where the SDK looks for them`, async () => {
    const { deviceId } = await createDevice();
    const { responseBody: record } = await registry.addModule({ deviceId, moduleId: 'm1' });
    const client = byKey(record, transport);
    const next = await receiver(client, 'inputMessage');
    // azure-iothub sends to devices only.
    await connected(async (connection) => {
      await putToken(connection, token(ready.hostname, policyKey('service'), { policy: 'service' }));
      const sender = await openSender(connection, '/messages/devicebound');
      const message = { to: `/devices/${deviceId}/modules/m1/messages/devicebound`, body: 'for m1' };
      assert.equal((await outcome(sender, message)).event, 'accepted');
    });
    const got = await next();
    assert.equal(text(got), 'for m1');
    await client.complete(got);
    await client.close();
    const waiting = async () => (await registry.getModule(deviceId, 'm1')).responseBody.cloudToDeviceMessageCount;
    await until(async () => (await waiting()) === 0, 'it left the queue');
  });

  test(`a report over ${name} that may not be is answered with what is wrong, and the next one is taken`, async () => {
    const record = await createDevice();
    const client = byKey(record, transport);
    await client.open();
    const twin = await client.getTwin();
    // The SDK wraps the error by the status in one that says nothing.
    await assert.rejects(report(twin, { 'key with blank': 1 }), ({ amqpError: error }) => {
      assert.equal(error.name, 'FormatError');
      assert.match(JSON.parse(error.amqpError.body.content).message, /key with blank/);
      return true;
    });
    await report(twin, { good: 1 });
    assert.equal((await registry.getTwin(record.deviceId)).responseBody.properties.reported.good, 1);
    await client.close();
  });

  test(`a device over ${name} that goes before it answers ends the call at once`, async () => {
    const record = await createDevice();
    const client = byKey(record, transport);
    await client.open();
    const called = new Promise((resolve) => client.onDeviceMethod('silent', resolve));
    const calling = assert.rejects(call(record.deviceId, 'silent', null), (error) => /404104/.test(error.responseBody));
    await called;
    await client.close();
    const begun = Date.now();
    await calling;
    assert.ok(Date.now() - begun < 5_000, 'the service did not wait for the time-out');
  });

  test(`a method that nobody answers over ${name} times out, and one of a device that is not there fails`, async () => {
    const record = await createDevice();
    const params = { methodName: 'silent', responseTimeoutInSeconds: 5, connectTimeoutInSeconds: 0 };
    await assert.rejects(service.invokeDeviceMethod(record.deviceId, params), (error) => /404103/.test(error.responseBody));
    const client = byKey(record, transport);
    client.onDeviceMethod('silent', () => {});
    await client.open();
    const patient = { ...params, connectTimeoutInSeconds: 15 };
    await assert.rejects(service.invokeDeviceMethod(record.deviceId, patient), { name: 'GatewayTimeoutError' });
    await client.close();
  });
}

test('a message that is abandoned over HTTPS comes to the connection that listens', async () => {
  const record = await createDevice();
  await service.send(record.deviceId, new common.Message('passed on'));
  const taken = await https(record);
  const client = byKey(record, transports.amqp);
  const next = await receiver(client);
  // It is listening, for it has another one.
  await service.send(record.deviceId, new common.Message('own'));
  await client.complete(await next());
  await https(record, { method: 'POST', lock: JSON.parse(taken.headers.get('etag')), then: 'abandon' });
  const message = await next();
  assert.deepEqual([text(message), deliveryCount(message)], ['passed on', 1]);
  await client.complete(message);
  await gone(record.deviceId);
  await client.close();
});

test('what was sent and not completed outlives the end of the hub, and what was completed does not come back', async () => {
  const record = await createDevice();
  const before = byKey(record, transports.amqp);
  before.on('error', () => {});
  const next = await receiver(before);
  for (const body of ['completed', 'in hand', 'waits']) await service.send(record.deviceId, new common.Message(body));
  const completed = await next();
  assert.equal(text(completed), 'completed');
  await before.complete(completed);
  await until(async () => (await waitingFor(record.deviceId)) === 2, 'one is completed');
  assert.equal(text(await next()), 'in hand');
  const twin = await before.getTwin();
  await report(twin, { alive: true });
  const lost = new Promise((resolve) => before.on('disconnect', resolve));
  await restart();
  await lost;
  await service.close().catch(() => {});
  await openService();
  const client = byKey(record, transports.amqp);
  const nextAgain = await receiver(client);
  for (const body of ['in hand', 'waits']) {
    const message = await nextAgain();
    assert.deepEqual([text(message), deliveryCount(message)], [body, 0]);
    await client.complete(message);
  }
  await gone(record.deviceId);
  assert.equal((await client.getTwin()).properties.reported.alive, true);
  await client.close();
});

// What a device does over HTTPS with its messages.
function https(record, { method = 'GET', lock, then } = {}) {
  const resource = `${ready.hostname}/devices/${record.deviceId}`;
  const authorization = token(resource, record.authentication.symmetricKey.primaryKey);
  const path = ['messages/devicebound', lock, then].filter(Boolean).join('/');
  return fetch(`https://${resource}/${path}?api-version=2021-04-12`, { method, headers: { authorization } });
}
