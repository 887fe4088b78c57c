//! Placement: which tiers there are, which packs lie in them, and the way to their places (`format-spec/placement.md`).
//!
//! What is known of it is a view that is read anew whenever something is missed or packs are listed: a pack that is not where it was may have moved
//! (I13). It only ever says where to look; what is read is checked as from anywhere.

use crate::backend::{Backend, BackendExt, LocalBackend, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
use crate::format::object::Opened;
use crate::format::placement::{PlacedPack, PlacedPacks, PlacementBody, TierBody};
use crate::format::slot::Credential;
use crate::id::{PackId, PlacementId, TierId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

/// So often placement objects are listed again because one was replaced or came meanwhile.
const LOOKS_MAX: usize = 16;

/// The one door from a tier's address to its place.
pub trait TierOpener: Debug + Send + Sync {
    /// Opens what is at `address`. Whether it is the tier's place is looked at by the caller.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::Frozen`] where nothing is there at the moment, otherwise what is wrong.
    fn open(&self, tier: &TierBody, address: &str) -> Result<Arc<dyn Backend>>;

    /// Makes the place of a new tier, or takes an empty one.
    ///
    /// # Errors
    /// As [`LocalBackend::create`].
    fn create(&self, tier: &TierBody, address: &str) -> Result<Arc<dyn Backend>>;
}

/// Opens folders.
#[derive(Debug, Default)]
pub struct FolderTiers;

impl TierOpener for FolderTiers {
    fn open(&self, _: &TierBody, address: &str) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(LocalBackend::open_folder(address)?))
    }

    fn create(&self, _: &TierBody, address: &str) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(LocalBackend::create(address)?))
    }
}

/// The medium of a tier is not there.
pub(crate) fn absent(tier: &TierBody, address: &str) -> Error {
    let label = if tier.label.is_empty() { String::new() } else { format!(" ({})", tier.label) };
    let message =
        format!("tier {}{label} is not at {address}: plug the medium in or mount it there, or say where it is on this machine", tier.name);
    Error::new(ErrorKind::Frozen, message)
}

fn keeps_changing() -> Error {
    Error::new(ErrorKind::Busy, "placement objects keep being replaced; try again")
}

/// What placement objects say.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    /// The newest revision of each tier.
    pub(crate) tiers: BTreeMap<TierId, Arc<TierBody>>,
    /// Where packs lie, the lowest rank first.
    packs: HashMap<PackId, Vec<(TierId, PlacedPack)>>,
    /// The objects of each tier: what they say of packs, and those that tell what the tier is.
    pub(crate) objects: BTreeMap<ObjectName, Arc<PlacementBody>>,
    /// Objects that break a rule.
    broken: HashSet<ObjectName>,
}

impl Placement {
    /// Where a pack lies, the lowest rank first. In tiers that are known.
    pub(crate) fn places(&self, pack: PackId) -> &[(TierId, PlacedPack)] {
        self.packs.get(&pack).map_or(&[], Vec::as_slice)
    }

    /// The coldest place of a pack: the one that stays.
    pub(crate) fn coldest(&self, pack: PackId) -> Option<(&Arc<TierBody>, &PlacedPack)> {
        let (tier, placed) = self.places(pack).last()?;
        Some((self.tiers.get(tier)?, placed))
    }

    /// Tiers of lower rank than the coldest place of a pack, in which placement says that it lies, too.
    pub(crate) fn warmer(&self, pack: PackId) -> impl Iterator<Item = &Arc<TierBody>> {
        let rank_max = self.coldest(pack).map_or(0, |(tier, _)| tier.rank);
        self.places(pack).iter().filter_map(|(tier, _)| self.tiers.get(tier)).filter(move |tier| tier.rank < rank_max)
    }

    /// All packs that lie in tiers.
    pub(crate) fn packs(&self) -> impl Iterator<Item = PackId> {
        self.packs.keys().copied()
    }

