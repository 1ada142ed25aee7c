//! Times decisions on a ClassBench set: `cargo run --release --example speed -- SET` with the set's file, not compressed.
//! Source ports are left out, as rules have none.

use std::error::Error;
use std::time::Instant;

use zqlite_acl::{Action, Columns, Engine, PortRange, Query, Rule, Selector};
use zqlite_cidr::{Address, HostBits, Prefix};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which file?")?;
    let text = std::fs::read_to_string(path)?;
    let mut rules = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.trim_start_matches('@').split('\t').collect();
        let prefix = |text: &str| Prefix::parse(text, HostBits::Mask).map(Selector::Prefix);
        let ports: Vec<u16> = fields[3].split(" : ").map(|port| port.trim().parse()).collect::<Result<_, _>>()?;
        let (protocol, mask) = fields[4].split_once('/').ok_or("protocol")?;
        let protocols =
            if mask == "0x00" { vec![] } else { vec![u8::from_str_radix(protocol.trim_start_matches("0x"), 16)?] };
        let side =
            |text: &str| Ok::<_, Box<dyn Error>>(if text.ends_with("/0") { Selector::Any } else { prefix(text)? });
        rules.push(Rule {
            id: index as u64,
            priority: -(index as i32),
            action: if index % 3 == 0 { Action::Deny } else { Action::Allow },
            enabled: true,
            sources: vec![side(fields[0])?],
            destinations: vec![side(fields[1])?],
            protocols,
            ports: if ports == [0, 65535] { vec![] } else { vec![PortRange { low: ports[0], high: ports[1] }] },
            expires_at: None,
            same_owner: false,
            through: Vec::new(),
            family: None,
        });
    }
    let given = rules.clone();
    let start = Instant::now();
    let mut engine = Engine::new();
    engine.set_rules(rules)?;
    println!("build {:?}, rows {} KiB", start.elapsed(), engine.row_bytes() / 1024);
    let mut state = 88172645463325252u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for corners in [true, false] {
        let queries: Vec<Query<Address>> = (0..1_000_000)
            .map(|_| {
                let rule = &given[random() as usize % given.len()];
                let mut address = |selector: &Selector| match selector.addresses() {
                    Some(range) if corners => {
                        if random() & 1 == 0 {
                            range.first()
                        } else {
                            range.last()
                        }
                    }
                    _ => Address::v4(random() as u32),
                };
                let (source, destination) = (address(&rule.sources[0]), address(&rule.destinations[0]));
                let port = match rule.ports.first() {
                    Some(range) if corners => {
                        if random() & 1 == 0 {
                            range.low
                        } else {
                            range.high
                        }
                    }
                    _ => random() as u16,
                };
                let protocol =
                    if corners { *rule.protocols.first().unwrap_or(&6) } else { [6, 17, 1][random() as usize % 3] };
                Query { source, destination, protocol, port, at: 0 }
            })
            .collect();
        let number = |address: Address| address.bits() as u32;
        let sources: Vec<u32> = queries.iter().map(|query| number(query.source)).collect();
        let destinations: Vec<u32> = queries.iter().map(|query| number(query.destination)).collect();
        let protocols: Vec<u8> = queries.iter().map(|query| query.protocol).collect();
        let ports: Vec<u16> = queries.iter().map(|query| query.port).collect();
        let (sources, destinations) = (&sources, &destinations);
        let questions = Columns { sources, destinations, protocols: &protocols, ports: &ports };
        for _ in 0..2 {
            let start = Instant::now();
            let mut sum = 0u64;
            engine.decide_v4_batch(questions, 0, |_, decision| sum = sum.wrapping_add(decision.rule.unwrap_or(0)));
            println!(
                "{} {:.1} ns ({sum})",
                if corners { "corners" } else { "uniform" },
                start.elapsed().as_secs_f64() * 1e3
            );
        }
    }
    let rule = Rule { id: 1 << 40, priority: -500, ..given[700].clone() };
    let start = Instant::now();
    for n in 0..1000u64 {
        engine.put_rules(vec![Rule { id: (1 << 40) + n, ..given[(n * 7919) as usize % given.len()].clone() }])?;
    }
    println!("add {:?}", start.elapsed() / 1000);
    let start = Instant::now();
    for n in 0..1000 {
        engine.set_enabled(n % given.len() as u64, n % 2 == 0)?;
    }
    println!("toggle {:?}", start.elapsed() / 1000);
    let start = Instant::now();
    let copies: Vec<Engine> = (0..100).map(|_| engine.clone()).collect();
    println!("clone {:?} {}", start.elapsed() / 100, copies.len());
    let _ = rule;
    Ok(())
}
