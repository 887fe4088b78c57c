//! What a store really does of what the backend wants of it: tried out under a scratch prefix, which is empty again afterwards.
//!
//! Documentation is not believed, nor are answers: what counts is what comes of it, when threads race for one name for example.

use super::{Ability, Backend, BackendExt, Found, Need, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::channel::{bounded, unbounded};
use crate::runtime::{Clock, Runtime};
use std::sync::Arc;

/// Threads that race for one name.
const RACERS: usize = 8;
/// The name that what only some stores have is tried out with.
const EXTRA: u32 = 4;
/// The names of races are above this.
const FIRST_RACE: u32 = 100;
/// Names that are raced for.
const RACES: u32 = 4;
/// More than one part of an upload.
const LARGE_BYTES: usize = (9 << 20) + 4321;
/// A listing that shows an object only later than this is not waited for.
const LAG_SECONDS_MAX: u64 = 60;
/// More than what some stores list at once with a small page.
const LISTED: u32 = 12;
/// After each of the last of them there is a listing.
const LISTED_SINGLY: u32 = 3;

/// What only some kinds of stores have, tried out with an object of this name.
type Extras<'a> = dyn Fn(&ObjectName) -> Vec<Ability> + 'a;

/// Tries everything, `extras` at last. `backend` has no object, and has none when this returns, unless the store fails to delete.
///
/// # Errors
/// Where not even one object can be written, read and deleted: the store cannot be used, or can only be read.
pub(super) fn run(backend: &Arc<dyn Backend>, extras: &Extras<'_>, runtime: &Runtime) -> Result<Vec<Ability>> {
    let tried = all(backend, extras, runtime);
    let cleaned = clean(&**backend);
    let abilities = tried?;
    cleaned.map(|()| abilities)
}

/// Tries only whether one of several writers of the same name wins; what is not there says why.
pub(super) fn race_only(backend: &Arc<dyn Backend>, runtime: &Runtime) -> Result<Ability> {
    let raced = create_if_absent(backend, runtime);
    let cleaned = clean(&**backend);
    let ability = create_ability(raced?);
    cleaned.map(|()| ability)
}

fn all(backend: &Arc<dyn Backend>, extras: &Extras<'_>, runtime: &Runtime) -> Result<Vec<Ability>> {
    let store = &**backend;
    let basics = basics(store)?;
    let tell = |name, purpose, need, missing| Ability { name, purpose, need, found: Found::unless(missing) };
    let mut abilities = vec![
        tell("objects that are read back as they were written", "nothing works without", Need::Must, basics),
        create_ability(create_if_absent(backend, runtime)?),
        tell(
            "list after write",
            "listings show at once what was written, on which gc and backups rely",
            Need::Must,
            missing(listings_of_written(store, &*runtime.clock))?,
        ),
        tell(
            "list after delete",
            "without it commands ask in vain for what is gone, which is harmless",
            Need::Should,
            missing(listings_of_deleted(store))?,
        ),
        tell("uploads in parts", "packs are written so", Need::Must, missing(large(store))?),
        tell("replacing an object", "scrub puts healed objects back by it", Need::Should, missing(replacing(store))?),
    ];
    abilities.extend(extras(&name(ObjectKind::Index, EXTRA)));
    Ok(abilities)
}

fn create_ability(missing: Option<String>) -> Ability {
    let purpose =
        "without it only one machine may run gc, forget, repair, config and key, never two at once; backups and restores need no such care";
    Ability { name: "create if absent", purpose, need: Need::Should, found: Found::unless(missing) }
}

/// What the store does not do is an answer; that it cannot be asked is an error.
fn missing(tried: Result<Option<String>>) -> Result<Option<String>> {
    match tried {
        Err(error) if error.kind() == ErrorKind::Unavailable => Ok(Some(error.to_string())),
        tried => tried,
    }
}

fn name(kind: ObjectKind, number: u32) -> ObjectName {
    let mut id = [0x1c; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    ObjectName::from_parts(kind, id, 0).expect("a kind whose names are random")
}

fn basics(store: &dyn Backend) -> Result<Option<String>> {
    let name = name(ObjectKind::Index, 1);
    store.put(&name, b"layers of snow")?;
    let checks = [
        (store.get(&name, 100)? == b"layers of snow", "an object"),
        (store.get_range(&name, 7, 2)? == b"of", "a range"),
        (store.size(&name)? == 14, "a size"),
    ];
    store.delete(&name)?;
    let gone = store.size(&name).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let wrong = checks.into_iter().chain([(gone, "a deleted object")]).find(|(is_right, _)| !is_right);
    Ok(wrong.map(|(_, what)| format!("{what} does not come back as it should")))
}

/// `None` where it is there.
fn create_if_absent(backend: &Arc<dyn Backend>, runtime: &Runtime) -> Result<Option<String>> {
    let first = name(ObjectKind::Index, 2);
    backend.put(&first, b"first")?;
    match backend.put(&first, b"second") {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == ErrorKind::Unavailable => return Ok(Some(error.to_string())),
        Err(error) => return Err(error),
        Ok(()) => return Ok(Some("a second writer of a name is not refused".to_owned())),
    }
    for race in 1..=RACES {
        let winners = race_for(backend, runtime, name(ObjectKind::Index, FIRST_RACE + race))?;
        if winners != 1 {
            return Ok(Some(format!("of {RACERS} writers of the same name in the same moment {winners} were told that they wrote it")));
        }
    }
    Ok(None)
}

fn race_for(backend: &Arc<dyn Backend>, runtime: &Runtime, name: ObjectName) -> Result<usize> {
    let (report, reports) = unbounded();
    // Dropping the sender starts them all.
    let (start, started) = bounded::<()>(0);
    for racer in 0..RACERS {
        let (backend, started, report) = (Arc::clone(backend), started.clone(), report.clone());
        let work = move || {
            let _ = started.recv();
            let _ = report.send(backend.put(&name, format!("racer {racer}").as_bytes()));
        };
        runtime.executor.spawn("icecore-racer", Box::new(work))?;
    }
    drop((start, report));
    let mut winners = 0;
    for result in &reports {
        match result {
            Ok(()) => winners += 1,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(winners)
}

fn listed() -> impl Iterator<Item = ObjectName> {
    (1..=LISTED).map(|number| name(ObjectKind::Snapshot, number))
}

fn is_listed(store: &dyn Backend, name: ObjectName) -> Result<bool> {
    Ok(store.list_sorted(ObjectKind::Snapshot)?.iter().any(|object| object.name == name))
}

fn listings_of_written(store: &dyn Backend, clock: &dyn Clock) -> Result<Option<String>> {
    for (number, name) in (1..).zip(listed()) {
        store.put(&name, b"listed")?;
        if number > LISTED - LISTED_SINGLY && !is_listed(store, name)? {
            return how_late(store, name, clock).map(Some);
        }
    }
    let found = store.list_sorted(ObjectKind::Snapshot)?.len();
    Ok((found != LISTED as usize).then(|| format!("{LISTED} objects were written, and {found} are listed")))
}

/// When an object that was just written, and is not listed, is listed after all; and what to do about it.
fn how_late(store: &dyn Backend, name: ObjectName, clock: &dyn Clock) -> Result<String> {
    for seconds in 1..=LAG_SECONDS_MAX {
        clock.sleep_ns(1_000_000_000);
        if is_listed(store, name)? {
            let lag = seconds * 3 + 2;
            return Ok(format!(
                "an object was listed only {seconds} s after it was written; it may take longer at other times. Give --listing-lag {lag} or more, \
                 with every command and on every machine"
            ));
        }
    }
    Ok(format!("an object that was written is not listed {LAG_SECONDS_MAX} s later"))
}

/// Of what [`listings_of_written`] wrote.
fn listings_of_deleted(store: &dyn Backend) -> Result<Option<String>> {
    for (number, name) in (1..).zip(listed()) {
        match store.delete(&name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other?,
        }
        if number > LISTED - LISTED_SINGLY && is_listed(store, name)? {
            return Ok(Some("an object that was just deleted is still listed".to_owned()));
        }
    }
    Ok(None)
}

fn large(store: &dyn Backend) -> Result<Option<String>> {
    let name = name(ObjectKind::DataPack, 1);
    let mut bytes = vec![0; LARGE_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    store.put(&name, &bytes)?;
    let found = store.get(&name, LARGE_BYTES as u64)?;
    Ok((found != bytes).then(|| "what was sent in parts comes back as something else".to_owned()))
}

fn replacing(store: &dyn Backend) -> Result<Option<String>> {
    let name = name(ObjectKind::Index, 3);
    store.put(&name, b"damaged")?;
    let mut writer = store.replace(&name)?;
    writer.write(b"healed")?;
    writer.finish()?;
    Ok((store.get(&name, 100)? != b"healed").then(|| "the old object is still there".to_owned()))
}

/// By the names that are used above: a listing may lag behind.
fn clean(store: &dyn Backend) -> Result<()> {
    let small = (1..=EXTRA).chain((1..=RACES).map(|race| FIRST_RACE + race)).map(|number| name(ObjectKind::Index, number));
    for name in small.chain(listed()).chain([name(ObjectKind::DataPack, 1)]) {
        match store.delete(&name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.map_err(|error: Error| error.context("cleaning up after the trial"))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ObjectInfo;
    use crate::backend::testing::{FaultyBackend, Operation};
    use crate::backend::{MemoryBackend, ObjectWriter};
    use crate::runtime::Timestamp;

    fn runtime() -> Runtime {
        Runtime::seeded(1, Timestamp::default(), 2)
    }

    #[test]
    fn a_good_store_can_do_everything_and_nothing_is_left() {
        let memory = MemoryBackend::new();
        let backend: Arc<dyn Backend> = Arc::new(memory.clone());
        let abilities = run(&backend, &|_| Vec::new(), &runtime()).unwrap();
        assert!(abilities.len() == 6 && abilities.iter().all(|ability| ability.missing().is_none()), "{abilities:?}");
        assert!(race_only(&backend, &runtime()).unwrap().missing().is_none());
        assert!(ObjectKind::ALL.into_iter().all(|kind| memory.list_sorted(kind).unwrap().is_empty()));
    }

    /// Never refuses a name.
    #[derive(Debug)]
    struct Careless(MemoryBackend);

    impl Backend for Careless {
        fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
            self.0.replace(name)
        }

        fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
            self.0.get_range(name, offset, length)
        }

        fn size(&self, name: &ObjectName) -> Result<u64> {
            self.0.size(name)
        }

        fn list(
            &self,
            kind: ObjectKind,
            visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
            stranger: &mut dyn FnMut(&str) -> Result<()>,
        ) -> Result<()> {
            self.0.list(kind, visit, stranger)
        }

        fn delete(&self, name: &ObjectName) -> Result<()> {
            self.0.delete(name)
        }

        fn describe(&self) -> String {
            "careless".into()
        }
    }

    #[test]
    fn what_a_store_cannot_do_is_found_out() {
        let backend: Arc<dyn Backend> = Arc::new(Careless(MemoryBackend::new()));
        let abilities = run(&backend, &|_| Vec::new(), &runtime()).unwrap();
        let missing: Vec<_> = abilities.iter().filter(|ability| ability.missing().is_some()).map(|ability| ability.name).collect();
        assert_eq!(missing, ["create if absent", "replacing an object"]);
        let faulty = FaultyBackend::new(Arc::new(MemoryBackend::new()), 1);
        faulty.fail(Operation::Finish, 1);
        let backend: Arc<dyn Backend> = Arc::new(faulty);
        assert_eq!(run(&backend, &|_| Vec::new(), &runtime()).unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
