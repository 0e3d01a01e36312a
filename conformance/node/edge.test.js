// Edge devices: the registry through the unmodified azure-iothub, modules and children of a gateway through the unmodified
// azure-iot-device, and by hand with rhea the many children on one connection that a gateway has.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import common from 'azure-iot-common';
import device from 'azure-iot-device';
import iothub from 'azure-iothub';
import { until } from './harness/again.js';
import { byKey, Message, ModuleClient, transports } from './harness/devices.js';
import { Reader } from './harness/events.js';
import { cli, createDevice, newName, ready, registry, token } from './harness/hub.js';
import { connected, once, openSender, outcome, putToken, refusal } from './harness/rhea.js';

const service = iothub.Client.fromConnectionString(ready.service_connection_string);
const { http, ...live } = transports;
let reader;

before(() => (reader = new Reader()));
after(() => reader.close());

const edgeDevice = (parent) =>
  createDevice({ capabilities: { iotEdge: true }, ...(parent && { parentScopes: [parent.deviceScope] }) });
const leafOf = (parent) => createDevice({ deviceScope: parent.deviceScope });
const keyOf = (record) => record.authentication.symmetricKey.primaryKey;
const events = (deviceId) => `/devices/${encodeURIComponent(deviceId)}/messages/events`;
const causes = (deviceId) => cli('why', deviceId).map(({ cause }) => cause);
const inBand = (record) => record.systemProperties;

// What a gateway signs for those whom it connects.
async function tokenOfGateway(gateway, options) {
  const { responseBody: module } = await registry.getModule(gateway.deviceId, '$edgeHub');
  return token(`${ready.hostname}/devices/${gateway.deviceId}/modules/$edgeHub`, keyOf(module), options);
}

// A client that is who it says it is by the token of a gateway.
function behind(text, ids, transport) {
  const provider = Object.assign(new EventEmitter(), {
    type: common.AuthenticationType.Sas,
    getDeviceCredentials: (done) => done(null, { ...ids, host: ready.hostname, sharedAccessSignature: text }),
    stop() {},
  });
  const Client = ids.moduleId ? ModuleClient : device.Client;
  const client = new Client(new transport(provider));
  client.setRetryPolicy(new common.NoRetry());
  return client;
}

test('scopes and parents are set, moved, cleared and refused', async () => {
  const [top, other] = await Promise.all([edgeDevice(), edgeDevice()]);
  assert.match(top.deviceScope, new RegExp(`^ms-azure-iot-edge://${top.deviceId}-\\d+$`));
  const names = (await registry.getModulesOnDevice(top.deviceId)).responseBody.map(({ moduleId }) => moduleId);
  assert.deepEqual(names.sort(), ['$edgeAgent', '$edgeHub']);
  const leaf = await leafOf(top);
  assert.deepEqual(leaf.parentScopes, [top.deviceScope]);
  const change = async (fields) => (await registry.update({ ...leaf, ...fields })).responseBody;
  assert.deepEqual((await change({ deviceScope: other.deviceScope })).parentScopes, [other.deviceScope]);
  assert.equal((await change({ deviceScope: '' })).parentScopes, undefined);
  const child = await edgeDevice(top);
  assert.notEqual(child.deviceScope, top.deviceScope);
  assert.deepEqual(child.parentScopes, [top.deviceScope]);
  assert.equal((await registry.update({ ...child, parentScopes: [] })).responseBody.parentScopes, undefined);
  for (const deviceScope of ['nobody', 'ms-azure-iot-edge://nobody-1']) {
    await assert.rejects(registry.create({ deviceId: newName(), deviceScope }), ({ message, responseBody }) =>
      /InvalidDeviceScope/.test(`${message}${JSON.stringify(responseBody)}`),
    );
  }
});

test('content for the modules of an edge device is applied', async () => {
  const { deviceId } = await edgeDevice();
  const modules = { camera: { settings: { image: 'camera:1' } } };
  const content = {
    modulesContent: {
      $edgeAgent: { 'properties.desired': { schemaVersion: '1.1', modules } },
      camera: { 'properties.desired': { rate: 5 } },
    },
  };
  await registry.applyConfigurationContentOnDevice(deviceId, content);
  const { responseBody: camera } = await registry.getModule(deviceId, 'camera');
  assert.equal(camera.managedBy, 'IotEdge');
  const desired = async (module) => (await registry.getModuleTwin(deviceId, module)).responseBody.properties.desired;
  assert.deepEqual((await desired('$edgeAgent')).modules, modules);
  assert.equal((await desired('camera')).rate, 5);
});

