// The identity registry through the unmodified azure-iothub: results and error classes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import iothub from 'azure-iothub';
import { newKey, newName, parts, ready, registry, token } from './harness/hub.js';

const rejects = (promise, name, code) =>
  assert.rejects(promise, (error) => {
    assert.equal(error.name, name, `${error.name}: ${error.message}`);
    if (code) assert.match(error.responseBody ?? error.message, new RegExp(code));
    return true;
  });

test('a device is created, read, changed and deleted', async () => {
  const deviceId = newName();
  const { responseBody: created } = await registry.create({ deviceId });
  assert.equal(created.deviceId, deviceId);
  assert.equal(created.status, 'enabled');
  assert.equal(created.authentication.type, 'sas');
  assert.equal(Buffer.from(created.authentication.symmetricKey.primaryKey, 'base64').length, 32);

  const { responseBody: read } = await registry.get(deviceId);
  assert.deepEqual(read, created);

  const { responseBody: updated } = await registry.update({ ...created, status: 'disabled', statusReason: 'why ✓' });
  assert.deepEqual([updated.status, updated.statusReason], ['disabled', 'why ✓']);
  assert.notEqual(updated.etag, created.etag);
  assert.deepEqual(updated.authentication.symmetricKey, created.authentication.symmetricKey);

  await registry.delete(deviceId);
  await rejects(registry.get(deviceId), 'DeviceNotFoundError');
});

test('a device is created with keys, thumbprints or for an authority', async () => {
  const keys = { primaryKey: newKey(), secondaryKey: newKey() };
  const thumbprints = { primaryThumbprint: 'A'.repeat(40), secondaryThumbprint: 'b'.repeat(64) };
  const kinds = {
    sas: { symmetricKey: keys },
    selfSigned: { x509Thumbprint: thumbprints },
    certificateAuthority: { type: 'certificateAuthority' },
  };
  for (const [type, authentication] of Object.entries(kinds)) {
    const { responseBody } = await registry.create({ deviceId: newName(), authentication });
    assert.equal(responseBody.authentication.type, type);
    if (type === 'sas') assert.deepEqual({ ...responseBody.authentication.symmetricKey }, keys);
    if (type === 'selfSigned') {
      assert.equal(responseBody.authentication.x509Thumbprint.primaryThumbprint.toUpperCase(), 'A'.repeat(40));
    }
  }
});

test('devices are listed', async () => {
  const names = [newName(), newName()];
  for (const deviceId of names) await registry.create({ deviceId });
  const { responseBody } = await registry.list();
  const listed = responseBody.map((device) => device.deviceId);
  for (const deviceId of names) assert.ok(listed.includes(deviceId));
});

test('an id that is taken is a DeviceAlreadyExistsError', async () => {
  const deviceId = newName();
  await registry.create({ deviceId });
  await rejects(registry.create({ deviceId }), 'DeviceAlreadyExistsError', 'ErrorCode:DeviceAlreadyExists');
});

test('an update of a device is unconditional, as this SDK sends it', async () => {
  const { responseBody: device } = await registry.create({ deviceId: newName() });
  await registry.update({ ...device, statusReason: 'first' });
  const { responseBody: second } = await registry.update({ ...device, statusReason: 'second' });
  assert.equal(second.statusReason, 'second');
});

test('an illegal id is an ArgumentError', async () => {
  await rejects(registry.create({ deviceId: 'a b' }), 'ArgumentError', 'ErrorCode:ArgumentInvalid');
  await rejects(registry.create({ deviceId: 'a/b' }), 'ArgumentError', 'ErrorCode:ArgumentInvalid');
});

test('odd but legal ids are created, read and deleted', async () => {
  for (const deviceId of ["-._:%*?!(),=@$';", 'plus+#', '50%25', 'x'.repeat(128)]) {
    await registry.create({ deviceId });
    assert.equal((await registry.get(deviceId)).responseBody.deviceId, deviceId);
    await registry.delete(deviceId);
  }
});

test('a wrong key is an UnauthorizedError and an unknown device a DeviceNotFoundError', async () => {
  const wrong = iothub.Registry.fromConnectionString(
    `HostName=${ready.hostname};SharedAccessKeyName=iothubowner;SharedAccessKey=${newKey()}`,
  );
  await rejects(wrong.get(newName()), 'UnauthorizedError');
  await rejects(registry.get(newName()), 'DeviceNotFoundError');
  await rejects(registry.delete(newName()), 'DeviceNotFoundError');
});

