//! The server: its options, its listener, its threads, and an end to all of them.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::hub::{Hub, Presence};
use crate::metrics::{Metrics, count};
use crate::tls::{Certificate, Tls};
use crate::{Batch, Handle, SyncError, connection};

/// Connections that the kernel holds until they are accepted. After an outage everybody comes back at once.
const BACKLOG: i32 = 4096;
/// Unsent bytes that the kernel takes for one peer. What waits there is out of date by the time it goes out.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;

/// How a server behaves. [`Options::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Names the history that revisions belong to. A client of another epoch is sent a full map.
    pub epoch: String,
    /// Open sockets; more are turned away with HTTP status 503. 65,536 by default.
    pub max_connections: usize,
    /// Open sockets that have not said a valid hello. 4,096 by default.
    pub max_handshakes: usize,
    /// Outstanding tokens. 65,536 by default.
    pub max_tokens: usize,
    /// The largest message that a peer may send. 4 KiB by default.
    pub max_hello_bytes: usize,
    /// From accepting the socket to its hello. 5 s by default.
    pub hello_deadline: Duration,
    /// How long a peer may go without reading while there is something to send. 30 s by default.
    pub write_deadline: Duration,
    /// 30 s by default.
    pub ping_every: Duration,
    /// Silence after which a peer counts as gone; looked at with every ping. 60 s by default.
    pub dead_after: Duration,
    /// For [`SyncServer::stop`] to say goodbye to everyone. 5 s by default.
    pub stop_deadline: Duration,
    /// Serves TLS 1.3, and nothing else, with this certificate. None by default: plain.
    pub certificate: Option<Certificate>,
    /// Worker threads. 2 by default.
    pub threads: usize,
}

impl Options {
    /// The defaults, for listening on `address` with the history `epoch`.
    pub fn new(address: SocketAddr, epoch: impl Into<String>) -> Self {
        Self {
            address,
            epoch: epoch.into(),
            max_connections: 65_536,
            max_handshakes: 4096,
            max_tokens: 65_536,
            max_hello_bytes: 4096,
            hello_deadline: Duration::from_secs(5),
            write_deadline: Duration::from_secs(30),
            ping_every: Duration::from_secs(30),
            dead_after: Duration::from_secs(60),
            stop_deadline: Duration::from_secs(5),
            certificate: None,
            threads: 2,
        }
    }

