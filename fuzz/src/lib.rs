//! What is fuzzed. Each target takes any bytes and panics where something is wrong.
//!
//! libFuzzer's targets in `fuzz_targets/` and the stable program in `bin/stable.rs` both call [`run`], so that what one of them finds
//! the other repeats.

mod decoders;
mod round_trips;
mod seeds;
mod tar;

pub use seeds::{SEED_LENGTH_MAX, write_seeds};

/// One thing that is fuzzed: its name, and what it does with bytes.
type Part = (&'static str, fn(&[u8]));
/// Parts that are alike, one of which the first byte of an input chooses, and their name.
type Target = (&'static str, &'static [Part]);

/// All targets. Few, so that each can run for long; a part is added where others of its kind are.
pub const TARGETS: [Target; 6] = [
    (
        "objects",
        &[
            ("object", decoders::object),
            ("certificate", decoders::certificate),
            ("config", decoders::config),
            ("slot", decoders::slot),
            ("credential", decoders::credential),
            ("session_record", decoders::session_record),
            ("companions", decoders::companions),
            ("epoch", decoders::epoch),
            ("relocations", decoders::relocations),
            ("placement", decoders::placement),
            ("sidecar", decoders::sidecar),
            ("snapshot_header", decoders::snapshot_header),
            ("snapshot_body", decoders::snapshot_body),
            ("key_file", decoders::key_file),
            ("object_name", decoders::object_name),
        ],
    ),
    (
        "packs",
        &[
            ("pack", decoders::pack),
            ("tables", decoders::tables),
            ("index_part", decoders::index_part),
            ("frame", decoders::frame),
            ("frame_plaintext", decoders::frame_plaintext),
            ("frame_round_trip", round_trips::frame),
        ],
    ),
    (
        "trees",
        &[
            ("tree_node", decoders::tree_node),
            ("recipe_node", decoders::recipe_node),
            ("refs_node", decoders::refs_node),
            ("walks", decoders::walks),
        ],
    ),
    ("chunker", &[("chunker", round_trips::chunker)]),
    ("repository", &[("repository", |data| icecore_tests::hostile::run(data, &mut icecore_tests::hostile::Reached::default()))]),
    ("tar", &[("tar", tar::read), ("tar_backup", tar::backup)]),
];

/// The target of a part, and the first byte of inputs for it.
///
/// # Panics
/// Where there is no such part.
fn place_of(part: &str) -> (&'static str, u8) {
    let place = TARGETS.iter().find_map(|(target, parts)| Some((*target, parts.iter().position(|(name, _)| *name == part)? as u8)));
    place.unwrap_or_else(|| panic!("no part is called {part}"))
}

/// Runs the target with this name.
///
/// # Panics
/// Where there is none, and where the target finds something.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(target, _)| *target == name).unwrap_or_else(|| panic!("no target is called {name}"));
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    (target.1[usize::from(*first) % target.1.len()].1)(rest);
}
