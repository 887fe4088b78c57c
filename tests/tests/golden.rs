//! Golden repositories: what was once written is read for ever, by the engine and by the second reader.

use icecore::backend::{BackendExt, LocalBackend, ObjectKind};
use icecore::progress::Silent;
use icecore::repository::{Key, Repository, Settings};
use icecore::restore::RestoreOptions;
use icecore::runtime::Runtime;
use icecore_tests::{folders, reader};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Every folder below `format-spec/golden` must be here: none is forgotten, none is added in silence.
const GOLDEN: [&str; 7] = [
    "version-1",
    "version-1-collected",
    "version-1-delta",
    "version-1-delta-tree",
    "version-1-held",
    "version-1-parity",
    "version-1-tiered",
];

fn golden(name: &str) -> PathBuf {
    reader::project().join("format-spec/golden").join(name)
}

/// Of each snapshot, what it holds.
fn expected(folder: &Path) -> BTreeMap<String, folders::Facts> {
    let mut snapshots = BTreeMap::<String, folders::Facts>::new();
    for line in fs::read_to_string(folder.join("expected")).unwrap().lines() {
        let [snapshot, name, facts] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        snapshots.entry(snapshot.into()).or_default().insert(name.into(), facts.into());
    }
    snapshots
}

/// As `describe_portable`, with names as `expected` has them.
fn found(folder: &Path, is_stream: bool) -> folders::Facts {
    let facts = folders::describe_portable(folder).into_iter();
    let named = facts.map(|(name, facts)| (String::from_utf8_lossy(&name).into_owned().into_bytes(), facts));
    // A stream's snapshot has no entry for the folder that it is restored into.
    named.filter(|(name, _)| !is_stream || !name.is_empty()).collect()
}

