//! Who takes part in a search, and which rules are kept.

/// A safety step of the protocol. Each can be left out, and then something must be lost. The names are those of `docs/invariants.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A writer reads the newest epoch again after it published its session.
    RereadEpoch,
    /// A writer looks for its own tombstone after it published its snapshot.
    LookForTombstone,
    /// A writer uses no frame that lies only in condemned packs.
    AvoidCondemned,
    /// A file known to the stat cache is used only where the lookup index still has its chunks.
    StatCacheLooksUp,
    /// A subtree is taken over from another snapshot, without look-ups, only where that one counts after the writer's session was published.
    SubtreeSource,
    /// A writer publishes its snapshot after its packs.
    PacksFirst,
    /// Epochs are made with create-if-absent.
    EpochOnce,
    /// A collector waits for, or gives up, every session of an older epoch before it sweeps.
    Gate,
    /// What withdrawals of before the newest epoch set free is swept when the gate of that epoch is passed, not that of an older one.
    GateOfNewest,
    /// A collector lists snapshots again before it sweeps.
    Relist,
    /// Snapshots whose session is not closed are protected like others.
    ProtectSuspects,
    /// What is needed after all is copied; no pack is taken off the condemned ones.
    CondemnedForEver,
    /// A copy in a condemned pack is no copy.
    CopyNotCondemned,
    /// A relocation counts for the chunks that it maps, not for whole frames.
    RelocationByChunk,
    /// A relocation counts only while the frame that it leads to lies in a pack that is not condemned.
    RelocationFound,
    /// Nothing stands for a frame that another one is compressed against.
    BaseStands,
    /// A chunk of a frame that is compressed against another one is used only where that one lies in a pack that is not condemned.
    DeltaWithBases,
    /// Whoever settles a suspect reads the epochs after he listed the snapshot.
    SettleByNewEpochs,
    /// Before a frame is called missing, packs are listed after the snapshot that needs it.
    PacksAfterSnapshots,
    /// A writer whose session is gone takes itself for given up: that is how it is removed, the session before the tombstone.
    LookForSession,
    /// `closed/` and `withdrawn/` of a session that has a tombstone are never removed.
    EndsStay,
    /// `withdrawn/` goes only when a later epoch's gate is passed.
    MarkerStays,
    /// Forget publishes `withdrawn/` before the snapshot goes.
    WithdrawnFirst,
    /// A withdrawal frees frames from the next epoch on: until then the snapshot stays and is swept around.
    WithdrawalNextEpoch,
    /// A reader publishes a session.
    ReaderSession,
    /// A reader looks at the snapshot, and for `withdrawn/`, after it published its session.
    ReaderReread,
    /// A reader takes only frames in packs that are not condemned for found when it shows a suspect snapshot.
    ReaderByUncondemned,
    /// Whoever misses a snapshot in listings asks for it by name before he reports damage.
    AskByName,
    /// With stale listings: wait out the bound between the epoch and the listing of sessions.
    WaitBeforeGate,
    /// With stale listings: wait out the bound between the gate and the listing of snapshots.
    WaitBeforeRelist,
    /// With stale listings: wait out the bound, and list packs again, before a frame is called missing.
    WaitBeforeMissing,
    /// With stale listings: the newest epoch is asked for by number, not taken from a listing.
    EpochByNumber,
    /// With stale listings: epochs are never removed.
    EpochsStay,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 33] = [
        Self::RereadEpoch,
        Self::LookForTombstone,
        Self::AvoidCondemned,
        Self::StatCacheLooksUp,
        Self::SubtreeSource,
        Self::PacksFirst,
        Self::EpochOnce,
        Self::Gate,
        Self::GateOfNewest,
        Self::Relist,
        Self::ProtectSuspects,
        Self::CondemnedForEver,
        Self::CopyNotCondemned,
        Self::RelocationByChunk,
        Self::RelocationFound,
        Self::BaseStands,
        Self::DeltaWithBases,
        Self::SettleByNewEpochs,
        Self::PacksAfterSnapshots,
        Self::LookForSession,
        Self::EndsStay,
        Self::MarkerStays,
        Self::WithdrawnFirst,
        Self::WithdrawalNextEpoch,
        Self::ReaderSession,
        Self::ReaderReread,
        Self::ReaderByUncondemned,
        Self::AskByName,
        Self::WaitBeforeGate,
        Self::WaitBeforeRelist,
        Self::WaitBeforeMissing,
        Self::EpochByNumber,
        Self::EpochsStay,
    ];
}

/// Who takes part, and how.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Writers, at most 2. The first wants chunk `x`, the second `d`, unless `same_chunk`.
    pub writers: usize,
    /// Both writers want `x`.
    pub same_chunk: bool,
    /// The first writer wants `d`, which is dead, and the second `x`.
    pub dead_chunk: bool,
    /// Collectors, at most 2.
    pub collectors: usize,
    /// Whether somebody restores, any snapshot that it sees.
    pub reader: bool,
    /// How many snapshots are forgotten.
    pub forget: u8,
    /// Whether somebody looks for missing snapshots.
    pub observer: bool,
    /// Whether collectors copy packs of which a part is dead.
    pub repack: bool,
    /// Whether collectors re-make frames of which a part is dead.
    pub reframe: bool,
    /// Whether collectors publish epochs that condemn nothing.
    pub empty_epochs: bool,
    /// Whether writers compress what they store against `f0`.
    pub delta: bool,
    /// Whether writers take over subtrees of `S`.
    pub subtree: bool,
    /// Whether listings may be stale.
    pub stale: bool,
    /// The rule that is left out.
    pub without: Option<Rule>,
}

impl Shape {
    /// Nobody.
    pub const EMPTY: Self = Self {
        writers: 0,
        same_chunk: false,
        dead_chunk: false,
        collectors: 0,
        reader: false,
        forget: 0,
        observer: false,
        repack: false,
        reframe: false,
        empty_epochs: false,
        delta: false,
        subtree: false,
        stale: false,
        without: None,
    };

    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    pub(crate) fn wanted(&self, writer: usize) -> u8 {
        if self.same_chunk || (writer == 0) != self.dead_chunk { crate::world::CHUNK_X } else { crate::world::CHUNK_D }
    }
}
