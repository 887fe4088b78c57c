//! Where given paths stand in a snapshot.
//!
//! Paths become a plan: a tree of the folders that lead to them. A plan node that was given is walked whole; one that only leads to
//! others is stored with its metadata and nothing but those. A given path inside another one is a node below it, so it is stored once and
//! still reached where an exclude or a file system boundary would have stopped the walk before it.

use crate::error::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The given paths, and where each of them stands in the snapshot.
///
/// * A single `.`, `X/.`, `..` or `/`: the folder's content stands at the root, and the root has the folder's metadata.
/// * Otherwise the root has neutral metadata (mode 0755, owner and group 0 without names, time 0), and each path stands there by its
///   last component: `X` and `/a/X` as `X`. So does `X/.` when it is one of several paths.
/// * Paths whose last components are equal stand by their full path without symlinks, `home/a/X`; so does a path whose name is
///   the first component of such a one. The folders on the way have their metadata, and nothing else in them is stored.
/// * A path given twice is stored once, and a path inside another one as part of it.
/// * A symlink is stored as such; with a slash or `/.` at its end, the folder that it points to is.
/// * A block device, and a symlink to one (`/dev/vg/volume`), is stored as a file of the name given with what lies on the device.
/// * A path that is missing or cannot be looked up is left out and remembered in [`Roots::failed`], as long as another one is there.
#[derive(Debug, Clone)]
pub struct Roots {
    pub(crate) plan: Arc<Plan>,
    paths: Vec<Vec<u8>>,
    notices: Vec<String>,
    failed: Vec<FailedRoot>,
}

/// A given path that cannot be backed up.
#[derive(Debug, Clone)]
pub struct FailedRoot {
    /// The path as absolute as it can be made, as bytes.
    pub path: Vec<u8>,
    /// What happened; names the path as it was given.
    pub message: String,
}

/// A node of the plan; see the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// Walk all of it.
    pub(crate) is_given: bool,
    /// How to reach it from outside; `None`: by its name in the folder above, which is walked.
    pub(crate) place: Option<Place>,
    pub(crate) below: BTreeMap<Vec<u8>, Arc<Plan>>,
}

/// A folder's absolute path and the name in it. A `.` at the end of the name follows a symlink before it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) folder: CString,
    pub(crate) reach: CString,
}

/// One path as given.
#[derive(Debug)]
struct Given {
    shown: String,
    /// Absolute as typed.
    path: Vec<u8>,
    /// Components without symlinks before the last one, or in it where it is followed.
    physical: Vec<Vec<u8>>,
    /// Where it is looked for: `path`, unless that is a symlink to a device.
    place: Vec<u8>,
    is_content: bool,
    is_followed: bool,
}

impl Roots {
    /// Looks up `paths` and decides where each one stands.
    ///
    /// # Errors
    /// Where none of the paths can be looked up: [`ErrorKind::NotFound`] or [`ErrorKind::Unavailable`] naming one of them.
    /// [`ErrorKind::Invalid`] where there is no path, or one that is empty or has a slash or `.` after what is no folder.
    pub fn resolve(paths: &[PathBuf]) -> Result<Self> {
        let mut notices = Vec::new();
        let (mut failed, mut missing) = (Vec::new(), HashSet::new());
        let mut first_error = None;
        let mut given: Vec<Given> = Vec::new();
        let mut places: HashMap<Vec<Vec<u8>>, usize> = HashMap::new();
        for path in paths {
            let next = match look_up(path) {
                Ok(next) => next,
                Err(error) if error.kind() == ErrorKind::Invalid => return Err(error),
                Err(error) => {
                    let path = typed(path).unwrap_or_else(|_| path.clone()).into_os_string().into_encoded_bytes();
                    if missing.insert(path.clone()) {
                        failed.push(FailedRoot { path, message: error.to_string() });
                    }
                    first_error.get_or_insert(error);
                    continue;
                }
            };
            if let Some(same) = places.get(&next.physical) {
                notices.push(format!("`{}` is the same as `{}` and is stored once", next.shown, given[*same].shown));
            } else {
                places.insert(next.physical.clone(), given.len());
                given.push(next);
            }
        }
        if given.is_empty() {
            return Err(none_found(first_error, failed.len()));
        }
        let plan = plan(&given, &places, &mut notices)?;
        let paths = given.into_iter().map(|path| path.path).chain(failed.iter().map(|failed| failed.path.clone())).collect();
        Ok(Self { plan: Arc::new(plan), paths, notices, failed })
    }

