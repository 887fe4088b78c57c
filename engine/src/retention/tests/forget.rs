//! Forgetting in a repository in memory: who may, what is left, and a stop at every step.

use crate::backend::testing::{FaultyBackend, HookedBackend, Operation};
use crate::backend::{Backend, BackendExt, MemoryBackend, ObjectKind, ObjectName};
use crate::backup::BackupOptions;
use crate::crypto::{PassphraseCost, Secret, Signer};
use crate::error::{Error, ErrorKind};
use crate::format::config::CutMethod;
use crate::format::object::Author;
use crate::format::session::{ClosedBody, SessionKind, WithdrawnBody, WithdrawnReason};
use crate::format::{Certificate, Roles};
use crate::id::{CredentialId, DomainId, SessionId, SnapshotId};
use crate::progress::{Cancel, Silent};
use crate::repository::{CreateOptions, Key, Repository, Session, Settings, SnapshotState};
use crate::retention::{Civil, KeepReason, Policy, SnapshotFilter, Verdict};
use crate::runtime::{Runtime, Timestamp};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };

pub(super) struct Fixture {
    pub(super) backend: MemoryBackend,
    pub(super) repository: Repository,
}

impl Fixture {
    fn new() -> Self {
        let options = CreateOptions {
            pack_size: 64 << 10,
            data_frame_size: 16 << 10,
            meta_frame_size: 4 << 10,
            cut: CutMethod::Content { min: 512, average: 1024, max: 4096 },
            passphrase_cost: PassphraseCost::TEST,
            parity_percent: 0,
        };
        let backend = MemoryBackend::new();
        let key = Key::passphrase("correct horse").unwrap();
        let runtime = Runtime::seeded(11, NOW, 2);
        let repository = Repository::create(Arc::new(backend.clone()), runtime, &key, &options, Settings::default()).unwrap();
        Self { backend, repository }
    }

    /// A fixture and snapshots of one series, one an hour; each shares half of its content with the one before.
    pub(super) fn with_snapshots(count: u64) -> (Self, Vec<SnapshotId>) {
        let fixture = Self::new();
        let ids = (0..count).map(|number| back_up(&fixture.repository, "series", number, &[])).collect();
        (fixture, ids)
    }

    /// The same repository in the hands of another client, with these roles.
    pub(super) fn other_client(&self, roles: Roles) -> Repository {
        let mut credential = (*self.repository.credential).clone();
        let admin = Signer::new(credential.admin_seed.as_ref().unwrap());
        credential.signing_seed = Secret::new([70 + roles.bits(); 32]);
        let signer = Signer::new(&credential.signing_seed);
        let (id, name) = (self.repository.id, CredentialId([70 + roles.bits(); 16]));
        let certificate = Certificate::sign(&admin, &id, 1, roles, DomainId([0; 16]), name, signer.verifying_key());
        credential.author = Author { certificate, signer };
        credential.admin_seed = None;
        if !roles.contain(Roles::RESTORE) {
            credential.restore_keys.clear();
        }
        let (backend, runtime) = (Arc::new(self.backend.clone()), Runtime::seeded(u64::from(roles.bits()), NOW, 2));
        Repository::assemble(backend, runtime, credential, self.repository.config.clone(), id, 1, Settings::default())
    }

    /// The same client over another backend.
    pub(super) fn over(&self, backend: Arc<dyn Backend>) -> Repository {
        let credential = (*self.repository.credential).clone();
        let (runtime, config) = (Runtime::seeded(12, NOW, 1), self.repository.config.clone());
        Repository::assemble(backend, runtime, credential, config, self.repository.id, 1, Settings::default())
    }

    pub(super) fn objects(&self) -> BTreeMap<ObjectName, Vec<u8>> {
        let kinds = ObjectKind::ALL.into_iter().flat_map(|kind| self.backend.list_sorted(kind).unwrap());
        kinds.map(|object| (object.name, self.backend.get(&object.name, u64::MAX).unwrap())).collect()
    }

