//! A backend that knows where packs lie: everything is warm but data packs, which may have moved to tiers.
//!
//! ```text
//! list:    the warm place, then placement ─▶ what either names
//! read:    warm, unless known to be gone ─▶ tiers, lowest rank first ─▶ missed: placement anew, and once more
//! delete:  everywhere
//! ```
//! Whoever moves a pack writes where it is before it goes from where it was; so the warm place is listed before placement is. Nothing here thaws: what
//! is frozen says so ([`ErrorKind::Frozen`]).

use super::placement::{Placement, Tiers};
use crate::backend::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter, Retain};
use crate::error::{Error, ErrorKind, Result, TierWait};
use crate::format::placement::TierBody;
use crate::id::PackId;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Passes everything on, data packs to where they lie.
#[derive(Debug)]
pub(super) struct TieredBackend {
    pub(super) tiers: Arc<Tiers>,
}

impl TieredBackend {
    fn warm(&self) -> &dyn Backend {
        &*self.tiers.warm
    }

    /// Does `work` where the pack lies.
    fn at_its_place<T>(&self, name: &ObjectName, work: impl Fn(&dyn Backend) -> Result<T>) -> Result<T> {
        let Some(pack) = movable(name) else { return work(self.warm()) };
        let missed = if self.tiers.is_cold(pack) {
            missing(name)
        } else {
            match work(self.warm()) {
                Err(error) if error.kind() == ErrorKind::NotFound => error,
                other => return other,
            }
        };
        match self.in_tiers(&*self.tiers.view()?, name, pack, &work)? {
            Some(done) => Ok(done),
            None => match self.in_tiers(&*self.tiers.reload()?, name, pack, &work)? {
                Some(done) => Ok(done),
                None => Err(missed),
            },
        }
    }

    /// `None` where the pack is in none of them.
    fn in_tiers<T>(
        &self,
        view: &Placement,
        name: &ObjectName,
        pack: PackId,
        work: &impl Fn(&dyn Backend) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut later = None;
        for (tier, _) in view.places(pack) {
            let Some(tier) = view.tiers.get(tier) else { continue };
            match self.tiers.place(tier).and_then(|place| self.looked(tier, &*place, work(&*place))) {
                Ok(done) => {
                    self.tiers.note_gone([pack]);
                    return Ok(Some(done));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::Frozen => later = later.or(Some(explained(error, name, tier))),
                Err(error) => return Err(error.context(format!("tier {}", tier.name))),
            }
        }
        later.map_or(Ok(None), Err)
    }

    /// What is missing in a place that is not the tier's is not missing.
    fn looked<T>(&self, tier: &TierBody, place: &dyn Backend, done: Result<T>) -> Result<T> {
        match done {
            Err(error) if error.kind() == ErrorKind::NotFound => self.tiers.look(tier, place).and(Err(error)),
            done => done,
        }
    }

    fn list_packs(&self, visit: &mut dyn FnMut(ObjectInfo) -> Result<()>, stranger: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        let mut warm = HashSet::new();
        let mut see = |object: ObjectInfo| {
            warm.insert(PackId(object.name.id()));
            visit(object)
        };
        self.warm().list(ObjectKind::DataPack, &mut see, stranger)?;
        // After the warm place: what went from there is named by now.
        let view = self.tiers.reload()?;
        let cold: Vec<_> = view.packs().filter(|pack| !warm.contains(pack)).collect();
        self.tiers.note_gone(cold.iter().copied());
        for pack in cold {
            if let Some((_, placed)) = view.coldest(pack) {
                visit(ObjectInfo { name: ObjectName::pack(ObjectKind::DataPack, pack), size: placed.size.into() })?;
            }
        }
        Ok(())
    }
}

/// The pack that a name stands for, where it is one that may move.
fn movable(name: &ObjectName) -> Option<PackId> {
    (name.kind() == ObjectKind::DataPack).then(|| PackId(name.id()))
}

pub(super) fn missing(name: &ObjectName) -> Error {
    Error::new(ErrorKind::NotFound, format!("{name}: no such object"))
}

fn explained(error: Error, name: &ObjectName, tier: &TierBody) -> Error {
    let what = match tier.is_frozen {
        true => format!("{name} lies frozen in tier {} and must thaw first: see `icecore restore --plan` and `icecore thaw`", tier.name),
        false => format!("{name} lies in tier {}", tier.name),
    };
    let advice = match tier.is_frozen {
        true => format!("tier {} is frozen and must thaw first", tier.name),
        false => error.to_string(),
    };
    error.context(what).in_tier(TierWait { tier: tier.name.clone(), advice })
}

impl Backend for TieredBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.warm().create(name)
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        // What lies cold would come back to a place where it was; its sidecar stays for when its tier is healed.
        match movable(name).filter(|pack| self.tiers.is_cold(*pack)) {
            Some(_) => Err(Error::new(ErrorKind::Frozen, format!("{name} lies in a tier and is not healed in its place"))),
            None => self.warm().replace(name),
        }
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.at_its_place(name, |place| place.get_range(name, offset, length))
    }

    /// Of what lies cold as placement says: nobody is asked, and what is frozen or not plugged in has a size all the same.
    fn get_whole(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>> {
        self.at_its_place(name, |backend| backend.get_whole(name, size_max))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        let Some(pack) = movable(name) else { return self.warm().size(name) };
        let said = |view: &Placement| view.coldest(pack).map(|(_, placed)| u64::from(placed.size));
        let missed = if self.tiers.is_cold(pack) {
            missing(name)
        } else {
            match self.warm().size(name) {
                Err(error) if error.kind() == ErrorKind::NotFound => error,
                other => return other,
            }
        };
        match said(&*self.tiers.view()?) {
            Some(size) => Ok(size),
            None => said(&*self.tiers.reload()?).ok_or(missed),
        }
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        match kind {
            ObjectKind::DataPack => self.list_packs(visit, stranger),
            _ => self.warm().list(kind, visit, stranger),
        }
    }

    /// Wherever it is. Whoever deletes decides as for any pack; that it is gone from its tier is said by [`super::Repository::forget_places`].
    fn delete(&self, name: &ObjectName) -> Result<()> {
        let Some(pack) = movable(name) else { return self.warm().delete(name) };
        let view = self.tiers.view()?;
        let mut deleted = self.warm().delete(name);
        for (tier, _) in view.places(pack) {
            let Some(tier) = view.tiers.get(tier) else { continue };
            let here = self.tiers.place(tier).and_then(|place| self.looked(tier, &*place, place.delete(name)));
            match (&deleted, here) {
                (_, Ok(())) if deleted.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) => deleted = Ok(()),
                (_, Ok(())) => {}
                (_, Err(error)) if error.kind() == ErrorKind::NotFound => {}
                (_, Err(error)) => deleted = Err(error.context(format!("tier {}", tier.name))),
            }
        }
        deleted
    }

    /// In the warm place; who moves a pack sees to its copies.
    fn make_durable(&self, names: &[ObjectName]) -> Result<()> {
        self.warm().make_durable(names)
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Box<dyn Send>>> {
        self.warm().hold(name)
    }

    fn is_held(&self, name: &ObjectName) -> Result<Option<bool>> {
        self.warm().is_held(name)
    }

    fn clear_unfinished(&self, age: Duration) -> u64 {
        self.warm().clear_unfinished(age)
    }

    fn at_once(&self) -> usize {
        self.warm().at_once()
    }

    fn retaining(&self) -> Option<&dyn Retain> {
        Some(self)
    }

    fn describe(&self) -> String {
        self.warm().describe()
    }
}
