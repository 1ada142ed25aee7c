//! What an index of kind `acl` is asked.

use rusqlite::types::Value;
use zqlite_acl::{PeerId, Query};
use zqlite_cidr::Address;

use crate::index::acl::parse::protocol_of;
use crate::index::cidr::address;
use crate::{Error, ErrorCode, Result};

/// A question about two peers or two addresses.
#[derive(Debug, Clone, Copy)]
pub enum Question {
    /// By their ids.
    Peers(Query<PeerId>),
    /// By themselves.
    Addresses(Query<Address>),
}

impl Question {
    /// Of values as SQL has them: ids of peers or texts of addresses, a protocol by number or name, a port, and a time in
    /// milliseconds since 1970, by default now.
    ///
    /// # Errors
    /// `ERR_TYPE`, `ERR_CIDR_SYNTAX`
    pub fn of(values: &[Value]) -> Result<Self> {
        let wrong = |what: &str| Error::new(ErrorCode::Type, what.to_owned());
        let [source, destination, protocol, port, rest @ ..] = values else {
            return Err(Error::new(ErrorCode::Parameters, "source, destination, protocol and port are needed"));
        };
        let protocol = match protocol {
            Value::Integer(number) => u8::try_from(*number).ok(),
            Value::Text(text) => protocol_of(text),
            _ => None,
        };
        let protocol =
            protocol.ok_or_else(|| wrong("protocol must be a number from 0 to 255, or tcp, udp, icmp or icmpv6"))?;
        let port = match port {
            Value::Integer(number) => u16::try_from(*number).ok(),
            _ => None,
        };
        let port = port.ok_or_else(|| wrong("port must be a number from 0 to 65535"))?;
        let at = match rest.first() {
            None | Some(Value::Null) => now(),
            Some(Value::Integer(at)) => *at,
            Some(_) => return Err(wrong("at must be a number of milliseconds since 1970")),
        };
        match (source, destination) {
            (Value::Integer(source), Value::Integer(destination)) => {
                let peer = |id: i64| PeerId::try_from(id).map_err(|_| wrong("a peer has a number from 0 to 2^32-1"));
                let (source, destination) = (peer(*source)?, peer(*destination)?);
                Ok(Self::Peers(Query { source, destination, protocol, port, at }))
            }
            (Value::Text(source), Value::Text(destination)) => {
                let (source, destination) = (address(source)?, address(destination)?);
                Ok(Self::Addresses(Query { source, destination, protocol, port, at }))
            }
            _ => Err(wrong("source and destination must both be numbers of peers, or both be texts of addresses")),
        }
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
