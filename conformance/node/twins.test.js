// Twins and direct methods through the unmodified azure-iothub and azure-iot-device.

import assert from 'node:assert/strict';
import { on } from 'node:events';
import { test } from 'node:test';
import { promisify } from 'node:util';
import iothub from 'azure-iothub';
import device from 'azure-iot-device';
import common from 'azure-iot-common';
import { ModuleClient, transports } from './harness/devices.js';
import { createDevice, newName, ready, registry } from './harness/hub.js';

const service = iothub.Client.fromConnectionString(ready.service_connection_string);
const { http, ...live } = transports;

// A connected client of a new device or module, and what the service knows it by.
async function connected(kind, transport) {
  const owner = await createDevice();
  const ids = [owner.deviceId];
  let record = owner;
  if (kind === 'module') {
    ({ responseBody: record } = await registry.addModule({ deviceId: owner.deviceId, moduleId: 'm1' }));
    ids.push('m1');
  }
  const key = record.authentication.symmetricKey.primaryKey;
  const module = kind === 'module' ? ';ModuleId=m1' : '';
  const text = `HostName=${ready.hostname};DeviceId=${owner.deviceId}${module};SharedAccessKey=${key}`;
  const Client = kind === 'module' ? ModuleClient : device.Client;
  const client = Client.fromConnectionString(text, transport);
  client.setRetryPolicy(new common.NoRetry());
  await client.open();
  return { client, ids, twin: await client.getTwin(), close: () => client.close() };
}

const serviceTwin = async (ids) =>
  (ids.length === 2 ? await registry.getModuleTwin(...ids) : await registry.getTwin(...ids)).responseBody;

for (const [name, transport] of Object.entries(live)) {
  for (const kind of ['device', 'module']) {
    test(`a ${kind} over ${name} reads its twin, reports, and is told of desired properties`, async () => {
      const { twin, ids, close } = await connected(kind, transport);
      assert.equal(twin.properties.desired.$version, 1);
      // A new listener is told what is there, and subscribes; the report behind that on the wire says when it has.
      const told = on(twin, 'properties.desired');
      await promisify(twin.properties.reported.update.bind(twin.properties.reported))({ rate: 5, list: [1, true] });
      const seen = await serviceTwin(ids);
      assert.deepEqual([seen.properties.reported.rate, seen.properties.reported.list], [5, [1, true]]);
      assert.equal(seen.connectionState, 'Connected');
      const patch = { properties: { desired: { rate: 6 } }, tags: { site: 'north' } };
      const { responseBody: updated } =
        ids.length === 2
          ? await registry.updateModuleTwin(...ids, patch, '*')
          : await registry.updateTwin(...ids, patch, seen.etag);
      assert.equal(updated.tags.site, 'north');
      for await (const [delta] of told) {
        if (delta.$version === 1) continue;
        assert.deepEqual({ ...delta }, { rate: 6, $version: 2 });
        break;
      }
      await close();
    });

    test(`a ${kind} over ${name} answers a method`, async () => {
      const { client, ids, close } = await connected(kind, transport);
      for (const payload of [null, 0, 'text', [1, { a: null }], { deep: { b: true } }]) {
        const methodName = `m${Math.random().toString(36).slice(2)}`;
        const handler = async (request, response) => response.send(200, { echo: request.payload });
        kind === 'module' ? client.onMethod(methodName, handler) : client.onDeviceMethod(methodName, handler);
        // The client subscribes when the first handler is set, and does not say when that is done.
        const params = { methodName, payload, responseTimeoutInSeconds: 15, connectTimeoutInSeconds: 15 };
        const { result } = await service.invokeDeviceMethod(...ids, params);
        assert.deepEqual(result, { status: 200, payload: { echo: payload } });
      }
      await close();
    });
  }
}

test('a twin fetched by the service updates itself', async () => {
  const { deviceId } = await createDevice();
  const { responseBody: twin } = await registry.getTwin(deviceId);
  await twin.update({ tags: { a: 1 } });
  assert.equal(twin.tags.a, 1);
  assert.notEqual(twin.etag, 'AAAAAAAAAAE=');
  await assert.rejects(registry.updateTwin(deviceId, { tags: { a: 2 } }, 'AAAAAAAAAAE='), { name: 'InvalidEtagError' });
});

test('an illegal report reaches the callback as an error, for the body says so', async () => {
  const { twin, close } = await connected('device', transports.mqtt);
  const report = promisify(twin.properties.reported.update.bind(twin.properties.reported));
  await assert.rejects(report({ 'key with blank': 1 }));
  await report({ good: 1 });
  await close();
});

test('an offline device is told from an unknown one', async () => {
  const { deviceId } = await createDevice();
  await assert.rejects(service.invokeDeviceMethod(deviceId, { methodName: 'm' }), (error) => {
    assert.match(error.responseBody, /404103/);
    return true;
  });
  await assert.rejects(service.invokeDeviceMethod(newName(), { methodName: 'm' }), { name: 'DeviceNotFoundError' });
});

test('a device that does not answer is a GatewayTimeoutError, not a socket that the client gave up', async () => {
  const { client, ids, close } = await connected('device', transports.mqtt);
  client.onDeviceMethod('silent', () => {});
  const params = { methodName: 'silent', responseTimeoutInSeconds: 5, connectTimeoutInSeconds: 0 };
  const patient = { ...params, connectTimeoutInSeconds: 10 };
  await assert.rejects(service.invokeDeviceMethod(...ids, patient), { name: 'GatewayTimeoutError' });
  await assert.rejects(service.invokeDeviceMethod(...ids, params), { name: 'GatewayTimeoutError' });
  await close();
});
