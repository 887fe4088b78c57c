//! Protection: beside every object its sidecar, from which it can be healed.
//!
//! ```text
//! write:   object, durable ─▶ its sidecar, durable ─▶ only now the writer has finished
//! delete:  sidecar ─▶ object ─▶ sidecar again
//! ```
//! So an object may lack a sidecar, after a stop in between, which is no damage. But where a sidecar stands and its object does not, the object was
//! lost: whoever deletes by the rules takes the sidecar first (`SidecarFirst`). It is looked for again afterwards, since somebody who found it
//! missing may have written it anew in between; whoever writes one looks whether its object is still there ([`protect`]).
//!
//! All of this is done here, beneath everything that writes and deletes through [`super::Repository`], and nobody above need think of it.

use crate::backend::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, Retain};
use crate::crypto::Signer;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::Config;
use crate::format::object::{Author, HEADER_LENGTH, Header};
use crate::format::parity::{Layout, SidecarHead, sidecar_of};
use crate::format::slot::Credential;
use crate::format::{Certificate, Trust};
use crate::id::RepositoryId;
use crate::parity::Codeword;
use crate::runtime::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Bytes read at once.
const PIECE_LENGTH: u64 = 1 << 20;

/// Who writes sidecars, and how.
#[derive(Debug, Clone)]
pub(crate) struct Protector {
    author: Author,
    /// For what only admin writes.
    admin: Option<Author>,
    repository: RepositoryId,
    structure_epoch: u32,
    percent: u8,
}

/// A backend whose objects are all protected.
#[derive(Debug)]
pub(super) struct ProtectedBackend {
    inner: Arc<dyn Backend>,
    protector: Protector,
}

/// `backend`, protected where the config says so.
pub(super) fn guard(
    backend: Arc<dyn Backend>,
    credential: &Credential,
    config: &Config,
    repository: RepositoryId,
    generation: u32,
) -> Arc<dyn Backend> {
    match config.parity_percent() {
        0 => backend,
        _ => Arc::new(ProtectedBackend { inner: backend, protector: Protector::new(credential, config, repository, generation) }),
    }
}

impl Protector {
    pub(super) fn new(credential: &Credential, config: &Config, repository: RepositoryId, generation: u32) -> Self {
        let admin = credential.admin_seed.as_ref().map(|seed| {
            let signer = Signer::new(seed);
            Author { certificate: Certificate::of_admin(&signer, &repository, generation), signer }
        });
        let structure_epoch = config.structure_epoch;
        Self { author: credential.author.clone(), admin, repository, structure_epoch, percent: config.parity_percent() }
    }

    fn author_for(&self, object: &ObjectName) -> &Author {
        match (&self.admin, object.kind()) {
            (Some(admin), ObjectKind::Config | ObjectKind::Slot) => admin,
            _ => &self.author,
        }
    }

    /// Writes the sidecar of an object that is there; one that somebody else wrote meanwhile is as good. False where the object is gone meanwhile.
    pub(super) fn protect(&self, backend: &dyn Backend, object: &ObjectInfo) -> Result<bool> {
        let name = sidecar_of(&object.name);
        match self.write_sidecar(backend, &name, object) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
            Ok(()) => match backend.size(&object.name) {
                // Deleted while its sidecar was made, which must not make it look lost.
                Err(error) if error.kind() == ErrorKind::NotFound => remove(backend, &name).map(|()| false),
                size => size.map(|_| true),
            },
        }
    }

    fn write_sidecar(&self, backend: &dyn Backend, name: &ObjectName, object: &ObjectInfo) -> Result<()> {
        let hash = backend.get_range(&object.name, object.size.saturating_sub(32), 32)?;
        let hash = hash.try_into().map_err(|_| Error::new(ErrorKind::Damaged, format!("{}: too short", object.name)))?;
        let head = SidecarHead::plan(object.name, object.size, hash, self.percent);
        let header = Header { name: *name, repository: self.repository, structure_epoch: self.structure_epoch };
        let mut writer = backend.create(name)?;
        let mut hasher = blake3::Hasher::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
            writer.write(bytes)
        };
        put(&header.encode())?;
        put(&head.encode())?;
        match head.layout() {
            None => for_each_piece(backend, &object.name, object.size, &mut put)?,
            Some(layout) => put_blocks(backend, &object.name, &layout, &mut put)?,
        }
        let trailer = self.author_for(&object.name).trailer_after(hasher);
        writer.write(&trailer)?;
        writer.finish()
    }
}

/// Calls `visit` with all bytes of an object, in order.
pub(super) fn for_each_piece(
    backend: &dyn Backend,
    name: &ObjectName,
    size: u64,
    visit: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    while at < size {
        let length = PIECE_LENGTH.min(size - at);
        visit(&backend.get_range(name, at, usize::try_from(length).unwrap_or(usize::MAX))?)?;
        at += length;
    }
    Ok(())
}

