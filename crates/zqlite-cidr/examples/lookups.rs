//! Lookups, build and updates on a routing table, beside other crates: `cargo run --release --example lookups -- FILE`,
//! where FILE is gzip with a prefix a line; with `batches` behind it, batches of our own alone. Figures are nanoseconds an address, the least of
//! some rounds; cold ones the median of rounds before each of which the caches were filled with other things.

use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use ip_network_table::IpNetworkTable;
use ipnet::{Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use zqlite_cidr::{Address, Family, HostBits, LookupTable, Mode, Prefix, Table};

type Failure = Box<dyn std::error::Error>;

const COUNT: usize = 1 << 20;
const ROUNDS: usize = 10;

fn main() -> Result<(), Failure> {
    let file = std::env::args().nth(1).ok_or("which file?")?;
    let lines = BufReader::new(flate2::read::GzDecoder::new(std::fs::File::open(file)?)).lines();
    let prefixes =
        lines.map(|line| Ok(Prefix::parse(line?.trim(), HostBits::Reject)?)).collect::<Result<Vec<_>, Failure>>()?;
    let batches_alone = std::env::args().nth(2).as_deref() == Some("batches");
    println!("{} prefixes", prefixes.len());

    let mut random = Random(1);
    let of = |family| prefixes.iter().filter(move |prefix| prefix.family() == family).copied().collect::<Vec<_>>();
    let (v4, v6) = (of(Family::V4), of(Family::V6));
    let covered4: Vec<u32> = (0..COUNT).map(|_| random.within(&v4) as u32).collect();
    let uniform4: Vec<u32> = (0..COUNT).map(|_| random.next() as u32).collect();
    let covered6: Vec<u128> = (0..COUNT).map(|_| random.within(&v6)).collect();
    let bytes6: Vec<[u8; 16]> = covered6.iter().map(|bits| bits.to_be_bytes()).collect();

    for mode in [Mode::Compact, Mode::Fast] {
        let start = Instant::now();
        let table: Table<u32> = prefixes.iter().copied().zip(0..).collect();
        let built = start.elapsed();
        let mut table = LookupTable::of(table, mode);
        println!(
            "\n{mode:?}: {:.1} MB, built in {built:?}, {:?} with its form",
            table.memory() as f64 / 1e6,
            start.elapsed()
        );
        let mut out = vec![0u32; COUNT];
        let start = Instant::now();
        let form = LookupTable::of((*table).clone(), mode);
        println!("  form {:?} ({:.1} MB)", start.elapsed(), form.memory() as f64 / 1e6);
        show("v4 covered, batch", || table.lookup_v4(&covered4, |at, found| out[at] = found.unwrap_or(u32::MAX)));
        show("v4 uniform, batch", || table.lookup_v4(&uniform4, |at, found| out[at] = found.unwrap_or(u32::MAX)));
        show("v6 covered, batch", || table.lookup_v6(&bytes6, |at, found| out[at] = found.unwrap_or(u32::MAX)));
        let mut cold = Cold::new();
        cold.show("v4 covered, cold", || table.lookup_v4(&covered4, |at, found| out[at] = found.unwrap_or(u32::MAX)));
        cold.show("v4 uniform, cold", || table.lookup_v4(&uniform4, |at, found| out[at] = found.unwrap_or(u32::MAX)));
        cold.show("v6 covered, cold", || table.lookup_v6(&bytes6, |at, found| out[at] = found.unwrap_or(u32::MAX)));
        if batches_alone {
            continue;
        }
        show("v4 covered, one by one", || {
            covered4.iter().for_each(|&bits| {
                black_box(table.lookup(Address::v4(bits)));
            })
        });
        show("v6 covered, one by one", || {
            covered6.iter().for_each(|&bits| {
                black_box(table.lookup(Address::v6(bits)));
            })
        });
        let mut worst = (0, None);
        let start = Instant::now();
        for &prefix in &prefixes {
            let one = Instant::now();
            let value = table.remove(prefix).ok_or("it was there")?;
            table.insert(prefix, value);
            worst = worst.max((one.elapsed().as_nanos(), Some(prefix)));
        }
        let each = start.elapsed().as_nanos() as f64 / (2 * prefixes.len()) as f64;
        println!("  update {each:.0} ns, the worst pair {} us ({:?})", worst.0 / 1000, worst.1);
        let bytes = table.save();
        let start = Instant::now();
        let loaded = Table::<u32>::load(&bytes)?;
        println!("  {:.1} MB saved, loaded in {:?}", bytes.len() as f64 / 1e6, start.elapsed());
        println!("  {:.1} MB after loading", loaded.memory() as f64 / 1e6);
        let start = Instant::now();
        let snapshot = (*table).clone();
        println!("  snapshot in {:?} ({} prefixes)", start.elapsed(), snapshot.len());
    }

    if batches_alone {
        return Ok(());
    }
    println!("\nprefix-trie");
    let nets = |prefix: &Prefix| (prefix.first().bits(), prefix.length());
    let start = Instant::now();
    let mut map4 = PrefixMap::new();
    let mut map6 = PrefixMap::new();
    for (value, prefix) in (0u32..).zip(&prefixes) {
        let (bits, length) = nets(prefix);
        match prefix.family() {
            Family::V4 => {
                map4.insert(Ipv4Net::new(Ipv4Addr::from_bits(bits as u32), length)?, value);
            }
            Family::V6 => {
                map6.insert(Ipv6Net::new(Ipv6Addr::from_bits(bits), length)?, value);
            }
        }
    }
    println!("  built in {:?}", start.elapsed());
    let ask4 = |bits: &u32| {
        black_box(Ipv4Net::new(Ipv4Addr::from_bits(*bits), 32).ok().and_then(|net| map4.get_lpm(&net)));
    };
    show("v4 covered", || covered4.iter().for_each(ask4));
    show("v4 uniform", || uniform4.iter().for_each(ask4));
    show("v6 covered", || {
        covered6.iter().for_each(|bits| {
            black_box(Ipv6Net::new(Ipv6Addr::from_bits(*bits), 128).ok().and_then(|net| map6.get_lpm(&net)));
        })
    });

    println!("\nip_network_table");
    let start = Instant::now();
    let mut table = IpNetworkTable::new();
    for (value, prefix) in (0u32..).zip(&prefixes) {
        table.insert(
            ip_network::IpNetwork::new(std::net::IpAddr::from(prefix.first()), prefix.length())
                .map_err(|_| "no network")?,
            value,
        );
    }
    println!("  built in {:?}", start.elapsed());
    show("v4 covered", || {
        covered4.iter().for_each(|bits| {
            black_box(table.longest_match_ipv4(Ipv4Addr::from_bits(*bits)));
        })
    });
    show("v4 uniform", || {
        uniform4.iter().for_each(|bits| {
            black_box(table.longest_match_ipv4(Ipv4Addr::from_bits(*bits)));
        })
    });
    show("v6 covered", || {
        covered6.iter().for_each(|bits| {
            black_box(table.longest_match_ipv6(Ipv6Addr::from_bits(*bits)));
        })
    });
    Ok(())
}

fn show(what: &str, mut round: impl FnMut()) {
    let least = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_nanos()
        })
        .min()
        .unwrap_or_default();
    println!("  {what:24}{:6.1}", least as f64 / COUNT as f64);
}

/// Rounds each of which finds the caches full of other things, as one pass over addresses that are new does.
struct Cold(Vec<u64>);

impl Cold {
    fn new() -> Self {
        Self(vec![0; 16 << 20])
    }

    fn show(&mut self, what: &str, mut round: impl FnMut()) {
        let mut rounds = [0u128; ROUNDS];
        for time in &mut rounds {
            self.0.iter_mut().for_each(|word| *word += 1);
            black_box(&self.0);
            let start = Instant::now();
            round();
            *time = start.elapsed().as_nanos();
        }
        rounds.sort_unstable();
        println!("  {what:24}{:6.1}", rounds[ROUNDS / 2] as f64 / COUNT as f64);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// An address within one of these prefixes.
    fn within(&mut self, prefixes: &[Prefix]) -> u128 {
        let prefix = prefixes[self.next() as usize % prefixes.len()];
        let (first, last) = (prefix.first().bits(), prefix.last().bits());
        first | (u128::from(self.next()) << 64 | u128::from(self.next())) & (last - first)
    }
}
