//! Following relocations: from chunks of frames that were re-made to where they stand now (`format-spec/relocations.md`).
//!
//! All of them are held in memory, 8 bytes for each mapped chunk. They are read only where a frame stands in no pack, and always after packs were
//! listed: whoever removed the pack had published its relocations before.

use super::writer::ChunkUse;
use super::{FrameReader, ReadThrough, RefsCollector, Repository};
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{ErrorKind, Result};
use crate::format::relocations::{MovedChunk, RelocationsBody};
use crate::format::{FrameUse, Usage};
use crate::id::{FrameId, SessionId};
use crate::limits::RELOCATION_STEPS_MAX;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What all relocations objects say.
#[derive(Debug, Default)]
pub(crate) struct Relocations {
    objects: Vec<ObjectName>,
    /// What is said of a frame, in the order of the names of the objects.
    frames: HashMap<FrameId, Vec<Moved>>,
}

/// What is used in the place of a frame that was re-made.
#[derive(Debug, Default)]
pub(crate) struct Instead {
    /// Of frames that are there, ascending.
    pub(crate) uses: Vec<FrameUse>,
    /// Every chunk was found that is used of the frame.
    pub(crate) is_complete: bool,
}

/// What one object says of a frame.
#[derive(Debug)]
struct Moved {
    /// Which of the objects.
    object: u32,
    /// Whose frames hold the chunks now.
    session: SessionId,
    /// How many chunks the frame has.
    chunks: u16,
    /// Ascending by position.
    moved: Vec<MovedChunk>,
}

impl Repository {
    /// Reads all relocations. Objects that break a rule say nothing; check reports them. Those that cannot be read while the store answers say
    /// nothing to who reads `through` damage.
    pub(crate) fn read_relocations(&self, through: Option<&ReadThrough>) -> Result<Relocations> {
        self.read_relocations_among(through, |_| true)
    }

    /// As [`Repository::read_relocations`], for whoever lets something go, or publishes, because of them: all that they say is durable (`OthersDurable`)
    /// and was seen after that. Those that come meanwhile say nothing.
    pub(crate) fn read_durable_relocations(&self) -> Result<Relocations> {
        let listed: HashSet<_> = self.backend.list_sorted(ObjectKind::Relocation)?.into_iter().map(|object| object.name).collect();
        if listed.is_empty() {
            return Ok(Relocations::default());
        }
        self.backend.make_durable(&listed.iter().copied().collect::<Vec<_>>())?;
        self.read_relocations_among(None, |name| listed.contains(name))
    }

    fn read_relocations_among(&self, through: Option<&ReadThrough>, counts: impl Fn(&ObjectName) -> bool) -> Result<Relocations> {
        let mut relocations = Relocations::default();
        self.for_each_sealed(ObjectKind::Relocation, |name, read| {
            if !counts(&name) {
                return Ok(());
            }
            match read.and_then(|unsealed| RelocationsBody::decode(&unsealed.plaintext)) {
                Ok(body) => relocations.take(name, body),
                Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => {}
                Err(error) => match through.filter(|_| self.answers_after(&error)) {
                    Some(through) => through.pass_over(&name, &error),
                    None => return Err(error),
                },
            }
            Ok(())
        })?;
        Ok(relocations)
    }
}

impl Moved {
    /// Where a chunk of `frame` stands now, as this object says.
    fn target(&self, frame: FrameId, position: u32) -> Option<ChunkUse> {
        let at = self.moved.binary_search_by_key(&position, |chunk| u32::from(chunk.position)).ok()?;
        let chunk = self.moved.get(at)?;
        Some(self.place(frame, chunk))
    }

    fn place(&self, frame: FrameId, chunk: &MovedChunk) -> ChunkUse {
        let class = frame.number >> 30 << 30;
        ChunkUse { frame: FrameId { session: self.session, number: class | chunk.counter }, position: u32::from(chunk.new_position) }
    }
}

