//! What a server's connections share: the state and its lock, tokens, who is to be woken, and the flush tick.
//!
//! No lock is held across an await. The state's is always taken first: who is connected, woken and reported present
//! follows the order in which the state saw it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::metrics::{Counters, Metrics, count};
use crate::state::{Attached, Next, Position, State};
use crate::tokens::Tokens;
use crate::{Batch, Handle, Options, SyncError};

/// The flush tick doubles while the recipients woken by one flush have not all been served by the next, and halves otherwise.
const TICK: std::ops::RangeInclusive<Duration> = Duration::from_millis(2)..=Duration::from_millis(100);
/// How long bytes are kept for recipients that ask alike.
const FORGET: Duration = Duration::from_secs(1);
/// Full maps being made or sent at a time; removals never wait, full maps do.
const FULL_MAPS: usize = 32;

/// A recipient came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The recipient.
    pub handle: Handle,
    /// Whether it is connected now.
    pub connected: bool,
    /// Milliseconds since 1970.
    pub at: u64,
}

/// One connection's bell.
#[derive(Debug)]
pub(crate) struct Peer {
    /// There may be something to tell.
    pub(crate) wake: Notify,
    /// Rung beside `wake` when the connection is to end: a frame that is stuck is then not waited for.
    pub(crate) cut: Notify,
    /// Woken and not yet served; see [`TICK`].
    waiting: AtomicBool,
    /// Writing, perhaps to a slow reader, whose wait says nothing about load.
    writing: AtomicBool,
    /// The number of all who are waiting.
    load: Arc<AtomicUsize>,
}

#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) options: Options,
    pub(crate) counters: Counters,
    pub(crate) full_maps: Semaphore,
    /// Open sockets, and those of them that have not said a valid hello.
    pub(crate) sockets: Arc<Semaphore>,
    pub(crate) handshakes: Arc<Semaphore>,
    stop: watch::Sender<bool>,
    state: Mutex<State>,
    tokens: Mutex<Tokens>,
    peers: Mutex<HashMap<Handle, Arc<Peer>>>,
    /// The latest of each recipient that was not taken yet.
    presence: Mutex<HashMap<Handle, Presence>>,
    changed: Notify,
    urgent: Notify,
    waiting: Arc<AtomicUsize>,
    tick_ms: AtomicU64,
}

