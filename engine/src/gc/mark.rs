//! Mark: which frames are needed, and in which packs they stand.
//!
//! Frames are found in two indexes: *standing* holds the packs that are listed and that no epoch condemns, *doomed* those that are condemned
//! and still there. A needed frame that stands only in doomed packs has to be rescued by a copy. Of a frame that stands in several packs one copy
//! is marked, always the same: the others are dead weight. But only what is the same in all that contents tables say of it is a copy: whoever may back
//! up can store anything under the identity of a frame that its own machine once sealed, and what it was before must not go for that. Of frames that
//! differ under one identity all are marked, and none is re-made.
//!
//! A frame that stands in no standing pack may have been re-made: it is needed no more where every chunk that is used of it leads to a frame that
//! stands, and that frame is needed instead (`RelocationFound`).
//!
//! Memory: a bit for each frame, a few words for each pack, 16 bytes for each refs node; [`Parts`] where frames may be re-made; all relocations.

use super::epochs::{Epochs, Pack};
use super::parts::Parts;
use super::plan::Remake;
use super::reframe;
use crate::backend::{ObjectInfo, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::refs::{RefsNode, decode_refs_node};
use crate::format::snapshot::SnapshotHeader;
use crate::format::{FrameRecord, FrameUse, Roles, Usage};
use crate::id::{ChunkId, DomainId, FrameClass, FrameId, PackId};
use crate::progress::Progress;
use crate::repository::index::{Fingerprint, FrameOrdinal, FramePlace, LookupIndex};
use crate::repository::{ChunkKind, ChunkUse, FrameReader, Relocations, Repository, domains};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What of a pack is needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) frames: u64,
    /// Sealed bytes of these frames.
    pub(crate) bytes: u64,
}

/// Copies of some frames in one index.
#[derive(Debug, Default)]
struct Found {
    ordinals: Vec<Option<FrameOrdinal>>,
    /// What else has the identity of one of them, with its position.
    others: Vec<(usize, FrameOrdinal)>,
}

impl Found {
    fn look_up(&mut self, reader: &FrameReader, frames: &[FrameId]) -> Result<()> {
        reader.index().copies_of(frames, &mut self.ordinals, &mut self.others)?;
        self.others.sort_unstable_by_key(|(at, ordinal)| (*at, ordinal.get()));
        Ok(())
    }

    /// The frame at this position that counts.
    fn first(&self, at: usize) -> Option<FrameOrdinal> {
        self.ordinals.get(at).copied().flatten()
    }

    /// What else has its identity.
    fn others(&self, at: usize) -> &[(usize, FrameOrdinal)] {
        let start = self.others.partition_point(|(of, _)| *of < at);
        let count = self.others[start..].iter().take_while(|(of, _)| *of == at).count();
        &self.others[start..start + count]
    }
}

/// What a snapshot lacks: a frame that is in no pack, or a refs node that cannot be read.
pub(crate) type Lack = Error;

/// Frames that are needed.
#[derive(Debug)]
pub(crate) struct Mark<'a> {
    repository: &'a Repository,
    progress: &'a dyn Progress,
    standing: FrameReader,
    doomed: FrameReader,
    has_doomed: bool,
    /// One bit for each ordinal of `standing`.
    bits: Vec<u64>,
    live: HashMap<Pack, Live>,
    /// Of the leaf that is being marked; kept for their memory.
    found: [Found; 2],
    /// Under whose identity more than one thing is stored.
    ambiguous: HashSet<FrameId>,
    /// Needed frames that stand only in doomed packs, by the pack where they are to be read.
    rescue: HashMap<Pack, HashSet<FrameId>>,
    /// Refs nodes below which nothing is lacking, by the first half of their ids.
    seen: HashSet<[u8; 16]>,
    /// Used chunks of standing frames; `None` where no frame is re-made.
    parts: Option<Parts>,
    /// Whose frames are re-made.
    domain: DomainId,
    relocations: Relocations,
    /// Frames of which relocations speak and that snapshots need, at least on the way.
    relocated: HashSet<FrameId>,
}

