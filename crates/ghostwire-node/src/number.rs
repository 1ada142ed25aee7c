//! Numbers of JavaScript on their way to integers: napi would cut and wrap what does not fit.

use crate::guard::{Error, bug};

/// The largest integer up to which JavaScript represents all of them.
const SAFE: f64 = 9_007_199_254_740_991.0;

pub(crate) fn handle(name: &str, number: f64) -> Result<u32, Error> {
    whole(name, number, f64::from(u32::MAX)).map(|number| number as u32)
}

pub(crate) fn count(name: &str, number: f64) -> Result<u64, Error> {
    whole(name, number, SAFE).map(|number| number as u64)
}

fn whole(name: &str, number: f64, highest: f64) -> Result<f64, Error> {
    if number.fract() == 0.0 && (0.0..=highest).contains(&number) {
        Ok(number)
    } else {
        Err(bug(format!("{name} must be an integer from 0 to {highest}, not {number}")))
    }
}
