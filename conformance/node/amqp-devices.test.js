// Devices over AMQP: how connections of the unmodified azure-iot-device-amqp begin, go on and end, and by hand with rhea
// what it does not do: batches, and many devices on one connection. What devices send stands in telemetry.test.js.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import common from 'azure-iot-common';
import device from 'azure-iot-device';
import rhea from 'rhea';
import { authority } from './harness/certificates.js';
import { byKey, Message, transports } from './harness/devices.js';
import { Reader } from './harness/events.js';
import { endAgain, restart, until } from './harness/again.js';
import { cli, createDevice, newKey, newName, policyKey, ready, readyFile, registry, token } from './harness/hub.js';
import { connected, once, openSender, outcome, putToken, refusal } from './harness/rhea.js';

const BATCH_FORMAT = 0x80013700;
const LIMIT = 256 * 1024;
let reader;

before(() => (reader = new Reader()));
after(async () => {
  await reader.close();
  endAgain();
});

const keyOf = (record) => record.authentication.symmetricKey.primaryKey;
const tokenOf = (record, options) => token(`${ready.hostname}/devices/${record.deviceId}`, keyOf(record), options);
const events = (deviceId) => `/devices/${encodeURIComponent(deviceId)}/messages/events`;

function connectionString(record) {
  return `HostName=${ready.hostname};DeviceId=${record.deviceId};SharedAccessKey=${keyOf(record)}`;
}

async function stateOf(deviceId) {
  return (await registry.get(deviceId)).responseBody.connectionState;
}

// The decisions about a device that are on record, oldest first: kind, and cause of the refusal if it was one.
function decisions(deviceId) {
  const records = cli('audit', 'list', '--device', deviceId, '--limit', '100').filter(({ act }) => act.kind !== 'change');
  return records.reverse().map(({ act, refusal }) => (refusal ? `${act.kind} ${refusal.cause}` : act.kind));
}

function causes(deviceId) {
  return cli('why', deviceId).map(({ cause }) => cause);
}

for (const transport of ['amqp', 'amqp-ws']) {
  test(`a device over ${transport} is connected while it has a link, and is on record with its SDK`, async () => {
    const record = await createDevice();
    const client = byKey(record, transports[transport]);
    await client.open();
    assert.equal(await stateOf(record.deviceId), 'Disconnected');
    await client.sendEvent(new Message('x'));
    assert.equal(await stateOf(record.deviceId), 'Connected');
    await client.close();
    await until(async () => (await stateOf(record.deviceId)) === 'Disconnected', 'disconnected');
    assert.deepEqual(decisions(record.deviceId), ['token', 'connect', 'disconnect']);
    const connect = cli('audit', 'list', '--device', record.deviceId, '--kind', 'connect')[0];
    assert.match(connect.facts.sdk, /^azure-iot-device\/1\.18/);
    assert.equal(connect.facts.slot, 'primary');
    assert.equal(connect.origin.door, transport);
  });

  test(`the SDK renews its token over ${transport} and the link goes on`, async () => {
    const record = await createDevice();
    // Tokens of four seconds, renewed after two.
    const Provider = device.SharedAccessKeyAuthenticationProvider;
    const provider = Provider.fromConnectionString(connectionString(record), 4, 2);
    const client = new device.Client(new transports[transport](provider));
    client.setRetryPolicy(new common.NoRetry());
    const ends = [];
    client.on('disconnect', (error) => ends.push(error));
    await client.open();
    const begun = Date.now();
    let sent = 0;
    // Past the end of the second token.
    for (; Date.now() - begun < 7_000; sent += 1) {
      await client.sendEvent(new Message(String(sent)));
      await pause(200);
    }
    const received = await reader.fromDevice(record.deviceId, sent);
    assert.deepEqual(received.map(({ body }) => Number(body)), Array.from({ length: sent }, (_, number) => number));
    assert.deepEqual(ends, []);
    await client.close();
    const seen = decisions(record.deviceId);
    assert.equal(seen.filter((kind) => kind === 'connect').length, 1, `${seen}`);
    assert.ok(seen.filter((kind) => kind === 'token').length >= 3, `${seen}`);
    assert.equal(seen.indexOf('disconnect'), seen.length - 1, `${seen}`);
  });

  test(`a token that is not renewed ends the link over ${transport}, at its end`, async () => {
    const record = await createDevice();
    const text = tokenOf(record, { seconds: 2 });
    const client = device.Client.fromSharedAccessSignature(text, transports[transport]);
    client.setRetryPolicy(new common.NoRetry());
    await client.open();
    await client.sendEvent(new Message('in time'));
    assert.equal(await stateOf(record.deviceId), 'Connected');
    await until(async () => (await stateOf(record.deviceId)) === 'Disconnected', 'disconnected');
    const late = Date.now() / 1000 - Number(/&se=(\d+)/.exec(text)[1]);
    assert.ok(late >= -0.1 && late < 1.5, `the link ended ${late} s after its token`);
    await client.close();
    assert.deepEqual(causes(record.deviceId), ['token-ended']);
  });

  test(`a module over ${transport} signs in with its own key and has a state of its own`, async () => {
    const { deviceId } = await createDevice();
    const { responseBody: record } = await registry.addModule({ deviceId, moduleId: 'm+1' });
    const client = byKey(record, transports[transport]);
    await client.open();
    await client.sendEvent(new Message('x'));
    const { responseBody } = await registry.getModule(deviceId, 'm+1');
    assert.equal(responseBody.connectionState, 'Connected');
    assert.equal(await stateOf(deviceId), 'Disconnected');
    await client.close();
    const [event] = await reader.fromDevice(deviceId);
    assert.equal(event.systemProperties['iothub-connection-module-id'], 'm+1');
  });
}

