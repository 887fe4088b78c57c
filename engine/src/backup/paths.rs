//! The paths that a snapshot records: those that were given, or where they lie if they are more than a snapshot holds.

use crate::limits::PATHS_MAX;
use std::collections::BTreeSet;

/// At most [`PATHS_MAX`] paths. If there are more, folders stand for what was given below them: the deepest ones give way first.
pub(super) fn recorded(paths: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if paths.len() <= PATHS_MAX {
        return paths.to_vec();
    }
    let mut kept: BTreeSet<Vec<u8>> = paths.iter().cloned().collect();
    // Bound: each round takes a component off the deepest paths, which ends with one path at the latest.
    while kept.len() > PATHS_MAX {
        let deepest = kept.iter().map(|path| depth(path)).max().unwrap_or(0);
        kept = kept.into_iter().map(|path| if depth(&path) == deepest { parent(path) } else { path }).collect();
    }
    kept.into_iter().collect()
}

fn depth(path: &[u8]) -> usize {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count()
}

fn parent(mut path: Vec<u8>) -> Vec<u8> {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.truncate(end.max(1));
    path
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
}
