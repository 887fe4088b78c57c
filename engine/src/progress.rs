//! How the engine tells a caller what it is doing, and how a caller tells it to stop.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};

/// A count of things, whose name is given for one of them.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// One step forward, or something that a person should read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A phase begins: what it is called and, where known, how many bytes and items it has.
    Phase {
        /// Name of the phase, for example `backup`.
        name: &'a str,
        /// Bytes in all, where known.
        bytes_total: Option<u64>,
        /// Items in all, where known.
        items_total: Option<u64>,
    },
    /// So many more bytes and items are done.
    Advance {
        /// Bytes since the last event.
        bytes: u64,
        /// Items since the last event.
        items: u64,
    },
    /// An item was skipped or failed; the operation goes on and says so at its end.
    ItemFailed {
        /// The item as shown to people; bytes that are not UTF-8 are replaced.
        item: &'a str,
        /// Why.
        message: &'a str,
    },
    /// An item was not restored, because what it needs lies in a tier from which nothing can be read now. The summary says of each tier what to do.
    ItemWaits {
        /// The item as shown to people; bytes that are not UTF-8 are replaced.
        item: &'a str,
        /// The name of the tier.
        tier: &'a str,
    },
    /// In a dry run of a restore, what would become of an item of the target. When it is done, of deletions only.
    Change {
        /// The item as shown to people; bytes that are not UTF-8 are replaced.
        item: &'a str,
        /// What.
        change: Change,
        /// Bytes of content that are written for it.
        bytes: u64,
    },
    /// Something that a person should know and that is no failure.
    Notice {
        /// One sentence.
        message: &'a str,
    },
}

/// What becomes of an item of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is not there yet, or something else stands in its place.
    Created,
    /// Its content or its metadata differs.
    Changed,
    /// The snapshot does not have it.
    Deleted,
}

/// Receives [`Event`]s, from several threads at once.
pub trait Progress: Send + Sync + Debug {
    /// Takes one event. Must return quickly.
    fn event(&self, event: Event<'_>);
    /// Whether the caller wants the operation to stop; asked often.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Says nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// Says nothing; stops once [`Cancel::cancel`] was called.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Asks the operation to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Progress for Cancel {
    fn event(&self, _: Event<'_>) {}
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