    /// Makes the backend hold these objects and no others.
    pub(super) fn reset(&self, objects: &BTreeMap<ObjectName, Vec<u8>>) {
        self.objects().keys().for_each(|name| self.backend.delete(name).unwrap());
        objects.iter().for_each(|(name, bytes)| self.backend.put(name, bytes).unwrap());
    }

    fn session_of(&self, id: SnapshotId) -> SessionId {
        self.repository.read_snapshot_header(id).unwrap().record.id()
    }

    pub(super) fn shown(&self) -> Vec<SnapshotId> {
        self.repository.snapshots().unwrap().iter().map(|snapshot| snapshot.id).collect()
    }

    fn is_there(&self, name: ObjectName) -> bool {
        self.backend.size(&name).is_ok()
    }

    /// Nothing is damaged; the notices.
    #[track_caller]
    pub(super) fn notices(&self) -> Vec<String> {
        let report = self.repository.check(&Silent).unwrap();
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        report.notices
    }
}

pub(super) fn back_up(repository: &Repository, series: &str, hour: u64, tags: &[&str]) -> SnapshotId {
    let mut content = vec![0; 80 << 10];
    let mut random = blake3::Hasher::new().update(b"content").finalize_xof();
    random.set_position(hour * (40 << 10));
    random.fill(&mut content);
    let mut options = BackupOptions::new(series);
    options.time = Some(Timestamp { seconds: NOW.seconds - 1_000_000 + 3_600 * hour as i64, nanoseconds: 0 });
    options.tags = tags.iter().map(|&tag| tag.into()).collect();
    let stream = Box::new(std::io::Cursor::new(content));
    repository.backup_stream("name", stream, &options, &Silent).unwrap().snapshot.unwrap()
}

/// A calendar that will do where only the order matters.
fn calendar(time: Timestamp) -> Civil {
    Civil { year: (time.seconds / 86_400) as i32, month: 1, day: 1, hour: 0, iso_week_year: 0, iso_week: 1 }
}

fn keep_last(count: u32) -> Policy {
    Policy { keep_last: count, ..Policy::default() }
}

pub(super) fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn forgetting_writes_a_marker_and_nothing_else() {
    let (fixture, ids) = Fixture::with_snapshots(3);
    let before = fixture.objects();
    let summary = fixture.repository.forget(&[ids[1], ids[1]], &Silent).unwrap();
    assert_eq!((summary.forgotten, summary.withdrawn_before), (1, 0));
    assert_eq!(fixture.shown(), [ids[0], ids[2]]);
    assert_eq!(fixture.notices().len(), 1);
    let mut after = fixture.objects();
    assert!(after.remove(&ObjectName::withdrawn(ids[1])).is_some() && after == before);
    // Again is no failure and changes nothing.
    let summary = fixture.repository.forget(&ids[1..2], &Silent).unwrap();
    assert_eq!((summary.forgotten, summary.withdrawn_before), (0, 1));
    assert_eq!(fixture.objects().len(), before.len() + 1);
    // The next backup goes on as if nothing had been.
    let next = back_up(&fixture.repository, "series", 3, &[]);
    assert_eq!(fixture.shown(), [ids[0], ids[2], next]);
}

