//! One peer's socket: hello, then one message in flight at a time, made of what is current when it is made.
//!
//! tungstenite does the handshake, reads what the peer sends and answers its pings. Messages with records are written
//! around it, straight from shared bytes (`Frame`): between two of its own frames, never inside of one.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::farewell::Farewell;
use crate::frames::Frame;
use crate::hub::{Attachment, Hub};
use crate::metrics::count;
use crate::state::{Next, Position};
use crate::{Digest, Handle, Options};

/// The path that peers connect to.
pub(crate) const PATH: &str = "/v1/sync";
/// A frame may take the write deadline, plus its length at this pace (bytes a second): who reads a byte now and then is cut.
const SLOWEST: u64 = 16 * 1024;
/// How long a stuck frame is still waited for once the connection is to end, and the goodbye with it.
const GRACE: Duration = Duration::from_secs(1);
/// A reader slow to take its full map gives up its place among [`Hub::full_maps`] after this time, and goes on.
const FULL_MAP_PLACE: Duration = Duration::from_secs(1);
/// Control frames that a peer may send in the time between two of our pings.
const CHATTER: u32 = 1_000;
/// Bytes of a peer's that are read and thrown away after a goodbye.
const DRAIN: usize = 64 * 1024;
/// Read buffers are allocated up front, one a connection. What peers send is small.
const READ_BUFFER: usize = 1024;

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The peer closed, or the socket broke.
    Gone,
    /// It is to be told why.
    Say(Farewell),
    /// It did not read.
    TooSlow,
    /// It was silent.
    Silent,
}

impl From<Farewell> for End {
    fn from(farewell: Farewell) -> Self {
        Self::Say(farewell)
    }
}

/// Serves one peer until the end. Nothing is returned: whatever a peer does is its own affair.
///
/// `stream` may be any transport. `handshake` is given back with a valid hello.
pub(crate) async fn serve<S>(mut stream: S, hub: Arc<Hub>, handshake: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = Instant::now() + hub.options.hello_deadline;
    let mut stopped = pin!(hub.stopped());
    let opened = tokio::select! {
        // Boxed: what is needed once should not be part of a connection's size for good.
        opened = Box::pin(timeout_at(deadline, upgrade(&mut stream, &hub.options))) => opened.ok(),
        () = &mut stopped => None,
    };
    let mut socket = match opened {
        Some(Ok(socket)) => socket,
        failed => {
            count(&hub.counters.hellos_failed);
            // Answered already, or beyond an answer.
            let done = matches!(failed, None | Some(Err(tungstenite::Error::Http(_) | tungstenite::Error::Io(_))));
            drop(failed);
            if !done {
                let _ = timeout(GRACE, Box::pin(refuse(&mut stream))).await;
            }
            return;
        }
    };
    let hello = tokio::select! {
        hello = timeout_at(deadline, hello(&mut socket)) => hello.unwrap_or(Err(Farewell::HelloLate.into())),
        () = &mut stopped => Err(Farewell::Stopping.into()),
    };
    let admitted = hello.and_then(|(token, from)| match hub.redeem(&token) {
        Some(handle) => Ok((handle, from)),
        None => {
            count(&hub.counters.tokens_refused);
            Err(Farewell::TokenInvalid.into())
        }
    });
    drop(handshake);
    let end = match admitted {
        Err(end) => {
            count(&hub.counters.hellos_failed);
            tracing::debug!(?end, "no valid hello");
            end
        }
        Ok((handle, from)) => match stay(&mut socket, &hub, handle, from, stopped).await {
            Ok(never) => match never {},
            Err(end) => {
                tracing::debug!(handle, ?end, "recipient disconnected");
                end
            }
        },
    };
    match end {
        End::Gone => {}
        End::TooSlow => count(&hub.counters.too_slow),
        End::Silent => count(&hub.counters.silent),
        End::Say(farewell) => {
            match farewell {
                Farewell::Revoked => count(&hub.counters.revoked),
                Farewell::Replaced => count(&hub.counters.replaced),
                Farewell::Unexpected | Farewell::TooLarge => count(&hub.counters.violations),
                _ => {}
            }
            Box::pin(say(&mut socket, farewell)).await;
        }
    }
}

