//! How much memory a restore may take, and how large its windows are then.
//!
//! What does not grow with the snapshot is counted here: the program, the lookup index and what it keeps of contents tables, nodes of trees,
//! and for each worker a read, a frame and what decompresses it. What is left is for windows, and, where there is room for that, for what frames
//! to come are compressed against. A small budget means smaller windows, so more of the plan goes through temporary files.

use super::window::Limits;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::KEPT_BASES_LENGTH_MAX;
use crate::repository::index::{TABLES_BYTES_MAX, TABLES_BYTES_WANTED};

const MIB: u64 = 1 << 20;
/// What a restore takes before anything is planned: the program, 8 MiB of contents tables, 16 MiB of nodes, keys that are remembered.
const BASE_BYTES: u64 = 36 * MIB;
/// What is kept of bases, and more of contents tables: frames with bases are read in the order of these, from the packs of many backups by turns.
const WITH_BASES_BYTES: u64 = (KEPT_BASES_LENGTH_MAX + TABLES_BYTES_WANTED - TABLES_BYTES_MAX) as u64;
/// For each worker beside its frames.
const WORKER_BYTES: u64 = 2 * MIB;
/// Windows that are in memory at once, and what waits, in quarters of a window.
const QUARTERS: u64 = 13;
/// Bytes of the smallest window.
const WINDOW_BYTES_MIN: u64 = MIB;

/// How large windows are with a budget of bytes, so many threads and frames of that size.
///
/// # Errors
/// [`ErrorKind::Invalid`] where the budget is too small.
pub(super) fn limits(budget: Option<u64>, threads: usize, frame_size: u64) -> Result<Limits> {
    // Bound: sizes of frames have a limit far below what overflows, numbers of threads too.
    let fixed = BASE_BYTES + threads as u64 * (WORKER_BYTES + 3 * frame_size);
    let least = fixed + WINDOW_BYTES_MIN * QUARTERS / 4;
    match budget {
        None => Ok(Limits::DEFAULT),
        Some(budget) if budget < least => {
            let message = format!(
                "{} MiB of memory are too little for {threads} threads; give at least {} MiB, or fewer threads",
                budget / MIB,
                least.div_ceil(MIB)
            );
            Err(Error::new(ErrorKind::Invalid, message))
        }
        Some(budget) => {
            let keeps_bases = budget >= least + WITH_BASES_BYTES;
            let for_windows = budget - fixed - if keeps_bases { WITH_BASES_BYTES } else { 0 };
            Ok(Limits { keeps_bases, ..Limits::DEFAULT.with_window_bytes((for_windows * 4 / QUARTERS) as usize) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_bounds_windows() {
        let window = |mib: u64| limits(Some(mib * MIB), 2, MIB).map(|limits| (limits.bytes_max as u64, limits.entries_max));
        assert_eq!(window(1000).unwrap(), (14 * MIB, 32_000), "more than is of use is not taken");
        let error = window(10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let least: u64 = error.to_string().split("at least ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(window(least - 1).is_err());
        let (bytes, entries) = window(least).unwrap();
        assert!((MIB..2 * MIB).contains(&bytes) && (2_200..4_600).contains(&entries), "{bytes} {entries}");
        assert!(window(least + 20).unwrap() > (bytes, entries));
    }
}
