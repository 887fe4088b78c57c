//! Sessions: published before anything else, beating while they live, closed at the end.

use super::generations::{self, Above};
use super::{Repository, keys_changed};
use crate::backend::{Backend, BackendExt, ObjectName};
use crate::crypto::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::format::object::{Author, Header};
use crate::format::session::{
    BeatBody, ClosedBody, SessionBody, SessionKind, SessionRecord, TombstoneBody, WithdrawnBody, WithdrawnReason,
};
use crate::format::snapshot::Token;
use crate::format::{Roles, Trust};
use crate::id::{SessionId, SnapshotId};
use crate::limits::LABEL_MAX;
use crate::progress::{Event, Progress};
use crate::runtime::Clock;
use crate::runtime::channel::{RecvTimeoutError, Sender};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// A beat found a newer config than the one that the session uses.
    has_newer_config: Arc<AtomicBool>,
    /// Snapshots of this session that may have become visible, and of which series they are.
    published: Mutex<BTreeMap<SnapshotId, Token>>,
    /// A hold was sent, and of what became of it there is no answer.
    may_hold: AtomicBool,
    /// Dropping it ends the beats.
    _beats: Sender<()>,
    /// Shows other processes on this machine at once whether this one lives.
    /// Locked by nobody: only so that several threads may have the session.
    _hold: Mutex<Option<Box<dyn Send>>>,
}

impl<'a> Session<'a> {
    /// Publishes a session, and again if a new epoch began meanwhile: what it then lists cannot be swept under its feet.
    pub(crate) fn begin(repository: &'a Repository, kind: SessionKind) -> Result<Self> {
        for _ in 0..STARTS_MAX {
            let epoch = repository.newest_epoch()?;
            // `OthersDurable`: another epoch of this number would condemn what this session may rely on.
            if epoch > 0 {
                repository.backend.make_durable(&[ObjectName::epoch(epoch)])?;
            }
            let Some(session) = Self::publish(repository, kind, epoch)? else { continue };
            if repository.newest_epoch()? == epoch {
                return Ok(session);
            }
            session.close(false, Vec::new())?;
        }
        Err(Error::new(ErrorKind::Busy, "garbage collection keeps beginning new rounds; try again later"))
    }

    /// Begins a session of somebody who reads. `None` from a store that cannot be written to: reading goes on without a session, and `progress` is told.
    pub(crate) fn begin_to_read(repository: &'a Repository, progress: &dyn Progress) -> Result<Option<Self>> {
        let kind = match repository.roles().intersect(Roles::RESTORE.and(Roles::MAINTAIN)) {
            true => SessionKind::Reader,
            false => SessionKind::Writer,
        };
        match Self::begin(repository, kind) {
            Ok(session) => Ok(Some(session)),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let message = format!(
                    "no session can be begun here, so reading goes on without a session; run no garbage collection meanwhile ({error})"
                );
                progress.event(Event::Notice { message: &message });
                Ok(None)
            }
            Err(error) => Err(error),
        }
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
        let has_newer_config = Arc::default();
        let beats = start_beats(repository, record.id(), &has_newer_config)?;
        Ok(Some(Self {
            repository,
            record: Arc::new(record),
            secret,
            epoch,
            has_newer_config,
            published: Mutex::default(),
            may_hold: AtomicBool::new(false),
            _beats: beats,
            _hold: Mutex::new(hold),
        }))
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

    /// Refuses to go on once a beat has found that admin changed the keys.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] then.
    pub(crate) fn require_keys_unchanged(&self) -> Result<()> {
        if self.has_newer_config.load(Ordering::Relaxed) { Err(keys_changed()) } else { Ok(()) }
    }

