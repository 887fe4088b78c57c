//! Sessions and what accompanies them, holds, epochs, and objects whose kind is reserved.

use super::clear::of_kind;
use super::reading::{Listing, Reading};
use crate::backend::{BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::epoch::EpochBody;
use crate::format::hold::HoldBody;
use crate::format::placement::PlacementBody;
use crate::format::relocations::RelocationsBody;
use crate::format::session::{BeatBody, ClosedBody, SessionBody, TombstoneBody, WithdrawnBody};
use crate::format::{Certificate, Roles};
use crate::id::{HoldId, PackId, SessionId, SnapshotId};
use crate::progress::counted;
use crate::repository::{Repository, SnapshotListing, advice_on_loss};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A small object whose sealed part was opened.
pub(super) struct Part {
    pub(super) plaintext: Vec<u8>,
    pub(super) certificate: Certificate,
    pub(super) hash: [u8; 32],
}

/// Reads an object whose body is one sealed part and opens it; what is wrong becomes a finding.
pub(super) fn read_part(reading: &Reading<'_>, repository: &Repository, object: &ObjectInfo) -> Result<Option<Part>> {
    let Some(bytes) = reading.read_small(object)? else { return Ok(None) };
    let Some(opened) = reading.open(&object.name, &bytes, &repository.trust)? else { return Ok(None) };
    let plaintext = opened.open_part(&*repository.credential, 0, opened.body).map_err(|error| named(error, &object.name));
    let plaintext = reading.judge(&object.name, plaintext)?;
    Ok(plaintext.map(|plaintext| Part { plaintext, certificate: opened.certificate.clone(), hash: opened.hash }))
}

/// Puts the object's name before a message about its content.
pub(super) fn named(error: Error, name: &ObjectName) -> Error {
    if error.broken_rule().is_some() { error.context(name) } else { error }
}

/// What is known of the sessions.
#[derive(Default)]
pub(super) struct Sessions {
    certificates: HashMap<SessionId, Certificate>,
    /// Closed sessions and withdrawn snapshots, as far as they are believed.
    pub(super) snapshots: SnapshotListing,
    /// Markers of withdrawn snapshots that were read, believed or not.
    markers: HashSet<SnapshotId>,
}

/// Checks `sessions/ beats/ closed/ tombstones/ withdrawn/ holds/`.
pub(super) fn check_sessions(reading: &Reading<'_>, repository: &Repository, listing: &Listing) -> Result<Sessions> {
    let mut sessions = Sessions::default();
    let mut open = HashMap::new();
    sessions.snapshots.snapshots = of_kind(listing, ObjectKind::Snapshot).iter().map(|object| SnapshotId(object.name.id())).collect();
    // The check of snapshots says what is wrong with those that cannot be read.
    repository.read_listed(&mut sessions.snapshots)?;
    let made = sessions.snapshots.headers().map(|(_, header)| (header.record.id(), header.record.certificate().clone()));
    sessions.certificates = made.collect();
    for object in of_kind(listing, ObjectKind::Session) {
        let Some(part) = read_part(reading, repository, object)? else { continue };
        let decode = || {
            let body = SessionBody::decode(&part.plaintext, &repository.id, &repository.trust)?;
            body.check_object(SessionId(object.name.id()), &part.certificate)?;
            Ok(body)
        };
        let body = reading.judge(&object.name, decode().map_err(|error| named(error, &object.name)))?;
        if let Some(body) = body {
            sessions.certificates.insert(body.record.id(), part.certificate);
            open.insert(body.record.id(), body.label);
        }
    }
    for object in of_kind(listing, ObjectKind::Beat) {
        let Some(part) = read_part(reading, repository, object)? else { continue };
        let decoded = BeatBody::decode(&part.plaintext).and_then(|_| sessions.check_own(object, &part.certificate, None));
        reading.judge(&object.name, decoded.map_err(|error| named(error, &object.name)))?;
    }
    for object in of_kind(listing, ObjectKind::Closed) {
        let Some(part) = read_part(reading, repository, object)? else { continue };
        let decode = || {
            let body = ClosedBody::decode(&part.plaintext)?;
            sessions.check_own(object, &part.certificate, Some(Roles::MAINTAIN))?;
            Ok(body)
        };
        let body = reading.judge(&object.name, decode().map_err(|error| named(error, &object.name)))?;
        let session = SessionId(object.name.id());
        // A closed object that breaks a rule still says that somebody meant to close the session: no notice beside the finding.
        open.remove(&session);
        if let Some(body) = body {
            sessions.snapshots.closed.insert(session, body);
        }
    }
    for object in of_kind(listing, ObjectKind::Tombstone) {
        let Some(part) = read_part(reading, repository, object)? else { continue };
        reading.judge(&object.name, TombstoneBody::decode(&part.plaintext).map_err(|error| named(error, &object.name)))?;
    }
    for object in of_kind(listing, ObjectKind::Withdrawn) {
        let Some(part) = read_part(reading, repository, object)? else { continue };
        sessions.markers.insert(SnapshotId(object.name.id()));
        let decode = || {
            let body = WithdrawnBody::decode(&part.plaintext)?;
            repository.check_withdrawal(SnapshotId(object.name.id()), &body, &part.certificate, &sessions.snapshots)
        };
        if reading.judge(&object.name, decode().map_err(|error| named(error, &object.name)))?.is_some() {
            sessions.snapshots.withdrawn.insert(SnapshotId(object.name.id()));
        }
    }
    check_holds(reading, repository, listing, &mut sessions)?;
    let mut open: Vec<_> = open.into_iter().collect();
    open.sort_unstable();
    for (session, label) in open {
        reading.findings.notice(format!("session {session} ({}) is not closed: it is at work, or was interrupted", label.escape_debug()));
    }
    repository.compare_with_sightings(&mut sessions.snapshots)?;
    sessions.snapshots.unkept.take().into_iter().for_each(|message| reading.findings.notice(message));
    report_missing(reading, repository, &sessions, listing);
    Ok(sessions)
}

/// Checks `holds/`, and withdrawals against them.
fn check_holds(reading: &Reading<'_>, repository: &Repository, listing: &Listing, sessions: &mut Sessions) -> Result<()> {
    let snapshots = &mut sessions.snapshots;
    snapshots.holds.are_listed = true;
    for object in of_kind(listing, ObjectKind::Hold) {
        let Some(part) = read_part(reading, repository, object)? else { continue };
        let body = HoldBody::decode(&part.plaintext, &part.certificate).map_err(|error| named(error, &object.name));
        if let Some(body) = reading.judge(&object.name, body)? {
            snapshots.holds.add(HoldId(object.name.id()), body, part.certificate.credential());
        }
    }
    repository.prove_time(snapshots)?;
    for (snapshot, refusal) in snapshots.disbelieve_held() {
        let name = ObjectName::withdrawn(snapshot);
        reading.judge::<()>(&name, Err(refusal.context(name)))?;
    }
    // In a replica it may come later than its hold; otherwise `closed/` or who saw it misses it.
    let there: HashSet<_> = snapshots.snapshots.iter().copied().collect();
    let absent: BTreeSet<_> = snapshots.holds.all_held().filter(|id| !there.contains(id)).collect();
    for id in absent.into_iter().filter(|id| reading.is_gone(&ObjectName::snapshot(*id))) {
        reading.findings.notice(format!("snapshot {id} is held and is not here: it was not brought here yet, or it was taken away"));
    }
    Ok(())
}

/// Tells of snapshots and sessions that ought to be there.
fn report_missing(reading: &Reading<'_>, repository: &Repository, sessions: &Sessions, listing: &Listing) {
    if let Some(setback) = &sessions.snapshots.setback {
        reading.findings.say(None, None, setback.to_string());
    }
    for id in sessions.snapshots.missing() {
        let name = ObjectName::snapshot(id);
        // Forgotten meanwhile, or published after the snapshots were listed: look again.
        let closed = sessions.snapshots.closed.iter().find(|(_, closed)| closed.snapshots.contains(&id));
        let was_seen = sessions.snapshots.vanished.contains_key(&id);
        let is_settled = !was_seen && closed.is_none_or(|(session, _)| reading.is_gone(&ObjectName::closed(*session)));
        if is_settled || !reading.is_gone(&name) {
            continue;
        }
        match sessions.is_withdrawn_meanwhile(repository, id) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                reading.findings.add(name, &error.context(format!("{name} is gone, and whether it was forgotten is not known")));
                continue;
            }
        }
        let message = format!(
            "{name} was published and is gone without having been forgotten: somebody or something removed it from the store; {}",
            advice_on_loss(id)
        );
        let finding = reading.findings.say(Some(name), None, message);
        reading.findings.blame(finding, id);
    }
    let listed = of_kind(listing, ObjectKind::Session);
    for (session, closed) in &sessions.snapshots.closed {
        let name = ObjectName::session(*session);
        // The object of a session that was given up may have been cleaned away before its writer, which slept, published.
        let publishes = closed.finished && closed.snapshots.iter().any(|id| sessions.snapshots.snapshots.contains(id));
        let is_listed = listed.binary_search_by(|object| object.name.cmp(&name)).is_ok();
        let is_there = |name: ObjectName| reading.is_there(&name).unwrap_or(false);
        // A collector removes snapshots, then the session, then its end: none of what was listed may be there any more.
        let stand = || is_there(ObjectName::closed(*session)) && closed.snapshots.iter().any(|id| is_there(ObjectName::snapshot(*id)));
        if publishes && !is_listed && reading.is_gone(&name) && stand() {
            reading.findings.say(Some(name), None, format!("{name} is gone, while the snapshots that it published are there"));
        }
    }
}

