//! The protocol loses nothing, and each of its rules is needed.
//!
//! `cargo test -p icecore-model -- --nocapture` shows the number of states; with `ICECORE_MODEL_TRACES=1` also how each mutant loses something.

use icecore_model::{Outcome, Rule, Shape, search, trace};
use std::collections::HashSet;

/// More states than any search here visits.
const STATES_MAX: usize = 30_000_000;
const NOBODY: Shape = Shape::EMPTY;
const ONE: Shape = Shape { writers: 1, collectors: 1, forget: 1, ..NOBODY };
const TWO_WRITERS: Shape = Shape { writers: 2, repack: true, ..ONE };
const TWO_COLLECTORS: Shape = Shape { collectors: 2, ..ONE };
const WITH_READER: Shape = Shape { forget: 2, reader: true, observer: true, empty_epochs: true, ..ONE };
const STALE: Shape = Shape { stale: true, ..ONE };
const REFRAME: Shape = Shape { reframe: true, dead_chunk: true, ..ONE };

const DELTA: Shape = Shape { delta: true, ..ONE };

fn is_safe(name: &str, shape: Shape) {
    let found = search(&shape, STATES_MAX);
    println!("{name:44} {:9} states, {:3} steps deep", found.states, found.depth);
    assert_eq!(found.outcome, Outcome::Safe, "{name}:\n{}", trace(&shape, STATES_MAX));
}

#[test]
fn one_collector_loses_nothing() {
    is_safe("a writer, a collector, a forget", ONE);
    is_safe("and repack, and subtrees", Shape { repack: true, subtree: true, ..ONE });
    is_safe("and reframe, wanting the dead chunk", Shape { repack: true, ..REFRAME });
    is_safe("a reader, an observer, two forgets", WITH_READER);
    is_safe(
        "a reader, two forgets, reframe, repack",
        Shape { reframe: true, repack: true, observer: false, dead_chunk: true, ..WITH_READER },
    );
    is_safe("two writers, repack", TWO_WRITERS);
    is_safe("two writers, reframe, repack, two forgets", Shape { forget: 2, reframe: true, dead_chunk: true, ..TWO_WRITERS });
    is_safe("two writers of the same chunk, subtrees", Shape { same_chunk: true, subtree: true, forget: 2, ..TWO_WRITERS });
}

#[test]
fn bases_are_not_lost() {
    is_safe("deltas, reframe, repack, two forgets", Shape { reframe: true, repack: true, forget: 2, ..DELTA });
    is_safe("deltas, two writers of the same chunk", Shape { writers: 2, same_chunk: true, forget: 2, ..DELTA });
    is_safe("deltas, two writers, reframe", Shape { writers: 2, same_chunk: true, reframe: true, repack: true, ..DELTA });
    is_safe("deltas, a reader, two forgets", Shape { delta: true, reframe: true, observer: false, ..WITH_READER });
    is_safe("deltas, two collectors, reframe", Shape { delta: true, reframe: true, ..TWO_COLLECTORS });
}

#[test]
fn two_collectors_lose_nothing() {
    is_safe("two collectors alone, repack, reframe", Shape { repack: true, reframe: true, collectors: 2, forget: 1, ..NOBODY });
    is_safe("two collectors, a writer, repack", Shape { repack: true, ..TWO_COLLECTORS });
    is_safe("two collectors, a writer, two forgets", Shape { forget: 2, empty_epochs: true, ..TWO_COLLECTORS });
    is_safe("two collectors, a writer, reframe, repack", Shape { reframe: true, repack: true, dead_chunk: true, ..TWO_COLLECTORS });
    is_safe("two collectors, a reader, two forgets, repack", Shape { writers: 0, forget: 2, reader: true, repack: true, ..TWO_COLLECTORS });
}

#[test]
fn two_collectors_and_a_reader_lose_nothing() {
    is_safe("two collectors, a writer, a reader", Shape { reader: true, ..TWO_COLLECTORS });
}

#[test]
fn stale_listings_lose_nothing() {
    is_safe("stale listings", STALE);
    is_safe("stale listings, a reader, repack", Shape { reader: true, repack: true, ..STALE });
    is_safe("stale listings, reframe", Shape { stale: true, ..REFRAME });
    is_safe("stale listings, two collectors", Shape { collectors: 2, ..STALE });
}

/// Where the lack of each rule shows.
const MUTANTS: [(Rule, Shape); Rule::ALL.len()] = [
    (Rule::RereadEpoch, ONE),
    (Rule::LookForTombstone, ONE),
    (Rule::LookForSession, ONE),
    (Rule::AvoidCondemned, ONE),
    (Rule::StatCacheLooksUp, ONE),
    (Rule::SubtreeSource, Shape { subtree: true, ..ONE }),
    (Rule::PacksFirst, ONE),
    (Rule::EpochOnce, Shape { repack: true, ..TWO_COLLECTORS }),
    (Rule::Gate, ONE),
    (Rule::GateOfNewest, Shape { reader: true, forget: 2, ..TWO_COLLECTORS }),
    (Rule::Relist, ONE),
    (Rule::ProtectSuspects, ONE),
    (Rule::CondemnedForEver, TWO_COLLECTORS),
    (Rule::CopyNotCondemned, Shape { writers: 2, same_chunk: true, ..TWO_COLLECTORS }),
    (Rule::RelocationByChunk, REFRAME),
    (Rule::RelocationFound, Shape { collectors: 2, repack: true, reframe: true, ..NOBODY }),
    (Rule::BaseStands, Shape { reframe: true, ..DELTA }),
    (Rule::DeltaWithBases, Shape { writers: 2, same_chunk: true, ..DELTA }),
    (Rule::SettleByNewEpochs, TWO_COLLECTORS),
    (Rule::PacksAfterSnapshots, Shape { empty_epochs: true, ..TWO_COLLECTORS }),
    (Rule::EndsStay, Shape { forget: 2, ..TWO_COLLECTORS }),
    (Rule::MarkerStays, TWO_COLLECTORS),
    (Rule::WithdrawnFirst, ONE),
    (Rule::WithdrawalNextEpoch, WITH_READER),
    (Rule::ReaderSession, WITH_READER),
    (Rule::ReaderReread, WITH_READER),
    (Rule::ReaderByUncondemned, WITH_READER),
    (Rule::AskByName, WITH_READER),
    (Rule::WaitBeforeGate, STALE),
    (Rule::WaitBeforeRelist, STALE),
    (Rule::WaitBeforeMissing, Shape { collectors: 2, ..STALE }),
    (Rule::EpochByNumber, STALE),
    (Rule::EpochsStay, STALE),
];

#[test]
fn every_rule_is_needed() {
    let named: HashSet<_> = MUTANTS.iter().map(|(rule, _)| format!("{rule:?}")).collect();
    assert_eq!(named.len(), Rule::ALL.len(), "each rule stands in the table");
    for (rule, shape) in MUTANTS {
        let mutant = Shape { without: Some(rule), ..shape };
        let found = search(&mutant, STATES_MAX);
        println!("without {:20} {:9} states: {:?}", format!("{rule:?}"), found.states, found.outcome);
        assert!(matches!(found.outcome, Outcome::Lost(_)), "nothing is lost without {rule:?}");
        if std::env::var_os("ICECORE_MODEL_TRACES").is_some() {
            println!("{}\n", trace(&mutant, STATES_MAX));
        }
    }
}