impl<'a> Mark<'a> {
    /// Nothing is marked yet. Packs are listed now.
    pub(crate) fn new(repository: &'a Repository, epochs: &Epochs, progress: &'a dyn Progress) -> Result<Self> {
        let index = repository.open_index()?;
        let relocations = repository.read_durable_relocations()?;
        let doomed = take_condemned(repository, &index, epochs)?;
        let parts = repository.roles().contain(Roles::RESTORE).then(Parts::default);
        Ok(Self { relocations, parts, ..Self::of_indexes(repository, index, doomed, progress) })
    }

    fn of_indexes(repository: &'a Repository, standing: Arc<LookupIndex>, doomed: LookupIndex, progress: &'a dyn Progress) -> Self {
        Self {
            repository,
            progress,
            standing: FrameReader::new(repository, standing),
            has_doomed: !doomed.packs().is_empty(),
            doomed: FrameReader::new(repository, Arc::new(doomed)),
            bits: Vec::new(),
            live: HashMap::new(),
            found: Default::default(),
            ambiguous: HashSet::new(),
            rescue: HashMap::new(),
            seen: HashSet::new(),
            parts: None,
            domain: repository.credential.author.certificate.domain(),
            relocations: Relocations::default(),
            relocated: HashSet::new(),
        }
    }

    /// Nothing is marked yet; frames stand in the packs of `index`, and none is re-made.
    #[cfg(feature = "testing")]
    pub(crate) fn of_index(repository: &'a Repository, index: Arc<LookupIndex>, progress: &'a dyn Progress) -> Result<Self> {
        let doomed = LookupIndex::open(None, repository.id, Arc::new(repository.contents_reader()))?;
        Ok(Self::of_indexes(repository, index, doomed, progress))
    }

    /// Marks what the items of refs leaves name; false where one of them is in no pack.
    #[cfg(feature = "testing")]
    pub(crate) fn mark_uses(&mut self, uses: &[FrameUse]) -> Result<bool> {
        Ok(self.mark_leaf(uses)?.is_none())
    }

    /// Lists packs once more, after the snapshots: what these need may have been written since packs were listed first.
    pub(crate) fn take_late(&mut self, epochs: &Epochs) -> Result<()> {
        let index = self.standing.shared_index();
        let known: HashSet<Pack> = index.packs().into_iter().chain(self.doomed.index().packs()).collect();
        let mut late: Vec<_> = self.repository.list_packs()?.into_iter().map(|object| object.name).collect();
        // One that is condemned comes back where a mover or a scrub that heals was slower than the sweep: it goes again, and nothing stands in it.
        let pack = |name: &ObjectName| (name.kind(), PackId(name.id()));
        late.retain(|name| !known.contains(&pack(name)) && !epochs.condemned.contains_key(&pack(name)));
        // `OthersDurable`: for a copy in one of them that in another pack is dead weight.
        self.repository.backend.make_durable(&late)?;
        late.iter().try_for_each(|name| add_pack(self.repository, &index, &pack(name)))
    }

    /// Lists packs and epochs' packs again, and reads relocations: only [`Mark::mark`] and [`Mark::rescue`] mean anything afterwards. What was found
    /// below nodes that were seen stands outside the packs that are condemned by now: it was copied or re-made before they were.
    pub(super) fn look_again(&mut self, epochs: &Epochs) -> Result<()> {
        let index = self.standing.shared_index();
        self.repository.sync_index(&index)?;
        self.relocations = self.repository.read_durable_relocations()?;
        let doomed = take_condemned(self.repository, &index, epochs)?;
        self.standing = FrameReader::new(self.repository, index);
        self.has_doomed = !doomed.packs().is_empty();
        self.doomed = FrameReader::new(self.repository, Arc::new(doomed));
        self.parts = None;
        self.bits.clear();
        self.live.clear();
        self.rescue.clear();
        Ok(())
    }

