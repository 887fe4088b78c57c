//! Two trees side by side: what is in one of them only, or not the same in both.
//!
//! Equal ids are equal subtrees, which are passed unread. Nodes end where the keys alone say so, so trees that differ little have nearly all
//! nodes in common, and comparing them takes what was changed times the height, not the size.

use super::cursor::{Head, TreeCursor};
use super::{KeyRange, NodeSource};
use crate::entry::{Entry, KeyKind};
use crate::error::Result;
use crate::id::ChunkId;
use std::cmp::Ordering;

/// An entry that is not the same in both trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unequal {
    /// In the first tree only.
    First(Entry),
    /// In the second tree only.
    Second(Entry),
    /// In both, and not the same: the key is.
    Both(Box<(Entry, Entry)>),
}

/// Gives what differs between two trees, or within a range of them, in the order of keys.
#[derive(Debug)]
pub(crate) struct TreeComparison<'a> {
    /// Both cursors; `None` where the trees are equal as a whole.
    cursors: Option<(TreeCursor<'a>, TreeCursor<'a>)>,
}

/// What to do next.
enum Step {
    /// Open the next node of the first tree, of the second, or of both.
    Enter {
        first: bool,
        second: bool,
    },
    /// Pass what stands next in the first tree, in the second, or in both.
    Pass {
        first: bool,
        second: bool,
    },
    End,
}

