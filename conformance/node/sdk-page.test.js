// The programs in Node of docs/sdk.md, run as they stand there.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { createDevice, ready } from './harness/hub.js';

const page = readFileSync(new URL('../../docs/sdk.md', import.meta.url), 'utf8');
const blocks = page.matchAll(/<!-- run: (\S+) -->\n```\w+\n([\s\S]*?)```\n/g);
const programs = Object.fromEntries([...blocks].map(([, name, text]) => [name, text]));

// Runs a program to its end and gives what it printed. It lies here, for Node looks for packages from where a program is.
async function run(name, args, env) {
  const file = fileURLToPath(new URL(`.page-${process.pid}-${name}`, import.meta.url));
  writeFileSync(file, programs[name]);
  const child = spawn(process.execPath, [file, ...args], { env: { ...process.env, ...env }, timeout: 40_000 });
  const printed = { stdout: '', stderr: '' };
  for (const stream of Object.keys(printed)) {
    child[stream].setEncoding('utf8').on('data', (text) => (printed[stream] += text));
  }
  const code = await new Promise((ended) => child.on('close', ended));
  rmSync(file);
  assert.equal(code, 0, `${name}: ${printed.stderr}${printed.stdout}`);
  return printed.stdout.trimEnd().split('\n');
}

test('the programs of the page talk to each other', async () => {
  const { deviceId, authentication } = await createDevice();
  const key = authentication.symmetricKey.primaryKey;
  const env = {
    DEVICE: `HostName=${ready.hostname};DeviceId=${deviceId};SharedAccessKey=${key}`,
    SERVICE: ready.service_connection_string,
    EVENTHUB: ready.eventhub_connection_string,
  };
  const [device, backend] = await Promise.all([run('device.mjs', [], env), run('backend.mjs', [deviceId], env)]);
  assert.deepEqual(backend, ['event {"temperature":21.5}', 'answer 200 {"done":true}', 'reported 5']);
  assert.deepEqual(device, ['method reboot {"delay":2}', 'desired 5', 'message open the valve']);
});
