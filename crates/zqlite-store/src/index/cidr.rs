//! The kind `cidr(column)`: rows by the prefix in a column.

use std::sync::mpsc::sync_channel;

use rusqlite::types::{Value, ValueRef};
use zqlite_cidr::{Address, AddressRange, HostBits, Prefix, RowTable};

use crate::index::content::{BuildError, Scan};
use crate::index::definition::Definition;
use crate::index::source::Fault;
use crate::{Error, ErrorCode, Result};

/// Rows by prefix. Rows with NULL are not in it.
#[derive(Debug, Clone)]
pub(crate) struct Cidr {
    table: RowTable,
    host_bits: HostBits,
}

/// Rows that are handed over together while an index is made.
const PORTION: usize = 4096;

impl Cidr {
    pub(crate) fn build(definition: &Definition, scan: Scan<'_>) -> std::result::Result<Self, BuildError> {
        let host_bits = if definition.option("host_bits") == Some("mask") { HostBits::Mask } else { HostBits::Reject };
        // This thread reads and parses, another inserts, which takes as long.
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Vec<(Prefix, i64)>>(16);
            let inserting = std::thread::Builder::new().name("zqlite-index".into()).spawn_scoped(scope, move || {
                let mut table = RowTable::new();
                for (prefix, row) in receive.iter().flatten() {
                    table.insert(prefix, row);
                }
                table
            });
            let out_of_memory = |e| Error::new(ErrorCode::OutOfMemory, format!("cannot start a thread: {e}"));
            let inserting = inserting.map_err(out_of_memory)?;
            let mut portion = Vec::with_capacity(PORTION);
            scan(0, &mut |row| {
                let (id, value) = (row.get(0)?, row.get_ref(1)?);
                match prefix_of(value, host_bits) {
                    Ok(Some(prefix)) => portion.push((prefix, id)),
                    Ok(None) => {}
                    Err(reason) => {
                        let fault = Fault { source: 0, row: id, column: Some(0), reason };
                        return Err(BuildError::Row(fault));
                    }
                }
                if portion.len() == PORTION {
                    let full = std::mem::replace(&mut portion, Vec::with_capacity(PORTION));
                    send.send(full).map_err(|_| Error::new(ErrorCode::Internal, "an index could not be made"))?;
                }
                Ok(())
            })?;
            let died = || Error::new(ErrorCode::Internal, "an index could not be made");
            send.send(portion).map_err(|_| died())?;
            drop(send);
            let table = inserting.join().map_err(|_| died())?;
            Ok(Self { table, host_bits })
        })
    }

    pub(crate) fn change(
        &mut self,
        row: i64,
        old: Option<&[Value]>,
        new: Option<&[Value]>,
    ) -> std::result::Result<bool, Fault> {
        let prefix = |values: Option<&[Value]>| match values.and_then(|values| values.first()) {
            Some(value) => prefix_of(value.into(), self.host_bits).map_err(|reason| Fault {
                source: 0,
                row,
                column: Some(0),
                reason,
            }),
            None => Ok(None),
        };
        let new = prefix(new)?;
        let Ok(old) = prefix(old) else { return Ok(false) };
        if new == old {
            return Ok(true);
        }
        let removed = old.is_none_or(|old| self.table.remove(old, row));
        let added = new.is_none_or(|new| self.table.insert(new, row));
        Ok(removed && added)
    }

    /// The longest prefix that holds `address`, with its rows in order.
    pub(crate) fn lookup(&self, address: Address) -> Option<(Prefix, Vec<i64>)> {
        self.table.longest_match(address).map(|(prefix, rows)| (prefix, rows.collect()))
    }

    /// As [`Self::lookup`], the first row alone.
    pub(crate) fn lookup_row(&self, address: Address) -> Option<i64> {
        self.table.longest_match(address).and_then(|(_, mut rows)| rows.next())
    }

    /// Each row whose prefix holds `address`, shortest prefix first.
    pub(crate) fn matches(&self, address: Address) -> Vec<(Prefix, i64)> {
        self.table.matches(address).collect()
    }

    /// Each row whose prefix lies within the range, sorted.
    pub(crate) fn within(&self, range: AddressRange) -> Vec<(Prefix, i64)> {
        self.table.within(range).collect()
    }
}

/// A value as it can be kept.
pub(crate) fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(v) => Value::Integer(v),
        ValueRef::Real(v) => Value::Real(v),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

fn prefix_of(value: ValueRef<'_>, host_bits: HostBits) -> std::result::Result<Option<Prefix>, String> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Text(text) => Prefix::parse(text, host_bits).map(Some).map_err(|error| error.to_string()),
        _ => Err("a prefix is a text".into()),
    }
}

/// An address that a caller gave.
///
/// # Errors
/// `ERR_CIDR_SYNTAX`
pub(crate) fn address(text: impl AsRef<[u8]>) -> Result<Address> {
    Address::parse(text).map_err(|error| Error::new(ErrorCode::CidrSyntax, error.to_string()))
}
