//! Seeds: the vectors of the specification in the form that each target takes.

use crate::decoders::{BEAT, KEYS, MARKER, PACK};
use icecore::backend::{ObjectKind, ObjectName};
use serde_json::Value;
use std::fs;
use std::io;
use std::path::Path;

/// Longer vectors would slow every run down.
pub const SEED_LENGTH_MAX: usize = 65_536;
const HEADER: usize = 64;
const TRAILER: usize = 248;

/// Writes the seeds of every target into `corpus/<target>/`.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn write_seeds(vectors: &Path, corpus: &Path) -> io::Result<()> {
    let index: Value = serde_json::from_slice(&fs::read(vectors.join("index.json"))?)?;
    for entry in index.as_array().into_iter().flatten() {
        let file = entry["file"].as_str().unwrap_or_default();
        let bytes = fs::read(vectors.join(file))?;
        for (target, seed) in seeds(entry, bytes) {
            if seed.len() <= SEED_LENGTH_MAX {
                write(corpus, target, &file.replace('/', "-"), &seed)?;
            }
        }
    }
    let known: Value = serde_json::from_slice(&fs::read(vectors.join("known.json"))?)?;
    for (field, key, target) in [("key_files", "text", "key_file"), ("names", "path", "object_name")] {
        for (number, row) in known[field].as_array().into_iter().flatten().enumerate() {
            write(corpus, target, &number.to_string(), row[key].as_str().unwrap_or_default().as_bytes())?;
        }
    }
    for (number, seed) in own_seeds().into_iter().enumerate() {
        for target in ["chunker", "frame_round_trip"] {
            write(corpus, target, &number.to_string(), &seed)?;
        }
        // The first byte chooses who is hostile.
        for who in [0, 1] {
            write(corpus, "repository", &format!("{number}-{who}"), &[&[who], &seed[..]].concat())?;
        }
    }
    for (number, seed) in crate::tar::seeds().into_iter().enumerate() {
        for target in ["tar", "tar_backup"] {
            write(corpus, target, &number.to_string(), &seed)?;
        }
    }
    Ok(())
}

fn write(corpus: &Path, part: &str, name: &str, seed: &[u8]) -> io::Result<()> {
    let (target, first) = crate::place_of(part);
    let folder = corpus.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{part}-{name}")), [&[first], seed].concat())
}

/// What no vector has the form of.
fn own_seeds() -> Vec<Vec<u8>> {
    // A symlink to the outside and a file below it, a hard link, plain folders and files, one change.
    let hostile = [7, 3, 1, 2, 4, 1, 8, 2, 2, 0, 0, 0, 1, 9, 6, 1, 0, 1, 1, 0, 0, 0, 0];
    let plain = [1, 3, 1, 0, 2, 0, 2, 0, 1, 0, 0, 1, 13, 4, 1, 0, 0];
    let ramp: Vec<u8> = (0..=255).collect();
    vec![hostile.to_vec(), plain.to_vec(), ramp.repeat(8), vec![0; 300], b"text that repeats itself, text that repeats itself".to_vec()]
}

/// The parts that a vector is a seed of, and in which form.
fn seeds(entry: &Value, bytes: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    let structure = entry["structure"].as_str().unwrap_or_default();
    let name = entry["object"].as_str().and_then(|name| ObjectName::parse(name).ok());
    let with = |prefix: &[u8], bytes: &[u8]| [prefix, bytes].concat();
    let Some(name) = name else {
        let context = &entry["context"];
        let number = |field: &str| (context[field].as_u64().unwrap_or_default() as u32).to_le_bytes();
        return match structure {
            "certificate" => vec![("certificate", bytes)],
            "session record" => {
                vec![("companions", with(&[0; 17], &with(&crate::decoders::varint(bytes.len()), &bytes))), ("session_record", bytes)]
            }
            "credential" => vec![("credential", bytes)],
            "tables" => vec![("tables", with(&with(&[(number("kind")[0].wrapping_sub(3))], &number("frames_length")), &bytes))],
            "index part" => vec![("index_part", bytes)],
            "snapshot header" => vec![("snapshot_header", bytes)],
            "snapshot body" => vec![("snapshot_body", bytes)],
            "frame plaintext" => vec![("frame", with(&[5, 0, 4, 0, 0, 0], &bytes)), ("frame_plaintext", bytes)],
            "tree leaf" | "tree inner" => vec![("tree_node", bytes)],
            "recipe leaf" | "recipe inner" => vec![("recipe_node", bytes)],
            "refs leaf" | "refs inner" => vec![("refs_node", bytes)],
            "tree walk" | "recipe walk" | "refs walk" => vec![("frame_plaintext", bytes.clone()), ("walks", renumbered(&bytes))],
            _ => Vec::new(),
        };
    };
    let before_trailer = bytes[..bytes.len().saturating_sub(TRAILER)].to_vec();
    let beneath = KEYS.open(&name, &bytes);
    let companion = |kind: u8| beneath.as_ref().map(|plaintext| vec![("companions", with(&[kind], plaintext))]).unwrap_or_default();
    let alone = |target| beneath.as_ref().map(|plaintext| vec![(target, plaintext.clone())]).unwrap_or_default();
    match name.kind() {
        ObjectKind::Beat if name.to_string() == BEAT => [vec![("object", bytes), ("object", before_trailer)], companion(1)].concat(),
        ObjectKind::DataPack if name.to_string() == PACK => vec![("pack", before_trailer)],
        ObjectKind::Config => alone("config"),
        ObjectKind::Slot => alone("slot"),
        ObjectKind::Session => companion(0),
        ObjectKind::Closed => companion(2),
        ObjectKind::Tombstone => companion(3),
        ObjectKind::Withdrawn => companion(4),
        ObjectKind::Hold => companion(5),
        ObjectKind::Epoch => alone("epoch"),
        ObjectKind::Relocation => alone("relocations"),
        ObjectKind::Placement => alone("placement"),
        ObjectKind::Parity => {
            let body = before_trailer.get(HEADER..).unwrap_or_default();
            vec![("sidecar", with(&[9, 3, 1], body)), ("sidecar", with(&[255, 0, 0], body))]
        }
        ObjectKind::Snapshot => alone("snapshot_header"),
        ObjectKind::Index => alone("index_part"),
        _ => Vec::new(),
    }
}

/// A walk's nodes with markers in the place of the ids by which they name one another, as the target `walks` expects.
fn renumbered(bytes: &[u8]) -> Vec<u8> {
    let Ok(nodes) = KEYS.split(bytes) else { return bytes.to_vec() };
    let mut bytes = bytes.to_vec();
    for (number, node) in nodes.iter().enumerate() {
        for kind in [2, 3, 4] {
            let Ok(id) = KEYS.chunk_id(kind, node) else { continue };
            let places: Vec<usize> = bytes.windows(32).enumerate().filter(|(_, window)| *window == id.0).map(|(at, _)| at).collect();
            places.into_iter().for_each(|at| bytes[at..at + 32].fill(MARKER.wrapping_add(number as u8)));
        }
    }
    bytes
}