test('a policy that may only read cannot write', async () => {
  const reader = iothub.Registry.fromConnectionString(ready.policies.registryRead);
  const { responseBody: device } = await registry.create({ deviceId: newName() });
  assert.equal((await reader.get(device.deviceId)).responseBody.deviceId, device.deviceId);
  await rejects(reader.create({ deviceId: newName() }), 'UnauthorizedError');
  await rejects(reader.delete(device.deviceId), 'UnauthorizedError');
  await rejects(reader.update({ ...device, status: 'disabled' }), 'UnauthorizedError');
});

test('a ready-made token opens the registry', async () => {
  const { SharedAccessKey } = parts(ready.service_connection_string);
  const text = token(ready.hostname, SharedAccessKey, { policy: 'iothubowner' });
  const bearer = iothub.Registry.fromSharedAccessSignature(text);
  assert.ok(Array.isArray((await bearer.list()).responseBody));
});

test('modules are added, listed, changed and removed', async () => {
  const deviceId = newName();
  await registry.create({ deviceId });
  await registry.addModule({ deviceId, moduleId: 'm1', managedBy: 'me' });
  await registry.addModule({ deviceId, moduleId: 'm2' });
  await rejects(registry.addModule({ deviceId, moduleId: 'm1' }), 'DeviceAlreadyExistsError', 'ModuleAlreadyExistsOnDevice');

  const { responseBody: modules } = await registry.getModulesOnDevice(deviceId);
  assert.deepEqual(modules.map((module) => module.moduleId).sort(), ['m1', 'm2']);

  const { responseBody: module } = await registry.getModule(deviceId, 'm1');
  assert.equal(module.managedBy, 'me');
  await registry.updateModule({ ...module, managedBy: 'you' });
  const stale = { ...module, managedBy: 'them' };
  await rejects(registry.updateModule(stale), 'InvalidEtagError', 'ErrorCode:PreconditionFailed');
  assert.equal((await registry.getModule(deviceId, 'm1')).responseBody.managedBy, 'you');
  await registry.updateModule(stale, true);
  assert.equal((await registry.getModule(deviceId, 'm1')).responseBody.managedBy, 'them');

  await registry.removeModule(deviceId, 'm1');
  await assert.rejects(registry.getModule(deviceId, 'm1'), (error) => /ModuleNotFound/.test(error.responseBody));
  assert.equal((await registry.getModulesOnDevice(deviceId)).responseBody.length, 1);
});

test('devices are added, updated and removed in bulk', async () => {
  const devices = Array.from({ length: 5 }, () => ({ deviceId: newName(), status: 'enabled' }));
  const { responseBody: added } = await registry.addDevices(devices);
  assert.equal(added.isSuccessful, true);
  assert.deepEqual(added.errors, []);

  const disabled = devices.map((device) => ({ ...device, status: 'disabled' }));
  assert.equal((await registry.updateDevices(disabled, true)).responseBody.isSuccessful, true);
  for (const { deviceId } of devices) {
    assert.equal((await registry.get(deviceId)).responseBody.status, 'disabled');
  }
  assert.equal((await registry.removeDevices(disabled, true)).responseBody.isSuccessful, true);
  await rejects(registry.get(devices[0].deviceId), 'DeviceNotFoundError');
});

test('a bulk call that fails in part says which', async () => {
  const taken = newName();
  await registry.create({ deviceId: taken });
  const fresh = newName();
  await assert.rejects(registry.addDevices([{ deviceId: taken }, { deviceId: fresh }]), (error) => {
    const body = typeof error.responseBody === 'string' ? JSON.parse(error.responseBody) : error.responseBody;
    assert.equal(body.isSuccessful, false);
    assert.deepEqual(body.errors.map((one) => [one.deviceId, Number(one.errorCode)]), [[taken, 409001]]);
    return error.name === 'ArgumentError';
  });
  assert.equal((await registry.get(fresh)).responseBody.deviceId, fresh);
});

test('the statistics count what is there', async () => {
  const { responseBody: before } = await registry.getRegistryStatistics();
  await registry.create({ deviceId: newName() });
  await registry.create({ deviceId: newName(), status: 'disabled' });
  const { responseBody: after } = await registry.getRegistryStatistics();
  assert.deepEqual(
    ['totalDeviceCount', 'enabledDeviceCount', 'disabledDeviceCount'].map((field) => after[field] - before[field]),
    [2, 1, 1],
  );
});
