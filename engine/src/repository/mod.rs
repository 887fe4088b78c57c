//! A repository: objects in a backend, read and written with a credential.
//!
//! This layer knows the order in which things are written: a session before anything else, packs before the snapshot that needs
//! them, the snapshot before `closed/`. Operations (backup, restore, check) are built on it and open no object by hand.

mod attempts;
mod bases;
mod chunk_ids;
mod contents_reader;
mod create;
mod deadlines;
mod frame_reader;
mod generations;
mod heal;
mod hold;
mod holds;
pub mod index;
mod kept_tails;
mod key;
mod known_admins;
mod nodes;
mod objects;
mod open;
mod pack_writer;
mod packer;
mod parity;
mod placement;
mod protect;
mod read_through;
mod recipient;
mod refs_collector;
mod relocations;
mod replica;
mod seen;
mod select;
mod session;
mod sightings;
mod slots;
mod snapshots;
#[cfg(test)]
mod tests;
mod tiered;
mod told;
mod writer;

pub use create::CreateOptions;
pub use hold::{LockEnd, Locked};
pub use holds::{Held, Hold, HoldState};
pub use key::Key;
pub use parity::{PARITY_PERCENT_MAX, Protected};
pub use placement::{FolderTiers, TierOpener};
pub use recipient::Recipient;
pub use replica::Replica;
pub use slots::{NewSlot, Rotation, SlotHolder, SlotInfo, SlotState};
pub use snapshots::{Snapshot, SnapshotState};
pub(crate) use snapshots::{SnapshotListing, advice_on_loss};

pub(crate) use bases::{BaseHint, KEPT_BASES_LENGTH_MAX, WantedBases};
pub(crate) use chunk_ids::{ChunkIds, ChunkKind};
pub(crate) use deadlines::Locks;
pub(crate) use frame_reader::{Frame, FrameReader, SnapshotChunks};
pub(crate) use heal::{Sidecar, heal};
pub(crate) use kept_tails::KeptTails;
pub(crate) use nodes::{AnyNodes, NodeStore};
pub(crate) use objects::{ClearTail, PackTail, domains, require_readable_size};
#[cfg(any(test, feature = "testing"))]
pub(crate) use pack_writer::{PackMaker, SealedFrame};
pub(crate) use pack_writer::{PackObject, WrittenPack};
#[cfg(test)]
pub(crate) use placement::absent;
pub(crate) use placement::{Placement, Tiers, marker};
pub(crate) use protect::verify;
pub(crate) use read_through::ReadThrough;
pub(crate) use refs_collector::RefsCollector;
pub(crate) use relocations::{Instead, Relocations};
pub(crate) use session::Session;
pub(crate) use sightings::Sight;
pub(crate) use writer::{ChunkUse, Writer};

use crate::backend::{Backend, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::Config;
use crate::format::object::Header;
use crate::format::slot::Credential;
use crate::format::{Roles, Trust};
use crate::id::RepositoryId;
use crate::runtime::{Pool, Runtime};
use crate::spill::SpillFolder;
use generations::Above;
use index::LookupIndex;

use seen::Seen;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use tiered::TieredBackend;
use told::Told;

/// How this process works with a repository; nothing here changes what is stored.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Folder for caches (lookup index, stat cache), one folder below it for each repository. `None` keeps nothing between runs.
    pub cache: Option<PathBuf>,
    /// Folder in which the admin keys are remembered that recipients' keys have met; not a cache. `None` opens no recipient's slot.
    pub known_admins: Option<PathBuf>,
    /// Folder in which is remembered what was seen of each repository; not a cache. `None` does not notice a store that serves an older state.
    pub sightings: Option<PathBuf>,
    /// Where tiers are on this machine, by name, instead of at the address that the repository knows.
    pub tiers: BTreeMap<String, String>,
    /// How places of tiers are opened; `None` for folders.
    pub tier_opener: Option<Arc<dyn TierOpener>>,
    /// Where the repository is, whatever way it was named. What tells of one place (lookup index, what was seen) is kept for each place then, since a
    /// repository and its replicas have the same id. `None` where there is but one place.
    pub place: Option<String>,
    /// Who this process is, for people who find its session: host and process.
    pub label: String,
}

impl Settings {
    /// Keeps caches below `folder`.
    #[must_use]
    pub fn with_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Remembers in `folder` which admin key a recipient's key has met.
    #[must_use]
    pub fn with_known_admins(mut self, folder: impl Into<PathBuf>) -> Self {
        self.known_admins = Some(folder.into());
        self
    }

