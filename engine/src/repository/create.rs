//! Making a repository: keys, the first slot, config generation 1.

use super::open::without_config;
use super::parity::check_percent;
use super::{Key, Repository, Settings, protect};
use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::crypto::{PassphraseCost, Secret, Signer, public_key_of};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::{Config, CutMethod, CutterConfig, RestoreKey};
use crate::format::object::{Author, Header, Opened};
use crate::format::slot::{Credential, Slot};
use crate::format::{Certificate, Roles, Trust};
use crate::id::{CredentialId, DomainId, RepositoryId, SlotId};
use crate::runtime::Runtime;
use std::sync::Arc;

/// What is fixed when a repository is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreateOptions {
    /// Bytes of frames after which a pack ends.
    pub pack_size: u32,
    /// Plaintext bytes after which a data frame ends.
    pub data_frame_size: u32,
    /// Plaintext bytes after which a meta or refs frame ends.
    pub meta_frame_size: u32,
    /// How content is cut.
    pub cut: CutMethod,
    /// What guessing the passphrase costs.
    pub passphrase_cost: PassphraseCost,
    /// How much of a data pack its sidecar can restore, in percent, at most [`super::PARITY_PERCENT_MAX`]; 0: nothing has a sidecar.
    pub parity_percent: u8,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            pack_size: 64 << 20,
            data_frame_size: 2 << 20,
            meta_frame_size: 512 << 10,
            cut: CutMethod::Content { min: 16 << 10, average: 32 << 10, max: 128 << 10 },
            passphrase_cost: PassphraseCost::RECOMMENDED,
            parity_percent: 0,
        }
    }
}

impl Repository {
    /// Makes a repository in an empty `backend`, opened by `key`, and opens it. The slot holds all roles.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] where a repository is there already, [`ErrorKind::Invalid`] for sizes that the format does not allow,
    /// otherwise what the backend says.
    pub fn create(backend: Arc<dyn Backend>, runtime: Runtime, key: &Key, options: &CreateOptions, settings: Settings) -> Result<Self> {
        let is_there = || Error::new(ErrorKind::AlreadyExists, format!("{}: there is a repository already", backend.describe()));
        if !backend.list_sorted(ObjectKind::Config)?.is_empty() {
            return Err(is_there());
        }
        // Of one that lost its config nothing may be taken for what an interrupted `create` left.
        let without = without_config(&*backend)?;
        if without.kind() != ErrorKind::NoRepository {
            return Err(without);
        }
        let id = RepositoryId(runtime.random());
        let admin_seed = Secret::new(runtime.random());
        let admin = Signer::new(&admin_seed);
        let credential = new_credential(&id, &admin, admin_seed, &runtime);
        let restore_seed = &credential.restore_keys[0].1;
        let mut config = Config {
            optional_flags: 0,
            write_flags: 0,
            created: runtime.clock.now(),
            predecessor: [0; 32],
            second_predecessor: [0; 32],
            admin_key: admin.verifying_key(),
            structure_epoch: 1,
            restore_epoch: 1,
            pack_size: options.pack_size,
            data_frame_size: options.data_frame_size,
            meta_frame_size: options.meta_frame_size,
            cutters: vec![CutterConfig { id: 1, method: options.cut }, CutterConfig { id: 2, method: CutMethod::Fixed(16 << 10) }],
            restore_keys: vec![RestoreKey { epoch: 1, public_key: public_key_of(restore_seed) }],
            revoked: Vec::new(),
        };
        config.set_parity_percent(check_percent(options.parity_percent)?);
        let body = config.encode();
        Config::decode(1, &body, None).map_err(|error| error.with_kind(ErrorKind::Invalid))?;
        let trust = Trust { repository: Some(id), admin_key: Some(admin.verifying_key()), revoked: Vec::new() };
        let author = Author { certificate: Certificate::of_admin(&admin, &id, 1), signer: admin };

        // The slot first: a config without a slot would be a repository that nobody can open.
        let header = Header { name: ObjectName::slot(SlotId(runtime.random()), 1), repository: id, structure_epoch: 0 };
        let kind = key.slot_kind(options.passphrase_cost, &runtime);
        let seed = key.seed_for(&kind, &runtime)?.ok_or_else(|| Error::new(ErrorKind::Internal, "a key does not fit its own slot"))?;
        let slot = Slot::seal(&header, kind, &seed, &credential, &*runtime.entropy)?;
        let slot_name = header.name;
        let guarded = protect::guard(Arc::clone(&backend), &credential, &config, id, 1);
        guarded.put(&slot_name, &author.object(&header, &slot.encode()))?;
        let header = Header { name: ObjectName::config(1), repository: id, structure_epoch: 0 };
        let object = author.object(&header, &body);
        match guarded.put(&header.name, &object) {
            // Somebody else made one at the same time, unless this is what was written here and reported as failed.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if backend.get(&header.name, header.name.kind().size_max())? != object {
                    protect::remove(&*guarded, &slot_name)?;
                    return Err(is_there());
                }
            }
            put => put?,
        }
        remove_strays(&*guarded, &trust).map_err(|error| {
            error.context("the repository was made, but what an earlier attempt left in its place could not be removed; check names it")
        })?;
        Ok(Self::assemble(backend, runtime, credential, config, id, 1, settings).opened_by(slot_name))
    }
}

