//! Healing: an object's own bytes, back under its own name, out of its sidecar.
//!
//! Nobody needs a key for it, and nobody has to be believed: what comes out is checked by the object's own hashes and by who signed it, before it
//! takes the damaged one's place and after. A sidecar of somebody else's making heals nothing (PARITY-7).

use super::protect::{for_each_piece, remove, verify};
use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName, ObjectWriter};
use crate::error::{Error, ErrorKind, Result};
use crate::format::object::{HEADER_LENGTH, Opened};
use crate::format::parity::{HEAD_LENGTH, Layout, SidecarForm, SidecarHead, sidecar_of};
use crate::format::{Certificate, Roles, Trust};
use crate::parity::Codeword;
use std::collections::BTreeMap;

/// A sidecar that keeps its rules.
#[derive(Debug)]
pub(crate) struct Sidecar {
    name: ObjectName,
    certificate: Certificate,
    pub(crate) head: SidecarHead,
    /// Hashes of the blocks, and the recovery blocks; nothing of a copy.
    coded: Vec<u8>,
}

/// Blocks that were computed, by their numbers.
type Blocks = BTreeMap<usize, Vec<u8>>;

/// An object as it is where its sidecar's blocks, or its copy, take the place of what is damaged.
#[derive(Debug)]
struct Mended<'a> {
    backend: &'a dyn Backend,
    sidecar: &'a Sidecar,
    blocks: &'a Blocks,
}

/// What it takes to read a damaged object as it was; nothing is written.
#[derive(Debug)]
pub(super) struct Remedy {
    sidecar: Sidecar,
    blocks: Blocks,
}

impl Remedy {
    /// Computes what is missing of an object.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where it has no sidecar, [`ErrorKind::Damaged`] where too much is lost or the sidecar is damaged, too, otherwise what
    /// the backend says.
    pub(super) fn find(backend: &dyn Backend, trust: &Trust, name: &ObjectName) -> Result<Self> {
        let mut sidecar = Sidecar::read(backend, trust, &sidecar_of(name))?;
        let blocks = sidecar.compute(backend)?;
        sidecar.coded = Vec::new();
        Ok(Self { sidecar, blocks })
    }

    /// The object as it was. Nobody has checked all of it: whoever reads a part checks that part by its own hash, as anywhere else.
    pub(super) fn object<'a>(&'a self, backend: &'a dyn Backend) -> impl Backend + 'a {
        Mended { backend, sidecar: &self.sidecar, blocks: &self.blocks }
    }

    /// Bytes of the object.
    pub(super) fn size(&self) -> u64 {
        self.sidecar.head.size
    }

    /// Bytes that it holds in memory.
    pub(super) fn held(&self) -> usize {
        self.blocks.values().map(Vec::len).sum()
    }
}

impl Sidecar {
    /// Reads a sidecar and checks it (OBJ-1 to OBJ-11, PARITY-1 to PARITY-5).
    ///
    /// # Errors
    /// The rule that is broken; [`ErrorKind::NotFound`] where there is none, otherwise what the backend says.
    pub(crate) fn read(backend: &dyn Backend, trust: &Trust, name: &ObjectName) -> Result<Self> {
        let mut bytes = backend.get(name, name.kind().size_max())?;
        let opened = Opened::check(name, &bytes, trust)?;
        let head = SidecarHead::decode(name, opened.body, opened.body.len() as u64).map_err(|error| error.context(name))?;
        let certificate = opened.certificate.clone();
        let coded = match head.form {
            SidecarForm::Copy => Vec::new(),
            SidecarForm::Code { .. } => {
                let end = HEADER_LENGTH + opened.body.len();
                bytes.truncate(end);
                bytes.split_off(HEADER_LENGTH + HEAD_LENGTH)
            }
        };
        Ok(Self { name: *name, certificate, head, coded })
    }

    /// What it heals.
    pub(crate) fn object(&self) -> ObjectInfo {
        ObjectInfo { name: self.head.object, size: self.head.size }
    }

