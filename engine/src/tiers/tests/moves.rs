//! What a move stands on while others, or the power, go between its steps.

use super::*;
use crate::backend::testing::Call;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

impl World {
    /// A process of a time when minimum days have passed.
    fn later(&self, shelf: &Shelf) -> Repository {
        let mut runtime = runtime(8);
        runtime.clock = Runtime::seeded(8, Timestamp { seconds: NOW + 31 * DAY, nanoseconds: 0 }, 2).clock;
        let settings = Settings::default().with_tier_opener(Arc::new(shelf.clone()));
        Repository::open(Arc::new(self.warm.clone()), runtime, &key(), settings).unwrap()
    }

    /// Another process, which sees calls of the warm place.
    fn hooked(&self, seed: u64, hook: impl Fn(&Call) -> Result<()> + Send + Sync + 'static) -> Repository {
        self.open(Arc::new(HookedBackend::new(Arc::new(self.warm.clone()), hook)), self.shelf.clone(), seed)
    }

    fn names_of(&self, kind: ObjectKind) -> Vec<ObjectName> {
        self.warm.list_sorted(kind).unwrap().into_iter().map(|object| object.name).collect()
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, "the process was stopped")
}

#[test]
fn where_a_good_copy_lies_is_known_while_the_colder_one_is_bad() {
    let world = World::with_days();
    world.add(cold());
    world.add(TierBody { rank: 2, ..TierBody::new("colder", "shelf 2") });
    let (moved, policy) = (world.apply().moved, TierPolicy::new("colder"));
    // They are said to lie in both; then the mover is stopped.
    let shelf = Shelf::default();
    let first =
        HookedBackend::new(world.place("shelf 1"), |call| if call.operation == Operation::Delete { Err(stopped()) } else { Ok(()) });
    shelf.0.lock().extend([("shelf 1".to_owned(), Arc::new(first) as Arc<dyn Backend>), ("shelf 2".to_owned(), world.place("shelf 2"))]);
    assert_eq!(world.later(&shelf).tier_apply(&policy, &Silent).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(world.packs_in("shelf 1"), world.packs_in("shelf 2"));
    let (colder, lost, changed) = (world.place("shelf 2"), world.packs_in("shelf 2")[0], world.packs_in("shelf 2")[1]);
    let whole = [lost, changed].map(|name| (name, colder.get(&name, u64::MAX).unwrap()));
    whole.iter().for_each(|(name, _)| colder.delete(name).unwrap());
    let mut bytes = whole[1].1.clone();
    bytes[100] ^= 1;
    colder.put(&changed, &bytes).unwrap();

    world.later(&world.shelf).gc(&GcOptions::default(), &Silent).unwrap();
    let summary = world.later(&world.shelf).tier_apply(&policy, &Silent).unwrap();
    assert_eq!((summary.failed.packs, summary.finished.packs), (2, moved.packs - 2), "{summary:#?}");
    world.later(&world.shelf).gc(&GcOptions::default(), &Silent).unwrap();
    let mut left = vec![lost, changed];
    left.sort();
    assert_eq!(world.packs_in("shelf 1"), left);
    world.assert_restores(&world.other_handle(3));
    assert_eq!(world.other_handle(3).remove_tier("cold").unwrap_err().kind(), ErrorKind::Busy);

    // Once the others are whole again, it is finished.
    colder.delete(&changed).unwrap();
    whole.iter().for_each(|(name, bytes)| colder.put(name, bytes).unwrap());
    let summary = world.later(&world.shelf).tier_apply(&policy, &Silent).unwrap();
    assert_eq!((summary.failed.packs, summary.finished.packs), (0, 2), "{summary:#?}");
    assert!(world.packs_in("shelf 1").is_empty() && world.later(&world.shelf).tier_apply(&policy, &Silent).unwrap().plan.is_empty());
    world.other_handle(3).remove_tier("cold").unwrap();
    world.assert_whole();
}

/// Of a process that outlives the power of the store's machine.
#[test]
fn no_copy_goes_for_a_placement_that_went_with_the_power() {
    let world = World::with_days();
    world.add(cold());
    let before = names(&world.warm);
    let first = world.hooked(5, |call| match call.operation {
        Operation::Delete if call.kind.is_pack() => Err(stopped()),
        _ => Ok(()),
    });
    first.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap_err();
    let placed: Vec<_> = world.names_of(ObjectKind::Placement);
    let tier = marker(world.repository.tiers().unwrap()[0].tier.tier);
    assert_eq!(placed.len(), 2);
    let warm = world.warm.clone();
    let second = world.hooked(6, move |call| {
        if let Some(name) = call.name.filter(|name| placed.contains(name) && *name != tier)
            && call.operation == Operation::MakeDurable
            && !call.is_done
        {
            _ = warm.delete(&name);
        }
        Ok(())
    });
    assert_eq!(second.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(names(&world.warm), before);
    let summary = world.other_handle(7).tier_apply(&TierPolicy::new("cold"), &Silent).unwrap();
    assert_eq!((summary.moved, summary.failed.packs), (summary.plan.moves, 0));
    world.assert_whole();
}

#[test]
fn what_tells_of_frozen_packs_is_there_when_they_go() {
    // It goes with the power before it is durable; somebody removes it who does not know yet that they move; the move was stopped in between.
    for case in 0..3 {
        let world = World::with_days();
        world.freezer("shelf 1");
        world.add(frozen());
        let first = world.hooked(5, move |call| match (call.operation, call.kind) {
            (Operation::Finish, ObjectKind::Placement) if case < 2 => Err(stopped()),
            (Operation::Delete, ObjectKind::DataPack) => Err(stopped()),
            _ => Ok(()),
        });
        first.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap_err();
        let told = world.names_of(ObjectKind::Index);
        assert!(!told.is_empty());
        let (warm, is_over) = (world.warm.clone(), AtomicBool::new(false));
        let second = world.hooked(6, move |call| {
            let is_moment = match case {
                0 => call.operation == Operation::MakeDurable && call.kind == ObjectKind::Index && !call.is_done,
                1 => call.operation == Operation::Finish && call.kind == ObjectKind::Placement && call.is_done,
                _ => call.operation == Operation::List && call.kind == ObjectKind::Placement,
            };
            if is_moment && !is_over.swap(true, Ordering::Relaxed) {
                told.iter().for_each(|name| warm.delete(name).unwrap());
            }
            Ok(())
        });
        let summary = second.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap();
        assert!(summary.failed.packs == 0 && summary.moved.packs + summary.finished.packs > 3, "{case}: {summary:#?}");
        let other = world.other_handle(7);
        other.gc(&GcOptions::default(), &Silent).unwrap_or_else(|error| panic!("{case}: {error}"));
        let report = other.check(&Silent).unwrap();
        assert!(report.findings.is_empty(), "{case}: {:#?}", report.findings);
    }
}

/// What is told of warm packs may be all that tells of them when they are cold, a moment later.
#[test]
fn a_collection_leaves_nothing_untold_that_was_told() {
    let mut world = World::with_days();
    world.add(cold());
    let first = world.hooked(5, |call| match (call.operation, call.kind) {
        (Operation::Finish, ObjectKind::Placement) => Err(stopped()),
        _ => Ok(()),
    });
    first.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap_err();
    let forgotten: Vec<_> = world.kept.drain(..2).map(|(id, _)| id).collect();
    world.repository.forget(&forgotten, &Silent).unwrap();
    let summary = world.other_handle(6).gc(&GcOptions::default(), &Silent).unwrap();
    let plan = world.other_handle(7).tier_plan(&TierPolicy::new("cold"), &Silent).unwrap();
    assert!(summary.deleted.packs > 0 && (1..8).contains(&plan.packs.len()), "{plan:#?}");
    let told = world.other_handle(8).told_agrees(plan.packs.iter(), &HashMap::new()).unwrap();
    assert!(plan.packs.iter().all(|pack| told.get(&pack.name).is_some_and(|(_, agrees)| *agrees)), "{told:?}");
}
