//! The walk's tasks: listing a folder and describing what is in it, a batch at a time.

use super::details::{Details, Reader};
use super::file::open_device;
use super::folder::{Folder, OpenFolders, join};
use super::links::Links;
use super::names::Names;
use super::owners::Owners;
use super::roots::{Plan, Roots};
use super::rules::{IgnoreFile, Rules};
use super::stat::Facts;
use super::{Known, SourceEntry, WalkItem};
use crate::entry::{Entry, EntryKind, FileContent, Key, Metadata};
use crate::limits::KEY_MAX;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, major, minor, readlinkat, statat};
use std::ffi::{CStr, CString};
use std::io;
use std::sync::Arc;

/// Entries described by one task. The walk holds one batch for each level of the tree that it is in.
pub(crate) const BATCH: usize = 256;

/// About what an entry needs besides its key, for the bound on reading ahead.
const ENTRY_BYTES: usize = 384;

/// Something to read.
#[derive(Debug)]
pub(crate) enum Task {
    /// List a folder and describe its first entries.
    List { folder: Arc<Folder>, key: Key, scope: Scope },
    /// Describe entries from a position on.
    Continue { level: Arc<Level>, from: usize },
}

/// What of a folder is walked, and by which rules.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// All of it, or only what the plan names.
    everything: bool,
    /// The folder itself was given by name.
    is_given: bool,
    plan: Option<Arc<Plan>>,
    /// The file system to stay in.
    device: u64,
    ignore: Option<Arc<IgnoreFile>>,
}

/// A folder that was listed.
#[derive(Debug)]
pub(crate) struct Level {
    folder: Arc<Folder>,
    key: Key,
    names: Names,
    scope: Scope,
    /// The absolute path, where patterns need it.
    path: Option<Vec<u8>>,
}

/// A name that is to be described.
struct Found<'a> {
    level: &'a Level,
    name: &'a CStr,
    key: Key,
    planned: Option<&'a Arc<Plan>>,
    /// Patterns leave it out, but not what the plan names below it.
    excluded: bool,
}

/// What a task gives.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) slots: Vec<Slot>,
    /// Order of the task that goes on with the same folder.
    pub(crate) next: Option<Key>,
    /// New tasks, one for each slot with `descend`, and `next`.
    pub(crate) tasks: Vec<(Key, Task)>,
    /// About how much memory it holds.
    pub(crate) bytes: usize,
}

/// An item in key order.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) item: WalkItem,
    /// How many names the inode has.
    pub(crate) links: u64,
    /// What is below comes from the task at [`list_order`].
    pub(crate) descend: bool,
}

/// Buffers that a thread keeps from one task to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    listing: Vec<u8>,
    reader: Reader,
}

/// Does tasks; the same for all threads.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) rules: Rules,
    pub(crate) owners: Owners,
    pub(crate) known: Option<Arc<dyn Known>>,
    pub(crate) open: Arc<OpenFolders>,
}

/// The order of the task that lists the folder at `key`: after its own key, before all keys in it.
pub(crate) fn list_order(key: &Key) -> Key {
    let mut order = key.clone();
    order.push(0);
    order
}

fn key_below(key: &Key, name: &[u8]) -> Key {
    let mut below = Vec::with_capacity(key.len() + 1 + name.len());
    below.extend_from_slice(key);
    if !key.is_empty() {
        below.push(0);
    }
    below.extend_from_slice(name);
    below
}

impl Batch {
    fn fail(&mut self, path: Vec<u8>, message: String) {
        self.bytes += ENTRY_BYTES + path.len();
        self.slots.push(Slot { item: WalkItem::Failed { path, message }, links: 1, descend: false });
    }

    fn entry(&mut self, entry: SourceEntry, links: u64, descend: bool) {
        self.bytes += ENTRY_BYTES + entry.entry.key.len();
        self.slots.push(Slot { item: WalkItem::Entry(entry), links, descend });
    }
}

