// Devices as users write them: the unmodified azure-iot-device and its transports.

import device from 'azure-iot-device';
import common from 'azure-iot-common';
import amqp from 'azure-iot-device-amqp';
import mqtt from 'azure-iot-device-mqtt';
import http from 'azure-iot-device-http';
import { readFileSync } from 'node:fs';
import { policyKey, ready, token } from './hub.js';
import { authority, selfSigned } from './certificates.js';

export const { Message, ModuleClient } = device;
export const transports = {
  mqtt: mqtt.Mqtt,
  'mqtt-ws': mqtt.MqttWs,
  amqp: amqp.Amqp,
  'amqp-ws': amqp.AmqpWs,
  http: http.Http,
};
export const credentials = ['device key', 'policy key', 'policy token', 'thumbprint', 'CA-signed'];

// The fields of a registration that admit `credential`, and a function that makes the client.
export function signIn(credential, deviceId) {
  const named = `HostName=${ready.hostname};DeviceId=${deviceId}`;
  switch (credential) {
    case 'device key':
      return { client: (transport, record) => byKey(record, transport) };
    case 'policy key': {
      const text = `${named};SharedAccessKeyName=device;SharedAccessKey=${policyKey('device')}`;
      return { client: (transport) => once(device.Client.fromConnectionString(text, transport)) };
    }
    case 'policy token': {
      const text = token(`${ready.hostname}/devices/${deviceId}`, policyKey('device'), { policy: 'device' });
      return { client: (transport) => once(device.Client.fromSharedAccessSignature(text, transport)) };
    }
    case 'thumbprint': {
      const own = selfSigned(deviceId);
      const x509Thumbprint = { primaryThumbprint: own.sha256, secondaryThumbprint: own.sha256 };
      return {
        fields: { authentication: { type: 'selfSigned', x509Thumbprint } },
        client: (transport) => byCertificate(named, own, transport),
      };
    }
    case 'CA-signed': {
      const issued = authority().issue(deviceId);
      return {
        fields: { authentication: { type: 'certificateAuthority' } },
        client: (transport) => byCertificate(named, issued, transport),
      };
    }
    default:
      throw new Error(`no such credential: ${credential}`);
  }
}

export function byKey(record, transport) {
  const key = record.authentication.symmetricKey.primaryKey;
  const text = `HostName=${ready.hostname};DeviceId=${record.deviceId};SharedAccessKey=${key}`;
  return record.moduleId
    ? once(ModuleClient.fromConnectionString(`${text};ModuleId=${record.moduleId}`, transport))
    : once(device.Client.fromConnectionString(text, transport));
}

async function byCertificate(named, credential, transport) {
  const client = once(device.Client.fromConnectionString(`${named};x509=true`, transport));
  const set = client.setOptions({
    cert: readFileSync(credential.chainFile, 'utf8'),
    key: readFileSync(credential.keyFile, 'utf8'),
  });
  // azure-iot-device-http takes these options at once but never says that it did (dist/http.js, `setOptions`).
  if (transport !== transports.http) await set;
  return client;
}

// A refusal is what the tests want to see, at once and not after four minutes of retries.
function once(client) {
  client.setRetryPolicy(new common.NoRetry());
  return client;
}
