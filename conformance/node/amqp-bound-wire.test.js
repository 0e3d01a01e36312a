// What the links of AMQP devices show on the wire, by hand with rhea: what the Node SDK hides, and what the C and .NET
// SDKs do otherwise. One behaviour each.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import iothub from 'azure-iothub';
import common from 'azure-iot-common';
import rhea from 'rhea';
import { until } from './harness/again.js';
import { cli, createDevice, newName, policyKey, ready, registry, token } from './harness/hub.js';
import { connected, once, openSender, outcome, putToken, refusal } from './harness/rhea.js';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const REPORTED = '/properties/reported';
const DESIRED = '/notifications/twin/properties/desired';
const service = iothub.Client.fromConnectionString(ready.service_connection_string);

before(() => service.open());
after(() => service.close());

const keyOf = (record) => record.authentication.symmetricKey.primaryKey;
const resourceOf = ({ deviceId, moduleId }) => `/devices/${deviceId}${moduleId ? `/modules/${moduleId}` : ''}`;
const tokenOf = (record) => token(`${ready.hostname}${resourceOf(record)}`, keyOf(record));
const messages = (record) => `${resourceOf(record)}/messages/devicebound`;
const methods = (record) => `${resourceOf(record)}/methods/devicebound`;
const twinOf = (record) => `${resourceOf(record)}/twin`;
const waitingFor = async (record) => (await registry.get(record.deviceId)).responseBody.cloudToDeviceMessageCount;
const gone = (record) => until(async () => (await waitingFor(record)) === 0, 'it left the queue');
const send = (record, body = 'x') => service.send(record.deviceId, new common.Message(body));
const bodyOf = ({ message }) => message.body.content.toString();

// A connection on which a new device has put its token.
async function signedIn(use, options) {
  const record = await createDevice();
  await connected(async (connection) => {
    await putToken(connection, tokenOf(record));
    await use(connection, record);
  }, options);
}

// A receiver that settles nothing of its own accord; `next` waits for what comes.
function openReceiver(session, source, options = {}) {
  const receiver = session.open_receiver({ source, autoaccept: false, autosettle: false, ...options });
  const [came, waiting] = [[], []];
  receiver.on('message', (context) => (waiting.length > 0 ? waiting.shift()(context) : came.push(context)));
  receiver.next = () => (came.length > 0 ? Promise.resolve(came.shift()) : new Promise((resolve) => waiting.push(resolve)));
  receiver.came = came;
  return receiver;
}

// Whatever was to come has come before this is answered.
async function roundTrip(connection) {
  connection.trips = (connection.trips ?? 0) + 1;
  await putToken(connection, 'no token', `trip-${connection.trips}`);
}

// The twin links of a device; `ask` waits for the answer to a request.
async function openTwin(session, record, options = {}) {
  const receiver = openReceiver(session, twinOf(record), { snd_settle_mode: 1, ...options });
  const sender = session.open_sender({ target: twinOf(record), snd_settle_mode: 1 });
  await Promise.all([once(receiver, 'receiver_open'), once(sender, 'sendable')]);
  let asked = 0;
  const request = (operation, resource, body = ' ', id = `request-${(asked += 1)}`) => ({
    correlation_id: id,
    message_annotations: { operation, ...(resource ? { resource } : {}) },
    body: rhea.message.data_section(Buffer.from(body)),
  });
  const ask = async (...of) => {
    sender.send(request(...of));
    return (await receiver.next()).message;
  };
  return { sender, receiver, request, ask, next: receiver.next };
}

async function openMethods(session, record) {
  const sender = session.open_sender(methods(record));
  const receiver = openReceiver(session, methods(record));
  await Promise.all([once(sender, 'sendable'), once(receiver, 'receiver_open')]);
  return { sender, receiver };
}

function call(record, payload = null, seconds = 15) {
  const params = { methodName: 'm', payload, responseTimeoutInSeconds: seconds, connectTimeoutInSeconds: 0 };
  return service.invokeDeviceMethod(record.deviceId, params);
}

const answer = (correlation_id, status, body = 'null') => ({
  correlation_id,
  application_properties: status === undefined ? {} : { 'IoThub-status': rhea.types.wrap_int(status) },
  body: rhea.message.data_section(Buffer.from(body)),
});

// The type of a value in the encoding of a section, by the key that it has.
function typeOf(encoded, key) {
  const at = encoded.indexOf(key) + Buffer.byteLength(key);
  return encoded[at];
}