#[test]
fn a_stop_at_any_step_leaves_a_sound_repository_and_the_next_run_finishes() {
    let (fixture, ids) = Fixture::with_snapshots(3);
    let mut first_two = ids[..2].to_vec();
    first_two.sort_unstable();
    let before = fixture.objects();
    fixture.repository.forget(&first_two, &Silent).unwrap();
    let done: Vec<_> = fixture.objects().into_keys().collect();
    let operations =
        [Operation::Create, Operation::Write, Operation::Finish, Operation::GetRange, Operation::Size, Operation::List, Operation::Delete];
    let mut half_done = 0;
    for (operation, loses_answer) in operations.into_iter().flat_map(|operation| [(operation, false), (operation, true)]) {
        for nth in 1.. {
            fixture.reset(&before);
            let faulty = Arc::new(FaultyBackend::new(Arc::new(fixture.backend.clone()), 1));
            let repository = fixture.over(faulty.clone());
            match loses_answer {
                true => faulty.lose_answer(operation, nth),
                false => faulty.fail(operation, nth),
            }
            let Err(error) = repository.forget(&first_two, &Silent) else { break };
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{operation:?} {nth}: {error}");
            // Each is there or withdrawn, in their order, and nothing is missed.
            let shown: BTreeSet<_> = fixture.shown().into_iter().collect();
            let stay = |from: usize| first_two[from..].iter().copied().chain([ids[2]]).collect::<BTreeSet<_>>();
            assert!((0..=2).any(|from| shown == stay(from)), "{operation:?} {nth}: {shown:?}");
            half_done += u64::from(shown == stay(1));
            fixture.notices();
            repository.forget(&first_two, &Silent).unwrap();
            assert_eq!(fixture.shown(), ids[2..]);
            assert_eq!(fixture.objects().into_keys().collect::<Vec<_>>(), done, "{operation:?} {nth}");
        }
    }
    // The answer to the first marker was lost, or the second could not be begun, written or finished.
    assert!(half_done >= 4, "{half_done}");
}

#[test]
fn nothing_is_forgotten_where_one_is_unknown_or_the_caller_stops() {
    let (fixture, ids) = Fixture::with_snapshots(1);
    let before = fixture.objects();
    assert_eq!(kind(fixture.repository.forget(&[ids[0], SnapshotId([9; 16])], &Silent)), ErrorKind::NotFound);
    let cancel = Cancel::default();
    cancel.cancel();
    assert_eq!(kind(fixture.repository.forget(&ids, &cancel)), ErrorKind::Cancelled);
    assert!(fixture.objects() == before);
}

#[test]
fn maintain_alone_forgets() {
    let (fixture, ids) = Fixture::with_snapshots(1);
    let client = fixture.other_client(Roles::BACKUP);
    let own = back_up(&client, "series", 1, &[]);
    let before = fixture.objects();
    for roles in [Roles::BACKUP, Roles::RESTORE, Roles::BACKUP.and(Roles::RESTORE)] {
        let client = fixture.other_client(roles);
        assert_eq!(kind(client.forget(&[own], &Silent)), ErrorKind::Unauthorized);
        assert_eq!(kind(client.plan_forget(&keep_last(1), &SnapshotFilter::default(), &calendar)), ErrorKind::Unauthorized);
    }
    assert!(fixture.objects() == before);
    let maintainer = fixture.other_client(Roles::MAINTAIN);
    maintainer.forget(&[own, ids[0]], &Silent).unwrap();
    maintainer.forget(&[own, ids[0]], &Silent).unwrap();
    assert!(fixture.shown().is_empty());
    fixture.notices();
    // Garbage collection deletes the snapshot first.
    fixture.backend.delete(&ObjectName::snapshot(own)).unwrap();
    assert_eq!(maintainer.forget(&[own], &Silent).unwrap().withdrawn_before, 1);
    fixture.notices();
}