impl<'a> TreeComparison<'a> {
    /// Opens both roots, unless they are the same.
    ///
    /// # Errors
    /// Whatever the sources fail with, and a rule of the format that a root breaks.
    pub(crate) fn new(
        first: (&'a dyn NodeSource, &ChunkId),
        second: (&'a dyn NodeSource, &ChunkId),
        key_kind: KeyKind,
        range: &KeyRange,
    ) -> Result<Self> {
        let open = |(source, root): (&'a dyn NodeSource, &ChunkId)| TreeCursor::new(source, root, key_kind, range.clone());
        let cursors = if first.1 == second.1 { None } else { Some((open(first)?, open(second)?)) };
        Ok(Self { cursors })
    }

    /// Nodes that were read so far, of both trees.
    pub(crate) fn nodes_read(&self) -> u64 {
        self.cursors.as_ref().map_or(0, |(first, second)| first.counters().nodes + second.counters().nodes)
    }

    fn read_next(&mut self) -> Result<Option<Unequal>> {
        let Some((first, second)) = &mut self.cursors else { return Ok(None) };
        loop {
            match decide(first.head(), second.head()) {
                Step::End => return Ok(None),
                Step::Enter { first: in_first, second: in_second } => {
                    if in_first {
                        first.enter()?;
                    }
                    if in_second {
                        second.enter()?;
                    }
                }
                Step::Pass { first: in_first, second: in_second } => {
                    let left = if in_first { first.next()? } else { None };
                    let right = if in_second { second.next()? } else { None };
                    match (left, right) {
                        (Some(left), Some(right)) if left != right => return Ok(Some(Unequal::Both(Box::new((left, right))))),
                        (Some(left), None) => return Ok(Some(Unequal::First(left))),
                        (None, Some(right)) => return Ok(Some(Unequal::Second(right))),
                        _ => {}
                    }
                }
            }
        }
    }
}

impl Iterator for TreeComparison<'_> {
    type Item = Result<Unequal>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read_next().transpose();
        if matches!(next, Some(Err(_))) {
            self.cursors = None;
        }
        next
    }
}

fn decide(first: Option<&Head>, second: Option<&Head>) -> Step {
    let (enter, pass) = (|first, second| Step::Enter { first, second }, |first, second| Step::Pass { first, second });
    match (first, second) {
        (None, None) => Step::End,
        (Some(Head::Node(_)), None) => enter(true, false),
        (None, Some(Head::Node(_))) => enter(false, true),
        (Some(Head::Entry(_)), None) => pass(true, false),
        (None, Some(Head::Entry(_))) => pass(false, true),
        (Some(Head::Entry(left)), Some(Head::Entry(right))) => match left.key.cmp(&right.key) {
            Ordering::Less => pass(true, false),
            Ordering::Equal => pass(true, true),
            Ordering::Greater => pass(false, true),
        },
        // An entry that comes before the node has nothing in there to be compared with.
        (Some(Head::Entry(entry)), Some(Head::Node(node))) if is_after(node.before.as_deref(), &entry.key) => pass(true, false),
        (Some(Head::Node(node)), Some(Head::Entry(entry))) if is_after(node.before.as_deref(), &entry.key) => pass(false, true),
        (Some(Head::Entry(_)), Some(Head::Node(_))) => enter(false, true),
        (Some(Head::Node(_)), Some(Head::Entry(_))) => enter(true, false),
        (Some(Head::Node(left)), Some(Head::Node(right))) => {
            if left.id() == right.id() {
                pass(true, true)
            } else if is_after(right.before.as_deref(), left.last_key()) {
                enter(true, false)
            } else if is_after(left.before.as_deref(), right.last_key()) {
                enter(false, true)
            } else {
                // Nodes of one level may be the same; what lies on different ones cannot be.
                enter(left.level >= right.level, right.level >= left.level)
            }
        }
    }
}

/// Whether all of a node that follows `before` comes after `key`.
fn is_after(before: Option<&[u8]>, key: &[u8]) -> bool {
    before.is_some_and(|before| key <= before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Entry, Key};
    use crate::tree::testing::{Nodes, build, entries, file, many};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn compare(first: &[Entry], second: &[Entry], range: &KeyRange) -> (Vec<Unequal>, u64, usize) {
        let ((first, first_root), (second, second_root)) = (build(first.to_vec()), build(second.to_vec()));
        let sources: [(&dyn NodeSource, &ChunkId); 2] = [(&first, &first_root.id), (&second, &second_root.id)];
        let mut comparison = TreeComparison::new(sources[0], sources[1], KeyKind::Paths, range).unwrap();
        let found = comparison.by_ref().collect::<Result<Vec<_>>>().unwrap();
        let fresh = |nodes: &Nodes, others: &Nodes| nodes.0.keys().filter(|id| !others.0.contains_key(*id)).count();
        (found, comparison.nodes_read(), fresh(&first, &second) + fresh(&second, &first))
    }

    /// What differs, found by looking at every entry.
    fn expected(first: &[Entry], second: &[Entry], range: &KeyRange) -> Vec<Unequal> {
        let mut all: BTreeMap<Key, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
        first.iter().for_each(|entry| all.entry(entry.key.clone()).or_default().0 = Some(entry.clone()));
        second.iter().for_each(|entry| all.entry(entry.key.clone()).or_default().1 = Some(entry.clone()));
        let differing = all.into_iter().filter(|(key, _)| range.contains(key)).filter_map(|(_, pair)| match pair {
            (Some(left), Some(right)) if left != right => Some(Unequal::Both(Box::new((left, right)))),
            (Some(left), None) => Some(Unequal::First(left)),
            (None, Some(right)) => Some(Unequal::Second(right)),
            _ => None,
        });
        differing.collect()
    }

    proptest! {
        #[test]
        fn small_trees_differ_where_their_entries_do(first in entries(1..30), second in entries(1..30), at in any::<prop::sample::Index>()) {
            let folder = KeyRange::folder(&at.get(&first).key);
            for range in [KeyRange::all(), folder] {
                prop_assert_eq!(compare(&first, &second, &range).0, expected(&first, &second, &range));
                prop_assert_eq!(compare(&first, &first, &range), (Vec::new(), 0, 0));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn large_trees_differ_where_they_were_changed(
            changes in prop::collection::vec((0..6_000_usize, 0..3_u8, 1..300_usize), 1..6),
            folder in 0..120_u32,
        ) {
            let before = many(6_000);
            let mut after = before.clone();
            for (at, what, count) in changes {
                let at = at % after.len();
                match what {
                    0 => drop(after.drain(at..(at + count).min(after.len()))),
                    1 => after[at].metadata.uid += 1,
                    _ => {
                        let key = after[at].key.clone();
                        let fresh = (0..count).map(|n| file([&key[..], format!("!{n:05}").as_bytes()].concat(), 7));
                        let fresh: Vec<_> = fresh.filter(|entry| at + 1 == after.len() || entry.key < after[at + 1].key).collect();
                        after.splice(at + 1..at + 1, fresh);
                    }
                }
            }
            after.retain(|entry| !entry.key.is_empty());
            for range in [KeyRange::all(), KeyRange::folder(format!("{folder:05}").as_bytes())] {
                let (found, nodes, fresh) = compare(&before, &after, &range);
                prop_assert_eq!(found, expected(&before, &after, &range));
                // Beside those that are not in both trees, a path for each border that moved.
                prop_assert!(nodes as usize <= fresh + 40, "{} nodes read, {} are not in both", nodes, fresh);
            }
        }
    }

    #[test]
    fn equal_subtrees_are_not_read() {
        let before = many(40_000);
        let mut after = before.clone();
        after[30_000].metadata.mode = 0o600;
        let (found, nodes, _) = compare(&before, &after, &KeyRange::all());
        assert!(found.len() == 1 && nodes <= 8, "{nodes} nodes for {} differences", found.len());
    }
}