// The bytes of the next transfers of a connection, as they came.
function recorded(connection) {
  const { socket } = connection;
  const chunks = [];
  socket.prependListener('data', (chunk) => chunks.push(chunk));
  return () => Buffer.concat(chunks);
}

test('a message has a tag of sixteen bytes in .NET byte order, and annotations of the types that .NET reads', async () => {
  await signedIn(async (connection, record) => {
    const bytes = recorded(connection);
    const receiver = openReceiver(connection, messages(record));
    await send(record);
    const { message, delivery } = await receiver.next();
    assert.equal(delivery.tag.length, 16);
    // The version of a random GUID stands in the upper half of byte 7 when its third group is turned around.
    assert.equal(delivery.tag[7] >> 4, 4);
    const types = ['x-opt-sequence-number', 'iothub-enqueuedtime', 'iothub-deliverycount'].map((key) => typeOf(bytes(), key));
    // smallulong, timestamp, ubyte
    assert.deepEqual(types, [0x53, 0x83, 0x50]);
    assert.equal(message.message_annotations['x-opt-sequence-number'], 1);
    assert.equal(message.message_annotations['iothub-deliverycount'], 0);
    const age = Date.now() - message.message_annotations['iothub-enqueuedtime'];
    assert.ok(age >= -1_000 && age < 10_000);
    assert.ok(message.absolute_expiry_time - Date.now() > 3_500_000, 'the default life of an hour');
    delivery.update(true, rhea.message.accepted().described());
    await gone(record);
  });
});

test('no more comes than there is credit for', async () => {
  await signedIn(async (connection, record) => {
    for (let number = 0; number < 3; number += 1) await send(record, String(number));
    const receiver = openReceiver(connection, messages(record), { credit_window: 0 });
    await once(receiver, 'receiver_open');
    await roundTrip(connection);
    assert.equal(receiver.came.length, 0);
    receiver.add_credit(1);
    assert.equal(bodyOf(await receiver.next()), '0');
    await roundTrip(connection);
    assert.equal(receiver.came.length, 0);
    receiver.add_credit(5);
    assert.equal(bodyOf(await receiver.next()), '1');
    assert.equal(bodyOf(await receiver.next()), '2');
  });
});

test('a link that is drained brings what there is and then gives the credit back', async () => {
  await signedIn(async (connection, record) => {
    for (let number = 0; number < 3; number += 1) await send(record, String(number));
    const receiver = openReceiver(connection, messages(record), { credit_window: 0 });
    await once(receiver, 'receiver_open');
    receiver.drain = true;
    receiver.add_credit(10);
    await once(receiver, 'receiver_drained');
    assert.deepEqual(receiver.came.map(bodyOf), ['0', '1', '2']);
    assert.equal(receiver.credit, 0);
    receiver.drain_credit();
  });
});

test('a client that settles second is told that its outcome is durable', async () => {
  await signedIn(async (connection, record) => {
    const receiver = openReceiver(connection, messages(record), { rcv_settle_mode: 1 });
    await once(receiver, 'receiver_open');
    assert.equal(receiver.remote.attach.rcv_settle_mode, 1);
    for (const state of [rhea.message.accepted(), rhea.message.rejected()]) {
      await send(record);
      const { delivery } = await receiver.next();
      const settled = once(receiver, 'settled');
      delivery.update(false, state.described());
      const { delivery: told } = await settled;
      assert.equal(told.remote_state.constructor.composite_type, 'accepted');
      // It was durable before it was told.
      assert.equal(await waitingFor(record), 0);
    }
  });
});

test('a client that settles second is told that it lost the lock', async () => {
  await signedIn(async (connection, record) => {
    const receiver = openReceiver(connection, messages(record), { rcv_settle_mode: 1 });
    await send(record);
    const { delivery } = await receiver.next();
    const authorization = token(ready.hostname, policyKey('service'), { policy: 'service' });
    const commands = `https://${ready.hostname}/devices/${record.deviceId}/commands?api-version=2021-04-12`;
    assert.equal((await fetch(commands, { method: 'DELETE', headers: { authorization } })).status, 200);
    const settled = once(receiver, 'settled');
    delivery.update(false, rhea.message.accepted().described());
    const { delivery: told } = await settled;
    assert.equal(told.remote_state.constructor.composite_type, 'rejected');
    assert.equal(told.remote_state.error.condition, 'com.microsoft:message-lock-lost');
  });
});

