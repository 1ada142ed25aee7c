// The server's certificate: where it comes from, its fingerprint, and how a changed one is noticed.
//
// A fingerprint is `sha256:` and the SHA-256 of the certificate's public key (SubjectPublicKeyInfo, as RFC 7469 has it) in
// base64url: it stays when a certificate is renewed for the same key.

import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import type { Config } from './config.js';
import { GhostwireError } from './errors.js';
import type { Logger } from './log.js';

/** Both PEM; the server's own certificate is the first of the chain. */
export interface Certificate {
  readonly chain: string;
  readonly key: string;
}

export interface TlsFiles {
  readonly chain: string;
  readonly key: string;
}

export const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host);

export function fingerprintOf(certificate: X509Certificate): string {
  const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
  return `sha256:${createHash('sha256').update(spki).digest('base64url')}`;
}

export const isFingerprint = (text: string): boolean => /^sha256:[A-Za-z0-9_-]{43}$/.test(text);

/**
 * The files to serve with; undefined for plain text, which is for loopback and for those who insist.
 * @param make makes a certificate for names and addresses
 * @throws GhostwireError ERR_CERTIFICATE, ERR_CONFIG
 */
export function tlsFiles({ server, database }: Config, make: (names: readonly string[]) => Certificate): TlsFiles | undefined {
  if ((server.tls_certificate === '') !== (server.tls_key === ''))
    throw new GhostwireError('ERR_CONFIG', 'server.tls_certificate and server.tls_key belong together');
  if (server.tls_certificate !== '') return { chain: server.tls_certificate, key: server.tls_key };
  if (server.insecure || isLoopback(server.host)) return undefined;
  const folder = database.path === ':memory:' ? '.' : dirname(database.path);
  const files = { chain: join(folder, 'ghostwire-tls.pem'), key: join(folder, 'ghostwire-tls.key') };
  if (!existsSync(files.chain)) {
    const named = [server.public_url, server.public_sync_url].filter((url) => URL.canParse(url)).map((url) => new URL(url).hostname);
    const names = [...named, server.host, hostname(), 'localhost'].filter((name) => !['', '0.0.0.0', '::'].includes(name));
    const made = make([...new Set(names.map((name) => name.replace(/^\[|\]$/g, '')))]);
    mkdirSync(folder, { recursive: true });
    // The key first: a chain without its key would not be made again.
    writeFileSync(files.key, made.key, { mode: 0o600 });
    writeFileSync(files.chain, made.chain, { mode: 0o644 });
  }
  return files;
}

/** @throws GhostwireError ERR_CERTIFICATE */
export function readCertificate(files: TlsFiles): { readonly certificate: Certificate; readonly fingerprint: string } {
  try {
    const certificate = { chain: readFileSync(files.chain, 'utf8'), key: readFileSync(files.key, 'utf8') };
    const first = new X509Certificate(certificate.chain);
    if (!first.checkPrivateKey(createPrivateKey(certificate.key))) throw new Error('the key is not that of the certificate');
    return { certificate, fingerprint: fingerprintOf(first) };
  } catch (cause) {
    throw new GhostwireError('ERR_CERTIFICATE', `${files.chain}, ${files.key}: ${(cause as Error).message}`, { ...files }, { cause });
  }
}

/** How often the files are looked at; tools that renew replace them in many ways, which watching would have to know. */
const LOOK_EVERY = 2_000;

/** Calls `use` when the files have changed and hold a certificate that works. Until the function returned is called. */
export function watchCertificate(files: TlsFiles, log: Logger, use: (certificate: Certificate) => void): () => void {
  const stamp = (): string => {
    try {
      return [files.chain, files.key].map((path) => `${statSync(path).mtimeMs}/${statSync(path).ino}`).join();
    } catch {
      return '';
    }
  };
  let seen = stamp();
  let refused = '';
  const look = (): void => {
    const now = stamp();
    if (now === seen || now === '') return;
    try {
      const { certificate, fingerprint } = readCertificate(files);
      use(certificate);
      seen = now;
      log.info({ fingerprint }, 'the certificate was reloaded');
    } catch (error) {
      // Half written, mostly: it is looked at again, and complained of once.
      if (refused !== now) log.error({ err: error }, 'the new certificate cannot be used; the old one stays');
      refused = now;
    }
  };
  const timer = setInterval(look, LOOK_EVERY);
  timer.unref();
  process.on('SIGHUP', look);
  return () => {
    clearInterval(timer);
    process.off('SIGHUP', look);
  };
}