for (const [name, transport] of Object.entries(live)) {
  test(`a gateway connects a child over ${name}, which sends, has a twin and answers methods`, async () => {
    const gateway = await edgeDevice();
    const leaf = await leafOf(gateway);
    const client = behind(await tokenOfGateway(gateway), { deviceId: leaf.deviceId }, transport);
    await client.open();
    await client.sendEvent(new Message('from the child'));
    const twin = await client.getTwin();
    await promisify(twin.properties.reported.update.bind(twin.properties.reported))({ behind: gateway.deviceId });
    const { responseBody: seen } = await registry.getTwin(leaf.deviceId);
    assert.equal(seen.properties.reported.behind, gateway.deviceId);
    client.onDeviceMethod('reboot', (request, response) => response.send(200, { asked: request.payload }));
    const call = { methodName: 'reboot', payload: 1, connectTimeoutInSeconds: 5, responseTimeoutInSeconds: 5 };
    const { result } = await service.invokeDeviceMethod(leaf.deviceId, call);
    assert.deepEqual([result.status, result.payload], [200, { asked: 1 }]);
    await client.close();
    const [event] = await reader.fromDevice(leaf.deviceId);
    assert.equal(inBand(event)['iothub-connection-auth-generation-id'], leaf.generationId);
    assert.match(inBand(event)['iothub-connection-auth-method'], /"scope":"device","type":"sas"/);
  });

  test(`a gateway connects its own module over ${name}, and no module of others`, async () => {
    const [gateway, other] = await Promise.all([edgeDevice(), edgeDevice()]);
    const text = await tokenOfGateway(gateway);
    for (const { deviceId } of [gateway, other]) await registry.addModule({ deviceId, moduleId: 'm1' });
    const own = behind(text, { deviceId: gateway.deviceId, moduleId: 'm1' }, transport);
    await own.open();
    await own.sendOutputEvent('out', new Message('x'));
    await own.close();
    const [event] = await reader.fromDevice(gateway.deviceId);
    assert.equal(inBand(event)['iothub-connection-module-id'], 'm1');
    const foreign = behind(text, { deviceId: other.deviceId, moduleId: 'm1' }, transport);
    await assert.rejects(foreign.open().then(() => foreign.sendEvent(new Message('x'))));
    assert.ok(causes(other.deviceId).includes('not-its-gateway'));
  });

  test(`a module over ${name} sends to its outputs and listens at its inputs`, async () => {
    const gateway = await edgeDevice();
    const { responseBody: record } = await registry.addModule({ deviceId: gateway.deviceId, moduleId: 'm1' });
    const client = await byKey(record, transport);
    client.on('inputMessage', () => {});
    await client.open();
    await client.sendOutputEvent('alerts', new Message('one'));
    await client.sendOutputEvent('log', new Message('two'));
    await client.close();
    const received = await reader.fromDevice(gateway.deviceId, 2);
    assert.deepEqual(
      received.map((event) => [event.body.toString(), inBand(event)['iothub-outputname']]),
      [['one', 'alerts'], ['two', 'log']],
    );
  });
}

test('a module of an edge device calls methods as its environment lets it', async () => {
  const gateway = await edgeDevice();
  const add = async (moduleId) => (await registry.addModule({ deviceId: gateway.deviceId, moduleId })).responseBody;
  const neighbour = await byKey(await add('neighbour'), transports.mqtt);
  neighbour.onMethod('reboot', (request, response) => response.send(200, { asked: request.payload }));
  await neighbour.open();
  const key = keyOf(await add('caller'));
  const named = `HostName=${ready.hostname};GatewayHostName=${ready.hostname}`;
  process.env.EdgeHubConnectionString = `${named};DeviceId=${gateway.deviceId};ModuleId=caller;SharedAccessKey=${key}`;
  process.env.EdgeModuleCACertificateFile = ready.ca_file;
  const caller = await ModuleClient.fromEnvironment(transports.mqtt);
  await caller.open();
  const call = { methodName: 'reboot', payload: 1, connectTimeoutInSeconds: 5, responseTimeoutInSeconds: 5 };
  let answer;
  // `open` does not wait for the subscription.
  const isAnswered = async () => (answer = await caller.invokeMethod(gateway.deviceId, 'neighbour', call).catch(() => undefined));
  await until(isAnswered, 'the neighbour takes calls');
  assert.deepEqual(answer, { status: 200, payload: { asked: 1 } });
  const stranger = await createDevice();
  await assert.rejects(caller.invokeMethod(stranger.deviceId, call), { name: 'UnauthorizedError' });
  assert.ok(causes(gateway.deviceId).includes('missing-right'));
  await Promise.all([caller.close(), neighbour.close()]);
});

