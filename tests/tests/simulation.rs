//! A short run of the deterministic simulation; `--bin simulate` runs longer ones.

use icecore_tests::simulation::store::Mutant;
use icecore_tests::simulation::{Start, Tally, run};
use std::sync::LazyLock;

static STARTS: LazyLock<Vec<Start>> = LazyLock::new(Start::all);

fn schedule(seed: u64, mutant: Option<Mutant>, tally: &mut Tally) -> (Option<String>, u64) {
    let cache = tempfile::tempdir().unwrap();
    let outcome = run(seed, &STARTS, cache.path(), mutant, false, tally);
    (outcome.finding.map(|finding| finding.text), outcome.hash)
}

#[test]
fn schedules_lose_nothing() {
    let mut tally = Tally::default();
    for seed in 0..60 {
        let (finding, _) = schedule(seed, None, &mut tally);
        assert_eq!(finding, None, "simulate --seed {seed} --schedules 1 --trace");
    }
    assert!(tally.faults.len() > 8, "{:?}", tally.faults);
}

#[test]
fn a_seed_replays_its_schedule() {
    for seed in 100..110 {
        let mut tally = Tally::default();
        let first = schedule(seed, None, &mut tally);
        assert_eq!(first, schedule(seed, None, &mut tally));
        assert_ne!(first.1, schedule(seed + 1000, None, &mut tally).1);
    }
}
