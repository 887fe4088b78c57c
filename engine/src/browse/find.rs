//! Finding entries in many snapshots.
//!
//! What was found below a node is remembered under its id: the same node in another snapshot holds the same entries. So the snapshots of a
//! series cost little more than one. The memory is bounded; where it is full, nodes are read again and nothing else changes.

use crate::entry::{ChunkList, Entry, EntryKind, Key, KeyKind, key_components};
use crate::error::{Error, ErrorKind, Result};
use crate::format::tree::encode_tree_leaf;
use crate::id::{ChunkId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::{Repository, Snapshot};
use crate::restore::key_kind;
use crate::restore::reading::{Reading, with_reader};
use crate::runtime::Timestamp;
use crate::tree::{Head, KeyRange, TreeCursor};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Nodes that are remembered.
const NODES_MAX: usize = 500_000;
/// What was found in them, counted for each node that holds it.
const REMEMBERED_MAX: usize = 4_000_000;
/// Versions of entries that are found, and runs of snapshots that hold them.
const FOUND_MAX: usize = 2_000_000;

/// What is looked for: entries that fit one of the patterns and all else that is given.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct FindQuery {
    /// Globs. One without a slash is compared with names; one with a slash with paths from the root of the snapshot, where `*` and `?` stay
    /// within a component and `**` does not. No pattern fits everything.
    pub patterns: Vec<String>,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// Last modified at this time or later.
    pub newer: Option<Timestamp>,
    /// Last modified at this time or earlier.
    pub older: Option<Timestamp>,
    /// Files of at least so many bytes.
    pub larger: Option<u64>,
    /// Files of at most so many bytes.
    pub smaller: Option<u64>,
    /// Of one of these types; any where there are none.
    pub types: Vec<EntryType>,
}

/// What an entry is, without what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryType {
    /// A regular file or a stream.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
    /// Another name of an entry. It has no time and no size of its own, so that it fits only where neither is asked for.
    HardLink,
}

impl EntryType {
    /// The type of an entry of this kind.
    pub fn of(kind: &EntryKind) -> Self {
        match kind {
            EntryKind::File(_) => Self::File,
            EntryKind::Folder => Self::Folder,
            EntryKind::Symlink(_) => Self::Symlink,
            EntryKind::Fifo => Self::Fifo,
            EntryKind::Socket => Self::Socket,
            EntryKind::BlockDevice(..) => Self::BlockDevice,
            EntryKind::CharDevice(..) => Self::CharDevice,
            EntryKind::HardLink(_) => Self::HardLink,
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Found {
    /// By key, ascending.
    pub paths: Vec<FoundPath>,
    /// Snapshots that were searched.
    pub snapshots: u64,
    /// Nodes that were read.
    pub nodes_read: u64,
    /// Nodes that were known from a snapshot before, with all below them.
    pub nodes_known: u64,
    /// Snapshots that could not be searched, or only in part.
    pub problems: Vec<Error>,
}

/// All versions of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPath {
    /// Where it stands in its snapshots.
    pub key: Key,
    /// Oldest first, by the first snapshot that holds each.
    pub versions: Vec<FoundVersion>,
}

/// An entry and the snapshots in which it is exactly so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVersion {
    /// The entry, without its chunks, holes and the values of attributes.
    pub entry: Entry,
    /// The snapshots, in the order in which they were given.
    pub snapshots: Vec<SnapshotId>,
}

impl Repository {
    /// Looks for entries in these snapshots, best given oldest first.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role restore, [`ErrorKind::Invalid`] where a pattern is none or more is found than memory should be
    /// taken for, [`ErrorKind::Cancelled`] when `progress` says so, otherwise what the backend says. Damaged snapshots are no error, but
    /// [`Found::problems`].
    pub fn find(&self, snapshots: &[Snapshot], query: &FindQuery, progress: &dyn Progress) -> Result<Found> {
        let filter = Filter::new(query)?;
        progress.event(Event::Phase { name: "find", bytes_total: None, items_total: Some(snapshots.len() as u64) });
        // Snapshots of a series, which are alike, one after the other.
        let mut order: Vec<usize> = (0..snapshots.len()).collect();
        order.sort_by_key(|index| snapshots.get(*index).map(|snapshot| (&snapshot.body.series, *index)));
        with_reader(self, progress, |reading| {
            let mut search = Search { filter, memory: Memory::default(), matches: Matches::default(), found: Found::default() };
            for (place, snapshot) in order.iter().filter_map(|index| snapshots.get(*index)).enumerate() {
                match search.snapshot(place, snapshot, reading, progress) {
                    Ok(()) => search.found.snapshots += 1,
                    Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported | ErrorKind::NotFound) => {
                        search.found.problems.push(error.context(format_args!("snapshot {}", snapshot.id)));
                    }
                    Err(error) => return Err(error),
                }
                progress.event(Event::Advance { bytes: 0, items: 1 });
            }
            Ok(search.end(&order, snapshots))
        })
    }
}

