// Where readers begin: every form of a selector that clients of Event Hubs have sent, and what cannot be applied.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import rhea from 'rhea';
import { createDevice, parts, policyKey, ready, token } from './harness/hub.js';
import { byKey, Message, transports } from './harness/devices.js';
import { connected, once, putToken, refusal } from './harness/rhea.js';

const SELECTOR = 'apache.org:selector-filter:string';
const CODE = 0x0000468c00000004;
const entity = parts(ready.eventhub_connection_string).EntityPath;
const anyPartition = (number) => `${entity}/ConsumerGroups/$Default/Partitions/${number}`;
const described = (text, descriptor = SELECTOR) => rhea.types.wrap_described(text, descriptor);

// Five events of one device, and the place of the third.
let partition;
let third;

before(async () => {
  const record = await createDevice();
  const client = byKey(record, transports.amqp);
  for (let number = 1; number <= 5; number += 1) {
    await client.sendEvent(new Message(`m${number}`));
    // No two events share a millisecond.
    for (const begun = Date.now(); Date.now() <= begun + 1; ) await new Promise(setImmediate);
  }
  await client.close();
  const found = await Promise.any([0, 1, 2, 3].map((number) => read({}, 5, anyPartition(number))));
  const { message_annotations: annotations } = found[2];
  partition = anyPartition(found.number);
  third = {
    offset: annotations['x-opt-offset'],
    sequence: Number(annotations['x-opt-sequence-number']),
    time: new Date(annotations['x-opt-enqueued-time']).getTime(),
  };
});

// So many events that a reader with this filter gets.
async function read(filter, count, address = partition) {
  const found = [];
  found.number = Number(address.at(-1));
  await connected(async (connection) => {
    await putToken(connection, eventHubsToken());
    const receiver = connection.open_receiver({ source: { address, filter }, credit_window: 0 });
    const refused = refusal(receiver).then((condition) => assert.fail(condition));
    const enough = new Promise((resolve) => {
      receiver.on('message', ({ message }) => found.push(message) >= count && resolve());
    });
    await Promise.race([once(receiver, 'receiver_open'), refused]);
    receiver.add_credit(100);
    if (count > 0) await Promise.race([enough, refused]);
  });
  return found;
}

const bodies = (messages) => messages.map(({ body }) => body.content.toString());

function eventHubsToken() {
  const options = { policy: 'iothubowner', keyIsText: true };
  return token(`sb://${ready.hostname}/${entity}`, policyKey('iothubowner'), options);
}

for (const [form, from] of Object.entries({
  "amqp.annotation.x-opt-enqueuedtimeutc > {time}": 'm4',
  "amqp.annotation.x-opt-enqueuedtimeutc >= '{time}'": 'm3',
  "amqp.annotation.x-opt-enqueued-time > '{time}'": 'm4',
  "AMQP.Annotation.x-opt-enqueued-time >= {time}": 'm3',
  "amqp.annotation.x-opt-offset > '{offset}'": 'm4',
  "amqp.annotation.x-opt-offset >= '{offset}'": 'm3',
  "amqp.annotation.x-opt-offset>{offset}": 'm4',
  "amqp.annotation.x-opt-offset > '-1'": 'm1',
  "amqp.annotation.x-opt-sequence-number > {sequence}": 'm4',
  "amqp.annotation.x-opt-sequence-number >= '{sequence}'": 'm3',
  "amqp.annotation.x-opt-sequence-number > '-1'": 'm1',
})) {
  test(`a reader begins where ${form} says`, async () => {
    const text = form.replace(/\{(\w+)\}/, (_, place) => third[place]);
    const expected = ['m1', 'm2', 'm3', 'm4', 'm5'].slice(Number(from[1]) - 1);
    for (const filter of [{ [SELECTOR]: described(text) }, { anything: described(text, CODE) }]) {
      assert.deepEqual(bodies(await read(filter, expected.length)), expected);
    }
  });
}

test('the end of a partition is a place to begin, and what lies beyond is none', async () => {
  const last = third.sequence + 2;
  const at = (condition) => ({ [SELECTOR]: described(`amqp.annotation.x-opt-sequence-number ${condition}`) });
  // Both are opened.
  await read(at(`> '${last}'`), 0);
  await read(at(`>= '${last + 1}'`), 0);
  await connected(async (connection) => {
    await putToken(connection, eventHubsToken());
    const receiver = connection.open_receiver({ source: { address: partition, filter: at(`> '${last + 1}'`) } });
    assert.equal(await refusal(receiver), 'com.microsoft:argument-error');
    const text = `The supplied sequence number '${last + 1}' is invalid. The last sequence number in the system is '${last}'`;
    assert.ok(receiver.error.description.startsWith(text), receiver.error.description);
  });
});

for (const [what, filter] of Object.entries({
  'a map in a selector': { [SELECTOR]: described({ expression: "amqp.annotation.x-opt-offset > '1'" }) },
  'text without a descriptor under another key': { selector: "amqp.annotation.x-opt-offset > '1'" },
  'another kind of filter': { f1: described("amqp.annotation.x-opt-offset > '1'", 'com.microsoft:session-filter') },
  'the code of another kind': { f1: described("amqp.annotation.x-opt-offset > '1'", 0x0000468c00000003) },
})) {
  test(`${what} is refused, for nothing that a reader asks for is dropped`, async () => {
    await connected(async (connection) => {
      await putToken(connection, eventHubsToken());
      const receiver = connection.open_receiver({ source: { address: partition, filter } });
      assert.equal(await refusal(receiver), 'amqp:not-allowed');
      assert.match(receiver.error.description, /invalid filter type/);
    });
  });
}
