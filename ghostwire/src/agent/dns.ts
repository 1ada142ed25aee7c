// Names of the network: `<host>.<domain>`, their addresses and back, answered on this host's own address. What belongs to
// other domains is handed on to the resolvers that the host had before, or refused where there are none.

import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import { AUTHORITATIVE_ANSWER, decode, encode, RECURSION_AVAILABLE, type Answer, type Packet } from 'dns-packet';
import { parseIpv6 } from '../addresses/ip.js';
import type { Logger } from '../log.js';

/** Seconds that an answer may be kept: a host can be replaced under its name. */
const TTL = 5;
/** Questions that others are asked on our behalf at a time. */
const UNDER_WAY = 512;
const PATIENCE = 5_000;
/** RFC 1035 and RFC 6891: what is asked for more than this is answered with the name alone. */
const LARGEST = 1_232;

const NXDOMAIN = 3;
const REFUSED = 5;
const SERVFAIL = 2;

export interface Names {
  readonly domain: string;
  /** Addresses by name without the domain. */
  readonly names: ReadonlyMap<string, readonly string[]>;
}

/**
 * The answer of the network itself; undefined when the question is not of its domain. Pure.
 */
export function answer(question: Packet, { domain, names }: Names): Packet | undefined {
  const [asked] = question.questions ?? [];
  if (asked === undefined) return undefined;
  const name = asked.name.toLowerCase().replace(/\.$/, '');
  const reply = (answers: Answer[], code = 0): Packet => ({
    type: 'response',
    id: question.id ?? 0,
    flags: AUTHORITATIVE_ANSWER | RECURSION_AVAILABLE | ((question.flags ?? 0) & 0x0100) | code,
    questions: [asked],
    answers,
  });
  if (name.endsWith('.arpa')) {
    for (const [host, addresses] of names)
      for (const address of addresses)
        if (reverse(address) === name)
          return reply(asked.type === 'PTR' ? [{ type: 'PTR', name: asked.name, ttl: TTL, data: `${host}.${domain}` }] : []);
    return undefined;
  }
  if (name !== domain && !name.endsWith(`.${domain}`)) return undefined;
  const addresses = name === domain ? [] : names.get(name.slice(0, -domain.length - 1));
  if (addresses === undefined) return reply([], NXDOMAIN);
  const type = asked.type;
  if (type !== 'A' && type !== 'AAAA') return reply([]);
  const fitting = addresses.filter((address) => isIPv6(address) === (type === 'AAAA'));
  return reply(fitting.map((data) => ({ type, name: asked.name, ttl: TTL, data })));
}

function reverse(address: string): string {
  const value = parseIpv6(address);
  if (value === undefined) return `${address.split('.').reverse().join('.')}.in-addr.arpa`;
  return `${value.toString(16).padStart(32, '0').split('').reverse().join('.')}.ip6.arpa`;
}

export class DnsResponder {
  readonly #log: Logger;
  readonly #names: () => Names;
  #sockets: Socket[] = [];
  #under = 0;
  /** Where the rest is asked; none: refused. */
  upstream: readonly string[] = [];

  constructor(names: () => Names, log: Logger) {
    this.#names = names;
    this.#log = log;
  }

  /** Answers on port 53 of these addresses. @throws when none of them can be bound */
  async listen(addresses: readonly string[], port = 53): Promise<void> {
    await this.close();
    for (const address of addresses) {
      const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
      socket.on('message', (message, from) => this.#take(socket, message, from));
      await new Promise<void>((resolve, reject) => {
        socket.once('error', reject);
        socket.bind(port, address, resolve);
      });
      socket.removeAllListeners('error').on('error', (error) => this.#log.debug({ err: error }, 'DNS socket'));
      this.#sockets.push(socket);
    }
  }

  async close(): Promise<void> {
    const sockets = this.#sockets.splice(0);
    await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))));
  }

  #take(socket: Socket, message: Buffer, from: RemoteInfo): void {
    let question: Packet;
    try {
      question = decode(message);
      if (question.type !== 'query' || question.questions?.length !== 1) return;
      const known = answer(question, this.#names());
      if (known !== undefined) {
        this.#send(socket, known, from);
        return;
      }
    } catch {
      // Nonsense has no answer.
      return;
    }
    // What is not the network's is for this host alone: no peer gets a resolver out of it.
    const [server] = from.address === socket.address().address ? this.upstream : [];
    if (server === undefined || this.#under >= UNDER_WAY) {
      const { id = 0, questions = [] } = question;
      this.#send(socket, { type: 'response', id, flags: server === undefined ? REFUSED : SERVFAIL, questions }, from);
    } else this.#forward(server, message, (reply) => socket.send(reply, from.port, from.address));
  }

  #send(socket: Socket, packet: Packet, from: RemoteInfo): void {
    const bytes = encode(packet);
    socket.send(bytes.length <= LARGEST ? bytes : encode({ ...packet, answers: [] }), from.port, from.address);
  }

  /** As it came, from a port of its own, which nobody can guess. */
  #forward(server: string, message: Buffer, done: (reply: Buffer) => void): void {
    const socket = createSocket(isIPv6(server) ? 'udp6' : 'udp4');
    this.#under += 1;
    const timer = setTimeout(() => socket.close(), PATIENCE);
    socket.once('close', () => {
      clearTimeout(timer);
      this.#under -= 1;
    });
    socket.on('error', () => socket.close());
    socket.on('message', (reply) => {
      if (reply.length < 2 || reply.readUInt16BE(0) !== message.readUInt16BE(0)) return;
      done(reply);
      socket.close();
    });
    socket.connect(53, server, () => socket.send(message));
  }
}

