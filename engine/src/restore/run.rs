//! A restore on its way: entries come in key order, are prepared and planned, and done window by window.

use super::deletion::Deletion;
use super::folders::OpenFolders;
use super::later::Later;
use super::layout::{Layout, data_bytes};
use super::plan::foresee_item;
use super::tally::{KEYS_BYTES, Tally, shown};
use super::window::{Item, Limits, Use, Way, Window};
use super::work::Work;
use super::{RestoreOptions, RestoreSummary};
use crate::destination::{Folder, LocalOwners, Prepared, Spared, Standing};
use crate::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Key, KeyKind};
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::progress::Event;
use crate::repository::{Repository, Snapshot, SnapshotChunks};
use crate::runtime::Scope;
use crate::spill::SpilledMap;
use crate::tree::{KeyRange, TreeWalk, find_entry};
use std::collections::HashSet;

/// Whether all content of the item that a window holds last is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    IsWhole,
    GoesOn,
}

/// Where a restore goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// Nothing is written; `None` where there is no such folder yet.
    Planned(Option<&'a Folder>),
    Written(&'a Folder),
}

impl<'a> Target<'a> {
    pub(super) fn folder(self) -> Option<&'a Folder> {
        match self {
            Self::Planned(folder) => folder,
            Self::Written(folder) => Some(folder),
        }
    }
}

/// Restores a snapshot, or a part of it.
pub(super) struct Restore<'s, 'a> {
    pub(super) repository: &'a Repository,
    pub(super) snapshot: &'a Snapshot,
    pub(super) chunks: &'a SnapshotChunks<'a>,
    pub(super) target: Target<'a>,
    pub(super) tally: &'a Tally<'a>,
    pub(super) limits: Limits,
    range: KeyRange,
    /// Folders above the range whose metadata is restored too.
    pub(super) above: Vec<Entry>,
    /// What is planned, and how many windows were before.
    pub(super) window: Window,
    pub(super) windows: u32,
    pub(super) later: Later,
    /// What is being done; nothing in a dry run.
    pub(super) work: Option<Work<'s, 'a>>,
    folders: OpenFolders,
    /// Of entries outside the range that have another name in it, the first such name.
    linked_from_outside: SpilledMap,
    /// What of the target has several names and was found to be as it is to be ([`Folder::with_other_names`]).
    pub(super) left_alone: SpilledMap,
    owners: LocalOwners,
    has_flags: bool,
    /// Packs that a dry run would read.
    pub(super) packs: HashSet<PackId>,
    pub(super) summary: RestoreSummary,
}

impl<'s, 'a> Restore<'s, 'a> {
    /// Tasks go to `scope`, which belongs to the repository's pool.
    pub(super) fn new(
        scope: &'s Scope<'s, 'a>,
        repository: &'a Repository,
        snapshot: &'a Snapshot,
        chunks: &'a SnapshotChunks<'a>,
        target: Target<'a>,
        tally: &'a Tally<'a>,
        limits: Limits,
    ) -> Self {
        let work = match target {
            Target::Written(folder) => Some(Work::new(scope, chunks, folder, tally, limits)),
            Target::Planned(_) => None,
        };
        Self {
            repository,
            snapshot,
            chunks,
            target,
            tally,
            limits,
            range: KeyRange::all(),
            above: Vec::new(),
            window: Window::default(),
            windows: 0,
            later: Later::new(tally.spill.clone(), &limits),
            work,
            folders: OpenFolders::new(tally.spill.clone()),
            linked_from_outside: SpilledMap::new(tally.spill.clone(), KEYS_BYTES),
            left_alone: SpilledMap::new(tally.spill.clone(), KEYS_BYTES),
            owners: LocalOwners::default(),
            has_flags: false,
            packs: HashSet::new(),
            summary: RestoreSummary::new(snapshot.id),
        }
    }

    /// Restores everything, or what `options` name.
    pub(super) fn run(mut self, options: &RestoreOptions) -> Result<RestoreSummary> {
        let done = self.run_all(options);
        if done.is_err()
            && let Some(work) = &mut self.work
        {
            work.abandon();
        }
        done.map(|()| self.into_summary())
    }

