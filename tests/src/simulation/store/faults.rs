//! What goes wrong in a store, and what could be wrong with the engine or a store.

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A process died before a call.
    DiedBefore,
    /// A process died after a call.
    DiedAfter,
    /// A process died while it was writing an object, of which nothing is seen.
    WriteBrokenOff,
    /// The power went, for all.
    PowerCut,
    /// An object that had been seen was not durable when the power went.
    WriteLost,
    /// A later object outlived the power cut, an earlier one did not.
    WritesReordered,
    /// A deletion that had been seen was not durable when the power went.
    DeletionLost,
    /// A call failed and did nothing.
    FailedUndone,
    /// A call failed and was done.
    FailedDone,
    /// A sync failed, or its process died before: what was done is seen, and will never be durable by itself.
    FailedSync,
    /// Some of what a call was to make durable is, and the call failed.
    SyncedInPart,
    /// An object was seen, or one that was deleted was not, long before that was durable.
    SyncedLate,
    /// The store was full.
    Full,
    /// An answer took minutes.
    Slow,
    /// A listing did not show all that was made meanwhile.
    PartialListing,
    /// An object was there already, left by a call that had failed.
    Duplicate,
    /// A listing that lags behind did not show what had been made, or showed what had been deleted.
    StaleListing,
    /// A listing showed a name twice.
    ListedTwice,
    /// A listing failed after it had shown some.
    ListingBrokenOff,
    /// What a call was told had failed was done long after that.
    LandedLate,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::DiedBefore,
        Self::DiedAfter,
        Self::WriteBrokenOff,
        Self::PowerCut,
        Self::WriteLost,
        Self::WritesReordered,
        Self::DeletionLost,
        Self::FailedUndone,
        Self::FailedDone,
        Self::FailedSync,
        Self::SyncedInPart,
        Self::SyncedLate,
        Self::Full,
        Self::Slow,
        Self::PartialListing,
        Self::Duplicate,
        Self::StaleListing,
        Self::ListedTwice,
        Self::ListingBrokenOff,
        Self::LandedLate,
    ];
}

/// Something that the engine, or a store, could do wrong; the simulation has to find each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Objects are not synced before success is reported.
    MissingSync,
    /// A writer does not look for its tombstone (`LookForTombstone`, `LookForSession`).
    TombstoneIgnored,
    /// What failed to be written is taken for written.
    ErrorIgnored,
    /// Who stores snapshots does not see what is condemned (`AvoidCondemned`).
    Uncondemned,
    /// Collectors do not see sessions (`Gate`).
    NoGate,
    /// Collectors do not list snapshots again (`Relist`).
    NoRelist,
    /// A session does not read the newest epoch again (`RereadEpoch`).
    NoReread,
    /// Nobody waits for listings that lag behind (`WaitBeforeGate`, `WaitBeforeRelist`, `WaitBeforeMissing`).
    Impatience,
    /// What others did is relied on and not made durable (`OthersDurable`).
    OthersLoose,
    /// Collectors sweep what no epoch condemns: theirs are seen by themselves alone.
    UnwrittenEpoch,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::MissingSync,
        Self::TombstoneIgnored,
        Self::ErrorIgnored,
        Self::Uncondemned,
        Self::NoGate,
        Self::NoRelist,
        Self::NoReread,
        Self::Impatience,
        Self::OthersLoose,
        Self::UnwrittenEpoch,
    ];
}
/// What happens to a process.
#[derive(Debug, Clone, Default)]
pub struct Fate {
    /// It dies at this call.
    pub dies_at: Option<u64>,
    /// Of its calls only those count that make or delete something.
    pub counts_changes: bool,
    /// And everybody with it, in a power cut.
    pub power_cut: bool,
    /// When something is not durable that others have seen for so many calls.
    pub power_patience: u64,
    /// One call in so many fails; 0 for none.
    pub fails_one_in: u64,
    /// Only this call fails.
    pub fails_at: Option<u64>,
    /// From which call to which the store is full for it.
    pub full: std::ops::Range<u64>,
    /// And takes what is small all the same.
    pub full_for_packs: bool,
    /// One answer in so many takes minutes; 0 for none.
    pub slow_one_in: u64,
}
