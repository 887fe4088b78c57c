//! Reading objects: checked, opened, and for packs only their tables.

use super::Repository;
use super::contents_reader::{ContentsReader, Tellers};
use super::index::LookupIndex;
use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::epoch::EpochBody;
use crate::format::object::{HEADER_LENGTH, Header, Opened, TRAILER_LENGTH};
use crate::format::pack::{FOOTER_LENGTH, Footer};
use crate::format::session::SessionBody;
use crate::format::{Certificate, ContentsTable, Tables, Trust};
use crate::id::{DomainId, PackId, SessionId};
use crate::runtime::ask_all;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bytes read from the end of a pack at first; enough for the tables of most.
const TAIL_GUESS: u64 = 160 << 10;
/// So many objects of a kind are read before any is handed out, at most, and so many bytes of them.
const READ_AHEAD_MAX: usize = 256;
const READ_AHEAD_BYTES_MAX: u64 = 8 << 20;
/// So many epochs begin during one listing at most. Whoever can write to the store can put one of any number there.
const EPOCHS_MISSED_MAX: usize = 64;
/// How many packs are added to the index before it is saved in between.
const PACKS_BETWEEN_SAVES: usize = 1_000;

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
        // A small one with one request.
        let is_small = size <= HEADER_LENGTH as u64 + TAIL_GUESS;
        let mut bytes = range(0, if is_small { size } else { HEADER_LENGTH as u64 })?;
        let header = Header::decode(name, size, bytes.get(..HEADER_LENGTH).unwrap_or(&bytes))?;
        trust.check_repository(&header)?;
        match is_small {
            true => drop(bytes.drain(..HEADER_LENGTH)),
            false => bytes = range(size - TAIL_GUESS, TAIL_GUESS)?,
        }
        let footer = footer_of(&bytes, size)?;
        let tail_length = footer.tail_length();
        match bytes.len().checked_sub(tail_length) {
            Some(excess) => drop(bytes.drain(..excess)),
            None => bytes = range(size - tail_length as u64, tail_length as u64)?,
        }
        Ok(Self { header, footer, bytes })
    }

    /// The same of bytes that were read before: the header, and everything after the frames region.
    pub(super) fn from_parts(trust: &Trust, name: &ObjectName, size: u64, header: &[u8], bytes: Vec<u8>) -> Result<Self> {
        let header = Header::decode(name, size, header)?;
        trust.check_repository(&header)?;
        let footer = footer_of(&bytes, size)?;
        match footer.tail_length() == bytes.len() {
            true => Ok(Self { header, footer, bytes }),
            false => Err(Error::rule("OBJ-1", "it ends elsewhere than the footer says")),
        }
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

/// The footer of a pack of `size` bytes that ends with these.
fn footer_of(bytes: &[u8], size: u64) -> Result<Footer> {
    let footer = bytes.len().checked_sub(TRAILER_LENGTH + FOOTER_LENGTH).and_then(|at| bytes.get(at..)?.first_chunk::<FOOTER_LENGTH>());
    Footer::decode(footer.ok_or_else(|| Error::rule("OBJ-1", "no room for a footer"))?, size)
}

/// Refuses to write what every reader would refuse (OBJ-1).
pub(crate) fn require_readable_size(name: &ObjectName, size: u64) -> Result<()> {
    let size_max = name.kind().size_max();
    match size <= size_max {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Invalid, format!("{name} would have {size} bytes, and at most {size_max} can be read"))),
    }
}

/// The dedup domain of each session in a table.
pub(crate) type Domains = HashMap<SessionId, DomainId>;

impl Repository {
    /// Reads an object whose body is one sealed part.
    pub(crate) fn read_sealed(&self, name: &ObjectName) -> Result<Unsealed> {
        self.contents_reader().read_sealed(name)
    }

    /// Asks about each of these, as many at once as the store bears, and gives what came of each, in their order. It is all one whether one of them
    /// fails.
    ///
    /// # Errors
    /// Where no threads can be had.
    pub(crate) fn ask_each<I: Sync, T: Send>(&self, items: &[I], ask: impl Fn(&I) -> Result<T> + Sync) -> Result<Vec<Result<T>>> {
        ask_all(&self.runtime.executor, self.backend.at_once(), items, |item| Ok(ask(item)))?.all()
    }

    /// Lists the objects of a kind whose body is one sealed part, and hands out what was read of each, in order of their names.
    pub(crate) fn for_each_sealed(&self, kind: ObjectKind, mut take: impl FnMut(ObjectName, Result<Unsealed>) -> Result<()>) -> Result<()> {
        let reader = self.contents_reader();
        let listed = self.backend.list_sorted(kind)?;
        let mut rest = &listed[..];
        while !rest.is_empty() {
            let some;
            (some, rest) = rest.split_at(read_ahead(rest));
            let read = self.ask_each(some, |object| reader.read_sealed_within(&object.name, object.size))?;
            for (object, read) in some.iter().zip(read) {
                let read = match read {
                    // Larger than it was listed: healed since, or the store says anything. Alone it may have all the room of its kind.
                    Err(error) if error.broken_rule() == Some("OBJ-1") => reader.read_sealed(&object.name),
                    read => read,
                };
                take(object.name, read)?;
            }
        }
        Ok(())
    }