impl Visitor {
    /// Describes the root and says what is below it.
    pub(crate) fn begin(&self, roots: &Roots) -> Batch {
        let mut batch = Batch::default();
        let plan = &roots.plan;
        let scope = Scope { everything: false, is_given: false, plan: None, device: 0, ignore: None };
        if let Some(place) = &plan.place {
            let level =
                Level { folder: Folder::at(place.folder.clone(), &self.open), key: Key::new(), names: Names::default(), scope, path: None };
            self.describe(
                Found { level: &level, name: &place.reach, key: Key::new(), planned: Some(plan), excluded: false },
                None,
                &mut Scratch::default(),
                &mut batch,
            );
            return batch;
        }
        let stat = super::StatKey { device: 0, inode: 0, ctime: Default::default(), modified: Default::default(), size: 0 };
        let entry = Entry { key: Key::new(), kind: EntryKind::Folder, metadata: Metadata::of_way() };
        let entry = SourceEntry {
            entry,
            stat,
            has_details: true,
            is_known: false,
            is_fixed: false,
            is_incomplete: false,
            has_other_names: false,
            folder: None,
            device: None,
        };
        batch.entry(entry, 1, true);
        let folder = Folder::at(c"/".to_owned(), &self.open);
        let task = Task::List { folder, key: Key::new(), scope: Scope { plan: Some(plan.clone()), ..scope } };
        batch.tasks.push((list_order(&Key::new()), task));
        batch
    }

    /// Does one task. Never fails as a whole: what cannot be read is an item of the batch.
    pub(crate) fn visit(&self, task: Task, scratch: &mut Scratch) -> Batch {
        let mut batch = Batch::default();
        match task {
            Task::Continue { level, from } => self.describe_from(level, from, scratch, &mut batch),
            Task::List { folder, key, scope } => match self.list(folder.clone(), key, scope, scratch, &mut batch) {
                Ok(level) => self.describe_from(Arc::new(level), 0, scratch, &mut batch),
                Err(error) => batch.fail(folder.path(), format!("this folder cannot be read: {error}")),
            },
        }
        batch
    }

    fn list(&self, folder: Arc<Folder>, key: Key, mut scope: Scope, scratch: &mut Scratch, batch: &mut Batch) -> io::Result<Level> {
        let planned = |name: &[u8]| scope.plan.as_ref().is_some_and(|plan| plan.below.contains_key(name));
        let mut names = Names::default();
        if scope.everything {
            let fd = folder.fd()?;
            // Opening a folder may mount a file system on it.
            let crosses = self.rules.one_file_system && folder.device().is_some_and(|device| device != scope.device);
            if !crosses {
                names = Names::read(&fd, &mut scratch.listing)?;
                let tags = if scope.is_given { Vec::new() } else { self.rules.tags_in(&fd, |name| names.contains(name)) };
                if !tags.is_empty() {
                    names.retain(|name| tags.contains(&name) || planned(name));
                }
                let trouble = |name: &[u8], message| batch.fail(join(&folder.path(), name), message);
                let above = scope.ignore.take();
                scope.ignore = self.rules.ignore_files(&fd, || folder.path(), |name| names.contains(name), above, trouble);
            }
        }
        // Given names are looked for even where the listing lacks them: so one that vanished is reported.
        let plan = scope.plan.as_ref();
        let unlisted: Vec<&Vec<u8>> = plan.iter().flat_map(|plan| plan.below.keys()).filter(|name| !names.contains(name)).collect();
        for name in &unlisted {
            names.push(&CString::new(name.as_slice())?, None)?;
        }
        if !unlisted.is_empty() {
            names.sort();
        }
        let path = self.rules.look_at_paths(scope.ignore.as_ref()).then(|| folder.path());
        Ok(Level { folder, key, names, scope, path })
    }

