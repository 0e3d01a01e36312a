// Files that the unmodified azure-iot-device uploads, and the notices of them that the unmodified azure-iothub receives.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { Readable } from 'node:stream';
import { after, test } from 'node:test';
import iothub from 'azure-iothub';
import { byKey, signIn, transports } from './harness/devices.js';
import { cli, createDevice, newName, policyKey, ready, readyFile, token } from './harness/hub.js';

const MEGABYTE = 1024 * 1024;
const doors = { amqp: iothub.Amqp, 'amqp-ws': iothub.AmqpWs };
const MEDIA_TYPE = 'application/vnd.microsoft.iothub.filenotification.json';

cli('settings', 'set', 'fileNotifications', 'true');

// So many bytes of which no two stretches are alike, never all in memory.
function* content(bytes) {
  const block = Buffer.concat(
    Array.from({ length: MEGABYTE / 32 }, (_, n) => createHash('sha256').update(`${n}`).digest()),
  );
  for (let at = 0; at < bytes; at += MEGABYTE) {
    const piece = Buffer.from(block.subarray(0, Math.min(MEGABYTE, bytes - at)));
    if (piece.length >= 4) piece.writeUInt32BE(at / MEGABYTE);
    yield piece;
  }
}

function digest(pieces) {
  const hash = createHash('sha256');
  for (const piece of pieces) hash.update(piece);
  return hash.digest('hex');
}

// A file as the operator gets it.
function fetched(device, name) {
  const command = ['file', 'get', device, name, '--ready-file', readyFile];
  const done = spawnSync(process.env.HOLDFAST_BIN, command, { maxBuffer: 512 * MEGABYTE });
  assert.equal(done.status, 0, done.stderr?.toString());
  return done.stdout;
}

// Notices as they come to one service, by the name of their file.
async function notices(door) {
  const service = iothub.Client.fromConnectionString(ready.service_connection_string, doors[door]);
  await service.open();
  const { result: receiver } = await service.getFileNotificationReceiver();
  const [came, waiting] = [new Map(), new Map()];
  receiver.on('message', (message) => {
    const notice = JSON.parse(message.data.toString());
    assert.equal(message.transportObj.content_type, MEDIA_TYPE);
    assert.ok(!came.has(notice.blobName), `came twice: ${notice.blobName}`);
    came.set(notice.blobName, notice);
    waiting.get(notice.blobName)?.(notice);
  });
  const next = (name) => came.get(name) ?? new Promise((resolve) => waiting.set(name, resolve));
  return { next, has: (name) => came.has(name), close: () => service.close() };
}

for (const [transport, door] of [['mqtt', 'amqp'], ['mqtt-ws', 'amqp-ws'], ['amqp', 'amqp'], ['http', 'amqp-ws']]) {
  for (const [size, bytes] of [['1 KB', 1024], ['5 MB', 5 * MEGABYTE], ['256 MB', 256 * MEGABYTE + 1]]) {
    // Once is enough for what does not depend on the transport: control and content go over HTTPS always.
    if (bytes > 5 * MEGABYTE && transport !== 'mqtt') continue;
    test(`${size} of a device over ${transport} arrive byte for byte, and a service over ${door} hears of it`, async () => {
      const owner = await createDevice();
      const heard = await notices(door);
      const client = byKey(owner, transports[transport]);
      const name = 'logs/today.bin';
      await client.uploadToBlob(name, Readable.from(content(bytes)), bytes);
      const notice = await heard.next(`${owner.deviceId}/${name}`);
      assert.deepEqual([notice.deviceId, notice.blobSizeInBytes], [owner.deviceId, bytes]);
      assert.ok(Math.abs(new Date(notice.lastUpdatedTime) - Date.now()) < 60_000, notice.lastUpdatedTime);
      const got = fetched(owner.deviceId, name);
      assert.equal(digest([got]), digest(content(bytes)));
      // What the notice names is what a service reads.
      const headers = { Authorization: token(ready.hostname, policyKey('service'), { policy: 'service' }) };
      const answer = await fetch(`${notice.blobUri}`, { headers });
      assert.equal(answer.status, 200);
      assert.equal(digest([Buffer.from(await answer.arrayBuffer())]), digest(content(bytes)));
      await client.close().catch(() => {});
      await heard.close();
    });
  }
}

test('a success without a file is taken, and no service hears of it', async () => {
  const owner = await createDevice();
  const heard = await notices('amqp');
  const client = byKey(owner, transports.mqtt);
  const { correlationId } = await client.getBlobSharedAccessSignature('nothing.txt');
  await client.notifyBlobUploadStatus(correlationId, true, 200, 'so it says');
  await client.uploadToBlob('something.txt', Readable.from(content(1024)), 1024);
  // Notices come in the order in which uploads ended.
  await heard.next(`${owner.deviceId}/something.txt`);
  assert.ok(!heard.has(`${owner.deviceId}/nothing.txt`));
  await client.close().catch(() => {});
  await heard.close();
});

for (const credential of ['thumbprint', 'CA-signed', 'policy key']) {
  test(`a device with ${credential} uploads a file`, async () => {
    const name = newName();
    const how = signIn(credential, name);
    const owner = await createDevice({ deviceId: name, ...how.fields });
    const client = await how.client(transports.mqtt, owner);
    await client.uploadToBlob('a.bin', Readable.from(content(5 * MEGABYTE)), 5 * MEGABYTE);
    assert.equal(digest([fetched(name, 'a.bin')]), digest(content(5 * MEGABYTE)));
  });
}

test('the two halves of an upload may be done by hand, and a failed one is no file', async () => {
  const owner = await createDevice();
  const client = byKey(owner, transports.mqtt);
  const info = await client.getBlobSharedAccessSignature('half.bin');
  assert.equal(info.blobName, `${owner.deviceId}/half.bin`);
  await client.notifyBlobUploadStatus(info.correlationId, false, 500, 'nothing was written');
  assert.deepEqual(cli('file', 'list', owner.deviceId), []);
});

after(() => cli('settings', 'set', 'fileNotifications', 'false'));
