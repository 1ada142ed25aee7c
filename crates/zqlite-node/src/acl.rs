//! The rule engine as JavaScript holds it; `lib/acl.ts` names and documents it.

use std::cell::RefCell;
use std::rc::Rc;

use napi::bindgen_prelude::{Function, FunctionCallContext, JsValue, Object, Uint32Array};
use napi::{Env, JsString};
use napi_derive::napi;
use zqlite_acl::{
    Change, ChangeError, Decision, Difference, Direction, Engine, Explanation, Label, Options, PairCounts, Party,
    Passage, Peer, PeerError, PeerFault, PeerField, PortRange, Query, Rule, RuleError, RuleFault, RuleField, Selector,
    UnknownId, UnusedReason,
};
use zqlite_cidr::{Address, AddressRange, Family, HostBits, Prefix};
use zqlite_store::{Error, ErrorCode};

use crate::guard::{guard, to_napi};
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

/// See `AclFilterRule` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclFilterRule {
    pub sources: Vec<String>,
    pub destinations: Vec<String>,
    pub protocols: Vec<u32>,
    pub ports: Vec<(u32, u32)>,
}

/// See `AclUnusedRule` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclUnusedRule {
    pub rule: f64,
    pub reason: String,
    pub by: Option<f64>,
}

/// See `AclConflict` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclConflict {
    pub deny: f64,
    pub allow: f64,
}

/// See `AclPassage` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclPassage {
    pub protocols: Vec<u32>,
    pub ports: Vec<(u32, u32)>,
}

/// See `AclParty` of `lib/acl.ts`; one of the two is there.
#[napi(object)]
pub struct NativeAclParty {
    pub peers: Option<Uint32Array>,
    pub addresses: Option<String>,
}

/// See `AclDifferenceRow` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclDifferenceRow {
    pub sources: Vec<u32>,
    pub destinations: Vec<u32>,
    pub gained: Vec<NativeAclPassage>,
    pub lost: Vec<NativeAclPassage>,
}

/// See `AclPairCounts` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclPairCounts {
    pub gaining: f64,
    pub losing: f64,
    pub opened: f64,
    pub closed: f64,
}

/// See `AclDifference` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclDifference {
    pub pairs: NativeAclPairCounts,
    pub behind: NativeAclPairCounts,
    pub concerned: Uint32Array,
    pub parties: Vec<NativeAclParty>,
    pub rows: Vec<NativeAclDifferenceRow>,
    pub complete: bool,
}

/// See `lib/acl.ts`. The functions of [`decider`](Self::decider) and of its kind share the engine; JavaScript calls one
/// thing after the other, so that it is never borrowed twice.
#[napi]
pub struct NativeAclEngine {
    engine: Rc<RefCell<Engine>>,
}

/// Source, destination, [service](of_service), time; with a fifth argument napi would allocate. See [`code`] for the answer.
type Decider<'env> = Function<'env, (f64, f64, f64, f64), f64>;
type AddressDecider<'env> = Function<'env, (String, String, f64, f64), f64>;
type Toggle<'env> = Function<'env, (f64, bool), ()>;

impl NativeAclEngine {
    pub(crate) fn of(engine: Engine) -> Self {
        Self { engine: Rc::new(RefCell::new(engine)) }
    }
}

#[napi]
impl NativeAclEngine {
    #[napi(constructor)]
    pub fn new(memory: Option<f64>) -> napi::Result<Self> {
        guard(|| {
            let mut options = Options::default();
            if let Some(memory) = memory {
                options.row_memory = argument::<u64>("memory", memory)? as usize;
            }
            Ok(Self::of(Engine::with_options(options)))
        })
    }

    #[napi]
    pub fn snapshot(&self) -> Self {
        Self::of(self.engine.borrow().clone())
    }

