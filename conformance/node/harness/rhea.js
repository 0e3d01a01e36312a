// AMQP by hand with rhea, for what the SDKs hide.

import assert from 'node:assert/strict';
import rhea from 'rhea';
import { ready } from './hub.js';

// A connection whose every event can be awaited; `use` gets it and it is closed afterwards.
export async function connected(use, options = {}) {
  const container = rhea.create_container({ id: `conformance-${Math.random()}` });
  container.on('error', () => {});
  container.on('disconnected', () => {});
  const connection = container.connect({
    host: ready.hostname,
    hostname: ready.hostname,
    port: ready.ports.amqp,
    transport: 'tls',
    reconnect: false,
    username: 'conformance',
    ...options,
  });
  for (const ending of ['connection_error', 'session_error', 'receiver_error', 'sender_error']) connection.on(ending, () => {});
  await once(connection, 'connection_open');
  try {
    await use(connection);
  } finally {
    connection.close();
  }
}

export function once(emitter, event, ms = 10_000) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event} within ${ms} ms`)), ms);
    emitter.once(event, (context) => {
      clearTimeout(timer);
      resolve(context);
    });
  });
}

// Puts a token on the connection's one pair of `$cbs` links.
export async function putToken(connection, text, id = 'request-1') {
  const { sender, receiver } = (connection.cbs ??= {
    sender: connection.open_sender('$cbs'),
    receiver: connection.open_receiver('$cbs'),
  });
  if (!sender.sendable()) await once(sender, 'sendable');
  const answered = once(receiver, 'message');
  const properties = { operation: 'put-token', type: 'servicebus.windows.net:sastoken', name: 'n' };
  sender.send({ message_id: id, application_properties: properties, body: text });
  const { message } = await answered;
  assert.deepEqual(message.correlation_id, id.value ?? id);
  return message.application_properties;
}

// The condition by which a link is refused or ended.
export function refusal(link) {
  return Promise.race([once(link, 'receiver_error'), once(link, 'sender_error')]).then(
    () => link.error.condition,
  );
}

// The answer of the hub to one message.
export async function outcome(sender, message, format) {
  if (!sender.sendable()) await once(sender, 'sendable');
  const settled = ['accepted', 'rejected', 'released', 'modified'].map((event) =>
    once(sender, event).then(({ delivery }) => ({ event, error: delivery.remote_state?.error })),
  );
  settled.forEach((promise) => promise.catch(() => {}));
  format === undefined ? sender.send(message) : sender.send(message, undefined, format);
  return Promise.race(settled);
}

export async function openSender(connection, address) {
  const sender = connection.open_sender(address);
  const refused = refusal(sender).then((condition) => assert.fail(condition));
  await Promise.race([once(sender, 'sendable'), refused]);
  return sender;
}