/// The HTTP part. A WebSocket request for something else than [`PATH`] is answered.
async fn upgrade<'a, S>(stream: &'a mut S, options: &Options) -> tungstenite::Result<WebSocketStream<&'a mut S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(4096)
        .max_message_size(Some(options.max_hello_bytes))
        .max_frame_size(Some(options.max_hello_bytes));
    #[allow(clippy::result_large_err)] // the type is tungstenite's
    let check = |request: &Request, response: Response| {
        if request.uri().path() == PATH {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = tungstenite::http::StatusCode::NOT_FOUND;
        Err(refusal)
    };
    tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config)).await
}

/// Tells one who did not ask for a WebSocket that it takes one.
async fn refuse<S>(stream: &mut S) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    drain(stream).await
}

/// Reads on until the peer is done, so that a reset of ours does not overtake what it was told.
async fn drain<S>(stream: &mut S) -> std::io::Result<()>
where
    S: AsyncRead + Unpin,
{
    let mut rest = [0; 1024];
    for _ in 0..DRAIN / rest.len() {
        if stream.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// The first message: whose token, and where the peer stands.
async fn hello<S>(socket: &mut WebSocketStream<S>) -> Result<(String, Option<Position>), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // No Debug: it holds the token.
    #[derive(Deserialize)]
    struct Hello {
        r#type: String,
        token: String,
        epoch: Option<String>,
        revision: Option<u64>,
        digest: Option<String>,
        #[serde(rename = "packetFilter")]
        filter: Option<String>,
    }
    loop {
        let text = match socket.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_))) | None => return Err(End::Gone),
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => return Err(Farewell::HelloInvalid.into()),
            Some(Err(error)) => return Err(broken(&error)),
        };
        let hello: Hello = serde_json::from_str(&text).map_err(|_| Farewell::HelloInvalid)?;
        if hello.r#type != "hello" {
            return Err(Farewell::HelloInvalid.into());
        }
        let digest = hello.digest.map(|digest| digest.parse::<Digest>()).transpose();
        let digest = digest.map_err(|()| Farewell::HelloInvalid)?;
        let from = hello.epoch.zip(hello.revision).map(|(epoch, revision)| Position {
            epoch,
            revision,
            digest,
            filter: hello.filter,
        });
        return Ok((hello.token, from));
    }
}

