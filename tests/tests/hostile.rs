//! What whoever holds the store reads, and a short run of hostile repositories and clients; `src/bin/hostile.rs` runs long ones.

use icecore::backend::{BackendExt, MemoryBackend, ObjectKind, ObjectName};
use icecore::backup::BackupOptions;
use icecore::crypto::Secret;
use icecore::format::config::CutMethod;
use icecore::format::placement::{PlacementBody, TierBody};
use icecore::gc::GcOptions;
use icecore::id::{PlacementId, TierId};
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::runtime::{Runtime, Timestamp};
use icecore::source::{Roots, SourceOptions};
use icecore::testing::{Decoded, Keys, Piece};
use icecore_tests::hostile::{MEMORY_MOST_MIB, Reached, input, memory_most_mib, run};

use std::collections::HashSet;
use std::sync::Arc;

const ROUNDS: u64 = 120;
/// So many bytes of a secret are looked for.
const SHOWN: usize = 16;

#[test]
fn nothing_panics_nothing_leaves_the_target_and_others_lose_nothing() {
    let mut reached = Reached::default();
    for seed in 0..ROUNDS {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&input(seed), &mut reached)));
        assert!(done.is_ok(), "cargo run --release -p icecore-tests --bin hostile -- --seed {seed} --rounds 1");
    }
    let needed = [
        "opened",
        "whole again",
        "scrubbed",
        "scrubbed, damage",
        "restored whole",
        "restored in part",
        "collected",
        "not collected",
        "forgotten as the error says",
        "compared",
        "backed up onto it",
        "repaired",
        "restored with what is not there deleted",
        "a tar stream",
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
        "another domain",
        "what uses up a number",
        "removed",
    ];
    for what in needed {
        assert!(reached.0.get(what).is_some_and(|count| *count > 0), "{what}: never; {reached:?}");
    }
    assert!(memory_most_mib() < MEMORY_MOST_MIB, "{} MiB", memory_most_mib());
}

fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Neither what is backed up, nor what it is called, nor what people say of it, nor the ids of its chunks, in any object of any kind.
#[test]
fn no_object_shows_what_is_stored() {
    let backend = MemoryBackend::new();
    let mut options = CreateOptions::default();
    (options.pack_size, options.data_frame_size, options.meta_frame_size) = (65_536, 16 << 10, 16 << 10);
    options.cut = CutMethod::Content { min: 512, average: 1024, max: 4096 };
    options.parity_percent = 5;
    let runtime = Runtime::seeded(1, Timestamp { seconds: 1_800_000_000, nanoseconds: 0 }, 2);
    let key = Key::KeyFile(Secret::new([5; 32]));
    let made = Repository::create(Arc::new(backend.clone()), runtime, &key, &options, Settings::default()).expect("a repository is made");
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    let mut secret = |what: &str| {
        let text = format!("{what} that nobody may read");
        secrets.push(text.clone().into_bytes());
        text
    };
    let folder = tempfile::tempdir().expect("a folder is made");
    let inner = folder.path().join(secret("folder"));
    std::fs::create_dir(&inner).expect("a folder is made");
    std::fs::write(inner.join(secret("file")), noise(1, 100_000)).expect("a file is written");
    std::fs::write(inner.join("text"), secret("small content")).expect("a file is written");
    std::os::unix::fs::symlink(secret("target of a link"), inner.join(secret("link"))).expect("a link is made");
    let mut options = BackupOptions::new(secret("series"));
    (options.host, options.program, options.tags) = (secret("host"), secret("program"), vec![secret("tag")]);
    let roots = Roots::resolve(&[folder.path().join(".")]).expect("it is there");
    made.backup(&roots, &SourceOptions::default(), &options, &Silent).expect("a folder is stored");
    let (name, series, mut content) = (secret("stream"), secret("series of a stream"), noise(2, 600_000));
    let stream = |content: &[u8]| {
        let source = Box::new(std::io::Cursor::new(content.to_vec()));
        let made = made.backup_stream(&name, source, &BackupOptions::new(&series), &Silent).expect("a stream is stored");
        made.snapshot.expect("there is a snapshot")
    };
    let first = stream(&content);
    // Of each frame a little is needed still, which is made anew.
    content
        .chunks_exact_mut(16_000)
        .zip(noise(3, 600_000).chunks(16_000))
        .for_each(|(part, new)| part[4_000..].copy_from_slice(&new[4_000..]));
    let second = stream(&content);
    content.iter_mut().step_by(50_000).for_each(|byte| *byte ^= 1);
    stream(&content);
    made.hold(&[second], &secret("note")).expect("it is held");
    made.forget(&[first], &Silent).expect("it is forgotten");
    let mut collecting = GcOptions::default();
    collecting.dead_percent_max = 0;
    made.gc(&collecting, &Silent).expect("it is collected");
    let tier = TierBody { tier: TierId([2; 16]), label: secret("label"), ..TierBody::new(secret("tier"), secret("address")) };
    let (keys, name) = (Keys::of_repository(&made), ObjectName::placement(PlacementId([1; 16])));
    let tier = keys.seal(name, PlacementBody::Tier(Box::new(tier)).encode()).expect("it is sealed");
    backend.put(&name, &tier).expect("memory takes it");

    let objects: Vec<_> = ObjectKind::ALL.into_iter().flat_map(|kind| backend.list_sorted(kind).expect("memory lists")).collect();
    let read = |name: &ObjectName| backend.get(name, u64::MAX).expect("it is there");
    let mut needles: HashSet<[u8; SHOWN]> = secrets.iter().filter_map(|secret| secret.first_chunk().copied()).collect();
    assert_eq!(needles.len(), secrets.len());
    for content in [noise(1, 100_000), noise(2, 600_000)] {
        needles.extend(content.chunks(500).filter_map(|part| part.first_chunk().copied()));
    }
    let before = needles.len();
    for name in objects.iter().map(|object| object.name).filter(|name| name.kind().is_pack()) {
        let piece = Piece::Object { name, before: None, seed: None };
        let Ok(Decoded::Pack(tables)) = keys.decode(&piece, &read(&name)).map(|reading| reading.value) else { panic!("{name}: no pack") };
        needles.extend(tables.contents.frames.iter().flat_map(|frame| &frame.chunks).filter_map(|id| id.0.first_chunk().copied()));
    }
    assert!(needles.len() > before + 200, "chunk ids");
    let kinds: HashSet<_> = objects.iter().map(|object| object.name.kind()).collect();
    for kind in [ObjectKind::Index, ObjectKind::Epoch, ObjectKind::Relocation, ObjectKind::Hold, ObjectKind::Withdrawn, ObjectKind::Parity]
    {
        assert!(kinds.contains(&kind), "{kind:?}");
    }
    for name in objects.iter().map(|object| object.name) {
        let bytes = read(&name);
        let shown = |needles: &HashSet<[u8; SHOWN]>| bytes.array_windows().any(|window| needles.contains(window));
        assert!(!shown(&needles), "{name}");
        // What is in clear is found so.
        assert!(shown(&HashSet::from([name.id()])), "{name}");
    }
}