#[test]
fn all_golden_repositories_are_known() {
    let mut names: Vec<_> = fs::read_dir(golden("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, GOLDEN);
}

#[test]
fn the_collected_one_holds_what_collections_leave() {
    for kind in ["epochs", "withdrawn", "relocations"] {
        let objects = fs::read_dir(golden("version-1-collected/repository").join(kind)).unwrap().count();
        assert!(objects > 0, "{kind}");
    }
}

#[test]
fn the_tiered_one_has_packs_in_its_tier_only() {
    let folder = golden("version-1-tiered");
    let packs = |place: &str| {
        let packs = LocalBackend::open_folder(folder.join(place)).unwrap().list_sorted(ObjectKind::DataPack).unwrap();
        packs.into_iter().map(|object| object.name).collect::<Vec<_>>()
    };
    let (warm, cold) = (packs("repository"), packs("tier"));
    assert!(!cold.is_empty() && !warm.is_empty() && cold.iter().all(|name| !warm.contains(name)));
}

/// What is held cannot be forgotten, and a marker against a hold is believed by neither reader.
#[test]
fn what_is_held_stays_for_both_readers() {
    let folder = golden("version-1-held");
    let copy = tempfile::tempdir().unwrap();
    reader::run(Command::new("cp").arg("-r").arg(folder.join("repository")).arg(copy.path()));
    let place = copy.path().join("repository");
    let passphrase = folder.join("passphrase");
    let key = Key::passphrase_from_file(&fs::read(&passphrase).unwrap()).unwrap();
    let open = || Repository::open(Arc::new(LocalBackend::open(&place).unwrap()), Runtime::system(2), &key, Settings::default()).unwrap();
    let repository = open();
    let (mut held, mut free) = (Vec::new(), Vec::new());
    for snapshot in repository.snapshots().unwrap() {
        if snapshot.held.is_some() { held.push(snapshot.id) } else { free.push(snapshot.id) }
    }
    assert_eq!((held.len(), free.len()), (2, 1));
    for id in &held {
        assert_eq!(repository.forget(&[*id], &Silent).unwrap_err().kind(), icecore::ErrorKind::Held);
    }
    // What was free and is forgotten, and then held by its hold without the release.
    repository.forget(&free, &Silent).unwrap();
    let shown = || reader::read(&place, ["--password-file", passphrase.to_str().unwrap()], &["snapshots"]).stdout;
    let is_shown = |shown: Vec<u8>| String::from_utf8(shown).unwrap().contains(&free[0].to_string());
    assert!(!is_shown(shown()) && repository.snapshots().unwrap().len() == 2);
    let ids: Vec<_> = repository.holds().unwrap().0.iter().map(|hold| hold.id.to_string()).collect();
    for entry in fs::read_dir(place.join("holds")).unwrap() {
        let entry = entry.unwrap();
        if !ids.contains(&entry.file_name().into_string().unwrap()) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    assert!(is_shown(shown()) && open().snapshots_and_problems().unwrap().0.len() == 3);
}

/// Every object, damaged or gone, comes back byte for byte: by the engine, and by the second reader.
#[test]
fn the_one_with_parity_is_healed_by_both_readers() {
    let folder = golden("version-1-parity");
    let copy = tempfile::tempdir().unwrap();
    reader::run(Command::new("cp").arg("-r").arg(folder.join("repository")).arg(copy.path()));
    let place = copy.path().join("repository");
    let passphrase = folder.join("passphrase");
    let key = Key::passphrase_from_file(&fs::read(&passphrase).unwrap()).unwrap();
    let backend = Arc::new(LocalBackend::open(&place).unwrap());
    let repository = Repository::open(backend.clone(), Runtime::system(2), &key, Settings::default()).unwrap();
    let mut healed = 0;
    for kind in ObjectKind::ALL.into_iter().filter(|kind| *kind != ObjectKind::Parity) {
        for object in backend.list_sorted(kind).unwrap() {
            let path = place.join(object.name.to_string());
            let whole = fs::read(&path).unwrap();
            let mut damaged = whole.clone();
            let at = damaged.len() / 3;
            damaged[at..at + 50].fill(9);
            fs::write(&path, &damaged).unwrap();
            // Without config or slot it opens nothing.
            if !matches!(kind, ObjectKind::Config | ObjectKind::Slot) {
                let to = copy.path().join("healed");
                let heal = ["heal", &object.name.to_string(), "--to", to.to_str().unwrap()];
                let output = reader::read(&place, ["--password-file", passphrase.to_str().unwrap()], &heal);
                assert!(output.status.success(), "{}: {}", object.name, String::from_utf8_lossy(&output.stderr));
                assert!(fs::read(&to).unwrap() == whole, "{}", object.name);
            }
            let report = repository.scrub_and_heal(&Silent).unwrap();
            assert!(report.findings.iter().all(|finding| finding.healed && finding.object == Some(object.name)), "{report:#?}");
            assert!(!report.findings.is_empty() && fs::read(&path).unwrap() == whole, "{}", object.name);
            healed += 1;
        }
    }
    assert!(healed > 10, "{healed}");
    assert!(repository.scrub(&Silent).unwrap().findings.is_empty());
}

#[test]
fn the_engine_reads_them() {
    for name in GOLDEN {
        let folder = golden(name);
        let key = Key::passphrase_from_file(&fs::read(folder.join("passphrase")).unwrap()).unwrap();
        // A copy, since a restore publishes its session.
        let copy = tempfile::tempdir().unwrap();
        reader::run(Command::new("cp").arg("-r").arg(folder.join("repository")).arg(copy.path()));
        let backend = Arc::new(LocalBackend::open(copy.path().join("repository")).unwrap());
        let settings = Settings::default().with_tier("cold", folder.join("tier").display().to_string());
        let repository = Repository::open(backend, Runtime::system(2), &key, settings).unwrap();
        let report = repository.scrub(&Silent).unwrap();
        assert!(report.findings.is_empty(), "{name}: {:#?}", report.findings);
        let mut expected = expected(&folder);
        for snapshot in repository.snapshots().unwrap() {
            let target = tempfile::tempdir().unwrap();
            let summary = repository.restore(&snapshot, target.path(), &RestoreOptions::default(), &Silent).unwrap();
            assert_eq!(summary.items_failed, 0, "{name}");
            let facts = expected.remove(&snapshot.id.to_string()).expect("a snapshot that is expected");
            assert_eq!(found(target.path(), snapshot.body.series == "stream"), facts, "{name}: {}", snapshot.id);
        }
        assert!(expected.is_empty(), "{name}: snapshots are missing: {expected:?}");
    }
}

#[test]
fn the_second_reader_reads_them() {
    for name in GOLDEN {
        let folder = golden(name);
        let passphrase = folder.join("passphrase");
        let read = |arguments: &[&str]| {
            let tier = format!("cold={}", folder.join("tier").display());
            let arguments = [&["--tier", &tier], arguments].concat();
            let output = reader::read(&folder.join("repository"), ["--password-file", passphrase.to_str().unwrap()], &arguments);
            assert!(output.status.success(), "{name}: {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        read(&["verify"]);
        for (snapshot, facts) in expected(&folder) {
            let target = tempfile::tempdir().unwrap();
            read(&["restore", &snapshot, "--target", target.path().to_str().unwrap()]);
            assert_eq!(found(target.path(), facts.contains_key(&b"stream"[..])), facts, "{name}: {snapshot}");
        }
    }
}
