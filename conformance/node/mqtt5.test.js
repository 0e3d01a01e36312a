// MQTT 5 with the unmodified mqtt.js: what it is refused, sends and receives, and a right that is renewed on the open connection.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'node:test';
import mqtt from 'mqtt';
import { Reader } from './harness/events.js';
import { cli, createDevice, newKey, ready } from './harness/hub.js';

// What a client signs of its connection, by the rules of Azure's preview.
function credential(clientId, key, seconds = 3600) {
  const at = Date.now();
  const expiry = at + seconds * 1000;
  const text = `${ready.hostname}\n${clientId}\n\n${at}\n${expiry}\n`;
  return {
    authenticationMethod: 'SAS',
    authenticationData: createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest(),
    userProperties: { 'sas-at': String(at), 'sas-expiry': String(expiry) },
  };
}

function open(clientId, key, { seconds, url = `mqtts://${ready.hostname}:8883`, ...options } = {}) {
  const { userProperties, ...authentication } = credential(clientId, key, seconds);
  return mqtt.connect(url, {
    protocolVersion: 5,
    clientId,
    clean: false,
    reconnectPeriod: 0,
    properties: {
      ...authentication,
      userProperties: { 'api-version': '2020-10-01-preview', host: ready.hostname, ...userProperties },
    },
    ...options,
  });
}

const keyOf = (device) => device.authentication.symmetricKey.primaryKey;

function publish(client, topic, payload, options) {
  return new Promise((sent, failed) => client.publish(topic, payload, options, (e, packet) => (e ? failed(e) : sent(packet))));
}

function subscribe(client, topics) {
  return new Promise((granted, failed) => client.subscribe(topics, { qos: 1 }, (e, list) => (e ? failed(e) : granted(list))));
}

const urls = { tls: `mqtts://${ready.hostname}:8883`, websocket: `wss://${ready.hostname}:443/$iothub/websocket` };
for (const [transport, url] of Object.entries(urls)) {
  test(`a device sends, asks and receives by ${transport}`, async () => {
    const device = await createDevice();
    const client = open(device.deviceId, keyOf(device), { url });
    const [connack] = await once(client, 'connect');
    assert.deepEqual([connack.properties.receiveMaximum, connack.properties.topicAliasMaximum], [16, 10]);
    const properties = { contentType: 'application/json', userProperties: { '@room': '7' } };
    await publish(client, '$iothub/telemetry', '{}', { qos: 1, properties });
    const reader = new Reader();
    const [sent] = await reader.fromDevice(device.deviceId);
    assert.deepEqual(sent.properties, { room: '7' });
    await reader.close();

    const correlationData = Buffer.from([1, 250]);
    const answer = once(client, 'message');
    await publish(client, '$iothub/twin/get', '', { qos: 0, properties: { correlationData } });
    const [topic, payload, packet] = await answer;
    assert.equal(topic, '$iothub/responses');
    assert.deepEqual(packet.properties.correlationData, correlationData);
    assert.equal(JSON.parse(payload).desired.$version, 1);
    client.end(true);
  });
}

test('a message that the application does not take comes again', async () => {
  const device = await createDevice();
  const codes = [131, 0];
  const customHandleAcks = (topic, payload, packet, done) => done(codes.shift());
  const client = open(device.deviceId, keyOf(device), { customHandleAcks });
  await once(client, 'connect');
  await subscribe(client, '$iothub/commands');
  const taken = once(client, 'message');
  cli('c2d', 'send', device.deviceId, 'open the valve');
  const [, payload, packet] = await taken;
  assert.equal(payload.toString(), 'open the valve');
  assert.equal(packet.properties.userProperties['delivery-count'], '1');
  client.end(true);
});

test('a right that is renewed by AUTH outlives the first signature', async () => {
  const device = await createDevice();
  const witness = await createDevice();
  const client = open(device.deviceId, keyOf(device), { seconds: 2 });
  await once(client, 'connect');
  const answered = new Promise((resolve) => (client.handleAuth = resolve));
  client._sendPacket({ cmd: 'auth', reasonCode: 0x19, properties: credential(device.deviceId, keyOf(device)) });
  const { reasonCode, properties } = await answered;
  assert.deepEqual([reasonCode, properties.authenticationMethod], [0, 'SAS']);
  const other = open(witness.deviceId, keyOf(witness), { seconds: 3 });
  const [end] = await once(other, 'disconnect');
  assert.equal(end.reasonCode, 135);
  await publish(client, '$iothub/telemetry', 'still here', { qos: 1 });
  client.end(true);
});

test('a key that is not the device’s own gets reason code 135', async () => {
  const device = await createDevice();
  const client = open(device.deviceId, newKey());
  const [error] = await once(client, 'error');
  assert.equal(error.code, 135);
  client.end(true);
});