test('the hub dies in between, and what was acknowledged is there', async () => {
  const record = await createDevice();
  const client = device.Client.fromConnectionString(connectionString(record), transports.amqp);
  await client.open();
  const total = 300;
  const sending = Array.from({ length: total }, async (_, number) => {
    await pause(number * 10);
    await client.sendEvent(new Message(String(number)));
  });
  await pause(1_000);
  await restart();
  await Promise.all(sending);
  await client.close();
  await reader.close();
  reader = new Reader();
  const wanted = Array.from({ length: total }, (_, number) => number);
  await until(
    () => {
      const mine = reader.events.filter(({ systemProperties: p }) => p['iothub-connection-device-id'] === record.deviceId);
      const bodies = new Set(mine.map(({ body }) => Number(body)));
      return wanted.every((number) => bodies.has(number));
    },
    'all that was acknowledged is read back',
    20_000,
  );
});

test('a device is back within seconds after its hub was stopped in order and started again', async () => {
  const record = await createDevice();
  const client = byKey(record, transports.amqp);
  await client.open();
  client.on('message', (message) => client.complete(message));
  await client.sendEvent(new Message('before'));
  await restart({ signal: 'SIGTERM' });
  const begun = Date.now();
  await client.sendEvent(new Message('after'));
  assert.ok(Date.now() - begun < 15_000, `back after ${Date.now() - begun} ms`);
  await client.close();
});

test('the newer of two connections of one identity wins, whatever they speak', async () => {
  const record = await createDevice();
  await connected(async (connection) => {
    await putToken(connection, tokenOf(record));
    const older = await openSender(connection, events(record.deviceId));
    const stolen = refusal(older);
    const newer = byKey(record, transports.mqtt);
    await newer.open();
    assert.equal(await stolen, 'amqp:link:stolen');
    assert.ok(connection.is_open());

    const gone = new Promise((resolve) => newer.on('disconnect', resolve));
    const sender = await openSender(connection, events(record.deviceId)).catch((error) => error.message);
    // Its token went with its place.
    assert.equal(sender, 'amqp:unauthorized-access');
    await putToken(connection, tokenOf(record), 'request-2');
    await openSender(connection, events(record.deviceId));
    await gone;
    await newer.close();
  });
  assert.ok(causes(record.deviceId).includes('taken-over'));
});

