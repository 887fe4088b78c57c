//! Folders to back up, and the comparison with what came back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// Bytes that depend on `seed` and do not compress.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Fills a folder with one of each kind of thing that needs no privilege, some text, and some noise.
///
/// # Panics
/// Where the file system refuses.
pub fn fill(folder: &Path) {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a name below the folder")).expect("folders can be made");
        fs::write(path, bytes).expect("files can be written");
    };
    write("empty", b"");
    write("a", b"a");
    write("a.b/c", b"sorted after a/, before b");
    write("text/poem", "Fresh layers on top, cold ones below.\n".repeat(5000).as_bytes());
    write("noise/large", &noise(1, 3 << 20));
    write("noise/again", &noise(1, 3 << 20)[12_345..]);
    for n in 0..200_u64 {
        write(&format!("many/{}/{n}", n % 9), &noise(n, (n as usize * 97) % 5000));
    }
    fs::write(folder.join(OsStr::from_bytes(b"not utf-8 \xff\n")), b"bytes").expect("names are bytes");
    fs::create_dir(folder.join("empty folder")).expect("folders can be made");
    symlink("text/poem", folder.join("link")).expect("links can be made");
    symlink("nowhere/at/all", folder.join("dangling")).expect("links can be made");
    fs::hard_link(folder.join("text/poem"), folder.join("text/zz same poem")).expect("hard links can be made");
    let sparse = File::create(folder.join("sparse")).expect("files can be written");
    sparse.set_len(8 << 20).expect("holes can be made");
    sparse.write_all_at(&noise(2, 70_000), 4 << 20).expect("files can be written");
    fs::set_permissions(folder.join("a"), fs::Permissions::from_mode(0o4751)).expect("modes can be set");
    for (name, time) in [("a", UNIX_EPOCH - Duration::new(86_400, 250_000_000)), ("empty", UNIX_EPOCH + Duration::new(5_000_000_000, 7))] {
        let file = File::options().write(true).open(folder.join(name)).expect("own files can be opened");
        file.set_modified(time).expect("times can be set");
    }
}

/// Fills a folder with little, in one of two states: names, kinds, times and modes that need no privilege and no special file system.
///
/// # Panics
/// Where the file system refuses.
pub fn fill_small(folder: &Path, state: u32) {
    for (n, length) in [0, 1, 4000, 70_000].into_iter().enumerate() {
        let path = folder.join(format!("folder {}/file {n}", n % 2));
        fs::create_dir_all(path.parent().expect("a name below the folder")).expect("folders can be made");
        // One file differs between the states.
        let seed = n as u64 + if n == 2 { u64::from(state) * 100 } else { 0 };
        fs::write(&path, noise(seed, length)).expect("files can be written");
    }
    fs::write(folder.join("text"), "Fresh layers on top, cold ones below.\n".repeat(2000)).expect("files can be written");
    fs::write(folder.join(OsStr::from_bytes(b"not utf-8 \xff")), b"bytes").expect("names are bytes");
    fs::hard_link(folder.join("text"), folder.join("text again")).expect("hard links can be made");
    symlink("folder 0/file 0", folder.join("link")).expect("links can be made");
    let sparse = File::create(folder.join("sparse")).expect("files can be written");
    sparse.set_len(1 << 20).expect("holes can be made");
    sparse.write_all_at(b"not a hole", 512 << 10).expect("files can be written");
    let mut paths: Vec<_> = describe(folder).into_keys().collect();
    // The deepest first, since what is made in a folder moves its time.
    paths.reverse();
    for name in paths {
        let path = folder.join(OsStr::from_bytes(&name));
        let stat = fs::symlink_metadata(&path).expect("it was found");
        if !stat.file_type().is_symlink() {
            fs::set_permissions(&path, fs::Permissions::from_mode(if stat.is_dir() { 0o755 } else { 0o640 })).expect("modes can be set");
            let file = File::open(&path).expect("own files can be opened");
            file.set_modified(UNIX_EPOCH + Duration::new(1_700_000_000, 123)).expect("times can be set");
        }
    }
}

/// What must be the same wherever a golden repository is restored: kind, content, target.
///
/// # Panics
/// Where the folder cannot be read.
pub fn describe_portable(folder: &Path) -> Facts {
    let cut = |text: String| text.split(", sparse").next().unwrap_or_default().split(", mode").next().unwrap_or_default().to_owned();
    describe(folder).into_iter().map(|(name, text)| (name, cut(text))).collect()
}

/// What is compared of each thing below a folder, by its path.
pub type Facts = BTreeMap<Vec<u8>, String>;

/// Describes everything below `folder`, the folder itself as well.
fn describe(folder: &Path) -> Facts {
    let mut facts = Facts::new();
    let mut first_names = BTreeMap::new();
    let mut todo = vec![folder.to_path_buf()];
    while let Some(path) = todo.pop() {
        let stat = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let kind = stat.file_type();
        let what = if kind.is_dir() {
            todo.extend(fs::read_dir(&path).expect("own folders can be read").map(|entry| entry.expect("and their entries").path()));
            "folder".to_owned()
        } else if kind.is_symlink() {
            format!("link to {:?}", fs::read_link(&path).expect("links can be read"))
        } else if kind.is_file() {
            let bytes = fs::read(&path).expect("own files can be read");
            format!("file of {} bytes, {}, sparse {}", bytes.len(), blake3::hash(&bytes), stat.blocks() * 512 < stat.size())
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else {
            format!("{kind:?}")
        };
        let name = path.strip_prefix(folder).expect("it was found below").as_os_str().as_bytes().to_vec();
        facts.insert(name.clone(), format!("{what}, mode {:o}, time {}.{:09}", stat.mode(), stat.mtime(), stat.mtime_nsec()));
        if stat.nlink() > 1 && !kind.is_dir() {
            first_names.entry((stat.dev(), stat.ino())).or_insert_with(Vec::new).push(name);
        }
    }
    for mut names in first_names.into_values() {
        names.sort();
        for name in &names {
            facts.entry(name.clone()).and_modify(|text| *text += &format!(", one of {names:?}"));
        }
    }
    facts
}

/// Panics with what differs, if anything does.
///
/// # Panics
/// Where the two folders are not the same in names, kinds, content, holes, modes, times and hard links.
pub fn assert_same(expected: &Path, found: &Path) {
    let (expected, mut found) = (describe(expected), describe(found));
    let mut differences = Vec::new();
    for (name, text) in &expected {
        match found.remove(name) {
            Some(other) if other == *text => {}
            other => {
                differences.push(format!("{}\n  expected {text}\n  found    {}", String::from_utf8_lossy(name), other.unwrap_or_default()))
            }
        }
    }
    differences.extend(found.keys().map(|name| format!("{} should not be there", String::from_utf8_lossy(name))));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
