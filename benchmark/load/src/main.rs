//! `benchmark-load PORT PREAUTH_KEY IN_FLIGHT WARM_UP COUNT`: registers peers at a server on this machine, `IN_FLIGHT` at
//! a time, each with its own name, key and details. `WARM_UP` registrations come first and are not counted. Prints one
//! line of JSON: microseconds of the median, `p50`, and registrations a second, `rate`.
//!
//! It is not a JavaScript program because it shares the machine with the server, and a client in JavaScript costs more of
//! it for each request than some of the servers do.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

type Failure = Box<dyn Error>;

const SYSTEMS: [&str; 6] = ["linux", "darwin", "windows", "freebsd", "android", "ios"];
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, key, in_flight, warm_up, count] = arguments.as_slice() else {
        return Err("usage: benchmark-load PORT PREAUTH_KEY IN_FLIGHT WARM_UP COUNT".into());
    };
    let (port, in_flight) = (port.parse()?, in_flight.parse()?);
    let (warm_up, count) = (warm_up.parse()?, count.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut connections = Vec::new();
        for _ in 0..in_flight {
            connections.push(connect(port).await?);
        }
        let (connections, _) = register(connections, key, 0, warm_up).await?;
        let started = Instant::now();
        let (_, mut times) = register(connections, key, warm_up, count).await?;
        let seconds = started.elapsed().as_secs_f64();
        times.sort_by(f64::total_cmp);
        let p50 = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
        println!("{}", json!({ "p50": p50, "rate": f64::from(count) / seconds }));
        Ok(())
    })
}

type Connection = SendRequest<Full<Bytes>>;

async fn connect(port: u16) -> Result<Connection, Failure> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(socket)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

/// Registers `count` peers over the connections, numbered from `first`, and gives the connections back with the
/// microseconds that each registration took.
async fn register(
    connections: Vec<Connection>,
    key: &str,
    first: u32,
    count: u32,
) -> Result<(Vec<Connection>, Vec<f64>), Failure> {
    let key: Rc<str> = key.into();
    let next = Rc::new(Cell::new(first));
    let times = Rc::new(RefCell::new(Vec::with_capacity(count as usize)));
    let callers: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let (key, next, times) = (key.clone(), next.clone(), times.clone());
            tokio::task::spawn_local(async move {
                while next.get() < first + count {
                    next.set(next.get() + 1);
                    let request = request(&key, next.get())?;
                    let started = Instant::now();
                    connection.ready().await?;
                    let response = connection.send_request(request).await?;
                    let status = response.status();
                    let body = response.into_body().collect().await?.to_bytes();
                    if status != StatusCode::CREATED {
                        return Err(
                            format!("registration answered {status}: {}", String::from_utf8_lossy(&body)).into()
                        );
                    }
                    times.borrow_mut().push(started.elapsed().as_secs_f64() * 1e6);
                }
                Ok::<_, Failure>(connection)
            })
        })
        .collect();
    let mut connections = Vec::new();
    for caller in callers {
        connections.push(caller.await??);
    }
    let times = times.take();
    Ok((connections, times))
}

fn request(key: &str, number: u32) -> Result<Request<Full<Bytes>>, Failure> {
    let mut random = [0; 36];
    getrandom::fill(&mut random)?;
    let (wireguard_key, id) = random.split_at(32);
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let body = json!({
        "preauthKey": key,
        "hostname": format!("host-{number}-{id}"),
        "wireguardKey": base64(wireguard_key),
        "os": SYSTEMS[number as usize % SYSTEMS.len()],
        "version": format!("1.{}.{}", number % 20, number % 7),
    });
    let request = Request::builder().method(Method::POST).uri("/v1/peers/register").header("host", "127.0.0.1");
    Ok(request.header("content-type", "application/json").body(Full::new(body.to_string().into()))?)
}

/// RFC 4648 base64 with padding.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let symbol = if i <= chunk.len() { BASE64[(bits >> (18 - 6 * i)) as usize & 63] } else { b'=' };
            text.push(char::from(symbol));
        }
    }
    text
}
