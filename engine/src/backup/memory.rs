//! How much memory a backup may take, and what that leaves in flight.
//!
//! What grows with the backup is bounded elsewhere (the index keeps its newest chunks in memory and writes them out, the tree one node a
//! level). What grows with the number of threads is counted here: pieces of content between reading and storing, frames between storing
//! and the disk, what each worker compresses with, and what is read back of the repository to compress against it. A small budget means fewer of them, so it costs speed and nothing else:
//! what is stored does not depend on it.

use super::batch::BUFFER_LENGTH_KEPT;
use crate::error::{Error, ErrorKind, Result};

const MIB: u64 = 1 << 20;
/// What a backup takes before anything is in flight: the program, the walk's read-ahead, the index, the tree, the stat cache.
const BASE_BYTES: u64 = 36 * MIB;
/// Decoded frames that bases are taken from.
pub(super) const BASE_FRAMES_BYTES: u64 = 8 * MIB;
/// Bases of one frame, and larger tables to compress against them.
const BASES_BYTES_OF_WORKER: u64 = 8 * MIB;
/// Without a budget this much for the whole, and for each worker.
const DEFAULT_BYTES: u64 = 64 * MIB;
const DEFAULT_BYTES_OF_WORKER: u64 = 32 * MIB;
/// From this zstd level on a worker's tables are larger.
const LEVEL_HIGH: i32 = 13;
/// One batch waits for the one before it.
const IN_FLIGHT_MIN: u64 = 2;

/// How many batches may be between reading and storing, and how many frames between storing and the disk.
pub(super) fn in_flight(budget: Option<u64>, threads: usize, frame_size: u64, level: i32, has_bases: bool) -> Result<usize> {
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
    Ok(((budget - fixed) / each).clamp(IN_FLIGHT_MIN, most) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_bounds_what_is_in_flight() {
        let in_flight = |budget: Option<u64>, threads| in_flight(budget.map(|mib| mib * MIB), threads, MIB, 3, false);
        assert_eq!(in_flight(None, 2).unwrap(), 6);
        assert_eq!(in_flight(None, 1).unwrap(), 4);
        assert_eq!(in_flight(Some(64), 2).unwrap(), 3);
        assert_eq!(in_flight(Some(1 << 30), 2).unwrap(), 6, "more than is of use is not taken");
        let error = in_flight(Some(40), 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let least: u64 = error.to_string().split("at least ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(in_flight(Some(least), 2).unwrap(), 2, "what the message names is enough");
        assert!(in_flight(Some(least - 1), 2).is_err());
    }

    #[test]
    fn without_a_budget_there_is_always_enough() {
        for threads in [1, 2, 8, 64, 1024] {
            for (frame_size, level) in [(4 << 10, -7), (MIB, 3), (4 * MIB, 22)] {
                assert!(in_flight(None, threads, frame_size, level, true).unwrap() >= 2);
            }
        }
    }
}
