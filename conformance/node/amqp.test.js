// AMQP by hand with rhea, for what @azure/event-hubs hides: tokens that end, links that are refused, redirects.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import tls from 'node:tls';
import rhea from 'rhea';
import { newKey, parts, policyKey, ready, token } from './harness/hub.js';
import { connected, once, putToken, refusal } from './harness/rhea.js';

const entity = parts(ready.eventhub_connection_string).EntityPath;
const partition = `${entity}/ConsumerGroups/$Default/Partitions/0`;

function eventHubsToken(options) {
  return token(`sb://${ready.hostname}/${entity}`, policyKey('iothubowner'), {
    policy: 'iothubowner',
    keyIsText: true,
    ...options,
  });
}

test('a token is accepted with status 200 and a description', async () => {
  await connected(async (connection) => {
    const answer = await putToken(connection, eventHubsToken());
    assert.equal(answer['status-code'], 200);
    assert.equal(typeof answer['status-description'], 'string');
  });
});

for (const [kind, id] of Object.entries({
  'a string': 'text',
  'an unsigned long': rhea.types.wrap_ulong(7),
  'a uuid': rhea.types.wrap_uuid(Buffer.alloc(16, 7)),
})) {
  test(`the answer to a token is correlated by the message id when that is ${kind}`, async () => {
    await connected(async (connection) => {
      assert.equal((await putToken(connection, eventHubsToken(), id))['status-code'], 200);
    });
  });
}

for (const [what, make] of Object.entries({
  'of a wrong key': () => token(`sb://${ready.hostname}/${entity}`, newKey(), { policy: 'iothubowner', keyIsText: true }),
  'of an unknown policy': () => eventHubsToken({ policy: 'nobody' }),
  'that ended': () => eventHubsToken({ seconds: -600 }),
  'for another hub': () =>
    token(`sb://other.example.net/${entity}`, policyKey('iothubowner'), { policy: 'iothubowner', keyIsText: true }),
})) {
  test(`a token ${what} is answered with 401`, async () => {
    await connected(async (connection) => {
      const answer = await putToken(connection, make());
      assert.equal(answer['status-code'], 401);
      assert.ok(answer['status-description']);
    });
  });
}

test('text that is no token is answered with 400 or 401', async () => {
  await connected(async (connection) => {
    assert.ok([400, 401].includes((await putToken(connection, 'hunter2'))['status-code']));
  });
});

test('a policy token may be signed as IoT clients sign, with the bytes of the key', async () => {
  await connected(async (connection) => {
    assert.equal((await putToken(connection, eventHubsToken({ keyIsText: false })))['status-code'], 200);
    const receiver = connection.open_receiver(partition);
    await once(receiver, 'receiver_open');
    assert.equal(receiver.error, undefined);
  });
});

test('a reader without a token is refused', async () => {
  await connected(async (connection) => {
    const receiver = connection.open_receiver(partition);
    assert.equal(await refusal(receiver), 'amqp:unauthorized-access');
  });
});

test('a policy without ServiceConnect is refused', async () => {
  await connected(async (connection) => {
    const resource = `sb://${ready.hostname}/${entity}`;
    await putToken(connection, token(resource, policyKey('device'), { policy: 'device', keyIsText: true }));
    assert.equal(await refusal(connection.open_receiver(partition)), 'amqp:unauthorized-access');
  });
});

test('a link ends with its token while the connection stays', async () => {
  await connected(async (connection) => {
    const text = eventHubsToken({ seconds: 3 });
    await putToken(connection, text);
    const receiver = connection.open_receiver(partition);
    await once(receiver, 'receiver_open');
    assert.equal(await refusal(receiver), 'amqp:unauthorized-access');
    const late = Date.now() / 1000 - Number(/&se=(\d+)/.exec(text)[1]);
    assert.ok(late >= -0.1 && late < 1.5, `the link ended ${late} s after its token`);
    assert.ok(connection.is_open());
  });
});

test('a renewed token keeps the link', async () => {
  await connected(async (connection) => {
    await putToken(connection, eventHubsToken({ seconds: 2 }));
    const receiver = connection.open_receiver(partition);
    await once(receiver, 'receiver_open');
    assert.equal((await putToken(connection, eventHubsToken(), 'request-2'))['status-code'], 200);
    await assert.rejects(once(receiver, 'receiver_error', 3500), /no receiver_error/);
  });
});

test('an owner of level 0 displaces a reader without a level', async () => {
  await connected(async (connection) => {
    await putToken(connection, eventHubsToken());
    const plain = connection.open_receiver(partition);
    await once(plain, 'receiver_open');
    const stolen = refusal(plain);
    await connected(async (owner) => {
      await putToken(owner, eventHubsToken());
      owner.open_receiver({ source: partition, properties: { 'com.microsoft:epoch': rhea.types.wrap_long(0) } });
      assert.equal(await stolen, 'amqp:link:stolen');
    });
  });
});