    /// Checks a copy: it must be the object that its head tells of (PARITY-6), and by the same writer or one who maintains (PARITY-7).
    pub(crate) fn check_copy(&self, backend: &dyn Backend, trust: &Trust) -> Result<()> {
        match self.head.form {
            SidecarForm::Copy => {
                let mended = Mended { backend, sidecar: self, blocks: &Blocks::new() };
                mended.check(trust).map_err(|error| match error.broken_rule() {
                    Some(rule) if !rule.starts_with("PARITY") => {
                        Error::rule("PARITY-6", format!("{}: its copy is none: {error}", self.name))
                    }
                    _ => error,
                })
            }
            SidecarForm::Code { .. } => Ok(()),
        }
    }

    /// Checks that it is the sidecar of the `object` that is there (PARITY-8). Of one that is cut off, or cannot be read as it is, other rules tell.
    ///
    /// # Errors
    /// The rule; [`ErrorKind::Unavailable`] where the store does not give the object.
    pub(crate) fn check_object(&self, backend: &dyn Backend, object: &ObjectInfo) -> Result<()> {
        let hash = match backend.get_range(&object.name, object.size.saturating_sub(32), 32) {
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            hash => hash,
        };
        match hash.is_ok_and(|hash| object.size == self.head.size && hash != self.head.hash) {
            true => Err(Error::rule("PARITY-8", format!("{}: it tells of another {} than the one that is here", self.name, object.name))),
            false => Ok(()),
        }
    }

    /// The bytes of a recovery block, or (of the hashes) what stands at that place of the body.
    fn coded(&self, at: u64, length: usize) -> &[u8] {
        let at = usize::try_from(at).unwrap_or(usize::MAX).saturating_sub(HEAD_LENGTH);
        self.coded.get(at..at.saturating_add(length)).unwrap_or_default()
    }

    /// The blocks of the object that cannot be read or do not have their hash; none where there is a copy.
    fn compute(&self, backend: &dyn Backend) -> Result<Blocks> {
        self.head.layout().map_or_else(|| Ok(Blocks::new()), |layout| self.compute_blocks(backend, &layout))
    }

    fn compute_blocks(&self, backend: &dyn Backend, layout: &Layout) -> Result<Blocks> {
        let mut codewords: Vec<_> = (0..layout.codewords).map(|_| Codeword::new(layout.recovery, layout.block_size)).collect();
        let mut bad = Vec::new();
        for number in 0..layout.codewords * layout.data {
            let codeword = &mut codewords[number % layout.codewords];
            let (start, length) = layout.block(number);
            if number >= layout.blocks {
                codeword.push(&[]);
                continue;
            }
            let expected = self.coded((HEAD_LENGTH + 32 * number) as u64, 32);
            let read = backend.get_range(&self.head.object, start, length);
            match read.ok().filter(|block| blake3::hash(block).as_bytes() == expected) {
                Some(block) => codeword.push(&block),
                None => {
                    codeword.push_missing();
                    bad.push(number);
                }
            }
        }
        let mut blocks = Blocks::new();
        for (at, mut codeword) in codewords.into_iter().enumerate() {
            let (missing, most) = (codeword.missing(), layout.recovery);
            (0..layout.recovery).for_each(|n| codeword.push(self.coded(layout.recovery_block(at, n), layout.block_size)));
            let Some(solved) = codeword.solve() else {
                let lost = bad.len();
                let message = format!("{lost} of {} blocks are lost, {missing} of one codeword, and {most} is the most", layout.blocks);
                return Err(Error::new(ErrorKind::Damaged, message));
            };
            let numbers = bad.iter().filter(|number| **number % layout.codewords == at);
            blocks.extend(numbers.zip(solved).map(|(number, mut block)| {
                block.truncate(layout.block(*number).1);
                (*number, block)
            }));
        }
        Ok(blocks)
    }
}