for (const [what, change] of Object.entries({
  'is disabled': (record) => registry.update({ ...record, status: 'disabled' }),
  'is deleted': (record) => registry.delete(record.deviceId),
  'gets other keys': (record) => {
    const symmetricKey = { primaryKey: newKey(), secondaryKey: newKey() };
    return registry.update({ ...record, authentication: { type: 'sas', symmetricKey } });
  },
})) {
  test(`the links of a device that ${what} end within a second, and nobody else's`, async () => {
    const [record, other] = [await createDevice(), await createDevice()];
    await connected(async (connection) => {
      await putToken(connection, tokenOf(record));
      await putToken(connection, tokenOf(other), 'request-2');
      const ended = refusal(await openSender(connection, events(record.deviceId)));
      const stays = await openSender(connection, events(other.deviceId));
      await change(record);
      const changed = Date.now();
      assert.equal(await ended, 'amqp:unauthorized-access');
      assert.ok(Date.now() - changed < 1_000);
      assert.equal((await outcome(stays, { body: 'still here' })).event, 'accepted');
    });
    assert.ok(causes(record.deviceId).includes('right-ended'));
  });
}

test('a token of a key that was replaced since it was put ends nobody', async () => {
  const record = await createDevice();
  await connected(async (connection) => {
    await putToken(connection, tokenOf(record));
    const symmetricKey = { primaryKey: newKey(), secondaryKey: newKey() };
    const replaced = { ...record, authentication: { type: 'sas', symmetricKey } };
    await registry.update(replaced);
    const good = byKey(replaced, transports.mqtt);
    const gone = [];
    good.on('disconnect', (error) => gone.push(error));
    await good.open();
    assert.equal(await refusal(connection.open_sender(events(record.deviceId))), 'amqp:unauthorized-access');
    await good.sendEvent(new Message('still here'));
    assert.deepEqual(gone, []);
    await good.close();
  });
  assert.deepEqual(causes(record.deviceId), ['wrong-key']);
});

test('a certificate admits the device that it is for and no other, with SASL EXTERNAL and without SASL', async () => {
  const [deviceId, fields] = [newName(), { authentication: { type: 'certificateAuthority' } }];
  await createDevice({ deviceId, ...fields });
  const other = await createDevice(fields);
  const { chainFile, keyFile } = authority().issue(deviceId);
  const certificate = { cert: readFileSync(chainFile), key: readFileSync(keyFile), username: undefined };
  for (const sasl of [{ enable_sasl_external: true }, {}]) {
    await connected(
      async (connection) => {
        assert.equal(await refusal(connection.open_sender(events(other.deviceId))), 'amqp:unauthorized-access');
        const sender = await openSender(connection, events(deviceId));
        assert.equal((await outcome(sender, { body: 'by certificate' })).event, 'accepted');
      },
      { ...certificate, ...sasl },
    );
  }
  const [event] = await reader.fromDevice(deviceId);
  assert.match(event.systemProperties['iothub-connection-auth-method'], /"scope":"device","type":"x509"/);
  assert.deepEqual(causes(other.deviceId), ['certificate-name', 'certificate-name']);
});

test('a batch arrives as single messages, in order, with their own properties', async () => {
  const record = await createDevice();
  const inner = Array.from({ length: 100 }, (_, number) =>
    rhea.message.encode({
      message_id: `m-${number}`,
      application_properties: { number: String(number) },
      body: rhea.message.data_section(Buffer.from(`body ${number}`)),
    }),
  );
  await connected(async (connection) => {
    await putToken(connection, tokenOf(record));
    const sender = await openSender(connection, events(record.deviceId));
    const batch = rhea.message.encode({ body: rhea.message.data_sections(inner) });
    assert.equal((await outcome(sender, batch, BATCH_FORMAT)).event, 'accepted');
  });
  const received = await reader.fromDevice(record.deviceId, inner.length);
  received.forEach((event, number) => {
    assert.equal(event.body.toString(), `body ${number}`);
    assert.equal(event.messageId, `m-${number}`);
    assert.deepEqual({ ...event.properties }, { number: String(number) });
  });
});

