//! Thaw: what a restore needs from tiers, what that costs and how long it takes; and asking for it.
//!
//! Stores answer about one pack at a time, so many packs are asked about at once, and for. What was asked for is known to the store alone: whoever is
//! stopped looks again, and asks for the rest.

use super::{bytes_cost, requests_cost};
use crate::backend::{BackendExt, Frost, ObjectKind, ObjectName};
use crate::entry::{EntryKind, KeyKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::placement::{ThawClass, TierBody};
use crate::gc::PackGroup;
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::{ReadThrough, Repository, Snapshot, SnapshotChunks};
use crate::restore::{content_chunks, find_path, key_of};
use crate::runtime::ask_all;
use crate::tree::{KeyRange, TreeWalk};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Seconds between two looks whether something has thawed, at most; at first they are shorter.
const LOOK_AGAIN_S: u64 = 60;
/// A look is a request for each pack, which costs something: of many packs less often, so that there are no more requests than this in a second.
const LOOKS_PER_SECOND: u64 = 16;

/// What restoring something needs, by where it lies.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ColdPlan {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Data packs in the warm place.
    pub warm: PackGroup,
    /// Tiers in which packs lie that are needed, the warmest first.
    pub tiers: Vec<TierNeeds>,
}

/// What is needed of one tier.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TierNeeds {
    /// The tier.
    pub tier: Arc<TierBody>,
    /// Data packs and their sizes, in order of their names.
    pub packs: Vec<(PackId, u64)>,
    /// All of them.
    pub needed: PackGroup,
    /// Those that are frozen and were not asked for.
    pub frozen: PackGroup,
    /// Those that are on their way.
    pub thawing: PackGroup,
    /// Why the place cannot be reached now, which names the medium; nothing is known of how many are frozen then.
    pub absent: Option<String>,
    /// What asking for the frozen ones costs and how long it takes, by way to thaw.
    pub classes: Vec<ClassCost>,
    /// What reading all of them costs besides, in millionths of the unit of money.
    pub read_cost: u64,
}

/// What a way to thaw takes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassCost {
    /// As the store calls it.
    pub name: String,
    /// Seconds until all of it is there.
    pub seconds: u32,
    /// Millionths of the unit of money.
    pub cost: u64,
}

/// How to thaw.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThawOptions {
    /// The way, as the store calls it.
    pub class: String,
    /// So many days it can be read.
    pub days: u32,
    /// So many bytes are on their way at once at most, or one pack that is larger; `None`: all of it.
    pub batch_bytes: Option<u64>,
    /// Waits until what was asked for has thawed, then asks for the next batch, until all of it can be read. Where a medium is missing it does not wait.
    pub wait: bool,
}

impl ThawOptions {
    /// All of it at once, for a week; does not wait.
    pub fn new(class: impl Into<String>) -> Self {
        Self { class: class.into(), days: 7, batch_bytes: None, wait: false }
    }
}

/// What a thaw did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThawSummary {
    /// Packs that were asked for now.
    pub asked: PackGroup,
    /// Packs that are on their way, those just asked for included.
    pub thawing: PackGroup,
    /// Packs that can be read.
    pub ready: PackGroup,
    /// Packs that were not asked for, because others are on their way.
    pub left: PackGroup,
    /// What was asked for costs so much, in millionths of the unit of money.
    pub cost: u64,
    /// Media that have to be plugged in.
    pub absent: Vec<String>,
}

/// A pack that lies in a tier.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColdPack<'a> {
    pub(super) tier: &'a Arc<TierBody>,
    pub(super) pack: PackId,
    pub(super) size: u64,
}

impl TierNeeds {
    fn cold_packs(&self) -> impl Iterator<Item = ColdPack<'_>> {
        self.packs.iter().map(|(pack, size)| ColdPack { tier: &self.tier, pack: *pack, size: *size })
    }
}

impl ColdPlan {
    /// Whether all of it can be read now.
    pub fn is_ready(&self) -> bool {
        self.tiers.iter().all(|needs| needs.absent.is_none() && needs.frozen.packs == 0 && needs.thawing.packs == 0)
    }
}

