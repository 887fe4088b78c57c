//! Snapshots: which there are, which of them count, and what they say.

use super::Repository;
use super::frame_reader::{FrameReader, SnapshotChunks};
use super::holds::{Held, Holds};
use super::objects::Unsealed;
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::object::Opened;
use crate::format::session::{ClosedBody, WithdrawnBody, snapshot_sealer};
use crate::format::snapshot::{SnapshotBody, SnapshotHeader, Token, split};
use crate::format::{Certificate, Roles};
use crate::id::{SessionId, SnapshotId};
use crate::runtime::Timestamp;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Whether a snapshot counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotState {
    /// Its session was closed: it counts.
    Closed,
    /// Its session is not closed: it counts once all its frames were found.
    Suspect,
}

/// A snapshot as a restore credential sees it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// Whether it counts.
    pub state: SnapshotState,
    /// What maintenance may know.
    pub header: SnapshotHeader,
    /// What it was made of.
    pub body: SnapshotBody,
    /// Why it must not go, where it is held.
    pub held: Option<Held>,
}

/// What is wrong, and of which series alone, where that can be told.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) series: Option<Token>,
    pub(super) error: Error,
}

/// Header and sealed body of a snapshot.
type Pieces = (SnapshotHeader, Vec<u8>);

/// Everything that is listed about snapshots and their sessions.
#[derive(Debug, Default)]
pub(crate) struct SnapshotListing {
    pub(crate) snapshots: Vec<SnapshotId>,
    /// Header and sealed body of each of them that could be read.
    pieces: HashMap<SnapshotId, Pieces>,
    pub(crate) closed: BTreeMap<SessionId, ClosedBody>,
    /// Those whose withdrawal is believed. Of what is held none is (HOLD-7).
    pub(crate) withdrawn: BTreeSet<SnapshotId>,
    /// What must not go.
    pub(crate) holds: Holds,
    /// Objects that break a rule: the name, and how.
    pub(crate) problems: Vec<(ObjectName, Error)>,
    /// Snapshots that were seen to count before and that are gone without having been withdrawn, and who made them.
    pub(crate) vanished: BTreeMap<SnapshotId, SessionId>,
    /// Snapshots that were seen to count before, that are there, and of which nothing says any more that they count.
    pub(crate) unclosed: BTreeSet<SnapshotId>,
    /// When snapshots were first seen from here, as far as that is known.
    pub(crate) sights: BTreeMap<SnapshotId, super::Sight>,
    /// Of which series snapshots are that were seen before from here.
    pub(crate) series: BTreeMap<SnapshotId, Token>,
    /// The store serves an older state than was seen before.
    pub(crate) setback: Option<Error>,
    /// Why what is seen now will not be remembered.
    pub(crate) unkept: Option<String>,
    /// What cannot be read while the store answers is a problem, too, and ends nothing.
    is_to_read: bool,
}

/// Whose certificate a session has: from its snapshots, or from the session object.
struct Signers {
    known: HashMap<SessionId, Option<Certificate>>,
    of_snapshots: HashSet<SessionId>,
}

impl Signers {
    fn of(pieces: &HashMap<SnapshotId, Pieces>) -> Self {
        let known: HashMap<_, _> =
            pieces.values().map(|(header, _)| (header.record.id(), Some(header.record.certificate().clone()))).collect();
        Self { of_snapshots: known.keys().copied().collect(), known }
    }

    /// Whether a snapshot of the session is there.
    fn have_snapshots(&self, session: SessionId) -> bool {
        self.of_snapshots.contains(&session)
    }

    /// Whether `certificate` may speak for `session`. Where nothing is left that tells, it may: what it says is then at most an alarm.
    fn allow(&mut self, repository: &Repository, session: SessionId, certificate: &Certificate) -> Result<bool> {
        if certificate.roles().contain(Roles::MAINTAIN) {
            return Ok(true);
        }
        let own = match self.known.entry(session) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let read = repository.read_session(session);
                let known = match read {
                    Ok(body) => Some(body.record.certificate().clone()),
                    Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                };
                unknown.insert(known)
            }
        };
        Ok(own.as_ref().is_none_or(|own| own == certificate))
    }
}

