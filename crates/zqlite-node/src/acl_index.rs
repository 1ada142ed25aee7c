//! An index of kind `acl` as JavaScript asks it; `lib/indexes.ts` names and documents it.

use std::cell::Cell;
use std::rc::Rc;

use napi::bindgen_prelude::Float64Array;
use napi::{Either, Env};
use napi_derive::napi;
use zqlite_acl::{Decision, Query};
use zqlite_store::{AclIndex, AclQuestion, Error, SqlValue};

use crate::acl::NativeAclEngine;
use crate::acl::exchange::{self, Decider};
use crate::cidr_index::open;
use crate::guard::guard;

/// A question: both ends are numbers of peers, or both are texts of addresses.
#[napi(object)]
pub struct NativeAclQuestion {
    pub source: Either<f64, String>,
    pub destination: Either<f64, String>,
    pub protocol: f64,
    pub port: f64,
    /// Milliseconds since 1970.
    pub at: f64,
}

/// A rule that matches a question.
#[napi(object)]
pub struct NativeAclIndexMatch {
    pub rule: f64,
    pub action: String,
    pub priority: i32,
    pub shadowed: bool,
}

/// An answer with all that led to it.
#[napi(object)]
pub struct NativeAclReasons {
    pub allowed: bool,
    pub rule: Option<f64>,
    pub matching: Vec<NativeAclIndexMatch>,
}

/// See `lib/indexes.ts`.
#[napi]
pub struct NativeAclIndex {
    index: AclIndex,
    /// Whether the database that it is of was closed here.
    closed: Rc<Cell<bool>>,
}

impl NativeAclIndex {
    pub(crate) fn of(index: AclIndex, closed: Rc<Cell<bool>>) -> Self {
        Self { index, closed }
    }
}

/// What is no integer stays a real, which no question takes.
fn number(number: f64) -> SqlValue {
    if number.fract() == 0.0 && number.abs() < 9e15 { SqlValue::Integer(number as i64) } else { SqlValue::Real(number) }
}

fn end(end: Either<f64, String>) -> SqlValue {
    match end {
        Either::A(peer) => number(peer),
        Either::B(address) => SqlValue::Text(address),
    }
}

impl NativeAclQuestion {
    fn values(self) -> [SqlValue; 5] {
        [end(self.source), end(self.destination), number(self.protocol), number(self.port), number(self.at)]
    }
}

#[napi]
impl NativeAclIndex {
    /// The rules and peers as they are committed now.
    #[napi]
    pub fn snapshot(&self) -> napi::Result<NativeAclEngine> {
        guard(|| {
            open(&self.closed)?;
            Ok(NativeAclEngine::of(self.index.engine()?))
        })
    }

    /// See [`exchange::decider`].
    #[napi(ts_return_type = "() => void")]
    pub fn decider<'env>(&self, env: &'env Env, exchange: Float64Array) -> napi::Result<Decider<'env>> {
        exchange::decider(env, exchange, self.ask(AclQuestion::Peers))
    }

    /// See [`exchange::address_decider`].
    #[napi(ts_return_type = "(addresses: string) => void")]
    pub fn address_decider<'env>(&self, env: &'env Env, exchange: Float64Array) -> napi::Result<Decider<'env>> {
        exchange::address_decider(env, exchange, self.ask(AclQuestion::Addresses))
    }

    fn ask<E: Copy>(
        &self,
        question: fn(Query<E>) -> AclQuestion,
    ) -> impl Fn(&Query<E>) -> Result<Decision, Error> + use<E> {
        let (index, closed) = (self.index.clone(), Rc::clone(&self.closed));
        move |query| {
            open(&closed)?;
            index.decide(&question(*query))
        }
    }

    #[napi]
    pub fn explain(&self, question: NativeAclQuestion) -> napi::Result<NativeAclReasons> {
        guard(|| -> Result<_, Error> {
            open(&self.closed)?;
            let found = self.index.explain(&AclQuestion::of(&question.values())?)?;
            let matching = found.matching.into_iter().map(|rule| NativeAclIndexMatch {
                rule: rule.rule as f64,
                action: rule.action.to_string(),
                priority: rule.priority,
                shadowed: rule.shadowed,
            });
            Ok(NativeAclReasons {
                allowed: found.decision.allowed,
                rule: found.decision.rule.map(|rule| rule as f64),
                matching: matching.collect(),
            })
        })
    }
}
