//! How much memory a backup may take, and what that leaves in flight.
//!
//! What grows with the backup is bounded elsewhere (the index keeps its newest chunks in memory and writes them out, the tree one node a
//! level). What grows with the number of threads is counted here: pieces of content between reading and storing, frames between storing
//! and the disk, what each worker compresses with, and what is read back of the repository to compress against it. A small budget means fewer of them, so it costs speed and nothing else:
//! what is stored does not depend on it.

use super::batch::BUFFER_LENGTH_KEPT;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::index::{TABLES_BYTES_MAX, TABLES_BYTES_WANTED};

const MIB: u64 = 1 << 20;
/// What a backup takes before anything is in flight: the program, the walk's read-ahead, the index, the tree, the stat cache.
const BASE_BYTES: u64 = 36 * MIB;
/// Decoded frames that bases are taken from.
pub(super) const BASE_FRAMES_BYTES: u64 = 12 * MIB;
/// More of contents tables, where there is room.
const MORE_TABLES_BYTES: u64 = (TABLES_BYTES_WANTED - TABLES_BYTES_MAX) as u64;
/// Bases of one frame, and larger tables to compress against them.
const BASES_BYTES_OF_WORKER: u64 = 8 * MIB;
/// Without a budget this much for the whole, and for each worker.
const DEFAULT_BYTES: u64 = 64 * MIB;
const DEFAULT_BYTES_OF_WORKER: u64 = 32 * MIB;
/// From this zstd level on a worker's tables are larger.
const LEVEL_HIGH: i32 = 13;
/// One batch waits for the one before it.
const IN_FLIGHT_MIN: u64 = 2;

/// What memory is for beside what every backup takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// How many batches may be between reading and storing, and how many frames between storing and the disk.
    pub(super) in_flight: usize,
    /// Bytes of contents tables that the index keeps.
    pub(super) tables_bytes: usize,
}

/// Shares a budget of bytes between so many threads, frames of that size, and bases if there are any.
///
/// # Errors
/// [`ErrorKind::Invalid`] where the budget is too small.
pub(super) fn share(budget: Option<u64>, threads: usize, frame_size: u64, level: i32, has_bases: bool) -> Result<Share> {
    let threads = threads as u64;
    // Bound: sizes of frames have a limit far below what overflows, numbers of threads too.
    let worker = 3 * frame_size + if level < LEVEL_HIGH { 3 * MIB } else { 24 * MIB };
    // A batch's buffer; the plaintext of a frame in the making and its sealed bytes.
    let each = BUFFER_LENGTH_KEPT as u64 + 2 * frame_size;
    let bases = if has_bases { BASE_FRAMES_BYTES + threads * BASES_BYTES_OF_WORKER } else { 0 };
    let fixed = BASE_BYTES + threads * worker + bases;
    let least = fixed + IN_FLIGHT_MIN * each;
    let budget = match budget {
        Some(budget) if budget < least => {
            let message = format!(
                "{} MiB of memory are too little for {threads} threads at this compression level; give at least {} MiB, or fewer threads",
                budget / MIB,
                least.div_ceil(MIB)
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Some(budget) => budget,
        None => (DEFAULT_BYTES + threads * DEFAULT_BYTES_OF_WORKER).max(least),
    };
    let most = 2 * threads + 2;
    let (more_tables, tables_bytes) =
        if budget >= least + MORE_TABLES_BYTES { (MORE_TABLES_BYTES, TABLES_BYTES_WANTED) } else { (0, TABLES_BYTES_MAX) };
    let in_flight = ((budget - fixed - more_tables) / each).clamp(IN_FLIGHT_MIN, most) as usize;
    Ok(Share { in_flight, tables_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_bounds_what_is_in_flight() {
        let share = |budget: Option<u64>, threads| share(budget.map(|mib| mib * MIB), threads, MIB, 3, false);
        let in_flight = |budget, threads| share(budget, threads).map(|share| share.in_flight);
        assert_eq!(in_flight(None, 2).unwrap(), 6);
        assert_eq!(in_flight(None, 1).unwrap(), 4);
        assert_eq!(in_flight(Some(64), 2).unwrap(), 3);
        assert_eq!(in_flight(Some(1 << 30), 2).unwrap(), 6, "more than is of use is not taken");
        let error = in_flight(Some(40), 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let least: u64 = error.to_string().split("at least ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(in_flight(Some(least), 2).unwrap(), 2, "what the message names is enough");
        assert!(in_flight(Some(least - 1), 2).is_err());
        let tables = |budget| share(budget, 2).unwrap().tables_bytes;
        assert_eq!([Some(least), Some(least + 7), Some(least + 8), None].map(tables), [8, 8, 16, 16].map(|mib| mib << 20));
        assert_eq!(in_flight(Some(least + 8), 2).unwrap(), 2, "tables come first: what is in flight hides waiting, and they save work");
    }

    #[test]
    fn without_a_budget_there_is_always_enough() {
        for threads in [1, 2, 8, 64, 1024] {
            for (frame_size, level) in [(4 << 10, -7), (MIB, 3), (4 * MIB, 22)] {
                assert!(share(None, threads, frame_size, level, true).unwrap().in_flight >= 2);
            }
        }
    }
}