    fn check(&self) -> Result<(), SyncError> {
        let limits: [(&'static str, usize, usize, usize); 5] = [
            ("maxConnections", self.max_connections, 1, 1 << 24),
            ("maxHandshakes", self.max_handshakes, 1, 1 << 24),
            ("maxTokens", self.max_tokens, 1, 1 << 24),
            ("maxHelloBytes", self.max_hello_bytes, 256, 1 << 20),
            ("threads", self.threads, 1, 64),
        ];
        for (option, value, low, high) in limits {
            if !(low..=high).contains(&value) {
                return Err(SyncError::InvalidOption { option, reason: format!("{value} is not {low} to {high}") });
            }
        }
        let times = [
            ("helloDeadlineMs", self.hello_deadline),
            ("writeDeadlineMs", self.write_deadline),
            ("pingEveryMs", self.ping_every),
            ("deadAfterMs", self.dead_after),
            ("stopDeadlineMs", self.stop_deadline),
        ];
        for (option, value) in times {
            if value.is_zero() || value > Duration::from_secs(3600) {
                let reason = format!("{} ms is not above 0 and at most an hour", value.as_millis());
                return Err(SyncError::InvalidOption { option, reason });
            }
        }
        if self.epoch.is_empty() || self.epoch.len() > 128 {
            let reason = format!("{} bytes are not 1 to 128", self.epoch.len());
            return Err(SyncError::InvalidOption { option: "epoch", reason });
        }
        Ok(())
    }
}

/// A running server. Dropping it closes every socket at once; [`SyncServer::stop`] says goodbye first.
#[derive(Debug)]
pub struct SyncServer {
    hub: Arc<Hub>,
    tls: Option<Arc<Tls>>,
    address: SocketAddr,
    /// None once stopped.
    runtime: Mutex<Option<Runtime>>,
}

impl SyncServer {
    /// Listens and serves, on threads of its own.
    ///
    /// # Errors
    /// [`SyncError::PortTaken`], [`SyncError::Listen`], [`SyncError::InvalidOption`], [`SyncError::System`].
    pub fn start(options: Options) -> Result<Self, SyncError> {
        options.check()?;
        let tls = options.certificate.as_ref().map(Tls::new).transpose()?.map(Arc::new);
        let listener = listen(options.address).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => SyncError::PortTaken { address: options.address, source },
            _ => SyncError::Listen { address: options.address, source },
        })?;
        let address = listener.local_addr().map_err(SyncError::System)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(options.threads)
            .thread_name("ghostwire-sync")
            .enable_io()
            .enable_time()
            .build()
            .map_err(SyncError::System)?;
        let hub = Arc::new(Hub::new(options));
        {
            let _in_runtime = runtime.enter();
            let listener = TcpListener::from_std(listener).map_err(SyncError::System)?;
            runtime.spawn(accept(listener, Arc::clone(&hub), tls.clone()));
            runtime.spawn(Arc::clone(&hub).flush());
        }
        tracing::info!(%address, "peers' sync port is open");
        Ok(Self { hub, tls, address, runtime: Mutex::new(Some(runtime)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Uses another certificate for connections from now on; those that stand keep theirs.
    ///
    /// # Errors
    /// [`SyncError::Certificate`], the old one staying in use; also when the server was started plain.
    pub fn change_certificate(&self, certificate: &Certificate) -> Result<(), SyncError> {
        let plain = || SyncError::Certificate { reason: "the server was started without one".into() };
        self.tls.as_ref().ok_or_else(plain)?.change(certificate)
    }

    /// Publishes `batch`. Never waits for a socket.
    ///
    /// # Errors
    /// Those of code `ERR_SYNC_BATCH`, nothing being applied then, and [`SyncError::Closed`].
    pub fn publish(&self, batch: Batch) -> Result<(), SyncError> {
        self.open()?;
        self.hub.publish(batch)
    }

    /// Makes a token by which `handle` can connect, once, within `lifetime`.
    ///
    /// # Errors
    /// [`SyncError::UnknownRecipient`], [`SyncError::TokensFull`], [`SyncError::InvalidOption`], [`SyncError::Closed`].
    pub fn issue_token(&self, handle: Handle, lifetime: Duration) -> Result<String, SyncError> {
        self.open()?;
        self.hub.issue_token(handle, lifetime)
    }

    /// How many recipients are connected.
    pub fn connections(&self) -> usize {
        self.hub.connections()
    }

    /// What it has counted.
    pub fn metrics(&self) -> Metrics {
        self.hub.metrics()
    }

    /// Who came and went since this was last asked, at most one entry a recipient: the latest.
    pub fn take_presence(&self) -> Vec<Presence> {
        self.hub.take_presence()
    }

    /// Frees the port, closes every connection with a close frame, and returns when all are closed or the stop deadline
    /// is over. Not to be called on one of its own threads. Later calls do nothing.
    pub fn stop(&self) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        let options = &self.hub.options;
        self.hub.stop();
        // Every socket holds a place until it is closed.
        let all = u32::try_from(options.max_connections).unwrap_or(u32::MAX);
        let sockets = Arc::clone(&self.hub.sockets);
        let closed =
            runtime.block_on(async { timeout(options.stop_deadline, sockets.acquire_many(all)).await.is_ok() });
        runtime.shutdown_timeout(Duration::from_secs(1));
        tracing::info!(address = %self.address, closed, "peers' sync port is closed");
    }

    fn open(&self) -> Result<(), SyncError> {
        if self.hub.is_stopped() { Err(SyncError::Closed) } else { Ok(()) }
    }
}

impl Drop for SyncServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of its former life to fade.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn accept(listener: TcpListener, hub: Arc<Hub>, tls: Option<Arc<Tls>>) {
    let stopped = hub.stopped();
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly: they come back when somebody leaves.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        count(&hub.counters.accepted);
        let places = Arc::clone(&hub.sockets).try_acquire_owned();
        let places = places.and_then(|socket| Ok((socket, Arc::clone(&hub.handshakes).try_acquire_owned()?)));
        match places {
            Ok((socket, handshake)) => {
                let acceptor = tls.as_ref().map(|tls| tls.acceptor());
                tokio::spawn(serve(stream, acceptor, Arc::clone(&hub), socket, handshake));
            }
            Err(_) => {
                count(&hub.counters.refused);
                if tls.is_some() {
                    continue;
                }
                // If it does not fit the socket's empty buffer, so be it.
                let _ = stream
                    .try_write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    hub: Arc<Hub>,
    socket: OwnedSemaphorePermit,
    handshake: OwnedSemaphorePermit,
) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%error, "cannot set socket options");
    }
    match acceptor {
        None => connection::serve(stream, hub, handshake).await,
        Some(acceptor) => {
            let stopped = hub.stopped();
            tokio::pin!(stopped);
            let accepted = tokio::select! {
                accepted = timeout(hub.options.hello_deadline, acceptor.accept(stream)) => accepted.ok(),
                () = &mut stopped => None,
            };
            match accepted {
                // Boxed: a TLS session is large, and plain connections share this type.
                Some(Ok(stream)) => Box::pin(connection::serve(stream, Arc::clone(&hub), handshake)).await,
                failed => {
                    count(&hub.counters.hellos_failed);
                    tracing::debug!(error = ?failed.and_then(Result::err), "no TLS handshake");
                }
            }
        }
    }
    drop(socket);
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}
