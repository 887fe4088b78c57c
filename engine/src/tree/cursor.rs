//! A place in a tree, before a node or an entry, from where one may go in or past.
//!
//! Walks give every entry of a range. Whoever knows some subtrees already (equal ids are equal subtrees) takes a cursor and passes these
//! unread. It holds one node for each level, and checks what a walk checks of the nodes that it opens.

use super::descent::open;
use super::entries::{Entries, Order};
use super::family::{Family, Node};
use super::{KeyRange, NodeSource, WalkCounters};
use crate::entry::{Entry, EntryKind, Key, KeyKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::tree::{TreeChild, TreeInner, TreeLeaf};
use crate::id::ChunkId;

/// What a cursor stands before.
#[derive(Debug)]
pub(crate) enum Head {
    /// A node that was not opened yet.
    Node(HeadNode),
    /// An entry.
    Entry(Box<Entry>),
}

/// A node as its parent describes it.
#[derive(Debug)]
pub(crate) struct HeadNode {
    /// 0 for a leaf.
    pub(crate) level: u8,
    /// The last key before it; `None` for the first.
    pub(crate) before: Option<Key>,
    claim: TreeChild,
}

impl HeadNode {
    pub(crate) fn id(&self) -> ChunkId {
        self.claim.id
    }

    /// The last key in it.
    pub(crate) fn last_key(&self) -> &[u8] {
        &self.claim.last_key
    }
}

/// A place in a tree, or in a range of its keys.
#[derive(Debug)]
pub(crate) struct TreeCursor<'a> {
    source: &'a dyn NodeSource,
    family: Entries,
    range: KeyRange,
    order: Order,
    /// The inner nodes that are open, from the root down.
    inner: Vec<Step>,
    leaf: Option<Box<TreeLeaf>>,
    head: Option<Head>,
    counters: WalkCounters,
}

/// An inner node, and the last key before its next child.
#[derive(Debug)]
struct Step {
    id: ChunkId,
    level: u8,
    children: TreeInner,
    before: Option<Key>,
}

impl<'a> TreeCursor<'a> {
    /// Opens the root and stands before what is first in the range.
    ///
    /// # Errors
    /// Whatever the source fails with, and a rule of the format that the root breaks.
    pub(crate) fn new(source: &'a dyn NodeSource, root: &ChunkId, key_kind: KeyKind, range: KeyRange) -> Result<Self> {
        let mut cursor = Self {
            source,
            family: Entries::reading(key_kind),
            range,
            order: Order::new(key_kind),
            inner: Vec::new(),
            leaf: None,
            head: None,
            counters: WalkCounters::default(),
        };
        cursor.open(*root, None, None, None)?;
        cursor.pass()?;
        Ok(cursor)
    }

    /// What it stands before; `None` at the end.
    pub(crate) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Nodes that are open, the root among them: what it stands before lies in the innermost.
    pub(crate) fn depth(&self) -> usize {
        self.inner.len() + usize::from(self.leaf.is_some())
    }

    /// What was read so far.
    pub(crate) fn counters(&self) -> WalkCounters {
        self.counters
    }

    /// Opens the node that it stands before, and stands before what is first in there. Does nothing before an entry.
    ///
    /// # Errors
    /// As [`TreeCursor::new`].
    pub(crate) fn enter(&mut self) -> Result<()> {
        match self.head.take() {
            Some(Head::Node(node)) => {
                let parent = self.inner.last().map(|parent| parent.id);
                self.open(node.claim.id, Some(node.level), node.before.clone(), Some((&node.claim, parent)))?;
                self.pass()
            }
            head => {
                self.head = head;
                Ok(())
            }
        }
    }

    /// Passes what it stands before without opening it, and gives it back where it was an entry.
    ///
    /// # Errors
    /// A rule of the format that the next entry breaks.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        let passed = self.head.take();
        self.pass()?;
        Ok(match passed {
            Some(Head::Entry(entry)) => Some(*entry),
            _ => None,
        })
    }

    fn open(&mut self, id: ChunkId, level: Option<u8>, before: Option<Key>, claimed: Option<(&TreeChild, Option<ChunkId>)>) -> Result<()> {
        let (node, found) = open(&self.family, self.source, &mut self.counters, &id, level)?;
        Entries::check(&before, claimed.map(|(claim, _)| claim), &node, &found).map_err(|error| match claimed {
            Some((_, Some(parent))) => error.context(format!("{} node {parent}, of its child {id}", Entries::KIND)),
            _ => error.context(format!("{} node {id}", Entries::KIND)),
        })?;
        match node {
            Node::Leaf(leaf) => self.leaf = Some(leaf),
            Node::Inner(level, children) => self.inner.push(Step { id, level, children, before }),
        }
        Ok(())
    }

    /// Finds what comes next in the range.
    fn pass(&mut self) -> Result<()> {
        self.head = match self.next_entry()? {
            Some(entry) => Some(Head::Entry(Box::new(entry))),
            None => self.next_node()?.map(Head::Node),
        };
        if self.head.is_none() {
            (self.leaf, self.inner) = (None, Vec::new());
        }
        Ok(())
    }

    fn next_entry(&mut self) -> Result<Option<Entry>> {
        let Self { leaf: Some(leaf), order, range, .. } = self else { return Ok(None) };
        let Some(entry) = leaf.next_from(&range.start, |key, is_folder| order.check_parent(key, is_folder))? else {
            self.leaf = None;
            return Ok(None);
        };
        order.check_parent(&entry.key, entry.kind == EntryKind::Folder)?;
        if range.is_past(&entry.key) {
            (self.leaf, self.inner) = (None, Vec::new());
            return Ok(None);
        }
        self.counters.items += 1;
        Ok(Some(entry))
    }

    fn next_node(&mut self) -> Result<Option<HeadNode>> {
        while let Some(parent) = self.inner.last_mut() {
            let Some(claim) = parent.children.next() else {
                self.inner.pop();
                continue;
            };
            let before = parent.before.replace(claim.last_key.clone());
            if claim.last_key < self.range.start {
                continue;
            }
            if before.as_ref().is_some_and(|before| self.range.ends_after(before)) {
                return Ok(None);
            }
            let level = parent.level.checked_sub(1).ok_or_else(|| Error::new(ErrorKind::Internal, "a leaf that has children"))?;
            return Ok(Some(HeadNode { level, before, claim }));
        }
        Ok(None)
    }
}
