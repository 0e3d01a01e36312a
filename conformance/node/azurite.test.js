// Files that go to an account of Azure's Blob storage in place of the hub: Azurite, behind TLS, verifies the links.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import iothub from 'azure-iothub';
import { byKey, transports } from './harness/devices.js';
import { cli, createDevice, ready } from './harness/hub.js';

// Azurite's own account, which is the same everywhere.
const ACCOUNT = 'devstoreaccount1';
const KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';
const ADDRESS = '127.0.0.1';
const folder = mkdtempSync(join(tmpdir(), 'holdfast-azurite-'));
let azurite;
let container;

before(async () => {
  const port = await freePort();
  const host = `${ADDRESS}:${port}`;
  certificate();
  const main = fileURLToPath(new URL('node_modules/azurite/dist/src/blob/main.js', import.meta.url));
  // Loose: what the SDK uploads with sends a header that Azurite does not know.
  const options = ['--loose', '--blobHost', ADDRESS, '--blobPort', `${port}`, '--location', folder, '--silent'];
  const tls = ['--cert', join(folder, 'server.pem'), '--key', join(folder, 'server.key')];
  azurite = spawn(process.execPath, [main, ...options, ...tls, '--skipApiVersionCheck', '--disableTelemetry']);
  await new Promise((resolve, reject) => {
    let said = '';
    const listen = (chunk) => {
      said += chunk;
      if (said.includes('successfully listens')) resolve();
    };
    azurite.stdout.on('data', listen);
    azurite.stderr.on('data', listen);
    azurite.on('exit', () => reject(new Error(`Azurite ended: ${said}`)));
  });
  const endpoint = `https://${host}/${ACCOUNT}`;
  const credential = new StorageSharedKeyCredential(ACCOUNT, KEY);
  container = new BlobServiceClient(endpoint, credential).getContainerClient('uploads');
  await container.create();
  const text = `DefaultEndpointsProtocol=https;AccountName=${ACCOUNT};AccountKey=${KEY};BlobEndpoint=${endpoint};`;
  writeFileSync(join(folder, 'account.txt'), text);
  const from = ['--connection-string-file', join(folder, 'account.txt'), '--authority', ready.ca_file];
  const set = cli('file', 'storage', 'set', ...from, '--container', 'uploads');
  assert.deepEqual([set.account, set.host, set.container], [ACCOUNT, host, 'uploads']);
  assert.ok(!JSON.stringify([set, cli('file', 'storage', 'show'), cli('export')]).includes(KEY));
  cli('settings', 'set', 'fileNotifications', 'true');
});

after(() => azurite?.kill());

test('a device writes to the account, and a service hears of the file and reads it there', async () => {
  const owner = await createDevice();
  const service = iothub.Client.fromConnectionString(ready.service_connection_string);
  await service.open();
  const { result: receiver } = await service.getFileNotificationReceiver();
  const heard = new Promise((resolve) => receiver.once('message', (message) => resolve(JSON.parse(message.data))));
  const client = byKey(owner, transports.mqtt);
  // A success without a file is taken, and nobody hears of it.
  const nothing = await client.getBlobSharedAccessSignature('nothing.txt');
  await client.notifyBlobUploadStatus(nothing.correlationId, true, 200, 'so it says');
  const data = Buffer.from(Array.from({ length: 9 * 1024 * 1024 }, (_, n) => n % 251));
  await client.uploadToBlob('logs/a.bin', Readable.from([data]), data.length);
  const notice = await heard;
  const blob = container.getBlobClient(`${owner.deviceId}/logs/a.bin`);
  assert.deepEqual([notice.blobSizeInBytes, notice.blobUri], [data.length, decodeURIComponent(blob.url)]);
  assert.ok((await blob.downloadToBuffer()).equals(data));
  assert.deepEqual(cli('file', 'list', owner.deviceId), [], 'the hub has nothing of it');
  await service.close();
});

test('a link opens one blob, for writing alone', async () => {
  const client = byKey(await createDevice(), transports.mqtt);
  const info = await client.getBlobSharedAccessSignature('a.txt');
  const url = `https://${info.hostName}/${info.containerName}/${info.blobName}`;
  const put = (to) => fetch(to, { method: 'PUT', body: 'x', headers: { 'x-ms-blob-type': 'BlockBlob' } });
  assert.equal((await put(`${url}b${info.sasToken}`)).status, 403);
  assert.equal((await put(`${url}${info.sasToken}`)).status, 201);
  assert.equal((await fetch(`${url}${info.sasToken}`)).status, 403);
});

test('files go to the hub again when the account is taken away', async () => {
  cli('file', 'storage', 'clear');
  const client = byKey(await createDevice(), transports.mqtt);
  const info = await client.getBlobSharedAccessSignature('a.txt');
  assert.deepEqual([info.hostName, info.containerName], [ready.hostname, 'uploads']);
});

// A certificate of the hub's own authority, which this process trusts already.
function certificate() {
  const [authority, file] = [dirname(ready.ca_file), (name) => join(folder, name)];
  const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', file('server.key'));
  openssl('req', '-new', '-key', file('server.key'), '-subj', '/CN=azurite', '-out', file('server.csr'));
  writeFileSync(file('server.ext'), `subjectAltName=IP:${ADDRESS}\nextendedKeyUsage=serverAuth\n`);
  const by = ['-CA', ready.ca_file, '-CAkey', join(authority, 'ca.key'), '-CAcreateserial', '-CAserial', file('serial')];
  openssl('x509', '-req', '-in', file('server.csr'), ...by, '-days', '2', '-extfile', file('server.ext'), '-out', file('server.pem'));
  assert.ok(readFileSync(file('server.pem')).length > 0);
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, ADDRESS, () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
