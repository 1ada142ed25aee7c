// The agent's files: its keys, who it is to the coordinator, and the last map that it was told. All of them 0600.

import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Snapshot } from '../client.js';
import { GhostwireError } from '../errors.js';
import { makeKeyPair, type KeyPair } from './wireguard.js';

/** Who this machine is. */
export interface Identity {
  readonly server: string;
  readonly fingerprint?: string | undefined;
  readonly insecure?: boolean | undefined;
  readonly id: string;
  /** The peer's bearer token. */
  readonly token: string;
  readonly publicKey: string;
  /** The prefixes of the network that it joined; it stays in this one. */
  readonly pools?: readonly [string, string];
}

/** What `up` was told, so that the next start does the same. */
export interface Settings {
  readonly interface: string;
  readonly port: number;
  readonly acceptRoutes: boolean;
  readonly exitNode?: string;
  readonly advertise: readonly string[];
  readonly dns: boolean;
}

/** What was changed on the host and has to be put back. */
export interface Undo {
  readonly interface: string;
  /** Kernel settings by path. */
  readonly kernel?: Readonly<Record<string, string>>;
  /** How names were set up: through systemd-resolved, or in this file, whose text was. */
  readonly resolver?: { readonly kind: 'resolved' } | { readonly kind: 'file'; readonly path: string; readonly before: string };
}

const FILES = { identity: 'identity.json', settings: 'settings.json', undo: 'undo.json', netmap: 'netmap.json' } as const;
const KEY = 'private.key';

export class AgentState {
  readonly folder: string;

  /** @throws GhostwireError ERR_AGENT_STATE */
  constructor(folder: string) {
    this.folder = folder;
    this.#attempt(() => {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      chmodSync(folder, 0o700);
    });
  }

  get socket(): string {
    return join(this.folder, 'agent.sock');
  }

  get log(): string {
    return join(this.folder, 'agent.log');
  }

  get keyFile(): string {
    return join(this.folder, KEY);
  }

  readonly identity = this.#file<Identity>(FILES.identity);
  readonly settings = this.#file<Settings>(FILES.settings);
  readonly undo = this.#file<Undo>(FILES.undo);
  readonly netmap = this.#file<Snapshot>(FILES.netmap);

  /** The key pair whose private half is in the key file; made when there is none. It goes nowhere else. */
  key(): KeyPair {
    const known = this.#read(`${KEY}.pub`)?.trim();
    const privateKey = this.#read(KEY)?.trim();
    if (privateKey !== undefined && known !== undefined) return { privateKey, publicKey: known };
    const made = makeKeyPair();
    this.#write(KEY, `${made.privateKey}\n`);
    this.#write(`${KEY}.pub`, `${made.publicKey}\n`);
    return made;
  }

  /** A key pair to change to, kept beside the present one until `adoptKey`: the coordinator may have taken it before a crash. */
  nextKey(): KeyPair {
    const known = this.#read(`${KEY}.next.pub`)?.trim();
    const privateKey = this.#read(`${KEY}.next`)?.trim();
    if (privateKey !== undefined && known !== undefined) return { privateKey, publicKey: known };
    const made = makeKeyPair();
    this.#write(`${KEY}.next`, `${made.privateKey}\n`);
    this.#write(`${KEY}.next.pub`, `${made.publicKey}\n`);
    return made;
  }

  /** Whether the key that was to come is this one. */
  isNext(publicKey: string): boolean {
    return this.#read(`${KEY}.next.pub`)?.trim() === publicKey;
  }

  /** Makes the next key the present one. */
  adoptKey(): void {
    this.#attempt(() => {
      renameSync(join(this.folder, `${KEY}.next`), join(this.folder, KEY));
      renameSync(join(this.folder, `${KEY}.next.pub`), join(this.folder, `${KEY}.pub`));
    });
  }

  /** Forgets everything. */
  forget(): void {
    // Not the folder itself: it may be a mount.
    this.#attempt(() => readdirSync(this.folder).forEach((name) => rmSync(join(this.folder, name), { recursive: true, force: true })));
  }

  #file<T>(name: string): { read(): T | undefined; write(value: T): void; remove(): void } {
    return {
      read: () => {
        const text = this.#read(name);
        try {
          return text === undefined ? undefined : (JSON.parse(text) as T);
        } catch {
          return undefined;
        }
      },
      write: (value) => this.#write(name, JSON.stringify(value)),
      remove: () => this.#attempt(() => rmSync(join(this.folder, name), { force: true })),
    };
  }

  #read(name: string): string | undefined {
    try {
      return readFileSync(join(this.folder, name), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw this.#failure(error);
    }
  }

  /** Whole or not at all. */
  #write(name: string, text: string): void {
    this.#attempt(() => {
      const path = join(this.folder, name);
      writeFileSync(`${path}.tmp`, text, { mode: 0o600, flush: true });
      renameSync(`${path}.tmp`, path);
    });
  }

  #attempt(work: () => void): void {
    try {
      work();
    } catch (error) {
      throw this.#failure(error);
    }
  }

  #failure(cause: unknown): GhostwireError {
    return new GhostwireError('ERR_AGENT_STATE', `${this.folder}: ${(cause as Error).message}`, { folder: this.folder }, { cause });
  }
}