/// Whoever stole a client's credential cannot make away with what the client stored, as long as the store does not delete for him (SESS-5).
#[test]
fn what_a_client_has_finished_it_cannot_take_back() {
    let (fixture, ids) = Fixture::with_snapshots(1);
    let client = fixture.other_client(Roles::BACKUP);
    let own = back_up(&client, "series", 1, &[]);
    let session = fixture.session_of(own);
    let marker = ObjectName::withdrawn(own);
    let body = |reason| WithdrawnBody { session, reason, now: NOW }.encode();
    let closed = fixture.backend.get(&ObjectName::closed(session), u64::MAX).unwrap();
    for reason in [WithdrawnReason::Forgotten, WithdrawnReason::Tombstone, WithdrawnReason::Settled] {
        client.write_sealed(marker, body(reason)).unwrap();
        let (shown, problems) = fixture.repository.snapshots_and_problems().unwrap();
        assert_eq!((shown.len(), problems.len(), problems[0].broken_rule()), (2, 1, Some("SESS-5")), "{problems:?}");
        let report = fixture.repository.check(&Silent).unwrap();
        assert_eq!(report.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Some("SESS-5")]);
        // What it needs stays.
        fixture.repository.gc(&crate::gc::GcOptions::default(), &Silent).unwrap();
        assert!(fixture.repository.restore_to_writer(&shown[1], None, &mut Vec::new(), &Silent).is_ok());
        // A session that has not closed takes back what it published; so a marker that comes first counts until the session closes.
        fixture.backend.delete(&ObjectName::closed(session)).unwrap();
        assert_eq!(fixture.shown(), ids);
        fixture.backend.put(&ObjectName::closed(session), &closed).unwrap();
        assert_eq!(fixture.repository.snapshots_and_problems().unwrap().0.len(), 2);
        fixture.backend.delete(&marker).unwrap();
    }
    // Of one that a collector settled the client's word that it failed stands.
    fixture.backend.delete(&ObjectName::closed(session)).unwrap();
    let settled = ClosedBody { finished: true, now: NOW, snapshots: vec![own] };
    fixture.other_client(Roles::MAINTAIN).write_sealed(ObjectName::closed(session), settled.encode()).unwrap();
    client.write_sealed(marker, body(WithdrawnReason::Tombstone)).unwrap();
    assert_eq!(fixture.shown(), ids);
    fixture.notices();
}

#[test]
fn who_gives_up_a_snapshot_that_was_removed_says_so_and_it_is_missed_no_more() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    fixture.backend.delete(&ObjectName::snapshot(ids[0])).unwrap();
    assert_eq!(kind(fixture.repository.snapshots()), ErrorKind::Damaged);
    assert_eq!(kind(fixture.other_client(Roles::BACKUP).forget(&ids[..1], &Silent)), ErrorKind::Unauthorized);
    fixture.repository.forget(&ids[..1], &Silent).unwrap();
    assert_eq!((fixture.shown(), fixture.notices()), (ids[1..].to_vec(), Vec::new()));
    // Nothing but the marker tells of it once garbage collection was there.
    let closed: Vec<_> = fixture.backend.list_sorted(ObjectKind::Closed).unwrap();
    closed.iter().for_each(|closed| fixture.backend.delete(&closed.name).unwrap());
    assert_eq!(fixture.repository.forget(&ids[..1], &Silent).unwrap().withdrawn_before, 1);
}

#[test]
fn suspect_and_damaged_snapshots_are_forgotten_by_id() {
    let (fixture, ids) = Fixture::with_snapshots(3);
    let session = fixture.session_of(ids[0]);
    fixture.backend.delete(&ObjectName::closed(session)).unwrap();
    let mut bytes = fixture.backend.get(&ObjectName::snapshot(ids[1]), u64::MAX).unwrap();
    bytes[100] ^= 1;
    fixture.backend.delete(&ObjectName::snapshot(ids[1])).unwrap();
    fixture.backend.put(&ObjectName::snapshot(ids[1]), &bytes).unwrap();
    let plan = fixture.repository.plan_forget(&keep_last(1), &SnapshotFilter::default(), &calendar).unwrap();
    assert_eq!((plan.problems.len(), plan.dropped()), (1, Vec::new()));
    assert_eq!(kind(fixture.other_client(Roles::BACKUP).forget(&ids[1..2], &Silent)), ErrorKind::Unauthorized);
    fixture.repository.forget(&ids[..2], &Silent).unwrap();
    assert_eq!(fixture.shown(), ids[2..]);
    // What a backup that was at work says at its end does not bring it back.
    let body = ClosedBody { finished: true, now: NOW, snapshots: vec![ids[0]] };
    fixture.repository.write_sealed(ObjectName::closed(session), body.encode()).unwrap();
    assert_eq!(fixture.shown(), ids[2..]);
}

