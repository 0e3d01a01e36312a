// A device as an application writes it, with the unmodified azure-iot-device over AMQP and tokens of one minute.
//
//     node soak-device.js CONNECTION_STRING
//
// It sends all the time, answers calls of methods, and prints a JSON line for each thing that happens to it;
// conformance/python/soak.py judges them. It ends when its standard input does.

import device from 'azure-iot-device';
import amqp from 'azure-iot-device-amqp';
import { setTimeout as pause } from 'node:timers/promises';

const TOKEN_SECONDS = 60;
// Renewed after 20 s, so that it happens between two restarts in three minutes.
const RENEWAL_MARGIN_SECONDS = 40;
const PAUSE_MILLISECONDS = 200;

const authentication = device.SharedAccessKeyAuthenticationProvider.fromConnectionString(
  process.argv[2],
  TOKEN_SECONDS,
  RENEWAL_MARGIN_SECONDS,
);
authentication.on('newTokenAvailable', () => say('renewed'));
const client = device.Client.fromAuthenticationProvider(authentication, amqp.Amqp);
// A device whose connection is gone for longer than the SDK waits opens it again.
client.on('disconnect', (reason) => {
  say('failed', { error: `disconnected: ${reason}` });
  client.open().catch((error) => say('failed', { error: String(error) }));
});

await client.open();
client.on('message', (message) => {
  say('received', { id: message.messageId });
  client.complete(message).catch((error) => say('failed', { error: `complete: ${error}` }));
});
client.onDeviceMethod('echo', (request, response) => {
  say('called', { step: request.payload.step });
  response.send(200, request.payload).catch((error) => say('failed', { error: `answer: ${error}` }));
});
const twin = await client.getTwin();
let first = true;
twin.on('properties.desired', (patch) => {
  // The SDK begins with the whole of them.
  if (!first) say('desired', { step: patch.step });
  first = false;
});
say('ready');

let over = false;
process.stdin.resume().on('end', () => (over = true));
for (let number = 1; !over; number += 1) {
  const begun = Date.now() / 1000;
  const message = new device.Message(`${number}`);
  message.messageId = `${number}`;
  try {
    await client.sendEvent(message);
    say('sent', { id: message.messageId, begun });
  } catch (error) {
    say('failed', { error: String(error), id: message.messageId, begun });
  }
  await pause(PAUSE_MILLISECONDS);
}
say('over');
process.exit(0);

function say(what, facts = {}) {
  process.stdout.write(`${JSON.stringify({ is: what, at: Date.now() / 1000, ...facts })}\n`);
}
