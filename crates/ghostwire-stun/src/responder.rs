//! A UDP port that answers Binding requests, on a thread of its own.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::binding::{LARGEST, answer};

/// How soon a stop is noticed.
const LOOK_UP: Duration = Duration::from_millis(200);

/// A running responder. It keeps no state about anybody, and ends when it is dropped.
#[derive(Debug)]
pub struct Responder {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Answers on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// Those of the socket, `AddrInUse` for a port that is taken.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Builder::new().name("ghostwire-stun".into()).spawn(move || serve(&socket, &stopped))?;
        tracing::info!(%address, "the STUN port is open");
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Frees the port. Later calls do nothing.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(socket: &UdpSocket, stopped: &AtomicBool) {
    // One byte more, so that what is too long shows.
    let mut datagram = [0; LARGEST + 1];
    while !stopped.load(Ordering::Relaxed) {
        // A timeout; or an ICMP error about an earlier answer, which is nobody's concern.
        let Ok((length, source)) = socket.recv_from(&mut datagram) else { continue };
        let known = SocketAddr::new(source.ip().to_canonical(), source.port());
        if let Some(answered) = datagram.get(..length).and_then(|datagram| answer(datagram, known)) {
            let _ = socket.send_to(&answered, source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mapped_address, request};

    #[test]
    fn tells_a_socket_its_own_address() {
        let mut responder = Responder::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(b"nonsense", responder.address()).unwrap();
        let (asked, transaction) = request();
        socket.send_to(&asked, responder.address()).unwrap();
        let mut datagram = [0; 600];
        let length = socket.recv(&mut datagram).unwrap();
        assert_eq!(mapped_address(&datagram[..length], transaction), Some(socket.local_addr().unwrap()));
        responder.stop();
        UdpSocket::bind(responder.address()).unwrap();
    }
}
