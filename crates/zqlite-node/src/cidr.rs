//! The prefix table as JavaScript holds it; `lib/cidr.ts` names and documents it.

use napi_derive::napi;
use zqlite_cidr::plain::PrefixTable;
use zqlite_cidr::{Address, HostBits, ParseError, Prefix};
use zqlite_store::{Error, ErrorCode};

use crate::guard::guard;
use crate::number::argument;

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

fn syntax(error: ParseError) -> Error {
    Error::new(ErrorCode::CidrSyntax, error.to_string())
}

fn prefix(text: &str) -> Result<Prefix, Error> {
    Prefix::parse(text, HostBits::Reject).map_err(syntax)
}

/// An address that is an argument.
pub(crate) fn address(text: &str) -> Result<Address, Error> {
    Address::parse(text).map_err(syntax)
}

/// See `lib/cidr.ts`.
#[napi]
#[derive(Default)]
pub struct NativeCidrTable {
    table: PrefixTable<u32>,
}

#[napi]
impl NativeCidrTable {
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    #[napi]
    pub fn insert(&mut self, text: String, value: f64) -> napi::Result<()> {
        guard(|| {
            let (prefix, value) = (prefix(&text)?, argument("value", value)?);
            self.table.insert(prefix, value);
            Ok(())
        })
    }

    #[napi]
    pub fn remove(&mut self, text: String) -> napi::Result<bool> {
        guard(|| Ok(self.table.remove(prefix(&text)?).is_some()))
    }

    #[napi]
    pub fn get(&self, text: String) -> napi::Result<Option<u32>> {
        guard(|| Ok(self.table.get(prefix(&text)?).copied()))
    }

    #[napi]
    pub fn lookup(&self, text: String) -> napi::Result<Option<NativeCidrEntry>> {
        guard(|| Ok(self.table.longest_match(address(&text)?).map(Into::into)))
    }

    #[napi]
    pub fn matches(&self, text: String) -> napi::Result<Vec<NativeCidrEntry>> {
        guard(|| Ok(self.table.matches(address(&text)?).into_iter().map(Into::into).collect()))
    }

    #[napi]
    pub fn size(&self) -> u32 {
        self.table.len() as u32
    }
}
