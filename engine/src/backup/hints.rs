//! How the last version of a file was cut, as a hint for cutting this one.
//!
//! The stat cache has it, for every credential; where there is none, the last snapshot ([`super::recall`]). Only what lies near an extent is held in
//! memory.

use super::batch::Cut;
use super::stat_cache::{CachedChunks, StatCache};
use crate::chunker::{Cutter, Guide};
use crate::entry::ChunkRef;
use std::collections::VecDeque;

/// Chunks before and behind an extent that are shown with it, since what was inserted or removed moves the rest.
const SLACK: usize = 64;
/// Chunks that are shown with an extent, at most: chunks of a cutter's minimum may be tiny.
pub(super) const CHUNKS_MAX: usize = 2048;

/// The chunks of the last version, in order.
pub(super) struct Hints<'a> {
    rest: Option<CachedChunks<'a>>,
    /// Where in the content, holes left out, the next of `rest` begins.
    end: u64,
    /// Chunks near the extent, each with where it begins.
    near: VecDeque<(u64, ChunkRef)>,
    is_fixed: bool,
}

impl<'a> Hints<'a> {
    /// What `cache` knows of the file at `key`; nothing if another cutter made its chunks.
    pub(super) fn new(cache: Option<&'a StatCache>, key: &[u8], cut: &Cut) -> Self {
        let rest = cache.and_then(|cache| cache.chunks(key)).filter(|chunks| chunks.cutter == cut.id);
        Self { rest, end: 0, near: VecDeque::new(), is_fixed: matches!(cut.cutter, Cutter::Fixed(_)) }
    }

    /// How long the extent should be that begins at `start`, holes left out, and is to have about `length` bytes; and how to cut it.
    /// An extent ends where a chunk did, if one is near and chunks are not all of one size. Starts must ascend.
    pub(super) fn extent(&mut self, start: u64, length: u64) -> (u64, Guide) {
        let wanted = start.saturating_add(length);
        loop {
            while self.near.get(SLACK).is_some_and(|(at, _)| *at < start) {
                self.near.pop_front();
            }
            let is_enough = self.near.iter().rev().take_while(|(at, _)| *at >= wanted).count() >= SLACK;
            if is_enough || self.near.len() >= CHUNKS_MAX || !self.pull() {
                break;
            }
        }
        let end = self.near.iter().map(|(at, _)| *at).filter(|at| *at > start + length / 2 && *at <= wanted).max();
        let end = end.filter(|_| !self.is_fixed);
        let next = self.near.partition_point(|(at, _)| *at < start);
        let guide = Guide::new(self.near.iter().map(|(_, chunk)| *chunk).collect(), next);
        (end.map_or(length, |end| end - start), guide)
    }

    #[cfg(test)]
    pub(super) fn near_count(&self) -> usize {
        self.near.len()
    }

    /// Takes one more chunk; false where there is none.
    fn pull(&mut self) -> bool {
        let Some(chunk) = self.rest.as_mut().and_then(Iterator::next) else { return false };
        self.near.push_back((self.end, chunk));
        self.end = self.end.saturating_add(chunk.length.into());
        true
    }
}
