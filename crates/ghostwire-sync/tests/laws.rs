//! The law of the state: a client that applies what it is sent holds exactly what it may see, as it now is, whatever
//! was published, skipped, lost, resumed and restarted in between.
//!
//! The world below is a plain model of what is published; the client is a plain implementation of `docs/protocol.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ghostwire_sync::{
    Batch, Digest, Filter, Frame, Handle, Next, Position, Put, RecipientChange, State, SyncError, ViewChange, ViewId,
};
use proptest::prelude::*;
use serde_json::{Value, json};

// ---- the client -----------------------------------------------------------------------------------------------

#[derive(Clone, Debug, Default)]
struct Client {
    epoch: Option<String>,
    revision: u64,
    own: Value,
    /// With its digest; null when there is none.
    filter: Value,
    peers: BTreeMap<String, Value>,
}

impl Client {
    fn apply(&mut self, frame: &Frame) -> Result<(), TestCaseError> {
        let message: Value = serde_json::from_slice(&frame.payload()).map_err(|error| {
            TestCaseError::fail(format!("{error}: {:?}", String::from_utf8_lossy(&frame.payload())))
        })?;
        let list = |name: &str| message.get(name).and_then(Value::as_array).cloned();
        match message["type"].as_str() {
            Some("full") => {
                self.peers.clear();
                self.own = message["self"].clone();
                self.filter = message.get("packetFilter").cloned().ok_or_else(|| TestCaseError::fail("no filter"))?;
                self.put(list("peers"))?;
            }
            Some("delta") => {
                prop_assert_eq!(message["epoch"].as_str(), self.epoch.as_deref());
                if let Some(own) = message.get("self") {
                    self.own = own.clone();
                }
                if let Some(filter) = message.get("packetFilter") {
                    prop_assert_ne!(filter, &self.filter, "a filter is told once");
                    self.filter = filter.clone();
                }
                for id in list("removed").ok_or_else(|| TestCaseError::fail("no removed"))? {
                    self.peers.remove(id.as_str().unwrap());
                }
                self.put(list("changed"))?;
                if let Some(visible) = list("visible") {
                    let visible: BTreeSet<_> = visible.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
                    self.peers.retain(|id, _| visible.contains(id));
                    prop_assert_eq!(self.peers.len(), visible.len(), "a visible peer was not sent");
                }
            }
            other => return Err(TestCaseError::fail(format!("type {other:?}"))),
        }
        self.epoch = message["epoch"].as_str().map(str::to_owned);
        self.revision = message["revision"].as_u64().unwrap();
        Ok(())
    }

    fn put(&mut self, records: Option<Vec<Value>>) -> Result<(), TestCaseError> {
        for record in records.ok_or_else(|| TestCaseError::fail("no list"))? {
            let id = record["id"].as_str().unwrap().to_owned();
            self.peers.insert(id, record);
        }
        Ok(())
    }

    fn digest(&self) -> Digest {
        self.peers.keys().fold(Digest::default(), |all, id| all.toggled(Digest::of(id)))
    }

    fn position(&self) -> Option<Position> {
        let epoch = self.epoch.clone()?;
        let filter = self.filter["digest"].as_str().map(str::to_owned);
        Some(Position { epoch, revision: self.revision, digest: Some(self.digest()), filter })
    }
}

// ---- the world ------------------------------------------------------------------------------------------------

/// Handles share ids in pairs, so that an id can come back under another handle.
const HANDLES: Handle = 12;
const RECIPIENTS: Handle = 4;
const VIEWS: ViewId = 3;

fn filter(rules: &Value) -> Arc<Filter> {
    Arc::new(Filter::new(rules.to_string().as_bytes()).unwrap())
}

fn id_of(handle: Handle) -> String {
    format!("p\"{}", handle % (HANDLES / 2 + 2))
}

#[derive(Clone, Debug)]
struct Recorded {
    body: Value,
    /// None if it changed at a revision that clients may have been told of before.
    changed_at: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct World {
    epoch: u32,
    revision: u64,
    writes: u64,
    records: BTreeMap<Handle, Recorded>,
    views: BTreeMap<ViewId, BTreeSet<Handle>>,
    filters: BTreeMap<ViewId, Value>,
    recipients: BTreeMap<Handle, (ViewId, Value)>,
}

impl World {
    fn epoch(&self) -> String {
        format!("epoch {}", self.epoch)
    }

    /// What `recipient` is to hold.
    fn visible(&self, recipient: Handle) -> BTreeMap<String, Value> {
        let (view, _) = &self.recipients[&recipient];
        let shown = self.views[view].iter().filter(|handle| **handle != recipient);
        shown.map(|handle| (id_of(*handle), self.records[handle].body.clone())).collect()
    }

