// Runs every *.test.js against a hub of its own, a few at a time; with --slow every *.slow.js, which wait for minutes.
//
// Node reads NODE_EXTRA_CA_CERTS once, when a process starts, and neither azure-iothub nor @azure/event-hubs
// has an option for a CA. So the hub comes first and each test file is a process that is born trusting it.

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { startHub } from './harness/launch.js';

const AT_ONCE = 3;
const slow = process.argv.includes('--slow');
const ending = slow ? '.slow.js' : '.test.js';
const FILE_SECONDS_MAX = slow ? 480 : 240;
const TEST_SECONDS_MAX = slow ? 400 : 60;

const folder = fileURLToPath(new URL('.', import.meta.url));
const wanted = process.argv.slice(2).filter((argument) => argument !== '--slow');
const files = readdirSync(folder)
  .filter((file) => file.endsWith(ending))
  .filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part)))
  .sort();

const totals = { passed: 0, failed: 0 };
const waiting = [...files];
await Promise.all(Array.from({ length: AT_ONCE }, worker));
console.log(`node: ${totals.passed} passed, ${totals.failed} failed`);
process.exitCode = totals.failed === 0 && totals.passed > 0 ? 0 : 1;

async function worker() {
  for (let file = waiting.shift(); file; file = waiting.shift()) {
    const { passed, failed, output } = await judge(file).catch((error) => ({
      passed: 0,
      failed: 1,
      output: `${error.stack}\n`,
    }));
    totals.passed += passed;
    totals.failed += failed;
    console.log(`\n── ${file} ──\n${output}`);
  }
}

async function judge(file) {
  const hub = await startHub();
  let result;
  try {
    result = await runTests(file, hub);
  } finally {
    await hub.stop();
  }
  const passed = count(result.output, 'pass');
  const failed = count(result.output, 'fail') + count(result.output, 'cancelled');
  const broken = result.status !== 0 && failed === 0 ? 1 : 0;
  const stderr = failed + broken > 0 ? `\nhub stderr:\n${hub.stderr()}` : '';
  return { passed, failed: failed + broken, output: result.output + stderr };
}

function runTests(file, hub) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--test', '--test-reporter=spec', '--test-concurrency=1', '--test-force-exit', `--test-timeout=${TEST_SECONDS_MAX * 1000}`, file], {
      cwd: folder,
      env: {
        ...process.env,
        HOLDFAST_READY_FILE: hub.readyFile,
        NODE_EXTRA_CA_CERTS: hub.ready.ca_file,
        NODE_OPTIONS: '--no-deprecation',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    const watchdog = setTimeout(() => {
      output += `\n${file} was stopped after ${FILE_SECONDS_MAX} s\n`;
      child.kill('SIGKILL');
    }, FILE_SECONDS_MAX * 1000);
    child.on('close', (status) => {
      clearTimeout(watchdog);
      resolve({ status, output });
    });
  });
}

function count(output, word) {
  const matches = [...output.matchAll(new RegExp(`^\\W* ${word} (\\d+)$`, 'gm'))];
  return matches.length ? Number(matches.at(-1)[1]) : 0;
}
