//! What the benches share: generated data, folders and repositories to measure on, and how long to measure.
//!
//! All data comes from seeds, so that two commits are measured on the same bytes. Whatever fails here ends the bench: a step that did
//! not do its work must not get a time.

mod data;
mod folders;
pub mod lifecycle;
mod repositories;

pub use data::{Generate, KINDS, data};
pub use folders::{collect_files, each_chunk, fill_with_data, fill_with_small_files};
pub use repositories::{back_up, create};

use criterion::Criterion;
use std::time::Duration;

/// A kibibyte, in bytes.
pub const KIB: usize = 1 << 10;
/// A mebibyte, in bytes.
pub const MIB: usize = 1 << 20;

/// Runs `measure` as criterion's command line says, with few samples: the steps are long and regular.
pub fn run(measure: impl FnOnce(&mut Criterion)) {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    measure(&mut criterion);
    criterion.final_summary();
}

/// Seconds that this thread has run.
///
/// # Panics
/// Where Linux does not tell.
pub fn thread_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    stat.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()).expect("nanoseconds") as f64 / 1e9
}

/// Resident memory of this process in bytes, pages of mapped files included.
///
/// # Panics
/// Where Linux does not tell.
pub fn resident_bytes() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux tells of this process");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("resident memory is told");
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kibibytes << 10
}
