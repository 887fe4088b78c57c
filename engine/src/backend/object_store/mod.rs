//! Objects in a bucket: S3 and what speaks it, Azure Blob Storage, Google Cloud Storage.
//!
//! ```text
//! PREFIX/config/0000000001    every object at its name, below the prefix
//! ```
//!
//! The crate `object_store` speaks the protocols; here stands what icecore promises above them:
//!
//! - An object is created by a conditional request (`If-None-Match: *`). Where the store says that it exists and an earlier try had no
//!   answer, it is read back: it may be ours. A store that ignores the condition is found out by a race ([`crate::backend::trial`]), never
//!   believed; so names that two writers may want are asked for before they are written, which is all that can be done there.
//! - Large objects go up in parts of 8 MiB, several at once, each tried again by itself; memory is bounded by the number of parts under way.
//!   Before such an upload is completed its name is asked for. All these names are random, so nobody else has them.
//! - A listing is all that there is. Some that copy S3 answer as to its older way to list, which the crate does not read: then a page that is full is
//!   gone on from by its last key, and where that leads nowhere it is an error.
//! - What does not answer is tried again for as long as the settings have patience ([`driver`]). What is refused is not.
//! - Nothing here can lock: sessions live by their beats.
//!
//! One thread per backend waits on the network; callers wait for it on their own threads, so as many requests are under way as there are
//! callers, up to the limit of connections.

mod answer;
mod archive;
mod build;
mod driver;
mod extras;
mod retain;
mod signed;
#[cfg(test)]
mod tests;
mod unfinished;
mod writer;

use super::store::{Remote, Request, StoreSettings};
use super::{Ability, Backend, BucketAddress, BucketKind, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, Retain, Thaw};
use crate::error::{Error, ErrorKind, Result};
use answer::Answer;
use driver::{Driver, soon};
use futures_util::StreamExt;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use signed::Signed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use writer::StoreWriter;

/// Objects on a page of a listing; no store gives more.
const PAGE_MAX: usize = 1000;
/// The same in a trial, so that what it lists has several pages.
const PAGE_MAX_OF_TRIAL: usize = 5;

/// What all stores that the crate knows can do.
trait Store: ObjectStore + MultipartStore + PaginatedListStore + Signer {}
impl<S: ObjectStore + MultipartStore + PaginatedListStore + Signer> Store for S {}

/// Keeps objects in a bucket.
#[derive(Debug)]
pub struct ObjectStoreBackend {
    shared: Arc<Shared>,
    /// The class that packs of a tier are put into; empty for the bucket's own.
    storage_class: String,
    /// Whether the bucket has object lock, once that was asked.
    has_lock: OnceLock<bool>,
}

/// What threads that send parts share with the backend.
#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    signed: Signed,
    address: BucketAddress,
    driver: Driver,
    /// Objects on a page of a listing.
    page_max: usize,
}

/// Where a page of a listing begins.
#[derive(Debug, PartialEq, Eq)]
enum PageStart {
    First,
    /// Where the store says.
    Token(String),
    /// Behind this key.
    After(String),
}

impl ObjectStoreBackend {
    /// Makes ready to speak with the store; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for options that make no sense, [`ErrorKind::Unavailable`] where there is no thread to be had.
    pub fn open(address: &BucketAddress, settings: &StoreSettings) -> Result<Self> {
        Self::with_pages(address, settings, PAGE_MAX)
    }

    fn with_pages(address: &BucketAddress, settings: &StoreSettings, page_max: usize) -> Result<Self> {
        let (store, signed) = build::store(address, settings)?;
        let driver = Driver::start(address.to_string(), settings)?;
        let shared = Arc::new(Shared { store, signed, address: address.clone(), driver, page_max });
        Ok(Self { shared, storage_class: settings.storage_class.clone(), has_lock: OnceLock::new() })
    }
}

impl Remote for ObjectStoreBackend {
    fn scratch(&self, settings: &StoreSettings) -> Result<Arc<dyn Remote>> {
        let number = u64::from_le_bytes(settings.runtime.random());
        let prefix = format!("{}/trial/{number:016x}", self.shared.address.prefix);
        let address = BucketAddress { prefix: prefix.trim_start_matches('/').to_owned(), ..self.shared.address.clone() };
        Ok(Arc::new(Self::with_pages(&address, settings, PAGE_MAX_OF_TRIAL)?))
    }

    fn extras(&self, name: &ObjectName) -> Vec<Ability> {
        self.shared.extras(name)
    }

    fn require_empty(&self) -> Result<()> {
        let shared = &self.shared;
        let prefix = if shared.address.prefix.is_empty() { String::new() } else { format!("{}/", shared.address.prefix) };
        let (objects, _) = shared.page(&prefix, &PageStart::First)?;
        for object in objects {
            let key = object.location.as_ref();
            match ObjectName::parse(key.strip_prefix(&prefix).unwrap_or(key)) {
                Ok(name) if name.kind() == ObjectKind::Slot => {}
                Ok(_) => {
                    let message = format!("{}: there is a repository already", shared.address);
                    return Err(Error::new(ErrorKind::AlreadyExists, message));
                }
                Err(_) => {
                    let message = format!("{}: `{key}` is there; choose a prefix of the bucket that is empty", shared.address);
                    return Err(Error::new(ErrorKind::Invalid, message));
                }
            }
        }
        Ok(())
    }
}

