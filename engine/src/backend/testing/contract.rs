//! What every backend promises, as one suite that each of them passes.

use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{ErrorKind, Result};
use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

/// Large enough that a backend has to work in several pieces, and no round number.
const LARGE_BYTES: usize = (9 << 20) + 4321;
const RACING_THREADS: usize = 8;
const RACES: u32 = 20;

/// Checks every promise of [`Backend`], except what needs strangers ([`check_strangers`]) or a power failure.
///
/// `make` gives a backend without any object, each time.
///
/// # Panics
/// Where a promise is broken; the message says which.
pub fn check(make: impl Fn() -> Box<dyn Backend>) {
    names_of_all_kinds_are_told_apart(&*make());
    nothing_is_visible_before_finish(&*make());
    dropped_writers_leave_nothing(&*make());
    nothing_is_replaced(&*make());
    one_of_many_racing_writers_wins(&*make());
    healed_objects_take_the_place_of_damaged_ones(&*make());
    ranges_are_exact(&*make());
    sizes_from_empty_to_large_come_back(&*make());
    missing_objects_are_not_found(&*make());
    deleted_objects_are_gone(&*make());
    what_is_there_and_what_is_not_can_be_made_durable(&*make());
    listings_pass_errors_on_and_allow_calls(&*make());
    holds_end_when_dropped(&*make());
    assert!(!make().describe().is_empty(), "a backend can say where it is");
}

/// Checks that names which icecore did not write are reported once each, and do not hide objects.
///
/// `backend` has no object; `plant` makes something of the given name (like `snapshots/stranger`) appear in it.
///
/// # Panics
/// Where a promise is broken; the message says which.
pub fn check_strangers(backend: &dyn Backend, plant: impl Fn(&str)) {
    for kind in ObjectKind::ALL {
        let object = name_of(kind, 1);
        done("put", backend.put(&object, b"object"));
        let (folder, _) = object.to_string().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("names have folders");
        let strangers = BTreeSet::from([format!("{}/stranger", kind.folder()), format!("{folder}/zz.tmp")]);
        strangers.iter().for_each(|name| plant(name));
        let (objects, found) = list(backend, kind);
        assert_eq!(objects, [ObjectInfo { name: object, size: 6 }], "strangers do not change the objects of a listing");
        assert_eq!(found, strangers.into_iter().collect::<Vec<_>>(), "every stranger is reported once");
    }
}

fn what_is_there_and_what_is_not_can_be_made_durable(backend: &dyn Backend) {
    // Of many folders at once, too.
    let names: Vec<_> = (0..40).map(|number| name_of(ObjectKind::DataPack, number)).chain([name_of(ObjectKind::Snapshot, 1)]).collect();
    done("make durable what is not there", backend.make_durable(&names));
    names.iter().step_by(2).for_each(|name| done("put", backend.put(name, b"ice")));
    done("make many durable", backend.make_durable(&names));
    done("make one durable", backend.make_durable(&names[..1]));
    done("make none durable", backend.make_durable(&[]));
    assert!(names.iter().step_by(2).all(|name| done("get", backend.get(name, 9)) == b"ice"), "nothing else happens");
}

fn names_of_all_kinds_are_told_apart(backend: &dyn Backend) {
    let names: Vec<_> = ObjectKind::ALL.into_iter().flat_map(|kind| [name_of(kind, 0), name_of(kind, 1), name_of(kind, 0x1fe)]).collect();
    for name in &names {
        done("put", backend.put(name, name.to_string().as_bytes()));
    }
    for name in &names {
        let text = name.to_string();
        assert_eq!(done("get", backend.get(name, 1000)), text.as_bytes(), "{name}: another object's content");
    }
    for kind in ObjectKind::ALL {
        let mut expected: Vec<_> = names
            .iter()
            .filter(|name| name.kind() == kind)
            .map(|name| ObjectInfo { name: *name, size: name.to_string().len() as u64 })
            .collect();
        expected.sort();
        assert_eq!(list(backend, kind), (expected, vec![]), "a listing has the objects of its kind, each once");
    }
}

fn nothing_is_visible_before_finish(backend: &dyn Backend) {
    let name = name_of(ObjectKind::DataPack, 1);
    let mut writer = done("create", backend.create(&name));
    assert_absent(backend, &name);
    done("write", writer.write(&content(1, LARGE_BYTES)));
    assert_absent(backend, &name);
    done("finish", writer.finish());
    assert_eq!(done("size", backend.size(&name)), LARGE_BYTES as u64, "a finished object is visible");
    assert_eq!(list(backend, name.kind()).0.len(), 1, "a finished object is listed");
}

