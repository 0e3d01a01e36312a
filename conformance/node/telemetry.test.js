// What a Node device sends, over every transport and with every credential, is what a Node reader gets.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { byKey, credentials, Message, signIn, transports } from './harness/devices.js';
import { Reader, readerTransports } from './harness/events.js';
import { createDevice, newKey, newName, registry } from './harness/hub.js';

const ODD = {
  plain: 'value',
  empty: '',
  'blank inside': ' leading, inside and trailing ',
  'percent%': '100%25 %zz %',
  'plus+': '1+1=2',
  'amper&sand': 'a&b&&c',
  'equals=': '==x==',
  'slash/': '/a//b/',
  'question?': "?#[]@!$'()*,;",
  'ünï cödé ✓': '水は🌊です',
  Case: 'upper',
  case: 'lower',
};

// What an HTTP header can carry.
const ODD_IN_HEADERS = { plain: 'value', empty: '', 'Mixed-Case': 'kept', odd: "!#$%&'*+-.^_`|~", number: '1+1=2' };

const LIMIT = 256 * 1024;
let readers;

before(() => {
  readers = Object.entries(readerTransports).map(([name, webSocket]) => ({ name, reader: new Reader({ webSocket }) }));
});
after(() => Promise.all(readers.map(({ reader }) => reader.close())));

// The SDK turns a binary property into an object of index and byte.
function textOfBinary(bytes) {
  return Buffer.from(Object.values(bytes)).toString();
}

async function withClient(credential, transport, use) {
  const deviceId = newName();
  const { fields = {}, client } = signIn(credential, deviceId);
  const record = await createDevice({ deviceId, ...fields });
  const opened = await client(transports[transport], record);
  await opened.open();
  try {
    await use(opened, record);
  } finally {
    await opened.close();
  }
  return deviceId;
}

for (const transport of Object.keys(transports)) {
  describe(`over ${transport}`, () => {
    const properties = transport === 'http' ? ODD_IN_HEADERS : ODD;

    for (const credential of credentials) {
      test(`a device that signs in with a ${credential} sends what two readers get`, async () => {
        const message = new Message('{"t": 21.5}');
        message.messageId = 'm-1';
        message.correlationId = 'c-1';
        message.userId = 'u-1';
        message.contentType = 'application/json';
        message.contentEncoding = 'utf-8';
        for (const [key, value] of Object.entries(properties)) message.properties.add(key, value);

        const deviceId = await withClient(credential, transport, (client) => client.sendEvent(message));

        for (const { name, reader } of readers) {
          const [event] = await reader.fromDevice(deviceId);
          assert.equal(event.body.toString(), '{"t": 21.5}', name);
          assert.deepEqual({ ...event.properties }, properties, name);
          assert.equal(event.messageId, 'm-1');
          assert.equal(event.correlationId, 'c-1');
          assert.equal(event.contentType, 'application/json');
          assert.equal(event.systemProperties.contentEncoding, 'utf-8');
          // azure-iot-device-amqp drops it (azure-iot-amqp-base, `AmqpMessage.fromMessage`).
          if (!transport.startsWith('amqp')) assert.equal(textOfBinary(event.systemProperties.userId), 'u-1');
          assert.equal(event.systemProperties['iothub-message-source'], 'Telemetry');
          const method = JSON.parse(event.systemProperties['iothub-connection-auth-method']);
          assert.equal(method.type, ['thumbprint', 'CA-signed'].includes(credential) ? 'x509' : 'sas');
          assert.equal(method.scope, credential.startsWith('policy') ? 'hub' : 'device');
        }
      });
    }

    for (const [what, body] of Object.entries({
      empty: Buffer.alloc(0),
      'every byte': Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
      'one zero': Buffer.alloc(1),
    })) {
      test(`a body of ${what} arrives as it was sent`, async () => {
        const deviceId = await withClient('device key', transport, (client) => client.sendEvent(new Message(body)));
        const [event] = await readers[0].reader.fromDevice(deviceId);
        assert.deepEqual(Buffer.from(event.body), body);
      });
    }

    test('a body of exactly the limit arrives', async () => {
      const body = randomBytes(LIMIT);
      const deviceId = await withClient('device key', transport, (client) => client.sendEvent(new Message(body)));
      const [event] = await readers[0].reader.fromDevice(deviceId);
      assert.ok(body.equals(event.body));
    });

    test('a message over the limit by its property is refused', async () => {
      const message = new Message(randomBytes(LIMIT));
      message.properties.add('k', 'v');
      await assert.rejects(withClient('device key', transport, (client) => client.sendEvent(message)));
    });

    test('a wrong key is refused as unauthorized', async () => {
      const record = await createDevice();
      record.authentication.symmetricKey.primaryKey = newKey();
      const client = byKey(record, transports[transport]);
      const sent = client.sendEvent(new Message('x')).finally(() => client.close());
      await assert.rejects(sent, (error) => /Unauthorized|Not authorized|NotConnected/.test(`${error.name} ${error.message}`));
    });
  });
}

