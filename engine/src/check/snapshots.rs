//! Snapshots: header, body, and that every frame of their refs is where it can be read.

use super::Keyed;
use super::clear::of_kind;
use super::companions::Sessions;
use super::damage::Lost;
use super::findings::FindingId;
use super::reading::Listing;
use super::tree::Memo;
use super::uses::{Named, Used};
use crate::backend::{BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::entry::ChunkRef;
use crate::error::{Error, ErrorKind, Result};
use crate::format::recipe::RecipeChild;
use crate::format::snapshot::{SnapshotBody, SnapshotHeader};
use crate::format::{FrameUse, Roles, Usage};
use crate::id::{ChunkId, FrameClass, FrameId, PackId, SnapshotId};
use crate::progress::Event;
use crate::repository::index::{ChunkPlace, FramePlace};
use crate::repository::{Instead, SnapshotState};
use crate::tree::{NodeKind, NodeSource, RefsWalk};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often packs are listed again for one snapshot. What moves again and again is not waited for.
const LOOKS_MAX: u32 = 64;
/// After so many looks in a row in which nothing had come or gone, each snapshot has one: much may be missing, and nobody moves anything.
const IDLE_LOOKS_MAX: u32 = 16;

/// How many frames refs name, or why that cannot be known and which node could not be had.
type Walked = std::result::Result<u64, (Error, Option<ChunkId>)>;
/// A node and where it stands, or the finding that explains why it cannot be had.
type Loaded = std::result::Result<(Found, Arc<[u8]>), FindingId>;

/// Where a chunk stands in frames that the refs name: the frame's number in the index, and which of its chunks it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Named((u32, u32)),
    /// In such a frame, but not among the chunks of it that the refs name.
    Unnamed,
    Nowhere,
}

/// The check of one snapshot.
pub(super) struct SnapshotCheck<'a> {
    pub(super) keyed: &'a Keyed<'a>,
    sessions: &'a Sessions,
    pub(super) id: SnapshotId,
    refs_root: ChunkId,
    /// The frames that its refs name and that are in a readable pack.
    pub(super) allowed: Named,
    /// What is missing and nobody knows why.
    missing: Option<FindingId>,
    /// What is used and not named.
    unnamed: Option<FindingId>,
    /// Lengths of the chunks of a frame: the last one that was asked about.
    lengths: (Option<u32>, Vec<u32>),
    /// How often packs were listed again.
    looks: u32,
    /// The snapshot was deleted meanwhile: nothing that it misses counts.
    is_gone: bool,
    /// Recipe nodes of the file at hand that are not remembered otherwise; one may stand very often in a recipe.
    pub(super) forgotten: HashMap<ChunkId, Option<RecipeChild>>,
}

