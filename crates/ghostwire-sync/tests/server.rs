//! The server over real sockets: what peers are told, and what is done about peers that misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use ghostwire_sync::{
    Batch, Digest, Handle, Metrics, Options, Put, RecipientChange, SyncError, SyncServer, ViewChange, ViewId,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

const MINUTE: Duration = Duration::from_secs(60);
const VIEW: ViewId = 1;

// ---- a server -------------------------------------------------------------------------------------------------

fn options() -> Options {
    Options::new("127.0.0.1:0".parse().unwrap(), "epoch")
}

fn put(handle: Handle, text: &str) -> Put {
    let id = format!("p{handle}");
    Put::new(handle, &id, json!({"id": id, "text": text}).to_string().as_bytes(), None).unwrap()
}

fn edit(view: ViewId, add: &[Handle]) -> ViewChange {
    ViewChange::Edit { view, add: add.iter().collect(), remove: Default::default(), filter: None }
}

fn set(handle: Handle, view: ViewId) -> RecipientChange {
    RecipientChange::set(handle, view, Some(br#"{"me":1}"#)).unwrap()
}

/// Peers 1 to 3, who all see each other, at revision 1.
fn server(options: Options) -> SyncServer {
    let server = SyncServer::start(options).unwrap();
    let batch = Batch {
        revision: 1,
        puts: (1..=3).map(|handle| put(handle, "a")).collect(),
        views: vec![edit(VIEW, &[1, 2, 3])],
        recipients: (1..=3).map(|handle| set(handle, VIEW)).collect(),
        ..Batch::default()
    };
    server.publish(batch).unwrap();
    server
}

/// Waits until a metric is as wanted.
async fn until(server: &SyncServer, wanted: impl Fn(&Metrics) -> bool) {
    let start = Instant::now();
    while !wanted(&server.metrics()) {
        assert!(start.elapsed() < Duration::from_secs(10), "{:#?}", server.metrics());
        sleep(Duration::from_millis(5)).await;
    }
}

/// Drops a server from async code.
async fn stop(server: SyncServer) {
    tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
}

// ---- a client -------------------------------------------------------------------------------------------------

struct Client(WebSocketStream<TcpStream>);

#[derive(Debug, PartialEq)]
enum Got {
    Json(Value),
    Close(u16),
    End,
}

impl Client {
    async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), address).await
    }

    async fn over(stream: TcpStream, address: SocketAddr) -> Self {
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let url = format!("ws://{address}/v1/sync");
        Self(client_async_with_config(url, stream, Some(config)).await.unwrap().0)
    }

    async fn hello(server: &SyncServer, handle: Handle, position: Value) -> Self {
        let mut client = Self::open(server.address()).await;
        client.say(hello(&server.issue_token(handle, MINUTE).unwrap(), position)).await;
        client
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn got(&mut self) -> Got {
        loop {
            let next = timeout(Duration::from_secs(10), self.0.next()).await.expect("an answer in time");
            return match next {
                Some(Ok(Message::Text(text))) => Got::Json(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => Got::Close(frame.map_or(0, |frame| frame.code.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(Error::Io(_) | Error::Protocol(_) | Error::ConnectionClosed)) | None => Got::End,
                Some(Err(error)) => panic!("{error:?}"),
            };
        }
    }

    async fn json(&mut self) -> Value {
        match self.got().await {
            Got::Json(value) => value,
            other => panic!("{other:?}"),
        }
    }

    /// Turned away with this error and close code.
    async fn refused(&mut self, code: &str, close: u16) {
        let error = self.json().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)));
        assert_eq!(self.got().await, Got::Close(close));
    }
}

fn hello(token: &str, position: Value) -> Value {
    let mut hello = json!({"type": "hello", "token": token});
    hello.as_object_mut().unwrap().extend(position.as_object().cloned().unwrap_or_default());
    hello
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["id"].as_str().or(entry.as_str()).unwrap()).collect()
}

fn digest(ids: &[&str]) -> String {
    ids.iter().fold(Digest::default(), |all, id| all.toggled(Digest::of(id))).to_string()
}

// ---- what peers are told ----------------------------------------------------------------------------------------

