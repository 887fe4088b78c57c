//! Cutting with an earlier version as a hint: where it was cut is a guess, the hash is the proof.
//!
//! Within a chunk there is no cut. So bytes that have the name of a chunk of this cutter are one chunk again if the data ends with them, or
//! if the rolling hash of their last 64 bytes matches, and it need not run over all of them; the name is wanted anyway. From the first
//! difference it runs until a chunk comes out that the earlier version had as well, or that is followed by one of the next few of it.
//!
//! Invariant: the cuts are those of [`Cutter::next_cut`], whatever the hint says of lengths, names and order, as long as every name in it
//! that is the name of some bytes was given to a chunk that this cutter made. A hint that lies costs time.

use super::Cutter;
use crate::entry::ChunkRef;
use crate::error::Result;
use crate::id::ChunkId;
use std::ops::Range;

/// After a difference, so many of the next chunks are tried: an edit seldom takes away more.
const TRIES: usize = 4;

/// How a stretch of an earlier version was cut, and how far it has been followed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Guide {
    chunks: Vec<ChunkRef>,
    /// The one that comes next if nothing changed.
    next: usize,
    /// Whether the last chunk was one of the hint.
    is_following: bool,
    /// Where each chunk of the hint begins, from the beginning of the first.
    starts: Vec<u64>,
    /// Where in the earlier version we are, if nothing moved since the last chunk that it had as well.
    place: u64,
    /// Which chunks of the hint stood where the last chunk stands now, if it is not one of them.
    earlier: Range<usize>,
    /// Bytes that the rolling hash decided.
    #[cfg(test)]
    rolled: usize,
}

impl Guide {
    /// For content near that of `chunks`, which the cutter that is guided made, in order; it likely begins with the one at `next`.
    pub(crate) fn new(chunks: Vec<ChunkRef>, next: usize) -> Self {
        let mut end = 0;
        let mut starts = Vec::with_capacity(chunks.len());
        for chunk in &chunks {
            starts.push(end);
            end += u64::from(chunk.length);
        }
        Self {
            place: starts.get(next).copied().unwrap_or(end),
            starts,
            earlier: 0..0,
            chunks,
            next,
            is_following: true,
            #[cfg(test)]
            rolled: 0,
        }
    }

    /// As [`Cutter::next_cut`], with the name of the chunk, which `name` gives.
    ///
    /// Asks for more data less often: a chunk that is known needs no more than its own bytes.
    pub(crate) fn next_cut(
        &mut self,
        cutter: &Cutter,
        data: &[u8],
        is_last: bool,
        name: impl Fn(&[u8]) -> Result<ChunkId>,
    ) -> Result<Option<(usize, ChunkId)>> {
        let tries = match cutter {
            // What is cut at fixed sizes is cut without looking.
            Cutter::Fixed(_) => 0,
            Cutter::Content(_) if self.is_following => 1,
            Cutter::Content(_) => TRIES,
        };
        for (index, hint) in self.chunks.iter().enumerate().skip(self.next).take(tries) {
            let Some(bytes) = data.get(..hint.length as usize) else { continue };
            let is_end = is_last && bytes.len() == data.len();
            // This also spares naming bytes that are no chunk.
            if !is_end && !cutter.may_end(bytes) {
                continue;
            }
            let id = name(bytes)?;
            if id == hint.id {
                (self.next, self.is_following) = (index + 1, true);
                self.move_behind(index);
                return Ok(Some((bytes.len(), id)));
            }
        }
        let Some(length) = cutter.next_cut(data, is_last) else { return Ok(None) };
        #[cfg(test)]
        {
            self.rolled += length;
        }
        let id = name(&data[..length])?;
        self.pass(cutter, length, &id);
        Ok(Some((length, id)))
    }

    /// A chunk comes that was cut already.
    pub(crate) fn pass(&mut self, cutter: &Cutter, length: usize, id: &ChunkId) {
        let stood = self.stood(length);
        // Where all is in fixed places nothing moves, and the same bytes elsewhere mean nothing.
        let met = if matches!(cutter, Cutter::Content(_)) { self.look_for(id) } else { None };
        match met {
            Some(index) => self.move_behind(index),
            None => {
                self.earlier = stood;
                self.place += length as u64;
            }
        }
    }

    /// Chunks of the earlier version in the place of the last chunk, if that one was not in it: what it likely was before it changed.
    pub(crate) fn earlier(&self) -> &[ChunkRef] {
        self.chunks.get(self.earlier.clone()).unwrap_or_default()
    }

    /// The chunks of the hint that stand where we are, over `length` bytes; the last one where that is behind them all.
    fn stood(&self, length: usize) -> Range<usize> {
        let first = self.starts.partition_point(|start| *start <= self.place).saturating_sub(1);
        let end = self.starts.partition_point(|start| *start < self.place + length as u64);
        first..end.max(first + 1).min(self.chunks.len())
    }

    /// The last chunk is that of the hint.
    fn move_behind(&mut self, index: usize) {
        self.earlier = 0..0;
        if let (Some(start), Some(chunk)) = (self.starts.get(index), self.chunks.get(index)) {
            self.place = start + u64::from(chunk.length);
        }
    }

    /// Goes on behind a chunk that the hint has as well, behind or, after something moved, before the place where we are.
    fn look_for(&mut self, id: &ChunkId) -> Option<usize> {
        let is_it = |hint: &ChunkRef| hint.id == *id;
        let (before, after) = self.chunks.split_at(self.next.min(self.chunks.len()));
        let found = match after.iter().position(is_it) {
            Some(index) => Some(before.len() + index),
            None => before.iter().rposition(is_it),
        };
        self.is_following = found.is_some();
        if let Some(index) = found {
            self.next = index + 1;
        }
        found
    }
}

#[cfg(test)]
mod tests;