/// What a thief may leave in the way of garbage collection: nothing but the snapshot's own object says whose it is, and that breaks a rule.
#[test]
fn a_snapshot_that_breaks_a_rule_and_whose_session_nothing_tells_is_forgotten_as_the_error_says() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let thief = fixture.other_client(Roles::BACKUP);
    let (lost, name) = (ids[0], ObjectName::snapshot(ids[0]));
    let closed = ObjectName::closed(fixture.session_of(lost));
    let garbage = thief.credential.author.object(&thief.header(name), b"no snapshot");
    [name, closed].iter().for_each(|name| fixture.backend.delete(name).unwrap());
    fixture.backend.put(&name, &garbage).unwrap();
    let error = fixture.repository.gc(&crate::gc::GcOptions::default(), &Silent).unwrap_err();
    assert!(error.to_string().contains(&format!("icecore forget {lost}")), "{error}");
    fixture.repository.forget(&ids[..1], &Silent).unwrap();
    let marker = fixture.repository.read_sealed(&ObjectName::withdrawn(lost)).unwrap();
    assert_eq!(WithdrawnBody::decode(&marker.plaintext).unwrap().session, WithdrawnBody::SESSION_UNKNOWN);
    // Again is no failure, and nothing stands in the way any more.
    assert_eq!(fixture.repository.forget(&ids[..1], &Silent).unwrap().withdrawn_before, 1);
    for _ in 0..2 {
        fixture.repository.gc(&crate::gc::GcOptions::default(), &Silent).unwrap();
    }
    assert!(!fixture.is_there(name));
    assert_eq!((fixture.shown(), fixture.notices()), (ids[1..].to_vec(), Vec::new()));
}

#[test]
fn a_marker_that_nobody_believes_stands_in_the_way() {
    let (fixture, ids) = Fixture::with_snapshots(1);
    let thief = fixture.other_client(Roles::BACKUP);
    let session = Session::begin(&thief, SessionKind::Writer).unwrap().id();
    let body = WithdrawnBody { session, reason: WithdrawnReason::Forgotten, now: NOW };
    thief.write_sealed(ObjectName::withdrawn(ids[0]), body.encode()).unwrap();
    let error = fixture.repository.forget(&ids, &Silent).unwrap_err();
    assert_eq!((error.kind(), error.broken_rule()), (ErrorKind::Damaged, Some("SESS-3")));
    assert!(fixture.is_there(ObjectName::snapshot(ids[0])));
}

#[test]
fn plans_know_series_tags_signers_and_suspects() {
    let fixture = Fixture::new();
    let own: Vec<_> =
        (0..3).map(|hour| back_up(&fixture.repository, "one", hour, if hour == 0 { &["keep", "x"] } else { &["x"] })).collect();
    let two: Vec<_> = (3..5).map(|hour| back_up(&fixture.repository, "two", hour, &[])).collect();
    let client = fixture.other_client(Roles::BACKUP);
    let theirs: Vec<_> = (5..7).map(|hour| back_up(&client, "one", hour, &[])).collect();
    fixture.backend.delete(&ObjectName::closed(fixture.session_of(own[1]))).unwrap();

    let plan =
        |repository: &Repository, policy: &Policy, filter: &SnapshotFilter| repository.plan_forget(policy, filter, &calendar).unwrap();
    let sorted = |mut ids: Vec<SnapshotId>| {
        ids.sort_unstable();
        ids
    };
    let all = SnapshotFilter::default();
    let full = plan(&fixture.repository, &keep_last(1), &all);
    assert_eq!(sorted(full.dropped()), sorted(vec![own[0], two[0], theirs[0]]));
    assert!(full.problems.is_empty() && full.snapshots.iter().all(|snapshot| snapshot.body.is_some()));
    let suspect = full.snapshots.iter().find(|snapshot| snapshot.state == SnapshotState::Suspect).unwrap();
    assert_eq!((suspect.id, &suspect.verdict), (own[1], &Verdict::Keep(vec![KeepReason::Suspect])));

    let tagged = Policy { keep_tags: vec!["keep".into()], ..keep_last(1) };
    assert_eq!(sorted(plan(&fixture.repository, &tagged, &all).dropped()), sorted(vec![two[0], theirs[0]]));
    let of_two = SnapshotFilter { series: Some("two".into()), tags: Vec::new() };
    assert_eq!(plan(&fixture.repository, &keep_last(1), &of_two).dropped(), [two[0]]);
    let with_x = SnapshotFilter { series: None, tags: vec!["x".into()] };
    assert_eq!(plan(&fixture.repository, &keep_last(1), &with_x).dropped(), [own[0]]);
    assert_eq!(plan(&fixture.repository, &Policy::default(), &all).dropped(), []);
    for (series, tag) in [(Some("tow"), None), (Some("two"), Some("x")), (None, Some("y"))] {
        let filter = SnapshotFilter { series: series.map(Into::into), tags: tag.into_iter().map(Into::into).collect() };
        let error = fixture.repository.plan_forget(&keep_last(1), &filter, &calendar).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(plan(&Fixture::new().repository, &keep_last(1), &filter).snapshots.is_empty(), "where there is nothing, nothing is missed");
    }

    // Without the role restore names are not known, the verdicts are the same.
    let maintainer = plan(&fixture.other_client(Roles::MAINTAIN), &keep_last(1), &all);
    assert_eq!(sorted(maintainer.dropped()), sorted(full.dropped()));
    assert!(maintainer.snapshots.iter().all(|snapshot| snapshot.body.is_none()));

    fixture.repository.forget(&full.dropped(), &Silent).unwrap();
    assert_eq!(plan(&fixture.repository, &keep_last(1), &all).dropped(), []);
}

