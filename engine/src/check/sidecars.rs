//! Sidecars: whether they are right, and healing by them.
//!
//! What is healed is still a finding: the medium that lost it may lose more.

use super::clear::of_kind;
use super::reading::{Listing, Reading};
use crate::backend::{BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
use crate::format::object::check_keyless;
use crate::format::parity::sidecar_of;
use crate::id::RepositoryId;
use crate::progress::Event;
use crate::repository::{Sidecar, heal};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

/// Several objects are told by so many of their names.
const OBJECTS_NAMED: usize = 3;

/// Heals what is gone while its sidecar stands, and objects other than packs that are not what was written; gives whether anything was healed.
/// Without a key it is not known where packs lie: one that is missed may lie in a tier, whose copy is the one that counts.
pub(super) fn heal_small(reading: &Reading<'_>, listing: &Listing, trust: &Trust, is_keyless: bool) -> Result<bool> {
    let sidecars = of_kind(listing, ObjectKind::Parity);
    reading.progress.event(Event::Phase { name: "look for damage", bytes_total: None, items_total: Some(sidecars.len() as u64) });
    let objects = listing.values().flatten().map(|object| (sidecar_of(&object.name), object.name));
    let known: HashMap<ObjectName, ObjectName> = objects.collect();
    let mut elsewhere = (is_keyless && !of_kind(listing, ObjectKind::Placement).is_empty()).then(Vec::new);
    let mut has_healed = false;
    for sidecar in sidecars {
        reading.go_on()?;
        has_healed |= match known.get(&sidecar.name) {
            Some(object) if object.kind().is_pack() => false,
            Some(object) => match look_at(reading, object, trust.repository) {
                Ok(()) => false,
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                Err(error) => heal_one(reading, trust, object, &reading.tolerate(error)?)?,
            },
            None => bring_back(reading, trust, &sidecar.name, elsewhere.as_mut())?,
        };
        reading.progress.event(Event::Advance { bytes: 0, items: 1 });
    }
    if let Some(elsewhere) = elsewhere.filter(|packs| !packs.is_empty()) {
        let message = format!(
            "packs of content that are not here and whose sidecars stand: {}, as {}. They lie in tiers, or are lost and are not brought back: \
             check and scrub with a key tell which",
            elsewhere.len(),
            first_of(&elsewhere)
        );
        reading.findings.notice(message);
    }
    Ok(has_healed)
}

/// Whether an object that is no pack is what was written, whoever wrote it.
fn look_at(reading: &Reading<'_>, name: &ObjectName, repository: Option<RepositoryId>) -> Result<()> {
    let bytes = reading.backend.get(name, name.kind().size_max())?;
    let claimed = bytes.get(32..48).and_then(|id| id.try_into().ok()).map(RepositoryId);
    let repository = repository.or(claimed).unwrap_or(RepositoryId([0; 16]));
    check_keyless(name, &bytes, &repository).map(drop).map_err(|error| error.context(name))
}

/// Brings back what a sidecar heals, where that is gone. Whoever deletes an object takes its sidecar first, so it was lost; packs that may lie
/// `elsewhere` are only noted there.
fn bring_back(reading: &Reading<'_>, trust: &Trust, sidecar: &ObjectName, elsewhere: Option<&mut Vec<ObjectName>>) -> Result<bool> {
    let name = match Sidecar::read(reading.backend, trust, sidecar) {
        Ok(read) => read.head.object,
        // The check of sidecars says what is wrong with it.
        Err(error) if error.kind() == ErrorKind::Damaged => return Ok(false),
        // It may heal another time; repair has to know.
        Err(error) => return reading.judge(sidecar, Err::<(), _>(error)).map(|_| false),
    };
    // What has a size lies in a tier, as placement says: the check of placement looks for it there.
    if reading.backend.size(&name).is_ok() || !reading.is_gone(&name) || reading.is_gone(sidecar) {
        return Ok(false);
    }
    if let Some(elsewhere) = elsewhere.filter(|_| name.kind() == ObjectKind::DataPack) {
        elsewhere.push(name);
        return Ok(false);
    }
    let error = Error::new(ErrorKind::Damaged, format!("{name} is gone, and nobody deleted it: its sidecar {sidecar} stands"));
    let is_back = heal_one(reading, trust, &name, &error)?;
    if !is_back {
        reading.findings.add(name, &error);
    }
    Ok(is_back)
}

/// Heals one object with which `error` was found wrong, and tells of it; false where that cannot be done, which is told, too.
pub(super) fn heal_one(reading: &Reading<'_>, trust: &Trust, name: &ObjectName, error: &Error) -> Result<bool> {
    match heal(reading.backend, trust, name) {
        Ok(()) => {
            reading.findings.add_healed(*name, error);
            Ok(true)
        }
        Err(failure) => say_not_healed(reading, name, failure).map(|()| false),
    }
}

/// Tells why an object was not healed, unless it has no sidecar. It is a finding where that is not the sidecar's fault: repair then keeps both.
pub(super) fn say_not_healed(reading: &Reading<'_>, name: &ObjectName, failure: Error) -> Result<()> {
    if failure.kind() == ErrorKind::NotFound {
        return Ok(());
    }
    let failure = reading.tolerate(failure)?.context(format_args!("{name} cannot be healed"));
    match failure.kind() {
        ErrorKind::Damaged => reading.findings.notice(failure.to_string()),
        _ => drop(reading.findings.add(*name, &failure)),
    }
    Ok(())
}

/// Checks sidecars, if `reads_all` every byte of them; and says which objects have none although they should.
pub(super) fn check_sidecars(reading: &Reading<'_>, trust: &Trust, listing: &Listing, reads_all: bool, is_demanded: bool) -> Result<()> {
    let sidecars = of_kind(listing, ObjectKind::Parity);
    let objects: HashMap<ObjectName, &ObjectInfo> = listing.values().flatten().map(|object| (object.name, object)).collect();
    for sidecar in sidecars {
        reading.go_on()?;
        reading.counts.objects.fetch_add(1, Ordering::Relaxed);
        if reads_all {
            reading.counts.bytes_read.fetch_add(sidecar.size, Ordering::Relaxed);
            check_sidecar(reading, trust, &sidecar.name, &objects)?;
            reading.progress.event(Event::Advance { bytes: sidecar.size, items: 1 });
        }
    }
    if is_demanded { report_unprotected(reading, listing, sidecars) } else { Ok(()) }
}

fn check_sidecar(reading: &Reading<'_>, trust: &Trust, name: &ObjectName, objects: &HashMap<ObjectName, &ObjectInfo>) -> Result<()> {
    let read = Sidecar::read(reading.backend, trust, name);
    let whole = read.and_then(|sidecar| sidecar.check_copy(reading.backend, trust).map(|()| sidecar));
    let Some(sidecar) = reading.judge(name, whole)? else { return Ok(()) };
    let Some(object) = objects.get(&sidecar.head.object) else { return Ok(()) };
    let checked = sidecar.check_object(reading.backend, object);
    let is_unread = checked.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable);
    reading.judge(if is_unread { &object.name } else { name }, checked).map(drop)
}

/// The names of the first ones.
fn first_of(objects: &[ObjectName]) -> String {
    objects.iter().take(OBJECTS_NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A writer that is interrupted, or still at work, leaves an object without a sidecar: no damage, but nothing heals it.
fn report_unprotected(reading: &Reading<'_>, listing: &Listing, sidecars: &[ObjectInfo]) -> Result<()> {
    let known: HashSet<_> = sidecars.iter().map(|sidecar| sidecar.name).collect();
    let objects = listing.values().flatten().filter(|object| object.name.kind() != ObjectKind::Parity);
    let mut unprotected = Vec::new();
    for object in objects.filter(|object| !known.contains(&sidecar_of(&object.name))) {
        if reading.is_gone(&sidecar_of(&object.name)) && reading.is_there(&object.name).unwrap_or(false) {
            unprotected.push(object.name);
        }
    }
    if !unprotected.is_empty() {
        let (count, named) = (unprotected.len(), first_of(&unprotected));
        let message =
            format!("objects that have no sidecar, so that nothing heals them: {count}, as {named}; `icecore repair` writes sidecars");
        reading.findings.notice(message);
    }
    Ok(())
}
