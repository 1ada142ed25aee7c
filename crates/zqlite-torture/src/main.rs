//! `npm run torture -- power|io|corrupt`, see `docs/reliability.md`.

use std::path::PathBuf;
use std::process::ExitCode;

use zqlite_torture::faults::Fault;
use zqlite_torture::report::Report;
use zqlite_torture::{corrupt, full, io, power};

const USAGE: &str = "\
usage: zqlite-torture power|io|corrupt [options]
  --rounds N        crash images of power (default 200), damaged copies of corrupt (default 400)
  --seed S          decides on everything (default: the time)
  --json FILE       writes the summary
  --image N         power: only this image of the seed's recording
  --fault F --nth N [--for-ever]
                    io: only this fault (write, full, sync, truncate, open, shm-map, delete)
  --every K         io: behind the first 12 calls of a kind only each K-th fails (default 1: every one)
  --fiu, --full     io: only libfiu's second opinion, only a disk that fills up
  --round N         corrupt: only this round of the seed";

#[derive(Default)]
struct Arguments {
    command: String,
    rounds: Option<u64>,
    seed: Option<u64>,
    json: Option<PathBuf>,
    folder: Option<PathBuf>,
    image: Option<u64>,
    round: Option<u64>,
    from: u64,
    fault: Option<(Fault, &'static str)>,
    nth: u64,
    for_ever: bool,
    every: u64,
    fiu: bool,
    full: bool,
}

fn parse() -> Result<Arguments, lexopt::Error> {
    use lexopt::prelude::{Long, Value, ValueExt};
    let mut parser = lexopt::Parser::from_env();
    let mut arguments = Arguments { nth: 1, every: 1, ..Arguments::default() };
    while let Some(argument) = parser.next()? {
        match argument {
            Value(value) if arguments.command.is_empty() => arguments.command = value.string()?,
            Long("rounds") => arguments.rounds = Some(parser.value()?.parse()?),
            Long("seed") => arguments.seed = Some(parser.value()?.parse()?),
            Long("json") => arguments.json = Some(parser.value()?.into()),
            Long("folder") => arguments.folder = Some(parser.value()?.into()),
            Long("image") => arguments.image = Some(parser.value()?.parse()?),
            Long("round") => arguments.round = Some(parser.value()?.parse()?),
            Long("from") => arguments.from = parser.value()?.parse()?,
            Long("nth") => arguments.nth = parser.value()?.parse()?,
            Long("every") => arguments.every = parser.value()?.parse::<std::num::NonZero<u64>>()?.get(),
            Long("for-ever") => arguments.for_ever = true,
            Long("fiu") => arguments.fiu = true,
            Long("full") => arguments.full = true,
            Long("fault") => {
                let name = parser.value()?.string()?;
                let known = Fault::ALL.into_iter().find(|(_, known)| *known == name);
                arguments.fault = Some(known.ok_or_else(|| format!("there is no fault {name:?}"))?);
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("error: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = arguments.seed.unwrap_or(now.map_or(1, |d| d.as_secs()));
    let report = match arguments.command.as_str() {
        "power" => {
            let images = arguments.rounds.unwrap_or(200);
            let mut report = Report::new("power", seed, images);
            match arguments.image {
                Some(image) => power::repeat(seed, image, &mut report),
                None => {
                    power::run(images, seed, &mut report);
                    power::control(seed, &mut report);
                }
            }
            report
        }
        "io" => attack_io(&arguments, seed),
        "corrupt" => {
            let rounds = arguments.rounds.unwrap_or(400);
            let mut report = Report::new("corrupt", seed, rounds);
            match arguments.round {
                // In this process, so that a debugger sees it.
                Some(round) => {
                    let result = corrupt::victim(seed, round, round + 1);
                    report.round(&format!("corrupt --seed {seed} --round {round}"), result);
                }
                None => corrupt::run(rounds, seed, &mut report),
            }
            report
        }
        "io-victim" => {
            let folder = arguments.folder.unwrap_or_default();
            say(&io::victim(&folder, seed));
            return ExitCode::SUCCESS;
        }
        "corrupt-victim" => {
            let done = corrupt::victim(seed, arguments.from, arguments.rounds.unwrap_or(0));
            return done.map_or_else(
                |what| {
                    eprintln!("error: {what}");
                    ExitCode::FAILURE
                },
                |()| ExitCode::SUCCESS,
            );
        }
        other => {
            eprintln!("error: there is no attack {other:?}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let (summary, passed) = report.finish();
    if let Some(path) = arguments.json
        && let Err(error) = std::fs::write(&path, format!("{summary:#}\n"))
    {
        eprintln!("error: {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn attack_io(arguments: &Arguments, seed: u64) -> Report {
    let mut report = Report::new("io", seed, 0);
    if let Some((fault, name)) = arguments.fault {
        io::one(seed, fault, name, arguments.nth, arguments.for_ever, &mut report);
        return report;
    }
    let all = !arguments.fiu && !arguments.full;
    if all {
        io::run(seed, arguments.every, &mut report);
    }
    if all || arguments.full {
        full::run(seed, &mut report);
    }
    if all || arguments.fiu {
        io::second_opinion(seed, arguments.rounds.unwrap_or(20), &mut report);
    }
    report
}

/// Writes a line even where calls fail at random.
fn say(line: &str) {
    use std::io::Write;
    let mut bytes = format!("{line}\n").into_bytes();
    let mut out = std::io::stdout();
    while !bytes.is_empty() {
        if let Ok(n) = out.write(&bytes) {
            bytes.drain(..n);
        }
    }
    while out.flush().is_err() {}
}
