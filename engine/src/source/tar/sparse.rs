//! Maps of holes: where the content of a sparse file lies.

use super::pax::decimal;
use std::ops::Range;

/// Pieces of content as (offset, length), as the archive has them.
pub(super) type Map = Vec<(u64, u64)>;

/// Pieces in one map. A file with more holes than this could not be stored in one entry.
const PIECES_MAX: usize = 1 << 17;

type Result<T> = std::result::Result<T, String>;

/// Refuses a map before it takes too much memory.
pub(super) fn check_length(map: &Map) -> Result<()> {
    if map.len() > PIECES_MAX { Err(format!("more than {PIECES_MAX} pieces")) } else { Ok(()) }
}

/// The ranges of content, ascending and not touching.
pub(super) fn ranges(map: &Map, size: u64) -> Result<Vec<Range<u64>>> {
    check_length(map)?;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut end = 0;
    for (offset, length) in map {
        let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size).ok_or("pieces overlap or lie outside")?;
        end = next;
        match ranges.last_mut() {
            _ if *length == 0 => {}
            Some(last) if last.end == *offset => last.end = next,
            _ => ranges.push(*offset..next),
        }
    }
    Ok(ranges)
}

/// The map of PAX 1.0 as it comes, block by block: the number of pieces, then offset and length of each, every number in a line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    count: Option<u64>,
    offset: Option<u64>,
    map: Map,
}

impl Lines {
    /// Takes the next block; gives the map where it ends in it.
    pub(super) fn add(&mut self, block: &[u8]) -> Result<Option<Map>> {
        for byte in block {
            if *byte != b'\n' {
                // A number of 64 bits has at most 20 digits.
                if self.line.len() == 20 {
                    return Err("a number is too long".into());
                }
                self.line.push(*byte);
                continue;
            }
            let number = decimal(&std::mem::take(&mut self.line))?;
            match (self.count, self.offset.take()) {
                (None, _) => self.count = Some(number),
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => self.map.push((offset, number)),
            }
            check_length(&self.map)?;
            if self.count == Some(self.map.len() as u64) {
                return Ok(Some(std::mem::take(&mut self.map)));
            }
        }
        Ok(None)
    }
}
