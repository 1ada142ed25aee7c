//! Rows by prefix, against a set of pairs.

mod common;

use std::collections::BTreeSet;

use common::crowded_prefix;
use proptest::prelude::*;
use zqlite_cidr::{Prefix, RowTable};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn keeps_every_row(
        prefixes in proptest::collection::vec(crowded_prefix(), 1..5),
        steps in proptest::collection::vec((any::<prop::sample::Index>(), -40i64..40, any::<bool>()), 0..200),
        burst in 0i64..3000,
    ) {
        let mut table = RowTable::new();
        let mut pairs = BTreeSet::new();
        // Many rows of one prefix, in an order that is not theirs.
        for row in 0..burst {
            let row = row * 7919 % 3001;
            prop_assert_eq!(table.insert(prefixes[0], row), pairs.insert((prefixes[0], row)));
        }
        let (snapshot, before) = (table.clone(), pairs.clone());
        for (index, row, inserts) in steps {
            let prefix = *index.get(&prefixes);
            if inserts {
                prop_assert_eq!(table.insert(prefix, row), pairs.insert((prefix, row)));
            } else {
                prop_assert_eq!(table.remove(prefix, row), pairs.remove(&(prefix, row)));
            }
        }
        for (table, pairs) in [(&table, &pairs), (&snapshot, &before)] {
            prop_assert_eq!(table.len(), pairs.len());
            for &asked in &prefixes {
                let of = |wanted: &dyn Fn(Prefix) -> bool| pairs.iter().copied().filter(|pair| wanted(pair.0)).collect::<Vec<_>>();
                prop_assert_eq!(table.get(asked).map(|row| (asked, row)).collect::<Vec<_>>(), of(&|prefix| prefix == asked));
                prop_assert_eq!(table.covered(asked).collect::<Vec<_>>(), of(&|prefix| asked.covers(prefix)));
                prop_assert_eq!(table.covering(asked).collect::<Vec<_>>(), of(&|prefix| prefix.covers(asked)));
                let address = asked.first();
                prop_assert_eq!(table.matches(address).collect::<Vec<_>>(), of(&|prefix| prefix.contains(address)));
                let longest = of(&|prefix| prefix.contains(address)).last().map(|pair| of(&|prefix| prefix == pair.0));
                let found = table.longest_match(address).map(|(prefix, rows)| rows.map(|row| (prefix, row)).collect::<Vec<_>>());
                prop_assert_eq!(found, longest);
            }
        }
    }
}
