//! Where objects lie: in the warm place, or in which tier.

use super::TierBody;
use crate::backend::{ObjectKind, ObjectName};
use crate::error::Result;
use crate::gc::PackGroup;
use crate::id::PackId;
use crate::repository::Repository;
use std::collections::HashMap;
use std::sync::Arc;

/// Which tiers there are and what lies in them, by what placement says; no tier is asked.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TierMap {
    /// The tiers, the warmest first, each with the packs of which it is the coldest place.
    pub tiers: Vec<(Arc<TierBody>, PackGroup)>,
    of: HashMap<PackId, usize>,
}

impl TierMap {
    /// 0 for what lies in the warm place, otherwise one more than the tier's place in [`TierMap::tiers`].
    pub fn of(&self, name: &ObjectName) -> usize {
        let moved = (name.kind() == ObjectKind::DataPack).then(|| self.of.get(&PackId(name.id()))).flatten();
        moved.copied().unwrap_or(0)
    }
}

impl Repository {
    /// Where objects lie now.
    ///
    /// # Errors
    /// What the store says.
    pub fn tier_map(&self) -> Result<TierMap> {
        let view = self.tiers.reload()?;
        let mut tiers: Vec<_> = view.tiers.values().map(|tier| (Arc::clone(tier), PackGroup::default())).collect();
        tiers.sort_by(|(one, _), (other, _)| (one.rank, &one.name).cmp(&(other.rank, &other.name)));
        let mut of = HashMap::new();
        for pack in view.packs() {
            let Some((tier, placed)) = view.coldest(pack) else { continue };
            let Some(at) = tiers.iter().position(|(known, _)| known.tier == tier.tier) else { continue };
            tiers[at].1.add(placed.size.into());
            of.insert(pack, at + 1);
        }
        Ok(TierMap { tiers, of })
    }
}
