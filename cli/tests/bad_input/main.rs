//! The program on repositories, keys and disks that are not as they should be. Every run has its exit code, says what is wrong with which
//! object or path and what to do next, does not panic, and gets no more memory than 256 MiB.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod damaged;
mod disks;
mod home;
mod hostile;
mod places;
mod rollback;
