//! Known answers: primitives, names, keys, cuts.

use icecore::backend::ObjectName;
use icecore::chunker::{ContentCutter, Cutter, FixedCutter};
use icecore::crypto::PassphraseCost;
use icecore::format::object::Header;
use icecore::format::parity::sidecar_of;
use icecore::id::{SnapshotId, from_hex, to_hex};
use icecore::repository::Key;
use icecore::testing::{Decoded, Piece, primitives};
use icecore_tests::{array, bytes, items, json, keys, number, text};
use serde_json::{Value, json as value};
use std::sync::LazyLock;

static KNOWN: LazyLock<Value> = LazyLock::new(|| json("known.json"));

fn rows(field: &str) -> &'static [Value] {
    items(&KNOWN[field])
}

#[test]
fn every_field_has_a_test() {
    let tested = [
        "hashes",
        "varints",
        "zigzags",
        "times",
        "names",
        "seals",
        "signatures",
        "chunk_ids",
        "sessions",
        "object_parts",
        "tokens",
        "boundaries",
        "key_files",
        "passphrases",
        "xwing",
        "hpke",
        "gear",
        "cuts",
        "sidecars",
        "codewords",
    ];
    for field in KNOWN.as_object().unwrap().keys() {
        assert!(tested.contains(&field.as_str()), "{field} of known.json is not looked at");
    }
}

#[test]
fn hashes() {
    for row in rows("hashes") {
        let input = bytes(&row["input"]);
        let output = match text(&row["use"]) {
            "hash" => blake3::hash(&input).as_bytes().to_vec(),
            "keyed" => primitives::keyed(&array(&row["key"]), &input).to_vec(),
            _ => primitives::derive(text(&row["context"]), &input, 32),
        };
        assert_eq!(to_hex(&output), text(&row["output"]), "{row}");
    }
}

#[test]
fn numbers_and_times() {
    let check = |row: &Value, found: icecore::Result<(Value, Vec<u8>)>| match found {
        Ok((found, written)) => assert_eq!((&found, &written), (&row["value"], &bytes(&row["bytes"])), "{row}"),
        Err(error) => assert_eq!(error.broken_rule(), row["rule"].as_str(), "{row}"),
    };
    for row in rows("varints") {
        check(row, primitives::varint(&bytes(&row["bytes"])).map(|(value, written)| (value.into(), written)));
    }
    for row in rows("zigzags") {
        check(row, primitives::zigzag(&bytes(&row["bytes"])).map(|(value, written)| (value.into(), written)));
    }
    for row in rows("times") {
        let read = primitives::time(&bytes(&row["bytes"]));
        check(row, read.map(|(time, written)| (value!([time.seconds, time.nanoseconds]), written)));
    }
}

#[test]
fn names() {
    for row in rows("names") {
        match ObjectName::parse(text(&row["path"])) {
            Ok(name) => {
                assert_eq!(
                    value!([name.kind().number(), to_hex(&name.id()), name.number()]),
                    value!([row["kind"], row["id"], row["number"]])
                );
                assert_eq!(name.to_string(), text(&row["path"]));
            }
            Err(_) => assert!(row["kind"].is_null(), "{row}"),
        }
    }
}

#[test]
fn seals_and_signatures() {
    for row in rows("seals") {
        let nonce: [u8; 12] = array(&row["nonce"]);
        let counter = u32::from_le_bytes(*nonce.first_chunk().unwrap());
        assert_eq!(nonce[4..], [0; 8]);
        assert_eq!(primitives::seal(&array(&row["key"]), counter, &bytes(&row["plaintext"])), bytes(&row["sealed"]));
    }
    for row in rows("signatures") {
        let (seed, context, data) = (array(&row["seed"]), text(&row["context"]), bytes(&row["data"]));
        let signature = primitives::sign(&seed, context, &data);
        assert_eq!(to_hex(&signature), text(&row["signature"]));
        assert!(primitives::verify(&seed, context, &data, &signature));
    }
}

#[test]
fn chunk_ids_and_tokens() {
    let keys = keys();
    for row in rows("chunk_ids") {
        assert_eq!(to_hex(&keys.chunk_id(number(&row["kind"]), &bytes(&row["data"])).unwrap().0), text(&row["id"]));
    }
    for row in rows("tokens") {
        let [series, tag] = keys.tokens(text(&row["text"]));
        assert_eq!(to_hex(if row["kind"] == "series" { &series } else { &tag }), text(&row["token"]));
    }
}

#[test]
fn boundaries() {
    let context = json("context.json");
    for row in rows("boundaries") {
        let level: u8 = number(&row["level"]);
        let (key, item) = match text(&row["kind"]) {
            "tree" => (primitives::derive("icecore 1 tree boundary", &bytes(&context["chunk_id_key"]), 32), bytes(&row["key"])),
            _ => {
                let item = [bytes(&row["session"]), number::<u32>(&row["number"]).to_le_bytes().to_vec()].concat();
                (primitives::derive("icecore 1 refs boundary", &bytes(&context["token_key"]), 32), item)
            }
        };
        let hash = primitives::keyed(&key.try_into().unwrap(), &[&[level][..], &item].concat());
        assert_eq!(to_hex(&hash[..8]), text(&row["first_8"]));
    }
}

