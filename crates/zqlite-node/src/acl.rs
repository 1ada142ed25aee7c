//! The rule engine as JavaScript holds it; `lib/acl.ts` names and documents it.

mod answers;
mod batch;
pub(crate) mod exchange;
mod given;
mod packed;

use std::cell::RefCell;
use std::rc::Rc;

use napi::Env;
use napi::bindgen_prelude::{
    Float64Array, Float64ArraySlice, Function, Object, Uint8ArraySlice, Uint32Array, Uint32ArraySlice,
};
use napi_derive::napi;
use zqlite_acl::{Engine, Options, UnusedReason};
use zqlite_cidr::AddressRange;
use zqlite_store::{Error, ErrorCode};

use self::answers::{
    NativeAclConflict, NativeAclDifference, NativeAclExplanation, NativeAclFilterRule, NativeAclUnusedRule, range_texts,
};
use self::batch::Answers;
use self::exchange::Decider;
use self::given::{
    NativeAclChange, NativeAclPeer, NativeAclRule, address, arguments, invalid_change, invalid_peer, invalid_rule,
    peer, query, read_change, rule, unknown, way,
};
use self::packed::unpack;
use crate::call::{Call, function};
use crate::guard::{guard, to_napi};
use crate::number::argument;

/// See `lib/acl.ts`. The functions of [`decider`](Self::decider) and of its kind share the engine; JavaScript calls one
/// thing after the other, so that it is never borrowed twice.
#[napi]
pub struct NativeAclEngine {
    engine: Rc<RefCell<Engine>>,
}

type Toggle<'env> = Function<'env, (), ()>;

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

    /// See [`exchange::decider`].
    #[napi(ts_return_type = "() => void")]
    pub fn decider<'env>(&self, env: &'env Env, exchange: Float64Array) -> napi::Result<Decider<'env>> {
        let engine = Rc::clone(&self.engine);
        exchange::decider(env, exchange, move |query| engine.borrow().decide(query).map_err(unknown))
    }

    /// See [`exchange::address_decider`].
    #[napi(ts_return_type = "(addresses: string) => void")]
    pub fn address_decider<'env>(&self, env: &'env Env, exchange: Float64Array) -> napi::Result<Decider<'env>> {
        let engine = Rc::clone(&self.engine);
        exchange::address_decider(env, exchange, move |query| Ok(engine.borrow().decide_addresses(query)))
    }

    /// A plain function, as those.
    #[napi(ts_return_type = "(rule: number, enabled: boolean) => void")]
    pub fn toggle<'env>(&self, env: &'env Env) -> napi::Result<Toggle<'env>> {
        let engine = Rc::clone(&self.engine);
        function(env, "setEnabled", move |call: &Call<2>| {
            let (rule, enabled) = (call.get::<f64>(0)?, call.get::<bool>(1)?);
            Ok(engine.borrow_mut().set_enabled(argument("rule", rule)?, enabled).map_err(unknown)?)
        })
    }

    /// The rule that decides each question, `NaN` if none does, and 1 where it allows, 0 elsewhere.
    #[napi]
    #[allow(clippy::too_many_arguments, reason = "all of a batch are arguments, see Answers")]
    pub fn decide_batch(
        &self,
        sources: &[u32],
        destinations: &[u32],
        protocols: &[u8],
        ports: &[u16],
        at: f64,
        rules: Float64ArraySlice<'_>,
        allowed: Uint8ArraySlice<'_>,
    ) -> napi::Result<()> {
        let mut answers = Answers { rules, allowed };
        guard(|| {
            let at = argument("at", at)?;
            let questions = answers.questions(sources, destinations, protocols, ports)?;
            let (mut put, mut failed) = (answers.writer(), Ok(()));
            self.engine.borrow().decide_batch(questions, at, |index, decision| match decision {
                Ok(decision) => put(index, decision),
                Err(error) if failed.is_ok() => failed = Err(unknown(error)),
                Err(_) => {}
            });
            failed
        })
    }

    /// As [`decide_batch`](Self::decide_batch), by addresses of one word (IPv4) or four words, the highest first (IPv6).
    #[napi]
    #[allow(clippy::too_many_arguments, reason = "all of a batch are arguments, see Answers")]
    pub fn decide_addresses_batch(
        &self,
        sources: &[u32],
        destinations: &[u32],
        protocols: &[u8],
        ports: &[u16],
        at: f64,
        rules: Float64ArraySlice<'_>,
        allowed: Uint8ArraySlice<'_>,
    ) -> napi::Result<()> {
        let mut answers = Answers { rules, allowed };
        guard(|| {
            let at = argument("at", at)?;
            let engine = self.engine.borrow();
            if sources.len() > protocols.len()
                && let ((sources, []), (destinations, [])) = (sources.as_chunks(), destinations.as_chunks())
            {
                engine.decide_v6_batch(
                    answers.questions(sources, destinations, protocols, ports)?,
                    at,
                    answers.writer(),
                );
            } else {
                engine.decide_v4_batch(
                    answers.questions(sources, destinations, protocols, ports)?,
                    at,
                    answers.writer(),
                );
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

    /// As [`set_rules`](Self::set_rules) with packed rules; `false` when they cannot be told apart, and nothing was done.
    #[napi]
    pub fn set_packed_rules(&self, numbers: &[f64], texts: String) -> napi::Result<bool> {
        guard(|| match unpack(numbers, &texts)? {
            Some(rules) => self.engine.borrow_mut().set_rules(rules).map_err(invalid_rule).map(|()| true),
            None => Ok(false),
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
    pub fn visible_peers<'env>(
        &self,
        env: &'env Env,
        peer: f64,
        direction: String,
        at: f64,
    ) -> napi::Result<Uint32ArraySlice<'env>> {
        let seen = guard(|| {
            let (peer, direction, at) = (argument("peer", peer)?, way(&direction)?, argument("at", at)?);
            self.engine.borrow().visible_peers(peer, direction, at).map_err(unknown)
        })?;
        // Copied: memory that V8 does not own costs it more to have, and to give back.
        Uint32ArraySlice::copy_from(env, seen)
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
    pub fn visible_classes<'env>(
        &self,
        env: &'env Env,
        of: f64,
        direction: String,
        at: f64,
    ) -> napi::Result<Uint32ArraySlice<'env>> {
        let seen = guard(|| {
            let (class, direction, at) = (argument("class", of)?, way(&direction)?, argument("at", at)?);
            self.engine.borrow().visible_classes(class, direction, at).map_err(unknown)
        })?;
        Uint32ArraySlice::copy_from(env, seen)
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
