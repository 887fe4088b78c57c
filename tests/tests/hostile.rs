//! A short run of hostile repositories and clients; `src/bin/hostile.rs` runs long ones.

use icecore_tests::hostile::{Reached, input, memory_most_mib, run};

const ROUNDS: u64 = 120;
/// One object may take 256 MiB; what is stored here is tiny, and so must be what it takes.
const MEMORY_MOST_MIB: u64 = 400;

#[test]
fn nothing_panics_nothing_leaves_the_target_and_others_lose_nothing() {
    let mut reached = Reached::default();
    for seed in 0..ROUNDS {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&input(seed), &mut reached)));
        assert!(done.is_ok(), "cargo run --release -p icecore-tests --bin hostile -- --seed {seed} --rounds 1");
    }
    let needed = [
        "opened",
        "scrubbed",
        "scrubbed, damage",
        "restored whole",
        "restored in part",
        "collected",
        "not collected",
        "forgotten as the error says",
        "found",
        "nothing found",
        "a withdrawal",
        "a tombstone",
        "an end",
        "an epoch",
        "relocations",
        "a beat",
        "an index object",
        "who may only restore",
        "what uses up a number",
        "removed",
    ];
    for what in needed {
        assert!(reached.0.get(what).is_some_and(|count| *count > 0), "{what}: never; {reached:?}");
    }
    assert!(memory_most_mib() < MEMORY_MOST_MIB, "{} MiB", memory_most_mib());
}