impl SnapshotListing {
    /// The value; or nothing, with a note where a rule was broken. Objects that vanish meanwhile are nothing either.
    pub(super) fn keep_or_note<T>(&mut self, repository: &Repository, name: ObjectName, read: Result<T>) -> Result<Option<T>> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.broken_rule().is_some() || (self.is_to_read && repository.answers_after(&error)) => {
                self.problems.push((name, error));
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The headers that could be read.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (SnapshotId, &SnapshotHeader)> {
        self.pieces.iter().map(|(id, (header, _))| (*id, header))
    }

    /// The header of a snapshot that could be read.
    pub(crate) fn header(&self, id: SnapshotId) -> Option<&SnapshotHeader> {
        self.pieces.get(&id).map(|(header, _)| header)
    }

    /// When the last lock of a snapshot ends, where it has any.
    pub(crate) fn locked_until(&self, id: SnapshotId) -> Option<Timestamp> {
        self.holds.held(id)?.until
    }

    /// Objects that could not be read, and why.
    pub(super) fn unread(&self) -> impl Iterator<Item = &(ObjectName, Error)> {
        self.problems.iter().filter(|(_, error)| error.kind() == ErrorKind::Unavailable)
    }

    /// Of which series a snapshot is that cannot be read, where that was seen before.
    fn series_of(&self, id: SnapshotId) -> Option<Token> {
        self.series.get(&id).copied()
    }

    /// What makes snapshots count that others published: who relies on them makes it durable (`OthersDurable`).
    pub(crate) fn publications(&self, snapshots: impl IntoIterator<Item = SnapshotId>) -> Vec<ObjectName> {
        let ended = |id| self.header(id).map(|header| header.record.id());
        let names = |id| {
            [ObjectName::snapshot(id)]
                .into_iter()
                .chain(ended(id).into_iter().flat_map(|session| [ObjectName::session(session), ObjectName::closed(session)]))
        };
        snapshots.into_iter().flat_map(names).collect()
    }

    /// Whether a snapshot with this header counts.
    pub(crate) fn state(&self, id: SnapshotId, header: &SnapshotHeader) -> SnapshotState {
        match self.closed.get(&header.record.id()).is_some_and(|closed| closed.snapshots.contains(&id)) {
            true => SnapshotState::Closed,
            false => SnapshotState::Suspect,
        }
    }

    /// Snapshots that a closed session published, or that were seen before, and that are neither there nor withdrawn: damage.
    pub(crate) fn missing(&self) -> Vec<SnapshotId> {
        let there: HashSet<_> = self.snapshots.iter().collect();
        let named = self.closed.values().flat_map(|closed| &closed.snapshots);
        let missing = named.chain(self.vanished.keys()).filter(|id| !there.contains(id) && !self.withdrawn.contains(id));
        missing.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl Repository {
    /// Lists snapshots and what decides whether they count. What breaks a rule is listed as a problem and otherwise ignored.
    pub(crate) fn list_snapshots(&self) -> Result<SnapshotListing> {
        self.list_snapshots_into(SnapshotListing::default())
    }

    /// As [`Repository::list_snapshots`] for who only reads: an object that cannot be read while the store answers is a problem as well.
    pub(crate) fn list_snapshots_to_read(&self) -> Result<SnapshotListing> {
        self.list_snapshots_into(SnapshotListing { is_to_read: true, ..SnapshotListing::default() })
    }

    fn list_snapshots_into(&self, mut listing: SnapshotListing) -> Result<SnapshotListing> {
        // Snapshots first: one that is published meanwhile is then missing from the list, not from the world.
        let listed = self.backend.list_sorted(ObjectKind::Snapshot)?;
        let ids: Vec<_> = listed.iter().map(|object| SnapshotId(object.name.id())).collect();
        for (id, read) in self.read_each(&ids)? {
            if let Some(pieces) = listing.keep_or_note(self, ObjectName::snapshot(id), read)? {
                listing.pieces.insert(id, pieces);
            }
        }
        listing.snapshots = ids;
        let mut signers = Signers::of(&listing.pieces);
        self.for_each_sealed(ObjectKind::Closed, |name, read| {
            let session = SessionId(name.id());
            let read = read.and_then(|unsealed| self.check_closed(session, &unsealed, &mut signers));
            if let Some(body) = listing.keep_or_note(self, name, read)? {
                listing.closed.insert(session, body);
            }
            Ok(())
        })?;
        self.ask_for_named(&mut listing)?;
        self.for_each_sealed(ObjectKind::Withdrawn, |name, read| {
            let snapshot = SnapshotId(name.id());
            let read = read.and_then(|unsealed| self.check_withdrawn(snapshot, unsealed, &listing));
            if listing.keep_or_note(self, name, read)?.is_some() {
                listing.withdrawn.insert(snapshot);
            }
            Ok(())
        })?;
        // After the withdrawals (`HoldsAfterWithdrawals`): a hold that was there before one is seen beside it.
        listing.holds = self.list_holds(|name, read| listing.keep_or_note(self, name, read))?;
        self.prove_time(&mut listing)?;
        for (snapshot, error) in listing.disbelieve_held() {
            listing.problems.push((ObjectName::withdrawn(snapshot), error));
        }
        // What was taken back is not missed, whatever became of it.
        let SnapshotListing { problems, withdrawn, .. } = &mut listing;
        problems.retain(|(name, _)| name.kind() != ObjectKind::Snapshot || !withdrawn.contains(&SnapshotId(name.id())));
        // What is not known now is neither gone nor another one.
        if listing.unread().next().is_none() {
            match self.compare_with_sightings(&mut listing) {
                Err(error) if listing.is_to_read && self.answers_after(&error) => {
                    listing.setback = Some(error.context("what was seen before cannot be compared"));
                }
                compared => compared?,
            }
        }
        Ok(listing)
    }

    /// Reads header and sealed body of the snapshots of a listing that has none yet, as far as that can be done now.
    pub(crate) fn read_listed(&self, listing: &mut SnapshotListing) -> Result<()> {
        let read = self.read_each(&listing.snapshots)?;
        listing.pieces = read.filter_map(|(id, read)| Some((id, read.ok()?))).collect();
        Ok(())
    }

    fn read_each<'s>(&self, snapshots: &'s [SnapshotId]) -> Result<impl Iterator<Item = (SnapshotId, Result<Pieces>)> + 's> {
        let read = self.ask_each(snapshots, |id| self.read_snapshot_pieces(*id))?;
        Ok(snapshots.iter().copied().zip(read))
    }

    /// Adds snapshots that a session closed with and that were not listed: they may have been published since (`AskByName`).
    fn ask_for_named(&self, listing: &mut SnapshotListing) -> Result<()> {
        let named: BTreeSet<_> = listing.closed.values().flat_map(|closed| closed.snapshots.iter().copied()).collect();
        let listed = listing.snapshots.iter().copied().collect();
        for id in named.difference(&listed).copied() {
            match self.read_snapshot_pieces(id) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                read => {
                    listing.snapshots.push(id);
                    if let Some(pieces) = listing.keep_or_note(self, ObjectName::snapshot(id), read)? {
                        listing.pieces.insert(id, pieces);
                    }
                }
            }
        }
        listing.snapshots.sort_unstable();
        Ok(())
    }

