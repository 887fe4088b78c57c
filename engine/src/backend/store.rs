//! The one door to places of repositories: an address, and what is needed to reach it.

use super::{Ability, Address, Backend, BucketKind, LocalBackend, ObjectName, PatientBackend};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Runtime;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Tells people what a store is waited for.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// What is needed to reach a store. A folder needs none of it.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoreSettings {
    /// Clock, random source and threads.
    pub runtime: Runtime,
    /// Endpoint, region, credentials and the like, by the names that the crate `object_store` gives them, in lower case (`access_key_id`,
    /// `aws_region`); later ones go before earlier ones. Names that the kind of store does not know are refused.
    pub options: Vec<(String, String)>,
    /// The same, of those who start the program: names that the kind of store does not know are passed over, and all of `options` go before.
    pub environment: Vec<(String, String)>,
    /// The storage class in which a tier keeps packs, as the store calls it; empty for the store's own. Of S3 only. What is in an archive class is
    /// frozen: see [`super::Thaw`].
    pub storage_class: String,
    /// Requests that are under way at once; at least 1.
    pub connections: usize,
    /// How long a store that does not answer, or asks to come again later, is tried again.
    pub patience: Duration,
    /// After how long, at the latest, what was written or deleted is in listings: each listing waits for that ([`PatientBackend`]). Zero for a
    /// store that lists at once.
    pub listing_lag: Duration,
    /// Counts what goes to the store and comes from it.
    pub traffic: Arc<Traffic>,
    /// Is told when a store keeps everybody waiting.
    pub notice: Option<Notice>,
}

impl StoreSettings {
    /// Requests at once, where nothing else is said.
    pub const CONNECTIONS: usize = 16;
    /// How long a store is tried again, where nothing else is said.
    pub const PATIENCE: Duration = Duration::from_secs(600);

    /// Without options.
    pub fn new(runtime: Runtime) -> Self {
        let (connections, patience) = (Self::CONNECTIONS, Self::PATIENCE);
        let (options, environment, storage_class) = Default::default();
        let (listing_lag, traffic) = Default::default();
        Self { runtime, options, environment, storage_class, connections, patience, listing_lag, traffic, notice: None }
    }
}

impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values of options may be secrets.
        let names: Vec<&str> = self.options.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("StoreSettings").field("options", &names).field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// Kinds of requests, as stores bill them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Writes an object or a part of one, or begins or ends one that has parts.
    Put,
    /// Reads an object or a range of it.
    Get,
    /// Asks whether an object is there and how large it is.
    Head,
    /// Reads one page of a listing.
    List,
    /// Deletes an object, or an upload that was not finished.
    Delete,
}

impl Request {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Head, Self::List, Self::Delete];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// Requests made, those that failed and were made again included, and the bytes of objects each way.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: [AtomicU64; Request::ALL.len()],
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl Traffic {
    /// Counts a request, and what it sends.
    #[cfg_attr(
        not(any(feature = "object-store", feature = "sftp")),
        expect(dead_code, reason = "only stores behind features have requests")
    )]
    pub(super) fn request(&self, request: Request, sent_bytes: usize) {
        if let Some(count) = self.requests.get(request as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sent_bytes.fetch_add(sent_bytes as u64, Ordering::Relaxed);
    }

    /// Counts what came back.
    #[cfg_attr(
        not(any(feature = "object-store", feature = "sftp")),
        expect(dead_code, reason = "only stores behind features have requests")
    )]
    pub(super) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many requests of a kind there were.
    pub fn requests(&self, request: Request) -> u64 {
        self.requests.get(request as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Bytes that were sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that were received.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }
}

/// Opens the place of a repository that is there.
///
/// # Errors
/// [`ErrorKind::NoRepository`] for a folder without one (of a bucket that is found out when the repository is opened), [`ErrorKind::Invalid`] for
/// options that make no sense, [`ErrorKind::Unsupported`] where this kind of place was left out when icecore was built, otherwise
/// [`ErrorKind::Unavailable`].
pub fn open(address: &Address, settings: &StoreSettings) -> Result<Arc<dyn Backend>> {
    match address {
        Address::Folder(folder) => Ok(Arc::new(LocalBackend::open(folder)?)),
        _ => {
            let remote = remote(address, settings)?;
            remote.require_repository()?;
            Ok(patient(remote, settings))
        }
    }
}

/// Opens a place that holds objects and need not be a repository: a tier.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a folder that is not there, otherwise as [`open`].
pub fn open_place(address: &Address, settings: &StoreSettings) -> Result<Arc<dyn Backend>> {
    match address {
        Address::Folder(folder) => Ok(Arc::new(LocalBackend::open_folder(folder)?)),
        _ => Ok(remote(address, settings)?),
    }
}

/// Takes an empty place for a new repository, and makes the folder where it is one.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] where there is a repository, [`ErrorKind::Invalid`] where anything else is there; otherwise as [`open`].
pub fn create(address: &Address, settings: &StoreSettings) -> Result<Arc<dyn Backend>> {
    require_classes(address, settings)?;
    match address {
        Address::Folder(folder) => Ok(Arc::new(LocalBackend::create(folder)?)),
        _ => {
            let remote = remote(address, settings)?;
            remote.require_empty()?;
            remote.make()?;
            Ok(patient(remote, settings))
        }
    }
}

