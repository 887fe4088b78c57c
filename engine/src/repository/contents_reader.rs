//! Reading contents tables: from packs, and from index objects.

use super::index::ContentsSource;
use super::kept_tails::KeptTails;
use super::objects::{ClearTail, Domains, PackTail, Unsealed, domains};
use super::placement::Tiers;
use super::read_through::ReadThrough;
use super::seen::Seen;
use super::told::Told;
use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::index_object::IndexBody;
use crate::format::object::Opened;
use crate::format::session::SessionBody;
use crate::format::slot::Credential;
use crate::format::{ContentsTable, Roles, Tables, Trust, check_writer};
use crate::id::{PackId, RepositoryId, SessionId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Whose index objects are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tellers {
    /// Of those who may maintain: they are believed.
    Maintain,
    /// Of all others: better than nothing where a pack does not say itself what is in it.
    Others,
}

/// What it takes to read contents tables; the lookup index keeps one.
#[derive(Debug)]
pub(crate) struct ContentsReader {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) credential: Arc<Credential>,
    pub(super) trust: Arc<Trust>,
    pub(super) id: RepositoryId,
    pub(super) tiers: Arc<Tiers>,
    pub(super) told: Arc<Told>,
    pub(super) seen: Arc<Seen>,
    /// Ends of packs that were read before, for those who only look something up.
    pub(super) kept: Option<Arc<KeptTails>>,
    /// What helps where a pack does not give its tables; nothing for those who look for damage.
    pub(super) through: Option<Arc<ReadThrough>>,
}

impl ContentsReader {
    /// Reads an object whose body is one sealed part.
    pub(super) fn read_sealed(&self, name: &ObjectName) -> Result<Unsealed> {
        self.read_sealed_within(name, u64::MAX)
    }

    /// As [`ContentsReader::read_sealed`], of at most so many bytes.
    pub(super) fn read_sealed_within(&self, name: &ObjectName, size_max: u64) -> Result<Unsealed> {
        let bytes = self.backend.get(name, size_max.min(name.kind().size_max()))?;
        let opened = Opened::check(name, &bytes, &self.trust)?;
        let plaintext = opened.open_part(&*self.credential, 0, opened.body).map_err(|error| error.context(name))?;
        Ok(Unsealed { plaintext, certificate: opened.certificate, hash: opened.hash })
    }

    /// Reads a session object (SESS-1, SESS-2).
    pub(super) fn read_session(&self, id: SessionId) -> Result<SessionBody> {
        let name = ObjectName::session(id);
        let unsealed = self.read_sealed(&name)?;
        let body = SessionBody::decode(&unsealed.plaintext, &self.id, &self.trust).map_err(|error| error.context(name))?;
        match body.record.id() == id && body.record.certificate() == &unsealed.certificate {
            true => Ok(body),
            false => Err(Error::rule("SESS-1", "the record is that of another session").context(name)),
        }
    }

    /// Reads header and tail of a pack of `size` bytes and checks all but the frames (OBJ and PACK rules without PACK-4).
    ///
    /// Of a pack that lies where it cannot be read at once an index object tells, which was written before it went there.
    pub(super) fn read_pack_tail(&self, name: &ObjectName, size: u64) -> Result<PackTail> {
        let Some(pack) = name.pack_id().filter(|_| name.kind() == ObjectKind::DataPack) else { return self.read_own_tail(name, size) };
        let is_frozen = || -> Result<bool> { Ok(self.tiers.view()?.coldest(pack).is_some_and(|(tier, _)| tier.is_frozen)) };
        if self.tiers.is_cold(pack)
            && is_frozen()?
            && let Some(told) = self.told.of(self, pack)?
        {
            return Ok(told);
        }
        match self.read_own_tail(name, size) {
            Err(error) if error.kind() == ErrorKind::Frozen => self.told.of(self, pack)?.ok_or(error),
            own => own,
        }
    }