    /// Everything as one batch, for a state that begins.
    fn load(&self) -> Batch {
        let put = |(handle, record): (&Handle, &Recorded)| {
            Put::new(*handle, &id_of(*handle), record.body.to_string().as_bytes(), record.changed_at).unwrap()
        };
        let view = |(view, shown): (&ViewId, &BTreeSet<Handle>)| ViewChange::Edit {
            view: *view,
            add: shown.iter().collect(),
            remove: Default::default(),
            filter: self.filters.get(view).map(filter),
        };
        let recipient = |(handle, (view, own)): (&Handle, &(ViewId, Value))| {
            RecipientChange::set(*handle, *view, Some(own.to_string().as_bytes())).unwrap()
        };
        Batch {
            revision: self.revision,
            puts: self.records.iter().map(put).collect(),
            views: self.views.iter().map(view).collect(),
            recipients: self.recipients.iter().map(recipient).collect(),
            ..Batch::default()
        }
    }

    /// Turns wishes into a valid batch, and does to the world what the batch does.
    fn batch(&mut self, again: bool, wishes: &[Wish]) -> Batch {
        self.revision += u64::from(!again);
        let mut batch = Batch { revision: self.revision, ..Batch::default() };
        // In the order in which a batch takes effect.
        for wish in wishes {
            let Wish::Remove(handle) = *wish else { continue };
            if self.records.remove(&handle).is_some() {
                batch.removes.push(handle);
                self.views.values_mut().for_each(|shown| {
                    shown.remove(&handle);
                });
            }
        }
        for wish in wishes {
            let Wish::Put(handle) = *wish else { continue };
            let other = self.records.keys().any(|held| *held != handle && id_of(*held) == id_of(handle));
            if other || batch.removes.contains(&handle) {
                continue;
            }
            self.writes += 1;
            let body = json!({"n": self.writes, "id": id_of(handle), "t": "[{\\"});
            // Of a record that is there already, nothing that is claimed of its age counts.
            let claim = self.records.contains_key(&handle).then_some(1);
            batch.puts.push(Put::new(handle, &id_of(handle), body.to_string().as_bytes(), claim).unwrap());
            let changed_at = (!again).then_some(self.revision);
            self.records.insert(handle, Recorded { body, changed_at });
        }
        let mut edited = BTreeSet::new();
        for wish in wishes {
            let Wish::Filter(view, rules) = *wish else { continue };
            let rules = json!([rules, "\"}]"]);
            batch.views.push(ViewChange::Edit {
                view,
                add: Default::default(),
                remove: Default::default(),
                filter: Some(filter(&rules)),
            });
            self.views.entry(view).or_default();
            self.filters.insert(view, rules);
            edited.insert(view);
        }
        for wish in wishes {
            let Wish::Edit(view, add, remove) = wish else { continue };
            let add: BTreeSet<Handle> =
                add.iter().filter(|handle| self.records.contains_key(handle)).copied().collect();
            batch.views.push(ViewChange::Edit {
                view: *view,
                add: add.iter().collect(),
                remove: remove.iter().collect(),
                filter: None,
            });
            let shown = self.views.entry(*view).or_default();
            shown.retain(|handle| !remove.contains(handle));
            shown.extend(add);
            edited.insert(*view);
        }
        for wish in wishes {
            match *wish {
                Wish::Recipient(handle, view, told) if self.views.contains_key(&view) => {
                    self.writes += 1;
                    let new = !self.recipients.contains_key(&handle);
                    let own = json!({"n": self.writes});
                    let bytes = own.to_string();
                    let tell = told || new;
                    let change = RecipientChange::set(handle, view, tell.then_some(bytes.as_bytes())).unwrap();
                    batch.recipients.push(change);
                    let entry = self.recipients.entry(handle).or_insert_with(|| (view, Value::Null));
                    entry.0 = view;
                    if tell {
                        entry.1 = own;
                    }
                }
                Wish::Revoke(handle) if self.recipients.remove(&handle).is_some() => {
                    batch.recipients.push(RecipientChange::Revoke { handle });
                }
                _ => {}
            }
        }
        for wish in wishes {
            let Wish::Drop(view) = *wish else { continue };
            let used = self.recipients.values().any(|(used, _)| *used == view)
                || batch
                    .recipients
                    .iter()
                    .any(|change| matches!(change, RecipientChange::Set { view: named, .. } if *named == view));
            if !used && !edited.contains(&view) {
                self.views.remove(&view);
                self.filters.remove(&view);
                batch.views.push(ViewChange::Drop { view });
            }
        }
        batch
    }
}

#[derive(Clone, Debug)]
enum Wish {
    Put(Handle),
    Remove(Handle),
    Edit(ViewId, Vec<Handle>, Vec<Handle>),
    /// Few different ones, so that views share them and have them again.
    Filter(ViewId, u32),
    Drop(ViewId),
    Recipient(Handle, ViewId, bool),
    Revoke(Handle),
}

#[derive(Clone, Debug)]
enum Step {
    /// Publishes; `again` at the revision of the batch before.
    Publish {
        again: bool,
        wishes: Vec<Wish>,
    },
    /// Connects, also in place of a connection that is there; with a position if the client has one and is to use it.
    Connect {
        recipient: Handle,
        resume: bool,
    },
    /// Lies about its position.
    Lie {
        recipient: Handle,
        revision: u64,
        digest: bool,
    },
    /// Takes what there is to be told. If it is lost on the way, the connection is lost with it.
    Flush {
        recipient: Handle,
        lost: bool,
    },
    Disconnect(Handle),
    /// A new process with the same history at the same revision, or a restored one.
    Restart {
        restored: bool,
    },
}

fn wishes() -> impl Strategy<Value = Wish> {
    let handle = || 0..HANDLES;
    let handles = || prop::collection::vec(0..HANDLES, 0..5);
    prop_oneof![
        6 => handle().prop_map(Wish::Put),
        2 => handle().prop_map(Wish::Remove),
        5 => (0..VIEWS, handles(), handles()).prop_map(|(view, add, remove)| Wish::Edit(view, add, remove)),
        2 => (0..VIEWS, 0..3_u32).prop_map(|(view, rules)| Wish::Filter(view, rules)),
        1 => (0..VIEWS).prop_map(Wish::Drop),
        3 => (0..RECIPIENTS, 0..VIEWS, any::<bool>()).prop_map(|(r, v, told)| Wish::Recipient(r, v, told)),
        1 => (0..RECIPIENTS).prop_map(Wish::Revoke),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop::bool::weighted(0.3), prop::collection::vec(wishes(), 0..6))
            .prop_map(|(again, wishes)| Step::Publish { again, wishes }),
        4 => (0..RECIPIENTS, prop::bool::weighted(0.8)).prop_map(|(recipient, resume)| Step::Connect { recipient, resume }),
        1 => (0..RECIPIENTS, 0..30_u64, any::<bool>())
            .prop_map(|(recipient, revision, digest)| Step::Lie { recipient, revision, digest }),
        6 => (0..RECIPIENTS, prop::bool::weighted(0.3)).prop_map(|(recipient, lost)| Step::Flush { recipient, lost }),
        1 => (0..RECIPIENTS).prop_map(Step::Disconnect),
        1 => prop::bool::weighted(0.2).prop_map(|restored| Step::Restart { restored }),
    ]
}

