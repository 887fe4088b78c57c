//! Snapshots: which there are, which of them count, and what they say.

use super::Repository;
use super::frame_reader::{FrameReader, SnapshotChunks};
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::object::Opened;
use crate::format::session::{ClosedBody, WithdrawnBody, snapshot_sealer};
use crate::format::snapshot::{SnapshotBody, SnapshotHeader, series_token, split, tag_token};
use crate::format::{Certificate, Roles};
use crate::id::{SessionId, SnapshotId};
use std::collections::{HashMap, HashSet};

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
}

/// Everything that is listed about snapshots and their sessions.
#[derive(Debug, Default)]
pub(crate) struct SnapshotListing {
    pub(crate) snapshots: Vec<SnapshotId>,
    pub(crate) closed: HashMap<SessionId, ClosedBody>,
    pub(crate) withdrawn: HashSet<SnapshotId>,
    /// Objects that break a rule: the name, and how.
    pub(crate) problems: Vec<(ObjectName, Error)>,
}

impl SnapshotListing {
    /// Snapshots that a closed session published and that are neither there nor withdrawn: damage.
    pub(crate) fn missing(&self) -> Vec<SnapshotId> {
        let there: HashSet<_> = self.snapshots.iter().collect();
        let named = self.closed.values().flat_map(|closed| &closed.snapshots);
        let mut missing: Vec<_> = named.filter(|id| !there.contains(id) && !self.withdrawn.contains(id)).copied().collect();
        missing.sort_unstable();
        missing
    }
}