    /// Remembers in `folder` what was seen of each repository, to notice a store that serves an older state.
    #[must_use]
    pub fn with_sightings(mut self, folder: impl Into<PathBuf>) -> Self {
        self.sightings = Some(folder.into());
        self
    }

    /// Looks for the tier of this name at `address`.
    #[must_use]
    pub fn with_tier(mut self, name: impl Into<String>, address: impl Into<String>) -> Self {
        self.tiers.insert(name.into(), address.into());
        self
    }

    /// Opens places of tiers by `opener`.
    #[must_use]
    pub fn with_tier_opener(mut self, opener: Arc<dyn TierOpener>) -> Self {
        self.tier_opener = Some(opener);
        self
    }

    /// Says where the repository is.
    #[must_use]
    pub fn with_place(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// A name for what is kept of one place of a repository, and for no other.
    fn local_name(&self, repository: RepositoryId) -> String {
        match &self.place {
            Some(place) => format!("{repository}-{}", &blake3::hash(place.as_bytes()).to_hex()[..16]),
            None => repository.to_string(),
        }
    }

    /// Names this process in its sessions.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }
}

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) runtime: Runtime,
    pub(crate) credential: Arc<Credential>,
    pub(crate) config: Config,
    pub(crate) id: RepositoryId,
    pub(crate) trust: Arc<Trust>,
    pub(crate) settings: Settings,
    pub(crate) tiers: Arc<Tiers>,
    told: Arc<Told>,
    seen: Arc<Seen>,
    /// Where the store is far away, and there is a folder for caches.
    pub(crate) kept_tails: Option<Arc<KeptTails>>,
    generation: u32,
    /// The slot generation that the credential came out of; `None` where it came from elsewhere.
    slot: Option<ObjectName>,
    /// Set once the config is known to be durable.
    is_config_durable: OnceLock<()>,
    pool: OnceLock<Arc<Pool>>,
}

impl Repository {
    pub(crate) fn assemble(
        backend: Arc<dyn Backend>,
        runtime: Runtime,
        credential: Credential,
        config: Config,
        id: RepositoryId,
        generation: u32,
        settings: Settings,
    ) -> Self {
        let trust = Trust { repository: Some(id), admin_key: Some(credential.admin_key), revoked: config.revoked.clone() };
        let (trust, credential) = (Arc::new(trust), Arc::new(credential));
        let (opener, addresses) = (settings.tier_opener.clone(), settings.tiers.clone());
        let tiers = Arc::new(Tiers::new(backend, Arc::clone(&credential), Arc::clone(&trust), opener, addresses));
        let tiered = Arc::new(TieredBackend { tiers: Arc::clone(&tiers) });
        let backend = protect::guard(tiered, &credential, &config, id, generation);
        let kept_tails = settings.cache.as_ref().filter(|_| backend.at_once() > 1);
        let kept_tails = kept_tails.map(|cache| Arc::new(KeptTails::new(cache.join(settings.local_name(id)).join("tails"))));
        Self {
            backend,
            runtime,
            credential,
            config,
            id,
            trust,
            settings,
            tiers,
            told: Arc::default(),
            seen: Arc::default(),
            kept_tails,
            generation,
            slot: None,
            is_config_durable: OnceLock::new(),
            pool: OnceLock::new(),
        }
    }

    /// Says which slot generation the credential came out of.
    fn opened_by(mut self, slot: ObjectName) -> Self {
        self.slot = Some(slot);
        self
    }

    /// Names the repository.
    pub fn id(&self) -> RepositoryId {
        self.id
    }

    /// The config in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The generation of the config in force.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What the credential that opened it may do.
    pub fn roles(&self) -> Roles {
        self.credential.roles()
    }

    /// Where it is, for people.
    pub fn describe(&self) -> String {
        self.backend.describe()
    }

    /// Refuses what the credential may not do.
    pub(crate) fn require(&self, roles: Roles, what: &str) -> Result<()> {
        match self.roles().contain(roles) {
            true => Ok(()),
            false => {
                let message = format!("{what} needs a credential with the role {roles}; this one is for {}", self.roles());
                Err(Error::new(ErrorKind::Unauthorized, message))
            }
        }
    }