    /// What `closed/` says, if the session itself or maintain says it (SESS-3). Who closes a session without a snapshot does not matter: otherwise
    /// anybody could keep a snapshot from counting.
    fn check_closed(&self, session: SessionId, unsealed: &Unsealed, signers: &mut Signers) -> Result<ClosedBody> {
        let body = ClosedBody::decode(&unsealed.plaintext)?;
        let says_nothing = body.snapshots.is_empty() && !signers.have_snapshots(session);
        match says_nothing || signers.allow(self, session, &unsealed.certificate)? {
            true => Ok(body),
            false => Err(Error::rule("SESS-3", "somebody else's session may only be closed by maintain")),
        }
    }

    /// Whether the session of a snapshot is closed with it by now.
    pub(super) fn is_closed_with(&self, snapshot: SnapshotId, session: SessionId, listing: &SnapshotListing) -> Result<bool> {
        let read = self.read_sealed(&ObjectName::closed(session));
        match read.and_then(|unsealed| self.check_closed(session, &unsealed, &mut Signers::of(&listing.pieces))) {
            Ok(closed) => Ok(closed.snapshots.contains(&snapshot)),
            Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What `withdrawn/` says, and who says it, if that is the snapshot's own session or maintain, of that session (SESS-3, SESS-4), and the snapshot
    /// is not held (HOLD-7) as `listing` knows it.
    pub(crate) fn read_withdrawn(&self, snapshot: SnapshotId, listing: &SnapshotListing) -> Result<(WithdrawnBody, Certificate)> {
        self.check_withdrawn(snapshot, self.read_sealed(&ObjectName::withdrawn(snapshot))?, listing)
    }

    fn check_withdrawn(&self, snapshot: SnapshotId, unsealed: Unsealed, listing: &SnapshotListing) -> Result<(WithdrawnBody, Certificate)> {
        let body = WithdrawnBody::decode(&unsealed.plaintext)?;
        self.check_withdrawal(snapshot, &body, &unsealed.certificate, listing)?;
        match listing.holds.held(snapshot) {
            Some(held) => Err(held.refusal()),
            None => Ok((body, unsealed.certificate)),
        }
    }

    /// Whether whoever has this certificate may withdraw a snapshot: maintain, or the session that made it, which need not be closed yet.
    pub(crate) fn check_withdrawal(
        &self,
        snapshot: SnapshotId,
        body: &WithdrawnBody,
        certificate: &Certificate,
        listing: &SnapshotListing,
    ) -> Result<()> {
        let is_maintain = certificate.roles().contain(Roles::MAINTAIN);
        let header = match listing.header(snapshot) {
            Some(header) => Ok(header.clone()),
            // Of one that was not listed the word of maintain is enough.
            None if is_maintain && listing.snapshots.binary_search(&snapshot).is_err() => return Ok(()),
            None => self.read_snapshot_header(snapshot),
        };
        let is_allowed = match header {
            Ok(header) if is_maintain && header.record.id() != body.session => {
                let message = format!("it withdraws a snapshot of session {}, not of {}", body.session, header.record.id());
                return Err(Error::rule("SESS-4", message));
            }
            Ok(header) => is_maintain || header.record.id() == body.session && header.record.certificate() == certificate,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                is_maintain || self.is_own_withdrawal(snapshot, body, certificate, listing)?
            }
            Err(error) if error.broken_rule().is_some() => is_maintain,
            Err(error) => return Err(error),
        };
        if !is_allowed {
            return Err(Error::rule("SESS-3", "somebody else's snapshot may only be withdrawn by maintain"));
        }
        match !is_maintain && self.closed_by_itself(body.session, snapshot)? {
            false => Ok(()),
            true => Err(Error::rule("SESS-5", "its own session has finished it, so only maintain may withdraw it")),
        }
    }

    /// Whether a session that does not maintain has closed itself and said that this snapshot counts. Asked by name (`AskByName`): it may have
    /// closed since others were listed.
    fn closed_by_itself(&self, session: SessionId, snapshot: SnapshotId) -> Result<bool> {
        let read = self.read_sealed(&ObjectName::closed(session));
        match read.and_then(|unsealed| Ok((ClosedBody::decode(&unsealed.plaintext)?, unsealed.certificate))) {
            Ok((body, certificate)) => Ok(!certificate.roles().contain(Roles::MAINTAIN) && body.snapshots.contains(&snapshot)),
            Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a snapshot that is gone was withdrawn by the session that made it.
    fn is_own_withdrawal(
        &self,
        snapshot: SnapshotId,
        body: &WithdrawnBody,
        certificate: &Certificate,
        listing: &SnapshotListing,
    ) -> Result<bool> {
        // The body alone proves nothing: it could name a session of its writer for another's snapshot.
        let mut closed = listing.closed.iter();
        if closed.any(|(session, closed)| *session != body.session && closed.snapshots.contains(&snapshot)) {
            return Ok(false);
        }
        match self.read_sealed(&ObjectName::session(body.session)) {
            Ok(session) => Ok(session.certificate == *certificate),
            Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a snapshot's header, which every credential may.
    pub(crate) fn read_snapshot_header(&self, id: SnapshotId) -> Result<SnapshotHeader> {
        self.read_snapshot_pieces(id).map(|(header, _)| header)
    }

    fn read_snapshot_pieces(&self, id: SnapshotId) -> Result<Pieces> {
        let name = ObjectName::snapshot(id);
        let bytes = self.backend.get(&name, name.kind().size_max())?;
        let opened = Opened::check(&name, &bytes, &self.trust)?;
        let decode = || {
            let (sealed_header, sealed_body) = split(opened.body)?;
            let plaintext = opened.open_part(&*self.credential, 0, sealed_header).map_err(|error| match error.broken_rule() {
                Some(_) => Error::rule("SNAP-2", "the sealed header does not open"),
                None => error,
            })?;
            let header = SnapshotHeader::decode(&plaintext, &self.id, &self.trust)?;
            header.check_certificate(&opened.certificate)?;
            Ok((header, sealed_body.to_vec()))
        };
        decode().map_err(|error: Error| error.context(name))
    }

    /// Reads a snapshot (SNAP-1 to SNAP-11). `listing` decides whether it counts.
    pub(crate) fn read_snapshot(&self, id: SnapshotId, listing: &SnapshotListing) -> Result<Snapshot> {
        let (header, mut sealed_body) = match listing.pieces.get(&id) {
            Some(pieces) => pieces.clone(),
            None => self.read_snapshot_pieces(id)?,
        };
        let name = ObjectName::snapshot(id);
        let secret = header.record.open_secret(&self.credential.restore_keys).map_err(|error| error.context(name))?;
        let body = match snapshot_sealer(&secret, &header.record.id(), &id).open(0, &mut sealed_body) {
            true => SnapshotBody::decode(&sealed_body).map_err(|error| error.context(name))?,
            false => return Err(Error::rule("SNAP-8", "the sealed body does not open").context(name)),
        };
        body.check_tokens(&self.credential.token_key, &header.series, &header.tags).map_err(|error| error.context(name))?;
        Ok(Snapshot { id, state: listing.state(id, &header), header, body, held: listing.holds.held(id) })
    }

    /// All snapshots that count, oldest first. Suspect ones are shown when all their frames were found.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role restore; [`ErrorKind::Damaged`] where a snapshot breaks a rule or is missing although a
    /// closed session published it (`latest` must never quietly fall back to an older one).
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let (snapshots, problems) = self.snapshots_and_problems()?;
        match problems.into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(snapshots),
        }
    }

    /// As [`Repository::snapshots`], with what is wrong beside what is right.
    pub fn snapshots_and_problems(&self) -> Result<(Vec<Snapshot>, Vec<Error>)> {
        let (snapshots, problems) = self.snapshots_and_problems_of_series()?;
        Ok((snapshots, problems.into_iter().map(|problem| problem.error).collect()))
    }

    /// The same, and of each problem of which series alone it is, where that can be told.
    pub(super) fn snapshots_and_problems_of_series(&self) -> Result<(Vec<Snapshot>, Vec<Problem>)> {
        self.require(Roles::RESTORE, "reading snapshots")?;
        let mut listing = self.list_snapshots_to_read()?;
        let (mut snapshots, mut suspects, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        let readable = |id: &&SnapshotId| listing.pieces.contains_key(id) && !listing.withdrawn.contains(id);
        for id in listing.snapshots.iter().filter(readable) {
            match self.read_snapshot(*id, &listing) {
                Ok(snapshot) if snapshot.state == SnapshotState::Suspect => suspects.push(snapshot),
                Ok(snapshot) => snapshots.push(snapshot),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported) => {
                    // Its header opens, and is not believed any more than its body.
                    problems.push(Problem { series: None, error });
                }
                Err(error) => return Err(error),
            }
        }
        for id in listing.missing() {
            // It may have been published, or forgotten, while we were listing: ask by name, in the order in which things are written.
            match self.read_snapshot(id, &listing) {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported) => {
                    problems.push(Problem { series: listing.series_of(id), error });
                }
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Err(_) => match self.is_withdrawn(id, &listing) {
                    Ok(true) => {}
                    Ok(false) => problems.push(Problem { series: listing.series_of(id), error: missing_snapshot(id) }),
                    Err(error) if self.answers_after(&error) => problems.push(Problem { series: listing.series_of(id), error }),
                    Err(error) => return Err(error),
                },
            }
        }
        let noted = std::mem::take(&mut listing.problems).into_iter();
        problems.extend(noted.map(|(name, error)| match name.kind() {
            ObjectKind::Snapshot => Problem { series: listing.series_of(SnapshotId(name.id())), error },
            _ => Problem { series: None, error },
        }));
        problems.extend(listing.setback.take().map(|error| Problem { series: None, error }));
        let counted: Vec<_> = suspects.iter().map(|snapshot| snapshot.id).filter(|id| listing.unclosed.contains(id)).collect();
        match self.proven(suspects) {
            Ok(proven) => {
                let unproven = counted.into_iter().filter(|id| proven.iter().all(|snapshot| snapshot.id != *id));
                for id in unproven {
                    // The marker first, which goes after the snapshot: it may have been forgotten and collected while we were listing.
                    let stands = || -> Result<bool> { Ok(!self.is_withdrawn(id, &listing)? && self.has(&ObjectName::snapshot(id))?) };
                    let problem = match stands() {
                        Ok(true) => Some(unclosed_snapshot(id)),
                        Ok(false) => None,
                        Err(error) if self.answers_after(&error) => Some(error),
                        Err(error) => return Err(error),
                    };
                    problems.extend(problem.map(|error| Problem { series: listing.series_of(id), error }));
                }
                snapshots.extend(proven);
            }
            Err(error) if self.answers_after(&error) => problems.push(Problem { series: None, error }),
            Err(error) => return Err(error),
        }
        snapshots.sort_by_key(|snapshot| (snapshot.header.time, snapshot.header.sequence, snapshot.id));
        Ok((snapshots, problems))
    }

    /// Those of the suspect snapshots whose frames are all in listed packs that no epoch condemns.
    fn proven(&self, suspects: Vec<Snapshot>) -> Result<Vec<Snapshot>> {
        if suspects.is_empty() {
            return Ok(suspects);
        }
        let reader = self.standing_reader()?;
        let mut proven = Vec::new();
        for snapshot in suspects {
            match self.snapshot_chunks(&reader, &snapshot.header) {
                Ok(_) => proven.push(snapshot),
                Err(error) if error.kind() == ErrorKind::Damaged => {}
                Err(error) => return Err(error),
            }
        }
        Ok(proven)
    }

    /// Reads frames of packs that no epoch condemns, by which alone a suspect snapshot is proven: others may be gone at any moment
    /// (`ReaderByUncondemned`).
    pub(crate) fn standing_reader(&self) -> Result<FrameReader> {
        let index = self.open_index()?;
        index.remove_packs(&self.condemned()?.1);
        Ok(FrameReader::new(self, index))
    }

    /// The chunks that a snapshot may use, after all frames that its refs name were found.
    pub(crate) fn snapshot_chunks<'a>(&'a self, reader: &'a FrameReader, header: &SnapshotHeader) -> Result<SnapshotChunks<'a>> {
        let mut chunks = SnapshotChunks::new(self, reader, header.refs_root);
        self.walk_refs(reader, &header.refs_root, |used| match chunks.allow(&used)? {
            true => Ok(()),
            false => {
                let message = format!("frame {}, which the snapshot needs, is in no pack; run check", used.frame);
                Err(Error::new(ErrorKind::Damaged, message))
            }
        })?;
        Ok(chunks)
    }
}

/// What to do where something was taken away from the store.
pub(crate) fn advice_on_loss(id: SnapshotId) -> String {
    format!("bring it back from a copy of the repository (as `icecore repair --from` does), or accept the loss with `icecore forget {id}`")
}

pub(super) fn missing_snapshot(id: SnapshotId) -> Error {
    let message = format!(
        "snapshot {id} was published and is gone without having been forgotten: somebody or something removed it from the store; {}",
        advice_on_loss(id)
    );
    Error::new(ErrorKind::Damaged, message)
}

fn unclosed_snapshot(id: SnapshotId) -> Error {
    let message = format!(
        "snapshot {id} was seen to count, and now the end of its session is gone and so is content that it needs: somebody or something removed \
         them from the store; {}",
        advice_on_loss(id)
    );
    Error::new(ErrorKind::Damaged, message)
}
