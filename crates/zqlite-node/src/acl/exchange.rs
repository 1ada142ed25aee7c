//! How one question and its answer cross the border: as numbers in an array that both sides hold, and addresses as text.

use napi::Env;
use napi::bindgen_prelude::{Float64Array, Function};
use zqlite_acl::{Decision, PeerId, Query};
use zqlite_cidr::Address;
use zqlite_store::{Error, ErrorCode};

use super::given::of_service;
use crate::call::{Call, Units, function};
use crate::cidr::syntax;
use crate::guard::to_napi;
use crate::number::argument;

/// A function that answers one question.
pub(crate) type Decider<'env> = Function<'env, (), ()>;

/// A plain function is called in half the time of a method, which must find out what `this` is; and a number in an array
/// that both sides hold costs next to nothing, where one that is an argument or a result is a call into V8.
///
/// `exchange` is source, destination, [service](of_service) and time; [the answer](code) comes to its last place.
pub(crate) fn decider<'env>(
    env: &'env Env,
    exchange: Float64Array,
    decide: impl Fn(&Query<PeerId>) -> Result<Decision, Error> + 'static,
) -> napi::Result<Decider<'env>> {
    let exchange = Exchange::new(exchange)?;
    function(env, "decide", move |_: &Call<0>| {
        let [source, destination, service, at] = exchange.question();
        let ends = (argument("source", source)?, argument("destination", destination)?);
        let query = of_service(ends.0, ends.1, service, at)?;
        exchange.answer(code(decide(&query)?));
        Ok(())
    })
}

/// As [`decider`], by addresses, which are the argument: the text of the source with that of the destination behind it, as
/// reading a text costs about the same however long it is. How long that of the source is stands in its place.
pub(crate) fn address_decider<'env>(
    env: &'env Env,
    exchange: Float64Array,
    decide: impl Fn(&Query<Address>) -> Result<Decision, Error> + 'static,
) -> napi::Result<Decider<'env>> {
    let (exchange, room) = (Exchange::new(exchange)?, Units::new());
    function(env, "decideAddresses", move |call: &Call<1>| {
        let [split, _, service, at] = exchange.question();
        call.text(0, &room, |units| {
            let (source, destination) = units
                .split_at_checked(split as usize)
                .ok_or_else(|| Error::new(ErrorCode::Type, "the texts of addresses are cut off"))?;
            let ends = (Address::parse_utf16(source), Address::parse_utf16(destination));
            let query = of_service(ends.0.map_err(syntax)?, ends.1.map_err(syntax)?, service, at)?;
            exchange.answer(code(decide(&query)?));
            Ok(())
        })?
    })
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

/// The array of `lib/acl-questions.ts` that questions and answers are written to.
struct Exchange {
    /// Keeps the memory.
    _array: Float64Array,
    /// Of the array, which is read and written through this alone.
    places: *mut f64,
}

/// Places of a question; the answer stands behind them.
const QUESTION: usize = 4;

impl Exchange {
    fn new(mut array: Float64Array) -> napi::Result<Self> {
        if array.len() != QUESTION + 1 {
            return Err(to_napi(&Error::new(ErrorCode::Type, "the array of questions and answers has five places")));
        }
        // SAFETY: nothing else reads or writes the array meanwhile: JavaScript runs on this thread and waits for the call.
        let places = unsafe { array.as_mut() }.as_mut_ptr();
        Ok(Self { _array: array, places })
    }

    /// What the facade has written before it called.
    fn question(&self) -> [f64; QUESTION] {
        // SAFETY: the array has these places, as `new` has seen, and lives as long as `self`; the facade gives it to nobody, so
        // that it is never detached. It is only touched on the thread of JavaScript, which waits for this call.
        unsafe { self.places.cast::<[f64; QUESTION]>().read() }
    }

    /// For the facade to read after the call.
    fn answer(&self, answer: f64) {
        // SAFETY: as above.
        unsafe { self.places.add(QUESTION).write(answer) };
    }
}