/// Removes what others left here that were stopped before their config: key slots and what heals them.
fn remove_strays(backend: &dyn Backend, trust: &Trust) -> Result<()> {
    for kind in [ObjectKind::Slot, ObjectKind::Parity] {
        for ObjectInfo { name, .. } in backend.list_sorted(kind)? {
            let is_stray = match backend.get(&name, ObjectKind::Slot.size_max()) {
                Ok(bytes) => Opened::check(&name, &bytes, trust).is_err(),
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                Err(error) if error.kind() == ErrorKind::Damaged => true,
                Err(error) => return Err(error),
            };
            if is_stray {
                protect::remove(backend, &name)?;
            }
        }
    }
    Ok(())
}

/// Fresh keys for all roles.
fn new_credential(repository: &RepositoryId, admin: &Signer, admin_seed: Secret, runtime: &Runtime) -> Credential {
    let secret = || Secret::new(runtime.random());
    let domain = DomainId([0; 16]);
    let name = CredentialId::generate(repository, &domain, &*runtime.entropy);
    let signing_seed = name.signing_seed(repository, &admin_seed);
    let signer = Signer::new(&signing_seed);
    let certificate = Certificate::sign(admin, repository, 1, Roles::ALL, domain, name, signer.verifying_key());
    Credential {
        admin_key: admin.verifying_key(),
        structure_keys: vec![(1, secret())],
        token_key: secret(),
        author: Author { certificate, signer },
        signing_seed,
        chunk_id_key: Some(secret()),
        cutting_key: Some(secret()),
        restore_keys: vec![(1, secret())],
        admin_seed: Some(admin_seed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;
    use crate::backend::testing::{HookedBackend, Operation};
    use crate::progress::Silent;
    use crate::runtime::Timestamp;
    use parking_lot::Mutex;

    const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };

    fn create(backend: Arc<dyn Backend>, seed: u64, parity_percent: u8) -> Result<Repository> {
        let options = CreateOptions { passphrase_cost: PassphraseCost::TEST, parity_percent, ..CreateOptions::default() };
        Repository::create(backend, Runtime::seeded(seed, NOW, 1), &key(), &options, Settings::default())
    }

    fn key() -> Key {
        Key::passphrase("correct horse").unwrap()
    }

    /// It opens with the key that both attempts had, and nothing in it is wrong.
    fn assert_sound(backend: &MemoryBackend, id: RepositoryId) {
        let opened = Repository::open(Arc::new(backend.clone()), Runtime::seeded(9, NOW, 1), &key(), Settings::default()).unwrap();
        let report = opened.check(&Silent).unwrap();
        assert!(opened.id() == id && report.findings.is_empty() && report.notices.is_empty(), "{report:#?}");
        assert_eq!(backend.list_sorted(ObjectKind::Slot).unwrap().len(), 1);
    }

    #[test]
    fn what_was_stopped_anywhere_can_be_made_again() {
        for (stopped, again) in [(0, 0), (3, 0), (0, 3), (3, 3)] {
            for changes in 0..12 {
                let (backend, left) = (MemoryBackend::new(), Mutex::new(changes));
                let stops = HookedBackend::new(Arc::new(backend.clone()), move |call| {
                    let is_change = matches!(call.operation, Operation::Create | Operation::Finish | Operation::Delete) && !call.is_done;
                    let mut left = left.lock();
                    match is_change && *left == 0 {
                        true => Err(Error::new(ErrorKind::Unavailable, "stopped")),
                        false => {
                            *left -= u32::from(is_change);
                            Ok(())
                        }
                    }
                });
                let first = create(Arc::new(stops), 1, stopped);
                match backend.list_sorted(ObjectKind::Config).unwrap().is_empty() {
                    true => assert_sound(&backend, create(Arc::new(backend.clone()), 2, again).unwrap().id()),
                    false => assert_eq!(create(Arc::new(backend.clone()), 2, again).unwrap_err().kind(), ErrorKind::AlreadyExists),
                }
                assert!(changes < 11 || first.is_ok(), "all of its changes were tried");
            }
        }
    }

    #[test]
    fn of_two_at_the_same_time_one_makes_it_and_the_other_leaves_nothing() {
        let backend = MemoryBackend::new();
        let faster = Mutex::new(Some(backend.clone()));
        let made = Arc::new(Mutex::new(None));
        let by_faster = Arc::clone(&made);
        let slower = HookedBackend::new(Arc::new(backend.clone()), move |call| {
            if call.operation == Operation::Create
                && call.kind == ObjectKind::Config
                && let Some(backend) = faster.lock().take()
            {
                *by_faster.lock() = Some(create(Arc::new(backend), 2, 0).unwrap().id());
            }
            Ok(())
        });
        assert_eq!(create(Arc::new(slower), 1, 0).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let id = made.lock().unwrap();
        assert_sound(&backend, id);
    }

    #[test]
    fn a_repository_that_lost_its_config_is_not_made_anew() {
        let backend = MemoryBackend::new();
        let repository = create(Arc::new(backend.clone()), 1, 0).unwrap();
        let content = Box::new(std::io::Cursor::new(vec![1; 1000]));
        repository.backup_stream("stream", content, &crate::backup::BackupOptions::new("series"), &Silent).unwrap();
        backend.delete(&ObjectName::config(1)).unwrap();
        let error = create(Arc::new(backend.clone()), 2, 0).unwrap_err();
        assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains("Make no new repository here"), "{error}");
        assert_eq!(backend.list_sorted(ObjectKind::Slot).unwrap().len(), 1);
    }
}