test('a batch may be longer than a message, and a message in it may not', async () => {
  const record = await createDevice();
  const inner = (size) => rhea.message.encode({ body: rhea.message.data_section(Buffer.alloc(size)) });
  const batch = (...sizes) => rhea.message.encode({ body: rhea.message.data_sections(sizes.map(inner)) });
  await connected(async (connection) => {
    await putToken(connection, tokenOf(record));
    const sender = await openSender(connection, events(record.deviceId));
    assert.equal((await outcome(sender, batch(LIMIT, LIMIT, LIMIT), BATCH_FORMAT)).event, 'accepted');
    const { event, error } = await outcome(sender, batch(1, LIMIT + 1), BATCH_FORMAT);
    assert.equal(event, 'rejected');
    assert.equal(error.condition, 'amqp:link:message-size-exceeded');
    assert.equal((await outcome(sender, { body: 'and on' })).event, 'accepted');
  });
  const received = await reader.fromDevice(record.deviceId, 4);
  assert.deepEqual(received.map(({ body }) => body.length), [LIMIT, LIMIT, LIMIT, 6]);
  assert.ok(causes(record.deviceId).includes('message-too-large'));
});

test('a delivery beyond what the link takes ends the link', async () => {
  const record = await createDevice();
  await connected(async (connection) => {
    await putToken(connection, tokenOf(record));
    const sender = await openSender(connection, events(record.deviceId));
    const ended = refusal(sender);
    sender.send({ body: rhea.message.data_section(Buffer.alloc(1024 * 1024)) });
    assert.equal(await ended, 'amqp:link:message-size-exceeded');
    assert.ok(connection.is_open());
  });
});

test('a body that no message has is rejected with the reason', async () => {
  const record = await createDevice();
  await connected(async (connection) => {
    await putToken(connection, tokenOf(record));
    const sender = await openSender(connection, events(record.deviceId));
    const { event, error } = await outcome(sender, { body: rhea.types.wrap_int(7) });
    assert.equal(event, 'rejected');
    assert.equal(error.condition, 'com.microsoft:argument-error');
    assert.match(error.description, /neither data nor/);
  });
});

test('a message that comes settled is taken, and nothing answers it', async () => {
  const record = await createDevice();
  await connected(async (connection) => {
    await putToken(connection, tokenOf(record));
    const sender = connection.open_sender({ target: events(record.deviceId), snd_settle_mode: 1 });
    await once(sender, 'sendable');
    sender.on('accepted', () => assert.fail('it was answered'));
    sender.send({ body: 'settled' });
    const [event] = await reader.fromDevice(record.deviceId);
    assert.equal(event.body.toString(), 'settled');
  });
});

test('a hundred devices share a connection, each in a session and with a link of the same name', async () => {
  const records = await Promise.all(Array.from({ length: 100 }, () => createDevice()));
  await connected(async (connection) => {
    for (const [number, record] of records.entries()) {
      assert.equal((await putToken(connection, tokenOf(record), `put-${number}`))['status-code'], 200);
    }
    const senders = records.map(({ deviceId }) => {
      const session = connection.create_session();
      session.begin();
      return session.open_sender({ name: 'TelemetrySenderLink', target: events(deviceId) });
    });
    await Promise.all(senders.map((sender) => once(sender, 'sendable')));
    const outcomes = await Promise.all(senders.map((sender, number) => outcome(sender, { body: String(number) })));
    assert.ok(outcomes.every(({ event }) => event === 'accepted'));
    assert.equal(await stateOf(records[99].deviceId), 'Connected');
    for (const [number, { deviceId }] of records.entries()) {
      const [event] = await reader.fromDevice(deviceId);
      assert.equal(event.body.toString(), String(number));
    }
    senders[0].close();
    await until(async () => (await stateOf(records[0].deviceId)) === 'Disconnected', 'the first is disconnected');
    assert.equal(await stateOf(records[1].deviceId), 'Connected');
  });
  await until(async () => (await stateOf(records[99].deviceId)) === 'Disconnected', 'all are disconnected');
});