    /// Reads a session object (SESS-1, SESS-2).
    pub(crate) fn read_session(&self, id: SessionId) -> Result<SessionBody> {
        self.contents_reader().read_session(id)
    }

    /// Whether an error is that of one object alone: it cannot be read, but the store answers.
    pub(crate) fn answers_after(&self, error: &Error) -> bool {
        error.kind() == ErrorKind::Unavailable && self.backend.size(&ObjectName::config(self.generation)).is_ok()
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
        let object = self.credential.author.sealed_object(&header, self.structure_key()?, plaintext);
        require_readable_size(&name, object.len() as u64)?;
        self.backend.put(&name, &object)
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
        self.contents_reader().read_pack_tail(name, size)
    }

    /// Of these data packs, those of which an index object tells that is there: which one, and whether it tells what the pack itself does, which is not
    /// asked of those that are `known` to agree with it.
    pub(crate) fn told_agrees<'o>(
        &self,
        packs: impl Iterator<Item = &'o ObjectInfo>,
        known: &HashMap<ObjectName, ObjectName>,
    ) -> Result<BTreeMap<ObjectName, (ObjectName, bool)>> {
        self.contents_reader().told_agrees(packs, known)
    }

    /// Reads contents tables with what the credential opens.
    pub(crate) fn contents_reader(&self) -> ContentsReader {
        ContentsReader {
            backend: Arc::clone(&self.backend),
            credential: Arc::clone(&self.credential),
            trust: Arc::clone(&self.trust),
            id: self.id,
            tiers: Arc::clone(&self.tiers),
            told: Arc::clone(&self.told),
            seen: Arc::clone(&self.seen),
            kept: self.kept_tails.clone(),
            through: None,
        }
    }

    /// All packs that are listed, sorted by kind and id.
    pub(crate) fn list_packs(&self) -> Result<Vec<ObjectInfo>> {
        let kinds = [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack];
        let listed = self.ask_each(&kinds, |kind| self.backend.list_sorted(*kind))?;
        Ok(listed.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    /// Packs that some epoch has condemned. Epochs that break a rule are passed over; check reports them.
    pub(crate) fn condemned(&self) -> Result<(u32, HashSet<(ObjectKind, PackId)>)> {
        let mut condemned = HashSet::new();
        let newest = self.for_each_epoch(|_, epoch| condemned.extend(epoch.condemned))?;
        Ok((newest, condemned))
    }

    /// As [`Repository::condemned`] for who only reads: epochs that cannot be read while the store answers are passed over, too. What they condemn may
    /// go while it is read, and is then looked for again (I13).
    pub(crate) fn condemned_to_read(&self) -> Result<HashSet<(ObjectKind, PackId)>> {
        let mut condemned = HashSet::new();
        self.hear_epochs(&mut |_, epoch| condemned.extend(epoch.condemned), |error| self.answers_after(error))?;
        Ok(condemned)
    }

    /// Hands out all epochs by number, with their hashes, and gives the newest number, 0 for none. One that breaks a rule uses up its number and says nothing; check
    /// reports it.
    pub(crate) fn for_each_epoch(&self, mut take: impl FnMut((u32, [u8; 32]), EpochBody)) -> Result<u32> {
        self.hear_epochs(&mut take, |_| false)
    }

    fn hear_epochs(&self, take: &mut dyn FnMut((u32, [u8; 32]), EpochBody), passes_over: impl Fn(&Error) -> bool) -> Result<u32> {
        let known = |read: Result<Unsealed>| match read.and_then(epoch_of) {
            Err(error) if passes_over(&error) => Ok(None),
            read => unless_strange(read),
        };
        let mut newest = (0, [0; 32]);
        self.for_each_sealed(ObjectKind::Epoch, |name, read| {
            let (number, Some((epoch, hash))) = (name.number(), known(read)?) else { return Ok(()) };
            if epoch.predecessor != newest.1 {
                // They are never removed: what a list lacks that was made meanwhile is asked for by name (I13).
                for missed in (newest.0 + 1..number).take(EPOCHS_MISSED_MAX) {
                    if let Some((epoch, hash)) = known(self.read_sealed(&ObjectName::epoch(missed)))? {
                        take((missed, hash), epoch);
                    }
                }
            }
            newest = (number, hash);
            take(newest, epoch);
            Ok(())
        })?;
        Ok(newest.0)
    }

    /// The number of the newest epoch, 0 for none.
    pub(crate) fn newest_epoch(&self) -> Result<u32> {
        Ok(self.newest_epoch_and_hash()?.0)
    }

    /// Number and trailer hash of the newest epoch, 0 and zeros for none. The hash is zeros, too, where newer keys than the own ones sealed it.
    pub(crate) fn newest_epoch_and_hash(&self) -> Result<(u32, [u8; 32])> {
        for object in self.backend.list_sorted(ObjectKind::Epoch)?.into_iter().rev() {
            let number = object.name.number();
            match unless_strange(self.read_sealed(&object.name).and_then(epoch_of)) {
                Ok(Some((_, hash))) => return Ok((number, hash)),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Unauthorized => return Ok((number, [0; 32])),
                Err(error) => return Err(error),
            }
        }
        Ok((0, [0; 32]))
    }

    /// Makes the lookup index agree with the packs listed now. Packs that break a rule are left out: what they hold is not there.
    ///
    /// Tables go into the index one pack or one index object at a time, however many packs are new.
    pub(crate) fn sync_index(&self, index: &LookupIndex) -> Result<()> {
        self.sync_index_by(index, &self.contents_reader())
    }

    /// As [`Repository::sync_index`], as the `reader` reads: with one that reads through damage, a pack that cannot be read at all is left out,
    /// too.
    pub(super) fn sync_index_by(&self, index: &LookupIndex, reader: &ContentsReader) -> Result<()> {
        let listed = self.list_packs()?;
        self.seen.note_sizes(&listed);
        let known: HashSet<_> = index.packs().into_iter().collect();
        let mut gone = known.clone();
        let mut fresh = BTreeMap::new();
        for object in &listed {
            let pack = (object.name.kind(), PackId(object.name.id()));
            if !gone.remove(&pack) && !known.contains(&pack) {
                fresh.insert(pack, object);
            }
        }
        index.remove_packs(&gone);
        if let Some(kept) = reader.kept.as_ref().filter(|_| !gone.is_empty()) {
            kept.keep_only(&listed);
        }
        // `OthersDurable`: what a writer left that died may go with the power, and is relied on once it stands in the index.
        let new: Vec<_> = fresh.values().map(|object| object.name).collect();
        let is_durable = match if new.is_empty() { Ok(()) } else { self.backend.make_durable(&new) } {
            Ok(()) => true,
            // Readers need it not; but nothing of it is remembered.
            Err(error) if reader.through.is_some() && error.kind() == ErrorKind::Unavailable => false,
            Err(error) => return Err(error),
        };
        let save = || if is_durable { index.save() } else { Ok(()) };
        let mut added = 0;
        let mut add = |(kind, pack), table: &ContentsTable, domains: &Domains| {
            index.add_pack(kind, pack, table, |session| domains.get(&session).copied().unwrap_or(DomainId([0xff; 16])))?;
            added += 1;
            // Whoever stops in the middle of many goes on from here.
            if added % PACKS_BETWEEN_SAVES == 0 { save() } else { Ok(()) }
        };
        if !fresh.is_empty() {
            reader.for_each_told(Tellers::Maintain, |pack, contents, domains| {
                if fresh.remove(&pack).is_some() {
                    add(pack, &contents, domains)?;
                }
                Ok(if fresh.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
        }
        let fresh: Vec<_> = fresh.into_iter().collect();
        // No more at once than are asked for at once: tables may be large.
        for some in fresh.chunks(self.backend.at_once()) {
            let tails = self.ask_each(some, |(_, object)| reader.read_listed_tail(object))?;
            for ((pack, object), tail) in some.iter().zip(tails) {
                match tail {
                    Ok(tail) => add(*pack, &tail.tables.contents, &domains(&tail.tables.sessions))?,
                    // Gone since it was listed.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    // Not there for whoever reads; check names all of them.
                    Err(error) => match &reader.through {
                        // Of one that lies frozen nothing else tells, which is not as it should be; readers get the rest.
                        Some(through)
                            if error.broken_rule().is_some() || error.kind() == ErrorKind::Frozen || self.answers_after(&error) =>
                        {
                            through.pass_over(&object.name, &error);
                        }
                        None if error.broken_rule().is_some() => {}
                        _ => return Err(error),
                    },
                }
            }
        }
        save()
    }
}

fn epoch_of(object: Unsealed) -> Result<(EpochBody, [u8; 32])> {
    Ok((EpochBody::decode(&object.plaintext)?, object.hash))
}

/// `None` for what only uses up its name: it breaks a rule, or is not there. What a newer release wrote does not.
fn unless_strange<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => Ok(None),
        read => read.map(Some),
    }
}

/// How many of these are read at once: at least one.
fn read_ahead(listed: &[ObjectInfo]) -> usize {
    let mut bytes = 0_u64;
    let fits = listed.iter().take(READ_AHEAD_MAX).take_while(|object| {
        bytes = bytes.saturating_add(object.size);
        bytes <= READ_AHEAD_BYTES_MAX
    });
    fits.count().max(1)
}

pub(crate) fn domains(sessions: &[crate::format::session::SessionRecord]) -> Domains {
    sessions.iter().map(|session| (session.id(), session.certificate().domain())).collect()
}
