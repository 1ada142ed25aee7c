//! What a run found: progress on standard error, failures with how to repeat them, and a summary.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Failures that are shown and kept; a run ends when there are as many.
const MOST_FAILURES: usize = 10;
const PROGRESS: Duration = Duration::from_secs(10);

/// Gathers the rounds of a run.
pub struct Report {
    command: &'static str,
    seed: u64,
    planned: u64,
    started: Instant,
    told: Instant,
    rounds: u64,
    failures: Vec<(String, String)>,
    controls: Vec<Value>,
    skipped: Vec<String>,
    details: Vec<(String, Value)>,
}

impl Report {
    /// For a run of so many rounds; 0 where that is not known beforehand.
    pub fn new(command: &'static str, seed: u64, planned: u64) -> Self {
        let now = Instant::now();
        Self {
            command,
            seed,
            planned,
            started: now,
            told: now,
            rounds: 0,
            failures: Vec::new(),
            controls: Vec::new(),
            skipped: Vec::new(),
            details: Vec::new(),
        }
    }

    /// A round ended; `repeat` is what repeats it.
    pub fn round(&mut self, repeat: &str, result: Result<(), String>) {
        self.rounds += 1;
        if let Err(what) = result {
            eprintln!("FAILED: {what}\n  repeat: npm run torture -- {repeat}");
            self.failures.push((repeat.to_owned(), what));
        }
        if self.told.elapsed() > PROGRESS {
            self.told = Instant::now();
            let of = if self.planned > 0 { format!(" of {}", self.planned) } else { String::new() };
            eprintln!(
                "{}: {}{of} rounds, {} failed, {:.0?}",
                self.command,
                self.rounds,
                self.failures.len(),
                self.started.elapsed()
            );
        }
    }

    /// A control ran: something that must be noticed was, or was not.
    pub fn control(&mut self, name: &str, noticed: Result<String, String>) {
        match &noticed {
            Ok(how) => eprintln!("control, must fail and did: {name}: {how}"),
            Err(what) => {
                eprintln!("FAILED control: {name}: {what}");
                self.failures
                    .push((format!("{} --seed {}", self.command, self.seed), format!("control {name}: {what}")));
            }
        }
        self.controls.push(json!({ "name": name, "noticed": noticed.is_ok() }));
    }

    /// A part that could not be run here.
    pub fn skip(&mut self, what: String) {
        eprintln!("SKIPPED: {what}");
        self.skipped.push(what);
    }

    /// A figure for the summary.
    pub fn detail(&mut self, name: &str, value: impl Into<Value>) {
        self.details.push((name.to_owned(), value.into()));
    }

    /// Whether there are failures enough.
    pub fn is_over(&self) -> bool {
        self.failures.len() >= MOST_FAILURES
    }

    /// Tells the summary; returns it and whether the run passed.
    pub fn finish(self) -> (Value, bool) {
        let passed = self.failures.is_empty() && self.rounds > 0;
        let failures: Vec<_> =
            self.failures.iter().map(|(repeat, what)| json!({ "repeat": repeat, "what": what })).collect();
        let mut summary = json!({
            "command": self.command,
            "seed": self.seed,
            "rounds": self.rounds,
            "failed": failures.len(),
            "failures": failures,
            "controls": self.controls,
            "skipped": self.skipped,
            "seconds": (self.started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        });
        for (name, value) in self.details {
            summary[name] = value;
        }
        println!(
            "{}: {} rounds, {} failed, {} controls, {} skipped, seed {}, {:.1} s",
            self.command,
            self.rounds,
            failures.len(),
            summary["controls"].as_array().map_or(0, Vec::len),
            summary["skipped"].as_array().map_or(0, Vec::len),
            self.seed,
            self.started.elapsed().as_secs_f64()
        );
        (summary, passed)
    }
}
