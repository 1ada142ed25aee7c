//! Asks for the public address of a UDP port that another program owns.
//!
//! The request leaves through a raw socket with that port as its source, so it takes the same way through every NAT as the
//! owner's packets. The kernel hands the answer to the owner, which drops what it does not understand (WireGuard looks at
//! the first byte), and a copy to every raw socket: that copy is read here. Needs CAP_NET_RAW.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;

use crate::binding::{mapped_address, request};

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// A raw socket could not be made or used: mostly for lack of CAP_NET_RAW.
    #[error("a raw socket failed: {0}")]
    Socket(#[from] io::Error),
    /// Nobody answered in time.
    #[error("{server} did not answer within {} ms", .waited.as_millis())]
    Silent {
        /// Who was asked.
        server: SocketAddr,
        /// How long was waited.
        waited: Duration,
    },
}

/// RFC 8489, section 6.2.1: the first retransmission, doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const UDP_HEADER: usize = 8;

/// The address under which `server` sees UDP packets that this host sends from `port`.
///
/// # Errors
/// [`ProbeError::Socket`], [`ProbeError::Silent`] after `patience`.
pub fn probe(server: SocketAddr, port: u16, patience: Duration) -> Result<SocketAddr, ProbeError> {
    let began = Instant::now();
    let raw = Socket::new(Domain::for_address(server), Type::RAW, Some(Protocol::UDP))?;
    // A raw socket reads all UDP of the host; connected, only what comes from the server.
    raw.connect(&SockAddr::from(SocketAddr::new(server.ip(), 0)))?;
    let (asked, transaction) = request();
    let packet = packet(source(server)?, server, port, &asked);
    let mut wait = FIRST_WAIT;
    let mut buffer = [0; 2048];
    loop {
        raw.send(&packet)?;
        let resend = Instant::now() + wait;
        wait *= 2;
        loop {
            let left = resend.min(began + patience).saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            raw.set_read_timeout(Some(left))?;
            let length = match (&raw).read(&mut buffer) {
                Ok(length) => length,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // An ICMP error about what was sent: the next attempt may fare better.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error.into()),
            };
            let data = buffer.get(..length).and_then(|bytes| payload(bytes, server, port));
            if let Some(address) = data.and_then(|data| mapped_address(data, transaction)) {
                return Ok(address);
            }
        }
        if began.elapsed() >= patience {
            return Err(ProbeError::Silent { server, waited: patience });
        }
    }
}

/// The address that this host sends to `server` from. Connecting a UDP socket sends nothing.
fn source(server: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip())
}

/// A UDP header (RFC 768) and `data`.
fn packet(source: IpAddr, server: SocketAddr, port: u16, data: &[u8]) -> Vec<u8> {
    let length = (UDP_HEADER + data.len()) as u16;
    let mut packet = Vec::with_capacity(usize::from(length));
    packet.extend(port.to_be_bytes());
    packet.extend(server.port().to_be_bytes());
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(data);
    let sum = checksum(source, server.ip(), &packet);
    packet[6..UDP_HEADER].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The Internet checksum (RFC 1071) over the pseudo header and the packet.
fn checksum(source: IpAddr, destination: IpAddr, packet: &[u8]) -> u16 {
    let mut bytes = Vec::with_capacity(40 + packet.len());
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend((packet.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, 17]);
    bytes.extend(packet);
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Zero would mean that there is none.
    if sum == 0xffff { 0xffff } else { !(sum as u16) }
}

/// The data of a UDP packet from `server` to `port`. IPv4 raw sockets give the IP header too.
fn payload(bytes: &[u8], server: SocketAddr, port: u16) -> Option<&[u8]> {
    let udp = if server.is_ipv4() { bytes.get(usize::from(bytes.first()? & 0xf) * 4..)? } else { bytes };
    let word = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
    if word(0)? != server.port() || word(2)? != port {
        return None;
    }
    udp.get(UDP_HEADER..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Responder;

    #[test]
    fn a_checksum_makes_the_sum_all_ones() {
        let (source, server) = ("192.0.2.1".parse().unwrap(), "198.51.100.2:3478".parse().unwrap());
        let made = packet(source, server, 51820, b"odd");
        assert_eq!(made.len(), 11);
        // Summed with its own checksum in place the result is zero, which is sent as all ones.
        assert_eq!(checksum(source, server.ip(), &made), 0xffff);
        assert_eq!(payload(&made, "[::1]:3478".parse().unwrap(), 51820), None);
    }

    #[test]
    fn asks_in_the_name_of_a_port_that_is_in_use() {
        let owner = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = owner.local_addr().unwrap().port();
        let responder = Responder::start("127.0.0.1:0".parse().unwrap()).unwrap();
        match probe(responder.address(), port, Duration::from_secs(3)) {
            Ok(address) => assert_eq!(address, owner.local_addr().unwrap()),
            Err(ProbeError::Socket(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("SKIPPED: raw sockets need CAP_NET_RAW");
            }
            Err(error) => panic!("{error}"),
        }
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent = probe(nobody.local_addr().unwrap(), port, Duration::from_millis(100));
        assert!(silent.is_err());
    }
}
