// Everything that azure-iot-device for Node can say, on each of its transports, with each kind of credential, as device and as
// module. docs/sdk.md has the table of it. What is particular stands in the tests of each feature; here nothing may be missing.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import iothub from 'azure-iothub';
import device from 'azure-iot-device';
import common from 'azure-iot-common';
import { until } from './harness/again.js';
import { authority, selfSigned } from './harness/certificates.js';
import { Message, ModuleClient, transports } from './harness/devices.js';
import { Reader } from './harness/events.js';
import { cli, createDevice, newName, ready, registry } from './harness/hub.js';

const service = iothub.Client.fromConnectionString(ready.service_connection_string);
const reader = new Reader();

// How a registration admits a credential, and how the SDK is given it.
const credentials = {
  'a key': () => ({ connect: (text, record) => `${text};SharedAccessKey=${record.authentication.symmetricKey.primaryKey}` }),
  'a thumbprint': (name) => {
    const own = selfSigned(name);
    const x509Thumbprint = { primaryThumbprint: own.sha256, secondaryThumbprint: own.sha256 };
    return { fields: { authentication: { type: 'selfSigned', x509Thumbprint } }, own };
  },
  'a CA': (name) => ({
    fields: { authentication: { type: 'certificateAuthority' } },
    own: authority().issue(name),
  }),
};

async function client(kind, credential, transport) {
  const name = newName();
  const ids = kind === 'module' ? [name, 'm1'] : [name];
  const { fields = {}, own, connect } = credentials[credential](name);
  if (kind === 'module') await createDevice({ deviceId: name });
  const record =
    kind === 'module'
      ? (await registry.addModule({ deviceId: name, moduleId: 'm1', ...fields })).responseBody
      : await createDevice({ deviceId: name, ...fields });
  const module = kind === 'module' ? ';ModuleId=m1' : '';
  const text = `HostName=${ready.hostname};DeviceId=${name}${module}`;
  const Client = kind === 'module' ? ModuleClient : device.Client;
  const made = Client.fromConnectionString(own ? `${text};x509=true` : connect(text, record), transport);
  made.setRetryPolicy(new common.NoRetry());
  if (own) {
    const options = { cert: readFileSync(own.chainFile, 'utf8'), key: readFileSync(own.keyFile, 'utf8') };
    const set = made.setOptions(options);
    // azure-iot-device-http never says that it did.
    if (transport !== transports.http) await set;
  }
  return { made, ids };
}

const counts = (id) => cli('c2d', 'list', id);

const features = {
  async telemetry({ made, ids }) {
    const message = new Message('{"a":1}');
    message.messageId = `of ${ids.join('/')}`;
    message.properties.add('color', 'red & blue');
    await made.sendEvent(message);
    const [event] = await reader.fromDevice(ids[0]);
    assert.equal(event.messageId, message.messageId);
    assert.equal(event.systemProperties['iothub-connection-module-id'], ids[1]);
    assert.equal(event.properties.color, 'red & blue');
  },
  async messages({ made, ids, transport }) {
    const [came, waiting] = [[], []];
    const next = () => (came.length > 0 ? came.shift() : new Promise((resolve) => waiting.push(resolve)));
    made.on('message', (message) => (waiting.length > 0 ? waiting.shift()(message) : came.push(message)));
    const settle = async (body, how) => {
      const got = await next();
      assert.equal(got.getData().toString(), body);
      await made[how](got);
    };
    await service.send(ids[0], new common.Message('completed'));
    await settle('completed', 'complete');
    await until(() => counts(ids[0]).completed === 1, 'it is completed');
    // MQTT has no way to reject or abandon.
    if (transport.startsWith('mqtt')) return;
    await service.send(ids[0], new common.Message('rejected'));
    await settle('rejected', 'reject');
    await until(() => counts(ids[0]).rejected === 1, 'it is rejected');
    await service.send(ids[0], new common.Message('again'));
    await settle('again', 'abandon');
    await settle('again', 'complete');
    await until(() => counts(ids[0]).completed === 2, 'it is completed');
  },
  async methods({ made, ids }) {
    const handler = (request, response) => response.send(201, { echo: request.payload });
    ids.length === 2 ? made.onMethod('echo', handler) : made.onDeviceMethod('echo', handler);
    const params = { methodName: 'echo', payload: { n: 1 }, responseTimeoutInSeconds: 15, connectTimeoutInSeconds: 15 };
    const { result } = await service.invokeDeviceMethod(...ids, params);
    assert.deepEqual(result, { status: 201, payload: { echo: { n: 1 } } });
  },
  async twins({ made, ids }) {
    const twin = await made.getTwin();
    const told = new Promise((resolve) => {
      twin.on('properties.desired', (delta) => delta.$version > 1 && resolve({ ...delta }));
    });
    await promisify(twin.properties.reported.update.bind(twin.properties.reported))({ rate: 5 });
    const of = ids.length === 2 ? registry.getModuleTwin.bind(registry) : registry.getTwin.bind(registry);
    assert.equal((await of(...ids)).responseBody.properties.reported.rate, 5);
    const update = ids.length === 2 ? registry.updateModuleTwin.bind(registry) : registry.updateTwin.bind(registry);
    await update(...ids, { properties: { desired: { rate: 6 } } }, '*');
    assert.deepEqual(await told, { rate: 6, $version: 2 });
  },
  async upload({ made, ids }) {
    const content = Buffer.alloc(300_000, 'x');
    await made.uploadToBlob('a.bin', Readable.from([content]), content.length);
    assert.deepEqual(cli('file', 'list', ids[0]).map(({ name, bytes }) => [name, bytes]), [['a.bin', 300_000]]);
  },
};

// What the SDK has: HTTPS knows no methods and twins; modules have no HTTPS, no upload, no messages of services, and in this
// SDK no certificates (test_matrix.py has those of Python).
function offered(kind, transport) {
  if (kind === 'module') return ['telemetry', 'methods', 'twins'];
  return transport === 'http' ? ['telemetry', 'messages', 'upload'] : Object.keys(features);
}

for (const transport of Object.keys(transports)) {
  for (const kind of transport === 'http' ? ['device'] : ['device', 'module']) {
    for (const credential of kind === 'module' ? ['a key'] : Object.keys(credentials)) {
      test(`a ${kind} with ${credential} over ${transport}: ${offered(kind, transport).join(', ')}`, async () => {
        const { made, ids } = await client(kind, credential, transports[transport]);
        if (transport === 'http') made.setOptions({ http: { receivePolicy: { interval: 1 } } });
        await made.open();
        for (const feature of offered(kind, transport)) await features[feature]({ made, ids, transport });
        await Promise.race([made.close(), pause(2_000, undefined, { ref: false })]);
      });
    }
  }
}

test('the reader and the service end', async () => {
  await reader.close();
  await service.close();
});
