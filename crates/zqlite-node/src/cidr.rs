//! The prefix table as JavaScript holds it; `lib/cidr.ts` names and documents it.
//!
//! Lookups and changes of one prefix are plain functions that close over the table, as unwrapping `this` of a class costs
//! as much as they do; what is asked less often is a method.

use std::cell::RefCell;
use std::rc::Rc;

use napi::bindgen_prelude::{Array, Buffer, Env, Float64ArraySlice, Function, Uint8ArraySlice, Uint32ArraySlice};
use napi_derive::napi;
use zqlite_cidr::{Address, AddressRange, HostBits, LookupTable, Mode, ParseError, Prefix, Table};
use zqlite_store::{Error, ErrorCode};

use crate::call::{Call, Units, function};
use crate::guard::guard;
use crate::number::argument;
use crate::text::{Text, texts};

/// A prefix with its value.
#[napi(object)]
pub struct NativeCidrEntry {
    pub prefix: String,
    pub value: u32,
}

impl From<(Prefix, &u32)> for NativeCidrEntry {
    fn from((prefix, &value): (Prefix, &u32)) -> Self {
        Self { prefix: prefix.to_string(), value }
    }
}

fn entries<'a>(found: impl IntoIterator<Item = (Prefix, &'a u32)>) -> Vec<NativeCidrEntry> {
    found.into_iter().map(Into::into).collect()
}

pub(crate) fn syntax(error: ParseError) -> Error {
    Error::new(ErrorCode::CidrSyntax, error.to_string())
}

fn type_error(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Type, message)
}

/// An address that is an argument.
pub(crate) fn address(text: impl AsRef<[u8]>) -> Result<Address, Error> {
    Address::parse(text).map_err(syntax)
}

fn range(text: &str) -> Result<AddressRange, Error> {
    AddressRange::parse(text).map_err(syntax)
}

/// The instructions that lookups use: `scalar`, or `bit-counting` or `avx-512` where the processor has
/// those.
#[napi]
pub fn instructions() -> napi::Result<&'static str> {
    guard(|| zqlite_cidr::instructions().map(|chosen| chosen.name()).map_err(|error| type_error(error.to_string())))
}

/// The fewest prefixes that make up a range.
#[napi]
pub fn cidr_range_to_prefixes(text: String) -> napi::Result<Vec<String>> {
    guard(|| Ok(range(&text)?.to_prefixes().iter().map(Prefix::to_string).collect()))
}

