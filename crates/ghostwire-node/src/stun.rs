//! STUN as JavaScript objects.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ghostwire_stun::{ProbeError, Responder};
use ghostwire_sync::SyncError;
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::guard::{Code, from_sync, guard};
use crate::number::count;

/// A port that answers Binding requests.
#[napi]
pub struct NativeStun {
    responder: Responder,
}

/// Starts a responder; port 0 takes a free one.
#[napi]
pub fn start_stun(host: String, port: f64) -> napi::Result<NativeStun, Code> {
    guard(|| {
        let invalid = |option, reason| from_sync(SyncError::InvalidOption { option, reason });
        let ip: IpAddr = host.parse().map_err(|_| invalid("host", format!("{host:?} is no IP address")))?;
        let port = u16::try_from(count("port", port)?);
        let port = port.map_err(|_| invalid("port", "it is not 0 to 65535".into()))?;
        let address = SocketAddr::new(ip, port);
        let responder = Responder::start(address).map_err(|source| {
            from_sync(match source.kind() {
                io::ErrorKind::AddrInUse => SyncError::PortTaken { address, source },
                _ => SyncError::Listen { address, source },
            })
        })?;
        Ok(NativeStun { responder })
    })
}

#[napi]
impl NativeStun {
    #[napi(getter)]
    pub fn port(&self) -> u16 {
        self.responder.address().port()
    }

    #[napi]
    pub fn stop(&mut self) {
        self.responder.stop();
    }
}

/// The address under which `server` (`address:port`) sees UDP packets that this host sends from `port`.
#[napi(ts_return_type = "Promise<string>")]
pub fn stun_probe(server: String, port: u16, patience_ms: u32) -> AsyncTask<Probe> {
    AsyncTask::new(Probe { server, port, patience: Duration::from_millis(patience_ms.into()) })
}

/// Asks off the JavaScript thread.
pub struct Probe {
    server: String,
    port: u16,
    patience: Duration,
}

impl Task for Probe {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> napi::Result<String> {
        let server: SocketAddr = self
            .server
            .parse()
            .map_err(|_| napi::Error::from_reason(format!("{:?} is not address:port", self.server)))?;
        ghostwire_stun::probe(server, self.port, self.patience)
            .map(|address| address.to_string())
            .map_err(|error: ProbeError| napi::Error::from_reason(error.to_string()))
    }

    fn resolve(&mut self, _: Env, address: String) -> napi::Result<String> {
        Ok(address)
    }
}
