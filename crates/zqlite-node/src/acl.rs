//! The rule engine as JavaScript holds it; `lib/acl.ts` names and documents it.

use napi::bindgen_prelude::Uint32Array;
use napi_derive::napi;
use zqlite_acl::plain::Engine;
use zqlite_acl::{
    Decision, Direction, Explanation, Label, Peer, PeerError, PeerFault, PeerField, PeerId, PortRange, Query, Rule,
    RuleError, RuleFault, RuleField, Selector, UnknownId,
};
use zqlite_cidr::{Address, HostBits, Prefix};
use zqlite_store::{Error, ErrorCode};

use crate::cidr::address;
use crate::guard::guard;
use crate::number::{Bounds, argument, exact};

/// See `AclRule` of `lib/acl.ts`. Numbers come as they are, so that what does not fit is an error that names its place.
#[napi(object)]
pub struct NativeAclRule {
    pub id: f64,
    pub priority: f64,
    pub action: String,
    pub enabled: Option<bool>,
    pub sources: Vec<String>,
    pub destinations: Vec<String>,
    pub protocols: Option<Vec<f64>>,
    pub ports: Option<Vec<(f64, f64)>>,
    pub expires_at: Option<f64>,
    pub same_owner: Option<bool>,
}

/// See `AclPeer` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclPeer {
    pub id: f64,
    pub addresses: Vec<String>,
    pub labels: Vec<String>,
    pub owner: Option<String>,
    pub routes: Option<Vec<String>>,
}

/// See `AclDecision` of `lib/acl.ts`.
#[napi(object, use_nullable = true)]
pub struct NativeAclDecision {
    pub allowed: bool,
    pub rule: Option<f64>,
}

/// See `AclExplanation` of `lib/acl.ts`.
#[napi(object, use_nullable = true)]
pub struct NativeAclExplanation {
    pub allowed: bool,
    pub rule: Option<f64>,
    pub routed: Option<String>,
    pub matching: Vec<NativeAclMatch>,
}

/// See `AclMatch` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclMatch {
    pub rule: f64,
    pub action: String,
    pub priority: i32,
    pub shadowed: bool,
}

/// See `lib/acl.ts`.
#[napi]
#[derive(Default)]
pub struct NativeAclEngine {
    engine: Engine,
}

#[napi]
impl NativeAclEngine {
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    #[napi]
    pub fn set_rules(&mut self, rules: Vec<NativeAclRule>) -> napi::Result<()> {
        guard(|| {
            let rules = rules.into_iter().map(rule).collect::<Result<_, _>>()?;
            self.engine.set_rules(rules).map_err(invalid_rule)
        })
    }

    #[napi]
    pub fn put_peers(&mut self, peers: Vec<NativeAclPeer>) -> napi::Result<()> {
        guard(|| {
            let peers = peers.into_iter().map(peer).collect::<Result<_, _>>()?;
            self.engine.put_peers(peers).map_err(invalid_peer)
        })
    }

    #[napi]
    pub fn remove_peers(&mut self, ids: Vec<f64>) -> napi::Result<()> {
        guard(|| {
            let ids: Vec<PeerId> = ids.into_iter().map(|id| argument("id", id)).collect::<Result<_, _>>()?;
            self.engine.remove_peers(&ids);
            Ok(())
        })
    }

    #[napi]
    pub fn decide(
        &self,
        source: f64,
        destination: f64,
        protocol: f64,
        port: f64,
        at: f64,
    ) -> napi::Result<NativeAclDecision> {
        guard(|| {
            let query = query(argument("source", source)?, argument("destination", destination)?, protocol, port, at)?;
            self.engine.decide(&query).map(Into::into).map_err(unknown)
        })
    }

    #[napi]
    pub fn decide_addresses(
        &self,
        source: String,
        destination: String,
        protocol: f64,
        port: f64,
        at: f64,
    ) -> napi::Result<NativeAclDecision> {
        guard(|| {
            let query: Query<Address> = query(address(&source)?, address(&destination)?, protocol, port, at)?;
            Ok(self.engine.decide_addresses(&query).into())
        })
    }

    #[napi]
    pub fn explain(
        &self,
        source: f64,
        destination: f64,
        protocol: f64,
        port: f64,
        at: f64,
    ) -> napi::Result<NativeAclExplanation> {
        guard(|| {
            let query = query(argument("source", source)?, argument("destination", destination)?, protocol, port, at)?;
            self.engine.explain(&query).map(Into::into).map_err(unknown)
        })
    }

    #[napi]
    pub fn visible_peers(&self, peer: f64, direction: String, at: f64) -> napi::Result<Uint32Array> {
        guard(|| {
            let (peer, direction, at) = (argument("peer", peer)?, way(&direction)?, argument("at", at)?);
            self.engine.visible_peers(peer, direction, at).map(Into::into).map_err(unknown)
        })
    }

    #[napi]
    pub fn peer_class(&self, peer: f64) -> napi::Result<u32> {
        guard(|| self.engine.peer_class(argument("peer", peer)?).map_err(unknown))
    }

    #[napi]
    pub fn visible_classes(&self, of: f64, direction: String, at: f64) -> napi::Result<Uint32Array> {
        guard(|| {
            let (class, direction, at) = (argument("class", of)?, way(&direction)?, argument("at", at)?);
            self.engine.visible_classes(class, direction, at).map(Into::into).map_err(unknown)
        })
    }
}