/// A query, compiled.
struct Filter {
    query: FindQuery,
    names: GlobSet,
    paths: GlobSet,
}

impl Filter {
    fn new(query: &FindQuery) -> Result<Self> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in &query.patterns {
            let is_path = pattern.contains('/');
            let glob = GlobBuilder::new(pattern.trim_matches('/')).literal_separator(is_path).case_insensitive(query.ignore_case).build();
            let glob = glob.map_err(|error| Error::new(ErrorKind::Invalid, format!("pattern `{pattern}`: {}", error.kind())))?;
            if is_path {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        let build = |globs: &GlobSetBuilder| globs.build().map_err(|error| Error::new(ErrorKind::Invalid, format!("patterns: {error}")));
        Ok(Self { query: query.clone(), names: build(&names)?, paths: build(&paths)? })
    }

    fn fits(&self, entry: &Entry, key_kind: KeyKind) -> bool {
        let query = &self.query;
        let entry_type = EntryType::of(&entry.kind);
        if !(query.types.is_empty() || query.types.contains(&entry_type)) {
            return false;
        }
        let size = match &entry.kind {
            EntryKind::File(content) => Some(content.size),
            _ => None,
        };
        let asks_for_size = query.larger.is_some() || query.smaller.is_some();
        let asks_for_time = query.newer.is_some() || query.older.is_some();
        if (asks_for_size && size.is_none()) || (asks_for_time && entry_type == EntryType::HardLink) {
            return false;
        }
        let (size, modified) = (size.unwrap_or(0), entry.metadata.modified);
        query.larger.is_none_or(|least| size >= least)
            && query.smaller.is_none_or(|most| size <= most)
            && query.newer.is_none_or(|first| modified >= first)
            && query.older.is_none_or(|last| modified <= last)
            && self.fits_pattern(&entry.key, key_kind)
    }

    fn fits_pattern(&self, key: &[u8], key_kind: KeyKind) -> bool {
        if self.query.patterns.is_empty() {
            return true;
        }
        let (name, path) = match key_kind {
            KeyKind::Paths => (key.rsplit(|byte| *byte == 0).next().unwrap_or(key), key_components(key).collect::<Vec<_>>().join(&b'/')),
            KeyKind::Objects => (key.rsplit(|byte| *byte == b'/').next().unwrap_or(key), key.to_vec()),
        };
        self.names.is_match(OsStr::from_bytes(name)) || self.paths.is_match(OsStr::from_bytes(&path))
    }
}

/// Numbers of what was found below a node; `None` for nothing, which is what most nodes hold.
type Below = Option<Arc<[u32]>>;

/// What was found below nodes that were read.
#[derive(Default)]
struct Memory {
    below: HashMap<ChunkId, Below>,
    remembered: usize,
}

impl Memory {
    fn keep(&mut self, node: ChunkId, below: &[u32]) {
        if self.below.len() < NODES_MAX && self.remembered + below.len() <= REMEMBERED_MAX {
            self.remembered += below.len();
            self.below.insert(node, if below.is_empty() { None } else { Some(below.into()) });
        }
    }
}

/// Everything that fits, each version once.
#[derive(Default)]
struct Matches {
    numbers: HashMap<[u8; 32], u32>,
    versions: Vec<Version>,
    runs: usize,
}

struct Version {
    entry: Entry,
    /// First and last of snapshots that follow one another in the order of the search.
    runs: Vec<(u32, u32)>,
}

impl Matches {
    /// The number of this version of an entry.
    fn number(&mut self, mut entry: Entry) -> Result<u32> {
        let identity = *blake3::hash(&encode_tree_leaf(std::slice::from_ref(&entry))).as_bytes();
        if let Some(number) = self.numbers.get(&identity) {
            return Ok(*number);
        }
        self.require_room()?;
        if let EntryKind::File(content) = &mut entry.kind {
            (content.chunks, content.holes) = (ChunkList::default(), Vec::new());
        }
        entry.metadata.xattrs.iter_mut().for_each(|(_, value)| *value = Vec::new());
        let number = self.versions.len() as u32;
        self.versions.push(Version { entry, runs: Vec::new() });
        self.numbers.insert(identity, number);
        Ok(number)
    }

    /// Says that the snapshot at this place holds these.
    fn hold(&mut self, numbers: &[u32], place: u32) -> Result<()> {
        for number in numbers {
            let Some(version) = self.versions.get_mut(*number as usize) else { continue };
            match version.runs.last_mut() {
                Some((_, last)) if *last + 1 >= place => *last = place,
                _ => {
                    version.runs.push((place, place));
                    self.runs += 1;
                    self.require_room()?;
                }
            }
        }
        Ok(())
    }