    /// A plain function is called in half the time of a method, which must find out what `this` is.
    #[napi(ts_return_type = "(source: number, destination: number, service: number, at: number) => number")]
    pub fn decider<'env>(&self, env: &'env Env) -> napi::Result<Decider<'env>> {
        let engine = Rc::clone(&self.engine);
        env.create_function_from_closure("decide", move |call: FunctionCallContext<'_>| {
            let [source, destination, service, at] = numbers(&call, [0, 1, 2, 3])?;
            guard(|| {
                let ends = (argument("source", source)?, argument("destination", destination)?);
                let query = of_service(ends.0, ends.1, service, at)?;
                engine.borrow().decide(&query).map(code).map_err(unknown)
            })
        })
    }

    /// As [`decider`](Self::decider), by addresses.
    #[napi(ts_return_type = "(source: string, destination: string, service: number, at: number) => number")]
    pub fn address_decider<'env>(&self, env: &'env Env) -> napi::Result<AddressDecider<'env>> {
        let engine = Rc::clone(&self.engine);
        env.create_function_from_closure("decideAddresses", move |call: FunctionCallContext<'_>| {
            let [service, at] = numbers(&call, [2, 3])?;
            let ends = [short_text(&call, 0)?, short_text(&call, 1)?];
            guard(|| {
                let query = of_service(address(ends[0].text())?, address(ends[1].text())?, service, at)?;
                Ok(code(engine.borrow().decide_addresses(&query)))
            })
        })
    }

    /// As [`decider`](Self::decider).
    #[napi(ts_return_type = "(rule: number, enabled: boolean) => void")]
    pub fn toggle<'env>(&self, env: &'env Env) -> napi::Result<Toggle<'env>> {
        let engine = Rc::clone(&self.engine);
        env.create_function_from_closure("setEnabled", move |call: FunctionCallContext<'_>| {
            let (rule, enabled) = (call.get::<f64>(0)?, call.get::<bool>(1)?);
            guard(|| engine.borrow_mut().set_enabled(argument("rule", rule)?, enabled).map_err(unknown))
        })
    }

    /// One answer to each question: see [`code`].
    #[napi]
    pub fn decide_batch(
        &self,
        sources: &[u32],
        destinations: &[u32],
        protocols: &[u8],
        ports: &[u16],
        at: f64,
        mut codes: napi::bindgen_prelude::Float64ArraySlice<'_>,
    ) -> napi::Result<()> {
        guard(|| {
            let at = argument("at", at)?;
            // SAFETY: the array belongs to the facade, which made it for this call; nobody else writes or reads it.
            let codes = unsafe { codes.as_mut() };
            same_length(&[sources.len(), destinations.len(), protocols.len(), ports.len(), codes.len()])?;
            let engine = self.engine.borrow();
            let ends = sources.iter().zip(destinations);
            for (((ends, &protocol), &port), answer) in ends.zip(protocols).zip(ports).zip(codes) {
                let query = Query { source: *ends.0, destination: *ends.1, protocol, port, at };
                *answer = engine.decide(&query).map(code).map_err(unknown)?;
            }
            Ok(())
        })
    }

    /// As [`decide_batch`](Self::decide_batch), by addresses of one word (IPv4) or four words, the highest first (IPv6).
    #[napi]
    pub fn decide_addresses_batch(
        &self,
        sources: &[u32],
        destinations: &[u32],
        protocols: &[u8],
        ports: &[u16],
        at: f64,
        mut codes: napi::bindgen_prelude::Float64ArraySlice<'_>,
    ) -> napi::Result<()> {
        guard(|| {
            let at = argument("at", at)?;
            // SAFETY: the array belongs to the facade, which made it for this call; nobody else writes or reads it.
            let codes = unsafe { codes.as_mut() };
            let words = if sources.len() == 4 * codes.len() { 4 } else { 1 };
            let count = codes.len() * words;
            same_length(&[count, sources.len(), destinations.len()])?;
            same_length(&[codes.len(), protocols.len(), ports.len()])?;
            let engine = self.engine.borrow();
            let ends = sources.chunks_exact(words).zip(destinations.chunks_exact(words));
            for (((ends, &protocol), &port), answer) in ends.zip(protocols).zip(ports).zip(codes) {
                let query = Query { source: from_words(ends.0), destination: from_words(ends.1), protocol, port, at };
                *answer = code(engine.decide_addresses(&query));
            }
            Ok(())
        })
    }

    #[napi]
    pub fn set_rules(&self, rules: Vec<NativeAclRule>) -> napi::Result<()> {
        guard(|| {
            let rules = rules.into_iter().map(rule).collect::<Result<_, _>>()?;
            self.engine.borrow_mut().set_rules(rules).map_err(invalid_rule)
        })
    }

    #[napi]
    pub fn put_rules(&self, rules: Vec<NativeAclRule>) -> napi::Result<()> {
        guard(|| {
            let rules = rules.into_iter().map(rule).collect::<Result<_, _>>()?;
            self.engine.borrow_mut().put_rules(rules).map_err(invalid_rule)
        })
    }

    #[napi]
    pub fn remove_rules(&self, ids: Vec<f64>) -> napi::Result<()> {
        guard(|| {
            self.engine.borrow_mut().remove_rules(&arguments("id", ids)?);
            Ok(())
        })
    }

    #[napi]
    pub fn expire(&self, at: f64) -> napi::Result<()> {
        guard(|| {
            self.engine.borrow_mut().expire(argument("at", at)?);
            Ok(())
        })
    }

    #[napi]
    pub fn put_peers(&self, peers: Vec<NativeAclPeer>) -> napi::Result<()> {
        guard(|| {
            let peers = peers.into_iter().map(peer).collect::<Result<_, _>>()?;
            self.engine.borrow_mut().put_peers(peers).map_err(invalid_peer)
        })
    }

    #[napi]
    pub fn remove_peers(&self, ids: Vec<f64>) -> napi::Result<()> {
        guard(|| {
            self.engine.borrow_mut().remove_peers(&arguments("id", ids)?);
            Ok(())
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
            self.engine.borrow().explain(&query).map(Into::into).map_err(unknown)
        })
    }

    #[napi]
    pub fn explain_addresses(
        &self,
        source: String,
        destination: String,
        protocol: f64,
        port: f64,
        at: f64,
    ) -> napi::Result<NativeAclExplanation> {
        guard(|| {
            let ends = (address(source.as_bytes())?, address(destination.as_bytes())?);
            let query = query(ends.0, ends.1, protocol, port, at)?;
            Ok(self.engine.borrow().explain_addresses(&query).into())
        })
    }

    /// Compares snapshots of both engines on a thread of its own.
    #[napi(ts_return_type = "Promise<NativeAclDifference>")]
    pub fn difference<'env>(
        &self,
        env: &'env Env,
        after: &NativeAclEngine,
        at: f64,
        limit: f64,
    ) -> napi::Result<Object<'env>> {
        let (at, limit) = guard(|| Ok((argument::<i64>("at", at)?, argument::<u32>("limit", limit)? as usize)))?;
        let (before, after) = (self.engine.borrow().clone(), after.engine.borrow().clone());
        let (deferred, promise) = env.create_deferred()?;
        let run = move || match guard(|| Ok(before.difference(&after, at, limit))) {
            Ok(difference) => deferred.resolve(move |_| Ok(NativeAclDifference::from(difference))),
            Err(error) => deferred.reject(error),
        };
        std::thread::Builder::new()
            .name("zqlite-acl".into())
            .spawn(run)
            .map_err(|error| to_napi(&Error::new(ErrorCode::OutOfMemory, format!("cannot start a thread: {error}"))))?;
        Ok(promise)
    }

    #[napi]
    pub fn visible_peers(&self, peer: f64, direction: String, at: f64) -> napi::Result<Uint32Array> {
        guard(|| {
            let (peer, direction, at) = (argument("peer", peer)?, way(&direction)?, argument("at", at)?);
            self.engine.borrow().visible_peers(peer, direction, at).map(Into::into).map_err(unknown)
        })
    }

    #[napi]
    pub fn peer_class(&self, peer: f64) -> napi::Result<u32> {
        guard(|| self.engine.borrow().peer_class(argument("peer", peer)?).map_err(unknown))
    }

    /// The class of each peer.
    #[napi]
    pub fn peer_classes(&self, peers: &[u32]) -> napi::Result<Uint32Array> {
        guard(|| {
            let engine = self.engine.borrow();
            let classes = peers.iter().map(|&peer| engine.peer_class(peer)).collect::<Result<Vec<u32>, _>>();
            classes.map(Into::into).map_err(unknown)
        })
    }

    #[napi]
    pub fn visible_classes(&self, of: f64, direction: String, at: f64) -> napi::Result<Uint32Array> {
        guard(|| {
            let (class, direction, at) = (argument("class", of)?, way(&direction)?, argument("at", at)?);
            self.engine.borrow().visible_classes(class, direction, at).map(Into::into).map_err(unknown)
        })
    }

    #[napi]
    pub fn affected(&self, change: NativeAclChange, at: f64) -> napi::Result<Uint32Array> {
        guard(|| {
            let change = read_change(change)?;
            let affected = self.engine.borrow().affected(&change, argument("at", at)?);
            affected.map(Into::into).map_err(invalid_change)
        })
    }

    #[napi]
    pub fn packet_filter(&self, peer: f64, at: f64) -> napi::Result<Vec<NativeAclFilterRule>> {
        guard(|| {
            let filter = self.engine.borrow().packet_filter(argument("peer", peer)?, argument("at", at)?);
            let texts = |ranges: Vec<AddressRange>| ranges.into_iter().flat_map(range_texts).collect();
            let rules = filter.map_err(unknown)?.into_iter().map(|rule| NativeAclFilterRule {
                sources: texts(rule.sources),
                destinations: texts(rule.destinations),
                protocols: rule.protocols.into_iter().map(u32::from).collect(),
                ports: rule.ports.into_iter().map(|range| (range.low.into(), range.high.into())).collect(),
            });
            Ok(rules.collect())
        })
    }

    #[napi]
    pub fn unused_rules(&self, at: f64) -> napi::Result<Vec<NativeAclUnusedRule>> {
        guard(|| {
            let unused = self.engine.borrow().unused_rules(argument("at", at)?);
            let named = unused.into_iter().map(|unused| {
                let (reason, by) = match unused.reason {
                    UnusedReason::Disabled => ("disabled", None),
                    UnusedReason::Expired => ("expired", None),
                    UnusedReason::SelectsNobody => ("selects-nobody", None),
                    UnusedReason::Shadowed(by) => ("shadowed", Some(by as f64)),
                };
                NativeAclUnusedRule { rule: unused.rule as f64, reason: reason.into(), by }
            });
            Ok(named.collect())
        })
    }

    #[napi]
    pub fn conflicts(&self, at: f64, limit: f64) -> napi::Result<Vec<NativeAclConflict>> {
        guard(|| {
            let conflicts =
                self.engine.borrow().conflicts(argument("at", at)?, argument::<u32>("limit", limit)? as usize);
            let pairs =
                conflicts.into_iter().map(|it| NativeAclConflict { deny: it.deny as f64, allow: it.allow as f64 });
            Ok(pairs.collect())
        })
    }

    #[napi]
    pub fn memory(&self) -> f64 {
        self.engine.borrow().row_bytes() as f64
    }
}

