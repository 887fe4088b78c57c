//! Runs schedules of the deterministic simulation: `simulate --seed S --schedules N [--mutants | --mutant NAME] [--trace]`.
//!
//! Prints how many it ran and how often each kind of step and each fault was reached. A finding ends it with the seed that replays it, and exit
//! code 1; so does something that was never reached in 5,000 schedules or more.

#![allow(clippy::disallowed_methods, reason = "a program, which says how long it took and watches itself")]

use icecore_tests::simulation::store::Mutant;
use icecore_tests::simulation::{Start, Tally, run};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Schedules after which everything has to have been reached.
const ENOUGH: u64 = 5000;
/// Schedules in which a mutant has to be found.
const MUTANT_SCHEDULES: u64 = 20_000;

fn argument(arguments: &[String], name: &str) -> Option<String> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).cloned()
}

/// Ends the program when a schedule hangs: somebody waits outside of the simulation, for a lock that is held across a turn.
fn watch(current: &Arc<AtomicU64>) {
    let current = Arc::clone(current);
    std::thread::spawn(move || {
        let mut last = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_secs(5));
            let now = current.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > Duration::from_secs(120) {
                println!("seed {now} hangs: a lock is held across a turn");
                std::process::exit(1);
            }
        }
    });
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, otherwise: u64| argument(&arguments, name).and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (seed, schedules) = (number("--seed", 1), number("--schedules", 1000));
    let traces = arguments.iter().any(|argument| argument == "--trace");
    let current = Arc::new(AtomicU64::new(seed));
    watch(&current);
    let starts = Start::all();
    let place = tempfile::Builder::new().prefix("icecore-simulate").tempdir_in(if std::path::Path::new("/dev/shm").is_dir() {
        "/dev/shm"
    } else {
        "/tmp"
    });
    let Ok(place) = place else {
        println!("there is no room for a temporary folder");
        return ExitCode::FAILURE;
    };
    let one = |seed: u64, mutant, traces, tally: &mut Tally| {
        current.store(seed, Ordering::Relaxed);
        let cache = place.path().join(seed.to_string());
        let outcome = run(seed, &starts, &cache, mutant, traces, tally);
        let _ = std::fs::remove_dir_all(&cache);
        outcome
    };
    let named = argument(&arguments, "--mutant");
    if named.is_some() || arguments.iter().any(|argument| argument == "--mutants") {
        let mut all_caught = true;
        for mutant in Mutant::ALL.into_iter().filter(|mutant| named.as_ref().is_none_or(|name| *name == format!("{mutant:?}"))) {
            let (mut tally, began) = (Tally::default(), Instant::now());
            let caught = (seed..seed + MUTANT_SCHEDULES).find_map(|seed| Some((seed, one(seed, Some(mutant), false, &mut tally).finding?)));
            match caught {
                Some((at, finding)) => println!(
                    "{mutant:?}: caught after {} schedules ({:.1} s), seed {at}: {finding}",
                    tally.schedules,
                    began.elapsed().as_secs_f64()
                ),
                None => {
                    println!("{mutant:?}: not caught in {MUTANT_SCHEDULES} schedules");
                    all_caught = false;
                }
            }
        }
        return if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (mut tally, began) = (Tally::default(), Instant::now());
    for seed in seed..seed + schedules {
        let outcome = one(seed, None, traces, &mut tally);
        if traces {
            outcome.trace.iter().for_each(|line| println!("{line}"));
            println!("schedule {seed} has the number {:016x}", outcome.hash);
        }
        if let Some(finding) = outcome.finding {
            println!("finding after {} schedules: {finding}", tally.schedules);
            println!("replay with --seed {seed} --schedules 1 --trace");
            return ExitCode::FAILURE;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{} schedules from seed {seed} in {seconds:.1} s ({:.1} a second), {} turns, no finding",
        tally.schedules,
        tally.schedules as f64 / seconds,
        tally.steps
    );
    println!("clock leaps {}, processes suspended {}", tally.leaps, tally.sleeps);
    tally.ends.iter().for_each(|((deed, end), count)| println!("deed {deed:?} {end:?}: {count}"));
    tally.faults.iter().for_each(|(fault, count)| println!("fault {fault:?}: {count}"));
    tally.rules.iter().for_each(|(rule, count)| println!("rule {rule}: looked at {count} times"));
    tally.calls.iter().for_each(|((operation, kind), count)| println!("call {operation:?} {}: {count}", kind.folder()));
    let missed = tally.missed();
    missed.iter().for_each(|what| println!("never reached: {what}"));
    if missed.is_empty() || tally.schedules < ENOUGH { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
