//! Series with lives of their own: a chunk is as warm as its warmest user, what it stands on included.

use super::*;
use crate::source::{Roots, SourceOptions};

fn life(warm_days: Option<u32>, kept_days: Option<u32>) -> SnapshotLife {
    SnapshotLife { warm_days, kept_days }
}

impl World {
    pub(super) fn backup_of(&mut self, series: &str, content: Vec<u8>, days_ago: i64) {
        let mut options = BackupOptions::new(series);
        options.time = Some(Timestamp { seconds: NOW - DAY * days_ago, nanoseconds: 0 });
        let made = self.repository.backup_stream("state", Box::new(std::io::Cursor::new(content.clone())), &options, &Silent).unwrap();
        self.kept.push((made.snapshot.unwrap(), content));
    }

    fn plan_by(&self, change: impl FnOnce(&mut TierPolicy)) -> TierPlan {
        let mut policy = TierPolicy::new("cold");
        change(&mut policy);
        self.repository.tier_plan(&policy, &Silent).unwrap()
    }
}

#[test]
fn what_series_share_is_as_warm_as_its_warmest_user() {
    let mut world = World::empty();
    let (of_one, of_both, of_other) = (noise(1, 300_000), noise(2, 300_000), noise(3, 300_000));
    world.backup_of("one", [of_one.clone(), of_both.clone()].concat(), 50);
    world.backup_of("one", noise(4, 1000), 1);
    world.backup_of("other", [of_both, of_other].concat(), 40);
    world.backup_of("other", noise(5, 1000), 1);
    world.add(TierBody { minimum_days: 0, ..cold() });
    let both = world.plan_by(|_| {}).moves.bytes;
    assert!(both > 850_000, "{both}");
    // What only the first one needs.
    let mut other_warm = BTreeMap::from([("other".to_owned(), life(None, None))]);
    let one = world.plan_by(|policy| policy.series = other_warm.clone());
    assert!((190_000..310_000).contains(&one.moves.bytes), "{one:#?}");
    assert_eq!((one.snapshots_cold, one.snapshots_warm), (1, 3));
    // 50 days are enough for the one, 40 are not for the other; then they are.
    let by_age = |days| world.plan_by(|policy| policy.series = BTreeMap::from([("other".to_owned(), life(Some(days), None))])).moves.bytes;
    assert_eq!((by_age(45), by_age(39)), (one.moves.bytes, both));
    world.repository.tier_apply(&TierPolicy { series: std::mem::take(&mut other_warm), ..TierPolicy::new("cold") }, &Silent).unwrap();
    // Nothing that the other one needs is cold by now.
    let other = world.repository.find_snapshot(&world.kept[2].0.to_string(), None, None).unwrap();
    assert!(world.repository.cold_plan(&other, &[], &Silent).unwrap().tiers.is_empty());
    world.assert_whole();
}

#[test]
fn what_is_forgotten_before_its_minimum_days_stays_warm() {
    let world = World::with_days();
    world.add(cold());
    // Snapshots are 10, 9, 8 and 7 days old, and what moves is paid for 30 days.
    let cold_by = |kept| world.plan_by(|policy| policy.life.kept_days = kept);
    let of = [None, Some(40), Some(39), Some(30)].map(cold_by);
    assert_eq!(
        of.each_ref().map(|plan| (plan.snapshots_cold, plan.snapshots_short, plan.snapshots_warm)),
        [(3, 0, 1), (3, 0, 1), (2, 1, 1), (0, 3, 1)]
    );
    assert!(of[2].needed_short.packs > 0 && of[2].moves.packs > 0 && of[3].moves.packs == 0, "{of:#?}");
    assert_eq!(of.each_ref().map(|plan| plan.moves.packs + plan.needed_short.packs), [of[0].moves.packs; 4]);
}

#[test]
fn what_somebody_needs_for_long_enough_goes_cold_although_others_go_soon() {
    let mut world = World::empty();
    world.add(cold());
    // What was there for long and is gone by now: of two snapshots one will be forgotten in five days, the other one in fifty.
    let shared = noise(1, 300_000);
    world.backup_of("one", shared.clone(), 95);
    world.backup_of("one", shared, 50);
    world.backup_of("one", noise(2, 1000), 1);
    let plan = world.plan_by(|policy| policy.life = life(Some(30), Some(100)));
    assert_eq!((plan.snapshots_cold, plan.snapshots_short, plan.snapshots_warm), (1, 1, 1));
    assert!(plan.moves.bytes > 290_000 && plan.needed_short.packs == 0, "{plan:#?}");
    world.repository.tier_apply(&TierPolicy { life: life(Some(30), Some(100)), ..TierPolicy::new("cold") }, &Silent).unwrap();
    // When both go soon, nobody is stranded: what lies there stays there.
    let plan = world.plan_by(|policy| policy.life = life(Some(30), Some(75)));
    assert_eq!((plan.snapshots_cold, plan.snapshots_short, plan.stranded.packs), (0, 2, 0), "{plan:#?}");
    world.assert_whole();
}

#[test]
fn what_lies_cold_is_not_stranded_because_it_stays_out_of_the_archive() {
    let mut world = World::empty();
    world.backup_of("one", noise(1, 300_000), 50);
    world.backup_of("one", noise(2, 1000), 1);
    world.add(TierBody { minimum_days: 0, ..cold() });
    world.add(TierBody { rank: 2, ..TierBody::new("archive", "shelf 2") });
    let moved = world.repository.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap().moved;
    let mut policy = TierPolicy { life: life(Some(90), None), ..TierPolicy::new("archive") };
    let plan = world.repository.tier_plan(&policy, &Silent).unwrap();
    assert_eq!((plan.moves.packs, plan.stranded.packs, moved.packs <= plan.needed_warm.packs), (0, 0, true), "{plan:#?}");
    // In the archive it would be.
    policy.life = life(Some(30), None);
    assert_eq!(world.repository.tier_apply(&policy, &Silent).unwrap().moved, moved);
    policy.life = life(Some(90), None);
    assert_eq!(world.repository.tier_plan(&policy, &Silent).unwrap().stranded, moved);
}