// ---- the run --------------------------------------------------------------------------------------------------

struct Run {
    world: World,
    state: State,
    log_total: usize,
    clients: BTreeMap<Handle, Client>,
    sessions: BTreeMap<Handle, u64>,
    /// Recipients that `take_pending` named and that were not flushed since.
    woken: BTreeSet<Handle>,
}

impl Run {
    fn new(log_total: usize) -> Self {
        let mut world = World { revision: 1, ..World::default() };
        let all: Vec<Wish> = (0..VIEWS)
            .map(|view| Wish::Edit(view, vec![], vec![]))
            .chain((0..RECIPIENTS).map(|recipient| Wish::Recipient(recipient, recipient % VIEWS, true)))
            .collect();
        world.batch(false, &all);
        let mut state = State::bounded(&world.epoch(), log_total);
        state.publish(world.load()).unwrap();
        let clients = (0..RECIPIENTS).map(|recipient| (recipient, Client::default())).collect();
        Self { world, state, log_total, clients, sessions: BTreeMap::new(), woken: BTreeSet::new() }
    }

    /// Whoever has just applied everything that it was sent holds what it is to hold.
    fn law(&self, recipient: Handle) -> Result<(), TestCaseError> {
        let client = &self.clients[&recipient];
        prop_assert_eq!(&client.peers, &self.world.visible(recipient), "recipient {}", recipient);
        let (view, own) = &self.world.recipients[&recipient];
        prop_assert_eq!(&client.own, own);
        prop_assert_eq!(client.filter.get("rules"), self.world.filters.get(view));
        Ok(())
    }

