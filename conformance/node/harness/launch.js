// Starts and stops one `holdfast dev` on a loopback address of its own.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, openSync, closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const READY_MS_MAX = 15_000;
const STOP_MS_MAX = 10_000;
let hosts = 0;

export async function startHub() {
  const binary = process.env.HOLDFAST_BIN;
  if (!binary) throw new Error('set HOLDFAST_BIN to the holdfast binary under judgement');
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-conformance-'));
  const readyFile = join(folder, 'ready.json');
  const stderrFile = join(folder, 'stderr');
  const log = openSync(stderrFile, 'a');
  const args = ['dev', '--listen', freshAddress(), '--ready-file', readyFile, '--data', join(folder, 'data')];
  const child = spawn(binary, args, { stdio: ['ignore', log, log] });
  closeSync(log);
  const ended = new Promise((resolve) => {
    child.on('exit', (code, signal) => resolve(signal ?? code));
    child.on('error', (error) => resolve(error.message));
  });
  let status;
  ended.then((value) => (status = value));

  const hub = {
    readyFile,
    ready: undefined,
    stderr: () => readFileSync(stderrFile, 'utf8').split('\n').slice(-80).join('\n'),
    async stop() {
      child.kill('SIGTERM');
      const late = Symbol('late');
      if ((await Promise.race([ended, pause(STOP_MS_MAX, late, { ref: false })])) === late) {
        child.kill('SIGKILL');
        throw new Error(`the hub lingered ${STOP_MS_MAX / 1000} s after SIGTERM\n${hub.stderr()}`);
      }
    },
  };
  const deadline = Date.now() + READY_MS_MAX;
  while (Date.now() < deadline) {
    if (status !== undefined) throw new Error(`the hub ended with ${status} before it was ready\n${hub.stderr()}`);
    hub.ready = readJson(readyFile);
    if (hub.ready) return hub;
    await pause(20);
  }
  child.kill('SIGKILL');
  throw new Error(`no ready file within ${READY_MS_MAX / 1000} s\n${hub.stderr()}`);
}

function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined; // not there yet, or half written
  }
}

// The Python suite counts its addresses from 127.64 up; these lie below, so that both can run at once.
function freshAddress() {
  hosts += 1;
  return `127.${2 + ((process.pid >> 8) % 60)}.${process.pid % 256}.${hosts}`;
}