impl Relocations {
    fn take(&mut self, name: ObjectName, body: RelocationsBody) {
        let object = self.objects.len() as u32;
        self.objects.push(name);
        for frame in body.frames {
            let moved = Moved { object, session: body.session, chunks: frame.chunks, moved: frame.moved };
            self.frames.entry(frame.frame).or_default().push(moved);
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What is used in the place of a frame that is not there, of frames of which `count` says how many chunks they have (`None`: not there).
    pub(crate) fn follow(&self, used: &FrameUse, count: impl Fn(FrameId) -> Result<Option<u32>>) -> Result<Instead> {
        if used.usage == Usage::Base {
            // Its bytes are needed as they lie in it, which no other frame has (`BaseStands`).
            return Ok(Instead::default());
        }
        let Some((first, said)) = self.frames.get(&used.frame).and_then(|said| Some((said.first()?, said))) else {
            return Ok(Instead::default());
        };
        let chunks = if let Usage::Part { chunks, .. } = used.usage { chunks } else { first.chunks };
        let mut counts: HashMap<FrameId, Option<u32>> = HashMap::with_capacity(said.len());
        let mut count = |frame| match counts.get(&frame) {
            Some(known) => Ok(*known),
            None => {
                let found = count(frame)?;
                counts.insert(frame, found);
                Ok(found)
            }
        };
        let (mut places, mut is_complete) = (RefsCollector::default(), true);
        for position in (0..chunks).filter(|position| used.usage.contains(*position)) {
            match self.home_of(used.frame, position, chunks, &mut count)? {
                Some(place) => places.mark(place.frame, place.position),
                None => is_complete = false,
            }
        }
        let uses = places.into_uses(|frame| Ok(counts.get(&frame).copied().flatten().unwrap_or(0)))?;
        Ok(Instead { uses, is_complete })
    }

    /// Where a chunk leads to a frame that stands.
    fn home_of(
        &self,
        frame: FrameId,
        position: u16,
        chunks: u16,
        count: &mut dyn FnMut(FrameId) -> Result<Option<u32>>,
    ) -> Result<Option<ChunkUse>> {
        let mut places = vec![ChunkUse { frame, position: u32::from(position) }];
        let mut seen = HashSet::new();
        for step in 0..RELOCATION_STEPS_MAX {
            let mut next = Vec::new();
            for place in places {
                let said = self.frames.get(&place.frame).into_iter().flatten().filter(|moved| step > 0 || moved.chunks == chunks);
                for target in said.filter_map(|moved| moved.target(place.frame, place.position)) {
                    if count(target.frame)?.is_some_and(|count| target.position < count) {
                        return Ok(Some(target));
                    }
                    if seen.insert((target.frame, target.position)) {
                        next.push(target);
                    }
                }
            }
            places = next;
        }
        Ok(None)
    }

    /// Adds a frame of which anything is said, and all such frames to which it leads, to `frames`.
    pub(crate) fn spread(&self, frame: FrameId, frames: &mut HashSet<FrameId>) {
        if self.frames.is_empty() {
            return;
        }
        let mut open = vec![frame];
        while let Some(frame) = open.pop() {
            let Some(said) = self.frames.get(&frame) else { continue };
            if frames.insert(frame) {
                let targets = said.iter().flat_map(|moved| moved.moved.iter().map(move |chunk| moved.place(frame, chunk).frame));
                let mut targets: Vec<_> = targets.collect();
                targets.dedup();
                open.append(&mut targets);
            }
        }
    }

    /// All frames in which chunks of this one stand, or stood on the way.
    pub(crate) fn lead_to(&self, frame: FrameId) -> BTreeSet<FrameId> {
        let mut relocated = HashSet::new();
        self.spread(frame, &mut relocated);
        let said = relocated.iter().flat_map(|from| self.frames.get(from).into_iter().flatten().map(move |moved| (*from, moved)));
        said.flat_map(|(from, moved)| moved.moved.iter().map(move |chunk| moved.place(from, chunk).frame)).collect()
    }

    /// The objects.
    pub(crate) fn objects(&self) -> &[ObjectName] {
        &self.objects
    }

    /// Objects all of whose frames `is_over`.
    pub(crate) fn objects_over(&self, mut is_over: impl FnMut(FrameId) -> Result<bool>) -> Result<Vec<ObjectName>> {
        let mut stays = vec![false; self.objects.len()];
        for (frame, said) in &self.frames {
            if said.iter().any(|moved| !stays[moved.object as usize]) && !is_over(*frame)? {
                said.iter().for_each(|moved| stays[moved.object as usize] = true);
            }
        }
        Ok(self.objects.iter().zip(stays).filter(|(_, stays)| !stays).map(|(name, _)| *name).collect())
    }

    /// Calls `visit` for every mapped chunk of frames that are `wanted`: the frame, how many chunks it has, which of them, and where it leads.
    pub(crate) fn for_each(&self, wanted: &HashSet<FrameId>, mut visit: impl FnMut(FrameId, u16, u16, ChunkUse)) {
        for (frame, said) in self.frames.iter().filter(|(frame, _)| wanted.contains(frame)) {
            for moved in said {
                moved.moved.iter().for_each(|chunk| visit(*frame, moved.chunks, chunk.position, moved.place(*frame, chunk)));
            }
        }
    }
}

impl FrameReader {
    /// What is used in the place of a frame that stands in no pack.
    pub(crate) fn instead_of(&self, repository: &Repository, used: &FrameUse) -> Result<Instead> {
        self.relocations(repository)?.follow(used, |frame| self.chunk_count(frame))
    }

    /// How many chunks a frame has; `None` where it stands in no pack.
    pub(crate) fn chunk_count(&self, frame: FrameId) -> Result<Option<u32>> {
        let place = self.index().ordinal_of(frame)?.map(|ordinal| self.index().frame(ordinal)).transpose()?.flatten();
        Ok(place.map(|place| place.chunk_count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::relocations::RelocatedFrame;
    use crate::id::RelocationsId;
    use crate::runtime::Timestamp;

    fn frame(session: u8, counter: u32) -> FrameId {
        FrameId { session: SessionId([session; 16]), number: counter }
    }

    /// What one object says of one frame: the frame, the session of the new frames, the chunk count, the mapped chunks.
    type Said<'a> = (FrameId, u8, u16, &'a [(u16, u32, u16)]);

    fn relocations(said: &[Said<'_>]) -> Relocations {
        let mut relocations = Relocations::default();
        for (at, (frame, session, chunks, moved)) in said.iter().enumerate() {
            let moved = moved.iter().map(|(position, counter, new_position)| MovedChunk {
                position: *position,
                counter: *counter,
                new_position: *new_position,
            });
            let frames = vec![RelocatedFrame { frame: *frame, chunks: *chunks, moved: moved.collect() }];
            let body = RelocationsBody { session: SessionId([*session; 16]), now: Timestamp::default(), frames };
            relocations.take(ObjectName::relocations(RelocationsId([at as u8; 16])), body);
        }
        relocations
    }

    fn part(frame: FrameId, bits: &[bool]) -> FrameUse {
        let mut bitmap = vec![0; bits.len().div_ceil(8)];
        bits.iter().enumerate().filter(|(_, bit)| **bit).for_each(|(at, _)| bitmap[at / 8] |= 1 << (at % 8));
        FrameUse { frame, usage: Usage::Part { chunks: bits.len() as u16, bitmap } }
    }

    fn whole(frame: FrameId) -> FrameUse {
        FrameUse { frame, usage: Usage::Whole }
    }

    /// Where the chunks lead; `None` where any leads nowhere.
    fn follow(relocations: &Relocations, used: &FrameUse, standing: &[(FrameId, u32)]) -> Option<Vec<(FrameId, u32)>> {
        let count = |frame| Ok(standing.iter().find(|(known, _)| *known == frame).map(|(_, count)| *count));
        let instead = relocations.follow(used, count).unwrap();
        let positions = |used: &FrameUse| {
            let count = count(used.frame).unwrap().unwrap();
            (0..count).filter(|at| used.usage.contains(*at as u16)).map(|at| (used.frame, at)).collect::<Vec<_>>()
        };
        instead.is_complete.then(|| instead.uses.iter().flat_map(positions).collect())
    }

    #[test]
    fn chunks_are_followed_one_by_one_and_over_several_steps() {
        let said = relocations(&[(frame(1, 0), 2, 3, &[(0, 0, 0), (2, 1, 5)]), (frame(2, 1), 3, 6, &[(5, 7, 1)])]);
        let standing = [(frame(2, 0), 1), (frame(3, 7), 2)];
        assert_eq!(follow(&said, &part(frame(1, 0), &[true, false, true]), &standing), Some(vec![(frame(2, 0), 0), (frame(3, 7), 1)]));
        assert_eq!(follow(&said, &part(frame(1, 0), &[true, false, false]), &standing), Some(vec![(frame(2, 0), 0)]));
        // The second chunk was not used when the frame was re-made.
        assert_eq!(follow(&said, &part(frame(1, 0), &[false, true, false]), &standing), None);
        assert_eq!(follow(&said, &whole(frame(1, 0)), &standing), None);
        // Another frame, another chunk count, a frame that is gone, a position that is not there.
        assert_eq!(follow(&said, &whole(frame(1, 1)), &standing), None);
        assert_eq!(follow(&said, &part(frame(1, 0), &[true, false, true, false]), &standing), None);
        assert_eq!(follow(&said, &part(frame(1, 0), &[true, false, true]), &standing[..1]), None);
        assert_eq!(follow(&said, &part(frame(1, 0), &[false, false, true]), &[(frame(3, 7), 1)]), None);
    }

    #[test]
    fn nothing_stands_for_a_base() {
        let said = relocations(&[(frame(1, 0), 2, 1, &[(0, 0, 0)])]);
        let used = |usage| follow(&said, &FrameUse { frame: frame(1, 0), usage }, &[(frame(2, 0), 1)]);
        assert_eq!(used(Usage::Whole), Some(vec![(frame(2, 0), 0)]));
        assert_eq!(used(Usage::Base), None);
    }

    #[test]
    fn of_two_ways_the_one_that_leads_home_counts() {
        let said = relocations(&[(frame(1, 0), 2, 1, &[(0, 0, 0)]), (frame(1, 0), 3, 1, &[(0, 4, 9)])]);
        assert_eq!(follow(&said, &whole(frame(1, 0)), &[(frame(3, 4), 10)]), Some(vec![(frame(3, 4), 9)]));
        assert_eq!(follow(&said, &whole(frame(1, 0)), &[(frame(2, 0), 1)]), Some(vec![(frame(2, 0), 0)]));
    }

    #[test]
    fn circles_and_long_ways_come_to_an_end() {
        let circle = relocations(&[(frame(1, 0), 2, 1, &[(0, 0, 0)]), (frame(2, 0), 1, 1, &[(0, 0, 0)])]);
        assert_eq!(follow(&circle, &whole(frame(1, 0)), &[(frame(3, 0), 1)]), None);
        let mut frames = HashSet::new();
        circle.spread(frame(1, 0), &mut frames);
        assert_eq!(frames.len(), 2);
        let steps: Vec<_> = (1..=RELOCATION_STEPS_MAX as u8 + 1).map(|step| (frame(step, 0), step + 1, 1, &[(0, 0, 0)][..])).collect();
        let long = relocations(&steps);
        let last = RELOCATION_STEPS_MAX as u8 + 1;
        assert!(follow(&long, &whole(frame(1, 0)), &[(frame(last, 0), 1)]).is_some());
        assert_eq!(follow(&long, &whole(frame(1, 0)), &[(frame(last + 1, 0), 1)]), None);
    }

    #[test]
    fn an_object_stays_while_any_of_its_frames_is_needed() {
        let said = relocations(&[(frame(1, 0), 2, 1, &[(0, 0, 0)]), (frame(1, 1), 2, 1, &[(0, 0, 1)]), (frame(1, 1), 3, 1, &[(0, 0, 0)])]);
        let over = said.objects_over(|frame| Ok(frame.number == 1)).unwrap();
        assert_eq!(over, [1, 2].map(|at| ObjectName::relocations(RelocationsId([at; 16]))));
        assert_eq!(said.objects_over(|_| Ok(false)).unwrap(), []);
    }
}