impl Keyed<'_> {
    /// Checks all snapshots and what they need.
    pub(super) fn check_snapshots(&self, listing: &Listing, sessions: &Sessions) -> Result<()> {
        let snapshots = of_kind(listing, ObjectKind::Snapshot);
        self.reading.progress.event(Event::Phase { name: "check snapshots", bytes_total: None, items_total: Some(snapshots.len() as u64) });
        let is_withdrawn = |object: &&ObjectInfo| sessions.snapshots.withdrawn.contains(&SnapshotId(object.name.id()));
        let withdrawn = snapshots.iter().filter(is_withdrawn).count();
        if withdrawn > 0 {
            let message =
                format!("withdrawn snapshots that are still there and do not count: {withdrawn}; garbage collection removes them");
            self.reading.findings.notice(message);
        }
        let mut memo = Memo::default();
        for object in snapshots {
            self.reading.go_on()?;
            self.reading.counts.objects.fetch_add(1, Ordering::Relaxed);
            self.reading.counts.snapshots.fetch_add(1, Ordering::Relaxed);
            self.reading.counts.bytes_read.fetch_add(object.size, Ordering::Relaxed);
            self.check_snapshot(object, sessions, &mut memo)?;
            // After all that was missed (I13): whatever was swept, a marker had been there before.
            let id = SnapshotId(object.name.id());
            if self.reading.findings.accuse(id) {
                match self.is_over(id, sessions) {
                    Ok(true) => self.reading.findings.acquit(id),
                    Ok(false) => {}
                    Err(error) => self.suspend(&object.name, id, error),
                }
            }
            self.reading.progress.event(Event::Advance { bytes: 0, items: 1 });
        }
        Ok(())
    }

    /// Whether the snapshot was deleted or withdrawn since everything was listed.
    fn is_over(&self, id: SnapshotId, sessions: &Sessions) -> Result<bool> {
        Ok(!self.reading.is_there(&ObjectName::snapshot(id))? || sessions.is_withdrawn_meanwhile(self.repository, id)?)
    }

    /// It cannot be asked whether the snapshot was deleted or withdrawn meanwhile, so what it misses may be as it ought to be, or damage.
    fn suspend(&self, name: &ObjectName, id: SnapshotId, error: Error) {
        let findings = &self.reading.findings;
        findings.acquit(id);
        let error = error
            .context(format!("{name}: something that it needs was missed, and whether it was forgotten cannot be asked now; run it again"));
        findings.blame(findings.add(*name, &error), id);
    }

    fn check_snapshot(&self, object: &ObjectInfo, sessions: &Sessions, memo: &mut Memo) -> Result<()> {
        let id = SnapshotId(object.name.id());
        let Some((header, body)) = self.read_header_and_body(object, id, sessions)? else { return Ok(()) };
        if sessions.snapshots.withdrawn.contains(&id) {
            // Until garbage collection removes it.
            return Ok(());
        }
        let closed = sessions.snapshots.closed.get(&header.record.id()).is_some_and(|closed| closed.snapshots.contains(&id));
        let state = if closed { SnapshotState::Closed } else { SnapshotState::Suspect };
        let mut check = SnapshotCheck {
            keyed: self,
            sessions,
            id,
            allowed: Named::default(),
            missing: None,
            unnamed: None,
            refs_root: header.refs_root,
            lengths: (None, Vec::new()),
            looks: 0,
            is_gone: false,
            forgotten: HashMap::new(),
        };
        if let Some(body) = &body {
            self.reading.findings.introduce(id, &body.series);
        }
        if state == SnapshotState::Suspect {
            self.survey.see_suspect(id);
            self.reading.findings.notice(format!("{} is suspect: its session is not closed", object.name));
            if sessions.snapshots.unclosed.contains(&id) {
                let message = "was seen to count before: somebody or something removed the end of its session from the store";
                self.reading.findings.notice(format!("{} {message}", object.name));
            } else {
                let has_all = check.has_all_frames(&header);
                match self.reading.judge(&object.name, has_all)? {
                    Some(true) => {}
                    Some(false) => {
                        self.reading.findings.notice(format!("{} does not count: frames that it needs are not there", object.name));
                        return Ok(());
                    }
                    None => return Ok(()),
                }
            }
        }
        if check.check_refs(&header)?
            && let Some(body) = body
        {
            check.check_tree(&header, &body, memo)?;
        }
        Ok(())
    }

    /// Header and, with the role restore, body; what is wrong with them becomes a finding.
    fn read_header_and_body(
        &self,
        object: &ObjectInfo,
        id: SnapshotId,
        sessions: &Sessions,
    ) -> Result<Option<(SnapshotHeader, Option<SnapshotBody>)>> {
        let read = match self.repository.roles().contain(Roles::RESTORE) {
            true => self.repository.read_snapshot(id, &sessions.snapshots).map(|snapshot| (snapshot.header, Some(snapshot.body))),
            false => match sessions.snapshots.header(id) {
                Some(header) => Ok((header.clone(), None)),
                None => self.repository.read_snapshot_header(id).map(|header| (header, None)),
            },
        };
        match read {
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported) => {
                if !self.reading.is_gone(&object.name) {
                    self.reading.findings.blame(self.reading.findings.add(object.name, &error), id);
                }
                Ok(None)
            }
            read => self.reading.judge(&object.name, read),
        }
    }

    /// Lists packs again and takes in those that are new: gc may have moved what is missing. Those that were condemned are taken in, too, for what nothing
    /// else has, and read as scrub does: repair condemns what is damaged. Whether anything had come or gone: then something may move still.
    fn refresh(&self) -> Result<bool> {
        let index = self.reader.index();
        let known: HashSet<_> = index.packs().into_iter().collect();
        let (mut listed, mut has_changed) = (HashSet::new(), false);
        for kind in ObjectKind::ALL.into_iter().filter(|kind| kind.is_pack()) {
            for object in self.reading.backend.list_sorted(kind)? {
                let pack = (kind, PackId(object.name.id()));
                listed.insert(pack);
                if known.contains(&pack) || self.damage.knows(pack) {
                    continue;
                }
                let tail = self.check_pack(&object)?;
                // Also where it is gone by now: then the list is an old one.
                has_changed |= tail.is_some() || (!self.damage.knows(pack) && self.reading.is_gone(&object.name));
                if let Some(tail) = tail.filter(|_| self.condemned.contains(&pack) && !self.repository.tiers.is_cold(pack.1)) {
                    self.scrub_pack(&object, &tail)?;
                }
            }
        }
        let gone: HashSet<_> = known.difference(&listed).copied().collect();
        has_changed |= !gone.is_empty();
        index.remove_packs(&gone);
        self.reader.forget_relocations();
        Ok(has_changed)
    }
}

