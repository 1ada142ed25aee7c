// Traffic for the end-to-end tests, on a machine of the lab. What it does is its first argument.
//
//   serve PORT...     TCP: echoes, and sends a tick every 50 ms. UDP: sends ticks to whoever has sent something.
//   connect HOST PORT ends with 0 when a TCP connection is made and answered within 1.5 s, else 1
//   stream HOST PORT  prints a line for each tick received over TCP, until the end
//   datagrams HOST PORT  the same over UDP, after one datagram of its own
import { createSocket } from 'node:dgram'
import { connect, createServer } from 'node:net'

const [mode, host, ...rest] = process.argv.slice(2)
const port = Number(rest[0])
const say = () => process.stdout.write(`${Date.now()}\n`)

if (mode === 'serve') {
  for (const text of [host, ...rest]) {
    createServer((socket) => {
      const timer = setInterval(() => socket.write('tick'), 50)
      socket.on('data', (data) => socket.write(data))
      socket.on('error', () => undefined)
      socket.on('close', () => clearInterval(timer))
    }).listen(Number(text), '::')
    const udp = createSocket('udp6')
    udp.on('message', (_, { port: from, address }) => setInterval(() => udp.send('tick', from, address), 50))
    udp.on('error', () => undefined)
    udp.bind(Number(text))
  }
  process.stdout.write('serving\n')
} else if (mode === 'connect') {
  setTimeout(() => process.exit(1), 1_500)
  const socket = connect(port, host, () => socket.write('hello'))
  socket.on('data', () => process.exit(0))
  socket.on('error', () => process.exit(1))
} else if (mode === 'stream') {
  connect(port, host).on('data', say).on('error', () => process.exit(1))
} else if (mode === 'datagrams') {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  socket.on('message', say)
  socket.send('begin', port, host)
}
