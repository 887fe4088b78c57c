//! Reading objects: checked, opened, and for packs only their tables.

use super::Repository;
use super::index::LookupIndex;
use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::epoch::EpochBody;
use crate::format::index_object::IndexBody;
use crate::format::object::{HEADER_LENGTH, Header, Opened, TRAILER_LENGTH};
use crate::format::pack::{FOOTER_LENGTH, Footer};
use crate::format::session::SessionBody;
use crate::format::{Certificate, ContentsTable, Tables, Trust};
use crate::id::{DomainId, PackId, SessionId};
use std::collections::{HashMap, HashSet};

/// Bytes read from the end of a pack at first; enough for the tables of most.
const TAIL_GUESS: u64 = 160 << 10;

/// A small object whose one sealed part was opened.
#[derive(Debug)]
pub(crate) struct Unsealed {
    pub(crate) plaintext: Vec<u8>,
    pub(crate) certificate: Certificate,
    pub(crate) hash: [u8; 32],
}

/// The end of a pack: everything but its frames.
#[derive(Debug)]
pub(crate) struct PackTail {
    pub(crate) footer: Footer,
    pub(crate) tables: Tables,
    /// The group hashes, one after the other.
    pub(crate) groups: Vec<u8>,
}

/// The end of a pack as it can be read without any key.
#[derive(Debug)]
pub(crate) struct ClearTail {
    pub(crate) header: Header,
    pub(crate) footer: Footer,
    /// Everything after the frames region.
    pub(crate) bytes: Vec<u8>,
}

impl ClearTail {
    /// Reads header and tail of a pack of `size` bytes (OBJ-1 to OBJ-7, PACK-1 to PACK-3).
    pub(crate) fn read(backend: &dyn Backend, trust: &Trust, name: &ObjectName, size: u64) -> Result<Self> {
        let range = |offset: u64, length: u64| backend.get_range(name, offset, usize::try_from(length).unwrap_or(usize::MAX));
        let header_bytes = range(0, size.min(HEADER_LENGTH as u64))?;
        let header = Header::decode(name, size, &header_bytes)?;
        trust.check_repository(&header)?;
        let guess = TAIL_GUESS.min(size - HEADER_LENGTH as u64);
        let mut bytes = range(size - guess, guess)?;
        let footer_bytes =
            bytes.len().checked_sub(TRAILER_LENGTH + FOOTER_LENGTH).and_then(|at| bytes[at..].first_chunk::<FOOTER_LENGTH>());
        let footer = Footer::decode(footer_bytes.ok_or_else(|| Error::rule("OBJ-1", "no room for a footer"))?, size)?;
        let tail_length = footer.tail_length();
        match bytes.len().checked_sub(tail_length) {
            Some(excess) => drop(bytes.drain(..excess)),
            None => bytes = range(size - tail_length as u64, tail_length as u64)?,
        }
        Ok(Self { header, footer, bytes })
    }

    /// Checks hash, certificate and signature (OBJ-8 to OBJ-11).
    pub(crate) fn check(&self, trust: &Trust) -> Result<Opened<'_>> {
        Opened::check_tail(self.header, &self.bytes, trust)
    }

    /// The group hashes, one after the other.
    pub(crate) fn groups(&self) -> &[u8] {
        let start = self.footer.tables_length as usize;
        self.bytes.get(start..start + 32 * self.footer.group_count()).unwrap_or_default()
    }
}

/// The dedup domain of each session in a table.
pub(crate) type Domains = HashMap<SessionId, DomainId>;

impl Repository {
    /// Reads an object whose body is one sealed part.
    pub(crate) fn read_sealed(&self, name: &ObjectName) -> Result<Unsealed> {
        let bytes = self.backend.get(name, name.kind().size_max())?;
        let opened = Opened::check(name, &bytes, &self.trust)?;
        let plaintext = opened.open_part(&*self.credential, 0, opened.body).map_err(|error| error.context(name))?;
        Ok(Unsealed { plaintext, certificate: opened.certificate, hash: opened.hash })
    }

