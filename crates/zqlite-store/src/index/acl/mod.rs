//! The kind `acl(source, destination, protocol, ports, priority, action, enabled[, expires_at])`: a thin adapter from rows to
//! the engine of `zqlite-acl`. Further tables hold the peers' addresses (`peer`, `address`) and labels (`peer`, `label`).

mod parse;
mod question;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::Value;
use zqlite_acl::{
    Decision, Engine, Explanation, Label, Peer, PeerError, PeerField, PeerId, Rule, RuleError, RuleField, RuleId,
};
use zqlite_cidr::Address;

use crate::index::bitmap::Sorted;
use crate::index::cidr::owned;
use crate::index::content::{BuildError, Scan};
use crate::index::definition::Definition;
use crate::index::source::{Fault, Source};
use crate::{Error, ErrorCode, Result};
use parse::{peer_address, peer_label, rule_of};
pub(crate) use question::Question;

/// The fields of a rule, in the order of the columns; the last may be missing.
const FIELDS: [RuleField; 8] = [
    RuleField::Sources,
    RuleField::Destinations,
    RuleField::Protocols,
    RuleField::Ports,
    RuleField::Priority,
    RuleField::Action,
    // There is no field of this name, and nothing in the engine that could be wrong with it.
    RuleField::Id,
    RuleField::ExpiresAt,
];

/// What the rows of a source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Rules,
    Addresses,
    Labels,
}

/// What the rows say of a peer, by row id.
#[derive(Debug, Clone, Default)]
struct PeerRows {
    addresses: BTreeMap<i64, Address>,
    labels: BTreeMap<i64, Label>,
}

/// Rules and peers.
#[derive(Debug, Clone)]
pub(crate) struct Acl {
    engine: Engine,
    peers: Sorted<PeerId, Arc<PeerRows>>,
    roles: Arc<[Role]>,
    /// Changed rows that the engine has not been told of.
    rules: BTreeMap<RuleId, Option<Rule>>,
    unsettled: BTreeSet<PeerId>,
}

fn roles(definition: &Definition) -> Vec<(Role, &str)> {
    let mut roles = vec![(Role::Rules, definition.table.as_str())];
    roles.extend(definition.option("peers").map(|table| (Role::Addresses, table)));
    roles.extend(definition.option("labels").map(|table| (Role::Labels, table)));
    roles
}

/// The tables of rules, addresses and labels.
pub(crate) fn bind(connection: &Connection, definition: &Definition) -> Result<Vec<Source>> {
    if !(7..=8).contains(&definition.columns.len()) {
        let columns = "source, destination, protocol, ports, priority, action, enabled, and if need be expires_at";
        let why = format!("it has the columns {columns}, in this order, not {}", definition.columns.len());
        return Err(definition.kind.wrong(&definition.name, &why));
    }
    let bind = |(role, table): (Role, &str)| match role {
        Role::Rules => Source::bind(connection, definition, table, &definition.columns),
        Role::Addresses => Source::bind(connection, definition, table, &["peer", "address"]),
        Role::Labels => Source::bind(connection, definition, table, &["peer", "label"]),
    };
    roles(definition).into_iter().map(bind).collect()
}

impl Acl {
    pub(crate) fn build(definition: &Definition, scan: Scan<'_>) -> std::result::Result<Self, BuildError> {
        let roles: Arc<[Role]> = roles(definition).into_iter().map(|(role, _)| role).collect();
        let (mut rules, mut peers) = (Vec::new(), BTreeMap::<PeerId, PeerRows>::new());
        for (source, role) in roles.iter().enumerate() {
            scan(source, &mut |row| {
                let id: i64 = row.get(0)?;
                let count = if *role == Role::Rules { definition.columns.len() } else { 2 };
                let values = (1..=count).map(|i| row.get_ref(i).map(owned)).collect::<rusqlite::Result<Vec<_>>>()?;
                let parsed = match role {
                    Role::Rules => rule_of(id, &values).map(|rule| rules.push(rule)),
                    Role::Addresses => peer_address(&values).map(|found| {
                        found.into_iter().for_each(|(peer, address)| {
                            peers.entry(peer).or_default().addresses.insert(id, address);
                        });
                    }),
                    Role::Labels => peer_label(&values).map(|found| {
                        found.into_iter().for_each(|(peer, label)| {
                            peers.entry(peer).or_default().labels.insert(id, label);
                        });
                    }),
                };
                parsed.map_err(|(column, reason)| BuildError::Row(Fault { source, row: id, column, reason }, values))
            })?;
        }
        let mut acl = Self {
            engine: Engine::new(),
            peers: Sorted::default(),
            roles,
            rules: BTreeMap::new(),
            unsettled: BTreeSet::new(),
        };
        let failed = |fault| BuildError::Row(fault, Vec::new());
        acl.engine.set_rules(rules).map_err(|error| failed(rule_fault(&error)))?;
        acl.unsettled = peers.keys().copied().collect();
        for (id, rows) in peers {
            acl.peers.alter(id, |_| Some(Arc::new(rows)));
        }
        acl.settle().map_err(failed)?;
        Ok(acl)
    }

