//! Runs schedules of the deterministic simulation: `simulate --seed S --schedules N [--jobs J] [--seconds T] [--mutants | --mutant NAME] [--trace]`.
//!
//! Prints how many it ran and how often each kind of step and each fault was reached. A finding ends it with the seed that replays it, and exit
//! code 1; so does something that was never reached in 5,000 schedules or more. Jobs run side by side; a schedule is the same in any of them. After T
//! seconds no more are begun.

#![allow(clippy::disallowed_methods, reason = "a program, which says how long it took and watches itself")]

use icecore_tests::simulation::oracle::Finding;
use icecore_tests::simulation::store::Mutant;
use icecore_tests::simulation::{Outcome, Start, Tally, run};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Schedules after which everything has to have been reached.
const ENOUGH: u64 = 5000;
/// A folder in memory, where there is one: no disk is simulated, and what processes keep for themselves need not wait for one.
const MEMORY_FOLDER: &str = "/dev/shm";
/// Schedules in which a mutant has to be found.
const MUTANT_SCHEDULES: u64 = 50_000;
/// How often a long run says how far it is.
const SAYS_EVERY: Duration = Duration::from_secs(60);
/// A schedule takes milliseconds. One that takes so long waits outside of the simulation.
const HANGS_AFTER: Duration = Duration::from_secs(120);

fn argument(arguments: &[String], name: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).cloned()
}

/// What jobs share.
struct Runs {
    starts: Vec<Start>,
    place: PathBuf,
    mutant: Option<Mutant>,
    /// Where the next schedule is to be taken from, and where they end.
    next: AtomicU64,
    end: u64,
    /// Each job's schedule.
    current: Vec<AtomicU64>,
    has_found: AtomicBool,
    until: Instant,
}

impl Runs {
    fn one(&self, seed: u64, traces: bool, tally: &mut Tally) -> Outcome {
        let cache = self.place.join(seed.to_string());
        let outcome = run(seed, &self.starts, &cache, self.mutant, traces, tally);
        let _ = std::fs::remove_dir_all(&cache);
        outcome
    }

    /// Runs schedules until there are none left or one is found to be wrong.
    fn work(&self, job: usize) -> (Tally, Option<(u64, Finding)>) {
        let mut tally = Tally::default();
        while !self.has_found.load(Ordering::Relaxed) && Instant::now() < self.until {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                break;
            }
            self.current[job].store(seed, Ordering::Relaxed);
            let finding = self.one(seed, false, &mut tally).finding;
            // Of a mutant nothing tells but what is lost.
            if let Some(finding) = finding.filter(|finding| finding.is_loss || self.mutant.is_none()) {
                self.has_found.store(true, Ordering::Relaxed);
                return (tally, Some((seed, finding)));
            }
        }
        self.current[job].store(u64::MAX, Ordering::Relaxed);
        (tally, None)
    }

    /// Says how far it is, and ends the program when a schedule hangs, until `is_over`.
    fn watch(&self, is_over: &AtomicBool) {
        let began = Instant::now();
        let first = self.next.load(Ordering::Relaxed);
        let (mut said, mut last) = (began, vec![(0, began); self.current.len()]);
        while !is_over.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_secs(5));
            for (last, current) in last.iter_mut().zip(&self.current) {
                let now = current.load(Ordering::Relaxed);
                if now != last.0 || now == u64::MAX {
                    *last = (now, Instant::now());
                } else if last.1.elapsed() > HANGS_AFTER {
                    println!("seed {now} hangs: a lock is held across a turn");
                    std::process::exit(1);
                }
            }
            if said.elapsed() > SAYS_EVERY {
                said = Instant::now();
                let done = self.next.load(Ordering::Relaxed).min(self.end) - first;
                println!("{done} schedules begun in {:.0} s", began.elapsed().as_secs_f64());
            }
        }
    }

    /// All schedules on `jobs` threads: what was reached, and the finding with the lowest seed.
    fn all(&self) -> (Tally, Option<(u64, Finding)>) {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| self.watch(&is_over));
            let jobs: Vec<_> = (0..self.current.len()).map(|job| scope.spawn(move || self.work(job))).collect();
            let (mut tally, mut found) = (Tally::default(), None);
            for job in jobs {
                let (own, finding) = job.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                tally.absorb(own);
                found = [found, finding].into_iter().flatten().min();
            }
            is_over.store(true, Ordering::Relaxed);
            watcher.thread().unpark();
            (tally, found)
        })
    }
}