#[test]
fn a_backup_relies_on_no_frame_whose_base_is_cold() {
    let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut world = World::empty();
    let settings = Settings::default().with_tier_opener(Arc::new(world.shelf.clone())).with_cache(cache.path());
    world.repository = Repository::open(Arc::new(world.warm.clone()), runtime(2), &key(), settings).unwrap();
    let backup = |content: &[u8], day: u64| {
        let file = folder.path().join("file");
        std::fs::write(&file, content).unwrap();
        let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000 + day);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        let mut options = BackupOptions::new("files");
        options.time = Some(Timestamp { seconds: NOW - DAY * 30 + DAY * day as i64, nanoseconds: 0 });
        let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
        world.repository.backup(&roots, &SourceOptions::default(), &options, &Silent).unwrap().snapshot.unwrap()
    };
    let first = noise(1, 400_000);
    let mut changed = first.clone();
    (0..changed.len()).step_by(3000).for_each(|at| changed[at] ^= 1);
    backup(&first, 0);
    let forgotten = backup(&changed, 1);
    assert!(world.repository.stats(None, &Silent).unwrap().delta_bytes > 100_000);
    backup(&noise(2, 1000), 2);
    // Nobody needs the delta any more, and it is not collected yet; what it stands on goes cold.
    world.repository.forget(&[forgotten], &Silent).unwrap();
    world.add(cold());
    let moved = world.apply();
    assert!(moved.moved.packs > 3 && moved.plan.unneeded.packs > 0, "{moved:#?}");
    // Then its content comes back.
    let newest = backup(&changed, 3);
    let plan = world.plan_by(|_| {});
    assert_eq!(plan.stranded.packs, 0, "{plan:#?}");
    let newest = world.repository.find_snapshot(&newest.to_string(), None, None).unwrap();
    assert!(world.repository.cold_plan(&newest, &[], &Silent).unwrap().tiers.is_empty());
    world.unplug("shelf 1");
    let target = tempfile::tempdir().unwrap();
    let summary = world.other_handle(9).restore(&newest, target.path(), &RestoreOptions::default(), &Silent).unwrap();
    assert!(!summary.frozen && std::fs::read(target.path().join("file")).unwrap() == changed, "{summary:#?}");
}

#[test]
fn a_base_is_as_warm_as_its_users_and_is_thawed_with_them() {
    let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut world = World::empty();
    let settings = Settings::default().with_tier_opener(Arc::new(world.shelf.clone())).with_cache(cache.path());
    world.repository = Repository::open(Arc::new(world.warm.clone()), runtime(2), &key(), settings).unwrap();
    let freezer = world.freezer("shelf 1");
    let mut content = noise(1, 400_000);
    let backup = |world: &World, content: &[u8], day: i64| {
        let file = folder.path().join("base");
        std::fs::write(&file, content).unwrap();
        let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000 + day.unsigned_abs());
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        let mut options = BackupOptions::new("files");
        (options.delta, options.time) = (true, Some(Timestamp { seconds: NOW - DAY * (30 - day), nanoseconds: 0 }));
        let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
        world.repository.backup(&roots, &SourceOptions::default(), &options, &Silent).unwrap().snapshot.unwrap()
    };
    let first = backup(&world, &content, 0);
    (0..content.len()).step_by(3000).for_each(|at| content[at] ^= 1);
    let changed = content.clone();
    let second = backup(&world, &content, 1);
    let stats = world.repository.stats(None, &Silent).unwrap();
    assert!(stats.delta_bytes > 100_000 && stats.delta_stored_bytes * 2 < stats.delta_bytes, "{stats:?}");

    // The first snapshot alone could go; but all of what it has is what the second one stands on.
    world.add(frozen());
    let plan = world.plan_by(|policy| policy.live_percent_min = 0);
    assert_eq!((plan.snapshots_cold, plan.moves.packs, plan.needed_warm.packs > 0), (1, 0, true), "{plan:#?}");

    // Once something else is the newest, all of it goes, and each one is planned with its bases.
    std::fs::remove_file(folder.path().join("base")).unwrap();
    let third = {
        std::fs::write(folder.path().join("other"), b"small").unwrap();
        let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
        world.repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("files"), &Silent).unwrap().snapshot.unwrap()
    };
    assert!(third != second && first != second);
    let mut policy = TierPolicy::new("cold");
    policy.live_percent_min = 0;
    assert!(world.repository.tier_apply(&policy, &Silent).unwrap().moved.packs > 4);
    let snapshot = world.repository.find_snapshot(&second.to_string(), None, None).unwrap();
    let needs = world.repository.cold_plan(&snapshot, &[], &Silent).unwrap();
    world.repository.thaw(&needs, &way("bulk", 2), &Silent).unwrap();
    freezer.pass_time(usize::MAX);
    let target = tempfile::tempdir().unwrap();
    let summary = world.repository.restore(&snapshot, target.path(), &RestoreOptions::default(), &Silent).unwrap();
    assert!(!summary.frozen && summary.items_failed == 0, "what was planned is enough: {summary:#?}");
    assert!(std::fs::read(target.path().join("base")).unwrap() == changed);
}
