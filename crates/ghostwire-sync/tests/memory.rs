//! What a network costs in memory: rules for everybody are held once, however many peers are told them.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ghostwire_sync::{Batch, Filter, Handle, Put, RecipientChange, State, ViewChange};
use serde_json::json;

/// Counts the bytes that are allocated at present.
struct Counting;
static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards to the system's allocator what it is asked.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PEERS: Handle = 50_000;
const MIB: usize = 1 << 20;

/// 2,000 rules of some 140 bytes.
fn filter(port: u32) -> Arc<Filter> {
    let rule = |index: u32| {
        let sources = [format!("10.{}.{}.0/24", index >> 8, index & 255), format!("tag:source-{index}")];
        json!({"action": "allow", "sources": sources, "destinations": ["self"], "protocols": [6], "ports": [[port, port]]})
    };
    let rules: Vec<_> = (0..2_000).map(rule).collect();
    Arc::new(Filter::new(json!(rules).to_string().as_bytes()).unwrap())
}

fn record(handle: Handle) -> Put {
    let id = format!("p_{handle:016}");
    let body = json!({"id": id, "name": format!("host-{handle}"), "addresses": [format!("100.64.{}.{}", handle >> 8, handle & 255)]});
    Put::new(handle, &id, body.to_string().as_bytes(), None).unwrap()
}

#[test]
fn fifty_thousand_peers_of_two_thousand_rules_in_a_hundred_and_fifty_megabytes() {
    let before = HELD.load(Relaxed);
    let mut state = State::new("e");
    // A hundred views of the same rules, as of classes that others' filters tell apart.
    let views = 100;
    let change = |view: u32, port: u32| ViewChange::Edit {
        view,
        add: (1..=PEERS).filter(|handle| port == 22 && handle % views == view).collect(),
        remove: Default::default(),
        filter: Some(filter(port)),
    };
    let own = |handle: Handle| {
        RecipientChange::set(
            handle,
            handle % views,
            Some(json!({"name": format!("host-{handle}")}).to_string().as_bytes()),
        )
        .unwrap()
    };
    state
        .publish(Batch {
            revision: 1,
            puts: (1..=PEERS).map(record).collect(),
            views: (0..views).map(|view| change(view, 22)).collect(),
            recipients: (1..=PEERS).map(own).collect(),
            ..Batch::default()
        })
        .unwrap();
    let bytes = state.filters().1;
    assert_eq!(state.filters().0, 1);
    assert!(bytes > 200_000, "{bytes}");
    let idle = HELD.load(Relaxed) - before;
    assert!(idle < 60 * MIB, "{} MiB for peers and rules", idle / MIB);

    // Everybody is connected, and has a message with the rules on its way.
    let attached: Vec<_> = (1..=PEERS).map(|handle| state.attach(handle, None).unwrap()).collect();
    let frames: Vec<_> = attached.iter().map(|attached| attached.update.encode().unwrap()).collect();
    let sent = HELD.load(Relaxed) - before;
    assert!(sent < 150 * MIB, "{} MiB with a full map under way to each", sent / MIB);
    let text = frames[0].payload();
    assert!(text.len() > bytes, "and each has them whole");
    drop((attached, frames));

    // Other rules replace them: the old ones go.
    state
        .publish(Batch { revision: 2, views: (0..views).map(|view| change(view, 23)).collect(), ..Batch::default() })
        .unwrap();
    for handle in 1..=PEERS {
        state.detach(handle, u64::from(handle));
    }
    assert_eq!(state.filters().0, 1);
    let after = HELD.load(Relaxed) - before;
    assert!(after < 60 * MIB, "{} MiB after other rules", after / MIB);
}