/// Looks whether [`create`] would take the place, and makes nothing.
///
/// # Errors
/// As [`create`].
pub fn require_free(address: &Address, settings: &StoreSettings) -> Result<()> {
    require_classes(address, settings)?;
    match address {
        Address::Folder(folder) => LocalBackend::require_free(folder).map(drop),
        _ => remote(address, settings)?.require_empty(),
    }
}

/// Tries out what the place of a repository can do of what is wanted of it, under a scratch prefix or with a temporary file. Leaves nothing behind.
///
/// # Errors
/// Where not even one object can be written: the place can at most be read. Otherwise as [`open`].
pub fn try_out(address: &Address, settings: &StoreSettings) -> Result<Vec<Ability>> {
    match address {
        Address::Folder(folder) => LocalBackend::open(folder)?.abilities(),
        _ => try_in(&*remote(address, settings)?, settings, |scratch, runtime| {
            super::trial::run(&patient(Arc::clone(scratch), settings), &|name| scratch.extras(name), runtime)
        }),
    }
}

/// Tries out, under a scratch prefix, whether one of several writers of the same name wins; `None` for a folder, where one always does.
///
/// # Errors
/// As [`try_out`].
pub fn try_create_if_absent(address: &Address, settings: &StoreSettings) -> Result<Option<Ability>> {
    match address {
        Address::Folder(_) => Ok(None),
        _ => try_in(&*remote(address, settings)?, settings, |scratch, runtime| {
            super::trial::race_only(&patient(Arc::clone(scratch), settings), runtime)
        })
        .map(Some),
    }
}

/// A place that is no folder of this machine.
pub(super) trait Remote: Backend {
    /// Refuses a place where anything is but what an interrupted init left.
    fn require_empty(&self) -> Result<()>;

    /// Makes the place, where it has to be made.
    fn make(&self) -> Result<()> {
        Ok(())
    }

    /// Refuses a place where no repository is. Of a bucket that is found out when the repository is opened.
    fn require_repository(&self) -> Result<()> {
        Ok(())
    }

    /// A place below this one that nobody uses.
    fn scratch(&self, settings: &StoreSettings) -> Result<Arc<dyn Remote>>;

    /// Tries out, with an object of this name, which is gone afterwards or can be deleted, what only this kind of place may have.
    fn extras(&self, name: &ObjectName) -> Vec<Ability> {
        let _ = name;
        Vec::new()
    }

    /// Takes away what is left of such places once they are empty.
    fn clear_scratch(&self) {}
}

fn remote(address: &Address, settings: &StoreSettings) -> Result<Arc<dyn Remote>> {
    require_classes(address, settings)?;
    match address {
        #[cfg(feature = "object-store")]
        Address::Bucket(bucket) => Ok(Arc::new(super::ObjectStoreBackend::open(bucket, settings)?)),
        #[cfg(feature = "sftp")]
        Address::Sftp(sftp) => Ok(Arc::new(super::SftpBackend::connect(sftp, settings)?)),
        _ => {
            let _ = settings;
            Err(Error::new(ErrorKind::Unsupported, format!("{address}: this icecore was built without this kind of place")))
        }
    }
}

/// Waits for listings that lag behind.
fn patient(remote: Arc<dyn Remote>, settings: &StoreSettings) -> Arc<dyn Backend> {
    match u64::try_from(settings.listing_lag.as_nanos()).unwrap_or(u64::MAX) {
        0 => remote,
        lag_ns => Arc::new(PatientBackend::new(remote, lag_ns, Arc::clone(&settings.runtime.clock))),
    }
}

/// Refuses a storage class where none can be chosen.
fn require_classes(address: &Address, settings: &StoreSettings) -> Result<()> {
    match address {
        Address::Bucket(bucket) if bucket.kind == BucketKind::S3 => Ok(()),
        _ if settings.storage_class.is_empty() => Ok(()),
        _ => {
            let message = format!(
                "{address}: only in S3 buckets a storage class can be chosen; leave it out (elsewhere the bucket itself may have one)"
            );
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

/// An archive class of S3: what is in it must thaw before it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveClass {
    /// Its ways to thaw, ascending, each with the seconds that it takes at most, as Amazon says.
    pub ways: &'static [(&'static str, u32)],
    /// So many days are paid for at least, as Amazon says.
    pub minimum_days: u32,
}

impl ArchiveClass {
    /// The class that S3 calls so, where it is an archive.
    pub fn of(storage_class: &str) -> Option<Self> {
        const HOUR: u32 = 3600;
        match storage_class {
            "GLACIER" => Some(Self { ways: &[("bulk", 12 * HOUR), ("expedited", 300), ("standard", 5 * HOUR)], minimum_days: 90 }),
            "DEEP_ARCHIVE" => Some(Self { ways: &[("bulk", 48 * HOUR), ("standard", 12 * HOUR)], minimum_days: 180 }),
            _ => None,
        }
    }
}

/// Runs a trial in a scratch place.
fn try_in<T>(remote: &dyn Remote, settings: &StoreSettings, run: impl FnOnce(&Arc<dyn Remote>, &Runtime) -> Result<T>) -> Result<T> {
    let tried = run(&remote.scratch(settings)?, &settings.runtime);
    remote.clear_scratch();
    tried
}