    /// The given paths that are missing or cannot be looked up. A backup reports them, and its snapshot is not whole.
    pub fn failed(&self) -> &[FailedRoot] {
        &self.failed
    }

    /// The absolute paths as given, each once, for the snapshot's record; those in [`Roots::failed`] too, so that a path that is missing
    /// for once does not make another series.
    pub fn paths(&self) -> &[Vec<u8>] {
        &self.paths
    }

    /// What a person should know: paths that are stored once though given twice, and names that were kept apart.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

impl Plan {
    fn child(&mut self, name: &[u8]) -> &mut Self {
        Arc::make_mut(self.below.entry(name.to_vec()).or_default())
    }

    /// Puts a path that lies in no other one at `key`, with the folders on the way.
    fn insert(&mut self, path: &Given, key: &[Vec<u8>]) -> Result<()> {
        let mut node = self;
        for (depth, name) in key.iter().enumerate() {
            node = node.child(name);
            if node.place.is_none() {
                // Right for the last one too unless the key is short; that one is set below.
                node.place = Some(Place { folder: c_string(absolute(&key[..depth]))?, reach: c_string(name.clone())? });
            }
        }
        node.is_given = true;
        node.place = Some(path.place(key.is_empty())?);
        Ok(())
    }
}

impl Given {
    fn place(&self, is_root: bool) -> Result<Place> {
        let cut = self.place.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let (folder, name) = (&self.place[..cut.max(1)], &self.place[cut + 1..]);
        if is_root || name.is_empty() {
            return Ok(Place { folder: c_string(self.place.clone())?, reach: c".".to_owned() });
        }
        let name = if self.is_followed { [name, b"/."].concat() } else { name.to_vec() };
        Ok(Place { folder: c_string(folder.to_vec())?, reach: c_string(name)? })
    }

