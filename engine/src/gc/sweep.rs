//! Sweep: deleting, and index objects that agree with what is left.

use super::epochs::Pack;
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{ErrorKind, Result};
use crate::format::index_object::IndexBody;
use crate::format::session::SessionRecord;
use crate::format::{ContentsTable, Roles, check_writer};
use crate::id::{IndexId, PackId, SessionId};
use crate::limits::{INDEX_PACKS_MAX, PACK_SESSIONS_MAX};
use crate::repository::{PackTail, Repository};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

/// So many packs without an index object get one.
pub(crate) const INDEXED_PACKS_MIN: usize = 8;

/// Deletes an object; false where it was gone already.
pub(crate) fn delete(repository: &Repository, name: &ObjectName) -> Result<bool> {
    match repository.backend.delete(name) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes anew what index objects say that name packs which are gone or that are `untrusted`, adds `fresh` packs and cold ones of which nothing tells,
/// and deletes the index objects that were replaced; gives how many. What a newer release may understand is left alone.
pub(crate) fn refresh_index_objects(repository: &Repository, fresh: &[Pack], untrusted: &BTreeSet<ObjectName>) -> Result<u64> {
    let listed: HashSet<Pack> = repository.list_packs()?.into_iter().map(|object| (object.name.kind(), PackId(object.name.id()))).collect();
    let (mut stale, mut told) = (Vec::new(), HashSet::new());
    let mut wanted: BTreeSet<Pack> = fresh.iter().filter(|pack| listed.contains(pack)).copied().collect();
    for object in repository.backend.list_sorted(ObjectKind::Index)? {
        match read(repository, &object.name) {
            Ok((packs, is_by_maintain)) => {
                told.extend(packs.iter().copied().filter(|_| is_by_maintain));
                if untrusted.contains(&object.name) || !packs.iter().all(|pack| listed.contains(pack)) {
                    wanted.extend(packs.into_iter().filter(|pack| listed.contains(pack)));
                    stale.push(object.name);
                }
            }
            Err(error) if error.kind() == ErrorKind::Damaged && untrusted.contains(&object.name) => stale.push(object.name),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged | ErrorKind::Unsupported) => {}
            Err(error) => return Err(error),
        }
    }
    // `ToldBeforeCold`: of what lies cold nothing else tells, and what is warm may be moving just now.
    let is_cold = |(kind, pack): &Pack| *kind == ObjectKind::DataPack && repository.tiers.is_cold(*pack);
    wanted.extend(listed.iter().filter(|pack| is_cold(pack) && !told.contains(*pack)));
    let is_needed = |pack: &Pack| is_cold(pack) || pack.0 == ObjectKind::DataPack && told.contains(pack);
    if wanted.len() >= INDEXED_PACKS_MIN || wanted.iter().any(is_needed) {
        write(repository, &wanted)?;
    }
    let mut removed = 0;
    for name in stale {
        removed += u64::from(delete(repository, &name)?);
    }
    Ok(removed)
}

/// The packs that an index object names, and whether maintain wrote it.
fn read(repository: &Repository, name: &ObjectName) -> Result<(Vec<Pack>, bool)> {
    let unsealed = repository.read_sealed(name)?;
    let body = IndexBody::decode(&unsealed.plaintext, &repository.id, &repository.trust)?;
    check_writer(&body.sessions, (unsealed.certificate.verifying_key(), unsealed.certificate.roles()))?;
    let packs = body.packs.into_iter().map(|(kind, pack, _)| (kind, pack)).collect();
    Ok((packs, unsealed.certificate.roles().contain(Roles::MAINTAIN)))
}

/// Index objects of these packs, from the packs' own tables; of those that lie frozen from the index objects that there are.
pub(crate) fn write(repository: &Repository, packs: &BTreeSet<Pack>) -> Result<()> {
    let mut next = Next::default();
    for (kind, pack) in packs {
        let name = ObjectName::pack(*kind, *pack);
        let read = repository.backend.size(&name).and_then(|size| repository.read_pack_tail(&name, size));
        match read {
            Ok(tail) => {
                if !next.has_room_for(&tail) {
                    std::mem::take(&mut next).publish(repository)?;
                }
                next.push((*kind, *pack), tail);
            }
            // Frozen: of what nothing tells.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged | ErrorKind::Unsupported | ErrorKind::Frozen) => {
            }
            Err(error) => return Err(error),
        }
    }
    next.publish(repository)
}

/// An index object in the making.
#[derive(Default)]
struct Next {
    sessions: Vec<SessionRecord>,
    known: HashMap<SessionId, usize>,
    packs: Vec<(ObjectKind, PackId, ContentsTable)>,
    length: usize,
}

impl Next {
    fn has_room_for(&self, tail: &PackTail) -> bool {
        self.length + IndexBody::length_of(&tail.tables.contents) <= IndexBody::LENGTH_END
            && self.packs.len() < INDEX_PACKS_MAX
            && self.sessions.len() + tail.tables.sessions.len() <= PACK_SESSIONS_MAX
            // Two records of one session, of which one is a forgery, do not go together.
            && tail.tables.sessions.iter().all(|session| self.known.get(&session.id()).is_none_or(|at| self.sessions.get(*at) == Some(session)))
    }

    fn push(&mut self, (kind, pack): Pack, tail: PackTail) {
        // A pack's own table has them in the order of first use, too.
        for session in tail.tables.sessions {
            if let Entry::Vacant(unknown) = self.known.entry(session.id()) {
                unknown.insert(self.sessions.len());
                self.length += session.bytes().len();
                self.sessions.push(session);
            }
        }
        self.length += IndexBody::length_of(&tail.tables.contents);
        self.packs.push((kind, pack, tail.tables.contents));
    }

    fn publish(self, repository: &Repository) -> Result<()> {
        if self.packs.is_empty() {
            return Ok(());
        }
        let name = ObjectName::index(IndexId(repository.runtime.random()));
        repository.write_sealed(name, IndexBody { sessions: self.sessions, packs: self.packs }.encode())
    }
}
