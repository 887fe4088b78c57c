//! Makes a golden repository: `cargo run -p icecore-tests --bin make_golden -- FOLDER [collected|parity|held|delta|delta-tree|tiered]`.
//!
//! Done once for each form of the format; what is made is committed and never edited. Seeded: the same build makes the same bytes; another one may
//! draw its random names in another order. FOLDER gets `repository/`, `passphrase` and `expected`, which lists the content of each snapshot. A `collected` one is what garbage
//! collection leaves: an epoch, the marker of a forgotten snapshot, frames that were made anew, and relocations that lead to them.
//! One with `parity` has a sidecar beside every object, a `held` one a legal hold, a lock, and a hold that was released.
//! Of one with `delta` the second state is compressed against the first, which is forgotten and collected; of one with `delta-tree` the tree is: all files got
//! new times. A `tiered` one has a folder `tier/`, in which the packs lie that only older snapshots need.

use icecore::backend::LocalBackend;
use icecore::backup::BackupOptions;
use icecore::format::config::CutMethod;
use icecore::gc::GcOptions;
use icecore::id::SnapshotId;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, LockEnd, Repository, Settings};
use icecore::runtime::{Runtime, Timestamp};
use icecore::source::{Roots, SourceOptions};
use icecore::tiers::{TierBody, TierPolicy};
use icecore_tests::folders;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use std::{env, fs};

const PASSPHRASE: &str = "a golden passphrase";
/// 2026-11-24T12:00:00Z
const NOW: Timestamp = Timestamp { seconds: 1_795_521_600, nanoseconds: 0 };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("name the folder to make")?);
    let form = env::args().nth(2);
    let (is_collected, has_parity, is_held, has_delta) = match form.as_deref() {
        None => (false, false, false, false),
        Some("collected") => (true, false, false, false),
        Some("parity") => (false, true, false, false),
        Some("held") => (false, false, true, false),
        Some("delta" | "delta-tree") => (false, false, false, true),
        Some("tiered") => (false, false, false, false),
        Some(other) => {
            return Err(format!("`{other}`: only `collected`, `parity`, `held`, `delta`, `delta-tree` and `tiered` are known").into());
        }
    };
    fs::create_dir(&folder)?;
    fs::write(folder.join("passphrase"), format!("{PASSPHRASE}\n"))?;
    let mut options = CreateOptions::default();
    (options.pack_size, options.data_frame_size, options.meta_frame_size) = (64 << 10, 32 << 10, 8 << 10);
    if is_collected {
        // Many chunks in a frame, so that it can be used in part.
        options.data_frame_size = 8 << 10;
        options.cut = CutMethod::Content { min: 512, average: 1024, max: 4096 };
    }
    if has_parity {
        (options.pack_size, options.parity_percent) = (1 << 20, 3);
    }
    let backend = Arc::new(LocalBackend::create(folder.join("repository"))?);
    let key = Key::passphrase(PASSPHRASE)?;
    let cache = tempfile::tempdir()?;
    let settings = Settings::default().with_label("golden").with_tier("cold", folder.join("tier").display().to_string());
    // What a file was before is known from the cache.
    let settings = if has_delta { settings.with_cache(cache.path()) } else { settings };
    let repository = Repository::create(backend, Runtime::seeded(1, NOW, 2), &key, &options, settings)?;
    let expected = match (is_collected, has_parity, is_held, has_delta) {
        (true, ..) => collected(&repository)?,
        (_, true, ..) => protected(&repository)?,
        (_, _, true, _) => held(&repository)?,
        (.., true) if form.as_deref() == Some("delta-tree") => retimed(&repository)?,
        (.., true) => changed(&repository)?,
        _ if form.as_deref() == Some("tiered") => tiered(&repository)?,
        _ => states(&repository)?,
    };
    fs::write(folder.join("expected"), expected)?;
    Ok(())
}

/// Two states of a folder, and a stream.
fn states(repository: &Repository) -> Result<String, Box<dyn std::error::Error>> {
    let mut expected = String::new();
    for state in 0..2 {
        let source = tempfile::tempdir()?;
        folders::fill_small(source.path(), state);
        let roots = Roots::resolve(&[source.path().join(".")])?;
        let mut backup = BackupOptions::new("golden");
        backup.tags = vec!["golden".into(), format!("state-{state}")];
        backup.time = Some(Timestamp { seconds: NOW.seconds + 86_400 * i64::from(state), nanoseconds: 5 });
        let made = repository.backup(&roots, &SourceOptions::default(), &backup, &Silent)?;
        let snapshot = made.snapshot.ok_or("no snapshot was made")?;
        for (name, facts) in folders::describe_portable(source.path()) {
            writeln!(expected, "{snapshot}\t{}\t{facts}", String::from_utf8_lossy(&name))?;
        }
    }
    stream(repository, folders::noise(9, 200_000), &mut expected)?;
    Ok(expected)
}

/// Two streams that have a few chunks here and there in common with a third one, which is forgotten and collected.
fn collected(repository: &Repository) -> Result<String, Box<dyn std::error::Error>> {
    const LENGTH: usize = 60_000;
    const STRETCH: usize = 10_000;
    let common = folders::noise(20, LENGTH);
    let variant = |seed, kept: Range<usize>| {
        let own = folders::noise(seed, LENGTH);
        (0..LENGTH).map(|at| if kept.contains(&(at % STRETCH)) { common[at] } else { own[at] }).collect()
    };
    let forgotten = stream(repository, common.clone(), &mut String::new())?;
    let mut expected = String::new();
    stream(repository, variant(21, 0..2000), &mut expected)?;
    stream(repository, variant(22, 2000..5500), &mut expected)?;
    repository.forget(&[forgotten], &Silent)?;
    let mut options = GcOptions::default();
    options.dead_percent_max = 0;
    let summary = repository.gc(&options, &Silent)?;
    match (summary.epoch, summary.frames_remade, summary.left.packs) {
        (Some(_), 1.., 0) => Ok(expected),
        _ => Err(format!("nothing was made anew: {summary:?}").into()),
    }
}