    /// Marks everything that a snapshot needs; gives what it lacks.
    pub(crate) fn mark(&mut self, header: &SnapshotHeader) -> Result<Option<Lack>> {
        let mut lack = None;
        let mut open: Vec<(ChunkId, Option<u8>)> = vec![(header.refs_root, None)];
        while let Some((id, level)) = open.pop() {
            if !self.seen.insert(short(&id)) {
                continue;
            }
            if self.progress.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "garbage collection was stopped; the next run goes on"));
            }
            let node = match self.load(&id)? {
                Ok(bytes) => decode_refs_node(&bytes, level).map_err(|error| error.context(format!("refs node {id}"))),
                Err(error) => Err(error),
            };
            match node {
                Ok(RefsNode::Inner(level, children)) => open.extend(children.iter().map(|child| (child.id, Some(level - 1)))),
                Ok(RefsNode::Leaf(uses)) => lack = lack.or(self.mark_leaf(&uses)?),
                Err(error) => lack = lack.or(Some(error)),
            }
        }
        if lack.is_some() {
            // Other snapshots may share the nodes below which something is lacking, and must hear of it.
            self.seen.clear();
        }
        Ok(lack)
    }

    /// The doomed packs in which a withdrawn snapshot needs something that stands nowhere else.
    pub(super) fn doomed_packs_of(&mut self, header: &SnapshotHeader) -> Result<HashSet<Pack>> {
        let mut packs = HashSet::new();
        if self.doomed.index().packs().is_empty() {
            return Ok(packs);
        }
        self.for_each_use(header, |used| {
            let mut frames = vec![used.frame];
            if self.standing.chunk_count(used.frame)?.is_none() && self.doomed.chunk_count(used.frame)?.is_none() {
                frames.extend(self.relocations.follow(used, |frame| self.count_anywhere(frame))?.uses.iter().map(|used| used.frame));
            }
            for frame in frames {
                if self.standing.index().ordinal_of(frame)?.is_none()
                    && let Some(ordinal) = self.doomed.index().ordinal_of(frame)?
                {
                    let place = self.doomed.place(ordinal)?;
                    packs.insert((place.kind, place.pack));
                }
            }
            Ok(())
        })?;
        Ok(packs)
    }

    /// Calls `visit` for every frame that a withdrawn snapshot needs, those of its refs too. What it lacks anyway is left out.
    fn for_each_use(&self, header: &SnapshotHeader, mut visit: impl FnMut(&FrameUse) -> Result<()>) -> Result<()> {
        let mut open: Vec<(ChunkId, Option<u8>)> = vec![(header.refs_root, None)];
        while let Some((id, level)) = open.pop() {
            let Ok((frame, bytes)) = self.find(&id)? else { continue };
            visit(&FrameUse { frame, usage: Usage::Whole })?;
            match decode_refs_node(&bytes, level) {
                Ok(RefsNode::Inner(level, children)) => open.extend(children.iter().map(|child| (child.id, Some(level - 1)))),
                Ok(RefsNode::Leaf(used)) => used.iter().try_for_each(&mut visit)?,
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Relocations stay that a withdrawn snapshot needs: somebody may be reading it.
    pub(super) fn keep_relocations_of(&mut self, header: &SnapshotHeader) -> Result<()> {
        if self.relocations.is_empty() {
            return Ok(());
        }
        let mut relocated = std::mem::take(&mut self.relocated);
        let walked = self.for_each_use(header, |used| {
            self.relocations.spread(used.frame, &mut relocated);
            Ok(())
        });
        self.relocated = relocated;
        walked
    }

    /// Relocations that snapshots which were marked need.
    pub(crate) fn relocations_needed(&self) -> Result<Vec<ObjectName>> {
        let over = self.relocations.objects_over(|frame| Ok(!self.relocated.contains(&frame)))?;
        Ok(self.relocations.objects().iter().filter(|name| !over.contains(name)).copied().collect())
    }

    /// Whether a snapshot needs any of these frames, by itself or in the place of others.
    pub(crate) fn needs_any(&self, header: &SnapshotHeader, frames: &HashSet<FrameId>) -> Result<bool> {
        let mut needs = false;
        self.for_each_use(header, |used| {
            let mut instead = HashSet::new();
            self.relocations.spread(used.frame, &mut instead);
            needs |= frames.contains(&used.frame) || !instead.is_disjoint(frames);
            Ok(())
        })?;
        Ok(needs)
    }

    /// Takes these packs for gone.
    pub(crate) fn distrust(&mut self, packs: &HashSet<Pack>) {
        self.standing.index().remove_packs(packs);
    }

    /// Whether a frame stands in a pack that nobody condemned.
    pub(crate) fn stands(&self, frame: FrameId) -> Result<bool> {
        Ok(self.standing.index().ordinal_of(frame)?.is_some())
    }

    /// Calls `visit` for every frame that is needed, where it stands; those that stand only in condemned packs come last.
    pub(crate) fn for_each_needed(&self, mut visit: impl FnMut(&FramePlace) -> Result<()>) -> Result<()> {
        for (at, word) in self.bits.iter().enumerate() {
            for bit in (0..u64::BITS).filter(|bit| word >> bit & 1 == 1) {
                visit(&self.standing.place(FrameOrdinal::of(at as u32 * u64::BITS + bit))?)?;
            }
        }
        for frame in self.rescue.values().flatten() {
            if let Some(ordinal) = self.doomed.index().ordinal_of(*frame)? {
                visit(&self.doomed.place(ordinal)?)?;
            }
        }
        Ok(())
    }

    /// How many frames that are needed stand in condemned packs only.
    pub(crate) fn doomed_frames(&self) -> usize {
        self.rescue.values().map(HashSet::len).sum()
    }

    /// Relocations that nobody needs: their frames are in none of the packs that were `listed`, and no snapshot that was marked needs them.
    pub(super) fn relocations_over(&self, listed: &[ObjectInfo]) -> Result<Vec<ObjectName>> {
        let known: HashSet<Pack> = self.packs().into_iter().chain(self.doomed.index().packs()).collect();
        if !listed.iter().all(|object| known.contains(&(object.name.kind(), PackId(object.name.id())))) {
            // What is in a pack that cannot be read is not known.
            return Ok(Vec::new());
        }
        self.relocations.objects_over(|frame| Ok(!self.relocated.contains(&frame) && self.count_anywhere(frame)?.is_none()))
    }

    /// Calls `visit` for every chunk that relocations map of frames that are needed: the frame, how many chunks it has, which of them, and where it leads.
    pub(super) fn for_each_relocation(&self, visit: impl FnMut(FrameId, u16, u16, ChunkUse)) {
        self.relocations.for_each(&self.relocated, visit);
    }

    fn count_anywhere(&self, frame: FrameId) -> Result<Option<u32>> {
        Ok(self.standing.chunk_count(frame)?.or(self.doomed.chunk_count(frame)?))
    }

    /// Reads a refs node and marks the frame where it stands.
    fn load(&mut self, id: &ChunkId) -> Result<std::result::Result<Vec<u8>, Lack>> {
        match self.find(id)? {
            Ok((frame, bytes)) => {
                self.mark_use(&FrameUse { frame, usage: Usage::Whole })?;
                Ok(Ok(bytes))
            }
            Err(lack) => Ok(Err(lack)),
        }
    }

    /// Reads a refs node, from a pack that is not condemned where it can be, and says in which frame it stands.
    fn find(&self, id: &ChunkId) -> Result<std::result::Result<(FrameId, Vec<u8>), Lack>> {
        let mut problem = None;
        for reader in [&self.standing, &self.doomed] {
            let places = reader.index().places_of(id)?;
            problem = problem.or(places.unread.into_iter().next().map(|(_, error)| error));
            for place in places.found.into_iter().filter(|place| place.frame.class() == Some(FrameClass::Refs)) {
                let read = reader.read_cached(place.ordinal);
                match read.and_then(|frame| reader.verified(&frame, ChunkKind::Refs, id, place.position).map(<[u8]>::to_vec)) {
                    Ok(bytes) => return Ok(Ok((place.frame, bytes))),
                    Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => problem = problem.or(Some(error)),
                    Err(error) => return Err(error),
                }
            }
        }
        let missing = || Error::new(ErrorKind::Damaged, format!("refs node {id} is in no pack"));
        Ok(Err(problem.unwrap_or_else(missing).with_kind(ErrorKind::Damaged)))
    }

    /// Marks what a leaf of refs names; gives the first frame of which anything is in no pack.
    fn mark_leaf(&mut self, uses: &[FrameUse]) -> Result<Option<Lack>> {
        let mut found = std::mem::take(&mut self.found);
        let frames: Vec<FrameId> = uses.iter().map(|used| used.frame).collect();
        self.look_up(&frames, &mut found)?;
        let mut lack = None;
        for (at, used) in uses.iter().enumerate() {
            if !self.mark_use_at(used, at, &found)? {
                let message = format!("frame {}, which is needed, is in no pack", used.frame);
                lack = lack.or(Some(Error::new(ErrorKind::Damaged, message)));
            }
        }
        self.found = found;
        Ok(lack)
    }

    /// Looks frames up in standing packs, and in doomed ones.
    fn look_up(&self, frames: &[FrameId], [standing, doomed]: &mut [Found; 2]) -> Result<()> {
        standing.look_up(&self.standing, frames)?;
        if self.has_doomed { doomed.look_up(&self.doomed, frames) } else { Ok(()) }
    }

    /// Marks a frame, or what is used in its place; false where any of it is in no pack.
    fn mark_use(&mut self, used: &FrameUse) -> Result<bool> {
        let mut found = Default::default();
        self.look_up(&[used.frame], &mut found)?;
        self.mark_use_at(used, 0, &found)
    }

    /// Marks the frame that was found at this position, or what is used in its place.
    fn mark_use_at(&mut self, used: &FrameUse, at: usize, found: &[Found; 2]) -> Result<bool> {
        self.relocations.spread(used.frame, &mut self.relocated);
        if self.mark_found(used, at, found)? {
            return Ok(true);
        }
        let standing = self.relocations.follow(used, |frame| self.standing.chunk_count(frame))?;
        if standing.is_complete {
            return standing.uses.iter().try_fold(true, |all, used| Ok(all & self.mark_standing(used)?));
        }
        if self.mark_doomed(used.frame, Vec::new(), at, &found[1])? {
            return Ok(true);
        }
        // A relocation may lead to a pack that was condemned by another collector since.
        let anywhere = self.relocations.follow(used, |frame| self.count_anywhere(frame))?;
        for used in &anywhere.uses {
            let mut found: [Found; 2] = Default::default();
            self.look_up(&[used.frame], &mut found)?;
            if !self.mark_found(used, 0, &found)? {
                self.mark_doomed(used.frame, Vec::new(), 0, &found[1])?;
            }
        }
        Ok(anywhere.is_complete)
    }

    /// Marks a frame in packs that nobody condemned; false where it is in none.
    fn mark_standing(&mut self, used: &FrameUse) -> Result<bool> {
        let mut found = Default::default();
        self.look_up(&[used.frame], &mut found)?;
        self.mark_found(used, 0, &found)
    }

    /// Marks what was found standing, and of all else under the same identity what is not the same.
    fn mark_found(&mut self, used: &FrameUse, at: usize, [standing, doomed]: &[Found; 2]) -> Result<bool> {
        let Some(first) = standing.first(at) else { return Ok(false) };
        self.mark_ordinal(first, &used.usage)?;
        let others = standing.others(at);
        if others.is_empty() && doomed.first(at).is_none() {
            return Ok(true);
        }
        let mut kept = Vec::from_iter(fingerprint(&self.standing, first, used.frame)?);
        for (_, other) in others {
            let own = fingerprint(&self.standing, *other, used.frame)?;
            if own.is_none_or(|own| !kept.contains(&own)) {
                self.mark_ordinal(*other, &used.usage)?;
                self.ambiguous.insert(used.frame);
                kept.extend(own);
            }
        }
        self.mark_doomed(used.frame, kept, at, doomed)?;
        Ok(true)
    }

    fn mark_ordinal(&mut self, ordinal: FrameOrdinal, usage: &Usage) -> Result<()> {
        let (word, bit) = (ordinal.get() as usize / 64, ordinal.get() % 64);
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        let is_first = self.bits[word] >> bit & 1 == 0;
        if is_first {
            self.bits[word] |= 1 << bit;
            let place = self.standing.place(ordinal)?;
            let live = self.live.entry((place.kind, place.pack)).or_default();
            live.frames += 1;
            live.bytes += u64::from(place.sealed_length);
        }
        if let Some(parts) = &mut self.parts {
            parts.add(ordinal, usage, is_first);
        }
        Ok(())
    }

    /// Marks what was found in condemned packs and is the same as nothing that is `kept`; false where nothing was found.
    fn mark_doomed(&mut self, frame: FrameId, mut kept: Vec<Fingerprint>, at: usize, doomed: &Found) -> Result<bool> {
        let Some(first) = doomed.first(at) else { return Ok(false) };
        let others = doomed.others(at).iter().map(|(_, other)| *other);
        for ordinal in [first].into_iter().chain(others) {
            let own = fingerprint(&self.doomed, ordinal, frame)?;
            if own.is_none_or(|own| !kept.contains(&own)) {
                let place = self.doomed.place(ordinal)?;
                self.rescue.entry((place.kind, place.pack)).or_default().insert(frame);
                kept.extend(own);
            }
        }
        Ok(true)
    }

    /// The frames of each standing pack that are to be re-made.
    pub(super) fn remakes(&self) -> Result<HashMap<Pack, Remake>> {
        let mut remakes: HashMap<Pack, Remake> = HashMap::new();
        for ordinal in self.parts.iter().flat_map(Parts::frames) {
            let place = self.standing.place(ordinal)?;
            if let Some(remake) = self.remake(&place) {
                remakes.entry((place.kind, place.pack)).or_default().add(&remake);
            }
        }
        Ok(remakes)
    }

    fn remake(&self, place: &FramePlace) -> Option<Remake> {
        // A frame with bases is small; without them it would not be. And which of several is meant is not known.
        if place.has_bases || self.ambiguous.contains(&place.id) {
            return None;
        }
        // A frame of another dedup domain would change its domain.
        let used = self
            .used_part(place.ordinal)
            .filter(|used| place.domain == self.domain && used.len() == (place.chunk_count as usize).div_ceil(8))?;
        reframe::remake(place, used)
    }

    fn used_part(&self, ordinal: FrameOrdinal) -> Option<&[u8]> {
        self.parts.as_ref()?.get(ordinal)
    }

    /// The chunks that are used of a frame that is to be re-made.
    pub(super) fn remade(&self, place: &FramePlace) -> Option<&[u8]> {
        self.remake(place).and_then(|_| self.used_part(place.ordinal))
    }

    /// Reads frames of standing packs.
    pub(super) fn reader(&self) -> &FrameReader {
        &self.standing
    }

    /// What of a standing pack is needed.
    pub(crate) fn live(&self, pack: &Pack) -> Live {
        self.live.get(pack).copied().unwrap_or_default()
    }

    /// What is needed of all standing packs together.
    pub(crate) fn live_total(&self) -> Live {
        self.live.values().fold(Live::default(), |sum, live| Live { frames: sum.frames + live.frames, bytes: sum.bytes + live.bytes })
    }

    /// Whether what stands at a place is the same as a frame of another pack.
    pub(super) fn is_same(&self, place: &FramePlace, frame: &FrameRecord) -> Result<bool> {
        Ok(fingerprint(&self.standing, place.ordinal, place.id)? == Some(Fingerprint::of(frame)))
    }

    /// Where the marked copy of a frame stands; `None` where the frame is not needed, or stands only in doomed packs.
    pub(super) fn place_of(&self, frame: FrameId) -> Result<Option<FramePlace>> {
        let Some(ordinal) = self.standing.index().ordinal_of(frame)? else { return Ok(None) };
        if self.is_marked(ordinal) { self.standing.place(ordinal).map(Some) } else { Ok(None) }
    }

    /// Whether of several frames of one identity the one in this pack is marked.
    pub(super) fn also_marks(&self, frame: FrameId, pack: Pack) -> Result<bool> {
        if !self.ambiguous.contains(&frame) {
            return Ok(false);
        }
        for ordinal in self.standing.index().all_of(frame)? {
            let place = self.standing.place(ordinal)?;
            if (place.kind, place.pack) == pack && self.is_marked(ordinal) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_marked(&self, ordinal: FrameOrdinal) -> bool {
        self.bits.get(ordinal.get() as usize / 64).is_some_and(|word| word >> (ordinal.get() % 64) & 1 == 1)
    }

    /// Standing packs whose contents are known.
    pub(super) fn packs(&self) -> HashSet<Pack> {
        self.standing.index().packs().into_iter().collect()
    }

    /// Bytes of the frames to rescue.
    pub(super) fn rescue_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for frame in self.rescue.values().flatten() {
            if let Some(ordinal) = self.doomed.index().ordinal_of(*frame)? {
                bytes += u64::from(self.doomed.place(ordinal)?.sealed_length);
            }
        }
        Ok(bytes)
    }

    /// Frames to rescue, by the doomed pack where they are to be read.
    pub(super) fn rescue(&self) -> &HashMap<Pack, HashSet<FrameId>> {
        &self.rescue
    }
}

/// What a pack says of a frame; `None` where it cannot say it now.
fn fingerprint(reader: &FrameReader, ordinal: FrameOrdinal, frame: FrameId) -> Result<Option<Fingerprint>> {
    match reader.index().fingerprint_of(ordinal, frame) {
        Ok(fingerprint) => Ok(Some(fingerprint)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged | ErrorKind::Unsupported | ErrorKind::Frozen) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Takes condemned packs out of the index and gives another one with what is left of them. Damaged ones are in neither.
fn take_condemned(repository: &Repository, index: &LookupIndex, epochs: &Epochs) -> Result<LookupIndex> {
    let doomed = LookupIndex::open(None, repository.id, Arc::new(repository.contents_reader()))?;
    let listed: Vec<Pack> = index.packs().into_iter().filter(|pack| epochs.condemned.contains_key(pack)).collect();
    for pack in &listed {
        add_pack(repository, &doomed, pack)?;
    }
    index.remove_packs(&listed.into_iter().collect::<HashSet<(_, PackId)>>());
    Ok(doomed)
}

/// Adds a pack by its own table, unless it is gone or damaged.
fn add_pack(repository: &Repository, index: &LookupIndex, (kind, pack): &Pack) -> Result<()> {
    let name = ObjectName::pack(*kind, *pack);
    let read = repository.backend.size(&name).and_then(|size| repository.read_pack_tail(&name, size));
    match read {
        Ok(tail) => {
            let domains = domains(&tail.tables.sessions);
            let domain = |session| domains.get(&session).copied().unwrap_or(super::NO_DOMAIN);
            index.add_pack(*kind, *pack, &tail.tables.contents, domain)
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged | ErrorKind::Unsupported) => Ok(()),
        Err(error) => Err(error),
    }
}

fn short(id: &ChunkId) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&id.0[..16]);
    short
}