impl Sessions {
    /// Whether a snapshot was withdrawn after everything was listed, or by a marker that could not be read then. One that was read and not believed does
    /// not count.
    ///
    /// # Errors
    /// Where the marker cannot be read even now.
    pub(super) fn is_withdrawn_meanwhile(&self, repository: &Repository, id: SnapshotId) -> Result<bool> {
        Ok(!self.markers.contains(&id) && repository.is_withdrawn(id, &self.snapshots)?)
    }

    /// The companion of a session must carry the session's certificate, or one with the role that `other` names.
    fn check_own(&self, object: &ObjectInfo, certificate: &Certificate, other: Option<Roles>) -> Result<()> {
        let own = self.certificates.get(&SessionId(object.name.id()));
        let is_other = other.is_some_and(|roles| certificate.roles().contain(roles));
        match own.is_none_or(|own| own == certificate) || is_other {
            true => Ok(()),
            false => Err(Error::rule("SESS-3", "it carries another certificate than its session")),
        }
    }
}

/// Checks `epochs/`. They are never removed: what a lost one condemns, a writer would take for safe. What is none only uses up its number.
pub(super) fn check_epochs(reading: &Reading<'_>, repository: &Repository, listing: &Listing) -> Result<()> {
    let (mut before, mut last_listed) = ((0, [0; 32]), 0);
    let mut first_lost = None;
    for object in of_kind(listing, ObjectKind::Epoch) {
        let number = object.name.number();
        if number.saturating_sub(last_listed) > 1 {
            first_lost = first_lost.or(Some((last_listed + 1, number - 1)));
        }
        last_listed = number;
        let Some(part) = read_part(reading, repository, object)? else { continue };
        let decode = || {
            let body = EpochBody::decode(&part.plaintext)?;
            body.check_predecessor(number, Some(&before.1).filter(|_| before.0 + 1 == number))?;
            Ok(body)
        };
        let body = reading.judge(&object.name, decode().map_err(|error| named(error, &object.name)))?;
        // One that names the one before shows that none was between them.
        let names_before = body.is_some_and(|body| body.predecessor == before.1);
        if let Some((first, last)) = first_lost.take().filter(|(first, _)| !names_before && reading.is_gone(&ObjectName::epoch(*first))) {
            let message = format!("epochs {first} to {last} are not there, and they are never removed");
            reading.findings.say(Some(ObjectName::epoch(first)), Some("EPOCH-2"), message);
        }
        before = (number, part.hash);
    }
    Ok(())
}