/// From a valid hello to the end.
async fn stay<S>(
    socket: &mut WebSocketStream<S>,
    hub: &Arc<Hub>,
    handle: Handle,
    from: Option<Position>,
    mut stopped: Pin<&mut impl Future<Output = ()>>,
) -> Result<Infallible, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let place = match hub.needs_full(handle, from.as_ref()) {
        Some(true) => tokio::select! {
            place = hub.full_maps.acquire() => place.ok(),
            () = &mut stopped => return Err(Farewell::Stopping.into()),
        },
        _ => None,
    };
    // Revoked since its token was issued, if this fails.
    let (attachment, attached) = hub.attach(handle, from.as_ref()).ok_or(Farewell::Revoked)?;
    drop(from);
    tracing::debug!(handle, full = attached.update.is_full(), "recipient connected");
    if let Some(frame) = attached.update.encode() {
        count(if attached.update.is_full() { &hub.counters.fulls } else { &hub.counters.resumes });
        drop(attached);
        let mut sending = pin!(send(socket, hub, &attachment, frame));
        let mut place = place;
        loop {
            tokio::select! {
                sent = &mut sending => break sent?,
                () = sleep(FULL_MAP_PLACE), if place.is_some() => place = None,
            }
        }
    }

    let every = hub.options.ping_every;
    let mut ping = interval_at(Instant::now() + every, every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let mut chatter = 0;
    loop {
        tokio::select! {
            biased;
            // Not waited for while a frame is being written: its end is left to `cut`, so that nothing is said in the middle of it.
            () = &mut stopped => return Err(Farewell::Stopping.into()),
            () = attachment.peer.wake.notified() => match attachment.next() {
                Next::Idle => {}
                Next::Revoked => return Err(Farewell::Revoked.into()),
                Next::Replaced => return Err(Farewell::Replaced.into()),
                Next::Update(update) => if let Some(frame) = update.encode() {
                    count(&hub.counters.deltas);
                    send(socket, hub, &attachment, frame).await?;
                    // It took the frame: it is alive.
                    heard = Instant::now();
                }
            },
            _ = ping.tick() => {
                if heard.elapsed() >= hub.options.dead_after {
                    return Err(End::Silent);
                }
                chatter = 0;
                let sent = timeout(hub.options.write_deadline, socket.send(Message::Ping(Default::default())));
                sent.await.map_err(|_| End::TooSlow)?.map_err(|_| End::Gone)?;
            }
            message = socket.next() => {
                heard = Instant::now();
                match message {
                    None | Some(Ok(Message::Close(_))) => return Err(End::Gone),
                    Some(Err(error)) => return Err(broken(&error)),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                        chatter += 1;
                        if chatter > CHATTER {
                            return Err(Farewell::Unexpected.into());
                        }
                    }
                    Some(Ok(_)) => return Err(Farewell::Unexpected.into()),
                }
            }
        }
    }
}

/// Writes `frame` and waits until the kernel has taken all of it.
async fn send<S>(
    socket: &mut WebSocketStream<S>,
    hub: &Hub,
    attachment: &Attachment,
    mut frame: Frame,
) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stall = hub.options.write_deadline;
    let length = frame.remaining() as u64;
    let mut end = Instant::now() + stall + Duration::from_secs(length / SLOWEST);
    attachment.writing(true);
    // A pong may be half written: nothing may come between its bytes.
    timeout(stall, socket.flush()).await.map_err(|_| End::TooSlow)?.map_err(|_| End::Gone)?;
    while frame.has_remaining() {
        let written = std::future::poll_fn(|cx| frame.poll_write(socket.get_mut(), cx));
        tokio::select! {
            written = timeout_at(end.min(Instant::now() + stall), written) => {
                written.map_err(|_| End::TooSlow)?.map_err(|_| End::Gone)?;
            }
            () = attachment.peer.cut.notified() => end = end.min(Instant::now() + GRACE),
        }
    }
    // A transport with buffers of its own, TLS, may still hold the end of it.
    timeout(stall, socket.get_mut().flush()).await.map_err(|_| End::TooSlow)?.map_err(|_| End::Gone)?;
    attachment.writing(false);
    hub.counters.bytes_sent.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
    Ok(())
}

/// The last message, a close frame, and the end of our side; then the peer's, for as long as [`GRACE`].
async fn say<S>(socket: &mut WebSocketStream<S>, farewell: Farewell)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let goodbye = async {
        if let Some(message) = farewell.message() {
            socket.feed(Message::text(message)).await?;
        }
        socket.send(Message::Close(Some(farewell.close_frame()))).await?;
        let stream = socket.get_mut();
        stream.shutdown().await?;
        drain(stream).await?;
        Ok::<_, tungstenite::Error>(())
    };
    // A peer that does not take its goodbye is left without one.
    let _ = timeout(GRACE, goodbye).await;
}

/// What a failed read says of the peer.
fn broken(error: &tungstenite::Error) -> End {
    match error {
        tungstenite::Error::Capacity(_) => Farewell::TooLarge.into(),
        tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => End::Gone,
        tungstenite::Error::Protocol(_) | tungstenite::Error::Utf8(_) => Farewell::Unexpected.into(),
        _ => End::Gone,
    }
}