    /// Refuses to write where a flag says that this release may only read.
    pub(crate) fn require_writable(&self) -> Result<()> {
        match self.config.unknown_write_flags() {
            0 => Ok(()),
            flags => {
                let bit = flags.trailing_zeros();
                let message = format!("the repository uses feature flag {bit}, with which this icecore may read but not write; upgrade");
                Err(Error::new(ErrorKind::Unsupported, message))
            }
        }
    }

    /// Refuses to go on where admin made a new config since the repository was opened: there may be new keys, which are to be used from
    /// then on.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] then; [`ErrorKind::Damaged`] where that cannot be told, since something above it is damaged and the credential holds newer keys.
    pub(crate) fn require_newest_config(&self) -> Result<()> {
        match generations::above(&*self.backend, self.generation, &self.trust)? {
            Above::Newer => return Err(keys_changed()),
            // A rotation that was interrupted leaves such keys, and somebody may have put the object there. Or it put them in force: then what is written
            // now would be for keys that were taken away from somebody.
            Above::Strange(error) if self.credential.newest_structure_epoch() > self.config.structure_epoch => {
                return Err(error.with_kind(ErrorKind::Damaged).context(
                    "the keys of the repository are newer than its config, and a config after it is damaged: bring that back from a copy of the \
                     repository, or with parity by `icecore scrub --keyless`; or, where no admin made it, remove it from the store",
                ));
            }
            Above::Strange(_) | Above::Nothing => {}
        }
        // `OthersDurable`: what is written from now on is sealed with its keys.
        if self.is_config_durable.get().is_none() {
            self.backend.make_durable(&[ObjectName::config(self.generation)])?;
            let _ = self.is_config_durable.set(());
        }
        Ok(())
    }

    /// Whether admin changed keys or settings since this was opened, or that cannot be known now.
    pub(crate) fn has_newer_config(&self) -> bool {
        !matches!(generations::above(&*self.backend, self.generation, &self.trust), Ok(Above::Strange(_) | Above::Nothing))
    }

    /// The header of an object of this repository whose parts are sealed with the structure key in force.
    pub(crate) fn header(&self, name: ObjectName) -> Header {
        Header { name, repository: self.id, structure_epoch: self.config.structure_epoch }
    }

    /// The worker threads, started when first needed.
    pub(crate) fn pool(&self) -> Result<Arc<Pool>> {
        if let Some(pool) = self.pool.get() {
            return Ok(Arc::clone(pool));
        }
        let pool = Arc::new(Pool::start(&self.runtime.executor)?);
        Ok(Arc::clone(self.pool.get_or_init(|| pool)))
    }

    /// The folder for caches that are of use in all places of this repository.
    pub(crate) fn cache_folder(&self) -> Option<PathBuf> {
        Some(self.settings.cache.as_ref()?.join(self.id.to_string()))
    }

    /// The folder for caches of what is in this place.
    pub(crate) fn place_cache_folder(&self) -> Option<PathBuf> {
        Some(self.settings.cache.as_ref()?.join(self.settings.local_name(self.id)))
    }

    /// Where temporary files are made: the folder for caches, otherwise `other` where that is a folder.
    pub(crate) fn spill_folder(&self, other: Option<&std::path::Path>) -> SpillFolder {
        SpillFolder::new(self.settings.cache.as_deref().into_iter().chain(other))
    }

    /// Opens the lookup index and makes it agree with what is listed now.
    pub(crate) fn open_index(&self) -> Result<Arc<LookupIndex>> {
        self.open_index_by(self.contents_reader())
    }

    fn open_index_by(&self, reader: contents_reader::ContentsReader) -> Result<Arc<LookupIndex>> {
        let folder = self.place_cache_folder().map(|folder| folder.join("index"));
        let reader = Arc::new(reader);
        let index = LookupIndex::open(folder.as_deref(), self.id, Arc::clone(&reader) as Arc<dyn index::ContentsSource>)?;
        self.sync_index_by(&index, &reader)?;
        Ok(Arc::new(index))
    }

    /// Reads frames of all packs that are listed, through damage where `through` helps.
    pub(crate) fn reader_through(&self, through: &Arc<ReadThrough>) -> Result<FrameReader> {
        let contents = contents_reader::ContentsReader { through: Some(Arc::clone(through)), ..self.contents_reader() };
        Ok(FrameReader::new(self, self.open_index_by(contents)?).through(through))
    }
}

/// What was stored since is sealed with keys that are not in hand.
pub(crate) fn keys_changed() -> Error {
    let message = "admin changed the keys or settings of the repository while this ran; run it again: what was stored is found again";
    Error::new(ErrorKind::Busy, message)
}
