//! Config generations: which one is in force, and under which number the next one comes.
//!
//! Whoever may add to the store can put anything under a number. What admin did not sign only uses that number up: it is passed over, and who writes the
//! next generation takes the first number after the one in force that nobody has. Of two who write at once the later one finds what the other wrote on
//! the way, since names are never free again. What admin did sign is never passed over, whatever is wrong with it.

use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
use crate::format::config::Config;
use crate::format::object::Opened;

/// So many generations begin during one listing at most.
const MISSED_MAX: usize = 64;

/// A generation that admin signed.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) generation: u32,
    pub(super) hash: [u8; 32],
    pub(super) config: Config,
}

/// What stands above a generation.
#[derive(Debug)]
pub(super) enum Above {
    /// Nothing.
    Nothing,
    /// Only what admin did not sign, or what is damaged; what is wrong with the first of it.
    Strange(Error),
    /// A newer generation.
    Newer,
}

impl Signed {
    /// The newest of the `listed` generations that admin signed; it must name the one before as its predecessor (CFG-2).
    ///
    /// # Errors
    /// What is wrong with it, or with the oldest where admin signed none; otherwise what the backend says.
    pub(super) fn newest(backend: &dyn Backend, listed: &[ObjectInfo], trust: &Trust) -> Result<Self> {
        let mut problem = Error::rule("CFG-2", "there is no config generation 1");
        for (at, object) in listed.iter().enumerate().rev().filter(|(_, object)| object.name.number() > 0) {
            let generation = object.name.number();
            match read(backend, &object.name, trust)? {
                Ok((hash, config)) => {
                    let signed = Self { generation, hash, config: config? };
                    signed.check_predecessor(backend, &listed[..at], trust)?;
                    return Ok(signed);
                }
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    fn check_predecessor(&self, backend: &dyn Backend, before: &[ObjectInfo], trust: &Trust) -> Result<()> {
        if self.generation == 1 {
            return Ok(());
        }
        let (mut problem, mut last) = (None, 0);
        for object in before.iter().rev() {
            match read(backend, &object.name, trust)? {
                Ok((hash, _)) if self.config.follows(&hash) => return Ok(()),
                Ok(_) => {
                    last = object.name.number();
                    break;
                }
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        // Asked for by name (I13): a list that was made while two generations were written may have the later one alone.
        let is_listed = |number| before.binary_search_by_key(&number, |object| object.name.number()).is_ok();
        for number in (last + 1..self.generation).rev().filter(|number| !is_listed(*number)).take(MISSED_MAX) {
            if read(backend, &ObjectName::config(number), trust)?.is_ok_and(|(hash, _)| self.config.follows(&hash)) {
                return Ok(());
            }
        }
        Err(problem.unwrap_or_else(|| {
            let (this, before) = (self.generation, self.generation - 1);
            let what = if is_listed(before) { "names another predecessor than the one that is here" } else { "names one that is missing" };
            Error::rule("CFG-2", format!("config generation {this} {what}"))
        }))
    }
}

/// Looks what stands above `generation`, which is to be listed itself.
pub(super) fn above(backend: &dyn Backend, generation: u32, trust: &Trust) -> Result<Above> {
    let listed = backend.list_sorted(ObjectKind::Config)?;
    if !listed.iter().any(|object| object.name.number() == generation) {
        return Ok(Above::Newer);
    }
    let mut above = Above::Nothing;
    for object in listed.iter().rev().take_while(|object| object.name.number() > generation) {
        match read(backend, &object.name, trust)? {
            Ok(_) => return Ok(Above::Newer),
            Err(error) => above = Above::Strange(error),
        }
    }
    Ok(above)
}

/// Writes what `make` makes as what admin writes next under a numbered name: as the first from `number` on that nobody has. Gives its number.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] where admin wrote something there meanwhile, otherwise what `make` or the backend says.
pub(super) fn put_next(
    backend: &dyn Backend,
    trust: &Trust,
    mut number: u32,
    name: impl Fn(u32) -> ObjectName,
    make: impl Fn(&ObjectName) -> Result<Vec<u8>>,
) -> Result<u32> {
    loop {
        let name = name(number);
        match backend.put(&name, &make(&name)?) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_strange(backend, &name, trust)? => {
                number = next(number)?;
            }
            put => return put.map(|()| number),
        }
    }
}

/// The number after this one.
pub(super) fn next(number: u32) -> Result<u32> {
    number.checked_add(1).ok_or_else(|| Error::new(ErrorKind::Invalid, "no number is left for what admin writes next"))
}

/// Whether something is there that admin did not sign, or that is damaged.
fn is_strange(backend: &dyn Backend, name: &ObjectName, trust: &Trust) -> Result<bool> {
    let read = backend.get(name, name.kind().size_max()).and_then(|bytes| Opened::check(name, &bytes, trust).map(drop));
    match read {
        Ok(()) => Ok(false),
        Err(error) => match error.kind() {
            ErrorKind::Damaged => Ok(true),
            ErrorKind::NotFound | ErrorKind::Unsupported => Ok(false),
            _ => Err(error),
        },
    }
}

/// Trailer hash and config of a generation that admin signed; or why it is none.
type Read = std::result::Result<([u8; 32], Result<Config>), Error>;

fn read(backend: &dyn Backend, name: &ObjectName, trust: &Trust) -> Result<Read> {
    let read = backend.get(name, name.kind().size_max()).and_then(|bytes| {
        let opened = Opened::check(name, &bytes, trust)?;
        let config = Config::decode(name.number(), opened.body, trust.admin_key.as_ref());
        Ok((opened.hash, config.map_err(|error| error.context(name))))
    });
    match read {
        Err(error) if !matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => Err(error),
        read => Ok(read),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{back_up, repository};
    use super::super::{Key, Repository, Settings};
    use super::*;
    use crate::backend::MemoryBackend;
    use crate::crypto::{Secret, Signer};
    use crate::format::Certificate;
    use crate::format::object::{Author, Header};
    use crate::gc::GcOptions;
    use crate::id::{RepositoryId, SlotId};
    use crate::progress::Silent;
    use crate::runtime::{Runtime, Timestamp};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };

    fn open(backend: &MemoryBackend) -> Result<Repository> {
        static SEED: AtomicU64 = AtomicU64::new(100);
        let runtime = Runtime::seeded(SEED.fetch_add(1, Ordering::Relaxed), NOW, 2);
        Repository::open(Arc::new(backend.clone()), runtime, &Key::passphrase("correct horse")?, Settings::default())
    }

    fn admin(seed: &Secret, id: &RepositoryId) -> Author {
        let signer = Signer::new(seed);
        Author { certificate: Certificate::of_admin(&signer, id, 1), signer }
    }

    fn rotate(repository: &Repository) -> Result<()> {
        repository.rotate(&repository.plan_rotation(None)?)
    }

    /// The same object under another name, signed by `author`, of a version.
    fn forged(author: &Author, id: RepositoryId, name: ObjectName, body: &[u8], version: u8) -> Vec<u8> {
        let header = Header { name, repository: id, structure_epoch: u32::from(name.kind() == ObjectKind::Epoch) };
        let mut head = header.encode();
        head[8] = version;
        [&head[..], body, &author.trailer_of(&head, body)].concat()
    }

    #[test]
    fn what_admin_did_not_sign_stands_in_nobodys_way() {
        let backend = MemoryBackend::new();
        let owner = repository(&backend);
        let slot = owner.slot.unwrap();
        let thief = admin(&Secret::new([66; 32]), &owner.id);
        let config = Config { admin_key: thief.signer.verifying_key(), predecessor: [1; 32], ..owner.config.clone() }.encode();
        let old_slot = backend.get(&slot, u64::MAX).unwrap();
        let mut added = Vec::new();
        let mut add = |name: ObjectName, bytes: &[u8]| {
            backend.put(&name, bytes).unwrap();
            added.push(name);
        };
        add(ObjectName::config(0), &forged(&thief, RepositoryId([9; 16]), ObjectName::config(0), &config, 1));
        for (at, number) in [2, 3, 4, 6, u32::MAX - 1, u32::MAX].into_iter().enumerate() {
            let names = [
                ObjectName::config(number),
                ObjectName::slot(SlotId(slot.id()), number),
                ObjectName::epoch(number),
                ObjectName::slot(SlotId([7; 16]), number),
            ];
            for name in names {
                let body = if name.kind() == ObjectKind::Config { &config } else { &old_slot[64..] };
                match at % 3 {
                    0 => add(name, b"rubbish"),
                    1 => add(name, &forged(&thief, owner.id, name, body, 1)),
                    _ => add(name, &forged(&thief, owner.id, name, body, 2)),
                }
            }
        }
        let snapshot = back_up(&open(&backend).unwrap(), b"layers of ice");
        let stale = open(&backend).unwrap();
        for generation in [5, 7, 8] {
            rotate(&open(&backend).unwrap()).unwrap();
            assert_eq!(open(&backend).unwrap().generation(), generation);
        }
        assert_eq!(rotate(&stale).unwrap_err().kind(), ErrorKind::Busy);
        let owner = open(&backend).unwrap();
        owner.set_parity(1).unwrap();
        let owner = open(&backend).unwrap();
        assert_eq!(owner.generation(), 9);
        owner.set_parity(0).unwrap();
        let owner = open(&backend).unwrap();
        owner.protect(&Silent).unwrap();
        let other = back_up(&owner, b"layers of snow");
        for (snapshot, epoch) in [(snapshot, 1), (other, 5)] {
            owner.forget(&[snapshot], &Silent).unwrap();
            assert_eq!(owner.gc(&GcOptions::default(), &Silent).unwrap().epoch, Some(epoch));
        }
        back_up(&owner, b"layers of ice");
        assert_eq!(owner.newest_epoch().unwrap(), 5);
        let report = owner.check(&Silent).unwrap();
        added.sort();
        let mut found: Vec<_> = report.findings.iter().map(|finding| finding.object.unwrap()).collect();
        found.sort();
        found.dedup();
        assert_eq!(found, added, "each is named, and nothing else");
        // A number that was used up may be free again: the chain shows that nothing is missing.
        added.iter().for_each(|name| backend.delete(name).unwrap());
        let report = open(&backend).unwrap().check(&Silent).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }

    #[test]
    fn what_admin_signed_is_never_passed_over() {
        let backend = MemoryBackend::new();
        let owner = repository(&backend);
        let admin = admin(owner.credential.admin_seed.as_ref().unwrap(), &owner.id);
        let first = backend.get(&ObjectName::config(1), u64::MAX).unwrap();
        let config = Config { predecessor: *first.last_chunk().unwrap(), ..owner.config.clone() };
        let name = ObjectName::config(3);
        for (config, version, expected) in [
            (config.encode(), 2, (ErrorKind::Unsupported, "OBJ-4")),
            (Config { predecessor: [3; 32], ..config.clone() }.encode(), 1, (ErrorKind::Damaged, "CFG-2")),
            (Config { pack_size: 1, ..config }.encode(), 1, (ErrorKind::Damaged, "CFG-4")),
        ] {
            backend.put(&name, &forged(&admin, owner.id, name, &config, version)).unwrap();
            let error = open(&backend).unwrap_err();
            assert_eq!((error.kind(), error.broken_rule()), (expected.0, Some(expected.1)));
            assert!(owner.require_newest_config().is_err());
            backend.delete(&name).unwrap();
        }
    }

    /// It may have put keys in force without which somebody who was removed is back.
    #[test]
    fn nothing_is_written_where_a_damaged_config_may_have_put_newer_keys_in_force() {
        let backend = MemoryBackend::new();
        let owner = repository(&backend);
        back_up(&owner, b"layers of ice");
        rotate(&owner).unwrap();
        backend.delete(&ObjectName::config(2)).unwrap();
        backend.put(&ObjectName::config(2), b"damaged").unwrap();
        let owner = open(&backend).unwrap();
        assert_eq!(owner.snapshots().unwrap().len(), 1);
        assert_eq!(owner.require_newest_config().unwrap_err().kind(), ErrorKind::Damaged);
        backend.delete(&ObjectName::config(2)).unwrap();
        rotate(&open(&backend).unwrap()).unwrap();
        back_up(&open(&backend).unwrap(), b"layers of ice");
    }
}