    /// The tier that is called so.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub(crate) fn tier(&self, name: &str) -> Result<&Arc<TierBody>> {
        self.tiers.values().find(|tier| tier.name == name).ok_or_else(|| {
            let known: Vec<_> = self.tiers.values().map(|tier| tier.name.as_str()).collect();
            let known = if known.is_empty() { "there is none yet".to_owned() } else { format!("there are {}", known.join(", ")) };
            Error::new(ErrorKind::NotFound, format!("there is no tier `{name}`; {known}"))
        })
    }

    fn of(objects: BTreeMap<ObjectName, Arc<PlacementBody>>, broken: HashSet<ObjectName>) -> Self {
        let mut tiers: BTreeMap<TierId, Arc<TierBody>> = BTreeMap::new();
        for body in objects.values() {
            if let PlacementBody::Tier(tier) = &**body
                && tiers.get(&tier.tier).is_none_or(|known| known.revision < tier.revision)
            {
                tiers.insert(tier.tier, Arc::new((**tier).clone()));
            }
        }
        let mut packs: HashMap<PackId, Vec<(TierId, PlacedPack)>> = HashMap::new();
        for body in objects.values() {
            let PlacementBody::Packs(PlacedPacks { tier, packs: placed }) = &**body else { continue };
            for placed in placed.iter().filter(|_| tiers.contains_key(tier)) {
                let places = packs.entry(placed.pack).or_default();
                if places.iter().all(|(known, _)| known != tier) {
                    places.push((*tier, *placed));
                }
            }
        }
        for places in packs.values_mut() {
            places.sort_by_key(|(tier, _)| (tiers.get(tier).map_or(0, |tier| tier.rank), *tier));
        }
        Self { tiers, packs, objects, broken }
    }
}

/// What is known of tiers, shared by all that read and write through one repository.
#[derive(Debug)]
pub(crate) struct Tiers {
    /// The repository's own place.
    pub(crate) warm: Arc<dyn Backend>,
    credential: Arc<Credential>,
    trust: Arc<Trust>,
    opener: Arc<dyn TierOpener>,
    /// Where tiers are on this machine, by name, instead of at their address.
    addresses: BTreeMap<String, String>,
    view: Mutex<Option<Arc<Placement>>>,
    places: Mutex<HashMap<TierId, Arc<dyn Backend>>>,
    /// Packs that lie in a tier and that the warm place has no more. It never has them again.
    gone: Mutex<HashSet<PackId>>,
    /// Placement objects that were seen after they had been made durable.
    durable: Mutex<HashSet<ObjectName>>,
}

impl Tiers {
    pub(crate) fn new(
        warm: Arc<dyn Backend>,
        credential: Arc<Credential>,
        trust: Arc<Trust>,
        opener: Option<Arc<dyn TierOpener>>,
        addresses: BTreeMap<String, String>,
    ) -> Self {
        let opener = opener.unwrap_or_else(|| Arc::new(FolderTiers));
        let (view, places, gone, durable) = Default::default();
        Self { warm, credential, trust, opener, addresses, view, places, gone, durable }
    }

    /// What was known last; read where nothing was.
    pub(crate) fn view(&self) -> Result<Arc<Placement>> {
        let known = self.view.lock().clone();
        known.map_or_else(|| self.reload(), Ok)
    }

    /// What placement objects say now. Only those that were not read before are read.
    ///
    /// # Errors
    /// What the store says. Objects that break a rule say nothing; check reports them.
    pub(crate) fn reload(&self) -> Result<Arc<Placement>> {
        // An object that is replaced goes only after the one that takes its place was written: a new list has that.
        for _ in 0..LOOKS_MAX {
            let known = self.view.lock().clone().unwrap_or_default();
            let listed: Vec<_> = self.warm.list_sorted(ObjectKind::Placement)?.into_iter().map(|object| object.name).collect();
            if listed.len() == known.objects.len() + known.broken.len()
                && listed.iter().all(|name| known.objects.contains_key(name) || known.broken.contains(name))
            {
                *self.view.lock() = Some(Arc::clone(&known));
                return Ok(known);
            }
            if let Some((objects, broken)) = self.read(&listed, &known)? {
                let view = Arc::new(Placement::of(objects, broken));
                *self.view.lock() = Some(Arc::clone(&view));
                return Ok(view);
            }
        }
        Err(keeps_changing())
    }

