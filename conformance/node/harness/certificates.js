// Device certificates, made with the openssl command as device makers do.

import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cli } from './hub.js';

const folder = mkdtempSync(join(tmpdir(), 'holdfast-certificates-'));
let trusted;

export function selfSigned(name) {
  const files = paths(name);
  key(files.keyFile);
  const subject = ['-new', '-key', files.keyFile, '-subj', `/CN=${name}`];
  openssl('req', '-x509', ...subject, '-days', '30', '-out', files.chainFile);
  const certificate = new X509Certificate(readFileSync(files.chainFile));
  return { ...files, sha256: certificate.fingerprint256.replaceAll(':', '') };
}

// An intermediate below a root that the hub was told to trust.
export function authority() {
  trusted ??= makeAuthority();
  return trusted;
}

function makeAuthority() {
  const root = paths('root');
  const middle = paths('middle');
  key(root.keyFile);
  key(middle.keyFile);
  openssl('req', '-x509', '-new', '-key', root.keyFile, '-subj', '/CN=node root', '-days', '30', '-out', root.chainFile);
  sign('node intermediate', middle, root, 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n');
  cli('certificate', 'add', root.chainFile, '--verified');
  return {
    issue(name) {
      const files = paths(name);
      key(files.keyFile);
      sign(name, files, middle, 'basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n');
      writeFileSync(files.chainFile, readFileSync(files.chainFile, 'utf8') + readFileSync(middle.chainFile, 'utf8'));
      return files;
    },
  };
}

function sign(name, subject, issuer, extensions) {
  const request = join(folder, `${name}.csr`);
  const extensionFile = join(folder, `${name}.ext`);
  writeFileSync(extensionFile, extensions);
  openssl('req', '-new', '-key', subject.keyFile, '-subj', `/CN=${name}`, '-out', request);
  const by = ['-CA', issuer.chainFile, '-CAkey', issuer.keyFile, '-CAcreateserial', '-days', '30'];
  openssl('x509', '-req', '-in', request, ...by, '-extfile', extensionFile, '-out', subject.chainFile);
}

function paths(name) {
  return { keyFile: join(folder, `${name}.key`), chainFile: join(folder, `${name}.pem`) };
}

function key(file) {
  openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', file);
}

function openssl(...args) {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'], timeout: 30_000 });
}