impl Mended<'_> {
    /// Whether it is the object that the sidecar tells of, written by who wrote the sidecar, unless that was maintain (PARITY-6, PARITY-7).
    fn check(&self, trust: &Trust) -> Result<()> {
        let object = self.sidecar.object();
        let (certificate, own) = (verify(self, trust, &object)?, &self.sidecar.certificate);
        if self.get_range(&object.name, object.size - 32, 32)? != self.sidecar.head.hash {
            return Err(Error::rule("PARITY-6", "what the sidecar holds is not what it says"));
        }
        match certificate.verifying_key() == own.verifying_key() || own.roles().contain(Roles::MAINTAIN) {
            true => Ok(()),
            false => Err(Error::rule("PARITY-7", "the sidecar was written by another than its object")),
        }
    }

    fn block(&self, layout: &Layout, number: usize) -> Result<Vec<u8>> {
        match self.blocks.get(&number) {
            Some(block) => Ok(block.clone()),
            None => {
                let (start, length) = layout.block(number);
                self.backend.get_range(&self.sidecar.head.object, start, length)
            }
        }
    }
}

/// Only the one object can be read.
impl Backend for Mended<'_> {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        Err(Error::new(ErrorKind::Internal, format!("{name}: nothing is written while an object is mended")))
    }

    fn get_range(&self, _: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        let end = offset.saturating_add(length as u64);
        if end > self.sidecar.head.size {
            return Err(Error::new(
                ErrorKind::Damaged,
                format!("{}: {} bytes, too short", self.sidecar.head.object, self.sidecar.head.size),
            ));
        }
        let Some(layout) = self.sidecar.head.layout() else {
            return self.backend.get_range(&self.sidecar.name, (HEADER_LENGTH + HEAD_LENGTH) as u64 + offset, length);
        };
        let mut bytes = Vec::with_capacity(length);
        let mut at = offset;
        while at < end {
            let number = usize::try_from(at / layout.block_size as u64).unwrap_or(usize::MAX);
            let (block, start) = (self.block(&layout, number)?, layout.block(number).0);
            let piece = block.get((at - start) as usize..).unwrap_or_default();
            let piece = &piece[..piece.len().min((end - at) as usize)];
            if piece.is_empty() {
                return Err(Error::new(
                    ErrorKind::Damaged,
                    format!("{}: the store gives fewer bytes than it has", self.sidecar.head.object),
                ));
            }
            bytes.extend_from_slice(piece);
            at += piece.len() as u64;
        }
        Ok(bytes)
    }

    fn size(&self, _: &ObjectName) -> Result<u64> {
        Ok(self.sidecar.head.size)
    }

    fn list(&self, _: ObjectKind, _: &mut dyn FnMut(ObjectInfo) -> Result<()>, _: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        Err(Error::new(ErrorKind::Internal, format!("{name}: nothing is deleted while an object is mended")))
    }

    fn describe(&self) -> String {
        self.backend.describe()
    }
}

/// Puts an object's own bytes back, whatever is left of it.
///
/// Whoever deletes it meanwhile takes its sidecar first (`SidecarFirst`), so where the sidecar is gone afterwards the object goes again.
///
/// # Errors
/// [`ErrorKind::NotFound`] where it has no sidecar, [`ErrorKind::Damaged`] where too much is lost or the sidecar is damaged, too, otherwise what the
/// backend says.
pub(crate) fn heal(backend: &dyn Backend, trust: &Trust, name: &ObjectName) -> Result<()> {
    let sidecar = Sidecar::read(backend, trust, &sidecar_of(name))?;
    let mended = Mended { backend, sidecar: &sidecar, blocks: &sidecar.compute(backend)? };
    mended.check(trust)?;
    let mut writer = backend.replace(name)?;
    for_each_piece(&mended, name, sidecar.head.size, &mut |bytes| writer.write(bytes))?;
    writer.finish()?;
    match backend.size(&sidecar.name) {
        Err(error) if error.kind() == ErrorKind::NotFound => remove(backend, name),
        other => {
            other?;
            // What was read twice may have been read otherwise.
            verify(backend, trust, &sidecar.object()).map(drop)
        }
    }
}
