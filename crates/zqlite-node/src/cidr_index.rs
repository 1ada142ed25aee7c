//! An index of kind `cidr` as JavaScript asks it; `lib/indexes.ts` names and documents it.

use std::cell::Cell;
use std::rc::Rc;

use napi::bindgen_prelude::{Array, BigInt64Array, Env, Function, Uint8ArraySlice, Uint32ArraySlice};
use napi_derive::napi;
use zqlite_cidr::Address;
use zqlite_store::{CidrIndex, Error, ErrorCode};

use crate::call::{Call, function};
use crate::cidr::at_index;
use crate::guard::guard;
use crate::text::{Text, texts};

/// The longest prefix that holds an address, with its rows.
#[napi(object)]
pub struct NativeCidrHit {
    pub prefix: String,
    pub rows: BigInt64Array,
}

/// Prefixes with their rows, side by side.
#[napi(object)]
pub struct NativeCidrHits {
    pub prefixes: Vec<String>,
    pub rows: BigInt64Array,
}

/// Stands for "no row": no table begins its row ids there.
const NONE: i64 = i64::MIN;

/// See `lib/indexes.ts`.
#[napi]
pub struct NativeCidrIndex {
    index: CidrIndex,
    /// Whether the database that it is of was closed here.
    closed: Rc<Cell<bool>>,
}

/// Fails once a database is closed.
pub(crate) fn open(closed: &Cell<bool>) -> Result<(), Error> {
    if closed.get() { Err(Error::new(ErrorCode::Closed, "the database is closed")) } else { Ok(()) }
}

impl NativeCidrIndex {
    pub(crate) fn of(index: CidrIndex, closed: Rc<Cell<bool>>) -> Self {
        Self { index, closed }
    }

    fn batch(&self, addresses: impl ExactSizeIterator<Item = Address>) -> Result<BigInt64Array, Error> {
        open(&self.closed)?;
        let mut rows = vec![NONE; addresses.len()];
        self.index.lookup_batch(addresses, |at, row| rows[at] = row.unwrap_or(NONE))?;
        Ok(rows.into())
    }
}

#[napi]
impl NativeCidrIndex {
    /// A function from an address to its longest match.
    #[napi(ts_return_type = "(address: string) => NativeCidrHit | null")]
    pub fn lookup<'env>(&self, env: &'env Env) -> napi::Result<Function<'env, (), Option<NativeCidrHit>>> {
        let (index, closed) = (self.index.clone(), self.closed.clone());
        function(env, "lookup", move |call: &Call<1>| {
            let text = call.get::<Text>(0)?;
            open(&closed)?;
            let found = index.lookup(text.bytes())?;
            Ok(found.map(|(prefix, rows)| NativeCidrHit { prefix, rows: rows.into() }))
        })
    }

    #[napi]
    pub fn matches(&self, text: String) -> napi::Result<NativeCidrHits> {
        guard(|| {
            open(&self.closed)?;
            let (prefixes, rows): (_, Vec<i64>) =
                self.index.matches(text)?.into_iter().map(|found| (found.prefix, found.row)).unzip();
            Ok(NativeCidrHits { prefixes, rows: rows.into() })
        })
    }

    #[napi]
    pub fn lookup_v4(&self, addresses: Uint32ArraySlice) -> napi::Result<BigInt64Array> {
        guard(|| self.batch(addresses.iter().copied().map(Address::v4)))
    }

    #[napi]
    pub fn lookup_v6(&self, addresses: Uint8ArraySlice) -> napi::Result<BigInt64Array> {
        guard(|| {
            let (addresses, rest) = addresses.as_chunks();
            if !rest.is_empty() {
                return Err(Error::new(ErrorCode::Type, "addresses must be a multiple of 16 bytes"));
            }
            self.batch(addresses.iter().map(|bytes| Address::v6(u128::from_be_bytes(*bytes))))
        })
    }

    #[napi]
    pub fn lookup_texts(&self, addresses: Array) -> napi::Result<BigInt64Array> {
        let texts = texts(&addresses)?;
        guard(|| {
            let parse = |(at, text): (usize, &Text)| {
                Address::parse(text.bytes()).map_err(|error| at_index("addresses", at, &error))
            };
            let addresses = texts.iter().enumerate().map(parse).collect::<Result<Vec<_>, Error>>()?;
            self.batch(addresses.into_iter())
        })
    }
}