impl Repository {
    /// Where what a restore of `paths` needs lies (nothing: of all), and what getting it costs. Thaws nothing, and asks frozen tiers only for the state of
    /// the packs that are needed.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role restore, [`ErrorKind::NotFound`] where the snapshot has no such path, [`ErrorKind::Damaged`] where the list
    /// of files is, otherwise what the store says.
    pub fn cold_plan(&self, snapshot: &Snapshot, paths: &[Vec<u8>], progress: &dyn Progress) -> Result<ColdPlan> {
        self.require(Roles::RESTORE, "planning a restore")?;
        progress.event(Event::Phase { name: "plan", bytes_total: None, items_total: Some(snapshot.header.entries) });
        let packs = self.packs_needed(snapshot, paths, progress)?;
        // One listing tells the sizes of all packs, and where they lie by now.
        let sizes: HashMap<_, _> =
            self.backend.list_sorted(ObjectKind::DataPack)?.into_iter().map(|object| (object.name, object.size)).collect();
        let view = self.tiers.view()?;
        let mut plan = ColdPlan { snapshot: snapshot.id, warm: PackGroup::default(), tiers: Vec::new() };
        // By rank and name.
        let mut of_tiers: BTreeMap<_, (_, Vec<(PackId, u64)>)> = BTreeMap::new();
        for pack in packs {
            match view.coldest(pack).filter(|_| self.tiers.is_cold(pack)) {
                None => plan.warm.add(sizes.get(&name_of(pack)).map_or_else(|| self.backend.size(&name_of(pack)), |size| Ok(*size))?),
                Some((tier, placed)) => {
                    let of_tier = of_tiers.entry((tier.rank, tier.name.clone())).or_insert_with(|| (Arc::clone(tier), Vec::new()));
                    of_tier.1.push((pack, placed.size.into()));
                }
            }
        }
        for (tier, packs) in of_tiers.into_values() {
            plan.tiers.push(self.needs(tier, packs, progress)?);
        }
        Ok(plan)
    }

    fn packs_needed(&self, snapshot: &Snapshot, paths: &[Vec<u8>], progress: &dyn Progress) -> Result<BTreeSet<PackId>> {
        let through = Arc::default();
        let reader = self.reader_through(&through)?;
        let mut chunks = SnapshotChunks::new(self, &reader, snapshot.header.refs_root);
        let mut lacking = None;
        self.walk_refs(&reader, &snapshot.header.refs_root, |used| {
            if !chunks.allow(&used)? {
                lacking = lacking.or(Some(used.frame));
            }
            Ok(())
        })?;
        let (mut packs, mut seen) = (BTreeSet::new(), HashSet::new());
        if let Some(frame) = lacking {
            // What is in a frozen pack of which nothing tells is known once it has thawed.
            packs = self.untold(&through)?;
            if packs.is_empty() {
                let message = format!("frame {frame}, which the snapshot needs, is in no pack; run check");
                return Err(Error::new(ErrorKind::Damaged, message));
            }
        }
        let key_kind = if snapshot.body.keys_are_paths { KeyKind::Paths } else { KeyKind::Objects };
        let all = [Vec::new()];
        for path in if paths.is_empty() { &all[..] } else { paths } {
            let key = find_path(&chunks, snapshot, &key_of(snapshot, path)?)?.key;
            let range = if key.is_empty() { KeyRange::all() } else { KeyRange::folder(&key) };
            for entry in TreeWalk::new(&chunks, &snapshot.body.tree_root, key_kind, range)? {
                if let EntryKind::File(content) = entry?.kind {
                    content_chunks(&chunks, &content, |id| {
                        let ordinal = match chunks.find(&id) {
                            Err(error) if error.kind() == ErrorKind::Damaged && lacking.is_some() => return Ok(()),
                            found => found?.ordinal,
                        };
                        if seen.insert(ordinal) {
                            match reader.place_with_bases(ordinal) {
                                Err(error) if error.kind() == ErrorKind::Damaged && lacking.is_some() => {}
                                places => places?.into_iter().for_each(|place| _ = packs.insert(place.pack)),
                            }
                        }
                        Ok(())
                    })?;
                }
                progress.event(Event::Advance { bytes: 0, items: 1 });
                if progress.is_cancelled() {
                    return Err(Error::new(ErrorKind::Cancelled, "stopped"));
                }
            }
        }
        Ok(packs)
    }

