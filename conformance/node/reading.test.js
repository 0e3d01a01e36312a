// The built-in endpoint through the unmodified @azure/event-hubs: properties, positions, owners, size, number.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import {
  earliestEventPosition,
  EventHubConsumerClient,
  EventHubProducerClient,
  latestEventPosition,
} from '@azure/event-hubs';
import { byKey, Message, transports } from './harness/devices.js';
import { consumer, Reader, readerTransports } from './harness/events.js';
import { createDevice, newKey, parts, ready } from './harness/hub.js';

let sent; // five events of one device, as first read
let device;
const open = new Set();

before(async () => {
  device = await createDevice();
  for (let number = 0; number < 5; number += 1) await send(`event ${number}`);
  const reader = read();
  sent = await reader.fromDevice(device.deviceId, 5);
  await reader.close();
});
after(() => Promise.all([...open].map((reader) => reader.close())));

async function send(body, count = 1) {
  const client = byKey(device, transports.mqtt);
  await client.open();
  await Promise.all(Array.from({ length: count }, (_, number) => client.sendEvent(new Message(count > 1 ? `${number}` : body))));
  await client.close();
}

function read(settings) {
  const reader = new Reader(settings);
  const close = reader.close.bind(reader);
  open.add(reader);
  reader.close = async () => {
    if (open.delete(reader)) await close();
  };
  return reader;
}

for (const [name, webSocket] of Object.entries(readerTransports)) {
  describe(`over ${name}`, () => {
    test('the hub describes itself', async () => {
      const client = consumer({ webSocket });
      const hub = await client.getEventHubProperties();
      assert.equal(hub.name, parts(ready.eventhub_connection_string).EntityPath);
      assert.deepEqual(hub.partitionIds, hub.partitionIds.map((_, number) => String(number)));
      assert.deepEqual(await client.getPartitionIds(), hub.partitionIds);
      assert.ok(Math.abs(hub.createdOn - Date.now()) < 3_600_000);
      await client.close();
    });

    test('a partition describes itself', async () => {
      const client = consumer({ webSocket });
      const { partitionId } = sent[0];
      const described = await client.getPartitionProperties(partitionId);
      assert.equal(described.partitionId, partitionId);
      assert.equal(described.isEmpty, false);
      assert.equal(described.beginningSequenceNumber, 0);
      assert.ok(described.lastEnqueuedSequenceNumber >= sent[4].sequenceNumber);
      assert.ok(Number(described.lastEnqueuedOffset) >= Number(sent[4].offset));
      assert.ok(described.lastEnqueuedOnUtc >= sent[4].enqueuedTimeUtc);
      await client.close();
    });

    const positions = {
      earliest: [() => earliestEventPosition, 0],
      'an offset': [(event) => ({ offset: event.offset }), 3],
      'an offset, inclusive': [(event) => ({ offset: event.offset, isInclusive: true }), 2],
      'a sequence number': [(event) => ({ sequenceNumber: event.sequenceNumber }), 3],
      'a sequence number, inclusive': [(event) => ({ sequenceNumber: event.sequenceNumber, isInclusive: true }), 2],
    };
    for (const [position, [startPosition, first]] of Object.entries(positions)) {
      test(`reading from ${position} starts at the right event`, async () => {
        const reader = read({ webSocket, partition: sent[0].partitionId, startPosition: startPosition(sent[2]) });
        const events = await reader.fromDevice(device.deviceId, 5 - first);
        assert.deepEqual(
          events.map((event) => event.sequenceNumber),
          sent.slice(first).map((event) => event.sequenceNumber),
        );
        assert.equal(reader.events[0].sequenceNumber, first === 0 ? 0 : sent[first].sequenceNumber);
        await reader.close();
      });
    }

    test('reading from a time starts after it', async () => {
      await pause(50);
      const enqueuedOn = Date.now();
      await pause(50);
      await send('later');
      const reader = read({ webSocket, partition: sent[0].partitionId, startPosition: { enqueuedOn } });
      const [event] = await reader.some();
      assert.equal(event.body.toString(), 'later');
      await reader.close();
    });

    test('reading from latest gets new events only', async () => {
      const reader = read({ webSocket, partition: sent[0].partitionId, startPosition: latestEventPosition });
      for (let tries = 0; reader.events.length === 0 && tries < 50; tries += 1) {
        await send('new');
        await pause(100);
      }
      assert.ok(reader.events.every((event) => event.body.toString() === 'new'));
      await reader.close();
    });

    test('the runtime metric comes with events', async () => {
      const reader = read({
        webSocket,
        partition: sent[0].partitionId,
        options: { trackLastEnqueuedEventProperties: true },
      });
      const events = await reader.fromDevice(device.deviceId, 5);
      assert.ok(reader.lastEnqueued.sequenceNumber >= events.at(-1).sequenceNumber);
      assert.ok(Number(reader.lastEnqueued.offset) >= Number(events.at(-1).offset));
      assert.ok(reader.lastEnqueued.enqueuedOn instanceof Date);
      assert.ok(reader.lastEnqueued.retrievedOn instanceof Date);
      await reader.close();
    });

    test('an event of 200 kilobytes arrives in one piece', async () => {
      const owner = await createDevice();
      const body = Buffer.alloc(200 * 1024, 'holdfast ');
      const client = byKey(owner, transports.mqtt);
      await client.sendEvent(new Message(body));
      await client.close();
      const reader = read({ webSocket });
      const [event] = await reader.fromDevice(owner.deviceId);
      assert.ok(body.equals(event.body));
      await reader.close();
    });
  });
}

