//! Making a repository: keys, the first slot, config generation 1.

use super::parity::check_percent;
use super::{Key, Repository, Settings, protect};
use crate::backend::{Backend, BackendExt, ObjectKind, ObjectName};
use crate::crypto::{PassphraseCost, Secret, Signer, public_key_of};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::{Config, CutMethod, CutterConfig, RestoreKey};
use crate::format::object::{Author, Header};
use crate::format::slot::{Credential, Slot};
use crate::format::{Certificate, Roles};
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
        if !backend.list_sorted(ObjectKind::Config)?.is_empty() {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{}: there is a repository already", backend.describe())));
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
        let author = Author { certificate: Certificate::of_admin(&admin, &id, 1), signer: admin };

        // The slot first: a config without a slot would be a repository that nobody can open.
        let header = Header { name: ObjectName::slot(SlotId(runtime.random()), 1), repository: id, structure_epoch: 0 };
        let kind = key.slot_kind(options.passphrase_cost, &runtime);
        let seed = key.seed_for(&kind)?.ok_or_else(|| Error::new(ErrorKind::Internal, "a key does not fit its own slot"))?;
        let slot = Slot::seal(&header, kind, &seed, &credential, &*runtime.entropy)?;
        let slot_name = header.name;
        let guarded = protect::guard(Arc::clone(&backend), &credential, &config, id, 1);
        guarded.put(&slot_name, &author.object(&header, &slot.encode()))?;
        let header = Header { name: ObjectName::config(1), repository: id, structure_epoch: 0 };
        guarded.put(&header.name, &author.object(&header, &body))?;
        Ok(Self::assemble(backend, runtime, credential, config, id, 1, settings).opened_by(slot_name))
    }
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