    /// As [`Tiers::reload`], for whoever deletes because of it: all that it says is durable (`OthersDurable`), and was seen after that, since this
    /// process may outlive the power of the store's machine.
    ///
    /// # Errors
    /// As [`Tiers::reload`].
    pub(crate) fn reload_durable(&self) -> Result<Arc<Placement>> {
        let mut view = self.reload()?;
        for _ in 0..LOOKS_MAX {
            let durable = self.durable.lock().clone();
            let fresh: Vec<_> = view.objects.keys().filter(|name| !durable.contains(name)).copied().collect();
            if fresh.is_empty() {
                return Ok(view);
            }
            self.warm.make_durable(&fresh)?;
            view = self.reload()?;
            let is_there = |name: &ObjectName| view.objects.contains_key(name);
            *self.durable.lock() = durable.into_iter().chain(fresh).filter(is_there).collect();
        }
        Err(keeps_changing())
    }

    /// `None` where one is gone since it was listed.
    #[allow(clippy::type_complexity)]
    fn read(
        &self,
        listed: &[ObjectName],
        known: &Placement,
    ) -> Result<Option<(BTreeMap<ObjectName, Arc<PlacementBody>>, HashSet<ObjectName>)>> {
        let (mut objects, mut broken) = (BTreeMap::new(), HashSet::new());
        for name in listed {
            if let Some(body) = known.objects.get(name) {
                objects.insert(*name, Arc::clone(body));
                continue;
            }
            match self.read_object(name) {
                Ok(body) => drop(objects.insert(*name, Arc::new(body))),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) if error.broken_rule().is_some() => drop(broken.insert(*name)),
                Err(error) => return Err(error),
            }
        }
        Ok(Some((objects, broken)))
    }

    fn read_object(&self, name: &ObjectName) -> Result<PlacementBody> {
        let bytes = self.warm.get(name, name.kind().size_max())?;
        let opened = Opened::check(name, &bytes, &self.trust)?;
        let plaintext = opened.open_part(&*self.credential, 0, opened.body).map_err(|error| error.context(name))?;
        PlacementBody::decode(&plaintext).map_err(|error| error.context(name))
    }

    /// Where a tier is on this machine.
    pub(crate) fn address<'a>(&'a self, tier: &'a TierBody) -> &'a str {
        self.addresses.get(&tier.name).unwrap_or(&tier.address)
    }

    /// The place of a tier.
    ///
    /// # Errors
    /// [`ErrorKind::Frozen`] where it is not there now, and names the medium.
    pub(crate) fn place(&self, tier: &TierBody) -> Result<Arc<dyn Backend>> {
        let known = self.places.lock().get(&tier.tier).map(Arc::clone);
        match known {
            Some(place) => Ok(place),
            None => {
                let place = self.opener.open(tier, self.address(tier)).map_err(|error| match error.kind() {
                    ErrorKind::NotFound => absent(tier, self.address(tier)),
                    _ => error,
                })?;
                self.look(tier, &*place)?;
                self.places.lock().insert(tier.tier, Arc::clone(&place));
                Ok(place)
            }
        }
    }

    /// Looks whether `place` is the tier's: an empty mount point is no medium, and a medium can be pulled out at any time. Called before anything is
    /// written, and before anything counts as missing.
    ///
    /// # Errors
    /// [`ErrorKind::Frozen`] where it is not.
    pub(crate) fn look(&self, tier: &TierBody, place: &dyn Backend) -> Result<()> {
        match place.size(&marker(tier.tier)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.places.lock().remove(&tier.tier);
                Err(absent(tier, self.address(tier)))
            }
            Err(error) => Err(error.context(format!("tier {}", tier.name))),
        }
    }

    /// Makes the place of a new tier.
    pub(crate) fn make_place(&self, tier: &TierBody) -> Result<Arc<dyn Backend>> {
        self.opener.create(tier, self.address(tier))
    }

    /// Whether a pack lies in tiers only, as far as was seen. Asks nobody.
    pub(crate) fn is_cold(&self, pack: PackId) -> bool {
        self.gone.lock().contains(&pack)
    }

    /// The warm place was found not to have these packs, which lie in tiers.
    pub(crate) fn note_gone(&self, packs: impl IntoIterator<Item = PackId>) {
        self.gone.lock().extend(packs);
    }
}

/// The object by which a tier was made, which its place holds, too.
pub(crate) fn marker(tier: TierId) -> ObjectName {
    ObjectName::placement(PlacementId(tier.0))
}