for (const [what, state, count] of [
  ['released', () => rhea.message.released(), 1],
  ['modified', () => rhea.message.modified({ delivery_failed: true }), 1],
  ['settled without an outcome', () => undefined, 0],
]) {
  test(`a message that is ${what} comes again with a delivery count of ${count}`, async () => {
    await signedIn(async (connection, record) => {
      const receiver = openReceiver(connection, messages(record));
      await send(record, 'again');
      const { delivery } = await receiver.next();
      delivery.update(true, state()?.described());
      const second = await receiver.next();
      assert.equal(bodyOf(second), 'again');
      assert.equal(second.message.message_annotations['iothub-deliverycount'], count);
      second.delivery.update(true, rhea.message.modified({ undeliverable_here: true }).described());
      await gone(record);
    });
  });
}

test('a message that is too large for its receiver stays for one that takes it', async () => {
  await signedIn(async (connection, record) => {
    const narrow = openReceiver(connection, messages(record), { max_message_size: 1_000 });
    await send(record, 'x'.repeat(2_000));
    await send(record, 'small');
    assert.equal(bodyOf(await narrow.next()), 'small');
    assert.equal(await waitingFor(record), 2);
    narrow.close();
    const wide = openReceiver(connection, messages(record), { max_message_size: 65_536 });
    assert.equal(bodyOf(await wide.next()).length, 2_000);
  });
});

test('the newer of two links of one kind stands, and gets what the older one had', async () => {
  await signedIn(async (connection, record) => {
    const older = openReceiver(connection, messages(record));
    await send(record);
    await older.next();
    const stolen = refusal(older);
    const newer = openReceiver(connection, messages(record));
    assert.equal(await stolen, 'amqp:link:stolen');
    const { message, delivery } = await newer.next();
    assert.equal(message.message_annotations['iothub-deliverycount'], 0);
    delivery.update(true, rhea.message.accepted().described());
    await gone(record);
    assert.equal((await registry.get(record.deviceId)).responseBody.connectionState, 'Connected');
  });
});

test('links are known by address and role, in any spelling, whatever properties leak into them', async () => {
  const id = newName();
  const record = await createDevice({ deviceId: `${id}+#` });
  const encoded = encodeURIComponent(record.deviceId);
  const properties = { 'com.microsoft:channel-correlation-id': 'methods:left-over', 'com.microsoft:api-version': '2021-04-12' };
  await connected(async (connection) => {
    await putToken(connection, tokenOf({ ...record, deviceId: encoded }));
    for (const source of [
      `/devices/${encoded}/messages/deviceBound`,
      `devices/${encoded}/Messages/devicebound`,
      `amqps://${ready.hostname}/devices/${encoded}/messages/devicebound`,
      `amqps://${ready.hostname}:5671/devices/${record.deviceId}/messages/devicebound`,
    ]) {
      const receiver = openReceiver(connection, source, { properties });
      await send(record, source);
      const { message, delivery } = await receiver.next();
      assert.equal(message.body.content.toString(), source);
      delivery.update(true, rhea.message.accepted().described());
      receiver.close();
      await once(receiver, 'receiver_close');
    }
  });
});

test('devices on one connection have links of the same names, each in a session of its own', async () => {
  const records = await Promise.all(Array.from({ length: 20 }, () => createDevice()));
  await connected(async (connection) => {
    const links = [];
    for (const [number, record] of records.entries()) {
      await putToken(connection, tokenOf(record), `put-${number}`);
      const session = connection.create_session();
      session.begin();
      const twin = await openTwin(session, record, { name: 'TwinReceiverLink' });
      links.push({ twin, inbox: openReceiver(session, messages(record), { name: 'MessageReceiverLink' }) });
    }
    await Promise.all(records.map((record) => send(record, record.deviceId)));
    const patches = links.map(({ twin }, number) => twin.ask('PATCH', REPORTED, JSON.stringify({ number })));
    (await Promise.all(patches)).forEach((message) => assert.equal(message.message_annotations.status, 204));
    for (const [number, { twin, inbox }] of links.entries()) {
      assert.equal(bodyOf(await inbox.next()), records[number].deviceId);
      const { reported } = JSON.parse((await twin.ask('GET')).body.content);
      assert.equal(reported.number, number);
    }
  });
});