/// An answer in one number, which costs JavaScript nothing to take: the rule's id if it allows, -1 less its id if it denies,
/// `NaN` if none matches.
fn code(decision: Decision) -> f64 {
    match decision.rule {
        None => f64::NAN,
        Some(id) if decision.allowed => id as f64,
        Some(id) => -1.0 - id as f64,
    }
}

fn numbers<const N: usize>(call: &FunctionCallContext<'_>, places: [usize; N]) -> napi::Result<[f64; N]> {
    let mut numbers = [0.0; N];
    for (number, place) in numbers.iter_mut().zip(places) {
        *number = call.get(place)?;
    }
    Ok(numbers)
}

/// The longest text of an address has 45 characters; what is longer is none, and stays so when it is cut here.
const LONGEST: usize = 64;

struct ShortText {
    bytes: [u8; LONGEST],
    length: usize,
}

impl ShortText {
    fn text(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

/// A text without an allocation: half the time of a `String`.
fn short_text(call: &FunctionCallContext<'_>, place: usize) -> napi::Result<ShortText> {
    let text: JsString<'_> = call.get(place)?;
    let value = text.value();
    let mut short = ShortText { bytes: [0; LONGEST], length: 0 };
    // SAFETY: `value` is a live string of this environment, as `JsString` has checked; the buffer has `LONGEST` bytes, of
    // which N-API writes at most that many, a closing zero included, and says in `length` how many it wrote before that.
    let status = unsafe {
        napi::sys::napi_get_value_string_utf8(
            value.env,
            value.value,
            short.bytes.as_mut_ptr().cast(),
            LONGEST,
            &mut short.length,
        )
    };
    napi::check_status!(status)?;
    Ok(short)
}

fn address(text: &[u8]) -> Result<Address, Error> {
    Address::parse(text).map_err(|error| Error::new(ErrorCode::CidrSyntax, error.to_string()))
}

fn same_length(lengths: &[usize]) -> Result<(), Error> {
    if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Type, "the arrays of a batch must be of one length"))
}

