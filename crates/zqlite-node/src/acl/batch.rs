//! The answers to a batch of questions, in typed arrays of the facade.

use std::ops::Range;

use napi::bindgen_prelude::{Float64ArraySlice, Uint8ArraySlice};
use zqlite_acl::{Columns, Decision};
use zqlite_store::{Error, ErrorCode};

/// For each question the rule that decides it, and whether that allows. Both are arguments of the call, as the questions are: were
/// they read from an object, its getters could take the memory of those away.
pub(super) struct Answers<'a> {
    pub(super) rules: Float64ArraySlice<'a>,
    pub(super) allowed: Uint8ArraySlice<'a>,
}

impl<'a> Answers<'a> {
    /// As many questions as there are answers, in memory of their own.
    pub(super) fn questions<'q, E>(
        &self,
        sources: &'q [E],
        destinations: &'q [E],
        protocols: &'q [u8],
        ports: &'q [u16],
    ) -> Result<Columns<'q, E>, Error> {
        let Self { rules, allowed } = self;
        same_length(&[rules.len(), allowed.len(), sources.len(), destinations.len(), protocols.len(), ports.len()])?;
        let questions = [bytes(sources), bytes(destinations), bytes(protocols), bytes(ports)];
        let (rules, allowed) = (bytes(rules), bytes(allowed));
        if meet(&rules, &allowed) || questions.iter().any(|part| meet(part, &rules) || meet(part, &allowed)) {
            return Err(Error::new(
                ErrorCode::Type,
                "the arrays of answers must not share memory with others of the batch",
            ));
        }
        Ok(Columns { sources, destinations, protocols, ports })
    }

    /// Takes an answer by its number, once [`questions`](Self::questions) has seen that nothing else lies in this memory.
    pub(super) fn writer(&mut self) -> impl FnMut(usize, Decision) {
        // SAFETY: JavaScript waits for the call, the facade lets no memory in that other threads share, and no slice of its other arguments lies in this memory, as `questions` has seen.
        let (rules, allowed) = unsafe { (self.rules.as_mut(), self.allowed.as_mut()) };
        move |index, decision| {
            if let (Some(rule), Some(allows)) = (rules.get_mut(index), allowed.get_mut(index)) {
                *rule = decision.rule.map_or(f64::NAN, |id| id as f64);
                *allows = decision.allowed.into();
            }
        }
    }
}

/// Where in memory a slice lies.
fn bytes<T>(slice: &[T]) -> Range<*const u8> {
    let Range { start, end } = slice.as_ptr_range();
    start.cast()..end.cast()
}

fn meet(a: &Range<*const u8>, b: &Range<*const u8>) -> bool {
    a.start < b.end && b.start < a.end
}

fn same_length(lengths: &[usize]) -> Result<(), Error> {
    if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Type, "the arrays of a batch must be of one length"))
}
