//! Inner nodes: what they say of their children.

use super::super::cursor::{Reader, Write};
use super::super::node;
use super::columns::{Span, read_key};
use super::leaf_encode::put_key;
use crate::entry::{Key, KeyKind};
use crate::error::{Error, Result};
use crate::id::ChunkId;
use std::sync::Arc;

/// What an inner node says of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeChild {
    pub(crate) last_key: Key,
    pub(crate) id: ChunkId,
    /// Entries below it.
    pub(crate) entries: u64,
    /// Sizes of the files below it, modulo 2^64.
    pub(crate) file_bytes: u64,
}

/// An inner node, opened and checked: an iterator over its children.
#[derive(Debug, Clone)]
pub(crate) struct TreeInner {
    bytes: Arc<[u8]>,
    rest: Span,
    key: Key,
    is_first: bool,
    key_kind: KeyKind,
    left: usize,
    facts: InnerFacts,
}

/// What is true of an inner node as a whole, if it says the truth of its children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct InnerFacts {
    pub(crate) level: u8,
    pub(crate) last_key: Key,
    pub(crate) entries: u64,
    pub(crate) file_bytes: u64,
}

impl TreeInner {
    /// Opens an inner node whose head was read: TREE-2, TREE-5, TREE-6.
    pub(super) fn open(bytes: Arc<[u8]>, at: usize, level: u8, key_kind: KeyKind) -> Result<Self> {
        let mut rest = Span { at, end: bytes.len() };
        let left = rest.read(&bytes, |reader| node::read_count(reader, "TREE-2"))?;
        let facts = InnerFacts { level, ..InnerFacts::default() };
        let mut inner = Self { bytes, rest, key: Key::new(), is_first: true, key_kind, left, facts };
        inner.facts = inner.clone().check()?;
        Ok(inner)
    }

    /// What is true of the node as a whole.
    pub(crate) fn facts(&self) -> &InnerFacts {
        &self.facts
    }

    fn check(mut self) -> Result<InnerFacts> {
        let mut facts = self.facts.clone();
        for _ in 0..self.left {
            let (_, entries, file_bytes) = self.read()?;
            facts.entries = match facts.entries.checked_add(entries) {
                Some(sum) => sum,
                None => return Err(Error::rule("TREE-16", "an inner node tells of more than 2^64 entries")),
            };
            facts.file_bytes = facts.file_bytes.wrapping_add(file_bytes);
        }
        self.rest.end(&self.bytes)?;
        facts.last_key = self.key;
        Ok(facts)
    }

    /// Moves to the next child, whose last key is then in `key`.
    fn read(&mut self) -> Result<(ChunkId, u64, u64)> {
        let (key, is_first, key_kind) = (&mut self.key, std::mem::take(&mut self.is_first), self.key_kind);
        self.rest.read(&self.bytes, |reader: &mut Reader<'_>| {
            read_key(reader, key, is_first, key_kind)?;
            Ok((ChunkId(reader.array()?), reader.varint()?, reader.varint()?))
        })
    }
}

impl Iterator for TreeInner {
    type Item = TreeChild;

    fn next(&mut self) -> Option<TreeChild> {
        self.left = self.left.checked_sub(1)?;
        // Everything was checked when the node was opened.
        let (id, entries, file_bytes) = self.read().ok()?;
        Some(TreeChild { last_key: self.key.clone(), id, entries, file_bytes })
    }
}

/// Writes an inner node of children with ascending last keys.
pub(crate) fn encode_tree_inner(level: u8, children: &[TreeChild]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + children.len() * 64);
    out.put_bytes(&[super::LEAF + 1, level]);
    out.put_varint(children.len() as u64);
    let mut before: &[u8] = &[];
    for child in children {
        put_key(&mut out, before, &child.last_key);
        out.put_bytes(child.id.as_bytes());
        out.put_varint(child.entries);
        out.put_varint(child.file_bytes);
        before = &child.last_key;
    }
    out
}
