//! Any object changed, cut off, exchanged, removed or doubled, at random from a seed: never a panic, never a byte restored that was not
//! backed up, nothing missing in silence, and what cannot be restored scrub has said.

use super::stored::{Chance, Stored, Told, content_of, open, target};
use icecore::ErrorKind;
use icecore::backend::{Backend, BackendExt, MemoryBackend, ObjectKind, ObjectName};
use icecore::check::CheckReport;
use icecore::id::{SessionId, SnapshotId};
use icecore::progress::Silent;
use icecore::repository::Repository;
use icecore::restore::RestoreOptions;
use icecore_tests::folders::Facts;
use std::collections::{BTreeMap, BTreeSet};

/// Repositories that are damaged by each of the tests, each by up to three changes.
const ROUNDS: u64 = 150;

/// What was done to a repository.
#[derive(Debug, Default)]
struct Damage {
    steps: Vec<String>,
    /// Objects that are not what they were, those made up among them.
    touched: BTreeSet<ObjectName>,
    /// Objects that are gone.
    removed: BTreeSet<ObjectName>,
}

impl Damage {
    fn set(&mut self, backend: &MemoryBackend, name: &ObjectName, bytes: Option<&[u8]>) {
        let _ = backend.delete(name);
        match bytes {
            Some(bytes) => backend.put(name, bytes).unwrap(),
            None => drop(self.removed.insert(*name)),
        }
        self.touched.insert(*name);
    }

    /// Whether an object of this kind was touched.
    fn is_of(&self, kind: ObjectKind) -> bool {
        self.touched.iter().any(|name| name.kind() == kind)
    }
}

fn damage(stored: &Stored, backend: &MemoryBackend, chance: &mut Chance) -> Damage {
    let mut done = Damage::default();
    let names: Vec<_> = stored.objects.keys().copied().collect();
    for _ in 0..1 + chance.below(3) {
        let (name, other) = (names[chance.below(names.len())], names[chance.below(names.len())]);
        let (mut bytes, other_bytes) = (stored.objects[&name].clone(), &stored.objects[&other]);
        let at = chance.below(bytes.len());
        let step = match chance.below(8) {
            0 | 1 => {
                bytes[at] ^= 1 << chance.below(8);
                done.set(backend, &name, Some(&bytes));
                format!("flip {name} at {at}")
            }
            2 => {
                bytes.truncate(at);
                done.set(backend, &name, Some(&bytes));
                format!("truncate {name} to {at}")
            }
            3 => {
                let end = bytes.len().min(at + 1 + chance.below(5000));
                bytes[at..end].fill(0);
                done.set(backend, &name, Some(&bytes));
                format!("zeros in {name} from {at} to {end}")
            }
            4 => {
                done.set(backend, &name, None);
                format!("remove {name}")
            }
            5 => {
                done.set(backend, &name, Some(other_bytes));
                done.set(backend, &other, Some(&bytes));
                format!("exchange {name} and {other}")
            }
            6 => {
                let copy = copy_of(&name);
                done.set(backend, &copy, Some(&bytes));
                format!("copy {name} to {copy}")
            }
            _ => {
                bytes.extend_from_slice(&other_bytes[..other_bytes.len().min(1 + at)]);
                done.set(backend, &name, Some(&bytes));
                format!("lengthen {name}")
            }
        };
        done.steps.push(step);
    }
    done
}

/// A name of the same kind that no object has.
fn copy_of(name: &ObjectName) -> ObjectName {
    let id = SessionId([0xcc; 16]);
    let text = match name.kind() {
        ObjectKind::Config | ObjectKind::Epoch => format!("{}/0000000007", name.kind().folder()),
        ObjectKind::Slot | ObjectKind::Beat => format!("{}/{id}/0000000007", name.kind().folder()),
        kind if kind.is_pack() => format!("{}/cc/{id}", kind.folder()),
        kind => format!("{}/{id}", kind.folder()),
    };
    ObjectName::parse(&text).unwrap()
}

