// The hub that this test file was born to judge: what its ready file says, its registry, its command line.

import { execFileSync } from 'node:child_process';
import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import iothub from 'azure-iothub';

export const readyFile = process.env.HOLDFAST_READY_FILE;
export const ready = JSON.parse(readFileSync(readyFile, 'utf8'));
export const registry = iothub.Registry.fromConnectionString(ready.service_connection_string);

export function policyKey(policy) {
  return parts(ready.policies[policy]).SharedAccessKey;
}

export function parts(connectionString) {
  return Object.fromEntries(
    connectionString
      .split(';')
      .filter(Boolean)
      .map((part) => [part.slice(0, part.indexOf('=')), part.slice(part.indexOf('=') + 1)]),
  );
}

export function newName() {
  return `d-${randomUUID().slice(0, 13)}`;
}

export function newKey() {
  return randomBytes(32).toString('base64');
}

// Registers a device and returns its record.
export async function createDevice(fields = {}) {
  const { responseBody } = await registry.create({ deviceId: newName(), ...fields });
  return responseBody;
}

// A shared access signature, made by the rules of Azure's documents. Event Hubs clients sign with the text of the
// key (`keyIsText`), IoT clients with its bytes.
export function token(resource, key, { policy, seconds = 3600, keyIsText = false } = {}) {
  const sr = encodeURIComponent(resource);
  const se = Math.floor(Date.now() / 1000) + seconds;
  const secret = keyIsText ? key : Buffer.from(key, 'base64');
  const sig = createHmac('sha256', secret).update(`${sr}\n${se}`).digest('base64');
  const text = `SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(sig)}&se=${se}`;
  return policy ? `${text}&skn=${policy}` : text;
}

export function cli(...args) {
  const command = [...args, '--ready-file', readyFile, '-o', 'json'];
  const output = execFileSync(process.env.HOLDFAST_BIN, command, { encoding: 'utf8', timeout: 20_000 });
  return output.trim() ? JSON.parse(output) : undefined;
}
