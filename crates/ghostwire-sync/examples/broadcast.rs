//! Measures how long one changed record takes to reach everybody: `cargo run --release --example broadcast -- [connections]`.
//!
//! Server and clients share the machine and the process, over loopback; the clients' half of the work is in the figures.
#![allow(clippy::expect_used, reason = "a measurement may stop at what it did not expect")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ghostwire_sync::{Batch, Handle, Options, Put, RecipientChange, SyncServer, ViewChange};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

const ROUNDS: u64 = 30;

fn put(handle: Handle, round: u64) -> Put {
    // The size of a realistic peer record.
    let pad = "x".repeat(220);
    let json = format!("{{\"id\":\"p_{handle:016}\",\"round\":{round},\"pad\":\"{pad}\"}}");
    Put::new(handle, &format!("p_{handle:016}"), json.as_bytes(), None).expect("a record")
}

/// Reads whole messages and reports how many bytes each had.
async fn client(
    address: SocketAddr,
    token: String,
    heard: mpsc::UnboundedSender<(Instant, usize)>,
    connecting: Arc<Semaphore>,
) {
    let mut place = connecting.acquire_owned().await.ok();
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = "GET /v1/sync HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let hello = format!("{{\"type\":\"hello\",\"token\":\"{token}\"}}");
    let mut frame = vec![0x81, 0x80 | hello.len() as u8, 0, 0, 0, 0];
    frame.extend(hello.as_bytes());
    stream.write_all(&frame).await.expect("a hello");
    let mut buffer = vec![0; 4 * 1024];
    loop {
        let Ok(opcode) = stream.read_u8().await else { return };
        let length = match stream.read_u8().await.expect("a length") {
            126 => stream.read_u16().await.expect("a length") as usize,
            127 => stream.read_u64().await.expect("a length") as usize,
            short => short as usize,
        };
        let mut left = length;
        while left > 0 {
            let limit = left.min(buffer.len());
            left -= stream.read(&mut buffer[..limit]).await.expect("a payload");
        }
        if opcode == 0x81 {
            let _ = heard.send((Instant::now(), length));
            drop(place.take());
        }
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Processor time of the server's threads so far, in clock ticks of 10 ms.
fn server_ticks() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let server = stats.filter(|stat| stat.contains("(ghostwire-sync)"));
    // Fields 14 and 15 of proc(5), counted after the name.
    let times = |stat: String| {
        stat.rsplit(')')
            .next()
            .map(|rest| rest.split(' ').skip(12).take(2).filter_map(|t| t.parse::<u64>().ok()).sum::<u64>())
    };
    server.filter_map(times).sum::<u64>()
}

fn main() {
    let connections: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2000);
    let server = SyncServer::start(Options::new(([127, 0, 0, 1], 0).into(), "epoch")).expect("a server");
    let all = 1..=connections;
    let start = Instant::now();
    let batch = Batch {
        revision: 1,
        puts: all.clone().map(|handle| put(handle, 0)).collect(),
        views: vec![ViewChange::Edit { view: 1, add: all.clone().collect(), remove: Default::default(), filter: None }],
        recipients: all.clone().map(|h| RecipientChange::set(h, 1, Some(b"{}")).expect("self")).collect(),
        ..Batch::default()
    };
    server.publish(batch).expect("a batch");
    println!("publish {connections} records, one view: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let before = resident_kib();

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let connecting = Arc::new(Semaphore::new(256));
    let (send, mut heard) = mpsc::unbounded_channel();
    let start = Instant::now();
    for handle in all {
        let token = server.issue_token(handle, Duration::from_secs(600)).expect("a token");
        let (address, send) = (server.address(), send.clone());
        runtime.spawn(client(address, token, send, Arc::clone(&connecting)));
    }
    let mut bytes = 0;
    for _ in 0..connections {
        bytes += heard.blocking_recv().expect("a full map").1;
    }
    let took = start.elapsed().as_secs_f64();
    println!("{connections} connections with a full map each: {:.2} s, {:.1} MB", took, bytes as f64 / 1e6);
    std::thread::sleep(Duration::from_secs(2));
    println!(
        "resident, clients' 4 KiB buffers taken off: {} KiB a connection",
        (resident_kib() - before) / u64::from(connections) - 4
    );

    for urgent in [false, true] {
        let (mut publish, mut median, mut last) = (vec![], vec![], vec![]);
        let ticks = server_ticks();
        for round in 1..=ROUNDS {
            std::thread::sleep(Duration::from_millis(50));
            let changed = put(1, round);
            let revision = server.metrics().revision + 1;
            let start = Instant::now();
            server.publish(Batch { revision, puts: vec![changed], urgent, ..Batch::default() }).expect("a batch");
            publish.push(start.elapsed().as_secs_f64() * 1e6);
            let mut times: Vec<f64> = (1..connections)
                .map(|_| (heard.blocking_recv().expect("a delta").0 - start).as_secs_f64() * 1e3)
                .collect();
            times.sort_by(f64::total_cmp);
            median.push(times[times.len() / 2]);
            last.push(times[times.len() - 1]);
        }
        let middle = |figures: &mut Vec<f64>| {
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        println!(
            "one record to {} (urgent: {urgent}): publish {:.0} us, median peer {:.1} ms, last peer {:.1} ms, server {:.1} us a peer",
            connections - 1,
            middle(&mut publish),
            middle(&mut median),
            middle(&mut last),
            (server_ticks() - ticks) as f64 * 1e4 / (ROUNDS * u64::from(connections)) as f64
        );
    }

    // A change a millisecond for two seconds: the tick widens, and readers skip.
    let deltas = server.metrics().deltas;
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut changes = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let revision = server.metrics().revision + 1;
        let changed = put(1 + changes % connections, 1000);
        let at = Instant::now();
        server.publish(Batch { revision, puts: vec![changed], ..Batch::default() }).expect("a batch");
        slowest = slowest.max(at.elapsed());
        changes += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    let metrics = server.metrics();
    let sent = metrics.deltas - deltas;
    println!(
        "{changes} changes in 2 s: {} deltas a peer, tick {} ms, slowest publish {:.1} ms",
        sent / u64::from(connections),
        metrics.tick_ms,
        slowest.as_secs_f64() * 1e3
    );
    let start = Instant::now();
    server.stop();
    println!("stop: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    runtime.shutdown_background();
}