    /// Packs that lie frozen and whose tables nothing gives.
    fn untold(&self, through: &ReadThrough) -> Result<BTreeSet<PackId>> {
        let view = self.tiers.view()?;
        let is_frozen = |pack: &PackId| self.tiers.is_cold(*pack) && view.coldest(*pack).is_some_and(|(tier, _)| tier.is_frozen);
        let data_packs = through.passed_over().into_iter().filter(|(name, _)| name.kind() == ObjectKind::DataPack);
        Ok(data_packs.map(|(name, _)| PackId(name.id())).filter(is_frozen).collect())
    }

    fn needs(&self, tier: Arc<TierBody>, packs: Vec<(PackId, u64)>, progress: &dyn Progress) -> Result<TierNeeds> {
        let (needed, frozen, thawing) = Default::default();
        let mut needs = TierNeeds { tier, packs, needed, frozen, thawing, absent: None, classes: Vec::new(), read_cost: 0 };
        needs.packs.iter().for_each(|(_, size)| needs.needed.add(*size));
        match self.tiers.place(&needs.tier).and_then(|place| self.tiers.look(&needs.tier, &*place)) {
            Ok(()) => {
                let packs: Vec<_> = needs.cold_packs().collect();
                let (mut frozen, mut thawing) = (PackGroup::default(), PackGroup::default());
                for (pack, frost) in packs.iter().zip(self.frosts(&packs, progress)?) {
                    match frost {
                        Frost::Frozen => frozen.add(pack.size),
                        Frost::Thawing => thawing.add(pack.size),
                        Frost::Warm | Frost::Thawed(_) => {}
                    }
                }
                (needs.frozen, needs.thawing) = (frozen, thawing);
            }
            Err(error) if error.kind() == ErrorKind::Frozen => needs.absent = Some(error.to_string()),
            Err(error) => return Err(error),
        }
        if needs.frozen.packs > 0 {
            let cost =
                |class: &ThawClass| ClassCost { name: class.name.clone(), seconds: class.seconds, cost: cost_of(needs.frozen, class) };
            needs.classes = needs.tier.classes.iter().map(cost).collect();
        }
        let prices = &needs.tier.prices;
        needs.read_cost = bytes_cost(needs.needed.bytes, prices.retrieval).saturating_add(requests_cost(needs.needed.packs, prices.reads));
        Ok(needs)
    }

    /// Whether packs can be read, in their order.
    pub(super) fn frosts(&self, packs: &[ColdPack<'_>], progress: &dyn Progress) -> Result<Vec<Frost>> {
        let look = |pack: &ColdPack<'_>| {
            let place = self.tiers.place(pack.tier)?;
            let Some(thaw) = place.thawing() else { return Ok(Frost::Warm) };
            goes_on(progress)?;
            thaw.frost(&name_of(pack.pack))
        };
        ask_all(&self.runtime.executor, self.at_once(packs), packs, look)?.all()
    }

