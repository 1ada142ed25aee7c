//! What rows and lists take together stays within the budget, whichever come first.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod common;

use common::allow;
use zqlite_acl::{Engine, Options, Peer, Query};
use zqlite_cidr::Address;

/// A page of rows that is begun counts as a whole.
const PAGE: usize = 256 << 10;

/// Bears twenty labels, which few others bear together.
fn peer(id: u32) -> Peer {
    let label = |at: u32| format!("tag:t{}", (id * 20 + at).wrapping_mul(0x9e37_79b1) >> 16 & 0x1ff);
    let labels = (0..20).map(|at| label(at).parse().unwrap()).collect();
    Peer { id, addresses: vec![], labels, owner: None, routes: vec![] }
}

#[test]
fn peers_that_come_after_the_lists_take_what_is_left() {
    let memory = 4 << 20;
    let mut engine = Engine::with_options(Options { row_memory: memory });
    let hosts = (0..20_000u32).map(|id| allow(id.into(), &Address::v4(0x0a00_0000 + 2 * id).to_string(), "192.0.2.1"));
    let labels = (0..5000u64).map(|id| allow(100_000 + id, &format!("tag:t{}", id & 0x1ff), "tag:x"));
    engine.set_rules(hosts.chain(labels).collect()).unwrap();
    let rows = engine.row_bytes();
    let query = Query { source: Address::v4(1), destination: Address::v4(2), protocol: 6, port: 80, at: 0 };
    (0..2000).for_each(|_| assert!(!engine.decide_addresses(&query).allowed));
    let both = engine.row_bytes();
    assert!(both > rows + memory / 4, "no lists were made: {both} bytes");
    (0..40_000).for_each(|id| engine.put_peers(vec![peer(id)]).unwrap());
    let all = engine.row_bytes();
    assert!(all > both, "rows of peers would have fitted");
    assert!(all <= memory + PAGE, "{all} bytes of {memory}");
    let reached = |id| engine.decide(&Query { source: id, destination: 0, protocol: 6, port: 80, at: 0 }).unwrap();
    assert!((0..40_000).all(|id| !reached(id).allowed));
}