impl Shared {
    fn path(&self, name: &ObjectName) -> Path {
        // The prefix was looked at when the address was read, and names have no letter that a path escapes.
        match self.address.prefix.as_str() {
            "" => Path::from(name.to_string()),
            prefix => Path::from(format!("{prefix}/{name}")),
        }
    }

    /// One page of the objects whose keys begin with `prefix`, and where the next one begins.
    fn page(&self, prefix: &str, start: &PageStart) -> Result<(Vec<ObjectMeta>, Option<PageStart>)> {
        let list = || {
            let mut options = PaginatedListOptions { max_keys: Some(self.page_max), ..PaginatedListOptions::default() };
            match start {
                PageStart::First => {}
                PageStart::Token(token) => options.page_token = Some(token.clone()),
                PageStart::After(key) => options.offset = Some(key.clone()),
            }
            let store = Arc::clone(&self.store);
            let prefix = (!prefix.is_empty()).then(|| prefix.to_owned());
            async move { store.list_paginated(prefix.as_deref(), options).await }
        };
        let page = self.driver.ask(Request::List, 0, list).map_err(|answer| answer.error(format!("listing {prefix}")))?;
        let objects = page.result.objects;
        let is_behind = |object: &ObjectMeta| !matches!(start, PageStart::After(key) if object.location.as_ref() <= key.as_str());
        if !objects.iter().all(is_behind) {
            let message = format!(
                "{}: the store lists the first {} objects below `{prefix}` and does not go on from there; use an endpoint, or a release of the store, \
                 that knows ListObjectsV2",
                self.address, self.page_max
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let next = match (page.page_token.filter(|token| !token.is_empty()), objects.last()) {
            (Some(token), _) => Some(PageStart::Token(token)),
            // There may be more, if the store does not know how to say so. One that gave a token before does.
            (None, Some(last)) if self.address.kind == BucketKind::S3 && objects.len() >= self.page_max => match start {
                PageStart::Token(_) => None,
                PageStart::First | PageStart::After(_) => Some(PageStart::After(last.location.to_string())),
            },
            (None, _) => None,
        };
        Ok((objects, next))
    }

    /// The object's size; `None` without such an object.
    fn find(&self, name: &ObjectName) -> Result<Option<u64>> {
        let path = self.path(name);
        match self.driver.ask(Request::Head, 0, || async { self.store.head(&path).await }) {
            Ok(found) => Ok(Some(found.size)),
            Err(Answer::Missing) => Ok(None),
            Err(answer) => Err(answer.error(name)),
        }
    }

    /// Writes a small object with one request.
    fn put(&self, name: &ObjectName, bytes: &PutPayload, replaces: bool) -> Result<()> {
        if !replaces && is_contended(name.kind()) && self.find(name)?.is_some() {
            return Err(exists(name));
        }
        let path = self.path(name);
        let put = || {
            let mode = if replaces { PutMode::Overwrite } else { PutMode::Create };
            let options = PutOptions { mode, ..PutOptions::default() };
            async {
                match self.store.put_opts(&path, bytes.clone(), options).await {
                    // Of other conflicts, which pass, some say the same (409); then there is nothing.
                    Err(error) if answer::says_exists(&error) && (replaces || self.is_absent(&path).await?) => {
                        Err(answer::conflict(&error))
                    }
                    other => other,
                }
            }
        };
        match self.driver.ask(Request::Put, bytes.content_length(), put) {
            Ok(_) => Ok(()),
            Err(Answer::Exists { tries }) if tries > 1 && self.is_ours(name, bytes)? => Ok(()),
            Err(Answer::Exists { .. }) => Err(exists(name)),
            // Of an object that is written nothing can be missing but the place.
            Err(Answer::Missing) => Err(missing_place(&self.address, name)),
            Err(answer) => Err(answer.error(name)),
        }
    }

    async fn is_absent(&self, path: &Path) -> object_store::Result<bool> {
        self.driver.traffic.request(Request::Head, 0);
        match self.store.head(path).await {
            Ok(_) => Ok(false),
            Err(object_store::Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether what is there are the bytes that an earlier try sent.
    fn is_ours(&self, name: &ObjectName, bytes: &PutPayload) -> Result<bool> {
        let length = bytes.content_length();
        match self.whole(name, length as u64) {
            Ok(found) => {
                let mut rest = found.as_slice();
                let is_same = bytes.iter().all(|piece| match rest.strip_prefix(&piece[..]) {
                    Some(after) => {
                        rest = after;
                        true
                    }
                    None => false,
                });
                Ok(is_same && rest.is_empty())
            }
            Err(error) if error.kind() == ErrorKind::Damaged => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn whole(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>> {
        let path = self.path(name);
        let get = || async {
            let result = soon(self.store.get_opts(&path, GetOptions::default())).await??;
            match result.meta.size {
                size if size > size_max => Ok(Err(size)),
                size => collect(result, size).await.map(Ok),
            }
        };
        let bytes_max = usize::try_from(size_max).unwrap_or(usize::MAX);
        let got = self.driver.ask(Request::Get, bytes_max, get).map_err(|answer| answer.error(name))?;
        match got {
            Err(size) => Err(Error::new(ErrorKind::Damaged, format!("{name}: {size} bytes, at most {size_max} are allowed"))),
            Ok(bytes) => {
                self.driver.traffic.received(bytes.len());
                Ok(bytes)
            }
        }
    }
}

impl Backend for ObjectStoreBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(StoreWriter::new(&self.shared, name, false)))
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(StoreWriter::new(&self.shared, name, true)))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        let shared = &self.shared;
        let short = |size: u64| {
            let message = format!("{name}: {size} bytes, expected {length} more from {offset}");
            Error::new(ErrorKind::Damaged, message)
        };
        // No request can say these.
        let end = offset.checked_add(length as u64);
        let Some(end) = end.filter(|_| length > 0) else {
            let size = self.size(name)?;
            return if end.is_some_and(|end| end <= size) { Ok(Vec::new()) } else { Err(short(size)) };
        };
        let path = shared.path(name);
        let get = || async {
            let options = GetOptions { range: Some(GetRange::Bounded(offset..end)), ..GetOptions::default() };
            let result = soon(shared.store.get_opts(&path, options)).await??;
            // Bound: what the store says that there is, so that a wrong length takes no memory.
            match result.meta.size {
                size if size < end => Ok(Err(size)),
                _ => collect(result, length as u64).await.map(Ok),
            }
        };
        match shared.driver.ask(Request::Get, length, get) {
            Ok(got) => {
                let bytes = got.map_err(short)?;
                shared.driver.traffic.received(bytes.len());
                Ok(bytes)
            }
            // The range begins behind the end.
            Err(Answer::OutOfRange) => Err(short(self.size(name)?)),
            Err(answer) => Err(answer.error(name)),
        }
    }

    fn get_whole(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>> {
        self.shared.whole(name, size_max)
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.shared.find(name)?.ok_or_else(|| Answer::Missing.error(name))
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let root = match self.shared.address.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let prefix = format!("{root}{}/", kind.folder());
        let mut start = PageStart::First;
        loop {
            let (objects, next) = self.shared.page(&prefix, &start)?;
            for object in objects {
                let key = object.location.as_ref();
                // The key `PREFIX/` itself, which consoles make to show a folder, holds nothing.
                let Some(name) = key.strip_prefix(&root).filter(|_| key.starts_with(&prefix)) else { continue };
                match ObjectName::parse(name) {
                    Ok(name) => visit(ObjectInfo { name, size: object.size })?,
                    Err(_) => stranger(name)?,
                }
            }
            match next {
                // A store that gives the same page for ever would keep us for ever.
                Some(next) if next == start => {
                    let message = format!("{}: the store lists the same page again and again", self.shared.address);
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
                Some(next) => start = next,
                None => return Ok(()),
            }
        }
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        // Stores say of a missing object, too, that they deleted it.
        self.size(name)?;
        let path = self.shared.path(name);
        match self.shared.driver.ask(Request::Delete, 0, || async { self.shared.store.delete(&path).await }) {
            Ok(_) => Ok(()),
            Err(answer) => Err(answer.error(name)),
        }
    }

    fn clear_unfinished(&self, age: Duration) -> u64 {
        unfinished::clear(&self.shared, age)
    }

    fn at_once(&self) -> usize {
        self.shared.driver.at_once
    }

    fn thawing(&self) -> Option<&dyn Thaw> {
        (!self.storage_class.is_empty()).then_some(self as &dyn Thaw)
    }

    fn retaining(&self) -> Option<&dyn Retain> {
        (self.shared.address.kind == BucketKind::S3).then_some(self as &dyn Retain)
    }

    fn describe(&self) -> String {
        self.shared.address.to_string()
    }
}

/// Reads exactly `length` bytes; fewer is a failure that is tried again.
async fn collect(result: GetResult, length: u64) -> object_store::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    let mut stream = result.into_stream();
    while let Some(piece) = soon(stream.next()).await? {
        bytes.extend_from_slice(&piece?);
        if bytes.len() as u64 > length {
            break;
        }
    }
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(answer::cut_short(bytes.len() as u64, length)),
    }
}

/// Whether two writers may want the same name: it is a number, or that of somebody else's session or snapshot.
fn is_contended(kind: ObjectKind) -> bool {
    use ObjectKind::{Closed, Config, Epoch, Slot, Tombstone, Withdrawn};
    matches!(kind, Config | Slot | Epoch | Closed | Tombstone | Withdrawn)
}

fn exists(name: &ObjectName) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("{name}: exists already"))
}

fn missing_place(address: &BucketAddress, name: &ObjectName) -> Error {
    let message = format!("{name}: the store does not find the place to write it to; see that the bucket of {address} is there");
    Error::new(ErrorKind::Unavailable, message)
}
