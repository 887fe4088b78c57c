//! What is counted at each place: bytes, requests, and when packs came and went. It is counted at the stores, and nothing that the engine says goes in.

use icecore::backend::testing::{Call, FreezingBackend, HookedBackend, Operation};
use icecore::backend::{Backend, BackendExt, MemoryBackend, ObjectInfo, ObjectKind, ObjectName};
use icecore::repository::TierOpener;
use icecore::tiers::TierBody;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that write or list, and that read. Deletions cost nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Those for packs of data.
    pub of_data: [u64; 2],
    /// Those for packs of lists.
    pub of_lists: [u64; 2],
    /// Those for all other objects, whose number depends on the number of backups alone.
    pub of_others: [u64; 2],
}

/// Packs that left a place before its minimum days, for another one too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Early {
    /// How many.
    pub packs: u64,
    /// Their bytes times the days that were left.
    pub byte_days: u128,
}

impl Early {
    fn add(&mut self, other: Self) {
        self.packs += other.packs;
        self.byte_days += other.byte_days;
    }
}

/// What was counted at a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Bytes of data packs at the end.
    pub data: u64,
    /// Bytes of all other objects at the end.
    pub others: u64,
    /// The same, summed up over all days.
    pub data_days: u128,
    /// Likewise.
    pub others_days: u128,
    /// Requests of all days.
    pub requests: Requests,
    /// What left it too early.
    pub early: Early,
    /// What would have left it too early, had it the minimum days of a cold place.
    pub early_if_cold: Early,
    /// Data packs that came.
    pub came: u64,
}

impl Counted {
    /// Bytes at the end.
    pub fn bytes(&self) -> u64 {
        self.data + self.others
    }
}

/// When packs came, and their sizes.
#[derive(Debug, Default)]
struct Packs(HashMap<ObjectName, (u32, u64)>);

impl Packs {
    /// Takes what is there on a day; tells how much of what is gone went early, and how many packs came.
    fn pass_day(&mut self, there: &[ObjectInfo], day: u32, minimum_days: u32) -> (Early, u64) {
        let (mut before, mut early, mut fresh) = (std::mem::take(&mut self.0), Early::default(), 0);
        for object in there {
            let came = before.remove(&object.name).map(|(came, _)| came);
            fresh += u64::from(came.is_none());
            self.0.insert(object.name, (came.unwrap_or(day), object.size));
        }
        for (came, size) in before.into_values() {
            let left = (came + minimum_days).saturating_sub(day);
            early.packs += u64::from(left > 0);
            early.byte_days += u128::from(size) * u128::from(left);
        }
        (early, fresh)
    }
}

/// A place in memory.
pub(super) struct Place {
    /// `None` where nothing freezes.
    pub(super) freezer: Option<Arc<FreezingBackend>>,
    store: Arc<dyn Backend>,
    /// The store as the engine sees it.
    pub(super) door: Arc<dyn Backend>,
    calls: Arc<[[AtomicU64; 2]; 3]>,
    /// Its own, and those that it might have.
    minimum_days: [u32; 2],
    packs: [Packs; 2],
    counted: Counted,
}

impl Place {
    /// `if_cold`: minimum days that it might have.
    pub(super) fn new(is_frozen: bool, minimum_days: u32, if_cold: u32) -> Self {
        let memory = Arc::new(MemoryBackend::new());
        let freezer = is_frozen.then(|| Arc::new(FreezingBackend::new(memory.clone())));
        let store: Arc<dyn Backend> = freezer.clone().map_or(memory as Arc<dyn Backend>, |freezer| freezer);
        let calls: Arc<[[AtomicU64; 2]; 3]> = Arc::default();
        let counter = Arc::clone(&calls);
        let door = HookedBackend::new(Arc::clone(&store), move |call: &Call| {
            let which = match call.operation {
                Operation::Finish | Operation::List => 0,
                Operation::GetRange | Operation::Size => 1,
                _ => return Ok(()),
            };
            let of = match call.kind {
                ObjectKind::DataPack => 0,
                kind if kind.is_pack() => 1,
                _ => 2,
            };
            counter[of][which].fetch_add(u64::from(call.is_done), Ordering::Relaxed);
            Ok(())
        });
        let (packs, counted) = Default::default();
        Self { freezer, store, door: Arc::new(door), calls, minimum_days: [minimum_days, if_cold], packs, counted }
    }

    /// Looks what is there at the end of a day.
    pub(super) fn pass_day(&mut self, day: u32) {
        let there = self.store.list_sorted(ObjectKind::DataPack).expect("packs are listed");
        let [own, if_cold] = &mut self.packs;
        let (early, came) = own.pass_day(&there, day, self.minimum_days[0]);
        self.counted.early.add(early);
        self.counted.early_if_cold.add(if_cold.pass_day(&there, day, self.minimum_days[1]).0);
        self.counted.came += came;
        self.counted.data = there.iter().map(|object| object.size).sum();
        let others = ObjectKind::ALL.into_iter().filter(|kind| *kind != ObjectKind::DataPack);
        let others = others.flat_map(|kind| self.store.list_sorted(kind).expect("objects are listed"));
        self.counted.others = others.map(|object| object.size).sum();
        self.counted.data_days += u128::from(self.counted.data);
        self.counted.others_days += u128::from(self.counted.others);
    }

    pub(super) fn counted(&self) -> Counted {
        let of = |kind: usize| [0, 1].map(|which| self.calls[kind][which].load(Ordering::Relaxed));
        let mut requests = Requests { of_data: of(0), of_lists: of(1), of_others: of(2) };
        if self.freezer.is_some() {
            // Each pack is written once more, into the class that freezes it.
            requests.of_data[0] += self.counted.came;
        }
        Counted { requests, ..self.counted.clone() }
    }
}

/// The places of the tiers, by their addresses.
#[derive(Debug)]
pub(super) struct Shelf(pub(super) HashMap<String, Arc<dyn Backend>>);

impl TierOpener for Shelf {
    fn open(&self, tier: &TierBody, address: &str) -> icecore::Result<Arc<dyn Backend>> {
        self.0.get(address).map(Arc::clone).ok_or_else(|| icecore::Error::new(icecore::ErrorKind::NotFound, tier.name.clone()))
    }

    fn create(&self, tier: &TierBody, address: &str) -> icecore::Result<Arc<dyn Backend>> {
        self.open(tier, address)
    }
}
