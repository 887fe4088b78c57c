//! A reader's stay: a session, the snapshot read again under it, and the chunks that the snapshot may use.

use crate::backend::ObjectName;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::id::SnapshotId;
use crate::progress::{Event, Progress};
use crate::repository::{AnyNodes, FrameReader, ReadThrough, Repository, Session, Snapshot, SnapshotChunks, SnapshotListing};
use crate::tree::RefsWalk;
use std::sync::{Arc, OnceLock};

/// Publishes a reader's session, so that no collector sweeps what is being read, and runs `work` with what was listed under it.
///
/// From a store that cannot be written to, reading goes on without a session, and `progress` is told.
pub(crate) fn with_reader<T>(repository: &Repository, progress: &dyn Progress, work: impl FnOnce(&Reading<'_>) -> Result<T>) -> Result<T> {
    repository.require(Roles::RESTORE, "reading a snapshot's content")?;
    let session = Session::begin_to_read(repository, progress)?;
    let result = Reading::start(repository).and_then(|reading| {
        reading.listing.tell_setbacks(progress);
        let done = work(&reading);
        reading.tell_read_through(progress);
        done
    });
    if let Some(Err(error)) = session.map(|session| session.close(result.is_ok(), Vec::new())) {
        let message = format!("the reader's session could not be closed; garbage collection will settle it: {error}");
        progress.event(Event::Notice { message: &message });
    }
    result
}

/// As [`with_reader`], for one snapshot. Frames of the snapshot that are in no pack are reported: what is only in these will be missed by
/// whoever needs it.
pub(super) fn with_snapshot<T>(
    repository: &Repository,
    snapshot: SnapshotId,
    progress: &dyn Progress,
    work: impl FnOnce(&Snapshot, &SnapshotChunks<'_>) -> Result<T>,
) -> Result<T> {
    with_reader(repository, progress, |reading| {
        let snapshot = reading.snapshot(snapshot)?;
        let chunks = reading.chunks(&snapshot, progress)?;
        work(&snapshot, &chunks)
    })
}

/// What a reader sees under its session. That a snapshot still counts has to be seen after the session was published: what it needs then stays.
pub(crate) struct Reading<'a> {
    repository: &'a Repository,
    listing: SnapshotListing,
    /// Packs that no epoch condemns: these stay while the session does.
    standing: FrameReader,
    /// All packs, for what stands only in condemned ones and still has to be copied out of them.
    all: OnceLock<FrameReader>,
    /// Damaged packs that sidecars help to read.
    through: Arc<ReadThrough>,
}

impl<'a> Reading<'a> {
    fn start(repository: &'a Repository) -> Result<Self> {
        let listing = repository.list_snapshots_to_read()?;
        let through = Arc::default();
        let standing = repository.reader_through(&through)?;
        standing.index().remove_packs(&repository.condemned_to_read()?);
        Ok(Self { repository, listing, standing, all: OnceLock::new(), through })
    }

    /// Reads a snapshot again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where it was forgotten, [`ErrorKind::Damaged`] where it breaks a rule.
    pub(crate) fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        if self.listing.withdrawn.contains(&id) {
            return Err(Error::new(ErrorKind::NotFound, format!("{} was forgotten meanwhile", ObjectName::snapshot(id))));
        }
        self.repository.read_snapshot(id, &self.listing)
    }

    /// The chunks that a snapshot may use. Frames of it that are in no pack are told as a notice, with the packs that cannot be read.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where the refs cannot be read.
    pub(crate) fn chunks(&self, snapshot: &Snapshot, progress: &dyn Progress) -> Result<SnapshotChunks<'_>> {
        let (chunks, missing) = match allow(self.repository, &self.standing, snapshot) {
            Ok((chunks, 0)) => (chunks, 0),
            Err(error) if !matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => return Err(error),
            _ => allowed_chunks(self.repository, self.all()?, snapshot)?,
        };
        if missing > 0 {
            let message =
                format!("{missing} of the frames that the snapshot needs are in no pack: what stands only in these cannot be read");
            progress.event(Event::Notice { message: &message });
            for (pack, error) in self.through.passed_over() {
                progress.event(Event::Notice { message: &format!("{pack} cannot be read: {error}") });
            }
        }
        Ok(chunks)
    }

    fn all(&self) -> Result<&FrameReader> {
        match self.all.get() {
            Some(reader) => Ok(reader),
            None => {
                let reader = self.repository.reader_through(&self.through)?;
                Ok(self.all.get_or_init(|| reader))
            }
        }
    }

    /// Damage that cost nothing is told all the same: the medium that lost it may lose more.
    fn tell_read_through(&self, progress: &dyn Progress) {
        for (pack, error) in self.through.told() {
            let message = format!("{pack} is damaged, and was read through its sidecar; run scrub to heal it ({error})");
            progress.event(Event::Notice { message: &message });
        }
    }
}

/// Allows the frames that the refs name, and counts those that are in no listed pack.
fn allowed_chunks<'a>(repository: &'a Repository, reader: &'a FrameReader, snapshot: &Snapshot) -> Result<(SnapshotChunks<'a>, u64)> {
    match allow(repository, reader, snapshot) {
        Ok((chunks, 0)) => return Ok((chunks, 0)),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A condemned pack may have given way to another one since the listing.
    reader.list_again(repository)?;
    allow(repository, reader, snapshot)
}

fn allow<'a>(repository: &'a Repository, reader: &'a FrameReader, snapshot: &Snapshot) -> Result<(SnapshotChunks<'a>, u64)> {
    let mut chunks = SnapshotChunks::new(repository, reader, snapshot.header.refs_root);
    let mut missing = 0;
    let nodes = AnyNodes { reader };
    for used in RefsWalk::new(&nodes, &snapshot.header.refs_root)? {
        missing += u64::from(!chunks.allow(&used?)?);
    }
    Ok((chunks, missing))
}