test('a call has a UUID as its id, and its answer may bring it back as one or as text', async () => {
  await signedIn(async (connection, record) => {
    const { sender, receiver } = await openMethods(connection, record);
    // rhea writes sixteen bytes as UUID.
    for (const back of [(id) => id, (id) => rhea.uuid_to_string(id)]) {
      const calling = call(record, { a: 1 });
      const { message, delivery } = await receiver.next();
      assert.equal(message.application_properties['IoThub-methodname'], 'm');
      assert.match(rhea.uuid_to_string(message.correlation_id), UUID);
      assert.equal(message.body.content.toString(), '{"a":1}');
      assert.ok(delivery.remote_settled);
      assert.equal((await outcome(sender, answer(back(message.correlation_id), 207, '[1]'))).event, 'accepted');
      assert.deepEqual((await calling).result, { status: 207, payload: [1] });
    }
  });
});

test('a call without payload has an empty body, and one with null has null', async () => {
  await signedIn(async (connection, record) => {
    const { sender, receiver } = await openMethods(connection, record);
    const authorization = token(ready.hostname, policyKey('service'), { policy: 'service' });
    const url = `https://${ready.hostname}/twins/${record.deviceId}/methods?api-version=2021-04-12`;
    for (const [body, payload] of [['{"methodName":"m"}', ''], ['{"methodName":"m","payload":null}', 'null']]) {
      const calling = fetch(url, { method: 'POST', headers: { authorization }, body });
      const { message } = await receiver.next();
      assert.equal(message.body.content.toString(), payload);
      await outcome(sender, answer(message.correlation_id, 200));
      assert.equal((await calling).status, 200);
    }
  });
});

test('a device takes calls once both of its links are there, and no longer than that', async () => {
  await signedIn(async (connection, record) => {
    const offline = () => assert.rejects(call(record), (error) => /404103/.test(error.responseBody));
    const receiver = openReceiver(connection, methods(record));
    await once(receiver, 'receiver_open');
    await offline();
    const sender = await openSender(connection, methods(record));
    const calling = call(record);
    const { message } = await receiver.next();
    await outcome(sender, answer(message.correlation_id, 200));
    assert.equal((await calling).result.status, 200);
    receiver.close();
    await once(receiver, 'receiver_close');
    await offline();
  });
});

test('a link for calls that ends lets those go that wait for an answer', async () => {
  await signedIn(async (connection, record) => {
    const { sender, receiver } = await openMethods(connection, record);
    const calling = assert.rejects(call(record), (error) => /404104/.test(error.responseBody));
    await receiver.next();
    sender.close();
    await calling;
  });
});

test('calls wait for credit, and those that were given up are not sent', async () => {
  await signedIn(async (connection, record) => {
    const sender = await openSender(connection, methods(record));
    const receiver = openReceiver(connection, methods(record), { credit_window: 0 });
    await once(receiver, 'receiver_open');
    await assert.rejects(call(record, 'late', 5), { name: 'GatewayTimeoutError' });
    const calling = call(record, 'in time');
    await roundTrip(connection);
    receiver.add_credit(5);
    const { message } = await receiver.next();
    assert.equal(message.body.content.toString(), '"in time"');
    await outcome(sender, answer(message.correlation_id, 200));
    await calling;
    assert.equal(receiver.came.length, 0);
  });
});

for (const [what, id, status, problem] of [
  ['an id', undefined, 200, /correlation-id/],
  ['a status', 'x', undefined, /IoThub-status/],
]) {
  test(`an answer to a call without ${what} is rejected, and the operator hears why`, async () => {
    await signedIn(async (connection, record) => {
      const { sender } = await openMethods(connection, record);
      const { event, error } = await outcome(sender, answer(id, status));
      assert.equal(event, 'rejected');
      assert.equal(error.condition, 'com.microsoft:argument-error');
      assert.match(error.description, problem);
      assert.deepEqual(cli('why', record.deviceId).map(({ cause }) => cause), ['protocol']);
    });
  });
}

test('an answer that nobody waits for is taken and passed over', async () => {
  await signedIn(async (connection, record) => {
    const { sender } = await openMethods(connection, record);
    assert.equal((await outcome(sender, answer('nobody-asked', 200))).event, 'accepted');
  });
});