    fn connect(&mut self, recipient: Handle, from: Option<&Position>) -> Result<Frame, TestCaseError> {
        let full = self.state.needs_full(recipient, from);
        let attached = self.state.attach(recipient, from).ok_or_else(|| TestCaseError::fail("not attached"))?;
        prop_assert_eq!(full, Some(attached.update.is_full()));
        prop_assert_eq!(attached.replaced, self.sessions.contains_key(&recipient));
        if let Some(before) = self.sessions.insert(recipient, attached.session) {
            prop_assert!(matches!(self.state.next(recipient, before), Next::Replaced));
            prop_assert!(!self.state.detach(recipient, before));
        }
        self.woken.remove(&recipient);
        let frame = attached.update.encode().ok_or_else(|| TestCaseError::fail("a hello without an answer"))?;
        // Whatever it says of itself, it is shown nothing that it may not see.
        let message: Value = serde_json::from_slice(&frame.payload()).unwrap();
        let visible = self.world.visible(recipient);
        for list in ["peers", "changed"] {
            for record in message.get(list).and_then(Value::as_array).into_iter().flatten() {
                prop_assert_eq!(visible.get(record["id"].as_str().unwrap()), Some(record));
            }
        }
        Ok(frame)
    }

    fn flush(&mut self, recipient: Handle, lost: bool) -> Result<(), TestCaseError> {
        let Some(&session) = self.sessions.get(&recipient) else { return Ok(()) };
        let woken = self.woken.remove(&recipient);
        match self.state.next(recipient, session) {
            Next::Update(update) => {
                if let Some(frame) = update.encode() {
                    prop_assert!(woken, "there was news, but recipient {} was not woken", recipient);
                    if lost {
                        return self.disconnect(recipient);
                    }
                    self.clients.get_mut(&recipient).unwrap().apply(&frame)?;
                }
                self.law(recipient)
            }
            Next::Idle => self.law(recipient),
            Next::Revoked => {
                prop_assert!(woken, "a revocation wakes");
                self.sessions.remove(&recipient);
                Ok(())
            }
            Next::Replaced => Err(TestCaseError::fail("replaced")),
        }
    }

    fn disconnect(&mut self, recipient: Handle) -> Result<(), TestCaseError> {
        if let Some(session) = self.sessions.remove(&recipient) {
            prop_assert!(self.state.detach(recipient, session));
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Publish { again, wishes } => {
                let before: BTreeSet<_> = self.world.recipients.keys().copied().collect();
                let batch = self.world.batch(*again, wishes);
                let revoked: BTreeSet<_> = (batch.recipients.iter())
                    .filter_map(|change| match change {
                        RecipientChange::Revoke { handle } => Some(*handle),
                        RecipientChange::Set { .. } => None,
                    })
                    .collect();
                let outcome = self.state.publish(batch).map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert!(outcome.revoked.iter().all(|handle| revoked.contains(handle)));
                prop_assert!(before.intersection(&revoked).all(|handle| outcome.revoked.contains(handle)));
                self.woken.extend(self.state.take_pending());
                // A revoked peer has to start over: its tokens are gone, and so is what it was.
                for recipient in revoked {
                    if let Some(session) = self.sessions.remove(&recipient) {
                        prop_assert!(self.woken.remove(&recipient), "a revocation wakes");
                        prop_assert!(matches!(self.state.next(recipient, session), Next::Revoked));
                        prop_assert!(!self.state.detach(recipient, session));
                    }
                }
            }
            Step::Connect { recipient, resume } if self.world.recipients.contains_key(recipient) => {
                let from = self.clients[recipient].position().filter(|_| *resume);
                let frame = self.connect(*recipient, from.as_ref())?;
                let visible = self.world.visible(*recipient);
                let holds_all = self.clients[recipient].peers.keys().eq(visible.keys());
                if from.is_some_and(|from| from.epoch == self.world.epoch()) && holds_all {
                    let message: Value = serde_json::from_slice(&frame.payload()).unwrap();
                    prop_assert_eq!(&message["type"], "delta", "who holds the right peers needs no full map");
                    prop_assert!(message.get("visible").is_none(), "nor a list");
                }
                let client = self.clients.get_mut(recipient).unwrap();
                client.apply(&frame)?;
                self.law(*recipient)?;
            }
            Step::Lie { recipient, revision, digest } if self.world.recipients.contains_key(recipient) => {
                let digest = digest.then(|| Digest::of("a lie"));
                let from =
                    Position { epoch: self.world.epoch(), revision: *revision, digest, filter: Some("a lie".into()) };
                let frame = self.connect(*recipient, Some(&from))?;
                let message: Value = serde_json::from_slice(&frame.payload()).unwrap();
                let (view, _) = &self.world.recipients[recipient];
                prop_assert_eq!(message["packetFilter"].get("rules"), self.world.filters.get(view));
                self.disconnect(*recipient)?;
            }
            Step::Connect { recipient, .. } | Step::Lie { recipient, .. } => {
                prop_assert!(self.state.attach(*recipient, None).is_none());
            }
            Step::Flush { recipient, lost } => self.flush(*recipient, *lost)?,
            Step::Disconnect(recipient) => self.disconnect(*recipient)?,
            Step::Restart { restored } => {
                if *restored {
                    self.world.epoch += 1;
                    self.world.revision = 1;
                    self.world.records.values_mut().for_each(|record| record.changed_at = None);
                }
                self.state = State::bounded(&self.world.epoch(), self.log_total);
                self.state.publish(self.world.load()).unwrap();
                self.sessions.clear();
                self.woken.clear();
            }
        }
        let connected = self.state.counts()[3];
        prop_assert_eq!(connected, self.sessions.len());
        Ok(())
    }