#[test]
fn ids_are_found_by_their_beginning() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let texts: Vec<_> = ids.iter().map(SnapshotId::to_string).collect();
    assert_eq!(fixture.repository.find_snapshot_ids(&[&texts[1][..6], &texts[0]]).unwrap(), [ids[1], ids[0]]);
    fixture.repository.forget(&ids[..1], &Silent).unwrap();
    assert_eq!(fixture.repository.find_snapshot_ids(&[&texts[0][..6]]).unwrap(), ids[..1]);
    assert_eq!(kind(fixture.repository.find_snapshot_ids(&["0000000000"])), ErrorKind::NotFound);
    assert_eq!(kind(fixture.repository.find_snapshot_ids(&["latest"])), ErrorKind::Invalid);
}

#[test]
fn what_forgetting_frees_is_what_nobody_else_needs() {
    let (fixture, ids) = Fixture::with_snapshots(3);
    let freed = |ids: &[SnapshotId]| fixture.repository.stats_if_forgotten(ids, &Silent).unwrap();
    assert_eq!(freed(&[]).bytes + freed(&[]).frames + freed(&[]).snapshots, 0);
    // Each holds 80 KiB and shares 40 KiB with each of its neighbours. What is new in the last one is its own.
    let each: Vec<_> = ids.iter().map(|id| freed(&[*id])).collect();
    let own = |n: usize| each[n].bytes + each[n].bytes_in_part;
    assert!((30 << 10..60 << 10).contains(&own(0)) && (30 << 10..60 << 10).contains(&own(2)) && own(1) < 20 << 10, "{each:?}");
    // Two neighbours free what they share with nobody else: more than each of them alone.
    let pair = freed(&ids[1..]);
    assert_eq!(pair.snapshots, 2);
    assert!(pair.bytes >= each[1].bytes + each[2].bytes + (20 << 10), "{pair:?}");
    // All of them free all data and meta frames.
    let all = freed(&ids);
    let stored: u64 = fixture.repository.snapshots().unwrap().iter().map(|snapshot| snapshot.header.new_bytes).sum();
    assert_eq!(all.bytes_in_part, 0);
    assert!(all.bytes <= stored && all.bytes > 150 << 10 && stored - all.bytes < 8 << 10, "{all:?} {stored}");
    assert_eq!(fixture.other_client(Roles::MAINTAIN).stats_if_forgotten(&ids, &Silent).unwrap(), all);
    // Once one is forgotten, what is left of the others is theirs alone.
    fixture.repository.forget(&ids[..1], &Silent).unwrap();
    let rest = freed(&ids[1..]);
    assert!(rest.bytes > pair.bytes && rest.bytes_in_part == 0, "{rest:?} {pair:?}");
    assert_eq!(freed(&ids), rest);
    assert_eq!(kind(fixture.repository.stats_if_forgotten(&[SnapshotId([9; 16])], &Silent)), ErrorKind::NotFound);
}

