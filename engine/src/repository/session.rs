//! Sessions: published before anything else, beating while they live, closed at the end.

use super::Repository;
use crate::backend::{BackendExt, ObjectName};
use crate::crypto::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::format::object::{Author, Header};
use crate::format::session::{BeatBody, ClosedBody, SessionBody, SessionKind, SessionRecord, WithdrawnBody, WithdrawnReason};
use crate::id::{SessionId, SnapshotId};
use crate::limits::LABEL_MAX;
use crossbeam_channel::{RecvTimeoutError, Sender};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How often a session shows that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(60);
/// How often a session starts over because garbage collection began a new epoch meanwhile.
const STARTS_MAX: u32 = 16;

/// This process's stay in a repository. Dropped without [`Session::close`] it stays open, as after a crash.
pub(crate) struct Session<'a> {
    repository: &'a Repository,
    record: Arc<SessionRecord>,
    secret: Option<Secret>,
    epoch: u32,
    /// Dropping it ends the beats.
    _beats: Sender<()>,
    /// Shows other processes on this machine at once whether this one lives.
    _hold: Option<Box<dyn Send>>,
}

impl<'a> Session<'a> {
    /// Publishes a session, and again if a new epoch began meanwhile: what it then lists cannot be swept under its feet.
    pub(crate) fn begin(repository: &'a Repository, kind: SessionKind) -> Result<Self> {
        for _ in 0..STARTS_MAX {
            let epoch = repository.newest_epoch()?;
            let Some(session) = Self::publish(repository, kind, epoch)? else { continue };
            if repository.newest_epoch()? == epoch {
                return Ok(session);
            }
            session.close(false, Vec::new())?;
        }
        Err(Error::new(ErrorKind::Busy, "garbage collection keeps beginning new rounds; try again later"))
    }

    /// `None` where a collector took the session for dead before it was held, in which case a new epoch has begun.
    fn publish(repository: &'a Repository, kind: SessionKind, epoch: u32) -> Result<Option<Self>> {
        let config = &repository.config;
        let restore_key = config.restore_keys.iter().find(|key| key.epoch == config.restore_epoch);
        let restore_key = restore_key.ok_or_else(|| Error::rule("CFG-6", "the restore key in force is missing"))?;
        let author = &repository.credential.author;
        let entropy = &*repository.runtime.entropy;
        let (record, secret) = SessionRecord::create(author, kind, config.structure_epoch, restore_key, entropy)?;
        let label = shorten(&repository.settings.label);
        let started = repository.runtime.clock.now();
        let body = SessionBody { epoch, started, record: record.clone(), label };
        let name = ObjectName::session(record.id());
        repository.write_sealed(name, body.encode())?;
        let hold = match repository.backend.hold(&name) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            hold => hold?,
        };
        let beats = start_beats(repository, record.id())?;
        Ok(Some(Self { repository, record: Arc::new(record), secret, epoch, _beats: beats, _hold: hold }))
    }

    /// Its name.
    pub(crate) fn id(&self) -> SessionId {
        self.record.id()
    }

    /// Its record.
    pub(crate) fn record(&self) -> &Arc<SessionRecord> {
        &self.record
    }

    /// The newest epoch when it began.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Its secret.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for a reader, which has none.
    pub(crate) fn secret(&self) -> Result<&Secret> {
        self.secret.as_ref().ok_or_else(|| Error::new(ErrorKind::Internal, "a reader's session has no secret"))
    }

    /// After a snapshot was published: if a collector gave this session up, its packs may be going, so the snapshot is taken back.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] where that happened.
    pub(crate) fn withdraw_if_given_up(&self, snapshot: SnapshotId) -> Result<()> {
        // In this order: a collector that cleans up after the session deletes its object before the tombstone.
        let has_tombstone = self.repository.has(&ObjectName::tombstone(self.id()))?;
        if !has_tombstone && self.repository.has(&ObjectName::session(self.id()))? {
            return Ok(());
        }
        let now = self.repository.runtime.clock.now();
        let body = WithdrawnBody { session: self.id(), reason: WithdrawnReason::Tombstone, now };
        match self.repository.write_sealed(ObjectName::withdrawn(snapshot), body.encode()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let message = "garbage collection took this backup for dead (it did not beat for 15 minutes), so its snapshot was taken back; \
                       run the backup again: what it stored is found again where it is still there";
        Err(Error::new(ErrorKind::Busy, message))
    }

    /// Ends it, naming the snapshots that it published. A collector may have done so already.
    pub(crate) fn close(self, finished: bool, snapshots: Vec<SnapshotId>) -> Result<()> {
        let name = ObjectName::closed(self.id());
        let body = ClosedBody { finished, now: self.repository.runtime.clock.now(), snapshots };
        match self.repository.write_sealed(name, body.encode()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = ClosedBody::decode(&self.repository.read_sealed(&name)?.plaintext)?;
                if there.snapshots == body.snapshots { Ok(()) } else { Err(error) }
            }
            closed => closed,
        }
    }
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.id())
    }
}

/// Beats until the sender that is returned is dropped. A beat that cannot be written is no failure: the end of the session looks
/// for a tombstone anyway.
fn start_beats(repository: &Repository, id: SessionId) -> Result<Sender<()>> {
    let (sender, stop) = crossbeam_channel::bounded::<()>(0);
    let backend = Arc::clone(&repository.backend);
    let clock = Arc::clone(&repository.runtime.clock);
    let author: Author = repository.credential.author.clone();
    let structure_key = repository.structure_key()?.clone();
    let template = repository.header(ObjectName::session(id));
    let beat = move || {
        let mut number = 1;
        while stop.recv_timeout(BEAT_EVERY) == Err(RecvTimeoutError::Timeout) {
            let header = Header { name: ObjectName::beat(id, number), ..template };
            let object = author.sealed_object(&header, &structure_key, BeatBody { now: clock.now() }.encode());
            if backend.put(&header.name, &object).is_ok() {
                number += 1;
            }
        }
    };
    repository.runtime.executor.spawn("icecore-beat", Box::new(beat));
    Ok(sender)
}

fn shorten(label: &str) -> String {
    let mut label = label.to_owned();
    while label.len() > LABEL_MAX {
        label.pop();
    }
    label
}
