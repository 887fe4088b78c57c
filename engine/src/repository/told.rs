//! What index objects of maintain tell of packs that lie cold, which cannot be asked themselves, or not without cost.

use super::contents_reader::{ContentsReader, Tellers};
use super::objects::PackTail;
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{ErrorKind, Result};
use crate::format::index_object::IndexBody;
use crate::format::pack::Footer;
use crate::format::{ContentsTable, Tables};
use crate::id::PackId;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How many index objects are kept: packs that moved together are told of by one.
const KEPT_MAX: usize = 4;
/// So often index objects are listed again because one of them was gone.
const LOOKS_MAX: usize = 16;

/// Which index object tells of which data pack; those that were read last.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    looked_into: HashSet<ObjectName>,
    objects: HashMap<PackId, ObjectName>,
    kept: Vec<(ObjectName, Arc<IndexBody>)>,
}

impl Told {
    /// The tables of a pack as an index object tells them, without group hashes; `None` where none does.
    ///
    /// # Errors
    /// What the store says.
    pub(super) fn of(&self, reader: &ContentsReader, pack: PackId) -> Result<Option<PackTail>> {
        Ok(self.find(reader, pack)?.map(|(_, tail)| tail))
    }

    /// As [`Told::of`], by an index object that is there now, and which one. Each is asked for by name once; `there` are those that were.
    ///
    /// # Errors
    /// What the store says.
    pub(super) fn there(
        &self,
        reader: &ContentsReader,
        pack: PackId,
        there: &mut HashSet<ObjectName>,
    ) -> Result<Option<(ObjectName, PackTail)>> {
        loop {
            let Some((teller, tail)) = self.find(reader, pack)? else { return Ok(None) };
            if there.contains(&teller) {
                return Ok(Some((teller, tail)));
            }
            match reader.backend.size(&teller) {
                Ok(_) => _ = there.insert(teller),
                Err(error) if error.kind() == ErrorKind::NotFound => self.forget(&teller),
                Err(error) => return Err(error),
            }
        }
    }

    fn find(&self, reader: &ContentsReader, pack: PackId) -> Result<Option<(ObjectName, PackTail)>> {
        let mut is_last = false;
        for _ in 0..LOOKS_MAX {
            let known = self.0.lock().objects.get(&pack).copied();
            if let Some(name) = known
                && let Some(tail) = self.tail(reader, &name, pack)?
            {
                return Ok(Some((name, tail)));
            }
            if is_last {
                break;
            }
            is_last = self.look_again(reader)?;
        }
        Ok(None)
    }

    /// An index object is gone.
    fn forget(&self, name: &ObjectName) {
        let mut known = self.0.lock();
        known.objects.retain(|_, other| other != name);
        known.kept.retain(|(kept, _)| kept != name);
    }

    fn tail(&self, reader: &ContentsReader, name: &ObjectName, pack: PackId) -> Result<Option<PackTail>> {
        let kept = self.0.lock().kept.iter().find(|(kept, _)| kept == name).map(|(_, body)| Arc::clone(body));
        let body = match kept {
            Some(body) => body,
            None => {
                let read = match reader.read_index_object(name, Tellers::Maintain) {
                    Err(error) if error.kind() == ErrorKind::NotFound || error.broken_rule().is_some() => None,
                    read => read?,
                };
                let Some(body) = read else {
                    // Written anew under another name.
                    self.forget(name);
                    return Ok(None);
                };
                self.keep(*name, body)
            }
        };
        Ok(body
            .packs
            .iter()
            .find(|(kind, id, _)| (*kind, *id) == (ObjectKind::DataPack, pack))
            .map(|(_, _, contents)| tail(&body, contents)))
    }

    fn keep(&self, name: ObjectName, body: IndexBody) -> Arc<IndexBody> {
        let body = Arc::new(body);
        let mut known = self.0.lock();
        known.kept.truncate(KEPT_MAX - 1);
        known.kept.insert(0, (name, Arc::clone(&body)));
        body
    }

    /// Reads index objects that were not read before, each once. False where one was gone that had been listed: another one took its place.
    fn look_again(&self, reader: &ContentsReader) -> Result<bool> {
        let mut is_all = true;
        for object in reader.backend.list_sorted(ObjectKind::Index)? {
            if self.0.lock().looked_into.contains(&object.name) {
                continue;
            }
            match reader.read_index_object(&object.name, Tellers::Maintain) {
                // Others could tell lies of it, and the pack itself cannot be asked.
                Ok(None) => drop(self.0.lock().looked_into.insert(object.name)),
                Ok(Some(body)) => {
                    let body = self.keep(object.name, body);
                    let packs = body.packs.iter().filter(|(kind, ..)| *kind == ObjectKind::DataPack);
                    let mut known = self.0.lock();
                    known.objects.extend(packs.map(|(_, pack, _)| (*pack, object.name)));
                    known.looked_into.insert(object.name);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => is_all = false,
                Err(error) if error.broken_rule().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(is_all)
    }
}

fn tail(body: &IndexBody, contents: &ContentsTable) -> PackTail {
    // Bound: a pack's frames region ends below 2^32 (PACK-1).
    let frames_length = contents.frames.iter().map(|frame| u64::from(frame.sealed_length)).sum::<u64>() as u32;
    // In the order in which this pack uses them first, as its own table has them: in the object others may have used them in another order.
    let mut used = HashSet::new();
    let first_uses = contents.frames.iter().map(|frame| frame.id.session).filter(|session| used.insert(*session));
    let sessions = first_uses.filter_map(|id| body.sessions.iter().find(|session| session.id() == id).cloned()).collect();
    PackTail {
        footer: Footer { frames_length, tables_length: 0 },
        tables: Tables { sessions, contents: contents.clone() },
        groups: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;
    use crate::repository::tests::{back_up, repository};

    #[test]
    fn sessions_are_told_in_the_order_in_which_the_pack_uses_them() {
        let backend = MemoryBackend::new();
        let repository = repository(&backend);
        back_up(&repository, &[1; 5000]);
        back_up(&repository, &[2; 5000]);
        let packs = backend.list_sorted(ObjectKind::DataPack).unwrap();
        let tables: Vec<_> = packs.iter().map(|pack| repository.read_pack_tail(&pack.name, pack.size).unwrap().tables).collect();
        let sessions: Vec<_> = tables.iter().map(|tables| tables.sessions[0].clone()).collect();
        let frame = |of: usize| tables[of].contents.frames[0].clone();
        let contents = |order: [usize; 2]| ContentsTable { frames: order.map(frame).into() };
        let packs: Vec<_> =
            [[0, 1], [1, 0]].into_iter().zip(1..).map(|(order, id)| (ObjectKind::DataPack, PackId([id; 16]), contents(order))).collect();
        let both = IndexBody { sessions: sessions.clone(), packs };
        IndexBody::decode(&both.encode(), &repository.id, &repository.trust).unwrap();
        // Once only the second one is left, it is an object that keeps the rules, too.
        let told = tail(&both, &both.packs[1].2);
        assert_eq!(told.tables.sessions, [sessions[1].clone(), sessions[0].clone()]);
        let second = IndexBody { sessions: told.tables.sessions, packs: both.packs[1..].to_vec() };
        assert_eq!(IndexBody::decode(&second.encode(), &repository.id, &repository.trust).unwrap(), second);
    }
}