    /// The last component; of the path as typed, where it has one.
    fn name(&self) -> Vec<u8> {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec()
    }
}

/// The error where not one path can be backed up.
fn none_found(first: Option<Error>, count: usize) -> Error {
    match first {
        None => Error::new(ErrorKind::Invalid, "no path to back up was given"),
        Some(error) if count == 1 => error,
        Some(error) => error.context(format!("none of the {count} paths can be backed up; the first one")),
    }
}

/// Puts each path where it belongs. `places` finds paths by their components.
fn plan(given: &[Given], places: &HashMap<Vec<Vec<u8>>, usize>, notices: &mut Vec<String>) -> Result<Plan> {
    let outer_of = |path: &Given| (0..path.physical.len()).find_map(|depth| places.get(&path.physical[..depth]).copied());
    let around: Vec<Option<usize>> = given.iter().map(outer_of).collect();
    let outer: Vec<usize> = (0..given.len()).filter(|index| around[*index].is_none()).collect();
    let keys = keys(&outer.iter().map(|index| &given[*index]).collect::<Vec<_>>(), notices);
    let key_of: HashMap<usize, &Vec<Vec<u8>>> = outer.iter().copied().zip(&keys).collect();
    let mut plan = Plan::default();
    for (index, key) in outer.iter().zip(&keys) {
        plan.insert(&given[*index], key)?;
    }
    for (path, around) in given.iter().zip(&around) {
        let Some((outer, key)) = around.and_then(|index| Some((&given[index], *key_of.get(&index)?))) else { continue };
        notices.push(format!("`{}` lies inside `{}` and is stored once, as part of it", path.shown, outer.shown));
        let node = key.iter().fold(&mut plan, |node, name| node.child(name));
        path.physical[outer.physical.len()..].iter().fold(node, |node, name| node.child(name)).is_given = true;
    }
    Ok(plan)
}

/// The key of each path, as components; none of the paths lies in another.
fn keys(paths: &[&Given], notices: &mut Vec<String>) -> Vec<Vec<Vec<u8>>> {
    if let [path] = paths
        && path.is_content
    {
        return vec![Vec::new()];
    }
    let mut count: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for path in paths {
        *count.entry(path.name()).or_default() += 1;
    }
    let mut is_full: Vec<bool> = paths.iter().map(|path| count[&path.name()] > 1).collect();
    // Bound: each round but the last makes one more path full.
    loop {
        let taken: BTreeSet<&Vec<u8>> =
            paths.iter().zip(&is_full).filter(|(_, full)| **full).filter_map(|(path, _)| path.physical.first()).collect();
        let more: Vec<bool> = paths.iter().zip(&is_full).map(|(path, full)| *full || taken.contains(&path.name())).collect();
        if more == is_full {
            break;
        }
        is_full = more;
    }
    let key_of = |(path, full): (&&Given, &bool)| {
        let key = if *full { path.physical.clone() } else { vec![path.name()] };
        let shown = String::from_utf8_lossy(&key.join(&b'/')).into_owned();
        if *full {
            notices.push(format!("`{}` is stored as `{shown}`, since its name alone would collide with another path's", path.shown));
        } else if path.is_content {
            notices.push(format!("the content of `{}` is stored in `{shown}`, since it is not the only path", path.shown));
        }
        key
    };
    paths.iter().zip(&is_full).map(key_of).collect()
}

fn look_up(path: &Path) -> Result<Given> {
    let bytes = path.as_os_str().as_bytes();
    let shown = path.to_string_lossy().into_owned();
    let invalid = |why: &str| Error::new(ErrorKind::Invalid, format!("`{shown}` {why}"));
    if bytes.is_empty() {
        return Err(invalid("is no path"));
    }
    if bytes.contains(&0) {
        return Err(invalid("holds a zero byte"));
    }
    let last = bytes.split(|byte| *byte == b'/').rfind(|component| !component.is_empty());
    let is_content = matches!(last, None | Some(b"." | b".."));
    let is_followed = is_content || bytes.ends_with(b"/");
    let named = |error| Error::io(format!("`{shown}`"), error);
    let full = typed(path).map_err(named)?;
    let metadata = if is_followed { std::fs::metadata(&full) } else { std::fs::symlink_metadata(&full) }.map_err(named)?;
    if is_followed && !metadata.is_dir() {
        return Err(invalid("is no folder; leave out what follows its name"));
    }
    let leads_to_device = metadata.is_symlink() && std::fs::metadata(&full).is_ok_and(|target| target.file_type().is_block_device());
    let physical = match (is_followed || leads_to_device, full.parent(), full.file_name()) {
        (false, Some(parent), Some(name)) => parent.canonicalize().map_err(named)?.join(name),
        _ => full.canonicalize().map_err(named)?,
    };
    let place = if leads_to_device { &physical } else { &full };
    let components = physical.as_os_str().as_bytes().split(|byte| *byte == b'/');
    Ok(Given {
        path: full.as_os_str().as_bytes().to_vec(),
        place: place.as_os_str().as_bytes().to_vec(),
        physical: components.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect(),
        shown,
        is_content,
        is_followed,
    })
}

/// The absolute path as typed, without `.` and repeated slashes. What comes before a `..` is looked up: only the file system knows
/// where that leads.
fn typed(path: &Path) -> std::io::Result<PathBuf> {
    let mut full = if path.is_absolute() { PathBuf::from("/") } else { std::env::current_dir()? };
    for name in path.as_os_str().as_bytes().split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => full = full.join("..").canonicalize()?,
            name => full.push(OsStr::from_bytes(name)),
        }
    }
    Ok(full)
}

fn absolute(components: &[Vec<u8>]) -> Vec<u8> {
    if components.is_empty() { b"/".to_vec() } else { components.iter().flat_map(|name| [b"/", name.as_slice()].concat()).collect() }
}

fn c_string(bytes: Vec<u8>) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::new(ErrorKind::Invalid, "a path holds a zero byte"))
}