fn dropped_writers_leave_nothing(backend: &dyn Backend) {
    let name = name_of(ObjectKind::Slot, 1);
    drop(done("create", backend.create(&name)));
    let mut writer = done("create", backend.create(&name));
    done("write", writer.write(b"never finished"));
    drop(writer);
    assert_absent(backend, &name);
    done("put under the name of a dropped writer", backend.put(&name, b"finished"));
    assert_eq!(done("get", backend.get(&name, 100)), b"finished", "nothing of the dropped writer's bytes");
}

fn nothing_is_replaced(backend: &dyn Backend) {
    let name = name_of(ObjectKind::Config, 1);
    let mut late = done("create", backend.create(&name));
    done("write", late.write(b"late"));
    done("put", backend.put(&name, b"first"));
    fails("finish where the object exists", ErrorKind::AlreadyExists, late.finish());
    fails("put where the object exists", ErrorKind::AlreadyExists, backend.put(&name, b"second"));
    assert_eq!(done("get", backend.get(&name, 100)), b"first", "an object never changes");
}

fn one_of_many_racing_writers_wins(backend: &dyn Backend) {
    for race in 0..RACES {
        // Each race is for a new folder too, where there are folders.
        let name = name_of(ObjectKind::Beat, race);
        let start = Barrier::new(RACING_THREADS + 1);
        let over = AtomicBool::new(false);
        let winners: Vec<usize> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..RACING_THREADS)
                .map(|number| {
                    let (start, name) = (&start, &name);
                    scope.spawn(move || {
                        let mut writer = done("create", backend.create(name));
                        done("write", writer.write(&content(number, 1000 + number)));
                        start.wait();
                        writer.finish()
                    })
                })
                .collect();
            let reader = scope.spawn(|| {
                start.wait();
                while !over.load(Ordering::Relaxed) {
                    if let Some(bytes) = get_if_there(backend, &name) {
                        assert!(
                            (0..RACING_THREADS).any(|number| bytes == content(number, 1000 + number)),
                            "an object is seen whole or not at all"
                        );
                    }
                }
            });
            let results: Vec<_> = writers.into_iter().map(|writer| writer.join().expect("a writer panicked")).collect();
            over.store(true, Ordering::Relaxed);
            reader.join().expect("the reader panicked");
            results.into_iter().enumerate().filter_map(|(number, result)| won(result).then_some(number)).collect()
        });
        assert_eq!(winners.len(), 1, "one of {RACING_THREADS} racing writers wins, but these did: {winners:?}");
        let expected = content(winners[0], 1000 + winners[0]);
        assert!(done("get", backend.get(&name, 10_000)) == expected, "the object is the winner's");
    }
}

fn won(result: Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
        Err(error) => panic!("a racing writer fails only because another won, but: {error}"),
    }
}

fn get_if_there(backend: &dyn Backend, name: &ObjectName) -> Option<Vec<u8>> {
    match backend.get(name, 10_000) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("reading what is being written: {error}"),
    }
}

fn healed_objects_take_the_place_of_damaged_ones(backend: &dyn Backend) {
    let name = name_of(ObjectKind::DataPack, 1);
    done("put", backend.put(&name, b"damaged"));
    let mut writer = match backend.replace(&name) {
        Ok(writer) => writer,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "a backend that cannot replace says so: {error}");
            assert_eq!(done("get", backend.get(&name, 100)), b"damaged", "and leaves everything as it is");
            return;
        }
    };
    done("write", writer.write(b"never finished"));
    drop(writer);
    assert_eq!(done("get", backend.get(&name, 100)), b"damaged", "nothing changes before it is finished");
    let bytes = content(4, LARGE_BYTES);
    let mut writer = done("replace", backend.replace(&name));
    bytes.chunks(1 << 20).for_each(|piece| done("write", writer.write(piece)));
    assert_eq!(done("get", backend.get(&name, 100)), b"damaged", "nor while it is written");
    done("finish", writer.finish());
    assert!(done("get", backend.get(&name, LARGE_BYTES as u64)) == bytes, "the healed bytes are there, also for who has read the others");
    assert_eq!(list(backend, name.kind()), (vec![ObjectInfo { name, size: LARGE_BYTES as u64 }], vec![]), "once");
    // Of one that is gone there is nothing to take the place of.
    for kind in ObjectKind::ALL {
        let name = name_of(kind, 7);
        let mut writer = done("replace", backend.replace(&name));
        done("write", writer.write(b"back"));
        done("finish", writer.finish());
        assert_eq!(done("get", backend.get(&name, 100)), b"back");
        fails("put where a healed object is", ErrorKind::AlreadyExists, backend.put(&name, b"other"));
    }
}

