//! Functions that JavaScript calls so often that the way to them counts.
//!
//! The functions that napi makes allocate a list of arguments for each call, and read a text into a `String`. Those made here have
//! room for their arguments on the stack and read texts into room of their own, and are otherwise the same: what fails is
//! thrown, and a panic becomes `ERR_INTERNAL`.

use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use napi::bindgen_prelude::{FromNapiValue, Function, ToNapiValue};
use napi::{Env, JsError, sys};
use zqlite_store::Error;

use crate::guard::{panicked, to_napi};

/// A call of a function of up to `N` arguments.
pub(crate) struct Call<const N: usize> {
    env: sys::napi_env,
    arguments: [sys::napi_value; N],
}

/// Why a call fails.
pub(crate) enum Failure {
    /// An argument has another type.
    Argument(napi::Error),
    Ours(Error),
}

impl From<napi::Error> for Failure {
    fn from(error: napi::Error) -> Self {
        Self::Argument(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl<const N: usize> Call<N> {
    /// An argument; one that was not given is `undefined`.
    #[inline]
    pub(crate) fn get<T: FromNapiValue>(&self, place: usize) -> napi::Result<T> {
        // SAFETY: `call` made these of a live environment and values of it, all of which live until it returns; `self` does not
        // leave it, as a closure only has it borrowed.
        unsafe { T::from_napi_value(self.env, self.arguments[place]) }
    }

    /// Gives `read` the code units of an argument that is a text. Of one that is longer than there is room the beginning.
    #[inline]
    pub(crate) fn text<T>(&self, place: usize, room: &Units, read: impl FnOnce(&[u16]) -> T) -> napi::Result<T> {
        let mut units = room.0.borrow_mut();
        let mut length = 0;
        // SAFETY: environment and value as in `get`. The engine writes at most `ROOM` units, a closing zero included, into the array
        // of that size, and their number without it to `length`. No JavaScript runs meanwhile.
        let status = unsafe {
            sys::napi_get_value_string_utf16(self.env, self.arguments[place], units.as_mut_ptr(), ROOM, &mut length)
        };
        if status == sys::Status::napi_ok {
            return Ok(read(units.get(..length).unwrap_or_default()));
        }
        // Its error says what came instead.
        self.get::<String>(place).and_then(|_| Err(napi::Error::from_reason("a text cannot be read")))
    }
}

/// Two addresses in one text, each cut to [`LONGEST`], and a closing zero. What is longer is no address, wherever it is cut.
const ROOM: usize = 2 * LONGEST + 1;

/// Code units of a text, as `lib/acl-questions.ts` cuts it.
pub(crate) const LONGEST: usize = 96;

/// Where texts are read to.
pub(crate) struct Units(RefCell<[u16; ROOM]>);

impl Units {
    pub(crate) fn new() -> Self {
        Self(RefCell::new([0; ROOM]))
    }
}

/// A function that JavaScript calls with up to `N` arguments.
pub(crate) fn function<'env, const N: usize, Return, Run>(
    env: &'env Env,
    name: &str,
    run: Run,
) -> napi::Result<Function<'env, (), Return>>
where
    Return: ToNapiValue,
    Run: Fn(&Call<N>) -> Result<Return, Failure> + 'static,
{
    let run = Box::into_raw(Box::new(run)).cast::<c_void>();
    let mut made = ptr::null_mut();
    let callback = Some(call::<N, Return, Run> as unsafe extern "C" fn(_, _) -> _);
    // SAFETY: the environment is live, the name is read during the call, and `made` is a place for the function.
    let status = unsafe {
        sys::napi_create_function(env.raw(), name.as_ptr().cast(), name.len() as isize, callback, run, &mut made)
    };
    if status != sys::Status::napi_ok {
        // SAFETY: `run` was leaked above, and there is no function that could use it.
        drop(unsafe { Box::from_raw(run.cast::<Run>()) });
        napi::check_status!(status)?;
    }
    // SAFETY: `made` is a live function. `free` is called once, when nothing can call it any more. Where this fails, `run` is
    // never freed, as the function is there.
    napi::check_status!(unsafe {
        sys::napi_add_finalizer(env.raw(), made, run, Some(free::<Run>), ptr::null_mut(), ptr::null_mut())
    })?;
    // SAFETY: `made` is a function of this environment.
    unsafe { Function::from_napi_value(env.raw(), made) }
}

/// # Safety
/// Only for N-API, as a callback of which `run` is the data.
unsafe extern "C" fn call<const N: usize, Return, Run>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
) -> sys::napi_value
where
    Return: ToNapiValue,
    Run: Fn(&Call<N>) -> Result<Return, Failure> + 'static,
{
    let result = catch_unwind(AssertUnwindSafe(|| {
        let (mut count, mut arguments, mut run) = (N, [ptr::null_mut(); N], ptr::null_mut());
        // SAFETY: N-API gives a live environment and call. It fills all `N` places, those that were not given with `undefined`.
        napi::check_status!(unsafe {
            sys::napi_get_cb_info(env, info, &mut count, arguments.as_mut_ptr(), ptr::null_mut(), &mut run)
        })?;
        // SAFETY: `function` made the data from a `Run`, which lives as long as the function that is called; others only have it
        // shared.
        let run = unsafe { &*run.cast::<Run>() };
        let answer = run(&Call { env, arguments })?;
        // JavaScript takes a null for `undefined`.
        if size_of::<Return>() == 0 {
            return Ok(ptr::null_mut());
        }
        // SAFETY: the environment is live.
        Ok::<_, Failure>(unsafe { Return::to_napi_value(env, answer) }?)
    }));
    let error = match result {
        Ok(Ok(answer)) => return answer,
        Ok(Err(Failure::Argument(error))) => error,
        Ok(Err(Failure::Ours(error))) => to_napi(&error),
        Err(_) => panicked(),
    };
    // SAFETY: the environment is live, and this is the thread of JavaScript.
    unsafe { JsError::from(error).throw_into(env) };
    ptr::null_mut()
}

/// # Safety
/// Only for N-API, once, with what `function` leaked as a `Run`.
unsafe extern "C" fn free<Run>(_: sys::napi_env, run: *mut c_void, _: *mut c_void) {
    // SAFETY: as the caller promises.
    let run = unsafe { Box::from_raw(run.cast::<Run>()) };
    // What it holds may be freed by code that panics, which must not get out; there is nobody to tell.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(run)));
}
