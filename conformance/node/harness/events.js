// Reading telemetry with the unmodified @azure/event-hubs.

import { inspect } from 'node:util';
import { EventHubConsumerClient, earliestEventPosition } from '@azure/event-hubs';
import WebSocket from 'ws';
import { ready } from './hub.js';

export const readerTransports = { AMQP: false, 'AMQP over WebSocket': true };

export function consumer({ webSocket = false, group = '$Default', retries = 1 } = {}) {
  return new EventHubConsumerClient(group, ready.eventhub_connection_string, {
    retryOptions: { maxRetries: retries, retryDelayInMs: 200 },
    ...(webSocket ? { webSocketOptions: { webSocket: WebSocket } } : {}),
  });
}

// Keeps every event from one subscription and answers those who wait for some of them.
export class Reader {
  events = [];
  errors = [];
  #watchers = new Set();

  constructor({ partition, startPosition = earliestEventPosition, client, options, ...clientOptions } = {}) {
    this.client = client ?? consumer(clientOptions);
    const handlers = {
      processEvents: async (events, context) => this.#keep(events, context),
      processError: async (error) => {
        this.errors.push(error);
        this.#watchers.forEach((check) => check());
      },
    };
    const settings = {
      startPosition,
      skipParsingBodyAsJson: true,
      maxBatchSize: 200,
      maxWaitTimeInSeconds: 1,
      ...options,
    };
    this.subscription =
      partition === undefined
        ? this.client.subscribe(handlers, settings)
        : this.client.subscribe(partition, handlers, settings);
  }

  // The first `count` events of a device, past or to come.
  fromDevice(deviceId, count = 1, ms = 20_000) {
    const mine = () => this.events.filter((event) => event.systemProperties['iothub-connection-device-id'] === deviceId);
    return this.#when(() => mine().length >= count && mine().slice(0, count), ms, `${count} events of ${deviceId}`);
  }

  some(count = 1, ms = 20_000) {
    return this.#when(() => this.events.length >= count && this.events, ms, `${count} events`);
  }

  failure(ms = 20_000) {
    return this.#when(() => this.errors[0], ms, 'an error');
  }

  async close() {
    await this.subscription.close();
    await this.client.close();
  }

  #keep(events, context) {
    for (const event of events) {
      this.events.push(Object.assign(event, { partitionId: context.partitionId }));
    }
    this.lastEnqueued = context.lastEnqueuedEventProperties;
    this.#watchers.forEach((check) => check());
  }

  #when(condition, ms, what) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#watchers.delete(check);
        reject(new Error(`no ${what} within ${ms} ms; ${this.events.length} events, errors: ${inspect(this.errors.map((error) => error.message ?? error))}`));
      }, ms);
      const check = () => {
        const result = condition();
        if (!result) return;
        clearTimeout(timer);
        this.#watchers.delete(check);
        resolve(result);
      };
      this.#watchers.add(check);
      check();
    });
  }
}
