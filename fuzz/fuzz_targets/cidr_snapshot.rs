//! The loader of prefix tables: bytes of any kind are a table or an error, and a table that was loaded can be used and
//! saved, and its forms for lookups answer as it does. Half of the input is given a right checksum, so that it gets past it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zqlite_cidr::{Address, HostBits, LookupTable, Mode, Prefix, Table};

fn use_it(bytes: &[u8]) {
    let Ok(mut table) = Table::<u32>::load(bytes) else { return };
    let found = table.iter().count();
    assert_eq!(found, table.len());
    for address in [Address::v4(0), Address::v4(u32::MAX), Address::v6(0), Address::v6(u128::MAX)] {
        let _ = table.longest_match(address);
    }
    let fast = LookupTable::of(table.clone(), Mode::Fast);
    for address in table.iter().flat_map(|(prefix, _)| [prefix.first(), prefix.last()]) {
        assert_eq!(fast.lookup(address), table.longest_match(address).map(|found| *found.1));
    }
    let all: Vec<Prefix> = table.iter().map(|(prefix, _)| prefix).collect();
    assert_eq!(Table::<u32>::load(&table.save()).expect("what was saved can be loaded").len(), found);
    let Ok(more) = Prefix::new(Address::v4(0x0a00_0000), 8, HostBits::Mask) else { return };
    table.insert(more, 1);
    for prefix in all {
        table.remove(prefix);
    }
    assert!(table.len() <= 1);
}

fuzz_target!(|data: &[u8]| {
    use_it(data);
    let mut repaired = data.to_vec();
    if zqlite_cidr::fuzzing::seal(&mut repaired) {
        use_it(&repaired);
    }
});
