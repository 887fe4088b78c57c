//! What every part of a check does: list, read, count, and tell what is gone from what is broken.

use super::findings::Findings;
use super::{CheckReport, UnreadPacks};
use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
use crate::format::object::Opened;
use crate::progress::{Event, Progress};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// After so many objects in a row that could not be read the backend counts as unusable.
const FAILURES_MAX: u32 = 100;

/// One run of a check.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) backend: &'a dyn Backend,
    pub(super) progress: &'a dyn Progress,
    pub(super) findings: Findings,
    pub(super) counts: Counts,
    failures: AtomicU32,
}

/// What was looked at.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) objects: AtomicU64,
    pub(super) packs: AtomicU64,
    /// Packs of which nothing could be read.
    pub(super) unread: Mutex<Vec<UnreadPacks>>,
    pub(super) snapshots: AtomicU64,
    pub(super) frames: AtomicU64,
    pub(super) chunks: AtomicU64,
    pub(super) bytes_read: AtomicU64,
}

/// All objects by kind, each kind sorted by name.
pub(super) type Listing = BTreeMap<ObjectKind, Vec<ObjectInfo>>;

impl<'a> Reading<'a> {
    pub(super) fn new(backend: &'a dyn Backend, progress: &'a dyn Progress) -> Self {
        Self { backend, progress, findings: Findings::default(), counts: Counts::default(), failures: AtomicU32::new(0) }
    }

    /// Lists everything. Snapshots come first and packs last: what a listed snapshot needs was written before it.
    pub(super) fn list(&self) -> Result<Listing> {
        let mut listing = Listing::new();
        let is_last = |kind: &ObjectKind| kind.is_pack();
        let mut kinds = vec![ObjectKind::Snapshot];
        kinds.extend(ObjectKind::ALL.into_iter().filter(|kind| *kind != ObjectKind::Snapshot && !is_last(kind)));
        kinds.extend(ObjectKind::ALL.into_iter().filter(is_last));
        for kind in kinds {
            let mut objects = Vec::new();
            let mut visit = |object| {
                objects.push(object);
                Ok(())
            };
            let mut stranger = |name: &str| {
                self.findings.notice(format!("{}: icecore did not write this; it is ignored", name.escape_debug()));
                Ok(())
            };
            self.backend.list(kind, &mut visit, &mut stranger)?;
            objects.sort();
            objects.dedup_by_key(|object| object.name);
            listing.insert(kind, objects);
        }
        Ok(listing)
    }

    /// Fails where the caller wants to stop.
    pub(super) fn go_on(&self) -> Result<()> {
        match self.progress.is_cancelled() {
            true => Err(Error::new(ErrorKind::Cancelled, "the check was stopped")),
            false => Ok(()),
        }
    }

    /// Reads a whole object that is no pack and checks all that needs no key of its own; what is wrong becomes a finding.
    /// `None` where it is gone meanwhile, or wrong.
    pub(super) fn read_small(&self, object: &ObjectInfo) -> Result<Option<Vec<u8>>> {
        self.go_on()?;
        self.counts.objects.fetch_add(1, Ordering::Relaxed);
        let read = self.backend.get(&object.name, object.name.kind().size_max());
        if let Ok(bytes) = &read {
            self.counts.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.progress.event(Event::Advance { bytes: bytes.len() as u64, items: 1 });
        }
        self.judge(&object.name, read)
    }

    /// Checks a whole object (OBJ-1 to OBJ-11); what is wrong becomes a finding.
    pub(super) fn open<'b>(&self, name: &ObjectName, bytes: &'b [u8], trust: &Trust) -> Result<Option<Opened<'b>>> {
        self.judge(name, Opened::check(name, bytes, trust))
    }

    /// Turns what went wrong with an object into a finding, unless the object is gone by now. Fails only where nothing can be read any more.
    pub(super) fn judge<T>(&self, name: &ObjectName, result: Result<T>) -> Result<Option<T>> {
        let error = match result {
            Ok(value) => {
                self.failures.store(0, Ordering::Relaxed);
                return Ok(Some(value));
            }
            Err(error) => error,
        };
        let error = self.tolerate(error)?;
        match error.kind() {
            ErrorKind::Cancelled | ErrorKind::Internal => return Err(error),
            ErrorKind::Unauthorized => self.findings.notice(error.to_string()),
            _ if self.is_gone_by(name, &error) => {}
            _ => drop(self.findings.add(*name, &error)),
        }
        Ok(None)
    }

    /// Counts an object that could not be read, and gives the error back. Fails where nothing can be read any more.
    pub(super) fn tolerate(&self, error: Error) -> Result<Error> {
        let is_too_much = error.kind() == ErrorKind::Unavailable && self.failures.fetch_add(1, Ordering::Relaxed) >= FAILURES_MAX;
        if is_too_much { Err(error) } else { Ok(error) }
    }

    /// Whether an object that was listed is still there.
    ///
    /// # Errors
    /// Where that cannot be asked.
    pub(super) fn is_there(&self, name: &ObjectName) -> Result<bool> {
        let asked = self.backend.size(name).and_then(|_| match name.kind().is_pack() {
            // Placement tells the size of a pack for a while after a collector deleted it in its tier.
            true => self.backend.get_range(name, 0, 1).map(drop),
            false => Ok(()),
        });
        match asked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether an object that was listed is known to be there no longer.
    pub(super) fn is_gone(&self, name: &ObjectName) -> bool {
        matches!(self.is_there(name), Ok(false))
    }

    /// The same, where `error` is what reading it said: that counts if it cannot be asked any more.
    pub(super) fn is_gone_by(&self, name: &ObjectName, error: &Error) -> bool {
        self.is_there(name).map_or(error.kind() == ErrorKind::NotFound, |is_there| !is_there)
    }

    /// Ends the run.
    pub(super) fn finish(&self, duration_ns: u64) -> CheckReport {
        let (findings, hurt, notices) = self.findings.finish();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CheckReport {
            findings,
            hurt,
            notices,
            objects: count(&self.counts.objects),
            packs: count(&self.counts.packs),
            unread: std::mem::take(&mut *self.counts.unread.lock()),
            snapshots: count(&self.counts.snapshots),
            frames: count(&self.counts.frames),
            chunks: count(&self.counts.chunks),
            bytes_read: count(&self.counts.bytes_read),
            duration_ns,
        }
    }
}
