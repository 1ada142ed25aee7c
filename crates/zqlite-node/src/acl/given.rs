//! What JavaScript gives the rule engine, read and checked.

use napi_derive::napi;
use zqlite_acl::{
    Change, ChangeError, Direction, Label, Peer, PeerError, PeerFault, PeerField, PortRange, Query, Rule, RuleError,
    RuleFault, RuleField, Selector, UnknownId,
};
use zqlite_cidr::{Address, Family, HostBits, Prefix};
use zqlite_store::{Error, ErrorCode};

use crate::number::{Bounds, argument, exact, show};

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
    /// Lists, as a tuple would be read from longer ones too.
    #[napi(ts_type = "Array<[number, number]>")]
    pub ports: Option<Vec<Vec<f64>>>,
    pub expires_at: Option<f64>,
    pub same_owner: Option<bool>,
    pub through: Option<Vec<String>>,
    pub family: Option<f64>,
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

/// See `AclChange` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclChange {
    pub remove_rules: Option<Vec<f64>>,
    pub put_rules: Option<Vec<NativeAclRule>>,
    pub enable: Option<Vec<f64>>,
    pub disable: Option<Vec<f64>>,
    pub remove_peers: Option<Vec<f64>>,
    pub put_peers: Option<Vec<NativeAclPeer>>,
}

pub(super) fn arguments<T: TryFrom<i64> + Bounds>(name: &str, numbers: Vec<f64>) -> Result<Vec<T>, Error> {
    numbers.into_iter().map(|number| argument(name, number)).collect()
}

pub(super) fn read_change(given: NativeAclChange) -> Result<Change, Error> {
    let ids = |ids: Option<Vec<f64>>| arguments::<u64>("rule", ids.unwrap_or_default());
    let enabled = ids(given.enable)?.into_iter().map(|id| (id, true));
    let disabled = ids(given.disable)?.into_iter().map(|id| (id, false));
    Ok(Change {
        remove_rules: ids(given.remove_rules)?,
        put_rules: given.put_rules.unwrap_or_default().into_iter().map(rule).collect::<Result<_, _>>()?,
        set_enabled: enabled.chain(disabled).collect(),
        remove_peers: arguments("id", given.remove_peers.unwrap_or_default())?,
        put_peers: given.put_peers.unwrap_or_default().into_iter().map(peer).collect::<Result<_, _>>()?,
    })
}

pub(super) fn invalid_change(error: ChangeError) -> Error {
    match error {
        ChangeError::Rule(error) => invalid_rule(error),
        ChangeError::Peer(error) => invalid_peer(error),
        ChangeError::Unknown(error) => unknown(error),
    }
}

/// `service` is the port, and 65536 times the protocol. Inlined, as passing what it returns costs a tenth of a question.
#[inline(always)]
pub(super) fn of_service<E>(source: E, destination: E, service: f64, at: f64) -> Result<Query<E>, Error> {
    let service: u32 = argument("service", service)?;
    let protocol = u8::try_from(service >> 16)
        .map_err(|_| Error::new(ErrorCode::Type, "protocol must be an integer from 0 to 255"))?;
    Ok(Query { source, destination, protocol, port: service as u16, at: argument("at", at)? })
}

pub(super) fn query<E>(source: E, destination: E, protocol: f64, port: f64, at: f64) -> Result<Query<E>, Error> {
    Ok(Query {
        source,
        destination,
        protocol: argument("protocol", protocol)?,
        port: argument("port", port)?,
        at: argument("at", at)?,
    })
}

pub(super) fn way(direction: &str) -> Result<Direction, Error> {
    match direction {
        "to" => Ok(Direction::To),
        "from" => Ok(Direction::From),
        "either" => Ok(Direction::Either),
        _ => Err(Error::new(ErrorCode::Type, "direction must be 'to', 'from' or 'either'")),
    }
}

/// A rule as it was given, whichever way it came.
pub(super) struct GivenRule<'a, T> {
    pub(super) id: f64,
    pub(super) priority: f64,
    pub(super) action: &'a str,
    pub(super) enabled: bool,
    pub(super) sources: &'a [T],
    pub(super) destinations: &'a [T],
    pub(super) protocols: &'a [f64],
    pub(super) ports: &'a [[f64; 2]],
    pub(super) expires_at: Option<f64>,
    pub(super) same_owner: bool,
    pub(super) through: &'a [T],
    pub(super) family: Option<f64>,
}

pub(super) fn rule(given: NativeAclRule) -> Result<Rule, Error> {
    let pair = |range: Vec<f64>| {
        <[f64; 2]>::try_from(range)
            .map_err(|_| Error::new(ErrorCode::Type, "a range of ports must be a pair of numbers"))
    };
    let ports = given.ports.unwrap_or_default().into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    read_rule(&GivenRule {
        id: given.id,
        priority: given.priority,
        action: &given.action,
        enabled: given.enabled.unwrap_or(true),
        sources: &given.sources,
        destinations: &given.destinations,
        protocols: given.protocols.as_deref().unwrap_or(&[]),
        ports: &ports,
        expires_at: given.expires_at,
        same_owner: given.same_owner.unwrap_or(false),
        through: given.through.as_deref().unwrap_or(&[]),
        family: given.family,
    })
}