fn ranges_are_exact(backend: &dyn Backend) {
    let name = name_of(ObjectKind::MetaPack, 1);
    let bytes = content(2, 10_000);
    done("put", backend.put(&name, &bytes));
    for (offset, length) in [(0, 10_000), (0, 1), (9_999, 1), (1, 4096), (4095, 2), (5_000, 5_000), (0, 0), (10_000, 0)] {
        let found = done("get_range", backend.get_range(&name, offset as u64, length));
        assert!(found == bytes[offset..offset + length], "{length} bytes from {offset} are not those that were written");
    }
    for (offset, length) in [(0, 10_001), (9_999, 2), (10_000, 1), (10_001, 0), (u64::MAX, 1), (u64::MAX, 0), (1, usize::MAX), (0, 1 << 46)]
    {
        fails("a range past the end", ErrorKind::Damaged, backend.get_range(&name, offset, length));
    }
    fails("get of more than allowed", ErrorKind::Damaged, backend.get(&name, 9_999));
}

fn sizes_from_empty_to_large_come_back(backend: &dyn Backend) {
    for (number, length) in [(1, 0), (2, 1), (3, 4096), (4, LARGE_BYTES)] {
        let name = name_of(ObjectKind::RefsPack, number);
        let bytes = content(3, length);
        let mut writer = done("create", backend.create(&name));
        // Pieces of growing sizes, the first one empty.
        let mut rest = &bytes[..];
        for piece in (0..).map(|i: usize| i * i * 1000) {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            done("write", writer.write(now));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        done("finish", writer.finish());
        assert_eq!(done("size", backend.size(&name)), length as u64, "the size is what was written");
        assert!(done("get", backend.get(&name, LARGE_BYTES as u64)) == bytes, "{length} bytes come back as they were written");
    }
}

fn missing_objects_are_not_found(backend: &dyn Backend) {
    for kind in ObjectKind::ALL {
        let name = name_of(kind, 1);
        assert_absent(backend, &name);
        fails("delete", ErrorKind::NotFound, backend.delete(&name));
        if let Err(error) = backend.hold(&name) {
            assert_eq!(error.kind(), ErrorKind::NotFound, "hold of a missing object: {error}");
        }
    }
    // A neighbour, in the same folder where there are folders, changes nothing.
    done("put", backend.put(&name_of(ObjectKind::DataPack, 1), b"neighbour"));
    fails("get_range", ErrorKind::NotFound, backend.get_range(&name_of(ObjectKind::DataPack, 0x101), 0, 0));
}

fn deleted_objects_are_gone(backend: &dyn Backend) {
    for kind in ObjectKind::ALL {
        let (name, other) = (name_of(kind, 1), name_of(kind, 2));
        done("put", backend.put(&name, b"first"));
        done("put", backend.put(&other, b"other"));
        done("get", backend.get(&name, 100));
        done("delete", backend.delete(&name));
        fails("get of a deleted object", ErrorKind::NotFound, backend.get_range(&name, 0, 1));
        fails("size of a deleted object", ErrorKind::NotFound, backend.size(&name));
        fails("delete of a deleted object", ErrorKind::NotFound, backend.delete(&name));
        assert_eq!(list(backend, kind).0, [ObjectInfo { name: other, size: 5 }], "a deleted object is not listed, others are");
        done("put after delete", backend.put(&name, b"again"));
        assert_eq!(done("get", backend.get(&name, 100)), b"again", "a name can be used after its object was deleted");
    }
}

fn listings_pass_errors_on_and_allow_calls(backend: &dyn Backend) {
    for number in 0..10 {
        done("put", backend.put(&name_of(ObjectKind::Snapshot, number), b"snapshot"));
    }
    let mut visits = 0;
    let result = backend.list(
        ObjectKind::Snapshot,
        &mut |_| {
            visits += 1;
            Err(crate::error::Error::new(ErrorKind::Cancelled, "enough"))
        },
        &mut |_| Ok(()),
    );
    fails("a listing whose visitor fails", ErrorKind::Cancelled, result);
    assert_eq!(visits, 1, "a listing ends with its visitor's error");
    let result = backend.list(ObjectKind::Snapshot, &mut |object| backend.delete(&object.name), &mut |_| Ok(()));
    done("a listing whose visitor deletes", result);
    assert_eq!(list(backend, ObjectKind::Snapshot).0, [], "all were visited");
}

fn holds_end_when_dropped(backend: &dyn Backend) {
    let (name, other) = (name_of(ObjectKind::Session, 1), name_of(ObjectKind::Session, 2));
    done("put", backend.put(&name, b"session"));
    done("put", backend.put(&other, b"session"));
    let Some(first) = done("hold", backend.hold(&name)) else { return };
    let is_held = |name| done("is_held", backend.is_held(name));
    assert_eq!(is_held(&name), Some(true), "a held object is held");
    assert_eq!(is_held(&other), Some(false), "only that one is");
    let second = done("hold", backend.hold(&name));
    drop(first);
    assert_eq!(is_held(&name), Some(true), "the second holder remains");
    drop(second);
    assert_eq!(is_held(&name), Some(false), "holds end when they are dropped");
}

/// The `number`th name of a kind, counting from 0. The lowest byte comes last, so that names 0x100 apart share a folder where packs are spread.
fn name_of(kind: ObjectKind, number: u32) -> ObjectName {
    let (folder, low, high) = (kind.folder(), number & 0xff, number >> 8);
    let hex = format!("{low:02x}{high:030x}");
    [format!("{:010}", number + 1), hex.clone(), format!("{low:02x}/{hex}"), format!("{hex}/{:010}", number + 1)]
        .into_iter()
        .find_map(|rest| ObjectName::parse(&format!("{folder}/{rest}")).ok())
        .expect("every kind has one of these forms")
}

/// Bytes that differ by seed and from one place to another.
fn content(seed: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The objects, sorted, and the strangers, sorted.
fn list(backend: &dyn Backend, kind: ObjectKind) -> (Vec<ObjectInfo>, Vec<String>) {
    let (mut objects, mut strangers) = (Vec::new(), Vec::new());
    let result = backend.list(
        kind,
        &mut |object| {
            objects.push(object);
            Ok(())
        },
        &mut |name| {
            strangers.push(name.to_owned());
            Ok(())
        },
    );
    done("list", result);
    objects.sort();
    strangers.sort();
    (objects, strangers)
}

fn assert_absent(backend: &dyn Backend, name: &ObjectName) {
    fails("size of a missing object", ErrorKind::NotFound, backend.size(name));
    fails("get_range of a missing object", ErrorKind::NotFound, backend.get_range(name, 0, 0));
    assert_eq!(list(backend, name.kind()), (vec![], vec![]), "{name} is not listed");
}

fn done<T>(what: &str, result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error} ({:?})", error.kind()))
}

fn fails<T>(what: &str, kind: ErrorKind, result: Result<T>) {
    match result {
        Ok(_) => panic!("{what}: expected {kind:?}, but it worked"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;
    use crate::backend::testing::{FaultyBackend, Operation};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    #[test]
    fn broken_backends_do_not_pass() {
        let breaks: [fn(&FaultyBackend); 7] = [
            |backend| backend.fail(Operation::Create, 2),
            |backend| backend.lose_answer(Operation::Finish, 1),
            |backend| backend.fail(Operation::List, 1),
            |backend| backend.lose_answer(Operation::Delete, 1),
            |backend| backend.shorten(3),
            |backend| backend.flip(&name_of(ObjectKind::MetaPack, 1), 9_999),
            |backend| backend.flip(&name_of(ObjectKind::RefsPack, 4), LARGE_BYTES as u64 - 1),
        ];
        for (number, breaks) in breaks.into_iter().enumerate() {
            let make = || -> Box<dyn Backend> {
                let backend = FaultyBackend::new(Arc::new(MemoryBackend::new()), 1);
                breaks(&backend);
                Box::new(backend)
            };
            assert!(catch_unwind(AssertUnwindSafe(|| check(make))).is_err(), "fault {number} was not noticed");
        }
    }
}
