//! Hostile repositories and clients, seed by seed: see `icecore_tests::hostile`.
//!
//!     cargo run --release -p icecore-tests --bin hostile -- --seed 1 --rounds 100000
//!
//! Says what was reached, and the most memory that it took. A finding ends it with the seed that repeats it (exit 101), too much memory with exit 1.

use icecore_tests::hostile::{MEMORY_MOST_MIB, Reached, input, memory_most_mib, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let value = |name: &str, default: u64| match arguments.iter().position(|argument| argument == name) {
        Some(at) => arguments.get(at + 1).and_then(|value| value.parse().ok()),
        None => Some(default),
    };
    let (Some(seed), Some(rounds)) = (value("--seed", 1), value("--rounds", 1_000)) else {
        eprintln!("usage: hostile [--seed S] [--rounds N]");
        return ExitCode::from(2);
    };
    let mut reached = Reached::default();
    for seed in seed..seed.saturating_add(rounds) {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&input(seed), &mut reached)));
        if let Err(panic) = done {
            eprintln!("FOUND: --seed {seed} --rounds 1");
            std::panic::resume_unwind(panic);
        }
    }
    reached.0.iter().for_each(|(what, count)| println!("{count:9}  {what}"));
    let most = memory_most_mib();
    println!("{rounds} rounds, {most} MiB of memory at most");
    match most {
        ..MEMORY_MOST_MIB => ExitCode::SUCCESS,
        _ => {
            eprintln!("FOUND: {MEMORY_MOST_MIB} MiB would be too much");
            ExitCode::FAILURE
        }
    }
}