    /// At the end everybody comes back and is told everything.
    fn end(mut self) -> Result<(), TestCaseError> {
        let recipients: Vec<_> = self.world.recipients.keys().copied().collect();
        for recipient in recipients {
            if self.sessions.contains_key(&recipient) {
                self.flush(recipient, false)?;
                self.disconnect(recipient)?;
            }
            self.step(&Step::Connect { recipient, resume: true })?;
        }
        Ok(())
    }
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(1500), ..default }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..config() })]

    #[test]
    fn a_client_holds_exactly_what_it_may_see(
        log_total in prop_oneof![Just(6_usize), Just(60), Just(1_000_000)],
        steps in prop::collection::vec(steps(), 1..60),
    ) {
        let mut run = Run::new(log_total);
        for step in &steps {
            run.step(step)?;
        }
        run.end()?;
    }
}

// ---- what the law does not say: messages are no larger than need be ---------------------------------------------

fn message(frame: Option<Frame>) -> Value {
    serde_json::from_slice(&frame.expect("a message").payload()).unwrap()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["id"].as_str().or(entry.as_str()).unwrap()).collect()
}

fn put(handle: Handle, text: &str) -> Put {
    let id = format!("p{handle}");
    Put::new(handle, &id, json!({"id": id, "text": text}).to_string().as_bytes(), None).unwrap()
}

/// A record as a process that begins at revision 10 loads it.
fn loaded(handle: Handle) -> Put {
    let id = format!("p{handle}");
    Put::new(handle, &id, json!({"id": id, "text": "a"}).to_string().as_bytes(), Some(10)).unwrap()
}

fn edit(view: ViewId, add: &[Handle], remove: &[Handle]) -> ViewChange {
    ViewChange::Edit { view, add: add.iter().collect(), remove: remove.iter().collect(), filter: None }
}