#[tokio::test]
async fn a_full_map_then_deltas() {
    let server = server(options());
    let mut client = Client::hello(&server, 1, json!({})).await;
    let full = client.json().await;
    let other = |handle: u32| json!({"id": format!("p{handle}"), "text": "a"});
    let expected = json!({"type": "full", "epoch": "epoch", "revision": 1, "self": {"me": 1}, "packetFilter": null, "peers": [other(2), other(3)]});
    assert_eq!(full, expected);

    server.publish(Batch { revision: 2, puts: vec![put(3, "b")], ..Batch::default() }).unwrap();
    let changed = json!({"id": "p3", "text": "b"});
    let expected = json!({"type": "delta", "epoch": "epoch", "revision": 2, "changed": [changed], "removed": []});
    assert_eq!(client.json().await, expected);

    server.publish(Batch { revision: 3, removes: vec![3], ..Batch::default() }).unwrap();
    let expected = json!({"type": "delta", "epoch": "epoch", "revision": 3, "changed": [], "removed": ["p3"]});
    assert_eq!(client.json().await, expected);

    let own = RecipientChange::set(1, VIEW, Some(br#"{"me":2}"#)).unwrap();
    server.publish(Batch { revision: 4, recipients: vec![own], ..Batch::default() }).unwrap();
    let expected =
        json!({"type": "delta", "epoch": "epoch", "revision": 4, "self": {"me": 2}, "changed": [], "removed": []});
    assert_eq!(client.json().await, expected);
}

#[tokio::test]
async fn a_revoked_peer_is_told_and_gone_for_the_others_at_once() {
    let server = server(options());
    let mut revoked = Client::hello(&server, 1, json!({})).await;
    let mut other = Client::hello(&server, 2, json!({})).await;
    revoked.json().await;
    other.json().await;
    let unused = server.issue_token(1, MINUTE).unwrap();

    let recipients = vec![RecipientChange::Revoke { handle: 1 }];
    server.publish(Batch { revision: 2, removes: vec![1], recipients, ..Batch::default() }).unwrap();
    assert_eq!(revoked.json().await, json!({"type": "revoked"}));
    assert_eq!(revoked.got().await, Got::Close(4001));
    assert_eq!(other.json().await["removed"], json!(["p1"]));
    until(&server, |metrics| metrics.connections == 1 && metrics.revoked == 1).await;

    // It cannot come back, not even with a token from before.
    assert!(matches!(server.issue_token(1, MINUTE), Err(SyncError::UnknownRecipient { handle: 1 })));
    let mut again = Client::open(server.address()).await;
    again.say(hello(&unused, json!({}))).await;
    again.refused("ERR_TOKEN_INVALID", 4003).await;
}

#[tokio::test]
async fn a_broken_connection_is_resumed() {
    let server = server(options());
    let mut client = Client::hello(&server, 1, json!({})).await;
    client.json().await;
    server.publish(Batch { revision: 2, puts: vec![put(2, "b")], ..Batch::default() }).unwrap();
    assert_eq!(client.json().await["revision"], 2);
    drop(client);
    until(&server, |metrics| metrics.connections == 0).await;

    let batch = Batch {
        revision: 3,
        removes: vec![3],
        puts: vec![put(4, "a")],
        views: vec![edit(VIEW, &[4])],
        ..Batch::default()
    };
    server.publish(batch).unwrap();
    let position = json!({"epoch": "epoch", "revision": 2, "digest": digest(&["p2", "p3"])});
    let answer = Client::hello(&server, 1, position).await.json().await;
    assert_eq!((&answer["type"], &answer["revision"]), (&json!("delta"), &json!(3)));
    assert_eq!((ids(&answer["changed"]), ids(&answer["visible"])), (vec!["p4"], vec!["p2", "p4"]));

    let position = json!({"epoch": "epoch", "revision": 3, "digest": digest(&["p4", "p2"])});
    let answer = Client::hello(&server, 1, position).await.json().await;
    let expected =
        json!({"type": "delta", "epoch": "epoch", "revision": 3, "self": {"me": 1}, "changed": [], "removed": []});
    assert_eq!(answer, expected);

    let position = json!({"epoch": "another", "revision": 3, "digest": digest(&["p4", "p2"])});
    assert_eq!(Client::hello(&server, 1, position).await.json().await["type"], "full");
    let metrics = server.metrics();
    assert_eq!((metrics.fulls, metrics.resumes, metrics.deltas), (2, 2, 1));
}

#[tokio::test]
async fn a_slow_reader_skips_what_is_out_of_date() {
    let server = server(options());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let stream = socket.connect(server.address()).await.unwrap();
    let mut client = Client::over(stream, server.address()).await;
    client.say(hello(&server.issue_token(1, MINUTE).unwrap(), json!({}))).await;
    client.json().await;

    const ROUNDS: u64 = 60;
    let large = "x".repeat(200_000);
    for round in 1..=ROUNDS {
        server
            .publish(Batch { revision: 1 + round, puts: vec![put(2, &format!("{round} {large}"))], ..Batch::default() })
            .unwrap();
        sleep(Duration::from_millis(4)).await;
    }
    let mut seen = 0;
    loop {
        let delta = client.json().await;
        seen += 1;
        assert_eq!(ids(&delta["changed"]), ["p2"]);
        if delta["revision"] == json!(1 + ROUNDS) {
            assert!(delta["changed"][0]["text"].as_str().unwrap().starts_with(&format!("{ROUNDS} ")));
            break;
        }
    }
    assert!(seen < ROUNDS / 4, "{seen} messages");
}

#[tokio::test]
async fn a_large_map_arrives_whole() {
    let server = server(options());
    let text = "\"é\\".repeat(1000);
    let handles: Vec<Handle> = (10..1510).collect();
    let puts = handles.iter().map(|handle| put(*handle, &text)).collect();
    server.publish(Batch { revision: 2, puts, views: vec![edit(VIEW, &handles)], ..Batch::default() }).unwrap();
    for handle in [1, 3] {
        let full = Client::hello(&server, handle, json!({})).await.json().await;
        assert_eq!(full["peers"].as_array().unwrap().len(), 1502);
        let whole = |peer: &Value| peer["text"] == json!(text) || peer["text"] == json!("a");
        assert!(full["peers"].as_array().unwrap().iter().all(whole));
    }
}

#[tokio::test]
async fn the_newest_connection_of_a_peer_stays() {
    let server = server(options());
    let mut first = Client::hello(&server, 1, json!({})).await;
    first.json().await;
    let mut second = Client::hello(&server, 1, json!({})).await;
    second.json().await;
    first.refused("ERR_REPLACED", 4002).await;
    server.publish(Batch { revision: 2, puts: vec![put(2, "b")], ..Batch::default() }).unwrap();
    assert_eq!(second.json().await["revision"], 2);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn who_came_and_went_is_reported() {
    let server = server(options());
    let mut client = Client::hello(&server, 2, json!({})).await;
    client.json().await;
    let presence: Vec<_> = server.take_presence().iter().map(|event| (event.handle, event.connected)).collect();
    assert_eq!(presence, [(2, true)]);
    assert!(server.take_presence().is_empty());
    // Replaced: still there.
    let mut again = Client::hello(&server, 2, json!({})).await;
    again.json().await;
    client.refused("ERR_REPLACED", 4002).await;
    drop(client);
    let presence: Vec<_> = server.take_presence().iter().map(|event| (event.handle, event.connected)).collect();
    assert_eq!(presence, [(2, true)]);
    drop(again);
    until(&server, |metrics| metrics.connections == 0).await;
    let presence: Vec<_> = server.take_presence().iter().map(|event| (event.handle, event.connected)).collect();
    assert_eq!(presence, [(2, false)]);
}

// ---- peers that misbehave -----------------------------------------------------------------------------------------

#[tokio::test]
async fn tokens_are_good_once() {
    let server = server(options());
    for token in ["", "nonsense", &"0".repeat(64)] {
        let mut client = Client::open(server.address()).await;
        client.say(hello(token, json!({}))).await;
        client.refused("ERR_TOKEN_INVALID", 4003).await;
    }
    let token = server.issue_token(1, MINUTE).unwrap();
    let mut client = Client::open(server.address()).await;
    client.say(hello(&token, json!({}))).await;
    client.json().await;
    let mut thief = Client::open(server.address()).await;
    thief.say(hello(&token, json!({}))).await;
    thief.refused("ERR_TOKEN_INVALID", 4003).await;
    // The rightful connection is none the worse.
    server.publish(Batch { revision: 2, puts: vec![put(2, "b")], ..Batch::default() }).unwrap();
    assert_eq!(client.json().await["revision"], 2);

    let token = server.issue_token(1, Duration::from_millis(20)).unwrap();
    sleep(Duration::from_millis(30)).await;
    let mut late = Client::open(server.address()).await;
    late.say(hello(&token, json!({}))).await;
    late.refused("ERR_TOKEN_INVALID", 4003).await;
    assert_eq!(server.metrics().tokens_refused, 5);
}

#[tokio::test]
async fn the_first_message_is_a_hello_or_the_last() {
    let server = server(options());
    let token = server.issue_token(1, MINUTE).unwrap();
    let bad = [
        "".into(),
        "{".into(),
        "[]".into(),
        json!({"type": "hullo", "token": token}).to_string(),
        json!({"type": "hello"}).to_string(),
        json!({"type": "hello", "token": 1}).to_string(),
        json!({"type": "hello", "token": token, "revision": -1}).to_string(),
        json!({"type": "hello", "token": token, "digest": "short"}).to_string(),
        "[".repeat(4000),
    ];
    for text in bad {
        let mut client = Client::open(server.address()).await;
        client.0.send(Message::text(text)).await.unwrap();
        client.refused("ERR_HELLO_INVALID", 1008).await;
    }
    let mut client = Client::open(server.address()).await;
    client.0.send(Message::binary(hello(&token, json!({})).to_string())).await.unwrap();
    client.refused("ERR_HELLO_INVALID", 1008).await;
    // None of them used the token up.
    let mut client = Client::open(server.address()).await;
    client.say(hello(&token, json!({"future": "field"}))).await;
    assert_eq!(client.json().await["type"], "full");
}

#[tokio::test]
async fn an_oversize_hello_is_refused() {
    let server = server(options());
    for pad in [5_000, 3_000_000] {
        let mut client = Client::open(server.address()).await;
        let sent = client.0.send(Message::text(hello("t", json!({"pad": "x".repeat(pad)})).to_string())).await;
        if pad < 10_000 {
            sent.unwrap();
            client.refused("ERR_MESSAGE_TOO_LARGE", 1009).await;
        }
    }
    // Announced, but never sent: nothing is set aside for it.
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    upgrade(&mut stream).await;
    stream.write_all(&[0x81, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
    assert!(String::from_utf8_lossy(&read_all(&mut stream).await).contains("ERR_MESSAGE_TOO_LARGE"));
    // In fragments that are each small enough.
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    upgrade(&mut stream).await;
    let mut fragments = masked(0x01, &[b'x'; 100]);
    for _ in 0..100 {
        fragments.extend(masked(0x00, &[b'x'; 100]));
    }
    stream.write_all(&fragments).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(String::from_utf8_lossy(&answer).contains("ERR_MESSAGE_TOO_LARGE"));
}

#[tokio::test]
async fn silence_before_the_hello_is_ended() {
    let server = server(Options { hello_deadline: Duration::from_secs(1), ..options() });
    // Nothing at all; half a request; a handshake and then nothing; half a hello.
    let mut nothing = TcpStream::connect(server.address()).await.unwrap();
    let mut half = TcpStream::connect(server.address()).await.unwrap();
    half.write_all(b"GET /v1/sync HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let mut mute = Client::open(server.address()).await;
    let mut halting = TcpStream::connect(server.address()).await.unwrap();
    upgrade(&mut halting).await;
    halting.write_all(&masked(0x81, b"{\"type\":\"hello\"}")[..10]).await.unwrap();

    let start = Instant::now();
    assert!(read_all(&mut nothing).await.is_empty());
    assert!(read_all(&mut half).await.is_empty());
    mute.refused("ERR_HELLO_TIMEOUT", 4004).await;
    assert!(String::from_utf8_lossy(&read_all(&mut halting).await).contains("ERR_HELLO_TIMEOUT"));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop((mute, halting));
    until(&server, |metrics| metrics.sockets == 0 && metrics.hellos_failed == 4).await;
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_ended() {
    let times =
        Options { ping_every: Duration::from_millis(200), dead_after: Duration::from_millis(1000), ..options() };
    let server = server(times);
    let mut lively = Client::hello(&server, 1, json!({})).await;
    lively.json().await;
    let mut dead = Client::hello(&server, 2, json!({})).await;
    dead.json().await;
    // The lively one reads, and thereby answers pings; the dead one does not.
    let reading = tokio::spawn(async move { (lively.got().await, lively) });
    until(&server, |metrics| metrics.silent == 1 && metrics.connections == 1).await;
    sleep(Duration::from_millis(1500)).await;
    server.publish(Batch { revision: 2, puts: vec![put(3, "b")], ..Batch::default() }).unwrap();
    let (got, _lively) = reading.await.unwrap();
    assert!(matches!(got, Got::Json(_)), "{got:?}");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_ended() {
    let server = server(Options { write_deadline: Duration::from_millis(300), ..options() });
    let large = "x".repeat(200_000);
    let handles: Vec<Handle> = (10..110).collect();
    let puts = handles.iter().map(|handle| put(*handle, &large)).collect();
    server.publish(Batch { revision: 2, puts, views: vec![edit(VIEW, &handles)], ..Batch::default() }).unwrap();
    let stuck = Client::hello(&server, 1, json!({})).await;
    until(&server, |metrics| metrics.too_slow == 1 && metrics.sockets == 0).await;
    drop(stuck);
}

#[tokio::test]
async fn a_stuck_peer_delays_neither_its_own_revocation_nor_the_others() {
    let server = server(options());
    let large = "x".repeat(200_000);
    let handles: Vec<Handle> = (10..110).collect();
    let puts = handles.iter().map(|handle| put(*handle, &large)).collect();
    let views = vec![edit(2, &handles)];
    server.publish(Batch { revision: 2, puts, views, recipients: vec![set(1, 2)], ..Batch::default() }).unwrap();
    let stuck = Client::hello(&server, 1, json!({})).await;
    let mut other = Client::hello(&server, 2, json!({})).await;
    other.json().await;
    until(&server, |metrics| metrics.connections == 2).await;
    let start = Instant::now();
    let recipients = vec![RecipientChange::Revoke { handle: 1 }];
    server.publish(Batch { revision: 3, removes: vec![1], recipients, ..Batch::default() }).unwrap();
    assert_eq!(other.json().await["removed"], json!(["p1"]));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    // Its write deadline is 30 s, but a revoked peer is not waited for.
    until(&server, |metrics| metrics.sockets == 1).await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    drop(stuck);
}

#[tokio::test]
async fn nothing_but_control_frames_may_follow_the_hello() {
    let server = server(options());
    for message in [Message::text("{}"), Message::binary("x")] {
        let mut client = Client::hello(&server, 1, json!({})).await;
        client.json().await;
        client.0.send(Message::Ping("hi".into())).await.unwrap();
        client.0.send(message).await.unwrap();
        client.refused("ERR_MESSAGE_UNEXPECTED", 1008).await;
    }
    let mut client = Client::hello(&server, 1, json!({})).await;
    client.json().await;
    client.0.send(Message::text("x".repeat(100_000))).await.unwrap();
    client.refused("ERR_MESSAGE_TOO_LARGE", 1009).await;
    let mut flood = Client::hello(&server, 1, json!({})).await;
    flood.json().await;
    // Until the server has had enough.
    while flood.0.send(Message::Ping("hi".into())).await.is_ok() {}
    until(&server, |metrics| metrics.violations == 4).await;
}

#[tokio::test]
async fn garbage_is_survived() {
    let server = server(Options { hello_deadline: Duration::from_secs(2), ..options() });
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..200 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        if round % 2 == 0 {
            upgrade(&mut stream).await;
        }
        let garbage: Vec<u8> = (0..round * 7)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) as u8
            })
            .collect();
        let _ = stream.write_all(&garbage).await;
    }
    assert_eq!(Client::hello(&server, 1, json!({})).await.json().await["type"], "full");
}

#[tokio::test]
async fn other_paths_and_other_requests_get_an_http_answer() {
    let server = server(options());
    for (request, status) in [
        (
            "GET /other HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            "HTTP/1.1 404",
        ),
        ("GET /v1/sync HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 426"),
        ("POST /v1/sync HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 426"),
        ("\u{16}\u{3}\u{1} hello\r\n\r\n", "HTTP/1.1 426"),
    ] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8(read_all(&mut stream).await).unwrap();
        assert!(answer.starts_with(status), "{request:?}: {answer:?}");
    }
}

#[tokio::test]
async fn there_are_only_so_many_connections() {
    let server = server(Options { max_connections: 2, ..options() });
    let mut one = Client::hello(&server, 1, json!({})).await;
    one.json().await;
    let mut two = Client::hello(&server, 2, json!({})).await;
    two.json().await;
    let mut three = TcpStream::connect(server.address()).await.unwrap();
    assert!(read_all(&mut three).await.starts_with(b"HTTP/1.1 503 "));
    drop(one);
    until(&server, |metrics| metrics.sockets == 1 && metrics.refused == 1).await;
    Client::hello(&server, 3, json!({})).await.json().await;
}

#[tokio::test]
async fn strangers_cannot_keep_peers_out() {
    let server = server(Options { max_connections: 10, max_handshakes: 2, ..options() });
    let mut one = Client::hello(&server, 1, json!({})).await;
    one.json().await;
    let strangers =
        [TcpStream::connect(server.address()).await.unwrap(), TcpStream::connect(server.address()).await.unwrap()];
    until(&server, |metrics| metrics.sockets == 3).await;
    let mut third = TcpStream::connect(server.address()).await.unwrap();
    assert!(read_all(&mut third).await.starts_with(b"HTTP/1.1 503 "));
    drop(strangers);
    until(&server, |metrics| metrics.sockets == 1).await;
    Client::hello(&server, 2, json!({})).await.json().await;
}

// ---- start and stop -------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let first = server(options());
    let error = SyncServer::start(Options::new(first.address(), "epoch")).unwrap_err();
    assert!(matches!(&error, SyncError::PortTaken { address, .. } if *address == first.address()));
    assert_eq!(error.code().name, "ERR_PORT_TAKEN");
    assert!(error.to_string().contains(&first.address().to_string()), "{error}");
    // An address that is not ours (RFC 5737).
    let error = SyncServer::start(Options::new("192.0.2.1:1".parse().unwrap(), "epoch")).unwrap_err();
    assert_eq!(error.code().name, "ERR_LISTEN");
}

#[tokio::test]
async fn bad_options_are_named() {
    for (options, name) in [
        (Options { threads: 0, ..options() }, "threads"),
        (Options { max_hello_bytes: 1 << 30, ..options() }, "maxHelloBytes"),
        (Options { hello_deadline: Duration::ZERO, ..options() }, "helloDeadlineMs"),
        (Options { epoch: String::new(), ..options() }, "epoch"),
    ] {
        let error = SyncServer::start(options).unwrap_err();
        assert!(matches!(error, SyncError::InvalidOption { option, .. } if option == name), "{error}");
    }
}

#[tokio::test]
async fn stopping_says_goodbye_and_frees_the_port() {
    let server = server(options());
    let address = server.address();
    let mut client = Client::hello(&server, 1, json!({})).await;
    client.json().await;
    let mut undecided = Client::open(address).await;
    let start = Instant::now();
    let (goodbye, other, server) = tokio::join!(client.got(), undecided.got(), async {
        tokio::task::spawn_blocking(move || {
            server.stop();
            server
        })
        .await
        .unwrap()
    });
    assert_eq!((goodbye, other), (Got::Close(1001), Got::Close(1001)));
    assert!(start.elapsed() < Duration::from_millis(4500), "{:?}", start.elapsed());
    assert!(matches!(server.publish(Batch { revision: 2, ..Batch::default() }), Err(SyncError::Closed)));
    assert!(matches!(server.issue_token(1, MINUTE), Err(SyncError::Closed)));
    let again = SyncServer::start(Options::new(address, "epoch")).unwrap();
    stop(again).await;
    stop(server).await;
}

#[tokio::test]
async fn a_stuck_peer_does_not_hold_up_the_end() {
    let server = server(options());
    let large = "x".repeat(200_000);
    let handles: Vec<Handle> = (10..110).collect();
    let puts = handles.iter().map(|handle| put(*handle, &large)).collect();
    server.publish(Batch { revision: 2, puts, views: vec![edit(VIEW, &handles)], ..Batch::default() }).unwrap();
    let stuck = Client::hello(&server, 1, json!({})).await;
    until(&server, |metrics| metrics.connections == 1).await;
    let start = Instant::now();
    stop(server).await;
    assert!(start.elapsed() < Duration::from_millis(4500), "{:?}", start.elapsed());
    drop(stuck);
}

// ---- bytes -----------------------------------------------------------------------------------------------------------

/// The HTTP part of a WebSocket connection, by hand.
async fn upgrade(stream: &mut TcpStream) {
    let request = "GET /v1/sync HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
}

/// A client's frame of up to 125 bytes with a mask of zeros (RFC 6455, 5.2).
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset after the answer is no matter.
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut all)).await.expect("an end in time");
    all
}