    fn run_all(&mut self, options: &RestoreOptions) -> Result<()> {
        if !options.numeric_owner {
            self.owners = LocalOwners::of_system();
        }
        if let Some(path) = &options.path {
            self.range = super::find_path(self.chunks, self.snapshot, path).map(|entry| KeyRange::folder(&entry.key))?;
        }
        let header = &self.snapshot.header;
        let (bytes_total, items_total) = match options.path {
            Some(_) => (None, None),
            None => (Some(header.file_bytes), Some(header.entries)),
        };
        self.tally.progress.event(Event::Phase { name: "restore", bytes_total, items_total });
        if options.delete {
            self.delete_others(options)?;
        }
        if let Some(path) = &options.path {
            self.prepare_above(path)?;
        }
        self.take_entries()?;
        while let Some(folder) = self.folders.leave(None)? {
            self.keep_folder(folder)?;
        }
        for folder in self.above.clone().into_iter().rev() {
            self.keep_folder(folder)?;
        }
        self.flush_last()?;
        if let (Some(work), Target::Written(folder)) = (&mut self.work, self.target) {
            work.end()?;
            if self.has_flags {
                self.finish_flags(folder)?;
            }
            self.report_owners(folder);
            self.work.as_mut().map_or(Ok(()), Work::make_durable)?;
            if options.verify {
                self.verify(folder)?;
            }
        }
        self.tally.report_frames_damaged();
        Ok(())
    }

    /// The entry with the owner that it gets here.
    fn with_owner(&self, mut entry: Entry) -> Entry {
        self.owners.apply(&mut entry.metadata);
        entry
    }

    /// Whether an entry is in the range.
    pub(super) fn is_restored(&self, key: &[u8]) -> bool {
        self.range.contains(key)
    }

    fn delete_others(&self, options: &RestoreOptions) -> Result<()> {
        let Some(folder) = self.target.folder().filter(|folder| !folder.is_new()) else { return Ok(()) };
        let spared = Spared::new(&options.spare);
        let top = options.path.clone().unwrap_or_default();
        Deletion::new(folder, &spared, self.tally, matches!(self.target, Target::Planned(_))).run(&top, self.walk()?)
    }