fn query<E>(source: E, destination: E, protocol: f64, port: f64, at: f64) -> Result<Query<E>, Error> {
    Ok(Query {
        source,
        destination,
        protocol: argument("protocol", protocol)?,
        port: argument("port", port)?,
        at: argument("at", at)?,
    })
}

fn way(direction: &str) -> Result<Direction, Error> {
    match direction {
        "to" => Ok(Direction::To),
        "from" => Ok(Direction::From),
        "either" => Ok(Direction::Either),
        _ => Err(Error::new(ErrorCode::Type, "direction must be 'to', 'from' or 'either'")),
    }
}

impl From<Decision> for NativeAclDecision {
    fn from(decision: Decision) -> Self {
        Self { allowed: decision.allowed, rule: decision.rule.map(|id| id as f64) }
    }
}

impl From<Explanation> for NativeAclExplanation {
    fn from(explanation: Explanation) -> Self {
        let NativeAclDecision { allowed, rule } = explanation.decision.into();
        let matching = explanation.matching.into_iter().map(|matching| NativeAclMatch {
            rule: matching.rule as f64,
            action: matching.action.to_string(),
            priority: matching.priority,
            shadowed: matching.shadowed,
        });
        Self {
            allowed,
            rule,
            routed: explanation.routed.map(|address| address.to_string()),
            matching: matching.collect(),
        }
    }
}

fn rule(given: NativeAclRule) -> Result<Rule, Error> {
    let id = identifier("rule", given.id)?;
    let fail = |field, index, fault| invalid_rule(RuleError { rule: id, field, index, fault });
    let selectors = |field, texts: Vec<String>| {
        parse_all(texts, |text| Selector::parse(text)).map_err(|(index, error)| fail(field, Some(index), error.into()))
    };
    Ok(Rule {
        id,
        priority: number(given.priority).map_err(|fault| fail(RuleField::Priority, None, fault))?,
        action: given.action.parse().map_err(|error| fail(RuleField::Action, None, RuleFault::Action(error)))?,
        enabled: given.enabled.unwrap_or(true),
        sources: selectors(RuleField::Sources, given.sources)?,
        destinations: selectors(RuleField::Destinations, given.destinations)?,
        protocols: parse_all(given.protocols.unwrap_or_default(), |&protocol| number(protocol))
            .map_err(|(index, fault)| fail(RuleField::Protocols, Some(index), fault))?,
        ports: parse_all(given.ports.unwrap_or_default(), |&(low, high)| {
            Ok(PortRange { low: number(low)?, high: number(high)? })
        })
        .map_err(|(index, fault)| fail(RuleField::Ports, Some(index), fault))?,
        expires_at: given
            .expires_at
            .map(number)
            .transpose()
            .map_err(|fault| fail(RuleField::ExpiresAt, None, fault))?,
        same_owner: given.same_owner.unwrap_or(false),
    })
}

fn peer(given: NativeAclPeer) -> Result<Peer, Error> {
    let id = identifier("peer", given.id)?;
    let fail = |field, (index, fault)| invalid_peer(PeerError { peer: id, field, index: Some(index), fault });
    let routes = parse_all(given.routes.unwrap_or_default(), |text| Prefix::parse(text, HostBits::Reject));
    Ok(Peer {
        id,
        addresses: parse_all(given.addresses, |text| Address::parse(text))
            .map_err(|(index, error)| fail(PeerField::Addresses, (index, PeerFault::Address(error))))?,
        labels: parse_all(given.labels, |text| Label::parse(text))
            .map_err(|(index, error)| fail(PeerField::Labels, (index, PeerFault::Label(error))))?,
        owner: given.owner.map(Into::into),
        routes: routes.map_err(|(index, error)| fail(PeerField::Routes, (index, PeerFault::Address(error))))?,
    })
}

/// Each of `items` converted, or the index of the first that cannot be.
fn parse_all<I, T, E>(items: Vec<I>, parse: impl Fn(&I) -> Result<T, E>) -> Result<Vec<T>, (usize, E)> {
    items.iter().enumerate().map(|(index, item)| parse(item).map_err(|error| (index, error))).collect()
}

fn number<T: TryFrom<i64> + Bounds>(number: f64) -> Result<T, RuleFault> {
    let fault = RuleFault::Number { lowest: T::LOWEST, highest: T::HIGHEST };
    exact(number, T::LOWEST, T::HIGHEST).and_then(|integer| T::try_from(integer).ok()).ok_or(fault)
}

/// The id of a rule or peer; without it no other error could say which one it is about.
fn identifier<T: TryFrom<i64> + Bounds>(of: &str, id: f64) -> Result<T, Error> {
    number(id).map_err(|fault| Error::new(ErrorCode::AclRule, format!("{of} {id}, id: {fault}")))
}

fn invalid_rule(error: RuleError) -> Error {
    Error::new(ErrorCode::AclRule, error.to_string())
}

fn invalid_peer(error: PeerError) -> Error {
    Error::new(ErrorCode::AclRule, error.to_string())
}

fn unknown(error: UnknownId) -> Error {
    Error::new(ErrorCode::AclUnknown, error.to_string())
}
