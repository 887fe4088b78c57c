//! Rotations that stop at any write, and that meet other changes of keys at any write.

use super::*;

/// All of these keys open the repository, hold the keys in force, and agree on them.
fn assert_all_in(backend: &MemoryBackend, keys: &[u8], what: &str) {
    let all: Vec<_> =
        keys.iter().map(|n| try_open(backend.clone(), &key(*n)).unwrap_or_else(|error| panic!("{what}: key {n}: {error}"))).collect();
    for repository in &all {
        let structure_key = repository.structure_key().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(structure_key.bytes(), all[0].structure_key().unwrap().bytes(), "{what}");
        let (held, epoch) = (&repository.credential.restore_keys, repository.config.restore_epoch);
        if repository.roles().contain(Roles::RESTORE) {
            let seed = held.iter().find(|(held, _)| *held == epoch).map(|(_, seed)| public_key_of(seed));
            let public = repository.config.restore_keys.iter().find(|key| key.epoch == epoch).map(|key| key.public_key.clone());
            assert_eq!(seed, public, "{what}");
        }
    }
}

#[test]
fn stopped_at_any_write_nobody_is_locked_out_and_the_next_run_finishes() {
    for (lose_answer, stop) in [false, true].into_iter().flat_map(|lose| (1..).map(move |stop| (lose, stop)).take(8)) {
        let what = format!("write {stop}, lost answer {lose_answer}");
        let backend = MemoryBackend::new();
        let admin = create(&backend);
        back_up(&admin, CONTENT);
        let before = newest_snapshot(&backend);
        let ids: Vec<_> = [(2, Roles::BACKUP), (3, Roles::RESTORE), (4, EVERYTHING)].map(|(n, roles)| add(&admin, n, roles, "").id).into();
        let faulty = Arc::new(FaultyBackend::new(Arc::new(backend.clone()), 1));
        let admin = Repository::open(Arc::clone(&faulty) as Arc<dyn Backend>, runtime(), &key(1), Settings::default()).unwrap();
        match lose_answer {
            true => faulty.lose_answer(Operation::Finish, stop),
            false => faulty.fail(Operation::Create, stop),
        }
        let stopped = rotate(&admin, Some(ids[2]));
        // Three slots that stay, the one that goes, the config.
        assert_eq!(stopped.is_err(), stop <= 5, "{what}: {stopped:?}");
        assert_all_in(&backend, &[1, 2, 3], &what);
        assert_eq!(back_up(&open(&backend, &key(2)), CONTENT), 0, "{what}");
        assert_eq!(restored(&open(&backend, &key(3)), before), CONTENT, "{what}");

        match rotate(&open(&backend, &key(1)), Some(ids[2])) {
            Ok(()) => {}
            Err(error) => assert_eq!((error.kind(), stop >= 5), (ErrorKind::NotFound, true), "{what}: {error}"),
        }
        assert_all_in(&backend, &[1, 2, 3], &what);
        assert!(try_open(backend.clone(), &key(4)).unwrap_err().to_string().contains("was removed"), "{what}");
        assert_eq!(open(&backend, &key(1)).config.revoked.len(), 1, "{what}");
        assert!(open(&backend, &key(1)).scrub(&Silent).unwrap().findings.is_empty(), "{what}");
    }
}

/// Does something before the nth object is begun.
fn interrupted(backend: &MemoryBackend, at: u64, meanwhile: impl FnOnce() + Send + 'static) -> Arc<HookedBackend> {
    let (left, happens) = (AtomicU64::new(at), parking_lot::Mutex::new(Some(meanwhile)));
    Arc::new(HookedBackend::new(Arc::new(backend.clone()), move |call| {
        if call.operation == Operation::Create && !call.is_done && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            let happens = happens.lock().take();
            happens.expect("it happens once")();
        }
        Ok(())
    }))
}

/// Key 1 rotates; before its write `at`, `meanwhile` happens.
fn rotate_interrupted(backend: &MemoryBackend, at: u64, meanwhile: impl FnOnce() + Send + 'static) -> Result<()> {
    rotate(&Repository::open(interrupted(backend, at, meanwhile), runtime(), &key(1), Settings::default()).unwrap(), None)
}

#[test]
fn two_admins_who_meet_anywhere_lock_nobody_out() {
    let mut both_failed = 0;
    // Before each write of the first, the second does its first writes and dies; it was opened before the first began, or just now.
    for (at, writes, opens_late) in (1..=5).flat_map(|at| (0..=5).flat_map(move |writes| [(at, writes, false), (at, writes, true)])) {
        let what = format!("write {at}, {writes} writes of the second, opened late {opens_late}");
        let backend = MemoryBackend::new();
        let admin = create(&backend);
        add(&admin, 2, EVERYTHING, "");
        add(&admin, 3, Roles::RESTORE, "");
        add(&admin, 4, Roles::BACKUP, "");
        let faulty = Arc::new(FaultyBackend::new(Arc::new(backend.clone()), 1));
        let begin = move || {
            let second = Repository::open(Arc::clone(&faulty) as Arc<dyn Backend>, runtime(), &key(2), Settings::default()).unwrap();
            faulty.fail(Operation::Create, writes + 1);
            let plan = second.plan_rotation(None);
            move || plan.and_then(|plan| second.rotate(&plan))
        };
        let (sender, outcome) = crossbeam_channel::unbounded();
        let first = if opens_late {
            rotate_interrupted(&backend, at, move || sender.send(begin()()).unwrap())
        } else {
            let second = begin();
            rotate_interrupted(&backend, at, move || sender.send(second()).unwrap())
        };
        let second = outcome.recv().unwrap();
        for result in [&first, &second] {
            assert!(
                result.as_ref().is_ok() || matches!(result.as_ref().unwrap_err().kind(), ErrorKind::Busy | ErrorKind::Unavailable),
                "{what}"
            );
        }
        both_failed += u32::from(first.is_err() && second.is_err());
        let generations = 1 + u32::from(first.is_ok()) + u32::from(second.is_ok());
        assert_eq!(open(&backend, &key(1)).generation(), generations, "{what}: {first:?}, {second:?}");
        assert_all_in(&backend, &[1, 2, 3, 4], &what);
        rotate(&open(&backend, &key(1)), None).unwrap();
        assert_all_in(&backend, &[1, 2, 3, 4], &what);
    }
    assert!(both_failed > 0, "some of these meetings are conflicts");
}

#[test]
fn a_slot_added_during_a_rotation_holds_the_new_keys_or_is_not_there() {
    for at in 1..=3 {
        let backend = MemoryBackend::new();
        let admin = create(&backend);
        add(&admin, 2, Roles::BACKUP, "");
        rotate_interrupted(&backend, at, move || assert_eq!(add(&admin, 3, EVERYTHING, "laptops").generation, 1)).unwrap();
        assert_all_in(&backend, &[1, 2, 3], &format!("write {at}"));
    }
    // The other way round: a rotation before the new slot is written.
    let backend = MemoryBackend::new();
    create(&backend);
    let other = open(&backend, &key(1));
    let interrupted = interrupted(&backend, 1, move || rotate(&other, None).unwrap());
    let admin = Repository::open(interrupted, runtime(), &key(1), Settings::default()).unwrap();
    let new = NewSlot::new(SlotHolder::Key(key(2)), EVERYTHING);
    assert_eq!(admin.add_slot(&new).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(admin.slots().unwrap().0.len(), 1);
}