    fn describe_from(&self, level: Arc<Level>, from: usize, scratch: &mut Scratch, batch: &mut Batch) {
        let here = match level.scope.everything.then(|| level.folder.fd()).transpose() {
            Ok(here) => here,
            Err(error) => return batch.fail(level.folder.path(), format!("this folder cannot be read: {error}")),
        };
        let end = level.names.len().min(from + BATCH);
        batch.slots.reserve(end - from);
        let mut path = level.path.as_ref().map(|path| join(path, b"x"));
        let stem = path.as_ref().map_or(0, |path| path.len() - 1);
        for position in from..end {
            let name = level.names.get(position);
            let planned = level.scope.plan.as_ref().and_then(|plan| plan.below.get(name.to_bytes()));
            let is_given = planned.is_some_and(|plan| plan.is_given);
            let excluded = match (&mut path, &here) {
                (Some(path), Some(fd)) if !is_given => {
                    path.truncate(stem);
                    path.extend_from_slice(name.to_bytes());
                    let is_folder = level.names.is_folder(position).unwrap_or_else(|| is_folder_on_disk(fd, name));
                    self.rules.exclude(path, is_folder, level.scope.ignore.as_ref())
                }
                _ => false,
            };
            if excluded && planned.is_none() {
                continue;
            }
            let key = key_below(&level.key, name.to_bytes());
            if key.len() > KEY_MAX {
                let message = format!(
                    "its path takes {} bytes, and at most {KEY_MAX} can be stored; it is left out with all that is in it",
                    key.len()
                );
                batch.fail(join(&level.folder.path(), name.to_bytes()), message);
                continue;
            }
            self.describe(Found { level: &level, name, key, planned, excluded }, here.as_deref(), scratch, batch);
        }
        if end < level.names.len() {
            let order = key_below(&level.key, level.names.get(end).to_bytes());
            batch.next = Some(order.clone());
            batch.tasks.push((order, Task::Continue { level, from: end }));
        }
    }

    /// Adds what `found` names to the batch: its entry, a failure, both, or nothing where it is left out.
    fn describe(&self, found: Found<'_>, here: Option<&OwnedFd>, scratch: &mut Scratch, batch: &mut Batch) {
        let (folder, reach) = match found.planned.and_then(|plan| plan.place.as_ref()) {
            Some(place) => (Folder::at(place.folder.clone(), &self.open), place.reach.as_c_str()),
            None => (found.level.folder.clone(), found.name),
        };
        let result = match here {
            Some(fd) if Arc::ptr_eq(&folder, &found.level.folder) => self.describe_in(found, &folder, fd, reach, scratch, batch),
            _ => folder.fd().and_then(|fd| self.describe_in(found, &folder, &fd, reach, scratch, batch)),
        };
        if let Err(error) = result {
            let message = match error.kind() {
                io::ErrorKind::NotFound => "it vanished while its folder was read".to_owned(),
                _ => format!("it cannot be read: {error}"),
            };
            let reach = reach.to_bytes();
            batch.fail(join(&folder.path(), reach.strip_suffix(b"/.").unwrap_or(reach)), message);
        }
    }

