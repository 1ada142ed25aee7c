//! The kind `acl(source, destination, protocol, ports, priority, action, enabled[, expires_at[, same_owner[, through[,
//! family]]]])`: a thin adapter from rows to the engine of `zqlite-acl`. Further tables hold what is known of peers, a row a fact.

mod parse;
mod peers;
mod question;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::Value;
use zqlite_acl::{Decision, Engine, Explanation, PeerError, PeerField, PeerId, Rule, RuleError, RuleField, RuleId};

use crate::index::bitmap::Sorted;
use crate::index::cidr::owned;
use crate::index::content::{BuildError, Scan};
use crate::index::definition::Definition;
use crate::index::source::{Fault, Source};
use crate::rows::MAX_SAFE_INTEGER;
use crate::{Error, ErrorCode, Result};
use parse::{id_of, rule_of};
use peers::{Fact, PeerRows};
pub use question::Question;

/// The fields of a rule, in the order of the columns; the last ones may be missing. The engine finds nothing wrong with
/// what has no field.
const FIELDS: [Option<RuleField>; MOST_COLUMNS] = [
    Some(RuleField::Sources),
    Some(RuleField::Destinations),
    Some(RuleField::Protocols),
    Some(RuleField::Ports),
    Some(RuleField::Priority),
    Some(RuleField::Action),
    None,
    Some(RuleField::ExpiresAt),
    None,
    Some(RuleField::Through),
    Some(RuleField::Family),
];

/// Without and with the columns that may be left out.
const LEAST_COLUMNS: usize = 7;
const MOST_COLUMNS: usize = 11;

/// What the rows of a source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Rules,
    Peers(PeerField),
}

/// The tables beside that of the rules: the option that names one, what its rows say of peers, and its column for it.
const BESIDE: [(&str, PeerField, &str); 4] = [
    ("peers", PeerField::Addresses, "address"),
    ("labels", PeerField::Labels, "label"),
    ("owners", PeerField::Owner, "owner"),
    ("routes", PeerField::Routes, "prefix"),
];

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

/// The sources: what their rows are, the table, and its columns.
fn sources(definition: &Definition) -> Vec<(Role, &str, Vec<&str>)> {
    let mut sources =
        vec![(Role::Rules, definition.table.as_str(), definition.columns.iter().map(String::as_str).collect())];
    for (option, field, column) in BESIDE {
        sources.extend(definition.option(option).map(|table| (Role::Peers(field), table, vec!["peer", column])));
    }
    sources
}

/// The tables of rules and of what is known of peers.
pub(crate) fn bind(connection: &Connection, definition: &Definition) -> Result<Vec<Source>> {
    if !(LEAST_COLUMNS..=MOST_COLUMNS).contains(&definition.columns.len()) {
        let columns = "source, destination, protocol, ports, priority, action, enabled, and if need be expires_at, same_owner, through and family";
        let why = format!("it has the columns {columns}, in this order, not {}", definition.columns.len());
        return Err(definition.kind.wrong(&definition.name, &why));
    }
    let bind = |(_, table, columns): (Role, &str, Vec<&str>)| Source::bind(connection, definition, table, &columns);
    sources(definition).into_iter().map(bind).collect()
}

impl Acl {
    pub(crate) fn build(definition: &Definition, scan: Scan<'_>) -> std::result::Result<Self, BuildError> {
        let roles: Arc<[Role]> = sources(definition).into_iter().map(|(role, ..)| role).collect();
        let (mut rules, mut peers) = (Vec::new(), BTreeMap::<PeerId, PeerRows>::new());
        for (source, role) in roles.iter().enumerate() {
            scan(source, &mut |row| {
                let id: i64 = row.get(0)?;
                let count = if *role == Role::Rules { definition.columns.len() } else { 2 };
                let values = (1..=count).map(|i| row.get_ref(i).map(owned)).collect::<rusqlite::Result<Vec<_>>>()?;
                let parsed = match role {
                    Role::Rules => rule_at(id, &values).map(|rule| rules.push(rule)),
                    Role::Peers(field) => Fact::of(*field, &values).map_err(in_column).map(|found| {
                        found.into_iter().for_each(|(peer, fact)| {
                            peers.entry(peer).or_default().insert(id, fact);
                        });
                    }),
                };
                parsed.map_err(|(column, reason)| BuildError::Row(Fault { source, row: id, column, reason }))
            })?;
        }
        let mut acl = Self {
            engine: Engine::new(),
            peers: Sorted::default(),
            roles,
            rules: BTreeMap::new(),
            unsettled: BTreeSet::new(),
        };
        acl.engine.set_rules(rules).map_err(|error| BuildError::Row(rule_fault(&error)))?;
        acl.unsettled = peers.keys().copied().collect();
        for (id, rows) in peers {
            acl.peers.alter(id, |_| Some(Arc::new(rows)));
        }
        acl.settle().map_err(BuildError::Row)?;
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
        let fault = |(column, reason): Wrong| Fault { source, row, column, reason };
        match self.roles.get(source) {
            Some(Role::Rules) => {
                let rule = new.map(|values| rule_at(row, values)).transpose().map_err(fault)?;
                let Some(id) = id_of(row) else { return Ok(old.is_none()) };
                self.rules.insert(id, rule);
                Ok(true)
            }
            Some(&Role::Peers(field)) => {
                let new = new.map(|values| Fact::of(field, values).map_err(in_column));
                let new = new.transpose().map_err(fault)?.flatten();
                let Ok(old) = old.map(|values| Fact::of(field, values)).transpose() else { return Ok(false) };
                let held = old.flatten().is_none_or(|(peer, _)| self.alter(peer, |rows| rows.remove(row, field)));
                if let Some((peer, fact)) = new {
                    self.alter(peer, |rows| rows.insert(row, fact));
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
            (!changed.is_empty()).then_some(rows)
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
            let peer = rows.peer(id).map_err(|(row, reason)| Fault {
                source: self.source(PeerField::Owner),
                row,
                column: Some(1),
                reason,
            })?;
            put.push(peer);
        }
        self.engine.remove_peers(&gone);
        if !put.is_empty() {
            self.engine.put_peers(put).map_err(|error| self.peer_fault(&error))?;
        }
        Ok(())
    }

    fn source(&self, field: PeerField) -> usize {
        self.roles.iter().position(|known| *known == Role::Peers(field)).unwrap_or(0)
    }

    /// The engine finds fault with addresses alone: everything else of a peer fits whatever other peers have.
    fn peer_fault(&self, error: &PeerError) -> Fault {
        let row = self.peers.get(&error.peer).and_then(|rows| rows.row_of_address(error.index)).unwrap_or(0);
        Fault { source: self.source(error.field), row, column: Some(1), reason: error.fault.to_string() }
    }

    /// The rules and peers, for whoever asks more than one question.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
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

/// Which column of a row is wrong, `None` being its id, and why.
type Wrong = (Option<usize>, String);

fn in_column((column, reason): (usize, String)) -> Wrong {
    (Some(column), reason)
}

fn rule_at(row: i64, values: &[Value]) -> std::result::Result<Rule, Wrong> {
    let wrong = || (None, format!("the id of a rule is an integer from 0 to {MAX_SAFE_INTEGER}"));
    rule_of(id_of(row).ok_or_else(wrong)?, values).map_err(in_column)
}

fn rule_fault(error: &RuleError) -> Fault {
    let column = FIELDS.iter().position(|field| *field == Some(error.field));
    Fault { source: 0, row: i64::try_from(error.rule).unwrap_or(i64::MAX), column, reason: error.fault.to_string() }
}
