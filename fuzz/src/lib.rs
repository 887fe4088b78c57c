//! What is fuzzed. Each target takes any bytes and panics where something is wrong.
//!
//! libFuzzer's targets in `fuzz_targets/` and the stable program in `bin/stable.rs` both call [`run`], so that what one of them finds
//! the other repeats.

mod decoders;
mod repository;
mod round_trips;
mod seeds;
mod tar;

pub use seeds::{SEED_LENGTH_MAX, write_seeds};

/// A target's name and body.
type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 28] = [
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
    ("pack", decoders::pack),
    ("tables", decoders::tables),
    ("index_part", decoders::index_part),
    ("snapshot_header", decoders::snapshot_header),
    ("snapshot_body", decoders::snapshot_body),
    ("frame", decoders::frame),
    ("frame_plaintext", decoders::frame_plaintext),
    ("tree_node", decoders::tree_node),
    ("recipe_node", decoders::recipe_node),
    ("refs_node", decoders::refs_node),
    ("walks", decoders::walks),
    ("key_file", decoders::key_file),
    ("object_name", decoders::object_name),
    ("chunker", round_trips::chunker),
    ("frame_round_trip", round_trips::frame),
    ("repository", repository::repository),
    ("tar", tar::read),
    ("tar_backup", tar::backup),
];

/// Runs the target with this name.
///
/// # Panics
/// Where there is none, and where the target finds something.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(target, _)| *target == name).unwrap_or_else(|| panic!("no target is called {name}"));
    (target.1)(data);
}