    /// After a snapshot was published: if a collector gave this session up, its packs may be going, so the snapshot is taken back.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] where that happened.
    pub(crate) fn withdraw_if_given_up(&self, snapshot: SnapshotId) -> Result<()> {
        if !self.is_given_up()? {
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

    /// What went wrong or, where it may be that something is missed only because a collector took this session for dead, that.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let misses = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged);
        match misses && self.is_given_up().unwrap_or(false) {
            true => {
                let message = format!(
                    "{}: garbage collection took this process for dead (it did not beat for 15 minutes), and what it relied on may be gone; \
                     run it again ({error})",
                    self.repository.describe()
                );
                Error::new(ErrorKind::Busy, message)
            }
            false => error,
        }
    }

    /// Whether a collector took this session for dead: what it relies on may be going.
    pub(crate) fn is_given_up(&self) -> Result<bool> {
        // The tombstone first: a collector that cleans up after the session deletes the session's object before it.
        let tombstone = self.repository.read_sealed(&ObjectName::tombstone(self.id()));
        let has_tombstone = match tombstone.and_then(|unsealed| TombstoneBody::decode(&unsealed.plaintext)) {
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            // Not by maintain: anybody could say so. Check reports it.
            Err(error) if error.broken_rule().is_some() => false,
            // Sealed with newer keys than ours: there, whatever it says.
            Err(error) if error.kind() == ErrorKind::Unauthorized => true,
            Err(error) => return Err(error),
            Ok(_) => true,
        };
        Ok(has_tombstone || !self.repository.has(&ObjectName::session(self.id()))?)
    }

    /// Notes that a snapshot of this session and of this series is about to become visible.
    pub(crate) fn publishes(&self, snapshot: SnapshotId, series: Token) {
        self.published.lock().insert(snapshot, series);
    }

    /// Notes whether a hold may become visible of which this session does not know.
    pub(crate) fn may_hold(&self, may_hold: bool) {
        self.may_hold.store(may_hold, Ordering::Relaxed);
    }

    /// Ends it after a failure. Where a snapshot may have become visible the session stays open, as after a crash: garbage collection then
    /// settles that snapshot (I3), which nobody can any more once `closed/` is there without its name. Where a hold may, too: nothing is swept
    /// meanwhile that it would bring back.
    pub(crate) fn give_up(self) {
        if self.published.lock().is_empty() && !self.may_hold.load(Ordering::Relaxed) {
            // A close that fails leaves an open session, too.
            let _ = self.close(false, Vec::new());
        }
    }

    /// Ends it, naming the snapshots that it published. A collector may have done so already.
    pub(crate) fn close(self, finished: bool, snapshots: Vec<SnapshotId>) -> Result<()> {
        let name = ObjectName::closed(self.id());
        let body = ClosedBody { finished, now: self.repository.runtime.clock.now(), snapshots };
        let closed = match self.repository.write_sealed(name, body.encode()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let there = ClosedBody::decode(&self.repository.read_sealed(&name)?.plaintext)?;
                if there.snapshots == body.snapshots { Ok(()) } else { Err(error) }
            }
            closed => closed,
        };
        if closed.is_ok() {
            self.repository.see_own(self.id(), &body.snapshots, &self.published.lock());
        }
        closed
    }
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.id())
    }
}

/// Beats until the sender that is returned is dropped.
fn start_beats(repository: &Repository, id: SessionId, has_newer_config: &Arc<AtomicBool>) -> Result<Sender<()>> {
    let (sender, stop) = crate::runtime::channel::bounded::<()>(0);
    let mut heart = Heart::new(repository, id, Arc::clone(has_newer_config))?;
    let beat = move || {
        while stop.recv_timeout(BEAT_EVERY) == Err(RecvTimeoutError::Timeout) {
            heart.beat();
        }
    };
    repository.runtime.executor.spawn("icecore-beat", Box::new(beat))?;
    Ok(sender)
}

/// Shows that a session lives, and looks for a newer config.
struct Heart {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    author: Author,
    structure_key: Secret,
    trust: Arc<Trust>,
    template: Header,
    session: SessionId,
    /// Of the next beat.
    number: u32,
    generation: u32,
    has_newer_config: Arc<AtomicBool>,
}