#[test]
fn sessions_and_what_they_seal() {
    let (keys, context) = (keys(), json("context.json"));
    for row in rows("sessions") {
        let session = items(&context["sessions"]).iter().find(|session| session["name"] == row["session"]).unwrap();
        let Decoded::Record(record, Some(secret)) = keys.decode(&Piece::SessionRecord, &bytes(&session["record"])).unwrap().value else {
            panic!("{row}: the secret does not open")
        };
        assert_eq!(to_hex(&record.id().0), text(&row["id"]));
        assert_eq!(to_hex(secret.bytes()), text(&session["secret"]));
        let sealed = keys.sealed_by_session(&record, 7, SnapshotId(array(&row["snapshot"])), b"some plaintext").unwrap();
        let fields = [("data_key", 7), ("meta_key", 7), ("refs_key", 7), ("snapshot_body_key", 0)];
        for (sealed, (key, counter)) in sealed.iter().zip(fields) {
            assert_eq!(*sealed, primitives::seal(&array(&row[key]), counter, b"some plaintext"), "{key}");
        }
    }
}

#[test]
fn parts_of_objects() {
    let (keys, session) = (keys(), &json("context.json")["sessions"][0]["id"]);
    for row in rows("object_parts") {
        let name = ObjectName::beat(icecore::id::SessionId(array(session)), 5);
        let header = Header { name, repository: keys.repository(), structure_epoch: number(&row["structure_epoch"]) };
        assert_eq!(to_hex(&header.encode()), text(&row["header"]));
        assert_eq!(keys.sealed_part(&header, number(&row["part"]), &bytes(&row["plaintext"])).unwrap(), bytes(&row["sealed"]));
    }
}

#[test]
fn key_files_and_passphrases() {
    for row in rows("key_files") {
        let key = Key::from_key_file(text(&row["text"]));
        match row["seed"].as_str() {
            Some(seed) => assert!(matches!(key, Ok(Key::KeyFile(found)) if to_hex(found.bytes()) == seed), "{row}"),
            None => assert!(key.is_err(), "{row}"),
        }
    }
    for row in rows("passphrases") {
        let cost = PassphraseCost { memory_kib: number(&row["memory"]), passes: number(&row["passes"]), lanes: number(&row["lanes"]) };
        let seed = primitives::passphrase_seed(&bytes(&row["file"]), array(&row["salt"]), cost).unwrap().unwrap();
        assert_eq!(to_hex(seed.bytes()), text(&row["seed"]), "{row}");
    }
}

#[test]
fn public_keys_and_messages() {
    for row in rows("xwing") {
        assert_eq!(primitives::public_key(&array(&row["seed"])), bytes(&row["public_key"]));
    }
    for row in rows("hpke") {
        let opened =
            primitives::hpke_open(&array(&row["seed"]), &bytes(&row["info"]), &array(&row["encapsulated"]), &bytes(&row["ciphertext"]));
        assert_eq!(opened, from_hex(text(&row["plaintext"])));
    }
}

#[test]
fn the_gear_table() {
    let gear = &KNOWN["gear"];
    let table = primitives::derive("icecore 1 gear table", &bytes(&gear["cutting_key"]), 2048);
    let entry = |index: usize| u64::from_le_bytes(*table[8 * index..].first_chunk().unwrap());
    assert_eq!(value!([entry(0), entry(1), entry(255)]), value!([gear["first"], gear["second"], gear["last"]]));
    assert_eq!(blake3::hash(&table).to_hex().as_str(), text(&gear["hash_of_table"]));
}

#[test]
fn cuts() {
    let cutting_key = array(&KNOWN["gear"]["cutting_key"]);
    for row in rows("cuts") {
        let (min, average, max) = (number(&row["min"]), number(&row["average"]), number(&row["max"]));
        let cutter: Cutter = match number::<u8>(&row["kind"]) {
            1 => ContentCutter::new(min, average, max, &cutting_key).unwrap().into(),
            _ => FixedCutter::new(min).unwrap().into(),
        };
        let mut data = vec![0; number(&row["size"])];
        if let Some((_, input)) = text(&row["input"]).split_once('\'') {
            blake3::Hasher::new().update(input.trim_end_matches('\'').as_bytes()).finalize_xof().fill(&mut data);
        }
        let (mut rest, mut lengths) = (&data[..], Vec::new());
        while let Some(length) = cutter.next_cut(rest, true) {
            lengths.push(length);
            rest = &rest[length..];
        }
        assert_eq!(value!(lengths), row["lengths"], "{} {min} {average} {max}", row["size"]);
    }
}

#[test]
fn sidecars_have_names_that_follow_from_their_objects() {
    for row in rows("sidecars") {
        let object = ObjectName::parse(text(&row["object"])).unwrap();
        assert_eq!(sidecar_of(&object).to_string(), text(&row["sidecar"]), "{row}");
    }
}

#[test]
fn codewords() {
    for row in rows("codewords") {
        let blocks = |field: &str| items(&row[field]).iter().map(bytes).collect::<Vec<_>>();
        let (data, recovery) = (blocks("data"), blocks("recovery"));
        assert_eq!(primitives::recovery_blocks(&data, recovery.len()), Some(recovery.clone()), "{row}");
        // As many of the first blocks are lost as can be.
        let all: Vec<_> = data.iter().chain(&recovery).cloned().collect();
        let lost: Vec<_> = all.iter().enumerate().map(|(at, block)| (at >= recovery.len()).then(|| block.clone())).collect();
        assert_eq!(primitives::missing_blocks(&lost, recovery.len()).as_deref(), Some(&all[..recovery.len()]), "{row}");
    }
}