/// Three states of a stream, which have a part in common; what only the older two need lies in a tier.
fn tiered(repository: &Repository) -> Result<String, Box<dyn std::error::Error>> {
    let common = folders::noise(40, 70_000);
    let mut expected = String::new();
    for state in 0..3 {
        stream(repository, [&folders::noise(41 + state, 90_000)[..], &common].concat(), &mut expected)?;
    }
    let mut tier = TierBody::new("cold", "/the/repository/knows/another/place");
    (tier.is_removable, tier.label, tier.minimum_days) = (true, "the folder beside the repository".into(), 30);
    repository.add_tier(&tier)?;
    let mut policy = TierPolicy::new("cold");
    policy.live_percent_min = 0;
    match repository.tier_apply(&policy, &Silent)? {
        moved if moved.moved.packs > 0 && moved.failed.packs == 0 => Ok(expected),
        other => Err(format!("nothing was moved: {other:?}").into()),
    }
}

/// Backs a folder up; gives the snapshot, and describes it in `expected`.
fn folder(repository: &Repository, source: &Path, state: u8, expected: &mut String) -> Result<SnapshotId, Box<dyn std::error::Error>> {
    let roots = Roots::resolve(&[source.join(".")])?;
    let mut backup = BackupOptions::new("golden");
    backup.time = Some(Timestamp { seconds: NOW.seconds + 86_400 * i64::from(state), nanoseconds: 5 });
    let made = repository.backup(&roots, &SourceOptions::default(), &backup, &Silent)?;
    let snapshot = made.snapshot.ok_or("no snapshot was made")?;
    for (name, facts) in folders::describe_portable(source) {
        writeln!(expected, "{snapshot}\t{}\t{facts}", String::from_utf8_lossy(&name))?;
    }
    Ok(snapshot)
}

/// A folder of which a byte of each file changes. The first state is forgotten; what the second one is compressed against stays.
fn changed(repository: &Repository) -> Result<String, Box<dyn std::error::Error>> {
    let (mut expected, mut states) = (String::new(), Vec::new());
    for state in 0..2 {
        let source = tempfile::tempdir()?;
        for n in 0..6 {
            let mut bytes = folders::noise(40 + n, 9000 + 700 * n as usize);
            bytes[5000] ^= state;
            fs::write(source.path().join(format!("file{n}")), bytes)?;
        }
        expected.clear();
        states.push(folder(repository, source.path(), state, &mut expected)?);
    }
    repository.forget(&states[..1], &Silent)?;
    let summary = repository.gc(&GcOptions::default(), &Silent)?;
    match repository.stats(None, &Silent)?.delta_bytes {
        0 => Err("nothing is compressed against anything".into()),
        _ if summary.left.packs > 0 => Err("something was left".into()),
        _ => Ok(expected),
    }
}

/// A folder of files that get new times and nothing else, so that only the tree changes.
fn retimed(repository: &Repository) -> Result<String, Box<dyn std::error::Error>> {
    let mut expected = String::new();
    let source = tempfile::tempdir()?;
    for n in 0..90 {
        fs::write(source.path().join(format!("file{n:02}")), folders::noise(60 + n, 20 + n as usize))?;
    }
    fs::write(source.path().join("large"), folders::noise(59, 40_000))?;
    for state in 0..2 {
        for file in fs::read_dir(source.path())? {
            let time = UNIX_EPOCH + Duration::from_secs(1_790_000_000 + u64::from(state));
            fs::File::open(file?.path())?.set_modified(time)?;
        }
        folder(repository, source.path(), state, &mut expected)?;
    }
    match repository.stats(None, &Silent)?.delta_bytes {
        0 => Err("the tree is not compressed against what it was".into()),
        _ => Ok(expected),
    }
}

/// A small stream, and one whose first pack is large enough for a code.
fn protected(repository: &Repository) -> Result<String, Box<dyn std::error::Error>> {
    let mut expected = String::new();
    stream(repository, folders::noise(30, 20_000), &mut expected)?;
    stream(repository, folders::noise(31, 1_200_000), &mut expected)?;
    Ok(expected)
}

/// Three streams: under a legal hold, locked, and no longer held.
fn held(repository: &Repository) -> Result<String, Box<dyn std::error::Error>> {
    let mut expected = String::new();
    let mut made = |seed| stream(repository, folders::noise(seed, 20_000), &mut expected);
    let (legal, locked, free) = (made(40)?, made(41)?, made(42)?);
    repository.hold(&[legal, locked], "a golden case")?;
    // 2096-10-02T07:06:40Z
    repository.lock(&[locked], LockEnd::At(Timestamp { seconds: 4_000_000_000, nanoseconds: 0 }), "", &Silent)?;
    let released = repository.hold(&[free], "")?;
    repository.release(released, "closed")?;
    Ok(expected)
}

fn stream(repository: &Repository, content: Vec<u8>, expected: &mut String) -> Result<SnapshotId, Box<dyn std::error::Error>> {
    let (length, hash) = (content.len(), blake3::hash(&content));
    let mut backup = BackupOptions::new("stream");
    backup.time = Some(NOW);
    let made = repository.backup_stream("stream", Box::new(std::io::Cursor::new(content)), &backup, &Silent)?;
    let snapshot = made.snapshot.ok_or("no snapshot was made")?;
    writeln!(expected, "{snapshot}\tstream\tfile of {length} bytes, {hash}")?;
    Ok(snapshot)
}