    /// Makes the folders above `path`. Those that were not there get their own metadata in the end; so do those that an interrupted
    /// restore left private.
    fn prepare_above(&mut self, path: &Key) -> Result<()> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(end, _)| end);
        let ends: Vec<_> = (!path.is_empty()).then_some(0).into_iter().chain(ends).collect();
        for end in ends {
            let key = &path[..end].to_vec();
            let Some(entry) = find_entry(self.chunks, &self.snapshot.body.tree_root, KeyKind::Paths, key)? else { continue };
            let entry = self.with_owner(entry);
            let folder = match self.target {
                Target::Planned(folder) => {
                    if !key.is_empty() || folder.is_none() {
                        self.foresee_above(folder, &entry);
                    }
                    continue;
                }
                Target::Written(folder) => folder,
            };
            let is_there = matches!(folder.standing(&entry), Ok(Standing::Same { .. }));
            let is_unfinished = if key.is_empty() { folder.is_new() } else { folder.is_private_folder(key) };
            if (is_there && !is_unfinished) || self.prepare(&entry)?.is_none() {
                continue;
            }
            self.has_flags |= entry.metadata.inode_flags != 0;
            self.above.push(entry);
        }
        Ok(())
    }

    pub(super) fn walk(&self) -> Result<TreeWalk<'a>> {
        TreeWalk::new(self.chunks, &self.snapshot.body.tree_root, KeyKind::Paths, self.range.clone())
    }

    fn take_entries(&mut self) -> Result<()> {
        let mut walk = self.walk()?;
        let mut last = Key::new();
        while let Some(entry) = walk.next() {
            self.tally.check_cancelled()?;
            self.go_on()?;
            match entry {
                Ok(entry) => {
                    last.clone_from(&entry.key);
                    self.take(entry)?;
                }
                Err(error) => {
                    let error = self.tally.damage(error)?;
                    let message = format!("a part of the list of files is damaged; what stood in it after this entry is left out: {error}");
                    self.tally.item_failed(&last, &message);
                    walk.skip_damage();
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, entry: Entry) -> Result<()> {
        let entry = self.with_owner(entry);
        while let Some(folder) = self.folders.leave(Some(&entry.key))? {
            self.keep_folder(folder)?;
        }
        self.summary.entries += 1;
        self.tally.progress.event(Event::Advance { bytes: 0, items: 1 });
        self.has_flags |= entry.metadata.inode_flags != 0;
        match &entry.kind {
            EntryKind::Folder => {
                if let Target::Planned(folder) = self.target {
                    self.foresee_bare(folder, &entry);
                }
                if self.prepare(&entry)?.is_some() {
                    self.folders.enter(&entry)?;
                }
                Ok(())
            }
            EntryKind::HardLink(_) => self.take_link(entry),
            _ => self.take_first_name(entry),
        }
    }

    fn take_first_name(&mut self, mut entry: Entry) -> Result<()> {
        if let EntryKind::File(content) = &mut entry.kind {
            let content = std::mem::take(content);
            return self.take_file(entry, &content);
        }
        if !self.is_left_alone(&entry, None)? && self.prepare(&entry)?.is_some() {
            self.keep(Item::new(entry, Way::Bare));
        }
        self.flush_if_full()
    }

    fn take_link(&mut self, mut entry: Entry) -> Result<()> {
        let EntryKind::HardLink(earlier) = &mut entry.kind else { return Ok(()) };
        if !self.range.contains(earlier) {
            match self.linked_from_outside.get(earlier)? {
                Some(name) => *earlier = name,
                None => {
                    let earlier = std::mem::take(earlier);
                    return self.take_outside(entry.key, earlier);
                }
            }
        }
        self.window.weigh(&entry);
        self.window.links.push(entry);
        self.flush_if_full()
    }

    /// The first name of an entry stands outside of what is restored: this name becomes the first one.
    fn take_outside(&mut self, key: Key, earlier: Key) -> Result<()> {
        let found = find_entry(self.chunks, &self.snapshot.body.tree_root, KeyKind::Paths, &earlier);
        let first = match found {
            Ok(Some(first)) if !matches!(first.kind, EntryKind::Folder | EntryKind::HardLink(_)) => first,
            Ok(_) => {
                let error = Error::new(ErrorKind::Damaged, format!("is another name of {}, which is no file", shown(&earlier)));
                return self.damaged(key, error);
            }
            Err(error) => return self.damaged(key, error),
        };
        self.linked_from_outside.insert(&earlier, &key)?;
        let first = self.with_owner(Entry { key, ..first });
        self.take_first_name(first)
    }

    /// Plans a file: small ones wait for their frame, others are prepared now.
    fn take_file(&mut self, mut entry: Entry, content: &FileContent) -> Result<()> {
        self.summary.files += 1;
        self.summary.bytes_total = self.summary.bytes_total.wrapping_add(content.size);
        let chunks = self.chunks;
        let opened = data_bytes(content).and_then(|bytes| Ok((content.size - bytes, Layout::new(chunks, content)?)));
        let (hole_bytes, mut layout) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.damaged(entry.key, error),
        };
        if hole_bytes > 0 {
            self.tally.progress.event(Event::Advance { bytes: hole_bytes, items: 0 });
        }
        // What destinations need to know of the content.
        entry.kind = EntryKind::File(FileContent { size: content.size, holes: content.holes.clone(), ..FileContent::default() });
        if self.is_left_alone(&entry, Some(content))? {
            return Ok(());
        }
        let first_use = self.window.uses.len();
        if matches!(content.chunks, ChunkList::Inline(_)) {
            // Found before anything is written.
            let item = self.window.items.len();
            while let Some(used) = layout.next().transpose() {
                if let Err(error) = used.and_then(|(offset, chunk)| self.plan(item, offset, chunk)) {
                    self.window.uses.truncate(first_use);
                    return self.damaged(entry.key, error);
                }
            }
            let planned = &self.window.uses[first_use..];
            let one_frame = planned.first().is_some_and(|first| planned.iter().all(|used| used.ordinal == first.ordinal));
            if one_frame && content.holes.is_empty() {
                self.keep(Item::new(entry, Way::Small));
                return self.flush_if_full();
            }
        }
        let Some(prepared) = self.prepare(&entry)? else {
            self.window.uses.truncate(first_use);
            return Ok(());
        };
        let old = if let Prepared::Existing { length } = prepared { length } else { 0 };
        self.keep(Item::new(entry, Way::Prepared { old }));
        if matches!(content.chunks, ChunkList::Recipe(_)) {
            self.take_long_content(&mut layout)?;
        }
        self.flush_if_full()
    }

    /// Plans the content of the item kept last, through as many windows as it takes.
    fn take_long_content(&mut self, layout: &mut Layout<'_>) -> Result<()> {
        loop {
            self.tally.check_cancelled()?;
            let item = self.window.items.len() - 1;
            let planned = layout.next().and_then(|next| next.map(|(offset, chunk)| self.plan(item, offset, chunk)).transpose());
            match planned {
                Ok(Some(())) => {}
                Ok(None) => return Ok(()),
                Err(error) => {
                    let error = self.tally.damage(error)?;
                    if let Some(item) = self.window.items.last().filter(|item| item.fail()) {
                        self.tally.item_failed(&item.entry.key, &format!("its content is damaged, so it was not restored: {error}"));
                    }
                    return Ok(());
                }
            }
            self.go_on()?;
            if self.window.is_full(&self.limits.of_window(self.windows)) {
                self.flush(Last::GoesOn)?;
            }
            if self.window.items.last().is_none_or(Item::has_failed) {
                return Ok(());
            }
        }
    }

    /// Notes where a chunk of an item comes from.
    fn plan(&mut self, item: usize, offset: u64, chunk: ChunkRef) -> Result<()> {
        let place = self.chunks.find(&chunk.id)?;
        // Bound: a window has at most `entries_max` items.
        let item = item as u32;
        let ChunkRef { id, length } = chunk;
        self.window.uses.push(Use { ordinal: place.ordinal, position: place.position, item, length, offset, id, is_there: false });
        Ok(())
    }

    fn keep(&mut self, mut item: Item) {
        if let Target::Planned(folder) = self.target {
            foresee_item(folder, &mut item);
        }
        self.window.weigh(&item.entry);
        self.window.items.push(item);
    }

    fn keep_folder(&mut self, folder: Entry) -> Result<()> {
        self.window.weigh(&folder);
        self.window.folders.push(folder);
        self.flush_if_full()
    }

    /// Makes what the entry is; `None` where that failed, which is reported.
    fn prepare(&mut self, entry: &Entry) -> Result<Option<Prepared>> {
        let Target::Written(folder) = self.target else { return Ok(Some(Prepared::New)) };
        match folder.prepare(entry) {
            Ok(prepared) => Ok(Some(prepared)),
            Err(error) => self.tally.refused(&entry.key, error).map(|()| None),
        }
    }

    fn damaged(&mut self, key: Key, error: Error) -> Result<()> {
        let error = self.tally.damage(error)?;
        self.tally.item_failed(&key, &format!("it is damaged and was not restored: {error}"));
        self.tally.lose(&key).map(drop)
    }

    /// Keeps the pool busy meanwhile.
    pub(super) fn go_on(&mut self) -> Result<()> {
        self.work.as_mut().map_or(Ok(()), Work::go_on)
    }

    fn into_summary(self) -> RestoreSummary {
        let mut summary = self.summary;
        summary.packs_read = self.work.map_or(self.packs, Work::into_packs).len() as u64;
        summary.take(self.tally);
        summary
    }
}
