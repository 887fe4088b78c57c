//! After all others: a fresh process that nothing happens to looks at everything, and collects garbage until nothing is left to do.

use super::actors::{Deed, Holder, World, locked, restored, runtime, settings};
use super::oracle::Finding;
use super::random::Random;
use super::store::Fate;
use icecore::gc::GcOptions;
use icecore::progress::Silent;
use icecore::repair::RepairOptions;
use icecore::repository::{Repository, Snapshot};
use icecore::testing::Keys;
use icecore::{Error, ErrorKind};
use std::sync::Arc;

/// Starts that process.
pub fn recover(world: &Arc<World>, random: &mut Random, is_thorough: bool) {
    let shared = Arc::clone(world);
    let mut random = random.fork();
    let process = world.scheduler.process();
    let work = move || {
        if let Err(finding) = look_after(&shared, process, &mut random, is_thorough) {
            locked(&shared.findings).push(finding);
        }
    };
    world.scheduler.spawn(process, Box::new(work));
}

fn look_after(world: &World, process: usize, random: &mut Random, is_thorough: bool) -> std::result::Result<(), Finding> {
    world.store.come_to_rest();
    let said = |what: &str, error: &Error| {
        let text = format!("{what}, after all others and without a fault: {:?}: {error}", error.kind());
        Finding { text, is_loss: error.kind() == ErrorKind::Damaged }
    };
    let open = |is_collector: bool, random: &mut Random| {
        let runtime = runtime(world, process, random);
        let deed = is_collector.then_some(Deed::Collect);
        let backend = world.store.reach(process, Fate::default(), deed, Arc::clone(&runtime.clock));
        // One with a cache, which it keeps from one restore to the next, and one without.
        let settings = settings(world, is_collector || !is_thorough, 9, process);
        let repository = Repository::open(backend, runtime, &Holder::Owner.key(), settings).map_err(|error| said("opening", &error))?;
        world.store.learn(process, Keys::of_repository(&repository));
        Ok(repository)
    };
    if !locked(&world.oracle).maybe_held.is_empty() {
        // A marker that met a hold, whose writers both died.
        let mender = open(true, random)?;
        let report = mender.check(&Silent).map_err(|error| said("check", &error))?;
        if let Some(finding) = report.findings.iter().find(|finding| finding.rule != Some("HOLD-7")) {
            return Err(Finding::loss(format!("check finds damage after all others, before repair: {finding:?}")));
        }
        mender.repair(&RepairOptions::default(), &Silent).map_err(|error| said("repair", &error))?;
    }
    if is_thorough {
        let fresh = open(false, random)?;
        look(world, &fresh, random, true)?;
    }
    let collector = open(true, random)?;
    let mut is_clean = false;
    for _ in 0..8 {
        let made = collector.gc(&GcOptions::default(), &Silent).map_err(|error| said("gc", &error))?;
        is_clean = made.waits_for.is_empty() && made.left.packs == 0 && made.condemned.packs == 0 && made.plan.is_empty();
        if is_clean {
            break;
        }
        world.scheduler.leap(1000);
    }
    if !is_clean {
        return Err(Finding::new("gc does not come to an end: something is never reclaimed"));
    }
    let fresh = open(false, random)?;
    look(world, &fresh, random, is_thorough)?;
    let report = match is_thorough {
        true => collector.scrub(&Silent),
        false => collector.check(&Silent),
    };
    match report.map_err(|error| said("check", &error))?.findings.first() {
        Some(finding) => Err(Finding::loss(format!("check finds damage after all others: {finding:?}"))),
        None => Ok(()),
    }
}

/// Restores what is shown: all of it where this is thorough, otherwise what was made here and one of the snapshots that were there before.
fn look(world: &World, repository: &Repository, random: &mut Random, is_thorough: bool) -> std::result::Result<(), Finding> {
    let snapshots = repository.snapshots().map_err(|error| Finding::new(format!("listing snapshots: {error}")))?;
    let old = |snapshot: &Snapshot| world.old.contains(&snapshot.id);
    let chosen = random.below(snapshots.iter().filter(|snapshot| old(snapshot)).count().max(1) as u64);
    let (mut shown, mut number) = (Vec::new(), 0);
    for snapshot in snapshots {
        let is_restored = is_thorough || !old(&snapshot) || number == chosen;
        number += u64::from(old(&snapshot));
        let unrestored = |error| Finding::loss(format!("snapshot {} of {} cannot be restored: {error}", snapshot.id, snapshot.body.series));
        let content = is_restored.then(|| restored(world, repository, &snapshot)).transpose().map_err(unrestored)?;
        shown.push((snapshot.id, snapshot.body.series, content));
    }
    locked(&world.oracle).judge(&shown)
}
