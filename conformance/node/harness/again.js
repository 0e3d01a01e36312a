// Ends the hub under judgement, as a power cut would or as an operator does, and starts it again where it was; and waits
// for what comes about.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { readyFile } from './hub.js';

let again;

export async function restart({ refusalsPerMinute, signal = 'SIGKILL' } = {}) {
  const { pid, hostname } = JSON.parse(readFileSync(readyFile, 'utf8'));
  process.kill(pid, signal);
  // Its ports are free when it is gone.
  await until(() => !lives(pid), 'the hub is gone', 10_000);
  // A hub that is stopped takes it away itself.
  rmSync(readyFile, { force: true });
  const args = ['dev', '--listen', hostname, '--ready-file', readyFile, '--data', join(dirname(readyFile), 'data')];
  const env = { ...process.env };
  if (refusalsPerMinute !== undefined) env.HOLDFAST_REFUSALS_PER_MINUTE = String(refusalsPerMinute);
  again = spawn(process.env.HOLDFAST_BIN, args, { stdio: 'ignore', env });
  await until(() => {
    try {
      return JSON.parse(readFileSync(readyFile, 'utf8')).pid === again.pid;
    } catch {
      return false; // not there yet, or half written
    }
  }, 'the hub is ready again', 10_000);
}

function lives(pid) {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

// Ends a hub that was started again: who started the first one does not know of it.
export function endAgain() {
  again?.kill('SIGTERM');
}

export async function until(condition, what, ms = 5_000) {
  for (const end = Date.now() + ms; !(await condition()); await pause(20)) {
    assert.ok(Date.now() < end, `${what} within ${ms} ms`);
  }
}