/// Whether a restore gave all; it never gives anything else.
fn restores_all(repository: &Repository, id: SnapshotId, expected: &Facts) -> bool {
    let snapshot = match repository.find_snapshot(&id.to_string(), None, None) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let is_told =
                matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Unauthorized);
            assert!(is_told && error.to_string().len() > 20, "{error:?}");
            return false;
        }
    };
    let (place, told) = (target(), Told::default());
    let target = place.path().join("target");
    let summary = repository.restore(&snapshot, &target, &RestoreOptions::default(), &told);
    let found = if target.exists() { content_of(&target) } else { Facts::new() };
    for (name, facts) in &found {
        let right = expected.get(name);
        assert_eq!(Some(facts), right, "{}", String::from_utf8_lossy(name));
    }
    match summary {
        Ok(summary) if summary.items_failed == 0 => {
            assert!(!summary.damaged && found == *expected, "all was said to be right");
            true
        }
        Ok(summary) => {
            assert!(summary.damaged, "{summary:?}");
            let told = told.items();
            // Where a node of the tree is lost, the gap is told, not the names that nobody knows any more.
            let is_gap = told.iter().any(|(_, why)| why.contains("a part of the list of files is damaged"));
            for name in expected.keys().filter(|name| !found.contains_key(*name)) {
                let shown = String::from_utf8_lossy(name);
                assert!(is_gap || told.iter().any(|(item, _)| *item == shown), "{shown} is missing and nobody said so: {told:?}");
            }
            false
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
            false
        }
    }
}

/// Whether anything was found. That a snapshot is suspect says enough only where the end of a session was touched.
fn is_said(report: &CheckReport, done: &Damage) -> bool {
    let is_suspect = || report.notices.iter().any(|notice| notice.contains("suspect"));
    !report.findings.is_empty() || done.is_of(ObjectKind::Closed) && is_suspect()
}

fn round(stored: &Stored, seed: u64) -> &'static str {
    let (backend, mut chance) = (stored.backend(), Chance(seed));
    let done = damage(stored, &backend, &mut chance);
    println!("{seed}: {:?}", done.steps);
    let repository = match open(&backend) {
        Ok(repository) => repository,
        Err(error) => {
            let is_told = matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unauthorized | ErrorKind::Unsupported);
            assert!(is_told && error.kind().ne(&ErrorKind::NoRepository), "{error:?}");
            assert!(done.is_of(ObjectKind::Config) || done.is_of(ObjectKind::Slot), "{error}");
            return "not opened";
        }
    };
    let scrub = repository.scrub(&Silent).unwrap();
    let check = repository.check(&Silent).unwrap();
    assert!(check.findings.is_empty() || !scrub.findings.is_empty(), "check found what scrub did not: {check:#?}");
    for name in done.touched.difference(&done.removed) {
        let is_named = scrub.findings.iter().any(|finding| finding.object == Some(*name));
        let is_changed = stored.objects.get(name) != backend.get(name, u64::MAX).ok().as_ref();
        assert!(is_named || !is_changed, "{name} is not named: {:#?}", scrub.findings);
    }
    let mut all = true;
    for (id, expected) in &stored.snapshots {
        let is_whole = restores_all(&repository, *id, expected);
        assert!(is_whole || is_said(&scrub, &done), "snapshot {id} cannot be restored, and scrub did not say so");
        all &= is_whole;
    }
    // An older snapshot takes the place of the latest one only where nothing is left that says that there was one.
    let (last, _) = stored.snapshots.last().unwrap();
    match repository.find_snapshot("latest", None, None) {
        Ok(latest) if latest.id != *last => {
            assert!(done.touched.iter().any(|name| name.kind() == ObjectKind::Closed), "latest fell back");
        }
        _ => {}
    }
    if all { "all restored" } else { "some lost" }
}

fn rounds(start: u64) {
    let stored = Stored::new();
    let kinds: BTreeSet<_> = stored.objects.keys().map(ObjectName::kind).collect();
    assert!(kinds.len() >= 8, "{kinds:?}");
    let mut outcomes = BTreeMap::<_, u32>::new();
    for seed in start..start + ROUNDS {
        *outcomes.entry(round(&stored, seed)).or_default() += 1;
    }
    println!("{outcomes:?}");
    assert!(outcomes.len() == 3 && outcomes.values().all(|count| *count > 5), "{outcomes:?}");
}

// Two, since they run side by side.
#[test]
fn whatever_is_damaged_what_is_restored_is_right_and_the_rest_is_told() {
    rounds(0);
}

#[test]
fn whatever_else_is_damaged_what_is_restored_is_right_and_the_rest_is_told() {
    rounds(1000);
}