test('a connection takes the tokens of a thousand devices, and says so to the next', async () => {
  const count = 1_001;
  const added = [];
  for (let at = 0; at < count; at += 91) {
    const some = Array.from({ length: 91 }, () => ({
      deviceId: newName(),
      authentication: { symmetricKey: { primaryKey: newKey(), secondaryKey: newKey() } },
    }));
    await registry.addDevices(some);
    added.push(...some);
  }
  await connected(async (connection) => {
    const answers = [];
    for (const [number, record] of added.slice(0, count).entries()) {
      answers.push((await putToken(connection, tokenOf(record), `put-${number}`))['status-code']);
    }
    assert.deepEqual(answers, [...Array(count - 1).fill(200), 403]);
    assert.equal((await putToken(connection, tokenOf(added[0]), 'again'))['status-code'], 200);
  });
  assert.deepEqual(causes(added[count - 1].deviceId), ['tokens-full']);
});

test('a token of a policy with DeviceConnect for the whole hub opens the links of any device', async () => {
  const record = await createDevice();
  const unknown = newName();
  await connected(async (connection) => {
    const text = () => token(ready.hostname, policyKey('device'), { policy: 'device', seconds: 3 });
    assert.equal((await putToken(connection, text()))['status-code'], 200);
    const sender = await openSender(connection, events(record.deviceId));
    assert.equal((await outcome(sender, { body: 'under a policy' })).event, 'accepted');
    // Who proved the key of a policy may know which devices there are.
    assert.equal(await refusal(connection.open_sender(events(unknown))), 'amqp:not-found');

    await pause(1_500);
    const renewed = token(ready.hostname, policyKey('device'), { policy: 'device' });
    await putToken(connection, renewed, 'request-2');
    await pause(2_500);
    assert.equal((await outcome(sender, { body: 'renewed' })).event, 'accepted');
  });
  const [event] = await reader.fromDevice(record.deviceId);
  assert.match(event.systemProperties['iothub-connection-auth-method'], /"scope":"hub"/);
  assert.deepEqual(causes(unknown), ['unknown-device']);
});

test("a policy's token for one device opens the links of that device's modules, and of no other's", async () => {
  const record = await createDevice();
  const other = await createDevice();
  for (const { deviceId } of [record, other]) await registry.addModule({ deviceId, moduleId: 'm1' });
  const module = ({ deviceId }) => `/devices/${deviceId}/modules/m1/messages/events`;
  await connected(async (connection) => {
    const scoped = (options) => token(`${ready.hostname}/devices/${record.deviceId}`, policyKey('device'), { policy: 'device', ...options });
    assert.equal((await putToken(connection, scoped({ seconds: 3 })))['status-code'], 200);
    const sender = await openSender(connection, module(record));
    assert.equal((await outcome(sender, { body: 'of a module' })).event, 'accepted');
    assert.equal(await refusal(connection.open_sender(module(other))), 'amqp:unauthorized-access');
    // The module goes on with the renewed token of its device.
    await putToken(connection, scoped(), 'request-2');
    await pause(4_000);
    assert.equal((await outcome(sender, { body: 'renewed' })).event, 'accepted');
  });
  const [event] = await reader.fromDevice(record.deviceId, 2);
  assert.equal(event.systemProperties['iothub-connection-module-id'], 'm1');
});

test("a device's own token opens no link of its modules", async () => {
  const record = await createDevice();
  await registry.addModule({ deviceId: record.deviceId, moduleId: 'm1' });
  await connected(async (connection) => {
    await putToken(connection, tokenOf(record));
    const address = `/devices/${record.deviceId}/modules/m1/messages/events`;
    assert.equal(await refusal(connection.open_sender(address)), 'amqp:unauthorized-access');
  });
});

test('a module signs in by SASL PLAIN with its token', async () => {
  const { deviceId } = await createDevice();
  const { responseBody: record } = await registry.addModule({ deviceId, moduleId: 'm1' });
  const [hub] = ready.hostname.split('.');
  const username = `${deviceId}/modules/m1@sas.${hub}`;
  const password = token(`${ready.hostname}/devices/${deviceId}/modules/m1`, keyOf(record));
  await connected(
    async (connection) => {
      const sender = await openSender(connection, `/devices/${deviceId}/modules/m1/messages/events`);
      assert.equal((await outcome(sender, { body: 'plain module' })).event, 'accepted');
      assert.equal(await refusal(connection.open_sender(events(deviceId))), 'amqp:unauthorized-access');
    },
    { username, password },
  );
});

