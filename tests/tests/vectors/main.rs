//! Every vector and every known answer of the specification through the engine.

mod known;
mod told;

use icecore::ErrorKind;
use icecore::backend::{ObjectKind, ObjectName};
use icecore::crypto::Secret;
use icecore::entry::KeyKind;
use icecore::format::Roles;
use icecore::id::{ChunkId, CredentialId, FrameClass};
use icecore::testing::{Keys, Piece};
use icecore_tests::{array, bytes, items, json, keys, number, specification, text, vector};
use serde_json::{Value, json as value};
use std::collections::BTreeSet;

/// Fewer vectors than these would show too little.
const VECTORS_MIN: usize = 60;
const INVALID_MIN: usize = 30;

#[test]
fn every_vector_is_understood_or_refused_as_it_should_be() {
    let (keys, index) = (keys(), json("index.json"));
    let problems: Vec<String> = items(&index).iter().filter_map(|entry| check(&keys, entry).err()).collect();
    assert!(problems.is_empty(), "{} vectors:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn the_index_names_every_file_and_there_are_enough() {
    let index = json("index.json");
    let named: BTreeSet<String> = items(&index).iter().map(|entry| text(&entry["file"]).to_owned()).collect();
    let mut found = BTreeSet::new();
    for folder in ["valid", "invalid"] {
        for file in std::fs::read_dir(specification().join("vectors").join(folder)).unwrap() {
            found.insert(format!("{folder}/{}", file.unwrap().file_name().to_str().unwrap()));
        }
    }
    assert_eq!(named, found);
    let invalid = named.iter().filter(|file| file.starts_with("invalid/")).count();
    assert!(named.len() >= VECTORS_MIN && invalid >= INVALID_MIN, "{} vectors, {invalid} of them invalid", named.len());
}

#[test]
fn invalid_vectors_are_named_by_their_rule() {
    for entry in items(&json("index.json")) {
        let (file, expect) = (text(&entry["file"]), &entry["expect"]);
        match &expect["rule"] {
            Value::String(rule) => assert!(file.starts_with(&format!("invalid/{rule}-")), "{file} breaks {rule}"),
            _ => assert!(file.starts_with("valid/") && expect.get("ok").is_some(), "{file}"),
        }
    }
}

fn check(keys: &Keys, entry: &Value) -> Result<(), String> {
    let (file, expect) = (text(&entry["file"]), &entry["expect"]);
    let keys = keys_for(keys, &entry["context"]);
    let problem = |what: String| Err(format!("{file}: {what}"));
    match (keys.decode(&piece(entry), &vector(file)), &expect["rule"]) {
        (Ok(_), Value::String(rule)) => problem(format!("understood, {rule} should be broken")),
        (Ok(reading), _) if reading.is_canonical == Some(false) => problem("written again it has other bytes".into()),
        (Ok(reading), _) => {
            let (found, expected) = (told::reading(&reading), &expect["ok"]);
            if found == *expected { Ok(()) } else { problem(format!("is\n{found}\nnot\n{expected}")) }
        }
        // No damage, so no rule is broken: the credential or the key is the wrong one.
        (Err(error), Value::String(rule)) if matches!(rule.as_str(), "OBJ-12" | "SLOT-6") => match error.kind() {
            ErrorKind::Unauthorized if error.broken_rule().is_none() => Ok(()),
            _ => problem(format!("{error}, not {rule}")),
        },
        (Err(error), _) => {
            let found = value!({"rule": error.broken_rule(), "unsupported": error.kind() == ErrorKind::Unsupported});
            if found == *expect { Ok(()) } else { problem(format!("{error}, expected {expect}")) }
        }
    }
}

fn keys_for(keys: &Keys, context: &Value) -> Keys {
    let mut keys = keys.clone();
    let numbers = |value: &Value| items(value).iter().map(number).collect::<Vec<u32>>();
    if let Some(epochs) = context.get("structure_epochs") {
        keys = keys.with_structure_epochs(&numbers(epochs));
    }
    if let Some(epochs) = context.get("restore_epochs") {
        keys = keys.with_restore_epochs(&numbers(epochs));
    }
    if let Some(revoked) = context.get("revoked") {
        keys = keys.with_revoked(items(revoked).iter().map(|entry| (CredentialId(array(&entry[0])), number(&entry[1]))).collect());
    }
    keys
}

/// What the entry of `index.json` says that the file is.
fn piece(entry: &Value) -> Piece {
    let context = &entry["context"];
    let ids = |value: &Value| items(value).iter().map(|id| ChunkId(array(id))).collect::<Vec<_>>();
    let level = || context["parent_level"].as_u64().map(|parent| (parent - 1) as u8);
    let certificate = || array(&context["certificate"]);
    let root = || ChunkId(array(&context["root"]));
    let key_kind = || if context["key_kind"] == 1 { KeyKind::Paths } else { KeyKind::Objects };
    if let Value::String(name) = &entry["object"] {
        if let Some(beside) = context.get("beside") {
            return Piece::Sidecar { name: ObjectName::parse(name).unwrap(), beside: bytes(beside) };
        }
        let before = context.get("before").filter(|before| !before.is_null()).map(array);
        let seed = context.get("seed").filter(|seed| !seed.is_null()).map(|seed| Secret::new(array(seed)));
        return Piece::Object { name: ObjectName::parse(name).unwrap(), before, seed };
    }
    match text(&entry["structure"]) {
        "certificate" => Piece::Certificate,
        "session record" => Piece::SessionRecord,
        "credential" => Piece::Credential {
            roles: Roles::from_bits(number(&context["slot_roles"])).unwrap(),
            credential: CredentialId(array(&context["credential"])),
        },
        "frame" => Piece::Frame {
            key: Secret::new(array(&context["key"])),
            number: number(&context["number"]),
            plaintext_length: number(&context["plaintext_length"]),
            hash: array(&context["hash"]),
            bases: (!context["bases"].is_null()).then(|| bytes(&context["bases"])),
            chunks: ids(&context["chunk_ids"]),
        },
        "frame plaintext" => {
            let class = [FrameClass::Data, FrameClass::Meta, FrameClass::Refs][number::<usize>(&context["class"])];
            Piece::FramePlaintext { class, chunks: ids(&context["chunk_ids"]) }
        }
        "chunk" => Piece::Chunk(number(&context["kind"]), ChunkId(array(&context["id"]))),
        "tables" => Piece::Tables {
            kind: ObjectKind::from_number(number(&context["kind"])).unwrap(),
            frames_length: number(&context["frames_length"]),
            certificate: certificate(),
        },
        "index part" => Piece::Index(certificate()),
        "snapshot header" => Piece::SnapshotHeader(certificate()),
        "snapshot body" => {
            Piece::SnapshotBody { series: array(&context["series_token"]), tags: items(&context["tag_tokens"]).iter().map(array).collect() }
        }
        "tree leaf" | "tree inner" => Piece::TreeNode { key_kind: key_kind(), level: level() },
        "recipe leaf" | "recipe inner" => Piece::RecipeNode(level()),
        "refs leaf" | "refs inner" => Piece::RefsNode(level()),
        "tree walk" => Piece::TreeWalk { key_kind: key_kind(), root: root() },
        "recipe walk" => {
            let data_bytes = number::<u64>(&context["size"]) - number::<u64>(&context["hole_bytes"]);
            Piece::RecipeWalk { root: root(), data_bytes }
        }
        "refs walk" => Piece::RefsWalk(root()),
        structure => panic!("no structure is called {structure}; bytes {:?}", bytes(&entry["file"])),
    }
}
