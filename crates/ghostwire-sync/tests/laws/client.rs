//! A client as `docs/protocol.md` describes it, as plain as can be.

use std::collections::{BTreeMap, BTreeSet};

use ghostwire_sync::{Digest, Frame, Position};
use proptest::prelude::*;
use serde_json::Value;

#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(crate) epoch: Option<String>,
    pub(crate) revision: u64,
    pub(crate) own: Value,
    /// With its digest; null when there is none.
    pub(crate) filter: Value,
    pub(crate) peers: BTreeMap<String, Value>,
}

impl Client {
    pub(crate) fn apply(&mut self, frame: &Frame) -> Result<(), TestCaseError> {
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

    pub(crate) fn position(&self) -> Option<Position> {
        let epoch = self.epoch.clone()?;
        let filter = self.filter["digest"].as_str().map(str::to_owned);
        Some(Position { epoch, revision: self.revision, digest: Some(self.digest()), filter })
    }
}