/// Where the values of a batch go: beside what stands for "none" there.
enum Out<'a> {
    /// 2^32-1 is none.
    Uint32(&'a mut [u32]),
    /// -1 is none.
    Float64(&'a mut [f64]),
}

impl<'a> Out<'a> {
    /// The array that the caller gave, if it has room for `count` values and shares no memory with `input`.
    fn of<T>(
        uint32: Option<&'a mut Uint32ArraySlice<'_>>,
        float64: Option<&'a mut Float64ArraySlice<'_>>,
        count: usize,
        input: &[T],
    ) -> Result<Self, Error> {
        let out = match (uint32, float64) {
            // SAFETY: JavaScript runs on this thread and waits for the call, and `lib/cidr.ts` refuses memory that is
            // shared with other threads, so nothing else reads or writes the array while the slice lives. The input,
            // the only other array of the call, is compared below; where the two overlap nothing is written.
            (Some(out), _) => Self::Uint32(unsafe { out.as_mut() }),
            // SAFETY: as above.
            (None, Some(out)) => Self::Float64(unsafe { out.as_mut() }),
            (None, None) => return Err(type_error("out must be a Uint32Array or a Float64Array")),
        };
        let (room, memory) = match &out {
            Self::Uint32(out) => (out.len(), out.as_ptr().addr()..out.as_ptr_range().end.addr()),
            Self::Float64(out) => (out.len(), out.as_ptr().addr()..out.as_ptr_range().end.addr()),
        };
        if room < count {
            return Err(type_error(format!("out has room for {room} values, {count} are needed")));
        }
        let input = input.as_ptr_range();
        if memory.start < input.end.addr() && input.start.addr() < memory.end {
            return Err(type_error("out must not share memory with the addresses"));
        }
        Ok(out)
    }
}

/// Runs a batch, which is given where to put each value: a macro, so that it is compiled for each kind of array and
/// putting a value is no call.
macro_rules! fill {
    ($out:expr, |$put:ident| $batch:expr) => {
        match $out {
            Out::Uint32(out) => {
                let $put = |at: usize, found: Option<u32>| out[at] = found.unwrap_or(u32::MAX);
                $batch
            }
            Out::Float64(out) => {
                let $put = |at: usize, found: Option<u32>| out[at] = found.map_or(-1.0, f64::from);
                $batch
            }
        }
    };
}

/// See `lib/cidr.ts`.
#[napi]
pub struct NativeCidrTable {
    table: Rc<RefCell<LookupTable>>,
    mode: Mode,
    host_bits: HostBits,
}

#[napi]
impl NativeCidrTable {
    #[napi(constructor)]
    pub fn new(fast: Option<bool>, mask: Option<bool>) -> Self {
        let mode = if fast == Some(true) { Mode::Fast } else { Mode::Compact };
        let host_bits = if mask == Some(true) { HostBits::Mask } else { HostBits::Reject };
        Self { table: Rc::new(RefCell::new(LookupTable::of(Table::new(), mode))), mode, host_bits }
    }

    fn prefix(&self, text: impl AsRef<[u8]>) -> Result<Prefix, Error> {
        Prefix::parse(text, self.host_bits).map_err(syntax)
    }

    /// A function that gives a prefix a value.
    #[napi(ts_return_type = "(prefix: string, value: number) => void")]
    pub fn inserter<'env>(&self, env: &'env Env) -> napi::Result<Function<'env, (), ()>> {
        let (table, host_bits) = (self.table.clone(), self.host_bits);
        function(env, "insert", move |call: &Call<2>| {
            let (text, value) = (call.get::<Text>(0)?, call.get::<f64>(1)?);
            let prefix = Prefix::parse(text.bytes(), host_bits).map_err(syntax)?;
            table.borrow_mut().insert(prefix, argument("value", value)?);
            Ok(())
        })
    }

    /// Inserts many; nothing of them if one is not valid.
    #[napi]
    pub fn insert_all(&self, prefixes: Array, values: Uint32ArraySlice) -> napi::Result<()> {
        let texts = texts(&prefixes)?;
        guard(|| {
            let parse = |(at, text): (usize, &Text)| {
                Prefix::parse(text.bytes(), self.host_bits).map_err(|error| at_index("prefixes", at, &error))
            };
            let prefixes = texts.iter().enumerate().map(parse).collect::<Result<Vec<_>, Error>>()?;
            if prefixes.len() != values.len() {
                let (prefixes, values) = (prefixes.len(), values.len());
                return Err(type_error(format!("there must be a value for each prefix, not {values} for {prefixes}")));
            }
            let mut table = self.table.borrow_mut();
            if table.is_empty() {
                *table = LookupTable::of(prefixes.into_iter().zip(values.iter().copied()).collect(), self.mode);
            } else {
                for (prefix, &value) in prefixes.into_iter().zip(values.iter()) {
                    table.insert(prefix, value);
                }
            }
            Ok(())
        })
    }

    #[napi]
    pub fn insert_range(&self, text: String, value: f64) -> napi::Result<()> {
        guard(|| {
            let (range, value) = (range(&text)?, argument("value", value)?);
            let mut table = self.table.borrow_mut();
            for prefix in range.to_prefixes() {
                table.insert(prefix, value);
            }
            Ok(())
        })
    }

    /// A function that removes a prefix; whether it was there.
    #[napi(ts_return_type = "(prefix: string) => boolean")]
    pub fn remover<'env>(&self, env: &'env Env) -> napi::Result<Function<'env, (), bool>> {
        let (table, host_bits) = (self.table.clone(), self.host_bits);
        function(env, "remove", move |call: &Call<1>| {
            let text = call.get::<Text>(0)?;
            let prefix = Prefix::parse(text.bytes(), host_bits).map_err(syntax)?;
            Ok(table.borrow_mut().remove(prefix).is_some())
        })
    }

    /// A function from a prefix to its value, or -1.
    #[napi(ts_return_type = "(prefix: string) => number")]
    pub fn getter<'env>(&self, env: &'env Env) -> napi::Result<Function<'env, (), f64>> {
        let (table, host_bits) = (self.table.clone(), self.host_bits);
        function(env, "get", move |call: &Call<1>| {
            let text = call.get::<Text>(0)?;
            let prefix = Prefix::parse(text.bytes(), host_bits).map_err(syntax)?;
            Ok(answer(table.borrow().get(prefix).copied()))
        })
    }

    #[napi]
    pub fn lookup(&self, text: String) -> napi::Result<Option<NativeCidrEntry>> {
        guard(|| Ok(self.table.borrow().longest_match(address(&text)?).map(Into::into)))
    }

    #[napi]
    pub fn matches(&self, text: String) -> napi::Result<Vec<NativeCidrEntry>> {
        guard(|| Ok(entries(self.table.borrow().matches(address(&text)?))))
    }

    #[napi]
    pub fn covering(&self, text: String) -> napi::Result<Vec<NativeCidrEntry>> {
        guard(|| Ok(entries(self.table.borrow().covering(self.prefix(&text)?))))
    }

    #[napi]
    pub fn covered(&self, text: String) -> napi::Result<Vec<NativeCidrEntry>> {
        guard(|| Ok(entries(self.table.borrow().covered(self.prefix(&text)?))))
    }

    #[napi]
    pub fn within(&self, text: String) -> napi::Result<Vec<NativeCidrEntry>> {
        guard(|| Ok(entries(self.table.borrow().within(range(&text)?))))
    }

    #[napi]
    pub fn entries(&self) -> napi::Result<Vec<NativeCidrEntry>> {
        guard(|| Ok(entries(self.table.borrow().iter())))
    }

    #[napi]
    pub fn ranges(&self) -> napi::Result<Vec<String>> {
        guard(|| Ok(self.table.borrow().ranges().iter().map(AddressRange::to_string).collect()))
    }

    #[napi]
    pub fn overlaps(&self, text: String) -> napi::Result<bool> {
        guard(|| Ok(self.table.borrow().overlaps(self.prefix(&text)?)))
    }

    #[napi]
    pub fn overlaps_table(&self, other: &NativeCidrTable) -> napi::Result<bool> {
        guard(|| Ok(self.table.borrow().overlaps_table(&other.table.borrow())))
    }

    #[napi(ts_args_type = "pool: string, length?: number")]
    pub fn next_free(&self, text: Text, length: Option<f64>) -> napi::Result<Option<String>> {
        guard(|| {
            let (pool, length) = pool(&text, self.host_bits, length)?;
            Ok(self.table.borrow().next_free(pool, length).map(|prefix| prefix.to_string()))
        })
    }

    /// A function that gives what `next_free` finds a value, of a pool, the value and maybe a length.
    #[napi(ts_return_type = "(pool: string, value: number, length?: number) => string | null")]
    pub fn allocator<'env>(&self, env: &'env Env) -> napi::Result<Function<'env, (), Option<String>>> {
        let (table, host_bits) = (self.table.clone(), self.host_bits);
        function(env, "allocate", move |call: &Call<3>| {
            let (text, value) = (call.get::<Text>(0)?, call.get::<f64>(1)?);
            let ((pool, length), value) = (pool(&text, host_bits, call.get(2)?)?, argument("value", value)?);
            let mut table = table.borrow_mut();
            let free = table.next_free(pool, length);
            if let Some(free) = free {
                table.insert(free, value);
            }
            Ok(free.map(|prefix| prefix.to_string()))
        })
    }

    /// A function from an IPv4 address as a number to the value of its longest match, or -1.
    #[napi(ts_return_type = "(address: number) => number")]
    pub fn number_lookup<'env>(&self, env: &'env Env) -> napi::Result<Function<'env, (), f64>> {
        let table = self.table.clone();
        function(env, "lookupNumber", move |call: &Call<1>| {
            Ok(answer(table.borrow().lookup(Address::v4(argument("address", call.get(0)?)?))))
        })
    }

    /// A function from an address to the value of its longest match, or -1.
    #[napi(ts_return_type = "(address: string) => number")]
    pub fn text_lookup<'env>(&self, env: &'env Env) -> napi::Result<Function<'env, (), f64>> {
        let (table, room) = (self.table.clone(), Units::new());
        function(env, "lookupText", move |call: &Call<1>| {
            let address = call.text(0, &room, Address::parse_utf16)?.map_err(syntax)?;
            Ok(answer(table.borrow().lookup(address)))
        })
    }

    #[napi]
    pub fn lookup_v4(
        &self,
        addresses: Uint32ArraySlice,
        mut uint32: Option<Uint32ArraySlice>,
        mut float64: Option<Float64ArraySlice>,
    ) -> napi::Result<()> {
        guard(|| {
            let out = Out::of(uint32.as_mut(), float64.as_mut(), addresses.len(), &addresses)?;
            let table = self.table.borrow();
            fill!(out, |put| table.lookup_v4(&addresses, put));
            Ok(())
        })
    }

    #[napi]
    pub fn lookup_v6(
        &self,
        addresses: Uint8ArraySlice,
        mut uint32: Option<Uint32ArraySlice>,
        mut float64: Option<Float64ArraySlice>,
    ) -> napi::Result<()> {
        guard(|| {
            let (addresses, rest) = addresses.as_chunks();
            if !rest.is_empty() {
                return Err(type_error("addresses must be a multiple of 16 bytes"));
            }
            let out = Out::of(uint32.as_mut(), float64.as_mut(), addresses.len(), addresses)?;
            let table = self.table.borrow();
            fill!(out, |put| table.lookup_v6(addresses, put));
            Ok(())
        })
    }

    #[napi]
    pub fn lookup_texts(
        &self,
        addresses: Array,
        mut uint32: Option<Uint32ArraySlice>,
        mut float64: Option<Float64ArraySlice>,
    ) -> napi::Result<()> {
        let texts = texts(&addresses)?;
        guard(|| {
            let parse = |(at, text): (usize, &Text)| {
                Address::parse(text.bytes()).map_err(|error| at_index("addresses", at, &error))
            };
            let addresses = texts.iter().enumerate().map(parse).collect::<Result<Vec<_>, Error>>()?;
            let out = Out::of::<u8>(uint32.as_mut(), float64.as_mut(), addresses.len(), &[])?;
            let table = self.table.borrow();
            fill!(out, |put| table.lookup_all(&addresses, put));
            Ok(())
        })
    }

    #[napi]
    pub fn save(&self) -> napi::Result<Buffer> {
        guard(|| Ok(self.table.borrow().save().into()))
    }

    /// Replaces the table by a saved one.
    #[napi]
    pub fn load(&self, bytes: Uint8ArraySlice) -> napi::Result<()> {
        guard(|| {
            let table = Table::load(&bytes).map_err(|error| Error::new(ErrorCode::Corrupt, error.to_string()))?;
            self.table.replace(LookupTable::lazily_of(table, self.mode));
            Ok(())
        })
    }

    #[napi]
    pub fn memory(&self) -> f64 {
        self.table.borrow().memory() as f64
    }

    #[napi]
    pub fn size(&self) -> u32 {
        self.table.borrow().len() as u32
    }
}

/// A pool, and how long the prefixes are that are to be found in it.
fn pool(text: &Text, host_bits: HostBits, length: Option<f64>) -> Result<(Prefix, u8), Error> {
    let pool = Prefix::parse(text.bytes(), host_bits).map_err(syntax)?;
    let width = pool.family().width();
    let length = length.map_or(Ok(width), |length| argument("length", length))?;
    if length < pool.length() || length > width {
        let shortest = pool.length();
        return Err(type_error(format!("length must be from {shortest} to {width} here, not {length}")));
    }
    Ok((pool, length))
}

fn answer(found: Option<u32>) -> f64 {
    found.map_or(-1.0, f64::from)
}

pub(crate) fn at_index(what: &str, at: usize, error: &ParseError) -> Error {
    Error::new(ErrorCode::CidrSyntax, format!("{what}[{at}] is {error}"))
}