    /// Reads a session object (SESS-1, SESS-2).
    pub(crate) fn read_session(&self, id: SessionId) -> Result<SessionBody> {
        let name = ObjectName::session(id);
        let unsealed = self.read_sealed(&name)?;
        let body = SessionBody::decode(&unsealed.plaintext, &self.id, &self.trust).map_err(|error| error.context(name))?;
        match body.record.id() == id && body.record.certificate() == &unsealed.certificate {
            true => Ok(body),
            false => Err(Error::rule("SESS-1", "the record is that of another session").context(name)),
        }
    }

    /// Whether an object is there.
    pub(crate) fn has(&self, name: &ObjectName) -> Result<bool> {
        match self.backend.size(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes an object whose body is one sealed part, as this credential.
    pub(crate) fn write_sealed(&self, name: ObjectName, plaintext: Vec<u8>) -> Result<()> {
        let header = self.header(name);
        self.backend.put(&name, &self.credential.author.sealed_object(&header, self.structure_key()?, plaintext))
    }

    /// The structure key in force.
    pub(crate) fn structure_key(&self) -> Result<&crate::crypto::Secret> {
        use crate::format::object::StructureKeys;
        let epoch = self.config.structure_epoch;
        self.credential.structure_key(epoch).ok_or_else(|| {
            let message = format!("this credential does not hold the keys of epoch {epoch}, which is in force; ask for a newer credential");
            Error::new(ErrorKind::Unauthorized, message)
        })
    }

    /// Reads header and tail of a pack of `size` bytes and checks all but the frames (OBJ and PACK rules without PACK-4).
    pub(crate) fn read_pack_tail(&self, name: &ObjectName, size: u64) -> Result<PackTail> {
        self.read_pack_tail_inner(name, size).map_err(|error| if error.broken_rule().is_some() { error.context(name) } else { error })
    }

    fn read_pack_tail_inner(&self, name: &ObjectName, size: u64) -> Result<PackTail> {
        let clear = ClearTail::read(&*self.backend, &self.trust, name, size)?;
        let opened = clear.check(&self.trust)?;
        let (sealed, rest) = opened.body.split_at(clear.footer.tables_length as usize);
        let plaintext = opened.open_part(&*self.credential, 0, sealed)?;
        let writer = (opened.certificate.verifying_key(), opened.certificate.roles());
        let frames_length = u64::from(clear.footer.frames_length);
        let tables = Tables::decode(&plaintext, name.kind(), frames_length, writer, &self.id, &self.trust)?;
        Ok(PackTail { footer: clear.footer, tables, groups: rest[..32 * clear.footer.group_count()].to_vec() })
    }

    /// All packs that are listed, sorted by kind and id.
    pub(crate) fn list_packs(&self) -> Result<Vec<ObjectInfo>> {
        let mut packs = Vec::new();
        for kind in [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack] {
            packs.append(&mut self.backend.list_sorted(kind)?);
        }
        Ok(packs)
    }

    /// Packs that some epoch has condemned. Epochs that break a rule are passed over; check reports them.
    pub(crate) fn condemned(&self) -> Result<(u32, HashSet<(ObjectKind, PackId)>)> {
        let mut condemned = HashSet::new();
        let newest = self.for_each_epoch(|_, epoch| condemned.extend(epoch.condemned))?;
        Ok((newest, condemned))
    }

    /// Hands out all epochs by number, with their hashes, and gives the newest number, 0 for none. One that breaks a rule uses up its number and says nothing; check
    /// reports it.
    pub(crate) fn for_each_epoch(&self, mut take: impl FnMut((u32, [u8; 32]), EpochBody)) -> Result<u32> {
        let mut newest = 0;
        for object in self.backend.list_sorted(ObjectKind::Epoch)? {
            newest = newest.max(object.name.number());
            match self.read_sealed(&object.name).and_then(|object| Ok((EpochBody::decode(&object.plaintext)?, object.hash))) {
                Ok((epoch, hash)) => take((newest, hash), epoch),
                Err(error) if error.broken_rule().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(newest)
    }

    /// The number of the newest epoch, 0 for none.
    pub(crate) fn newest_epoch(&self) -> Result<u32> {
        Ok(self.backend.list_sorted(ObjectKind::Epoch)?.last().map_or(0, |object| object.name.number()))
    }

    /// Makes the lookup index agree with the packs listed now. Packs that break a rule are left out: what they hold is not there.
    pub(crate) fn sync_index(&self, index: &LookupIndex) -> Result<()> {
        let listed = self.list_packs()?;
        let known: HashSet<_> = index.packs().into_iter().collect();
        let mut fresh = Vec::new();
        let mut listing = Vec::with_capacity(listed.len());
        for object in &listed {
            let pack = (object.name.kind(), PackId(object.name.id()));
            match known.contains(&pack) {
                true => listing.push(pack),
                false => fresh.push((pack, object)),
            }
        }
        let mut from_index_objects = self.read_index_objects(&fresh.iter().map(|(pack, _)| *pack).collect())?;
        let mut tables: HashMap<(ObjectKind, PackId), (ContentsTable, Domains)> = HashMap::new();
        for (pack, object) in fresh {
            let table = match from_index_objects.remove(&pack) {
                Some(table) => table,
                None => match self.read_pack_tail(&object.name, object.size) {
                    Ok(tail) => (tail.tables.contents, domains(&tail.tables.sessions)),
                    // Gone since it was listed, or damaged: not there. Check names the damaged ones.
                    Err(error) if error.kind() == ErrorKind::NotFound || error.broken_rule().is_some() => continue,
                    Err(error) => return Err(error),
                },
            };
            tables.insert(pack, table);
            listing.push(pack);
            if tables.len() >= TABLES_AT_ONCE {
                self.add_to_index(index, &listing, &mut tables)?;
            }
        }
        self.add_to_index(index, &listing, &mut tables)
    }

    fn add_to_index(
        &self,
        index: &LookupIndex,
        listing: &[(ObjectKind, PackId)],
        tables: &mut HashMap<(ObjectKind, PackId), (ContentsTable, Domains)>,
    ) -> Result<()> {
        index.sync_with(listing, |kind, pack| {
            let (table, domains) =
                tables.remove(&(kind, pack)).ok_or_else(|| Error::new(ErrorKind::Internal, "a pack without its table"))?;
            Ok((table, move |session: SessionId| domains.get(&session).copied().unwrap_or(DomainId([0xff; 16]))))
        })?;
        Ok(())
    }

    /// Contents of the wanted packs, as index objects have them. Index objects that break a rule are passed over.
    fn read_index_objects(
        &self,
        wanted: &HashSet<(ObjectKind, PackId)>,
    ) -> Result<HashMap<(ObjectKind, PackId), (ContentsTable, Domains)>> {
        let mut tables = HashMap::new();
        if wanted.is_empty() {
            return Ok(tables);
        }
        for object in self.backend.list_sorted(ObjectKind::Index)? {
            let decode = || -> Result<_> {
                let unsealed = self.read_sealed(&object.name)?;
                let body = IndexBody::decode(&unsealed.plaintext, &self.id, &self.trust)?;
                let writer = (unsealed.certificate.verifying_key(), unsealed.certificate.roles());
                crate::format::check_writer(&body.sessions, writer)?;
                Ok(body)
            };
            match decode() {
                Ok(body) => {
                    let domains = domains(&body.sessions);
                    let packs = body.packs.into_iter().filter(|(kind, pack, _)| wanted.contains(&(*kind, *pack)));
                    tables.extend(packs.map(|(kind, pack, contents)| ((kind, pack), (contents, domains.clone()))));
                }
                Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tables)
    }
}

/// Contents tables held in memory at once while the index is filled.
const TABLES_AT_ONCE: usize = 64;

pub(crate) fn domains(sessions: &[crate::format::session::SessionRecord]) -> Domains {
    sessions.iter().map(|session| (session.id(), session.certificate().domain())).collect()
}
