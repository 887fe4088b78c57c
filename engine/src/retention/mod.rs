//! Retention: which snapshots stay and which go, letting them go, and the tags that rules ask for.
//!
//! [`decide`] is pure: from what is known of snapshots, and a [`Policy`], it says of each whether it is kept, with every reason.
//! [`Repository::plan_forget`](crate::repository::Repository::plan_forget) asks it about a repository, and
//! [`Repository::forget`](crate::repository::Repository::forget) drops what was named. Space comes back with garbage collection.
//!
//! A policy counts within each series and signer, so that no client's snapshots push out those of another. Clocks are believed as
//! little as can be:
//! - A snapshot whose time lies ahead of when it was first seen counts as made when it was first seen. One whose time lies ahead of now is
//!   kept and takes nobody's place; so a false time in the future buries nothing, and a clock that fell back to 1970 drops nothing.
//! - A snapshot of a signer who may only back up whose time lies before a look that did not see it counts as made at that look, so that it takes the
//!   place of none of the days before. What is copied from another repository comes late as well: so what rules keep by the times that are said
//!   stays, too.
//! - `keep_within` counts back from the newest snapshot, not from now: where backups stopped, nothing grows old.
//! - Of each series and signer the newest by time and the last made by number are kept whatever the rules say: a client whose
//!   clock fell back keeps what it just made.
//! - A suspect snapshot is kept and takes nobody's place: it may turn out not to count.

mod forget;
mod plan;
mod policy;
mod reasons;
mod tag;
#[cfg(test)]
mod tests;

pub use forget::ForgetSummary;
pub use plan::{ForgetPlan, PlannedSnapshot, SnapshotFilter};
pub use policy::{Calendar, Candidate, Civil, Period, Policy, decide};
pub use reasons::{DropReason, KeepReason, Verdict};
pub use tag::{Retagged, TagChange};