impl Hub {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            counters: Counters::default(),
            full_maps: Semaphore::new(FULL_MAPS),
            sockets: Arc::new(Semaphore::new(options.max_connections)),
            handshakes: Arc::new(Semaphore::new(options.max_handshakes)),
            stop: watch::Sender::new(false),
            state: Mutex::new(State::new(&options.epoch)),
            tokens: Mutex::new(Tokens::new(options.max_tokens)),
            peers: Mutex::default(),
            presence: Mutex::default(),
            changed: Notify::new(),
            urgent: Notify::new(),
            waiting: Arc::default(),
            tick_ms: AtomicU64::new(millis(*TICK.start())),
            options,
        }
    }

    pub(crate) fn publish(&self, batch: Batch) -> Result<(), SyncError> {
        let (outcome, concerns_anybody) = {
            let mut state = self.state.lock();
            (state.publish(batch)?, state.has_pending())
        };
        count(&self.counters.publishes);
        if !outcome.revoked.is_empty() {
            {
                let mut tokens = self.tokens.lock();
                outcome.revoked.iter().for_each(|handle| tokens.revoke(*handle));
            }
            let peers = self.peers.lock();
            outcome.revoked.iter().filter_map(|handle| peers.get(handle)).for_each(|peer| peer.end());
        }
        if concerns_anybody {
            if outcome.urgent { &self.urgent } else { &self.changed }.notify_one();
        }
        Ok(())
    }

    pub(crate) fn issue_token(&self, handle: Handle, lifetime: Duration) -> Result<String, SyncError> {
        // Issued under the state's lock: were the recipient revoked in between, the token would outlive it.
        let state = self.state.lock();
        if !state.is_recipient(handle) {
            return Err(SyncError::UnknownRecipient { handle });
        }
        let token = self.tokens.lock().issue(handle, lifetime, Instant::now())?;
        drop(state);
        count(&self.counters.tokens_issued);
        Ok(token)
    }

    pub(crate) fn redeem(&self, token: &str) -> Option<Handle> {
        self.tokens.lock().redeem(token, Instant::now())
    }

    pub(crate) fn needs_full(&self, handle: Handle, from: Option<&Position>) -> Option<bool> {
        self.state.lock().needs_full(handle, from)
    }

    /// Connects `handle`; `None` if it was revoked.
    pub(crate) fn attach(self: &Arc<Self>, handle: Handle, from: Option<&Position>) -> Option<(Attachment, Attached)> {
        let peer = Arc::new(Peer::new(&self.waiting));
        let mut state = self.state.lock();
        let attached = state.attach(handle, from)?;
        if let Some(before) = self.peers.lock().insert(handle, Arc::clone(&peer)) {
            before.end();
        }
        self.note_presence(handle, true);
        drop(state);
        if self.is_stopped() {
            peer.end();
        }
        count(&self.counters.connected);
        Some((Attachment { hub: Arc::clone(self), handle, session: attached.session, peer }, attached))
    }

    fn note_presence(&self, handle: Handle, connected: bool) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        self.presence.lock().insert(handle, Presence { handle, connected, at });
    }

    pub(crate) fn take_presence(&self) -> Vec<Presence> {
        std::mem::take(&mut *self.presence.lock()).into_values().collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().counts()[3]
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let (counts, (filters, filter_bytes), revision) = {
            let state = self.state.lock();
            (state.counts(), state.filters(), state.revision())
        };
        let [records, views, recipients, connections] = counts.map(|count| count as u64);
        Metrics {
            connections,
            sockets: (self.options.max_connections - self.sockets.available_permits()) as u64,
            records,
            views,
            recipients,
            filters: filters as u64,
            filter_bytes: filter_bytes as u64,
            tokens: self.tokens.lock().len() as u64,
            revision,
            tick_ms: self.tick_ms.load(Relaxed),
            ..self.counters.snapshot()
        }
    }

    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        self.peers.lock().values().for_each(|peer| peer.end());
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves when the server stops.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.stop.subscribe();
        async move {
            // An error would mean that the sender is gone, and the server with it.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// Wakes recipients that have something to be told: at once for what is urgent, else once a tick.
    pub(crate) async fn flush(self: Arc<Self>) {
        let mut tick = *TICK.start();
        let mut forget = interval(FORGET);
        forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.urgent.notified() => {}
                () = self.changed.notified() => {
                    tokio::select! {
                        biased;
                        () = self.urgent.notified() => {}
                        () = sleep(tick) => {}
                    }
                }
                _ = forget.tick() => {
                    self.state.lock().forget_answers();
                    continue;
                }
            }
            let behind = self.waiting.load(Relaxed) > 0;
            tick = if behind { tick * 2 } else { tick / 2 }.clamp(*TICK.start(), *TICK.end());
            self.tick_ms.store(millis(tick), Relaxed);

            let pending = self.state.lock().take_pending();
            let peers: Vec<_> = {
                let peers = self.peers.lock();
                pending.iter().filter_map(|handle| peers.get(&handle).cloned()).collect()
            };
            for peer in peers {
                peer.wake();
            }
            count(&self.counters.flushes);
        }
    }
}

impl Peer {
    fn new(load: &Arc<AtomicUsize>) -> Self {
        Self {
            wake: Notify::new(),
            cut: Notify::new(),
            waiting: AtomicBool::new(false),
            writing: AtomicBool::new(false),
            load: Arc::clone(load),
        }
    }

    fn wake(&self) {
        if !self.writing.load(Relaxed) && !self.waiting.swap(true, Relaxed) {
            self.load.fetch_add(1, Relaxed);
        }
        self.wake.notify_one();
    }

    fn end(&self) {
        self.cut.notify_one();
        self.wake.notify_one();
    }

    fn served(&self) {
        if self.waiting.swap(false, Relaxed) {
            self.load.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.served();
    }
}

/// A connected recipient's hold on the hub; disconnects when dropped.
#[derive(Debug)]
pub(crate) struct Attachment {
    hub: Arc<Hub>,
    handle: Handle,
    session: u64,
    pub(crate) peer: Arc<Peer>,
}

impl Attachment {
    pub(crate) fn next(&self) -> Next {
        self.peer.served();
        self.hub.state.lock().next(self.handle, self.session)
    }

    /// Marks whether a frame is being written.
    pub(crate) fn writing(&self, writing: bool) {
        self.peer.writing.store(writing, Relaxed);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        if state.detach(self.handle, self.session) {
            self.hub.note_presence(self.handle, false);
        }
        let mut peers = self.hub.peers.lock();
        if peers.get(&self.handle).is_some_and(|peer| Arc::ptr_eq(peer, &self.peer)) {
            peers.remove(&self.handle);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