impl Heart {
    fn new(repository: &Repository, session: SessionId, has_newer_config: Arc<AtomicBool>) -> Result<Self> {
        Ok(Self {
            backend: Arc::clone(&repository.backend),
            clock: Arc::clone(&repository.runtime.clock),
            author: repository.credential.author.clone(),
            structure_key: repository.structure_key()?.clone(),
            trust: Arc::clone(&repository.trust),
            template: repository.header(ObjectName::session(session)),
            session,
            number: 1,
            generation: repository.generation,
            has_newer_config,
        })
    }

    /// A beat that cannot be written is no failure: the end of the session looks for a tombstone, and for a newer config, anyway.
    fn beat(&mut self) {
        let header = Header { name: ObjectName::beat(self.session, self.number), ..self.template };
        let object = self.author.sealed_object(&header, &self.structure_key, BeatBody { now: self.clock.now() }.encode());
        match self.backend.put(&header.name, &object) {
            // It was stored before, though that was told otherwise: nobody else beats for this session.
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {}
            _ => self.number += 1,
        }
        if matches!(generations::above(&*self.backend, self.generation, &self.trust), Ok(Above::Newer)) {
            self.has_newer_config.store(true, Ordering::Relaxed);
        }
    }
}

fn shorten(label: &str) -> String {
    let mut label = label.to_owned();
    while label.len() > LABEL_MAX {
        label.pop();
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::testing::{FaultyBackend, Operation};
    use crate::backend::{MemoryBackend, ObjectKind};
    use crate::repository::tests::repository;

    fn heart(session: &Session<'_>) -> Heart {
        Heart::new(session.repository, session.id(), Arc::clone(&session.has_newer_config)).unwrap()
    }

    /// Otherwise no beat follows, and garbage collection takes a living session for dead.
    #[test]
    fn a_beat_that_was_stored_and_reported_as_failed_does_not_stop_those_that_follow() {
        let backend = MemoryBackend::new();
        let repository = repository(&backend);
        let session = Session::begin(&repository, SessionKind::Writer).unwrap();
        let mut heart = heart(&session);
        let broken = FaultyBackend::new(Arc::new(backend.clone()), 1);
        broken.lose_answer(Operation::Finish, 1);
        heart.backend = Arc::new(broken);
        (0..4).for_each(|_| heart.beat());
        let beats: Vec<_> = backend.list_sorted(ObjectKind::Beat).unwrap().iter().map(|object| object.name.number()).collect();
        assert_eq!(beats, [1, 2, 3]);
    }

    #[test]
    fn who_was_given_up_is_told_so_instead_of_what_is_missed() {
        let backend = MemoryBackend::new();
        let repository = repository(&backend);
        let session = Session::begin(&repository, SessionKind::Writer).unwrap();
        let explained = |kind| session.explain(Error::new(kind, "packs/00: no such object"));
        assert_eq!(explained(ErrorKind::NotFound).kind(), ErrorKind::NotFound);
        backend.delete(&ObjectName::session(session.id())).unwrap();
        for kind in [ErrorKind::NotFound, ErrorKind::Damaged] {
            let told = explained(kind);
            assert!(told.kind() == ErrorKind::Busy && told.to_string().contains("run it again (packs/00: no such object)"), "{told}");
        }
        assert_eq!(explained(ErrorKind::Unavailable).kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_beat_notices_new_keys() {
        let backend = MemoryBackend::new();
        let repository = repository(&backend);
        let session = Session::begin(&repository, SessionKind::Writer).unwrap();
        let mut heart = heart(&session);
        heart.beat();
        session.require_keys_unchanged().unwrap();
        repository.rotate(&repository.plan_rotation(None).unwrap()).unwrap();
        heart.beat();
        assert_eq!(session.require_keys_unchanged().unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(backend.list_sorted(ObjectKind::Beat).unwrap().len(), 2);
    }
}