    fn describe_in(
        &self,
        found: Found<'_>,
        folder: &Arc<Folder>,
        fd: &OwnedFd,
        reach: &CStr,
        scratch: &mut Scratch,
        batch: &mut Batch,
    ) -> io::Result<()> {
        let mut facts = Facts::new(&statat(fd, reach, AtFlags::SYMLINK_NOFOLLOW)?);
        let is_folder = facts.kind == FileType::Directory;
        let is_given = found.planned.is_some_and(|plan| plan.is_given);
        let is_elsewhere = self.rules.one_file_system && !is_given && facts.key.device != found.level.scope.device;
        let is_large = facts.kind == FileType::RegularFile && facts.key.size > self.rules.size_max;
        if found.planned.is_none() && (is_large || is_elsewhere && !is_folder) {
            return Ok(());
        }
        let scope = &found.level.scope;
        let below = Scope {
            everything: is_given || scope.everything && !found.excluded && !is_elsewhere,
            is_given,
            plan: found.planned.filter(|plan| !plan.below.is_empty()).cloned(),
            device: if is_given { facts.key.device } else { scope.device },
            ignore: scope.ignore.clone(),
        };
        let descend = is_folder && (below.everything || below.plan.is_some());
        // Devices in folders are entries; one that was given by name is meant as what lies on it.
        let is_device = is_given && facts.kind == FileType::BlockDevice;
        if is_device {
            facts.key.size = open_device(fd, reach, &facts.key)?.1.key.size;
        }
        let kind = match is_device {
            true => EntryKind::File(FileContent { size: facts.key.size, ..FileContent::default() }),
            false => kind_of(&facts, fd, reach)?,
        };
        let is_fixed = is_device || facts.kind == FileType::RegularFile && self.rules.is_fixed(|| join(&folder.path(), reach.to_bytes()));
        let folder = if is_folder { folder.below(reach, &facts) } else { folder.clone() };
        let is_known = !is_device && self.known.as_ref().is_some_and(|known| known.is_known(&found.key, &facts.key));
        let has_details = !is_known && (is_device || !matches!(kind, EntryKind::File(_)));
        let details = match &kind {
            _ if !has_details => Details::default(),
            _ if is_device => scratch.reader.read_named(fd, reach),
            EntryKind::Folder if descend => match folder.fd() {
                Ok(fd) => scratch.reader.read_open(&fd),
                // Another one is there by now, which is not this entry.
                Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error().is_none() => return Err(error),
                Err(_) => scratch.reader.read_named(fd, reach),
            },
            EntryKind::Folder => scratch.reader.read_named(fd, reach),
            _ => scratch.reader.read(fd, reach, &kind, &facts.key)?,
        };
        let metadata = self.metadata(&facts, details.inode_flags, details.xattrs);
        let entry = Entry { key: found.key, kind, metadata };
        if descend {
            batch.tasks.push((list_order(&entry.key), Task::List { folder: folder.clone(), key: entry.key.clone(), scope: below }));
        }
        let entry = SourceEntry {
            entry,
            stat: facts.key,
            has_details,
            is_known,
            is_fixed,
            is_incomplete: details.trouble.is_some(),
            has_other_names: Links::concern(&facts),
            folder: Some(folder),
            device: is_device.then(|| reach.to_owned()),
        };
        if let Some(trouble) = details.trouble {
            batch.fail(entry.path(), trouble);
        }
        batch.entry(entry, if Links::concern(&facts) { facts.links } else { 1 }, descend);
        Ok(())
    }

    fn metadata(&self, facts: &Facts, inode_flags: u32, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Metadata {
        Metadata {
            mode: facts.mode,
            uid: facts.uid,
            gid: facts.gid,
            user: self.owners.user(facts.uid).to_vec(),
            group: self.owners.group(facts.gid).to_vec(),
            modified: facts.key.modified,
            inode_flags,
            xattrs,
        }
    }
}

fn kind_of(facts: &Facts, folder: &OwnedFd, name: &CStr) -> io::Result<EntryKind> {
    Ok(match facts.kind {
        FileType::RegularFile => EntryKind::File(FileContent { size: facts.key.size, ..FileContent::default() }),
        FileType::Directory => EntryKind::Folder,
        FileType::Symlink => EntryKind::Symlink(readlinkat(folder, name, Vec::new())?.into_bytes()),
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::BlockDevice => EntryKind::BlockDevice(major(facts.special), minor(facts.special)),
        FileType::CharacterDevice => EntryKind::CharDevice(major(facts.special), minor(facts.special)),
        FileType::Unknown => return Err(io::Error::other("it is of a kind that this release does not know")),
    })
}

/// Asks whether `name` is a folder where the listing does not say so.
fn is_folder_on_disk(folder: &OwnedFd, name: &CStr) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