    /// Notes a row; [`Self::settle`] tells the engine.
    pub(crate) fn change(
        &mut self,
        source: usize,
        row: i64,
        old: Option<&[Value]>,
        new: Option<&[Value]>,
    ) -> std::result::Result<bool, Fault> {
        let fault = |(column, reason): (usize, String)| Fault { source, row, column, reason };
        match self.roles.get(source) {
            Some(Role::Rules) => {
                let rule = new.map(|values| rule_of(row, values)).transpose().map_err(fault)?;
                let Ok(id) = RuleId::try_from(row) else { return Ok(old.is_none()) };
                self.rules.insert(id, rule);
                Ok(true)
            }
            Some(Role::Addresses) => {
                let new = new.map(peer_address).transpose().map_err(fault)?.flatten();
                let Ok(old) = old.map(peer_address).transpose() else { return Ok(false) };
                let held = old
                    .flatten()
                    .is_none_or(|(peer, _)| self.alter(peer, |rows| rows.addresses.remove(&row).is_some()));
                if let Some((peer, address)) = new {
                    self.alter(peer, |rows| rows.addresses.insert(row, address).is_none());
                }
                Ok(held)
            }
            Some(Role::Labels) => {
                let new = new.map(peer_label).transpose().map_err(fault)?.flatten();
                let Ok(old) = old.map(peer_label).transpose() else { return Ok(false) };
                let held =
                    old.flatten().is_none_or(|(peer, _)| self.alter(peer, |rows| rows.labels.remove(&row).is_some()));
                if let Some((peer, label)) = new {
                    self.alter(peer, |rows| rows.labels.insert(row, label).is_none());
                }
                Ok(held)
            }
            None => Ok(false),
        }
    }

    fn alter(&mut self, peer: PeerId, f: impl FnOnce(&mut PeerRows) -> bool) -> bool {
        let mut done = false;
        self.peers.alter(peer, |rows| {
            let mut rows = rows.unwrap_or_default();
            let changed = Arc::make_mut(&mut rows);
            done = f(changed);
            (!changed.addresses.is_empty() || !changed.labels.is_empty()).then_some(rows)
        });
        self.unsettled.insert(peer);
        done
    }

    pub(crate) fn is_unsettled(&self) -> bool {
        !self.rules.is_empty() || !self.unsettled.is_empty()
    }

    /// Tells the engine of the changes since it was last told.
    pub(crate) fn settle(&mut self) -> std::result::Result<(), Fault> {
        let (mut gone, mut put) = (Vec::new(), Vec::new());
        for (id, rule) in std::mem::take(&mut self.rules) {
            let Some(rule) = rule else {
                gone.push(id);
                continue;
            };
            let known = self.engine.rule(id).map(|known| Rule { enabled: rule.enabled, ..known });
            if known.as_ref() == Some(&rule) {
                // One bit, if that much.
                let _ = self.engine.set_enabled(id, rule.enabled);
            } else {
                put.push(rule);
            }
        }
        self.engine.remove_rules(&gone);
        if !put.is_empty() {
            self.engine.put_rules(put).map_err(|error| rule_fault(&error))?;
        }
        let (mut gone, mut put) = (Vec::new(), Vec::new());
        for id in std::mem::take(&mut self.unsettled) {
            let Some(rows) = self.peers.get(&id) else {
                gone.push(id);
                continue;
            };
            // A peer may have been given the same thing twice.
            let labels: BTreeSet<Label> = rows.labels.values().cloned().collect();
            let addresses: BTreeSet<Address> = rows.addresses.values().copied().collect();
            put.push(Peer {
                id,
                addresses: addresses.into_iter().collect(),
                labels: labels.into_iter().collect(),
                owner: None,
                routes: Vec::new(),
            });
        }
        self.engine.remove_peers(&gone);
        if !put.is_empty() {
            self.engine.put_peers(put).map_err(|error| self.peer_fault(&error))?;
        }
        Ok(())
    }

    fn peer_fault(&self, error: &PeerError) -> Fault {
        let role = if error.field == PeerField::Labels { Role::Labels } else { Role::Addresses };
        let source = self.roles.iter().position(|known| *known == role).unwrap_or(0);
        let rows = self.peers.get(&error.peer);
        let mut addresses: Vec<_> =
            rows.into_iter().flat_map(|rows| &rows.addresses).map(|(row, address)| (*address, *row)).collect();
        addresses.sort_unstable();
        addresses.dedup_by_key(|(address, _)| *address);
        let row =
            error.index.and_then(|index| addresses.get(index)).or_else(|| addresses.first()).map_or(0, |(_, row)| *row);
        Fault { source, row, column: 1, reason: error.to_string() }
    }

    /// May one reach the other? Both are peers, or both addresses.
    ///
    /// # Errors
    /// `ERR_ACL_UNKNOWN`
    pub(crate) fn decide(&self, question: &Question) -> Result<Decision> {
        match question {
            Question::Peers(query) => self.engine.decide(query).map_err(unknown),
            Question::Addresses(query) => Ok(self.engine.decide_addresses(query)),
        }
    }

    /// As [`Self::decide`], with every rule that matches.
    ///
    /// # Errors
    /// `ERR_ACL_UNKNOWN`
    pub(crate) fn explain(&self, question: &Question) -> Result<Explanation> {
        match question {
            Question::Peers(query) => self.engine.explain(query).map_err(unknown),
            Question::Addresses(query) => Ok(self.engine.explain_addresses(query)),
        }
    }
}

fn unknown(error: zqlite_acl::UnknownId) -> Error {
    Error::new(ErrorCode::AclUnknown, error.to_string())
}

fn rule_fault(error: &RuleError) -> Fault {
    let column = FIELDS.iter().position(|field| *field == error.field).unwrap_or(0);
    Fault { source: 0, row: i64::try_from(error.rule).unwrap_or(i64::MAX), column, reason: error.fault.to_string() }
}
