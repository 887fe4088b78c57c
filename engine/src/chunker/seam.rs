//! Cutting one long data range in several places at once.
//!
//! A range is divided into extents. Each is cut by itself, as if a chunk ended where it begins; that is a guess, right where an earlier
//! version had a cut there and is the same. Then, in order, the true cuts are followed over each border until they meet a cut of the
//! extent: from there on its cuts are true ones, since a cut depends on nothing before it. With content that has any variety that takes a
//! few chunks; in the worst case a whole extent is cut again.
//!
//! Invariant: the cuts are those of the range shown whole, whatever the extents are.

use super::Cutter;
use std::ops::Range;

/// What is open between two extents of a range.
#[derive(Debug, Default)]
pub(crate) struct Seam {
    /// The bytes since the last true cut, fewer than the longest chunk has.
    open: Vec<u8>,
}

impl Seam {
    /// Goes on with the extent `data`, which was cut into `cuts`: ranges that touch, from its first byte on. What lies behind the last of
    /// them was not decided there, nothing if the data range ends here (`is_last`). `take` gets the bytes of each true chunk up to where
    /// the cuts meet; from the index that is returned on, all of `cuts` are true.
    pub(crate) fn join<E>(
        &mut self,
        cutter: &Cutter,
        data: &[u8],
        cuts: &[Range<usize>],
        is_last: bool,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let cuts_end = cuts.last().map_or(0, |cut| cut.end);
        let mut head = std::mem::take(&mut self.open);
        let open = head.len();
        let mut at = 0;
        if open > 0 {
            // Every chunk that begins in what was open ends in here, or is not decided yet.
            head.extend_from_slice(&data[..data.len().min(cutter.length_max())]);
            while at < open {
                let is_all = is_last && head.len() == open + data.len();
                let Some(length) = cutter.next_cut(&head[at..], is_all) else {
                    self.open = head.split_off(at);
                    return Ok(cuts.len());
                };
                take(&head[at..at + length])?;
                at += length;
            }
        }
        let mut at = at - open;
        loop {
            if at == cuts_end || at == data.len() {
                self.open = data[at..].to_vec();
                return Ok(cuts.len());
            }
            if let Ok(index) = cuts.binary_search_by_key(&at, |cut| cut.start) {
                self.open = data[cuts_end..].to_vec();
                return Ok(index);
            }
            let Some(length) = cutter.next_cut(&data[at..], is_last) else {
                self.open = data[at..].to_vec();
                return Ok(cuts.len());
            };
            take(&data[at..at + length])?;
            at += length;
        }
    }
}

#[cfg(test)]
mod tests;