/// Hashes of all blocks, then the recovery blocks of each codeword.
fn put_blocks(backend: &dyn Backend, name: &ObjectName, layout: &Layout, put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut codewords: Vec<_> = (0..layout.codewords).map(|_| Codeword::new(layout.recovery, layout.block_size)).collect();
    for number in 0..layout.codewords * layout.data {
        let (start, length) = layout.block(number);
        let block = if length == 0 { Vec::new() } else { backend.get_range(name, start, length)? };
        if number < layout.blocks {
            put(blake3::hash(&block).as_bytes())?;
        }
        codewords[number % layout.codewords].push(&block);
    }
    for mut codeword in codewords {
        (0..layout.recovery).for_each(|_| codeword.push_missing());
        let recovery = codeword.solve().ok_or_else(|| Error::new(ErrorKind::Internal, "a codeword has too many blocks"))?;
        recovery.iter().try_for_each(|block| put(block))?;
    }
    Ok(())
}

/// Deletes what may be gone already.
pub(super) fn remove(backend: &dyn Backend, name: &ObjectName) -> Result<()> {
    match backend.delete(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Backend for ProtectedBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        let inner = self.inner.create(name)?;
        Ok(match name.kind() {
            ObjectKind::Parity => inner,
            _ => Box::new(ProtectedWriter { backend: self, object: ObjectInfo { name: *name, size: 0 }, inner }),
        })
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.inner.replace(name)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.inner.get_range(name, offset, length)
    }

    fn get_whole(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>> {
        self.inner.get_whole(name, size_max)
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.inner.size(name)
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        self.inner.list(kind, visit, stranger)
    }

    /// `SidecarFirst`
    fn delete(&self, name: &ObjectName) -> Result<()> {
        if name.kind() == ObjectKind::Parity {
            return self.inner.delete(name);
        }
        let sidecar = sidecar_of(name);
        remove(&*self.inner, &sidecar)?;
        let deleted = self.inner.delete(name);
        remove(&*self.inner, &sidecar)?;
        deleted
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<()> {
        self.inner.make_durable(names)
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Box<dyn Send>>> {
        self.inner.hold(name)
    }

    fn is_held(&self, name: &ObjectName) -> Result<Option<bool>> {
        self.inner.is_held(name)
    }

    fn clear_unfinished(&self, age: Duration) -> u64 {
        self.inner.clear_unfinished(age)
    }

    fn at_once(&self) -> usize {
        self.inner.at_once()
    }

    fn retaining(&self) -> Option<&dyn Retain> {
        self.inner.retaining().map(|_| self as &dyn Retain)
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

impl Retain for ProtectedBackend {
    fn is_enabled(&self) -> Result<bool> {
        self.inner.retaining().map_or(Ok(false), Retain::is_enabled)
    }

    /// And its sidecar, where it has one.
    fn retain(&self, name: &ObjectName, until: Timestamp) -> Result<()> {
        let Some(inner) = self.inner.retaining() else { return Ok(()) };
        inner.retain(name, until)?;
        match inner.retain(&sidecar_of(name), until) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

struct ProtectedWriter<'a> {
    backend: &'a ProtectedBackend,
    object: ObjectInfo,
    inner: Box<dyn ObjectWriter + 'a>,
}

impl ObjectWriter for ProtectedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.object.size += bytes.len() as u64;
        self.inner.write(bytes)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self { backend, object, inner } = *self;
        inner.finish()?;
        // The sidecar is made of what is stored, not of what was meant to be. Whoever deleted the object meanwhile did so by the rules.
        backend.protector.protect(&*backend.inner, &object).map(drop)
    }
}

/// Whether an object is what somebody signed who may (OBJ-1 to OBJ-11, of a pack PACK-1 to PACK-4): all that can be said without reading what is
/// sealed. Gives the writer's certificate.
///
/// # Errors
/// The rule that is broken, otherwise what the backend says.
pub(crate) fn verify(backend: &dyn Backend, trust: &Trust, object: &ObjectInfo) -> Result<Certificate> {
    use crate::backend::BackendExt;
    use crate::format::object::Opened;
    use crate::limits::GROUP_SIZE;
    let name = &object.name;
    if !name.kind().is_pack() {
        let bytes = backend.get(name, name.kind().size_max())?;
        return Opened::check(name, &bytes, trust).map(|opened| opened.certificate);
    }
    let tail = super::ClearTail::read(backend, trust, name, object.size)?;
    let certificate = tail.check(trust)?.certificate;
    let length = tail.footer.frames_length as usize;
    for (number, expected) in tail.groups().chunks(32).enumerate() {
        let start = number * GROUP_SIZE;
        let bytes = backend.get_range(name, (HEADER_LENGTH + start) as u64, GROUP_SIZE.min(length - start))?;
        if blake3::hash(&bytes).as_bytes() != expected {
            return Err(Error::rule("PACK-4", format!("{name}: group {number} of 1 MiB does not have its hash")));
        }
    }
    Ok(certificate)
}