fn from_words(words: &[u32]) -> Address {
    match words {
        [v4] => Address::v4(*v4),
        _ => Address::v6(words.iter().fold(0, |bits, &word| bits << 32 | u128::from(word))),
    }
}

/// A range as few prefixes if they are few, or as a range.
fn range_texts(range: AddressRange) -> Vec<String> {
    match range.to_prefixes().as_slice() {
        [prefix] => vec![prefix.to_string()],
        _ => vec![range.to_string()],
    }
}

fn arguments<T: TryFrom<i64> + Bounds>(name: &str, numbers: Vec<f64>) -> Result<Vec<T>, Error> {
    numbers.into_iter().map(|number| argument(name, number)).collect()
}

fn read_change(given: NativeAclChange) -> Result<Change, Error> {
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

fn invalid_change(error: ChangeError) -> Error {
    match error {
        ChangeError::Rule(error) => invalid_rule(error),
        ChangeError::Peer(error) => invalid_peer(error),
        ChangeError::Unknown(error) => unknown(error),
    }
}

/// `service` is the port, and 65536 times the protocol.
fn of_service<E>(source: E, destination: E, service: f64, at: f64) -> Result<Query<E>, Error> {
    let service: u32 = argument("service", service)?;
    let protocol = u8::try_from(service >> 16)
        .map_err(|_| Error::new(ErrorCode::Type, "protocol must be an integer from 0 to 255"))?;
    Ok(Query { source, destination, protocol, port: service as u16, at: argument("at", at)? })
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

impl From<Explanation> for NativeAclExplanation {
    fn from(explanation: Explanation) -> Self {
        let Decision { allowed, rule } = explanation.decision;
        let matching = explanation.matching.into_iter().map(|matching| NativeAclMatch {
            rule: matching.rule as f64,
            action: matching.action.to_string(),
            priority: matching.priority,
            shadowed: matching.shadowed,
        });
        Self {
            allowed,
            rule: rule.map(|id| id as f64),
            routed: explanation.routed.map(|address| address.to_string()),
            matching: matching.collect(),
        }
    }
}

impl From<Difference> for NativeAclDifference {
    fn from(difference: Difference) -> Self {
        let parties = difference.parties.into_iter().map(|party| match party {
            Party::Peers(ids) => NativeAclParty { peers: Some(ids.into()), addresses: None },
            Party::Behind(range) => NativeAclParty { peers: None, addresses: Some(range_texts(range).join(",")) },
        });
        let passages = |passages: Vec<Passage>| passages.into_iter().map(Into::into).collect();
        let rows = difference.rows.into_iter().map(|row| NativeAclDifferenceRow {
            sources: row.sources,
            destinations: row.destinations,
            gained: passages(row.gained),
            lost: passages(row.lost),
        });
        Self {
            pairs: difference.pairs.into(),
            behind: difference.behind.into(),
            concerned: difference.concerned.into(),
            parties: parties.collect(),
            rows: rows.collect(),
            complete: difference.complete,
        }
    }
}

impl From<PairCounts> for NativeAclPairCounts {
    fn from(counts: PairCounts) -> Self {
        let PairCounts { gaining, losing, opened, closed } = counts;
        Self { gaining: gaining as f64, losing: losing as f64, opened: opened as f64, closed: closed as f64 }
    }
}

impl From<Passage> for NativeAclPassage {
    fn from(passage: Passage) -> Self {
        Self {
            protocols: passage.protocols.into_iter().map(u32::from).collect(),
            ports: passage.ports.into_iter().map(|range| (range.low.into(), range.high.into())).collect(),
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
        through: parse_all(given.through.unwrap_or_default(), |text| Label::parse(text))
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
