// Sockets for the tests of sync: a raw peer, a link that can be cut, a server that says whatever it is told to.

import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { WebSocket, WebSocketServer } from 'ws';

/** A peer that takes down what it is told. */
export class RawPeer {
  readonly socket: WebSocket;
  readonly #messages: unknown[] = [];
  #wake: () => void = () => undefined;
  closed: number | undefined;

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on('message', (data) => {
      this.#messages.push(JSON.parse((data as Buffer).toString()));
      this.#wake();
    });
    socket.on('close', (code) => {
      this.closed = code;
      this.#wake();
    });
    socket.on('error', () => undefined);
  }

  static async connect(port: number, hello: object): Promise<RawPeer> {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/sync`, { perMessageDeflate: false });
    const peer = new RawPeer(socket);
    await once(socket, 'open');
    socket.send(JSON.stringify({ type: 'hello', ...hello }));
    return peer;
  }

  /** The next message, or the close code after the last. */
  async next(): Promise<unknown> {
    while (this.#messages.length === 0) {
      if (this.closed !== undefined) return this.closed;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return this.#messages.shift();
  }
}

/** Passes bytes on to a port, until it is cut. */
export class Link {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async to(target: () => number): Promise<Link> {
    const server = createServer((near) => {
      const far = connect(target(), '127.0.0.1');
      for (const socket of [near, far]) {
        link.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          link.#sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
      }
      near.pipe(far).pipe(near);
    });
    const link = new Link(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return link;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Breaks every connection, without a goodbye. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  close(): void {
    this.#server.close();
    this.cut();
  }
}

/** Answers each hello with the next of its scripts; keeps the hellos. */
export class ScriptedServer {
  readonly hellos: Record<string, unknown>[] = [];
  readonly #server: WebSocketServer;

  private constructor(server: WebSocketServer, scripts: ((socket: WebSocket) => void)[]) {
    this.#server = server;
    server.on('connection', (socket) => {
      socket.on('error', () => undefined);
      socket.once('message', (data) => {
        this.hellos.push(JSON.parse((data as Buffer).toString()) as Record<string, unknown>);
        scripts.shift()?.(socket);
      });
    });
  }

  static async start(...scripts: ((socket: WebSocket) => void)[]): Promise<ScriptedServer> {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    await once(server, 'listening');
    return new ScriptedServer(server, scripts);
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1/sync`;
  }

  close(): void {
    for (const socket of this.#server.clients) socket.terminate();
    this.#server.close();
  }
}
