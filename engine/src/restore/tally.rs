//! What was done and what failed, counted from several threads.

use crate::destination::ItemProblem;
use crate::entry::{Key, key_components};
use crate::error::{Error, ErrorKind, Result, TierWait};
use crate::progress::{Event, Progress, counted};
use crate::repository::Repository;
use crate::spill::{SpillFolder, SpilledMap};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Numbers of a restore, and who hears of them.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    repository: &'a Repository,
    /// Where temporary files are made.
    pub(super) spill: SpillFolder,
    pub(super) progress: &'a dyn Progress,
    pub(super) items_failed: AtomicU64,
    pub(super) damaged: AtomicBool,
    /// Something could not be read yet.
    pub(super) frozen: AtomicBool,
    pub(super) bytes_written: AtomicU64,
    pub(super) bytes_unchanged: AtomicU64,
    pub(super) bytes_fetched: AtomicU64,
    pub(super) frames_decoded: AtomicU64,
    pub(super) items_deleted: AtomicU64,
    /// For what is waited, and how many items do.
    pub(super) waits: Mutex<BTreeMap<TierWait, u64>>,
    /// Frames that could not be read; their chunks may stand elsewhere too.
    frames_damaged: AtomicU64,
    /// Keys of entries that could not be restored.
    failed: Mutex<SpilledMap>,
}

/// Bytes of each map of keys that are kept in memory.
pub(super) const KEYS_BYTES: usize = 1 << 20;

impl<'a> Tally<'a> {
    /// Nothing was done yet. Temporary files are made in `spill`.
    pub(super) fn new(repository: &'a Repository, progress: &'a dyn Progress, spill: SpillFolder) -> Self {
        Self {
            repository,
            failed: Mutex::new(SpilledMap::new(spill.clone(), KEYS_BYTES)),
            spill,
            progress,
            items_failed: AtomicU64::default(),
            damaged: AtomicBool::default(),
            frozen: AtomicBool::default(),
            bytes_written: AtomicU64::default(),
            bytes_unchanged: AtomicU64::default(),
            bytes_fetched: AtomicU64::default(),
            frames_decoded: AtomicU64::default(),
            items_deleted: AtomicU64::default(),
            waits: Mutex::default(),
            frames_damaged: AtomicU64::default(),
        }
    }

    /// Fails with [`ErrorKind::Cancelled`] where the caller wants to stop.
    pub(super) fn check_cancelled(&self) -> Result<()> {
        match self.progress.is_cancelled() {
            true => Err(Error::new(ErrorKind::Cancelled, "interrupted; restoring again into the same place goes on from there")),
            false => Ok(()),
        }
    }

    /// Counts and reports an item of which content could not be read, and what became of what stood there. What waits for a tier may be much: what
    /// to do is told once of each tier.
    pub(super) fn item_unreadable(&self, key: &[u8], what: &str, removed: &str, error: &Error) {
        let Some(wait) = error.tier() else { return self.item_failed(key, &format!("{what}, so it was not restored{removed}: {error}")) };
        *self.waits.lock().entry((**wait).clone()).or_default() += 1;
        if !removed.is_empty() {
            return self.item_failed(key, &format!("waits for tier {}{removed}", wait.tier));
        }
        self.items_failed.fetch_add(1, Ordering::Relaxed);
        self.progress.event(Event::ItemWaits { item: &shown(key), tier: &wait.tier });
    }

    /// Counts and reports an item that could not be restored, or only in part.
    pub(super) fn item_failed(&self, key: &[u8], message: &str) {
        self.items_failed.fetch_add(1, Ordering::Relaxed);
        self.progress.event(Event::ItemFailed { item: &shown(key), message });
    }

    /// Notes that an entry could not be restored: what is linked to it cannot either, and there is nothing to finish or to read back.
    /// Whether that is new.
    pub(super) fn lose(&self, key: &[u8]) -> Result<bool> {
        self.failed.lock().insert(key, &[])
    }

    /// Whether an entry could not be restored.
    pub(super) fn is_lost(&self, key: &[u8]) -> Result<bool> {
        Ok(self.failed.lock().get(key)?.is_some())
    }

    /// As [`Tally::item_failed`] for what of an item could not be restored.
    pub(super) fn problems(&self, key: &[u8], problems: &[ItemProblem]) {
        if !problems.is_empty() {
            let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
            self.item_failed(key, &messages.join("; "));
        }
    }

    /// Takes an error of the repository: damage is an item's, and something will be missing, as it is where one object cannot be read; everything
    /// else ends the restore.
    pub(super) fn damage(&self, error: Error) -> Result<Error> {
        let error = self.tolerate(error)?;
        let flag = if error.kind() == ErrorKind::Frozen { &self.frozen } else { &self.damaged };
        flag.store(true, Ordering::Relaxed);
        Ok(error)
    }

    /// Takes an error of a frame whose chunks will be looked for elsewhere.
    pub(super) fn frame_damaged(&self, error: Error) -> Result<()> {
        // A pack that is gone was condemned, and what is needed of it stands elsewhere.
        if !matches!(self.tolerate(error)?.kind(), ErrorKind::NotFound | ErrorKind::Frozen) {
            self.frames_damaged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Gives back what is wrong with one object alone. A store that does not answer at all ends the restore.
    pub(super) fn tolerate(&self, error: Error) -> Result<Error> {
        match error.kind() {
            ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Frozen => Ok(error),
            ErrorKind::Unavailable if self.repository.answers_after(&error) => Ok(error),
            _ => Err(error),
        }
    }

    /// Tells of damage even where nothing is missing because of it.
    pub(super) fn report_frames_damaged(&self) {
        let count = self.frames_damaged.load(Ordering::Relaxed);
        if count > 0 {
            let message = format!("damaged or not readable: {}; run scrub to learn what suffers", counted(count, "frame"));
            self.progress.event(Event::Notice { message: &message });
        }
    }

    /// Takes an error of the destination: a full or read-only file system ends the restore, everything else is the item's.
    pub(super) fn refusal(&self, error: Error) -> Result<Error> {
        use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
        let advice = match source.map(std::io::Error::kind) {
            Some(StorageFull | QuotaExceeded) => "the target is full; free some space there and restore again, which goes on from here",
            Some(ReadOnlyFilesystem) => "the target is read-only; make it writable, or choose another one",
            _ => "",
        };
        if !advice.is_empty() {
            return Err(error.context(advice));
        }
        if error.kind() == ErrorKind::Damaged {
            // The entry itself makes no sense, for example a key that leads out of the target.
            self.damaged.store(true, Ordering::Relaxed);
        }
        Ok(error)
    }

    /// Reports an entry that the destination refused, and notes that it is not there.
    pub(super) fn refused(&self, key: &Key, error: Error) -> Result<()> {
        let error = self.refusal(error).map_err(|error| error.context(shown(key)))?;
        self.item_failed(key, &error.to_string());
        self.lose(key).map(drop)
    }
}

/// A key as people read it.
pub(super) fn shown(key: &[u8]) -> String {
    let components: Vec<_> = key_components(key).map(String::from_utf8_lossy).collect();
    match components.is_empty() {
        true => ".".to_owned(),
        false => components.join("/"),
    }
}