/// Runs schedules with each mutant until it is caught by what is lost, and those schedules without it: there nothing may be wrong.
fn catch_mutants(mut runs: Runs, named: Option<&str>) -> ExitCode {
    let (first, jobs) = (runs.next.load(Ordering::Relaxed), runs.current.len());
    runs.end = first + MUTANT_SCHEDULES;
    let mut all_caught = true;
    for mutant in Mutant::ALL.into_iter().filter(|mutant| named.is_none_or(|name| name == format!("{mutant:?}"))) {
        runs.mutant = Some(mutant);
        (runs.next, runs.has_found) = (AtomicU64::new(first), AtomicBool::new(false));
        runs.current = (0..jobs).map(|_| AtomicU64::new(u64::MAX)).collect();
        let (tally, caught) = runs.all();
        let Some((seed, finding)) = caught else {
            println!("{mutant:?}: not caught in {} schedules", tally.schedules);
            all_caught = false;
            continue;
        };
        println!("{mutant:?}: caught after {} schedules, seed {seed}: {}", tally.schedules, finding.text);
        runs.mutant = None;
        if let Some(finding) = runs.one(seed, false, &mut Tally::default()).finding {
            println!("{mutant:?}: without it, seed {seed} finds as well: {}", finding.text);
            all_caught = false;
        }
    }
    if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, otherwise: u64| argument(&arguments, name).and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (seed, schedules, jobs) = (number("--seed", 1), number("--schedules", 1000), number("--jobs", 1));
    if Path::new(MEMORY_FOLDER).is_dir() {
        let _ = tempfile::env::override_temp_dir(MEMORY_FOLDER.as_ref());
    }
    let Ok(place) = tempfile::Builder::new().prefix("icecore-simulate-").tempdir() else {
        println!("there is no room for a temporary folder");
        return ExitCode::FAILURE;
    };
    let runs = Runs {
        starts: Start::all(),
        place: place.path().to_owned(),
        mutant: None,
        next: AtomicU64::new(seed),
        end: seed + schedules,
        current: (0..jobs.max(1)).map(|_| AtomicU64::new(u64::MAX)).collect(),
        has_found: AtomicBool::new(false),
        until: Instant::now() + Duration::from_secs(number("--seconds", 1 << 30)),
    };
    let named = argument(&arguments, "--mutant");
    if named.is_some() || arguments.iter().any(|argument| argument == "--mutants") {
        return catch_mutants(runs, named.as_deref());
    }
    if arguments.iter().any(|argument| argument == "--trace") {
        for seed in seed..seed + schedules {
            let outcome = runs.one(seed, true, &mut Tally::default());
            outcome.trace.iter().for_each(|line| println!("{line}"));
            println!("schedule {seed} has the number {:016x}", outcome.hash);
            if let Some(finding) = outcome.finding {
                println!("finding: {}", finding.text);
                return ExitCode::FAILURE;
            }
        }
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let (tally, found) = runs.all();
    let seconds = began.elapsed().as_secs_f64();
    let (count, rate) = (tally.schedules, tally.schedules as f64 / seconds);
    println!("{count} schedules from seed {seed} in {seconds:.1} s ({rate:.1} a second), {} turns", tally.steps);
    println!("clock leaps {}, jumps by years {}, processes suspended {}", tally.leaps, tally.jumps, tally.sleeps);
    tally.ends.iter().for_each(|((deed, end), count)| println!("deed {deed:?} {end:?}: {count}"));
    tally.holders.iter().for_each(|((deed, holder), count)| println!("deed {deed:?} by {holder:?}: {count}"));
    tally.faults.iter().for_each(|(fault, count)| println!("fault {fault:?}: {count}"));
    tally.rules.iter().for_each(|(rule, count)| println!("rule {rule}: looked at {count} times"));
    tally.calls.iter().for_each(|((operation, kind), count)| println!("call {operation:?} {}: {count}", kind.folder()));
    tally.deaths.iter().for_each(|((operation, kind), count)| println!("death at {operation:?} {}: {count}", kind.folder()));
    println!("collections for whose copies there was no room: {}", tally.without_copies);
    println!("backups that compressed something against what it was: {}", tally.deltas);
    let missed = tally.missed();
    missed.iter().for_each(|what| println!("never reached: {what}"));
    if let Some((seed, finding)) = found {
        println!("finding: {}", finding.text);
        println!("replay with --seed {seed} --schedules 1 --trace");
        return ExitCode::FAILURE;
    }
    println!("no finding");
    if missed.is_empty() || tally.schedules < ENOUGH { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