impl Repository {
    /// Lists snapshots and what decides whether they count. What breaks a rule is listed as a problem and otherwise ignored.
    pub(crate) fn list_snapshots(&self) -> Result<SnapshotListing> {
        let mut listing = SnapshotListing::default();
        // Snapshots first: one that is published meanwhile is then missing from the list, not from the world.
        let snapshots = self.backend.list_sorted(ObjectKind::Snapshot)?;
        listing.snapshots = snapshots.iter().map(|object| SnapshotId(object.name.id())).collect();
        for object in self.backend.list_sorted(ObjectKind::Closed)? {
            let read = self.read_sealed(&object.name).and_then(|unsealed| ClosedBody::decode(&unsealed.plaintext));
            match read {
                Ok(body) => {
                    let session = SessionId(object.name.id());
                    listing.closed.insert(session, body);
                }
                Err(error) if error.broken_rule().is_some() => listing.problems.push((object.name, error)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for object in self.backend.list_sorted(ObjectKind::Withdrawn)? {
            let read = self.read_sealed(&object.name).and_then(|unsealed| {
                let body = WithdrawnBody::decode(&unsealed.plaintext)?;
                let snapshot = SnapshotId(object.name.id());
                let is_allowed = self.may_withdraw(snapshot, &body, &unsealed.certificate, &listing.closed)?;
                match is_allowed {
                    true => Ok(()),
                    false => Err(Error::rule("OBJ-9", "a withdrawal of another session's snapshot")),
                }
            });
            match read {
                Ok(()) => drop(listing.withdrawn.insert(SnapshotId(object.name.id()))),
                Err(error) if error.broken_rule().is_some() => listing.problems.push((object.name, error)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listing)
    }

    /// Whether whoever has this certificate may withdraw a snapshot: maintain, or the session that made it, which need not be closed yet.
    pub(crate) fn may_withdraw(
        &self,
        snapshot: SnapshotId,
        body: &WithdrawnBody,
        certificate: &Certificate,
        closed: &HashMap<SessionId, ClosedBody>,
    ) -> Result<bool> {
        if certificate.roles().contain(Roles::MAINTAIN) {
            return Ok(true);
        }
        let decide = || match self.read_snapshot_header(snapshot) {
            Ok(header) => Ok(header.record.id() == body.session && header.record.certificate() == certificate),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The body alone proves nothing: it could name a session of its writer for another's snapshot.
                let is_of_other = closed.iter().any(|(session, closed)| *session != body.session && closed.snapshots.contains(&snapshot));
                Ok(!is_of_other && self.read_sealed(&ObjectName::session(body.session))?.certificate == *certificate)
            }
            Err(error) => Err(error),
        };
        match decide() {
            Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => Ok(false),
            decided => decided,
        }
    }

    /// Reads a snapshot's header, which every credential may.
    pub(crate) fn read_snapshot_header(&self, id: SnapshotId) -> Result<SnapshotHeader> {
        self.read_snapshot_pieces(id).map(|(header, _)| header)
    }

    fn read_snapshot_pieces(&self, id: SnapshotId) -> Result<(SnapshotHeader, Vec<u8>)> {
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
            match header.record.certificate() == &opened.certificate {
                true => Ok((header, sealed_body.to_vec())),
                false => Err(Error::rule("SNAP-7", "the session record is another credential's")),
            }
        };
        decode().map_err(|error: Error| error.context(name))
    }

    /// Reads a snapshot (SNAP-1 to SNAP-11). `listing` decides whether it counts.
    pub(crate) fn read_snapshot(&self, id: SnapshotId, listing: &SnapshotListing) -> Result<Snapshot> {
        let (header, mut sealed_body) = self.read_snapshot_pieces(id)?;
        let name = ObjectName::snapshot(id);
        let secret = header.record.open_secret(&self.credential.restore_keys).map_err(|error| error.context(name))?;
        let body = match snapshot_sealer(&secret, &header.record.id(), &id).open(0, &mut sealed_body) {
            true => SnapshotBody::decode(&sealed_body).map_err(|error| error.context(name))?,
            false => return Err(Error::rule("SNAP-8", "the sealed body does not open").context(name)),
        };
        let token_key = &self.credential.token_key;
        let mut tags: Vec<_> = body.tags.iter().map(|tag| tag_token(token_key, tag)).collect();
        tags.sort_unstable();
        if series_token(token_key, &body.series) != header.series || tags != header.tags {
            return Err(Error::rule("SNAP-11", "series or tags are not those of the header").context(name));
        }
        let closed = listing.closed.get(&header.record.id()).is_some_and(|closed| closed.snapshots.contains(&id));
        Ok(Snapshot { id, state: if closed { SnapshotState::Closed } else { SnapshotState::Suspect }, header, body })
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
        self.require(Roles::RESTORE, "reading snapshots")?;
        let listing = self.list_snapshots()?;
        let mut problems: Vec<Error> = listing.missing().into_iter().map(missing_snapshot).collect();
        let mut snapshots = Vec::new();
        let mut suspects = Vec::new();
        for id in listing.snapshots.iter().filter(|id| !listing.withdrawn.contains(id)) {
            match self.read_snapshot(*id, &listing) {
                Ok(snapshot) if snapshot.state == SnapshotState::Suspect => suspects.push(snapshot),
                Ok(snapshot) => snapshots.push(snapshot),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported) => problems.push(error),
                Err(error) => return Err(error),
            }
        }
        problems.extend(listing.problems.into_iter().map(|(_, error)| error));
        snapshots.extend(self.proven(suspects)?);
        snapshots.sort_by_key(|snapshot| (snapshot.header.time, snapshot.header.sequence, snapshot.id));
        Ok((snapshots, problems))
    }

    /// Those of the suspect snapshots whose frames are all in listed packs.
    fn proven(&self, suspects: Vec<Snapshot>) -> Result<Vec<Snapshot>> {
        if suspects.is_empty() {
            return Ok(suspects);
        }
        let reader = FrameReader::new(self, self.open_index()?);
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

    /// The chunks that a snapshot may use, after all frames that its refs name were found.
    pub(crate) fn snapshot_chunks<'a>(&'a self, reader: &'a FrameReader, header: &SnapshotHeader) -> Result<SnapshotChunks<'a>> {
        let mut chunks = SnapshotChunks::new(self, reader);
        self.walk_refs(reader, &header.refs_root, |frame| match chunks.allow(frame)? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Damaged, format!("frame {frame}, which the snapshot needs, is in no pack; run check"))),
        })?;
        Ok(chunks)
    }
}

fn missing_snapshot(id: SnapshotId) -> Error {
    let message =
        format!("snapshot {id} was published and is gone without having been forgotten: somebody or something removed it from the store");
    Error::new(ErrorKind::Damaged, message)
}