/// Refs nodes, remembering the one that could not be had.
#[derive(Debug)]
struct RefsSource<'a> {
    keyed: &'a Keyed<'a>,
    failed: Mutex<Option<ChunkId>>,
}

impl NodeSource for RefsSource<'_> {
    fn load(&self, kind: NodeKind, id: &ChunkId) -> Result<Arc<[u8]>> {
        let loaded = self.keyed.reader.chunk(kind.into(), id, |_| Ok(true));
        loaded.map(Arc::from).inspect_err(|_| *self.failed.lock() = Some(*id))
    }
}

impl SnapshotCheck<'_> {
    fn walk_refs(&self, visit: &mut dyn FnMut(FrameUse) -> Result<()>) -> Result<Walked> {
        let source = RefsSource { keyed: self.keyed, failed: Mutex::default() };
        let mut frames = 0;
        let walk = match RefsWalk::new(&source, &self.refs_root) {
            Ok(walk) => walk,
            Err(error) => return Ok(Err((error, *source.failed.lock()))),
        };
        for used in walk {
            match used {
                Ok(used) => visit(used)?,
                Err(error) => return Ok(Err((error, *source.failed.lock()))),
            }
            frames += 1;
        }
        Ok(Ok(frames))
    }

    /// What is used in the place of a frame that is in no pack.
    fn instead_of(&self, used: &FrameUse) -> Result<Instead> {
        self.keyed.reader.instead_of(self.keyed.repository, used)
    }

    /// Whether readers show a suspect snapshot: frames that stand in condemned packs alone do not count.
    fn has_all_frames(&mut self, header: &SnapshotHeader) -> Result<bool> {
        let repository = self.keyed.repository;
        if !repository.condemned()?.1.is_empty() {
            return match repository.snapshot_chunks(&repository.standing_reader()?, header) {
                Ok(_) => Ok(true),
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => Ok(false),
                Err(error) => Err(error),
            };
        }
        let index = self.keyed.reader.index();
        let mut is_complete = true;
        let walked = self.walk_refs(&mut |used| {
            is_complete &= index.ordinal_of(used.frame)?.is_some() || self.instead_of(&used)?.is_complete;
            Ok(())
        })?;
        match walked {
            Ok(_) => Ok(is_complete),
            Err((error, _)) if error.kind() == ErrorKind::Unavailable => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Walks the refs; every frame that they name must be in a pack that can be read. False where the walk came to no end.
    fn check_refs(&mut self, header: &SnapshotHeader) -> Result<bool> {
        let mut absent = Vec::new();
        let mut walked = self.allow_frames(&mut absent)?;
        while (walked.is_err() || !absent.is_empty()) && self.look_again()? {
            absent.clear();
            walked = self.allow_frames(&mut absent)?;
        }
        if self.is_gone {
            // That it misses something is as it ought to be, but not that something cannot be read.
            if let Err((error, Some(node))) = &walked
                && error.kind() == ErrorKind::Unavailable
            {
                let _ = self.explain(node, FrameClass::Refs, Some(error))?;
            }
            return Ok(false);
        }
        let findings = &self.keyed.reading.findings;
        let name = ObjectName::snapshot(self.id);
        match walked {
            Ok(frames) if frames != header.frames => {
                let message = format!("{name}: its header tells of {} frames, its refs of {frames}", header.frames);
                findings.blame(findings.say(Some(name), None, message), self.id);
            }
            Ok(_) => {}
            Err((error, node)) => {
                let finding = match node {
                    Some(node) => self.explain(&node, FrameClass::Refs, Some(&error))?,
                    None => findings.add(name, &error.context(name)),
                };
                // Without its refs nothing of it can be restored.
                findings.blame_entries(finding, self.id, b"", header.entries);
                return Ok(false);
            }
        }
        for frame in absent {
            let finding = match self.keyed.damage.of_frame(frame)? {
                Some(finding) => Some(finding),
                None => self.damage_of_moved(frame)?,
            };
            let finding = finding.unwrap_or_else(|| self.missing());
            findings.blame(finding, self.id);
        }
        Ok(true)
    }

    /// Which finding says that a frame is lost in which chunks of this one stand now, as relocations say.
    fn damage_of_moved(&self, frame: FrameId) -> Result<Option<FindingId>> {
        for frame in self.keyed.reader.relocations(self.keyed.repository)?.lead_to(frame) {
            if let Some(finding) = self.keyed.damage.of_frame(frame)? {
                return Ok(Some(finding));
            }
        }
        Ok(None)
    }

    fn allow_frames(&mut self, absent: &mut Vec<FrameId>) -> Result<Walked> {
        /// So many frames are enough to find out which packs are missing.
        const ABSENT_MAX: usize = 100_000;
        let index = self.keyed.reader.index();
        let (mut allowed, mut wrong) = (Named::default(), None);
        let (mut bases, mut wanted) = (HashSet::new(), HashSet::new());
        let walked = self.walk_refs(&mut |used| {
            if used.usage == Usage::Base {
                bases.insert(used.frame);
            }
            match index.ordinal_of(used.frame)?.map(|ordinal| index.frame(ordinal)).transpose()?.flatten() {
                Some(place) => {
                    allowed.insert(place.ordinal.get(), &used.usage);
                    if let Usage::Part { chunks, .. } = used.usage
                        && u32::from(chunks) != place.chunk_count
                    {
                        wrong = Some(used.frame);
                    }
                    if place.has_bases {
                        wanted.extend(index.bases_of(place.ordinal, place.id)?.into_iter().map(|base| base.frame));
                    }
                    self.blame_damage_of(&place);
                }
                None => {
                    let instead = self.instead_of(&used)?;
                    for used in &instead.uses {
                        if let Some(place) = index.ordinal_of(used.frame)?.map(|ordinal| index.frame(ordinal)).transpose()?.flatten() {
                            allowed.insert(place.ordinal.get(), &used.usage);
                            self.blame_damage_of(&place);
                        }
                    }
                    if !instead.is_complete && absent.len() < ABSENT_MAX {
                        absent.push(used.frame);
                    }
                }
            }
            Ok(())
        })?;
        self.allowed = allowed;
        if let Some(frame) = wanted.into_iter().filter(|frame| !bases.contains(frame)).min() {
            let name = ObjectName::snapshot(self.id);
            let message =
                format!("{name}: its refs do not name frame {frame} as a base, against which a frame is compressed that it needs");
            let findings = &self.keyed.reading.findings;
            findings.blame(findings.say(Some(name), Some("REFS-8"), message), self.id);
        }
        if let Some(frame) = wrong {
            let name = ObjectName::snapshot(self.id);
            let message = format!("{name}: its refs say that frame {frame} has another number of chunks than its pack says");
            self.keyed.reading.findings.blame(self.keyed.reading.findings.say(Some(name), None, message), self.id);
        }
        Ok(walked)
    }

    /// The snapshot suffers from what is known to be wrong with a frame.
    fn blame_damage_of(&self, place: &FramePlace) {
        let finding = if self.keyed.damage.is_empty() { None } else { self.keyed.damage.of_place(place) };
        finding.into_iter().for_each(|finding| self.keyed.reading.findings.blame(finding, self.id));
    }

    /// After a problem: is the snapshot still there, and did what it needs move? True where it pays to try again: after the first look of a snapshot, and
    /// after each that finds something that has come or gone.
    pub(super) fn look_again(&mut self) -> Result<bool> {
        let idle_looks = &self.keyed.idle_looks;
        let is_first = self.looks == 0;
        if !is_first && (self.looks >= LOOKS_MAX || idle_looks.load(Ordering::Relaxed) >= IDLE_LOOKS_MAX) {
            return Ok(false);
        }
        self.looks += 1;
        self.is_gone = self.keyed.is_over(self.id, self.sessions).unwrap_or(false);
        let has_changed = self.keyed.refresh()?;
        idle_looks.store(if has_changed { 0 } else { idle_looks.load(Ordering::Relaxed) + 1 }, Ordering::Relaxed);
        Ok(!self.is_gone && (is_first || has_changed))
    }

    /// The same for a chunk: frames that moved have other numbers now.
    fn look_again_for_chunk(&mut self) -> Result<bool> {
        let is_worth_it = self.look_again()?;
        if is_worth_it {
            let _ = self.allow_frames(&mut Vec::new())?;
        }
        Ok(is_worth_it)
    }

    /// The finding for what is missing without a reason that is known. Where keys changed since the repository was opened, it may be in packs that were
    /// sealed with those.
    fn missing(&mut self) -> FindingId {
        let (name, keyed) = (ObjectName::snapshot(self.id), self.keyed);
        let say = || {
            let message = format!("{name}: frames or chunks that it needs are in no pack that can be read and that its refs name");
            match keyed.repository.has_newer_config() {
                false => keyed.reading.findings.say(Some(name), None, message),
                true => {
                    let message =
                        format!("{message}; admin changed the keys of the repository while this ran, so it may be there: run it again");
                    keyed.reading.findings.add(name, &Error::new(ErrorKind::Unavailable, message))
                }
            }
        };
        *self.missing.get_or_insert_with(say)
    }

    /// The finding that explains why a chunk could not be had; `error` is what reading it said.
    pub(super) fn explain(&mut self, id: &ChunkId, class: FrameClass, error: Option<&Error>) -> Result<FindingId> {
        let keyed = self.keyed;
        if let Some(place) = self.place_of(id, class, |place| place.has_bases)?
            && let Lost::Yes(finding) = keyed.damage.of_bases(keyed.reader.index(), &place)?
        {
            return Ok(finding.unwrap_or_else(|| self.missing()));
        }
        if let Some(finding) = keyed.damage.of_chunk(keyed.reader.index(), id, class)? {
            return Ok(finding);
        }
        // A frame that turned out to be damaged only now.
        if let Some(error) = error
            && let Some(place) = self.place_of(id, class, |_| true)?
            && let Some(place) = keyed.reader.index().frame(place.ordinal)?
        {
            let name = ObjectName::pack(place.kind, place.pack);
            // What is gone, or stood on what is gone, matters to those who need it.
            let findings = &keyed.reading.findings;
            let add = || match error.kind() == ErrorKind::NotFound || keyed.reading.is_gone(&name) {
                true => findings.say_if_needed(name, error.to_string()),
                false => findings.add(name, error),
            };
            return Ok(keyed.damage.lose_frame((place.kind, place.pack), place.id, add));
        }
        Ok(self.missing())
    }

    /// A place of the chunk in a frame that the refs name (any frame, for refs nodes) and that `fits`.
    fn place_of(&self, id: &ChunkId, class: FrameClass, fits: impl Fn(&ChunkPlace) -> bool) -> Result<Option<ChunkPlace>> {
        let index = self.keyed.reader.index();
        for place in index.places_of(id)?.found.into_iter().filter(|place| place.frame.class() == Some(class)) {
            if (class == FrameClass::Refs || self.allows(&place)?.is_some()) && fits(&place) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// The number of the place's frame where the refs name it. Of a frame that was copied each place has the same.
    pub(super) fn allows(&self, place: &ChunkPlace) -> Result<Option<u32>> {
        let ordinal = self.keyed.reader.index().ordinal_of(place.frame)?;
        Ok(ordinal.map(|ordinal| ordinal.get()).filter(|ordinal| self.allowed.contains(*ordinal)))
    }

    /// Where a chunk stands that the refs name and nothing is wrong with.
    fn find(&self, id: &ChunkId, class: FrameClass) -> Result<Found> {
        let index = self.keyed.reader.index();
        let mut found = Found::Nowhere;
        for place in index.places_of(id)?.found.into_iter().filter(|place| place.frame.class() == Some(class)) {
            let damage = &self.keyed.damage;
            let is_bad = (!damage.is_empty() && index.frame(place.ordinal)?.is_none_or(|place| damage.of_place(&place).is_some()))
                || damage.of_bases(index, &place)? != Lost::No;
            match self.allows(&place)? {
                Some(frame) if !is_bad && self.allowed.contains_chunk(frame, place.position) => {
                    return Ok(Found::Named((frame, place.position)));
                }
                Some(_) if !is_bad => found = Found::Unnamed,
                _ => {}
            }
        }
        Ok(found)
    }

    /// A chunk of content must stand in a frame that the refs name, and be named there; and be as long as it is said to be, which `rule` wants.
    pub(super) fn data_chunk(&mut self, chunk: &ChunkRef, rule: &'static str, key: &[u8], used: &mut Used) -> Result<()> {
        let ChunkRef { id, length } = chunk;
        let mut found = self.find(id, FrameClass::Data)?;
        while found == Found::Nowhere && self.look_again_for_chunk()? {
            found = self.find(id, FrameClass::Data)?;
        }
        if found == Found::Nowhere {
            used.is_partial = true;
            let finding = self.explain(id, FrameClass::Data, None)?;
            self.hurt(finding, key, 1);
            return Ok(());
        }
        if let Found::Named((frame, position)) = found
            && let Some(own) = self.length_of(frame, position)?.filter(|own| own != length)
        {
            self.accuse(&Error::rule(rule, format!("chunk {id} has {own} bytes, not {length}")), key, 1);
            used.is_partial = true;
        }
        self.note_use(found, used, (key, 1));
        Ok(())
    }

    /// How long a chunk is, where its frame was opened.
    fn length_of(&mut self, frame: u32, position: u32) -> Result<Option<u32>> {
        if self.lengths.0 != Some(frame) {
            self.lengths = (Some(frame), self.keyed.lengths.of(frame)?);
        }
        Ok(self.lengths.1.get(position as usize).copied())
    }

    /// Takes note of a chunk that is there and used by `who`: the key of an entry, or the last one of several, and how many.
    pub(super) fn note_use(&mut self, found: Found, used: &mut Used, who: (&[u8], u64)) {
        if let Found::Named(chunk) = found {
            return used.add(chunk);
        }
        used.is_partial = true;
        let name = ObjectName::snapshot(self.id);
        let say = || {
            let message = format!("{name}: it uses chunks of frames that its refs name in part, and these chunks are not in that part");
            self.keyed.reading.findings.say(Some(name), Some("REFS-7"), message)
        };
        let finding = *self.unnamed.get_or_insert_with(say);
        self.hurt(finding, who.0, who.1);
    }

    /// Loads a node from a frame that the refs name, and says where it stands; `Err` holds the finding that explains why it cannot be had.
    pub(super) fn load(&mut self, kind: NodeKind, id: &ChunkId) -> Result<Loaded> {
        loop {
            self.keyed.reading.go_on()?;
            let loaded = self.keyed.reader.chunk(kind.into(), id, |place| Ok(self.allows(place)?.is_some()));
            let error = match (loaded, self.find(id, FrameClass::Meta)?) {
                (Ok(_), Found::Nowhere) => None,
                (Ok(bytes), found) => return Ok(Ok((found, Arc::from(bytes)))),
                (Err(error), _) if error.kind() == ErrorKind::Cancelled => return Err(error),
                (Err(error), _) => Some(error),
            };
            if !self.look_again_for_chunk()? {
                return self.explain(id, FrameClass::Meta, error.as_ref()).map(Err);
            }
        }
    }

    /// Entries suffer from a finding.
    pub(super) fn hurt(&self, finding: FindingId, key: &[u8], entries: u64) {
        if !self.is_gone {
            self.keyed.reading.findings.blame_entries(finding, self.id, key, entries);
        }
    }

    /// The snapshot itself says something that is not true.
    pub(super) fn accuse(&self, error: &Error, key: &[u8], entries: u64) {
        if !self.is_gone {
            let name = ObjectName::snapshot(self.id);
            let findings = &self.keyed.reading.findings;
            let finding = findings.say(Some(name), error.broken_rule(), format!("{name}: {error}"));
            findings.blame_entries(finding, self.id, key, entries);
        }
    }
}
