//! A reader's stay: a session, the snapshot read again under it, and the chunks that the snapshot may use.

use crate::backend::ObjectName;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::session::SessionKind;
use crate::id::SnapshotId;
use crate::progress::{Event, Progress};
use crate::repository::{FrameReader, RefsNodes, Repository, Session, Snapshot, SnapshotChunks};
use crate::tree::RefsWalk;

/// Publishes a reader's session, so that no collector sweeps what is being read, and runs `work` on the snapshot's chunks. Frames
/// of the snapshot that are in no pack are reported: what is only in these will be missed by whoever needs it.
///
/// From a store that cannot be written to, reading goes on without a session, and `progress` is told.
pub(super) fn with_snapshot<T>(
    repository: &Repository,
    snapshot: SnapshotId,
    progress: &dyn Progress,
    work: impl FnOnce(&Snapshot, &SnapshotChunks<'_>) -> Result<T>,
) -> Result<T> {
    repository.require(Roles::RESTORE, "reading a snapshot's content")?;
    let session = begin(repository, progress)?;
    let result = read_again(repository, snapshot).and_then(|snapshot| {
        let reader = FrameReader::new(repository, repository.open_index()?);
        let (chunks, missing) = allowed_chunks(repository, &reader, &snapshot)?;
        if missing > 0 {
            let message =
                format!("{missing} of the frames that the snapshot needs are in no pack: what stands only in these cannot be read");
            progress.event(Event::Notice { message: &message });
        }
        work(&snapshot, &chunks)
    });
    if let Some(Err(error)) = session.map(|session| session.close(result.is_ok(), Vec::new())) {
        let message = format!("the reader's session could not be closed; garbage collection will settle it: {error}");
        progress.event(Event::Notice { message: &message });
    }
    result
}

fn begin<'a>(repository: &'a Repository, progress: &dyn Progress) -> Result<Option<Session<'a>>> {
    match Session::begin(repository, SessionKind::Reader) {
        Ok(session) => Ok(Some(session)),
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            let message = format!(
                "the repository cannot be written to, so reading goes on without a session; run no garbage collection meanwhile ({error})"
            );
            progress.event(Event::Notice { message: &message });
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Under a session what a snapshot needs stays; that the snapshot still counts has to be seen after the session was published.
fn read_again(repository: &Repository, id: SnapshotId) -> Result<Snapshot> {
    let listing = repository.list_snapshots()?;
    if listing.withdrawn.contains(&id) {
        return Err(Error::new(ErrorKind::NotFound, format!("{} was forgotten meanwhile", ObjectName::snapshot(id))));
    }
    repository.read_snapshot(id, &listing)
}

/// Allows the frames that the refs name, and counts those that are in no listed pack.
fn allowed_chunks<'a>(repository: &'a Repository, reader: &'a FrameReader, snapshot: &Snapshot) -> Result<(SnapshotChunks<'a>, u64)> {
    let found = allow(repository, reader, snapshot)?;
    if found.1 == 0 {
        return Ok(found);
    }
    // Without a session a pack may have given way to another one since the listing.
    repository.sync_index(reader.index())?;
    reader.forget_relocations();
    allow(repository, reader, snapshot)
}

fn allow<'a>(repository: &'a Repository, reader: &'a FrameReader, snapshot: &Snapshot) -> Result<(SnapshotChunks<'a>, u64)> {
    let mut chunks = SnapshotChunks::new(repository, reader);
    let mut missing = 0;
    let nodes = RefsNodes { repository, reader };
    for used in RefsWalk::new(&nodes, &snapshot.header.refs_root)? {
        missing += u64::from(!chunks.allow(&used?)?);
    }
    Ok((chunks, missing))
}
