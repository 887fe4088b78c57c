//! Packs and index objects: what lies where, checked, and an index of it that believes nothing else.

use super::clear::of_kind;
use super::companions::{named, read_part};
use super::reading::Listing;
use super::sidecars::say_not_healed;
use super::survey::Depth;
use super::{Keyed, UnreadPacks};
use crate::backend::{ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::index_object::IndexBody;
use crate::format::object::open_part;
use crate::format::{ContentsTable, Roles, Tables, check_writer};
use crate::id::{DomainId, PackId, SessionId, TierId};
use crate::progress::{Event, counted};
use crate::repository::{ClearTail, PackTail, domains, heal, verify};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;

/// A digest of the contents table of each pack that is right.
pub(super) type Digests = HashMap<(ObjectKind, PackId), [u8; 32]>;

impl Keyed<'_> {
    /// Checks header, tail and tables of every pack and fills the index; and of those of which `depth` wants it every byte.
    pub(super) fn check_packs(&self, listing: &Listing, depth: &Depth) -> Result<Digests> {
        let packs: Vec<_> = listing.iter().filter(|(kind, _)| kind.is_pack()).flat_map(|(_, objects)| objects).collect();
        let unread = self.unread(&packs, depth)?;
        let reads = |object: &ObjectInfo| depth.reads(&object.name) && !unread.contains(&object.name);
        let bytes: u64 = packs.iter().filter(|object| reads(object)).map(|object| object.size).sum();
        let phase = if bytes > 0 { "scrub packs" } else { "check packs" };
        self.reading.progress.event(Event::Phase {
            name: phase,
            bytes_total: (bytes > 0).then_some(bytes),
            items_total: Some(packs.len() as u64),
        });
        let (mut digests, mut with_bases) = (Digests::new(), Vec::new());
        for object in packs {
            self.reading.go_on()?;
            self.reading.counts.objects.fetch_add(1, Ordering::Relaxed);
            self.reading.counts.packs.fetch_add(1, Ordering::Relaxed);
            let pack = (object.name.kind(), PackId(object.name.id()));
            let mut tail = self.check_pack(object)?;
            let scrub = |tail: &PackTail| if reads(object) { self.scrub_pack(object, tail) } else { Ok(()) };
            tail.as_ref().map_or(Ok(()), scrub)?;
            if self.heals && self.damage.knows(pack) && self.heal_pack(object)? {
                let healed = ObjectInfo { size: self.reading.backend.size(&object.name)?, ..object.clone() };
                // What is in the index already is right.
                tail = if tail.is_some() { tail } else { self.check_pack(&healed)? };
                tail.as_ref().map_or(Ok(()), scrub)?;
            }
            if let Some(tail) = tail {
                digests.insert(pack, digest(&tail.tables.contents));
                if depth.reads(&object.name) && tail.tables.contents.frames.iter().any(|frame| !frame.bases.is_empty()) {
                    with_bases.push(object);
                }
                if let Some(first) = tail.tables.sessions.first() {
                    self.survey.see_pack(pack, first.id());
                }
            }
            self.reading.progress.event(Event::Advance { bytes: 0, items: 1 });
        }
        self.reader.index().save()?;
        if self.repository.roles().contain(Roles::RESTORE) {
            self.scrub_frames_with_bases(&with_bases)?;
        }
        Ok(digests)
    }

    /// Packs of which nothing is read, because they are frozen or their medium is not there. How many these are is counted, and said where all
    /// their bytes would have been read.
    fn unread(&self, packs: &[&ObjectInfo], depth: &Depth) -> Result<HashSet<ObjectName>> {
        let (tiers, view) = (&self.repository.tiers, self.repository.tiers.view()?);
        let mut unread = HashSet::new();
        let mut of_tiers: BTreeMap<TierId, (bool, u64, u64)> = BTreeMap::new();
        for object in packs.iter().filter(|object| object.name.kind() == ObjectKind::DataPack) {
            let Some((tier, _)) = view.coldest(PackId(object.name.id())).filter(|(_, placed)| tiers.is_cold(placed.pack)) else { continue };
            let is_away = || tiers.place(tier).and_then(|place| tiers.look(tier, &*place)).is_err_and(|e| e.kind() == ErrorKind::Frozen);
            let (is_unread, count, bytes) = of_tiers.entry(tier.tier).or_insert_with(|| (tier.is_frozen || is_away(), 0, 0));
            if *is_unread {
                *count += 1;
                *bytes += object.size;
                unread.insert(object.name);
            }
        }
        for (tier, (_, count, bytes)) in of_tiers.into_iter().filter(|(_, (_, count, _))| *count > 0) {
            let Some(tier) = view.tiers.get(&tier) else { continue };
            self.reading.counts.unread.lock().push(UnreadPacks { tier: tier.name.clone(), packs: count });
            if *depth == Depth::Everything {
                let why = if tier.is_frozen { "frozen" } else { "on a medium that is not there" };
                let packs = counted(count, "pack");
                self.reading.findings.notice(format!("not read: {packs} ({bytes} bytes) in tier {}, {why}", tier.name));
            }
        }
        Ok(unread)
    }

    /// Heals a pack with which something is wrong; false where that cannot be done.
    fn heal_pack(&self, object: &ObjectInfo) -> Result<bool> {
        if verify(self.reading.backend, &self.repository.trust, object).is_ok() {
            // It is what was written, and was written wrong.
            return Ok(false);
        }
        match heal(self.reading.backend, &self.repository.trust, &object.name) {
            Ok(()) => {
                self.damage.forget((object.name.kind(), PackId(object.name.id())));
                self.reading.findings.mark_healed(&object.name);
                Ok(true)
            }
            Err(failure) => say_not_healed(&self.reading, &object.name, failure).map(|()| false),
        }
    }

    /// Checks a pack but for its frames and adds it to the index.
    pub(super) fn check_pack(&self, object: &ObjectInfo) -> Result<Option<PackTail>> {
        let pack = (object.name.kind(), PackId(object.name.id()));
        let tail = match self.repository.read_pack_tail(&object.name, object.size) {
            Ok(tail) => tail,
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported | ErrorKind::Unavailable) => {
                let error = self.reading.tolerate(error)?;
                if !self.reading.is_gone(&object.name) {
                    let finding = self.reading.findings.add(object.name, &named_once(error, object));
                    self.damage.lose_pack(pack, finding, self.salvage(object).as_ref())?;
                }
                return Ok(None);
            }
            // Said or let pass as for any other object.
            Err(error) => return self.reading.judge(&object.name, Err(error)),
        };
        let tail_length = crate::format::object::HEADER_LENGTH + tail.footer.tail_length();
        self.reading.counts.bytes_read.fetch_add(tail_length as u64, Ordering::Relaxed);
        let domains = domains(&tail.tables.sessions);
        let domain = |session: SessionId| domains.get(&session).copied().unwrap_or(DomainId([0xff; 16]));
        self.reader.index().add_pack(pack.0, pack.1, &tail.tables.contents, domain)?;
        let frames = &tail.tables.contents.frames;
        self.reading.counts.frames.fetch_add(frames.len() as u64, Ordering::Relaxed);
        self.reading.counts.chunks.fetch_add(frames.iter().map(|frame| frame.chunks.len() as u64).sum(), Ordering::Relaxed);
        Ok(Some(tail))
    }

    /// What a damaged pack held, where its sealed tables are whole. Only to say who suffers: nothing is read by it.
    fn salvage(&self, object: &ObjectInfo) -> Option<ContentsTable> {
        let repository = self.repository;
        let clear = ClearTail::read(self.reading.backend, &repository.trust, &object.name, object.size).ok()?;
        let sealed = clear.bytes.get(..clear.footer.tables_length as usize)?;
        let plaintext = open_part(&clear.header, &*repository.credential, 0, sealed).ok()?;
        let frames_length = u64::from(clear.footer.frames_length);
        let anybody = (&[0; 32], Roles::MAINTAIN);
        Tables::decode(&plaintext, object.name.kind(), frames_length, anybody, &repository.id, &repository.trust)
            .ok()
            .map(|tables| tables.contents)
    }

    /// Checks index objects against the packs' own tables; learns from them what lay in packs that are damaged or gone.
    pub(super) fn check_index_objects(&self, listing: &Listing, digests: &Digests) -> Result<()> {
        let mut listed: HashSet<(ObjectKind, PackId)> = HashSet::new();
        for objects in listing.iter().filter(|(kind, _)| kind.is_pack()).map(|(_, objects)| objects) {
            listed.extend(objects.iter().map(|object| (object.name.kind(), PackId(object.name.id()))));
        }
        for object in of_kind(listing, ObjectKind::Index) {
            let Some(part) = read_part(&self.reading, self.repository, object)? else { continue };
            let decode = || {
                let body = IndexBody::decode(&part.plaintext, &self.repository.id, &self.repository.trust)?;
                check_writer(&body.sessions, (part.certificate.verifying_key(), part.certificate.roles()))?;
                Ok(body)
            };
            let Some(body) = self.reading.judge(&object.name, decode().map_err(|error| named(error, &object.name)))? else { continue };
            for (kind, pack, table) in body.packs {
                let key = (kind, pack);
                match digests.get(&key) {
                    Some(own) if *own == digest(&table) => self.survey.see_indexed(key),
                    Some(_) => {
                        let pack = crate::backend::ObjectName::pack(kind, pack);
                        let message = format!("{}: what it says of {pack} is not what that pack's own table says", object.name);
                        self.reading.findings.say(Some(object.name), None, message);
                    }
                    None if listed.contains(&key) => self.damage.tell(key, &table)?,
                    None => {
                        self.survey.see_stale(object.name);
                        self.damage.lose_ghost(&self.reading.findings, key, &table)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Errors of packs carry the pack's name already where they name a rule.
fn named_once(error: Error, object: &ObjectInfo) -> Error {
    if error.broken_rule().is_none() { error.context(object.name) } else { error }
}

fn digest(table: &ContentsTable) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for frame in &table.frames {
        hasher.update(&frame.id.session.0).update(&frame.id.number.to_le_bytes());
        hasher.update(&frame.sealed_length.to_le_bytes()).update(&frame.plaintext_length.to_le_bytes()).update(&frame.hash);
        for base in &frame.bases {
            hasher.update(&base.frame.session.0);
            for number in [base.frame.number, u32::from(base.chunk), base.offset, base.length] {
                hasher.update(&number.to_le_bytes());
            }
        }
        hasher.update(&(frame.bases.len() as u64).to_le_bytes()).update(&(frame.chunks.len() as u64).to_le_bytes());
        for id in &frame.chunks {
            hasher.update(&id.0);
        }
    }
    *hasher.finalize().as_bytes()
}
