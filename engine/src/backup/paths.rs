//! The paths that a snapshot records: those that were given, or where they lie if they are more than a snapshot holds.

use crate::limits::{KEY_MAX, PATHS_LENGTH_MAX, PATHS_MAX};
use std::collections::BTreeSet;

/// At most [`PATHS_MAX`] paths of at most [`KEY_MAX`] bytes, and [`PATHS_LENGTH_MAX`] bytes in all. If there are more, folders stand for what was given below them:
/// the deepest ones give way first.
pub(super) fn recorded(paths: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if fits(paths.iter().map(Vec::as_slice)) {
        return paths.to_vec();
    }
    let paths: BTreeSet<&[u8]> = paths.iter().map(|path| within_limit(path)).collect();
    let down_to = |depth: usize| -> BTreeSet<&[u8]> { paths.iter().map(|path| above(path, depth)).collect() };
    // Down to the roots they fit, and the deeper the more there are.
    let (mut kept, mut too_deep) = (0, KEY_MAX);
    while too_deep - kept > 1 {
        let middle = kept.midpoint(too_deep);
        match fits(down_to(middle)) {
            true => kept = middle,
            false => too_deep = middle,
        }
    }
    down_to(kept).into_iter().map(<[u8]>::to_vec).collect()
}

fn fits<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let (mut count, mut length) = (0, 0);
    for path in paths {
        (count, length) = (count + 1, length + path.len());
        if count > PATHS_MAX || length > PATHS_LENGTH_MAX || path.len() > KEY_MAX {
            return false;
        }
    }
    true
}

/// The path, or the folder in which it is as far as that can be stored. No file system has such a path: somebody gave something else for one.
fn within_limit(path: &[u8]) -> &[u8] {
    match path.get(..KEY_MAX) {
        Some(start) if path.len() > KEY_MAX => &start[..start.iter().rposition(|byte| *byte == b'/').map_or(KEY_MAX, |at| at.max(1))],
        _ => path,
    }
}

/// The first `depth` components of a path.
fn above(path: &[u8], depth: usize) -> &[u8] {
    let is_end = |end: &usize| path[end - 1] != b'/' && path.get(*end).is_none_or(|next| *next == b'/');
    match depth.checked_sub(1) {
        Some(last) => (1..=path.len()).filter(is_end).nth(last).map_or(path, |end| &path[..end]),
        None => &path[..usize::from(path.starts_with(b"/"))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_paths_are_kept_as_given() {
        let paths = [b"/b/x".to_vec(), b"/a".to_vec()];
        assert_eq!(recorded(&paths), paths);
    }

    #[test]
    fn folders_stand_for_too_many_paths() {
        let mut paths: Vec<Vec<u8>> = (0..2 * PATHS_MAX).map(|n| format!("/srv/{}/file{n}", n % 3).into_bytes()).collect();
        paths.push(b"/etc".to_vec());
        assert_eq!(recorded(&paths), [&b"/etc"[..], b"/srv/0", b"/srv/1", b"/srv/2"]);
        let flat: Vec<Vec<u8>> = (0..2 * PATHS_MAX).map(|n| format!("/{n}").into_bytes()).collect();
        assert_eq!(recorded(&flat), [b"/"]);
    }

    #[test]
    fn they_fit_into_a_snapshot_however_long_they_are() {
        let long = |n: usize| format!("/srv/{}/{}/{n}", n % 3, "x".repeat(300)).into_bytes();
        let paths: Vec<_> = (0..PATHS_MAX).map(long).collect();
        assert_eq!(recorded(&paths).len(), 3);
        assert!(recorded(&paths).iter().all(|path| path.ends_with(b"xxx")));
        assert_eq!(recorded(&paths[..1000]), paths[..1000]);
        // A list whose lines end otherwise than was said is one path.
        let list = b"/etc/passwd\n".repeat(10_000);
        assert_eq!(recorded(std::slice::from_ref(&list)), [&list[..list[..KEY_MAX].iter().rposition(|byte| *byte == b'/').unwrap()]]);
        assert_eq!(recorded(&[b"x".repeat(KEY_MAX + 1)]), [b"x".repeat(KEY_MAX)]);
    }
}