test('a device signs in by SASL PLAIN with its token', async () => {
  const record = await createDevice();
  const [hub] = ready.hostname.split('.');
  const username = `${record.deviceId}@sas.${hub}`;
  await connected(
    async (connection) => {
      const sender = await openSender(connection, events(record.deviceId));
      assert.equal((await outcome(sender, { body: 'plain' })).event, 'accepted');
    },
    { username, password: tokenOf(record) },
  );
});

for (const [what, put, cause] of [
  ['nothing that was put', () => undefined, 'no-credential'],
  ["another device's token", async () => tokenOf(await createDevice()), 'token-scope'],
  ['a policy without DeviceConnect', () => token(ready.hostname, policyKey('service'), { policy: 'service' }), 'missing-right'],
]) {
  test(`a link is refused with ${what}`, async () => {
    const record = await createDevice();
    await connected(async (connection) => {
      const text = await put();
      if (text) assert.equal((await putToken(connection, text))['status-code'], 200);
      assert.equal(await refusal(connection.open_sender(events(record.deviceId))), 'amqp:unauthorized-access');
    });
    assert.deepEqual(causes(record.deviceId), [cause]);
  });
}

for (const address of ['/devices/d1/twins', '/devices/d1', '/devices/a b/messages/events', '/nowhere']) {
  test(`a sender to ${address} is not allowed`, async () => {
    await connected(async (connection) => {
      assert.equal(await refusal(connection.open_sender(address)), 'amqp:not-allowed');
    });
  });
}

test('a renewal that is refused leaves the link with the token that it has', async () => {
  const record = await createDevice();
  await connected(async (connection) => {
    await putToken(connection, tokenOf(record));
    const sender = await openSender(connection, events(record.deviceId));
    const wrong = token(`${ready.hostname}/devices/${record.deviceId}`, newKey());
    assert.equal((await putToken(connection, wrong, 'request-2'))['status-code'], 401);
    assert.equal((await outcome(sender, { body: 'goes on' })).event, 'accepted');
  });
});

test('odd but legal device ids are read out of tokens and addresses', async () => {
  for (const deviceId of ["-._:%*?!(),=@$'", 'plus+#', '50%25']) {
    const record = await createDevice({ deviceId });
    const client = byKey(record, transports.amqp);
    await client.sendEvent(new Message(deviceId));
    await client.close();
    const [event] = await reader.fromDevice(deviceId);
    assert.equal(event.body.toString(), deviceId);
  }
});

test('the figures of a hub count what comes over AMQP', async () => {
  const figure = async (name, ...labels) => {
    const text = await (await fetch(`https://${ready.hostname}/metrics`)).text();
    const has = (line) => line.startsWith(`${name}{`) && labels.every((label) => line.includes(label));
    return Number(text.split('\n').find(has).split(' ').at(-1));
  };
  const accepted = () => figure('holdfast_d2c_messages_total', 'protocol="amqp"', 'result="accepted"');
  const online = () => figure('holdfast_connected_devices', 'protocol="amqp"', 'auth="sas"');
  const record = await createDevice();
  const [messages, devices] = [await accepted(), await online()];
  const client = byKey(record, transports.amqp);
  for (let number = 0; number < 3; number += 1) await client.sendEvent(new Message('x'));
  assert.deepEqual([await accepted(), await online()], [messages + 3, devices + 1]);
  await client.close();
  await until(async () => (await online()) === devices, 'disconnected');
});

test('a bad token waits for its answer, and the other devices of the connection do not', async () => {
  await restart({ refusalsPerMinute: 3 });
  const record = await createDevice();
  const wrong = () => token(`${ready.hostname}/devices/${record.deviceId}`, newKey());
  await connected(async (connection) => {
    await putToken(connection, tokenOf(record));
    const sender = await openSender(connection, events(record.deviceId));
    for (let number = 0; number < 4; number += 1) await putToken(connection, wrong(), `wrong-${number}`);
    // The fifth waits for half a second.
    let answered = false;
    const waiting = putToken(connection, wrong(), 'late').then(() => (answered = true));
    assert.equal((await outcome(sender, { body: 'meanwhile' })).event, 'accepted');
    assert.equal(answered, false);
    await waiting;
  });
});