    fn require_room(&self) -> Result<()> {
        match self.versions.len() + self.runs < FOUND_MAX {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Invalid, "far too much fits; narrow it down by pattern, time, size, type or series")),
        }
    }
}

struct Search {
    filter: Filter,
    memory: Memory,
    matches: Matches,
    found: Found,
}

impl Search {
    fn snapshot(&mut self, place: usize, snapshot: &Snapshot, reading: &Reading<'_>, progress: &dyn Progress) -> Result<()> {
        let place = u32::try_from(place).map_err(|_| Error::new(ErrorKind::Invalid, "too many snapshots at once"))?;
        let snapshot = reading.snapshot(snapshot.id)?;
        let root = snapshot.body.tree_root;
        if let Some(below) = self.memory.below.get(&root) {
            self.found.nodes_known += 1;
            return self.matches.hold(below.as_deref().unwrap_or_default(), place);
        }
        let chunks = reading.chunks(&snapshot, progress)?;
        let mut cursor = TreeCursor::new(&chunks, &root, key_kind(&snapshot), KeyRange::all())?;
        let mut open = vec![(root, Vec::new())];
        let searched = self.walk(&mut cursor, &mut open, key_kind(&snapshot), progress);
        self.found.nodes_read += cursor.counters().nodes;
        // Where damage ended the walk, what was found before it is true all the same.
        open.iter().try_for_each(|(_, numbers)| self.matches.hold(numbers, place))?;
        searched
    }

    /// Goes through a tree. `open` has the nodes that are open, each with what was found in it; what is below the root is in there at the end.
    fn walk(
        &mut self,
        cursor: &mut TreeCursor<'_>,
        open: &mut Vec<(ChunkId, Vec<u32>)>,
        key_kind: KeyKind,
        progress: &dyn Progress,
    ) -> Result<()> {
        loop {
            while open.len() > cursor.depth().max(1) {
                self.close(open);
            }
            match cursor.head() {
                Some(Head::Entry(_)) => {
                    if let Some(entry) = cursor.next()?.filter(|entry| self.filter.fits(entry, key_kind)) {
                        let number = self.matches.number(entry)?;
                        open.last_mut().into_iter().for_each(|(_, numbers)| numbers.push(number));
                    }
                }
                Some(Head::Node(node)) => {
                    if progress.is_cancelled() {
                        return Err(Error::new(ErrorKind::Cancelled, "stopped"));
                    }
                    let id = node.id();
                    match self.memory.below.get(&id) {
                        Some(below) => {
                            self.found.nodes_known += 1;
                            let below = below.as_deref().unwrap_or_default();
                            open.last_mut().into_iter().for_each(|(_, numbers)| numbers.extend_from_slice(below));
                            cursor.next()?;
                        }
                        None => {
                            cursor.enter()?;
                            open.push((id, Vec::new()));
                        }
                    }
                }
                None => {
                    if let Some((root, numbers)) = open.first() {
                        self.memory.keep(*root, numbers);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Remembers what is in the innermost open node, and hands it to the one above.
    fn close(&mut self, open: &mut Vec<(ChunkId, Vec<u32>)>) {
        let Some((node, numbers)) = open.pop() else { return };
        self.memory.keep(node, &numbers);
        open.last_mut().into_iter().for_each(|(_, above)| above.extend_from_slice(&numbers));
    }

    /// Groups what was found by path. `order` has the place of each snapshot among those that were given.
    fn end(self, order: &[usize], snapshots: &[Snapshot]) -> Found {
        let mut found = self.found;
        let mut versions = self.matches.versions;
        versions.retain(|version| !version.runs.is_empty());
        let given = |version: &Version| {
            let places = version.runs.iter().flat_map(|(first, last)| *first..=*last);
            let mut given: Vec<usize> = places.filter_map(|place| order.get(place as usize).copied()).collect();
            given.sort_unstable();
            given
        };
        let mut placed: Vec<(Key, usize, Version)> = Vec::with_capacity(versions.len());
        placed.extend(versions.into_iter().map(|version| {
            let first = given(&version).first().copied().unwrap_or(usize::MAX);
            (version.entry.key.clone(), first, version)
        }));
        placed.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        for (key, _, version) in placed {
            let snapshots = given(&version).into_iter().filter_map(|index| snapshots.get(index).map(|snapshot| snapshot.id)).collect();
            let version = FoundVersion { entry: version.entry, snapshots };
            match found.paths.last_mut() {
                Some(path) if path.key == key => path.versions.push(version),
                _ => found.paths.push(FoundPath { key, versions: vec![version] }),
            }
        }
        found
    }
}