// A link of a device as the .NET SDK opens it for a gateway.
function open(connection, deviceId, ...chain) {
  const properties = { 'com.microsoft:client-version': 'edgeHub', 'com.microsoft:auth-chain': chain.join(';') };
  return connection.open_sender({ target: events(deviceId), ...(chain.length && { properties }) });
}

test('all who are below a gateway share its connection and its token', async () => {
  const top = await edgeDevice();
  const middle = await edgeDevice(top);
  const leaves = await Promise.all([top, top, middle].map(leafOf));
  const stranger = await createDevice();
  const below = leaves[2].deviceId;
  await connected(async (connection) => {
    assert.equal((await putToken(connection, await tokenOfGateway(top)))['status-code'], 200);
    const senders = [
      open(connection, leaves[0].deviceId),
      open(connection, leaves[1].deviceId, leaves[1].deviceId, top.deviceId),
      open(connection, below, below, middle.deviceId, top.deviceId),
    ];
    await Promise.all(senders.map((sender) => once(sender, 'sendable')));
    for (const sender of senders) assert.equal((await outcome(sender, { body: 'x' })).event, 'accepted');
    assert.equal(await refusal(open(connection, stranger.deviceId)), 'amqp:unauthorized-access');
    // One that is connected stands on the chain that it was connected with; this link is its first.
    const gone = open(connection, leaves[0].deviceId);
    await once(gone, 'sendable');
  });
  for (const { deviceId } of leaves) {
    await reader.fromDevice(deviceId);
    const connect = cli('audit', 'list', '--device', deviceId, '--kind', 'connect').at(-1);
    assert.equal(connect.facts.gateway, top.deviceId);
  }
  assert.deepEqual(causes(stranger.deviceId), ['not-its-gateway']);
});

test('a link that names another chain than the registered one is refused', async () => {
  const top = await edgeDevice();
  const middle = await edgeDevice(top);
  const leaf = await leafOf(middle);
  await connected(async (connection) => {
    await putToken(connection, await tokenOfGateway(top));
    for (const chain of [[], [leaf.deviceId, top.deviceId], [leaf.deviceId, middle.deviceId]]) {
      assert.equal(await refusal(open(connection, leaf.deviceId, ...chain)), 'amqp:unauthorized-access');
    }
  });
  assert.deepEqual(causes(leaf.deviceId), ['auth-chain', 'auth-chain', 'auth-chain']);
});

test('who is behind a gateway goes on with its next token and ends with the gateway', async () => {
  const gateway = await edgeDevice();
  const [leaf, other] = await Promise.all([leafOf(gateway), leafOf(gateway)]);
  await connected(async (connection) => {
    await putToken(connection, await tokenOfGateway(gateway, { seconds: 3 }));
    const sender = await openSender(connection, events(leaf.deviceId));
    await putToken(connection, await tokenOfGateway(gateway), 'put-2');
    // Past the end of the first one.
    for (const begun = Date.now(); Date.now() - begun < 4_000; await pause(500)) {
      assert.equal((await outcome(sender, { body: 'and on' })).event, 'accepted');
    }
    const second = await openSender(connection, events(other.deviceId));
    const ended = [sender, second].map(refusal);
    await registry.update({ ...gateway, status: 'disabled' });
    assert.deepEqual(await Promise.all(ended), ['amqp:unauthorized-access', 'amqp:unauthorized-access']);
    assert.equal(await refusal(open(connection, leaf.deviceId)), 'amqp:unauthorized-access');
  });
  assert.ok(causes(leaf.deviceId).includes('right-ended'));
});