/// Whoever forgets looks each day. What a stolen key has made since the last look counts as made since, whatever it says.
#[test]
fn false_times_of_a_stolen_key_are_bounded_by_what_was_seen() {
    let (fixture, _) = Fixture::with_snapshots(0);
    let folder = tempfile::tempdir().unwrap();
    let at = |day: i64, second: i64| Timestamp { seconds: (NOW.seconds / 86_400 + day) * 86_400 + second, nanoseconds: 0 };
    let keeper = |day: i64, sightings: &std::path::Path| {
        let credential = (*fixture.repository.credential).clone();
        let runtime = Runtime::seeded(1_000 + day as u64, at(day, 50_000), 1);
        let (config, settings) = (fixture.repository.config.clone(), Settings::default().with_sightings(sightings));
        Repository::assemble(Arc::new(fixture.backend.clone()), runtime, credential, config, fixture.repository.id, 1, settings)
    };
    let dropped = |keeper: &Repository, policy: &Policy| -> BTreeSet<_> {
        let plan = keeper.plan_forget(policy, &SnapshotFilter::default(), &calendar).unwrap();
        plan.dropped().into_iter().collect()
    };
    let policies = [keep_last(5), Policy { keep_daily: 5, ..Policy::default() }];
    let machine = fixture.other_client(Roles::BACKUP);
    let back_up = |time: Timestamp| {
        let options = BackupOptions { time: Some(time), ..BackupOptions::new("series") };
        let source = Box::new(&b"content"[..]);
        machine.backup_stream("name", source, &options, &Silent).unwrap().snapshot.unwrap()
    };
    let mut good = Vec::new();
    for day in 0..6 {
        good.push(back_up(at(day, 10_000)));
        for policy in &policies {
            let dropped = dropped(&keeper(day, folder.path()), policy);
            assert_eq!(dropped, good.iter().copied().take((day as usize + 1).saturating_sub(5)).collect());
        }
    }
    // A thief: later on each of the days that were, in the future, and many of today.
    let false_times = (0..6).map(|day| at(day, 80_000)).chain((0..8).flat_map(|n| [at(6 + n, 60_000), at(6, 1_000 * n)]));
    assert_eq!(false_times.map(back_up).collect::<BTreeSet<_>>().len(), 22);
    for policy in &policies {
        let seeing = dropped(&keeper(6, folder.path()), policy);
        // He can say that it was later on the day of the last look, and not before.
        assert!(good[2..5].iter().all(|id| !seeing.contains(id)), "{policy:?}");
        // Who never looked before has nothing but the times to go by, of which those in the future do no harm.
        let nowhere = tempfile::tempdir().unwrap();
        let blind = dropped(&keeper(6, nowhere.path()), policy);
        assert!(good[2..5].iter().any(|id| blind.contains(id)), "{policy:?}");
    }
}

#[test]
fn what_is_published_while_others_are_listed_is_not_missed() {
    let (fixture, ids) = Fixture::with_snapshots(1);
    let other = Mutex::new(Some(fixture.over(Arc::new(fixture.backend.clone()))));
    // After the snapshots were listed, and before the ends of sessions are.
    let lists = fixture.over(Arc::new(HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| {
        if call.kind == ObjectKind::Closed && call.name.is_none() && !call.is_done {
            let other = other.lock().take();
            if let Some(other) = other {
                back_up(&other, "series", 5, &[]);
            }
        }
        Ok(())
    })));
    let listing = lists.list_snapshots().unwrap();
    assert_eq!((listing.snapshots.len(), listing.missing()), (2, Vec::new()));
    assert!(listing.headers().count() == 2 && listing.snapshots.contains(&ids[0]));
}