    /// As many as the stores bear in which they lie. A medium that is not there says so when it is asked.
    fn at_once(&self, packs: &[ColdPack<'_>]) -> usize {
        let of_tiers = packs.chunk_by(|one, other| one.tier.tier == other.tier.tier).filter_map(|packs| packs.first());
        of_tiers.filter_map(|pack| self.tiers.place(pack.tier).ok()).map(|place| place.at_once()).max().unwrap_or(1)
    }

    /// Asks for the frozen packs of a plan. Those that were asked for before are not asked for again, so an interrupted thaw goes on.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where a tier has no way to thaw that is called so (nothing was asked for then), [`ErrorKind::Cancelled`] when `progress` says
    /// so, otherwise what the store says. What was asked for by then is said, and on its way.
    pub fn thaw(&self, plan: &ColdPlan, options: &ThawOptions, progress: &dyn Progress) -> Result<ThawSummary> {
        plan.require_class(&options.class)?;
        let mut summary = ThawSummary::default();
        match self.thaw_all(plan, options, progress, &mut summary) {
            Ok(()) => Ok(summary),
            Err(error) if summary.asked.packs == 0 => Err(error),
            Err(error) => {
                let PackGroup { packs, bytes } = summary.asked;
                Err(error.context(format!(
                    "{packs} packs of {bytes} bytes were asked for and are on their way; the same again asks for the rest"
                )))
            }
        }
    }

    fn thaw_all(&self, plan: &ColdPlan, options: &ThawOptions, progress: &dyn Progress, summary: &mut ThawSummary) -> Result<()> {
        let bytes = plan.tiers.iter().map(|needs| needs.frozen.bytes).sum();
        progress.event(Event::Phase { name: "thaw", bytes_total: Some(bytes), items_total: None });
        summary.absent = plan.tiers.iter().filter_map(|needs| needs.absent.clone()).collect();
        let there: Vec<_> = plan.tiers.iter().filter(|needs| needs.absent.is_none()).flat_map(TierNeeds::cold_packs).collect();
        let (mut frozen, mut on_their_way) = (Vec::new(), Vec::new());
        for (pack, frost) in there.iter().zip(self.frosts(&there, progress)?) {
            match frost {
                Frost::Warm | Frost::Thawed(_) => summary.ready.add(pack.size),
                Frost::Thawing => on_their_way.push(*pack),
                Frost::Frozen => frozen.push(*pack),
            }
        }
        let mut left = &frozen[..];
        loop {
            let (batch, rest) = left.split_at(batch_length(left, &on_their_way, options.batch_bytes));
            (summary.thawing, summary.left) = (group(&on_their_way), group(left));
            let asked = self.ask_for(batch, options, progress, summary);
            on_their_way.extend(batch);
            asked?;
            left = rest;
            (summary.thawing, summary.left) = (group(&on_their_way), group(left));
            if !options.wait || !summary.absent.is_empty() {
                return Ok(());
            }
            self.wait(on_their_way.clone(), progress, 0)?;
            on_their_way.drain(..).for_each(|pack| summary.ready.add(pack.size));
            summary.thawing = PackGroup::default();
            if left.is_empty() {
                return Ok(());
            }
        }
    }

    /// Asks for a batch. The summary has what was asked for, also where it fails.
    fn ask_for(&self, batch: &[ColdPack<'_>], options: &ThawOptions, progress: &dyn Progress, summary: &mut ThawSummary) -> Result<()> {
        let ask = |pack: &ColdPack<'_>| {
            goes_on(progress)?;
            let place = self.tiers.place(pack.tier)?;
            if let Some(thaw) = place.thawing() {
                thaw.thaw(&name_of(pack.pack), &options.class, options.days)?;
            }
            progress.event(Event::Advance { bytes: pack.size, items: 1 });
            Ok(())
        };
        let answers = ask_all(&self.runtime.executor, self.at_once(batch), batch, ask)?;
        let asked: Vec<_> = batch.iter().zip(&answers.given).filter(|(_, answer)| answer.is_some()).map(|(pack, _)| *pack).collect();
        for of_tier in asked.chunk_by(|one, other| one.tier.tier == other.tier.tier) {
            let asked = group(of_tier);
            (summary.asked.packs, summary.asked.bytes) = (summary.asked.packs + asked.packs, summary.asked.bytes + asked.bytes);
            let class = of_tier.first().and_then(|pack| pack.tier.classes.iter().find(|known| known.name == options.class));
            summary.cost = summary.cost.saturating_add(class.map_or(0, |class| cost_of(asked, class)));
        }
        answers.all().map(drop)
    }

    /// Waits until nothing of a plan is frozen or on its way any more.
    ///
    /// # Errors
    /// [`ErrorKind::Frozen`] where something was not asked for, or a medium is not there; [`ErrorKind::Cancelled`] when `progress` says so; otherwise what the
    /// store says.
    pub fn wait_for_thaw(&self, plan: &ColdPlan, progress: &dyn Progress) -> Result<()> {
        self.wait(plan.tiers.iter().flat_map(TierNeeds::cold_packs).collect(), progress, 0)
    }

    /// As [`Repository::wait_for_thaw`], until less is on its way than now.
    ///
    /// # Errors
    /// As [`Repository::wait_for_thaw`].
    pub fn wait_for_some(&self, plan: &ColdPlan, progress: &dyn Progress) -> Result<()> {
        let thawing: u64 = plan.tiers.iter().map(|needs| needs.thawing.packs).sum();
        let left_max = usize::try_from(thawing).unwrap_or(usize::MAX).saturating_sub(1);
        self.wait(plan.tiers.iter().flat_map(TierNeeds::cold_packs).collect(), progress, left_max)
    }

    /// Until at most so many packs are on their way.
    fn wait(&self, mut waiting: Vec<ColdPack<'_>>, progress: &dyn Progress, left_max: usize) -> Result<()> {
        progress.event(Event::Phase { name: "wait", bytes_total: Some(group(&waiting).bytes), items_total: None });
        let mut pause = 1;
        loop {
            let mut left = Vec::new();
            for (pack, frost) in waiting.iter().zip(self.frosts(&waiting, progress)?) {
                match frost {
                    Frost::Thawing => left.push(*pack),
                    Frost::Frozen => {
                        let (name, tier) = (name_of(pack.pack), &pack.tier.name);
                        let message = format!("{name} in tier {tier} was not asked for, or froze again; ask for it");
                        return Err(Error::new(ErrorKind::Frozen, message));
                    }
                    Frost::Warm | Frost::Thawed(_) => progress.event(Event::Advance { bytes: pack.size, items: 1 }),
                }
            }
            if left.len() <= left_max {
                return Ok(());
            }
            waiting = left;
            // Short sleeps, so that whoever wants to stop need not wait.
            for _ in 0..pause {
                if progress.is_cancelled() {
                    return Err(Error::new(ErrorKind::Cancelled, "stopped waiting; what was asked for is on its way all the same"));
                }
                self.runtime.clock.sleep_ns(1_000_000_000);
            }
            pause = LOOK_AGAIN_S.max(waiting.len() as u64 / LOOKS_PER_SECOND).min(pause * 2);
        }
    }
}

impl ColdPlan {
    fn require_class(&self, class: &str) -> Result<()> {
        for needs in self.tiers.iter().filter(|needs| needs.frozen.packs > 0 && !needs.tier.classes.is_empty()) {
            if !needs.tier.classes.iter().any(|known| known.name == class) {
                let known: Vec<_> = needs.tier.classes.iter().map(|class| class.name.as_str()).collect();
                let message = format!("tier {} does not thaw by `{class}`; it knows {}", needs.tier.name, known.join(", "));
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        }
        Ok(())
    }
}

/// How many of the packs that are left go on their way beside the others.
fn batch_length(left: &[ColdPack<'_>], on_their_way: &[ColdPack<'_>], batch_bytes: Option<u64>) -> usize {
    let Some(max) = batch_bytes else { return left.len() };
    let mut bytes = group(on_their_way).bytes;
    let fits = left.iter().take_while(|pack| {
        bytes = bytes.saturating_add(pack.size);
        bytes <= max
    });
    // One that is too large for any batch goes alone.
    fits.count().max(usize::from(on_their_way.is_empty() && !left.is_empty()))
}

fn group(packs: &[ColdPack<'_>]) -> PackGroup {
    let mut group = PackGroup::default();
    packs.iter().for_each(|pack| group.add(pack.size));
    group
}

fn cost_of(packs: PackGroup, class: &ThawClass) -> u64 {
    bytes_cost(packs.bytes, class.bytes_price).saturating_add(requests_cost(packs.packs, class.requests_price))
}

fn goes_on(progress: &dyn Progress) -> Result<()> {
    match progress.is_cancelled() {
        true => Err(Error::new(ErrorKind::Cancelled, "stopped")),
        false => Ok(()),
    }
}

fn name_of(pack: PackId) -> ObjectName {
    ObjectName::pack(ObjectKind::DataPack, pack)
}
