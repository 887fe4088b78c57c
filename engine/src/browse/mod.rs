//! Browsing: what snapshots hold and how they differ, found out without restoring anything.
//!
//! Trees are content-addressed: a node that was read once says all about that part of every snapshot that has it. So [`diff`] passes what two
//! snapshots have in common, and [`find`] reads each node once, however many snapshots it belongs to. Both read under a reader's session, as
//! a restore does, and take bounded memory.

mod diff;
mod find;
mod list;
#[cfg(test)]
mod tests;

pub use diff::{DiffSummary, Difference};
pub use find::{EntryType, FindQuery, Found, FoundPath, FoundVersion};