    /// Of these packs, those of which an index object tells that is there: which one, and whether it tells what the pack itself does. Those that are
    /// `known` to agree are not compared again. What cannot be asked, being frozen or damaged, contradicts nobody.
    pub(super) fn told_agrees<'o>(
        &self,
        packs: impl Iterator<Item = &'o ObjectInfo>,
        known: &HashMap<ObjectName, ObjectName>,
    ) -> Result<BTreeMap<ObjectName, (ObjectName, bool)>> {
        let (mut agree, mut there) = (BTreeMap::new(), HashSet::new());
        for object in packs {
            let Some((teller, told)) = self.told.there(self, PackId(object.name.id()), &mut there)? else { continue };
            let agrees = known.get(&object.name) == Some(&teller)
                || match self.read_own_tail(&object.name, object.size) {
                    Ok(own) => own.tables.contents == told.tables.contents,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) if error.kind() == ErrorKind::Frozen || error.broken_rule().is_some() => true,
                    Err(error) => return Err(error),
                };
            agree.insert(object.name, (teller, agrees));
        }
        Ok(agree)
    }

    /// As [`ContentsReader::read_pack_tail`], from the pack itself wherever it lies.
    pub(super) fn read_own_tail(&self, name: &ObjectName, size: u64) -> Result<PackTail> {
        self.read_tail_from(&*self.backend, name, size)
            .map_err(|error| if error.broken_rule().is_some() { error.context(name) } else { error })
    }

    /// As [`ContentsReader::read_pack_tail`], where the pack does not give it through its sidecar.
    pub(super) fn read_any_tail(&self, name: &ObjectName) -> Result<PackTail> {
        let asked = || self.backend.size(name).and_then(|size| self.read_pack_tail(name, size));
        let read = match self.seen.size(name).map(|size| self.look_up_tail(name, size)) {
            Some(Ok(tail)) => Ok(tail),
            // It may have been healed since it was listed.
            Some(Err(error)) if error.kind() == ErrorKind::Damaged => asked(),
            Some(Err(error)) => Err(error),
            None => asked(),
        };
        self.through_damage(name, read)
    }

    /// As [`ContentsReader::read_any_tail`], of a pack that was listed, with its size.
    pub(super) fn read_listed_tail(&self, object: &ObjectInfo) -> Result<PackTail> {
        self.through_damage(&object.name, self.look_up_tail(&object.name, object.size))
    }

    /// As [`ContentsReader::read_pack_tail`], from what was kept of it where that is right. Of packs in tiers nothing is kept.
    fn look_up_tail(&self, name: &ObjectName, size: u64) -> Result<PackTail> {
        let is_cold = || name.pack_id().is_some_and(|pack| name.kind() == ObjectKind::DataPack && self.tiers.is_cold(pack));
        let Some(kept) = self.kept.as_ref().filter(|_| !is_cold()) else { return self.read_pack_tail(name, size) };
        if let Some(clear) = kept.get(&self.trust, name, size)
            && let Ok(tail) = self.open_tail(name, &clear)
        {
            return Ok(tail);
        }
        let read = || -> Result<PackTail> {
            let clear = ClearTail::read(&*self.backend, &self.trust, name, size)?;
            let tail = self.open_tail(name, &clear)?;
            kept.put(name, &clear);
            Ok(tail)
        };
        match read() {
            // It may have moved just now.
            Err(error) if error.kind() != ErrorKind::Unavailable => self.read_pack_tail(name, size),
            read => read,
        }
    }

    fn through_damage(&self, name: &ObjectName, read: Result<PackTail>) -> Result<PackTail> {
        match (read, &self.through) {
            (Err(error), Some(through)) => {
                through.read(&*self.backend, &self.trust, name, error, |mended, size| self.read_tail_from(mended, name, size))
            }
            (read, _) => read,
        }
    }

    fn read_tail_from(&self, backend: &dyn Backend, name: &ObjectName, size: u64) -> Result<PackTail> {
        self.open_tail(name, &ClearTail::read(backend, &self.trust, name, size)?)
    }

    fn open_tail(&self, name: &ObjectName, clear: &ClearTail) -> Result<PackTail> {
        let opened = clear.check(&self.trust)?;
        let (sealed, rest) = opened.body.split_at(clear.footer.tables_length as usize);
        let plaintext = opened.open_part(&*self.credential, 0, sealed)?;
        let writer = (opened.certificate.verifying_key(), opened.certificate.roles());
        let frames_length = u64::from(clear.footer.frames_length);
        let tables = Tables::decode(&plaintext, name.kind(), frames_length, writer, &self.id, &self.trust)?;
        self.seen.note_records(name, &tables.sessions);
        Ok(PackTail { footer: clear.footer, tables, groups: rest[..32 * clear.footer.group_count()].to_vec() })
    }

    /// Calls `visit` with the contents of each pack that index objects tell of, and the domains of its sessions, until it says that this was enough.
    /// Index objects that break a rule are passed over. Those of writers who may not maintain are asked for themselves: a stolen backup credential
    /// could tell lies about the packs of others in them, and of its own machine, which would keep whoever believes them from reading what is there.
    pub(super) fn for_each_told(
        &self,
        tellers: Tellers,
        mut visit: impl FnMut((ObjectKind, PackId), ContentsTable, &Domains) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        for object in self.backend.list_sorted(ObjectKind::Index)? {
            let body = match self.read_index_object(&object.name, tellers) {
                Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => continue,
                Err(error) if self.through.is_some() && error.kind() == ErrorKind::Unavailable => continue,
                body => body?,
            };
            let Some(body) = body else { continue };
            let domains = domains(&body.sessions);
            for (kind, pack, contents) in body.packs {
                if visit((kind, pack), contents, &domains)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// An index object of these; `None` for one of others. Who wrote it is looked at before anything is decoded, which may take much room.
    pub(super) fn read_index_object(&self, name: &ObjectName, tellers: Tellers) -> Result<Option<IndexBody>> {
        let bytes = self.backend.get(name, name.kind().size_max())?;
        let opened = Opened::check(name, &bytes, &self.trust)?;
        let is_by_maintain = opened.certificate.roles().contain(Roles::MAINTAIN);
        let is_wanted = match tellers {
            Tellers::Maintain => is_by_maintain,
            Tellers::Others => !is_by_maintain,
        };
        if !is_wanted {
            return Ok(None);
        }
        let plaintext = opened.open_part(&*self.credential, 0, opened.body).map_err(|error| error.context(name))?;
        let writer = (*opened.certificate.verifying_key(), opened.certificate.roles());
        drop(bytes);
        let body = IndexBody::decode(&plaintext, &self.id, &self.trust)?;
        check_writer(&body.sessions, (&writer.0, writer.1))?;
        Ok(Some(body))
    }
}

/// From the pack itself, for readers of snapshots through its sidecar; where its end is damaged, from an index object that tells of it.
impl ContentsSource for ContentsReader {
    fn contents(&self, kind: ObjectKind, pack: PackId) -> Result<ContentsTable> {
        let name = ObjectName::pack(kind, pack);
        match self.read_any_tail(&name) {
            Ok(tail) => Ok(tail.tables.contents),
            Err(error) if error.kind() == ErrorKind::Damaged || (self.through.is_some() && error.kind() == ErrorKind::Unavailable) => {
                let mut told = None;
                for tellers in [Tellers::Maintain, Tellers::Others] {
                    self.for_each_told(tellers, |other, contents, _| {
                        Ok(if other == (kind, pack) && told.is_none() {
                            told = Some(contents);
                            ControlFlow::Break(())
                        } else {
                            ControlFlow::Continue(())
                        })
                    })?;
                }
                // The store answered when index objects were listed: to a reader a pack that cannot be read is as good as damaged.
                told.ok_or_else(|| error.with_kind(ErrorKind::Damaged))
            }
            Err(error) => Err(error),
        }
    }
}