pub(super) fn read_rule<T: AsRef<str>>(given: &GivenRule<'_, T>) -> Result<Rule, Error> {
    let id = identifier("rule", given.id)?;
    let fail = |field, index, fault| invalid_rule(RuleError { rule: id, field, index, fault });
    let selectors = |field, texts: &[T]| {
        parse_all(texts, |text| Selector::parse(text.as_ref()))
            .map_err(|(index, error)| fail(field, Some(index), error.into()))
    };
    Ok(Rule {
        id,
        priority: number(given.priority).map_err(|fault| fail(RuleField::Priority, None, fault))?,
        action: given.action.parse().map_err(|error| fail(RuleField::Action, None, RuleFault::Action(error)))?,
        enabled: given.enabled,
        sources: selectors(RuleField::Sources, given.sources)?,
        destinations: selectors(RuleField::Destinations, given.destinations)?,
        protocols: parse_all(given.protocols, |&protocol| number(protocol))
            .map_err(|(index, fault)| fail(RuleField::Protocols, Some(index), fault))?,
        ports: parse_all(given.ports, |&[low, high]| Ok(PortRange { low: number(low)?, high: number(high)? }))
            .map_err(|(index, fault)| fail(RuleField::Ports, Some(index), fault))?,
        expires_at: given
            .expires_at
            .map(number)
            .transpose()
            .map_err(|fault| fail(RuleField::ExpiresAt, None, fault))?,
        same_owner: given.same_owner,
        through: parse_all(given.through, |text| Label::parse(text.as_ref()))
            .map_err(|(index, error)| fail(RuleField::Through, Some(index), error.into()))?,
        family: family(given.family).map_err(|fault| fail(RuleField::Family, None, fault))?,
    })
}

fn family(version: Option<f64>) -> Result<Option<Family>, RuleFault> {
    match version {
        None => Ok(None),
        Some(4.0) => Ok(Some(Family::V4)),
        Some(6.0) => Ok(Some(Family::V6)),
        Some(_) => Err(RuleFault::Family),
    }
}

pub(super) fn peer(given: NativeAclPeer) -> Result<Peer, Error> {
    let id = identifier("peer", given.id)?;
    let fail = |field, (index, fault)| invalid_peer(PeerError { peer: id, field, index: Some(index), fault });
    let routes = parse_all(given.routes.as_deref().unwrap_or(&[]), |text| Prefix::parse(text, HostBits::Reject));
    Ok(Peer {
        id,
        addresses: parse_all(&given.addresses, |text| Address::parse(text))
            .map_err(|(index, error)| fail(PeerField::Addresses, (index, PeerFault::Address(error))))?,
        labels: parse_all(&given.labels, |text| Label::parse(text))
            .map_err(|(index, error)| fail(PeerField::Labels, (index, PeerFault::Label(error))))?,
        owner: given.owner.map(Into::into),
        routes: routes.map_err(|(index, error)| fail(PeerField::Routes, (index, PeerFault::Address(error))))?,
    })
}

/// Each of `items` converted, or the index of the first that cannot be.
pub(super) fn parse_all<I, T, E>(items: &[I], parse: impl Fn(&I) -> Result<T, E>) -> Result<Vec<T>, (usize, E)> {
    let mut parsed = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        parsed.push(parse(item).map_err(|error| (index, error))?);
    }
    Ok(parsed)
}

pub(super) fn number<T: TryFrom<i64> + Bounds>(number: f64) -> Result<T, RuleFault> {
    let fault = RuleFault::Number { lowest: T::LOWEST, highest: T::HIGHEST };
    exact(number, T::LOWEST, T::HIGHEST).and_then(|integer| T::try_from(integer).ok()).ok_or(fault)
}

/// The id of a rule or peer; without it no other error could say which one it is about.
pub(super) fn identifier<T: TryFrom<i64> + Bounds>(of: &str, id: f64) -> Result<T, Error> {
    number(id).map_err(|fault| Error::new(ErrorCode::AclRule, format!("{of} {}, id: {fault}", show(id))))
}

pub(super) fn invalid_rule(error: RuleError) -> Error {
    Error::new(ErrorCode::AclRule, error.to_string())
}

pub(super) fn invalid_peer(error: PeerError) -> Error {
    Error::new(ErrorCode::AclRule, error.to_string())
}

pub(super) fn unknown(error: UnknownId) -> Error {
    Error::new(ErrorCode::AclUnknown, error.to_string())
}

pub(super) fn address(text: &[u8]) -> Result<Address, Error> {
    Address::parse(text).map_err(|error| Error::new(ErrorCode::CidrSyntax, error.to_string()))
}