test('the types of what the hub stamps are those of Event Hubs', () => {
  for (const event of sent) {
    assert.equal(typeof event.sequenceNumber, 'number');
    assert.equal(typeof event.offset, 'string');
    assert.ok(event.enqueuedTimeUtc instanceof Date);
    assert.equal(event.partitionKey ?? null, null);
  }
  assert.deepEqual(
    sent.map((event) => event.sequenceNumber),
    sent.map((_, number) => sent[0].sequenceNumber + number),
  );
});

test('more events than the session window holds arrive complete and in order', async () => {
  const owner = await createDevice();
  const client = byKey(owner, transports.mqtt);
  await client.open();
  const total = 3000;
  for (let done = 0; done < total; done += 500) {
    const burst = Array.from({ length: 500 }, (_, number) => client.sendEvent(new Message(String(done + number))));
    await Promise.all(burst);
  }
  await client.close();
  const reader = read();
  const events = await reader.fromDevice(owner.deviceId, total, 60_000);
  assert.deepEqual(
    events.map((event) => event.body.toString()),
    Array.from({ length: total }, (_, number) => String(number)),
  );
  await reader.close();
});

test('a subscription that is closed can be opened again on the same client', async () => {
  const client = consumer();
  for (let round = 0; round < 3; round += 1) {
    const reader = new Reader({ client, partition: sent[0].partitionId });
    await reader.fromDevice(device.deviceId, 5);
    await reader.subscription.close();
  }
  await client.close();
});

for (const [how, level] of Object.entries({ equal: 5, higher: 7 })) {
  test(`an owner of an ${how} level takes the partition from its owner`, async () => {
    const partition = sent[0].partitionId;
    const first = read({ partition, options: { ownerLevel: 5 }, retries: 0 });
    await first.some();
    const second = read({ partition, options: { ownerLevel: level }, retries: 0 });
    await second.some();
    assert.equal((await first.failure()).code, 'ReceiverDisconnectedError');
    await Promise.all([first.close(), second.close()]);
  });
}

test('an owner displaces the readers without a level', async () => {
  const partition = sent[0].partitionId;
  const plain = read({ partition, retries: 0 });
  await plain.some();
  // Not 0: this SDK takes that for no level at all.
  const owner = read({ partition, options: { ownerLevel: 1 }, retries: 0 });
  await owner.some();
  assert.equal((await plain.failure()).code, 'ReceiverDisconnectedError');
  await Promise.all([plain.close(), owner.close()]);
});

test('an owner of a lower level, and a reader without one, are refused', async () => {
  const partition = sent[0].partitionId;
  const owner = read({ partition, options: { ownerLevel: 5 }, retries: 0 });
  await owner.some();
  for (const options of [{ ownerLevel: 3 }, {}]) {
    const late = read({ partition, options, retries: 0 });
    assert.equal((await late.failure()).code, 'ReceiverDisconnectedError');
    await late.close();
  }
  await owner.close();
});

test('five readers share a partition and the sixth is refused', async () => {
  const partition = sent[0].partitionId;
  const readers = Array.from({ length: 5 }, () => read({ partition, retries: 0 }));
  await Promise.all(readers.map((reader) => reader.some()));
  const sixth = read({ partition, retries: 0 });
  assert.equal((await sixth.failure()).code, 'QuotaExceededError');
  await readers.pop().close();
  const next = read({ partition, retries: 0 });
  await next.some();
  await Promise.all([...readers, sixth, next].map((reader) => reader.close()));
});

test('an unknown partition and an unknown consumer group are refused', async () => {
  const partition = read({ partition: '99', retries: 0 });
  assert.ok(await partition.failure());
  const group = read({ partition: '0', group: 'nobody', retries: 0 });
  assert.equal((await group.failure()).code, 'MessagingEntityNotFoundError');
  await Promise.all([partition.close(), group.close()]);
});

test('a wrong key is an UnauthorizedError', async () => {
  const text = ready.eventhub_connection_string.replace(/SharedAccessKey=[^;]+/, `SharedAccessKey=${newKey()}`);
  const client = new EventHubConsumerClient('$Default', text, { retryOptions: { maxRetries: 0 } });
  await assert.rejects(client.getPartitionIds(), { code: 'UnauthorizedError' });
  await client.close();
});

test('the endpoint takes no events', async () => {
  const producer = new EventHubProducerClient(ready.eventhub_connection_string, { retryOptions: { maxRetries: 0 } });
  await assert.rejects(producer.sendBatch([{ body: 'from outside' }]), { code: 'UnauthorizedError' });
  await producer.close();
});