/// Checks `relocations/`.
pub(super) fn check_relocations(reading: &Reading<'_>, repository: &Repository, listing: &Listing) -> Result<()> {
    for object in of_kind(listing, ObjectKind::Relocation) {
        let Some(part) = read_part(reading, repository, object)? else { continue };
        reading.judge(&object.name, RelocationsBody::decode(&part.plaintext).map_err(|error| named(error, &object.name)))?;
    }
    Ok(())
}

/// Checks `placement/`, and that each pack lies where it says, as far as its place can be asked now.
pub(super) fn check_placement(reading: &Reading<'_>, repository: &Repository, listing: &Listing) -> Result<()> {
    for object in of_kind(listing, ObjectKind::Placement) {
        let Some(part) = read_part(reading, repository, object)? else { continue };
        reading.judge(&object.name, PlacementBody::decode(&part.plaintext).map_err(|error| named(error, &object.name)))?;
    }
    let view = repository.tiers.view()?;
    for tier in view.tiers.values() {
        let placed: BTreeMap<_, _> = view
            .packs()
            .filter_map(|pack| view.coldest(pack))
            .filter(|(of, _)| of.tier == tier.tier)
            .map(|(_, placed)| (ObjectName::pack(ObjectKind::DataPack, placed.pack), placed.size))
            .collect();
        let place = repository.tiers.place(tier).and_then(|place| repository.tiers.look(tier, &*place).map(|()| place));
        let there: BTreeMap<ObjectName, u64> = match place.and_then(|place| place.list_sorted(ObjectKind::DataPack)) {
            Ok(packs) => packs.into_iter().map(|object| (object.name, object.size)).collect(),
            Err(error) if error.kind() == ErrorKind::Frozen => {
                reading.findings.notice(format!("not looked for: {}: {error}", counted(placed.len() as u64, "pack")));
                continue;
            }
            Err(error) => return Err(error.context(format!("tier {}", tier.name))),
        };
        for (name, size) in placed.into_iter().filter(|(name, size)| there.get(name) != Some(&u64::from(*size))) {
            // A pack that a collector deletes is said to be there until placement is written anew.
            let moved = repository.tiers.reload()?.coldest(PackId(name.id())).is_none_or(|(now, _)| now.tier != tier.tier);
            if moved || repository.condemned()?.1.contains(&(ObjectKind::DataPack, PackId(name.id()))) {
                continue;
            }
            let found = there.get(&name).map_or("is not there".to_owned(), |size| format!("has {size} bytes there"));
            let message = format!("{name}: lies in tier {} with {size} bytes, as placement says, and {found}", tier.name);
            reading.findings.say(Some(name), None, message);
        }
    }
    Ok(())
}

/// Checks objects whose kind nothing writes yet, as far as every object is alike.
pub(super) fn check_reserved(reading: &Reading<'_>, repository: &Repository, listing: &Listing) -> Result<()> {
    let is_reserved = |kind: ObjectKind| kind > ObjectKind::Placement && !matches!(kind, ObjectKind::Hold | ObjectKind::Parity);
    for object in listing.iter().filter(|(kind, _)| is_reserved(**kind)).flat_map(|(_, objects)| objects) {
        if let Some(bytes) = reading.read_small(object)? {
            reading.open(&object.name, &bytes, &repository.trust)?;
        }
    }
    Ok(())
}