test('a twin is read and reported in the types that the C SDK takes', async () => {
  await signedIn(async (connection, record) => {
    const twin = await openTwin(connection, record);
    const read = await twin.ask('GET');
    assert.equal(read.correlation_id, 'request-1');
    assert.deepEqual(JSON.parse(read.body.content), { desired: { $version: 1 }, reported: { $version: 1 } });
    const bytes = recorded(connection);
    const patched = await twin.ask('PATCH', REPORTED, '{"a":1}');
    assert.deepEqual(patched.message_annotations, { status: 204, version: 2 });
    // int and long, in their short or long form
    assert.ok([0x54, 0x71].includes(typeOf(bytes(), 'status')));
    assert.ok([0x55, 0x81].includes(typeOf(bytes(), 'version')));
    assert.equal(patched.body, undefined);
  });
});

test('the id of a request about the twin comes back in the type in which it came', async () => {
  await signedIn(async (connection, record) => {
    const twin = await openTwin(connection, record);
    // rhea writes numbers as ulong and sixteen bytes as UUID.
    for (const id of ['Get6d2f', 7, rhea.string_to_uuid(rhea.generate_uuid())]) {
      assert.deepEqual((await twin.ask('GET', undefined, ' ', id)).correlation_id, id);
    }
  });
});

test('the sections of a request come in any order, as the C SDK sends them', async () => {
  await signedIn(async (connection, record) => {
    const twin = await openTwin(connection, record);
    const { message_annotations, correlation_id, body } = twin.request('PATCH', REPORTED, '{"order":"odd"}');
    // rhea begins each message with an empty header and empty properties, and ends it with an empty body, of four bytes each.
    const part = (fields, start, end) => rhea.message.encode(fields).subarray(start, end);
    const sections = [part({ correlation_id }, 4, -4), part({ message_annotations }, 4, -8), part({ body }, 8)];
    twin.sender.send(Buffer.concat(sections), undefined, 0);
    assert.equal((await twin.next()).message.message_annotations.status, 204);
    assert.equal((await registry.getTwin(record.deviceId)).responseBody.properties.reported.order, 'odd');
  });
});

test('changes of desired properties come after PUT and until DELETE, and have no correlation-id', async () => {
  await signedIn(async (connection, record) => {
    const twin = await openTwin(connection, record);
    const change = (n) => registry.updateTwin(record.deviceId, { properties: { desired: { n } } }, '*');
    await change(1);
    assert.equal((await twin.ask('PUT', DESIRED)).message_annotations.status, 204);
    assert.equal(twin.receiver.came.length, 0);
    await change(2);
    const { message } = await twin.next();
    assert.equal(message.correlation_id, undefined);
    assert.deepEqual(JSON.parse(message.body.content), { n: 2, $version: 3 });
    assert.equal((await twin.ask('DELETE', DESIRED)).message_annotations.status, 204);
    await change(3);
    const read = JSON.parse((await twin.ask('GET')).body.content);
    assert.deepEqual(read.desired, { n: 3, $version: 4 });
    // A new link is asked for anew.
    await twin.ask('PUT', DESIRED);
    twin.receiver.close();
    await once(twin.receiver, 'receiver_close');
    const again = openReceiver(connection, twinOf(record), { snd_settle_mode: 1 });
    await once(again, 'receiver_open');
    await change(4);
    await roundTrip(connection);
    assert.equal(again.came.length, 0);
  });
});

for (const [what, request, status, problem] of [
  ['of an operation that there is not', ['POST', REPORTED], 400, /`POST`/],
  ['of a resource that there is not', ['PATCH', '/properties/desired'], 400, /properties\/desired/],
  ['that is no JSON', ['PATCH', REPORTED, '{'], 400, /not JSON/],
  ['that is no object', ['PATCH', REPORTED, '[]'], 400, /no JSON object/],
]) {
  test(`a request about the twin ${what} is answered with ${status} and JSON`, async () => {
    await signedIn(async (connection, record) => {
      const twin = await openTwin(connection, record);
      const { message_annotations, body } = await twin.ask(...request);
      assert.equal(message_annotations.status, status);
      assert.match(JSON.parse(body.content).message, problem);
      assert.equal((await twin.ask('GET')).message_annotations.status, 200);
    });
  });
}

test('a report for another version than there is changes nothing', async () => {
  await signedIn(async (connection, record) => {
    const twin = await openTwin(connection, record);
    const request = twin.request('PATCH', REPORTED, '{"a":1}');
    for (const [version, status] of [[7, 412], [1, 204], [null, 204]]) {
      const message_annotations = { ...request.message_annotations, version: version && rhea.types.wrap_long(version) };
      twin.sender.send({ ...request, message_annotations });
      assert.equal((await twin.next()).message.message_annotations.status, status);
    }
  });
});

