//! The law of the state: a client that applies what it is sent holds exactly what it may see, as it now is, whatever
//! was published, skipped, lost, resumed and restarted in between.
//!
//! `world.rs` is a plain model of what is published, `client.rs` a plain implementation of `docs/protocol.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

mod client;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use ghostwire_sync::{Digest, Frame, Handle, Next, Position, RecipientChange, State};
use proptest::prelude::*;
use serde_json::Value;

use client::Client;
use world::{RECIPIENTS, VIEWS, Wish, World, wishes};

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
