//! The plain table against filters over a list of all that was ever inserted.

mod common;

use std::collections::BTreeMap;

use common::{address, prefix};
use proptest::prelude::*;
use zqlite_cidr::plain::PrefixTable;
use zqlite_cidr::{AddressRange, Prefix};

#[derive(Clone, Debug)]
enum Step {
    Insert(Prefix, u32),
    Remove(Prefix),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (prefix(), any::<u32>()).prop_map(|(prefix, value)| Step::Insert(prefix, value)),
        1 => prefix().prop_map(Step::Remove),
    ];
    proptest::collection::vec(step, 0..60)
}

fn contains(prefix: Prefix, address: zqlite_cidr::Address) -> bool {
    AddressRange::from(prefix).contains(address)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn answers_as_a_filter_over_a_sorted_map(steps in steps(), address in address(), asked in prefix()) {
        let mut table = PrefixTable::new();
        let mut map = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(prefix, value) => prop_assert_eq!(table.insert(prefix, value), map.insert(prefix, value)),
                Step::Remove(prefix) => prop_assert_eq!(table.remove(prefix), map.remove(&prefix)),
            }
        }
        let filtered = |wanted: &dyn Fn(Prefix) -> bool| -> Vec<(Prefix, &u32)> {
            map.iter().filter(|(prefix, _)| wanted(**prefix)).map(|(prefix, value)| (*prefix, value)).collect()
        };
        prop_assert_eq!(table.len(), map.len());
        prop_assert_eq!(table.is_empty(), map.is_empty());
        prop_assert_eq!(table.get(asked), map.get(&asked));
        prop_assert_eq!(table.walk(), filtered(&|_| true));

        let matches = filtered(&|prefix| contains(prefix, address));
        prop_assert!(matches.is_sorted_by_key(|(prefix, _)| prefix.length()));
        prop_assert_eq!(table.longest_match(address), matches.iter().copied().max_by_key(|(prefix, _)| prefix.length()));
        prop_assert_eq!(table.matches(address), matches);

        let inside = |outer: Prefix, inner: Prefix| {
            contains(outer, inner.first()) && contains(outer, inner.last()) && outer.length() <= inner.length()
        };
        prop_assert_eq!(table.covering(asked), filtered(&|prefix| inside(prefix, asked)));
        prop_assert_eq!(table.covered(asked), filtered(&|prefix| inside(asked, prefix)));
    }
}

#[test]
fn nested_routes() {
    let prefix = |text: &str| text.parse::<Prefix>().unwrap();
    let mut table = PrefixTable::new();
    for (value, text) in ["10.1.2.0/24", "0.0.0.0/0", "::/0", "10.1.0.0/16", "10.0.0.0/8"].iter().enumerate() {
        assert_eq!(table.insert(prefix(text), value), None);
    }
    let address = "10.1.2.3".parse().unwrap();
    assert_eq!(table.longest_match(address), Some((prefix("10.1.2.0/24"), &0)));
    assert_eq!(table.matches(address).iter().map(|found| found.1).collect::<Vec<_>>(), [&1, &4, &3, &0]);
    assert_eq!(table.remove(prefix("10.1.2.0/24")), Some(0));
    assert_eq!(table.remove(prefix("10.1.2.0/24")), None);
    assert_eq!(table.longest_match(address), Some((prefix("10.1.0.0/16"), &3)));
    assert_eq!(table.insert(prefix("10.1.0.0/16"), 9), Some(3));
    assert_eq!(table.get(prefix("10.1.0.0/16")), Some(&9));
    assert_eq!(table.longest_match("2001:db8::1".parse().unwrap()), Some((prefix("::/0"), &2)));
}