test('a request about the twin without an id is rejected, for nothing could answer it', async () => {
  await signedIn(async (connection, record) => {
    const sender = await openSender(connection, twinOf(record));
    const { event, error } = await outcome(sender, { message_annotations: { operation: 'GET' } });
    assert.equal(event, 'rejected');
    assert.match(error.description, /correlation-id/);
  });
});

test('hundreds of requests that come settled at once are all answered, in their order', async () => {
  await signedIn(async (connection, record) => {
    const twin = await openTwin(connection, record, { credit_window: 1_000 });
    const count = 300;
    let sent = 0;
    const more = () => {
      while (sent < count && twin.sender.sendable()) {
        twin.sender.send(twin.request('PATCH', REPORTED, JSON.stringify({ n: sent }), String(sent)));
        sent += 1;
      }
    };
    twin.sender.on('sendable', more);
    more();
    for (let number = 0; number < count; number += 1) {
      const { message } = await twin.next();
      assert.deepEqual([message.correlation_id, message.message_annotations.version], [String(number), number + 2]);
    }
  });
});

test('who asks about its twin again and again and takes no answer loses the link', async () => {
  await signedIn(async (connection, record) => {
    const twin = await openTwin(connection, record, { credit_window: 0 });
    const ended = refusal(twin.receiver);
    for (let number = 0; number < 17; number += 1) twin.sender.send(twin.request('GET'));
    assert.equal(await ended, 'amqp:resource-limit-exceeded');
    assert.ok(connection.is_open() && twin.sender.is_open());
  });
});

test('a device that does not read changes of its desired properties is ended', async () => {
  await signedIn(async (connection, record) => {
    const twin = await openTwin(connection, record, { credit_window: 0 });
    twin.receiver.add_credit(1);
    await twin.ask('PUT', DESIRED);
    const ended = refusal(twin.receiver);
    for (let n = 0; n < 65; n += 1) await registry.updateTwin(record.deviceId, { properties: { desired: { n } } }, '*');
    assert.equal(await ended, 'amqp:link:detach-forced');
  });
});

test('the model that a link announces, as that of .NET does, is noted in the twin', async () => {
  await signedIn(async (connection, record) => {
    const properties = { 'com.microsoft:model-id': 'dtmi:com:example:Thermostat;1' };
    const sender = connection.open_sender({ target: `${resourceOf(record)}/messages/events`, properties });
    await once(sender, 'sendable');
    const { responseBody: twin } = await registry.getTwin(record.deviceId);
    assert.equal(twin.modelId, 'dtmi:com:example:Thermostat;1');
  });
});

for (const [address, open] of [
  ['messages/events', 'open_receiver'],
  ['messages/devicebound', 'open_sender'],
  ['twins', 'open_receiver'],
]) {
  test(`a device is not allowed ${open === 'open_sender' ? 'a sender to' : 'a receiver of'} ${address}`, async () => {
    await signedIn(async (connection, record) => {
      assert.equal(await refusal(connection[open](`${resourceOf(record)}/${address}`)), 'amqp:not-allowed');
    });
  });
}

for (const link of ['messages/devicebound', 'methods/devicebound', 'twin']) {
  test(`a device has no receiver of ${link} of another device`, async () => {
    const other = await createDevice();
    await signedIn(async (connection) => {
      assert.equal(await refusal(connection.open_receiver(`${resourceOf(other)}/${link}`)), 'amqp:unauthorized-access');
    });
  });
}

test('services that send to many devices on one connection keep the order of each', async () => {
  const records = await Promise.all(Array.from({ length: 8 }, () => createDevice()));
  await connected(async (connection) => {
    await putToken(connection, token(ready.hostname, policyKey('service'), { policy: 'service' }));
    const sender = await openSender(connection, '/messages/devicebound');
    let accepted = 0;
    const all = new Promise((resolve) => sender.on('accepted', () => (accepted += 1) === 80 && resolve()));
    for (let number = 0; number < 10; number += 1) {
      for (const record of records) sender.send({ to: messages(record), body: String(number) });
    }
    await all;
  });
  for (const record of records) {
    await connected(async (connection) => {
      await putToken(connection, tokenOf(record));
      const receiver = openReceiver(connection, messages(record));
      const bodies = [];
      for (let number = 0; number < 10; number += 1) bodies.push(bodyOf(await receiver.next()));
      assert.deepEqual(bodies, Array.from({ length: 10 }, (_, number) => String(number)));
    });
  }
});
