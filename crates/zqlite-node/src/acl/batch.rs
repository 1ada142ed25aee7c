//! The answers to a batch of questions, in typed arrays of the facade.

use napi::bindgen_prelude::{Float64ArraySlice, JsObjectValue, Object, Uint8ArraySlice};
use zqlite_acl::Decision;
use zqlite_store::{Error, ErrorCode};

use crate::guard::guard;

/// For each question the rule that decides it, and whether that allows.
pub(super) struct Answers<'a> {
    rules: Float64ArraySlice<'a>,
    allowed: Uint8ArraySlice<'a>,
}

impl<'a> Answers<'a> {
    pub(super) fn of(answers: &Object<'a>) -> napi::Result<Self> {
        let rules: Float64ArraySlice<'a> = answers.get_named_property("rules")?;
        let allowed: Uint8ArraySlice<'a> = answers.get_named_property("allowed")?;
        guard(|| same_length(&[rules.len(), allowed.len()]))?;
        Ok(Self { rules, allowed })
    }

    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    pub(super) fn put(&mut self, index: usize, decision: Decision) {
        // SAFETY: both arrays belong to the facade, which made them for this call; nobody else writes or reads them.
        let (rules, allowed) = unsafe { (self.rules.as_mut(), self.allowed.as_mut()) };
        if let (Some(rule), Some(allows)) = (rules.get_mut(index), allowed.get_mut(index)) {
            *rule = decision.rule.map_or(f64::NAN, |id| id as f64);
            *allows = decision.allowed.into();
        }
    }
}

pub(super) fn same_length(lengths: &[usize]) -> Result<(), Error> {
    if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Type, "the arrays of a batch must be of one length"))
}