fn set(handle: Handle, view: ViewId) -> RecipientChange {
    RecipientChange::set(handle, view, Some(br#"{"me":true}"#)).unwrap()
}

/// Peers 1 to 4 in view 1, which recipients 1 and 2 see; revision 10.
fn small() -> State {
    let mut state = State::new("e");
    let batch = Batch {
        revision: 10,
        puts: (1..=4).map(loaded).collect(),
        views: vec![edit(1, &[1, 2, 3, 4], &[])],
        recipients: vec![set(1, 1), set(2, 1)],
        ..Batch::default()
    };
    state.publish(batch).unwrap();
    state
}

fn next(state: &mut State, handle: Handle, session: u64) -> Option<Frame> {
    match state.next(handle, session) {
        Next::Update(update) => update.encode(),
        Next::Idle => None,
        other => panic!("{other:?}"),
    }
}

fn digest(ids: &[&str]) -> Digest {
    ids.iter().fold(Digest::default(), |all, id| all.toggled(Digest::of(id)))
}

#[test]
fn a_full_map_leaves_the_recipient_out() {
    let mut state = small();
    let attached = state.attach(2, None).unwrap();
    let full = message(attached.update.encode());
    assert_eq!(full["type"], "full");
    assert_eq!((&full["epoch"], &full["revision"], &full["self"]), (&json!("e"), &json!(10), &json!({"me": true})));
    assert_eq!(ids(&full["peers"]), ["p1", "p3", "p4"]);
    assert_eq!(ids(&message(state.attach(1, None).unwrap().update.encode())["peers"]), ["p2", "p3", "p4"]);
}

#[test]
fn a_delta_says_what_changed_and_no_more() {
    let mut state = small();
    let [one, two] = [1, 2].map(|handle| state.attach(handle, None).unwrap().session);
    assert!(next(&mut state, 1, one).is_none());
    state.publish(Batch { revision: 11, puts: vec![put(2, "b"), put(3, "b")], ..Batch::default() }).unwrap();
    assert_eq!(state.take_pending().iter().collect::<Vec<_>>(), [1, 2]);
    let delta = message(next(&mut state, 1, one));
    assert_eq!(ids(&delta["changed"]), ["p2", "p3"]);
    assert_eq!((&delta["removed"], delta.get("self"), delta.get("visible")), (&json!([]), None, None));
    assert_eq!(ids(&message(next(&mut state, 2, two))["changed"]), ["p3"]);
    // Its own record alone is no news to a recipient.
    state.publish(Batch { revision: 12, puts: vec![put(2, "c")], ..Batch::default() }).unwrap();
    assert!(next(&mut state, 2, two).is_none());
    // Seen several changes late, a peer that came and went is not mentioned.
    state
        .publish(Batch { revision: 13, puts: vec![put(5, "")], views: vec![edit(1, &[5], &[])], ..Batch::default() })
        .unwrap();
    state.publish(Batch { revision: 14, removes: vec![5, 4], puts: vec![put(3, "d")], ..Batch::default() }).unwrap();
    let delta = message(next(&mut state, 1, one));
    assert_eq!((ids(&delta["changed"]), ids(&delta["removed"])), (vec!["p2", "p3"], vec!["p4"]));
    assert_eq!(delta["changed"][1]["text"], "d");
    assert_eq!(delta["revision"], 14);
}

#[test]
fn another_view_is_a_delta_for_who_is_connected() {
    let mut state = small();
    let session = state.attach(1, None).unwrap().session;
    let batch =
        Batch { revision: 11, views: vec![edit(2, &[1, 3, 4], &[])], recipients: vec![set(1, 2)], ..Batch::default() };
    assert!(state.publish(batch).unwrap().urgent);
    let delta = message(next(&mut state, 1, session));
    assert_eq!((ids(&delta["changed"]), ids(&delta["removed"])), (vec![], vec!["p2"]));
    assert_eq!(delta["self"], json!({"me": true}));
}

#[test]
fn a_resume_with_the_right_digest_needs_no_list() {
    let mut state = small();
    state.publish(Batch { revision: 11, puts: vec![put(3, "b")], ..Batch::default() }).unwrap();
    state.publish(Batch { revision: 12, puts: vec![put(4, "b")], ..Batch::default() }).unwrap();
    let held = digest(&["p2", "p3", "p4"]);
    for (revision, changed) in [(10, vec!["p3", "p4"]), (11, vec!["p4"]), (12, vec![])] {
        let from = Position { epoch: "e".into(), revision, digest: Some(held), filter: None };
        let answer = message(state.attach(1, Some(&from)).unwrap().update.encode());
        assert_eq!((&answer["type"], answer.get("visible")), (&json!("delta"), None));
        assert_eq!(ids(&answer["changed"]), changed, "from {revision}");
        assert_eq!(answer["self"], json!({"me": true}));
    }
}

#[test]
fn a_resume_with_another_digest_lists_all_that_is_visible() {
    let mut state = small();
    state.publish(Batch { revision: 11, puts: vec![put(3, "b")], ..Batch::default() }).unwrap();
    // p5 is an old record by the time that the view gains it.
    state.publish(Batch { revision: 12, puts: vec![put(5, "a")], ..Batch::default() }).unwrap();
    state
        .publish(Batch { revision: 13, removes: vec![2], views: vec![edit(1, &[5], &[])], ..Batch::default() })
        .unwrap();
    for held in [Some(digest(&["p2", "p3", "p4"])), None] {
        let from = Position { epoch: "e".into(), revision: 12, digest: held, filter: None };
        let answer = message(state.attach(1, Some(&from)).unwrap().update.encode());
        assert_eq!(ids(&answer["changed"]), ["p5"]);
        assert_eq!(ids(&answer["visible"]), ["p3", "p4", "p5"]);
    }
}

#[test]
fn a_position_that_is_not_ours_gets_a_full_map() {
    let mut state = small();
    state.publish(Batch { revision: 11, views: vec![edit(1, &[], &[4])], ..Batch::default() }).unwrap();
    let wrong = Some(digest(&["p2"]));
    let right = Some(digest(&["p2", "p3"]));
    for (epoch, revision, digest) in
        [("other", 11, right), ("e", 12, right), ("e", 10, wrong), ("e", 3, wrong), ("", 0, None)]
    {
        let from = Position { epoch: epoch.into(), revision, digest, filter: None };
        assert!(state.attach(1, Some(&from)).unwrap().update.is_full(), "{from:?}");
    }
    let from = Position { epoch: "e".into(), revision: 3, digest: right, filter: None };
    assert!(!state.attach(1, Some(&from)).unwrap().update.is_full());
}

#[test]
fn behind_the_horizon_is_a_full_map() {
    let mut state = State::bounded("e", 4);
    let views = vec![edit(1, &[1, 2, 3, 4], &[])];
    let recipients = vec![set(1, 1)];
    let puts = (1..=4).map(loaded).collect();
    state.publish(Batch { revision: 10, puts, views, recipients, ..Batch::default() }).unwrap();
    for revision in 11..=20 {
        state.publish(Batch { revision, puts: vec![put(2, "b")], ..Batch::default() }).unwrap();
    }
    let mut full = |revision| {
        let from = Position { epoch: "e".into(), revision, digest: None, filter: None };
        state.attach(1, Some(&from)).unwrap().update.is_full()
    };
    assert_eq!([11, 15, 16, 20].map(&mut full), [true, true, false, false]);
}

#[test]
fn a_filter_is_told_once_and_whenever_it_is_another() {
    let rules = |number: u32| filter(&json!([number]));
    let with = |view, number| ViewChange::Edit {
        view,
        add: [1, 2, 3].into_iter().collect(),
        remove: Default::default(),
        filter: Some(rules(number)),
    };
    let told = |frame: Option<Frame>| message(Some(frame?)).get("packetFilter").map(|told| told["rules"].clone());
    let mut state = small();
    let first = state.attach(1, None).unwrap();
    assert_eq!(message(first.update.encode())["packetFilter"], Value::Null);
    let one = first.session;
    // The same batch shows a record and changes the filter: one message has both.
    let batch = Batch { revision: 11, puts: vec![put(3, "b")], views: vec![with(1, 7)], ..Batch::default() };
    assert!(state.publish(batch).unwrap().urgent, "it may let less in");
    assert_eq!(state.take_pending().iter().collect::<Vec<_>>(), [1]);
    let delta = message(next(&mut state, 1, one));
    assert_eq!((&delta["packetFilter"]["rules"], ids(&delta["changed"])), (&json!([7]), vec!["p3"]));
    assert_eq!(delta["packetFilter"]["digest"], rules(7).digest());
    assert_eq!(delta.get("self"), None);
    // The same again is nothing, and a change that was taken back before it was told is nothing either.
    for numbers in [vec![7], vec![8, 7]] {
        for number in numbers {
            state.publish(Batch { revision: 12, views: vec![with(1, number)], ..Batch::default() }).unwrap();
        }
        assert_eq!(told(next(&mut state, 1, one)), None);
    }
    // Another view with an equal filter, with another one, and with none.
    for (view, number, expected) in [(2, Some(7), None), (3, Some(9), Some(json!([9]))), (4, None, Some(Value::Null))] {
        let views = vec![number.map_or_else(|| edit(view, &[1, 2, 3], &[]), |number| with(view, number))];
        let recipients = vec![RecipientChange::set(1, view, None).unwrap()];
        state.publish(Batch { revision: 13, views, recipients, ..Batch::default() }).unwrap();
        assert_eq!(told(next(&mut state, 1, one)), expected, "view {view}");
    }
    assert_eq!(state.filters().0, 2, "equal filters are held once, and only while a view has them");
    // A resume: only who holds another one is told.
    let held = digest(&["p1", "p3", "p4"]);
    for (filter, expected) in [
        (Some(rules(7).digest().to_owned()), None),
        (Some(rules(9).digest().to_owned()), Some(json!([7]))),
        (None, Some(json!([7]))),
    ] {
        let from = Position { epoch: "e".into(), revision: 13, digest: Some(held), filter };
        let answer = message(state.attach(2, Some(&from)).unwrap().update.encode());
        assert_eq!(
            (&answer["type"], answer.get("packetFilter").map(|told| told["rules"].clone())),
            (&json!("delta"), expected)
        );
    }
}

#[test]
fn what_takes_away_is_urgent() {
    let mut state = small();
    state.attach(1, None).unwrap();
    let mut revision = 10;
    let mut urgent = |batch: Batch| {
        revision += 1;
        state.publish(Batch { revision, ..batch }).unwrap().urgent
    };
    assert!(!urgent(Batch { puts: vec![put(5, "a")], views: vec![edit(1, &[5], &[])], ..Batch::default() }));
    assert!(!urgent(Batch { recipients: vec![set(1, 1)], ..Batch::default() }));
    assert!(urgent(Batch { urgent: true, ..Batch::default() }));
    assert!(urgent(Batch { removes: vec![5], ..Batch::default() }));
    assert!(urgent(Batch { views: vec![edit(1, &[], &[4])], ..Batch::default() }));
    assert!(urgent(Batch { recipients: vec![RecipientChange::Revoke { handle: 1 }], ..Batch::default() }));
}

#[test]
fn a_batch_that_contradicts_changes_nothing() {
    let mut state = small();
    let before = (state.revision(), state.counts());
    let stranger = Put::new(1, "px", br#"{"id":"px"}"#, None).unwrap();
    let twin = Put::new(9, "p1", br#"{"id":"p1"}"#, None).unwrap();
    let new = || Put::new(8, "p8", br#"{"id":"p8"}"#, None).unwrap();
    let other = Put::new(8, "p9", br#"{"id":"p9"}"#, None).unwrap();
    type Matches = fn(&SyncError) -> bool;
    let cases: Vec<(Batch, Matches)> = vec![
        (Batch { revision: 9, ..Batch::default() }, |e| matches!(e, SyncError::RevisionBehind { .. })),
        (Batch { puts: vec![stranger], ..Batch::default() }, |e| matches!(e, SyncError::HandleTaken { handle: 1, .. })),
        (Batch { puts: vec![new(), other], ..Batch::default() }, |e| {
            matches!(e, SyncError::HandleTaken { handle: 8, .. })
        }),
        (Batch { puts: vec![twin], ..Batch::default() }, |e| {
            matches!(e, SyncError::IdTaken { held: 1, handle: 9, .. })
        }),
        (Batch { puts: vec![put(1, "")], removes: vec![1], ..Batch::default() }, |e| {
            matches!(e, SyncError::PutAndRemoved { handle: 1 })
        }),
        (Batch { views: vec![edit(1, &[8], &[])], ..Batch::default() }, |e| {
            matches!(e, SyncError::UnknownRecord { view: 1, handle: 8 })
        }),
        (Batch { removes: vec![3], views: vec![edit(1, &[3], &[])], ..Batch::default() }, |e| {
            matches!(e, SyncError::UnknownRecord { view: 1, handle: 3 })
        }),
        (Batch { views: vec![edit(2, &[], &[]), ViewChange::Drop { view: 2 }], ..Batch::default() }, |e| {
            matches!(e, SyncError::EditedAndDropped { view: 2 })
        }),
        (Batch { recipients: vec![set(3, 7)], ..Batch::default() }, |e| {
            matches!(e, SyncError::UnknownView { view: 7 })
        }),
        (Batch { views: vec![ViewChange::Drop { view: 1 }], ..Batch::default() }, |e| {
            matches!(e, SyncError::ViewInUse { view: 1, recipients: 2 })
        }),
        (
            Batch {
                views: vec![edit(2, &[], &[]), ViewChange::Drop { view: 1 }],
                recipients: vec![set(1, 2)],
                ..Batch::default()
            },
            |e| matches!(e, SyncError::ViewInUse { view: 1, recipients: 1 }),
        ),
    ];
    for (batch, expected) in cases {
        let batch = Batch { revision: batch.revision.max(if batch.revision == 9 { 9 } else { 20 }), ..batch };
        let error = state.publish(batch).unwrap_err();
        assert!(expected(&error), "{error}");
        assert_eq!(error.code().name, "ERR_SYNC_BATCH");
        assert_eq!((state.revision(), state.counts()), before, "{error}");
    }
    // With both recipients moved in the same batch the view can go.
    let batch = Batch {
        revision: 20,
        views: vec![edit(2, &[1], &[]), ViewChange::Drop { view: 1 }],
        recipients: vec![set(1, 2), RecipientChange::Revoke { handle: 2 }],
        ..Batch::default()
    };
    state.publish(batch).unwrap();
    assert_eq!(state.counts(), [4, 1, 1, 0]);
}

#[test]
fn removed_ids_are_forgotten_once_told() {
    let mut state = State::bounded("e", 8);
    let start = Batch { revision: 1, views: vec![edit(1, &[], &[])], recipients: vec![set(1, 1)], ..Batch::default() };
    state.publish(start).unwrap();
    let session = state.attach(1, None).unwrap().session;
    for round in 0..1000 {
        let handle = 100 + round;
        let puts = vec![put(handle, "")];
        state.publish(Batch { revision: 2, puts, views: vec![edit(1, &[handle], &[])], ..Batch::default() }).unwrap();
        assert!(next(&mut state, 1, session).is_some());
        state.publish(Batch { revision: 2, removes: vec![handle], ..Batch::default() }).unwrap();
        let delta = message(next(&mut state, 1, session));
        assert_eq!(ids(&delta["removed"]), [format!("p{handle}")]);
    }
    assert!(state.removed_ids() <= 16, "{}", state.removed_ids());
}