for (const transport of ['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws']) {
  test(`a module sends and names its output over ${transport}`, async () => {
    const { deviceId } = await createDevice();
    const { responseBody: record } = await registry.addModule({ deviceId, moduleId: 'm1' });
    const client = byKey(record, transports[transport]);
    await client.open();
    await client.sendEvent(new Message('from a module'));
    const output = new Message('through an output');
    output.properties.add('a', 'b/c');
    await client.sendOutputEvent('out 1', output);
    await client.close();

    const [first, second] = await readers[0].reader.fromDevice(deviceId, 2);
    assert.equal(first.body.toString(), 'from a module');
    assert.equal(second.body.toString(), 'through an output');
    assert.deepEqual({ ...second.properties }, { a: 'b/c' });
    for (const event of [first, second]) {
      assert.equal(event.systemProperties['iothub-connection-module-id'], 'm1');
    }
  });
}

test('a batch over HTTPS arrives as single events with their properties', async () => {
  const messages = Array.from({ length: 10 }, (_, number) => {
    const message = new Message(Buffer.from([number, 0, 255]));
    message.properties.add('number', String(number));
    return message;
  });
  const deviceId = await withClient('device key', 'http', (client) => client.sendEventBatch(messages));
  const events = await readers[0].reader.fromDevice(deviceId, 10);
  assert.deepEqual(
    events.map((event) => [...event.body]),
    messages.map((message) => [...message.data]),
  );
  assert.deepEqual(
    events.map((event) => event.properties.number),
    messages.map((_, number) => String(number)),
  );
});

test('a batch over HTTPS that the SDK itself garbles is refused as a whole', async () => {
  const message = new Message('x');
  message.properties.add('quoted', 'a "quoted" value');
  const deviceId = newName();
  await createDevice({ deviceId });
  const { client } = signIn('policy key', deviceId);
  const opened = client(transports.http);
  await assert.rejects(opened.sendEventBatch([new Message('good'), message]), { name: 'ArgumentError' });
});

test('a message over HTTPS above the limit is a MessageTooLargeError', async () => {
  const { client } = signIn('policy key', (await createDevice()).deviceId);
  await assert.rejects(client(transports.http).sendEvent(new Message(Buffer.alloc(LIMIT + 1))), {
    name: 'MessageTooLargeError',
  });
});

test('a device that does not exist is a DeviceNotFoundError over HTTPS with a policy key', async () => {
  const { client } = signIn('policy key', newName());
  await assert.rejects(client(transports.http).sendEvent(new Message('x')), { name: 'DeviceNotFoundError' });
});

test('odd but legal device ids send over HTTPS, in the path as the SDK encodes them', async () => {
  for (const deviceId of ["-._:%*?!(),=@$'", 'plus+#', '50%25']) {
    const record = await createDevice({ deviceId });
    await byKey(record, transports.http).sendEvent(new Message(deviceId));
    const [event] = await readers[0].reader.fromDevice(deviceId);
    assert.equal(event.body.toString(), deviceId);
  }
});

test('the model id that Node leaves unescaped is stamped on telemetry', async () => {
  const record = await createDevice();
  const client = byKey(record, transports.mqtt);
  await client.setOptions({ modelId: 'dtmi:example:Thermostat;1' });
  await client.sendEvent(new Message('modelled'));
  await client.close();
  const [event] = await readers[0].reader.fromDevice(record.deviceId);
  assert.equal(event.systemProperties['dt-dataschema'], 'dtmi:example:Thermostat;1');
});

test('the newer of two clients of one identity takes over', async () => {
  const record = await createDevice();
  const older = byKey(record, transports.mqtt);
  const gone = new Promise((resolve) => older.on('disconnect', resolve));
  await older.open();
  const newer = byKey(record, transports['mqtt-ws']);
  await newer.open();
  await gone;
  await newer.sendEvent(new Message('from the newer'));
  await newer.close();
  const [event] = await readers[0].reader.fromDevice(record.deviceId);
  assert.equal(event.body.toString(), 'from the newer');
});