for (const [address, expected] of [
  ['/messages/events/ConsumerGroups/$Default/Partitions/0', `${entity}/ConsumerGroups/$Default/Partitions/0`],
  ['messages/events/ConsumerGroups/$Default/Partitions/1', `${entity}/ConsumerGroups/$Default/Partitions/1`],
  ['/messages/events/$management', `${entity}/$management`],
]) {
  test(`a reader of ${address} on the hub host is redirected to the built-in endpoint`, async () => {
    await connected(async (connection) => {
      const text = token(`${ready.hostname}/messages/events`, policyKey('service'), { policy: 'service' });
      assert.equal((await putToken(connection, text))['status-code'], 200);
      const link = address.endsWith('$management') ? connection.open_sender(address) : connection.open_receiver(address);
      assert.equal(await refusal(link), 'amqp:link:redirect');
      const { info } = link.error;
      assert.equal(info.hostname, ready.hostname);
      assert.equal(info['network-host'], ready.hostname);
      assert.equal(info.port, 5671);
      assert.equal(info.address, `amqps://${ready.hostname}:5671/${expected}`);
    });
  });
}

for (const [what, address] of Object.entries({
  'an unknown entity': 'another/ConsumerGroups/$Default/Partitions/0',
  'an unknown consumer group': `${entity}/ConsumerGroups/nobody/Partitions/0`,
})) {
  test(`${what} is not found`, async () => {
    await connected(async (connection) => {
      await putToken(connection, eventHubsToken());
      assert.equal(await refusal(connection.open_receiver(address)), 'amqp:not-found');
    });
  });
}

for (const value of ["amqp.annotation.x-opt-offset >", "amqp.annotation.x-opt-colour > '1'", 'nonsense', "'"]) {
  test(`the filter ${value} is refused as an argument error`, async () => {
    await connected(async (connection) => {
      await putToken(connection, eventHubsToken());
      const filter = rhea.types.wrap_described(value, 'apache.org:selector-filter:string');
      const source = { address: partition, filter: { 'apache.org:selector-filter:string': filter } };
      assert.equal(await refusal(connection.open_receiver({ source })), 'com.microsoft:argument-error');
    });
  });
}

for (const [what, greeting] of Object.entries({
  'SASL': 'AMQP\x03\x01\x00\x00',
  'bare AMQP': 'AMQP\x00\x01\x00\x00',
})) {
  test(`a client that starts with ${what} gets the same header back`, async () => {
    assert.equal((await firstBytes(greeting)).subarray(0, 8).toString('latin1'), greeting);
  });
}

test('another version of AMQP is answered with the header that is spoken, and the end', async () => {
  const answer = (await firstBytes('AMQP\x00\x00\x09\x01')).toString('latin1');
  assert.ok(answer === '' || answer.startsWith('AMQP\x00\x01') || answer.startsWith('AMQP\x03\x01'), answer);
});

test('the mechanisms that Azure clients look for are offered', async () => {
  const offered = (await firstBytes('AMQP\x03\x01\x00\x00')).toString('latin1');
  for (const mechanism of ['MSSBCBS', 'ANONYMOUS', 'PLAIN', 'EXTERNAL']) assert.ok(offered.includes(mechanism), mechanism);
});

for (const [what, data] of Object.entries({
  'a frame of four gibibytes': Buffer.from([0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0]),
  'a frame shorter than its header': Buffer.from([0, 0, 0, 4, 2, 0, 0, 0]),
  'a body that is no performative': Buffer.from([0, 0, 0, 12, 2, 0, 0, 0, 1, 2, 3, 4]),
  'a list that claims a million items': Buffer.from([0, 0, 0, 20, 2, 0, 0, 0, 0, 0x53, 0x10, 0xd0, 0, 0, 0, 4, 0, 0x0f, 0x42, 0x40]),
})) {
  test(`${what} ends the connection and nothing else`, async () => {
    await firstBytes(Buffer.concat([Buffer.from('AMQP\x00\x01\x00\x00', 'latin1'), data]), true);
    await connected(async (connection) => assert.ok(connection.is_open()));
  });
}

// What the hub sends first; with `toTheEnd`, all it sends until it closes, which it must.
function firstBytes(greeting, toTheEnd = false) {
  return new Promise((resolve, reject) => {
    let answer = Buffer.alloc(0);
    const socket = tls.connect({ host: ready.hostname, port: ready.ports.amqp }, () => {
      socket.write(Buffer.from(greeting, 'latin1'));
    });
    const timer = setTimeout(() => {
      socket.destroy();
      if (toTheEnd) reject(new Error('the hub kept the connection open'));
      else resolve(answer);
    }, toTheEnd ? 10_000 : 1_500);
    socket.on('data', (data) => (answer = Buffer.concat([answer, data])));
    socket.on('error', () => {});
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(answer);
    });
  });
}
