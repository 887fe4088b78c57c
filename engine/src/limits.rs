//! Upper bounds: every size that comes from data meets one of these before memory is taken.
//!
//! Those that belong to the format stand in the limit tables of `format-spec/`; a test compares them.

/// Bytes of a chunk (CHUNK-1).
pub const CHUNK_SIZE_MAX: usize = 4_194_304;
/// Chunks of a frame (FRAME-5).
pub const FRAME_CHUNKS_MAX: usize = 16_384;
/// Plaintext of a frame: the largest chunk, or many small ones, and the table of lengths (PACK-8).
pub const FRAME_PLAINTEXT_MAX: usize = CHUNK_SIZE_MAX + 65_536;
/// Sealed bytes of a frame: method and tag added (PACK-8).
pub const FRAME_SEALED_MAX: usize = FRAME_PLAINTEXT_MAX + 17;
/// Window of a zstd frame as a power of two (FRAME-4).
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes of one group of a pack's frames region, each with a hash of its own.
pub const GROUP_SIZE: usize = 1_048_576;
/// Frames region of a pack (PACK-1).
pub const FRAMES_LENGTH_MAX: usize = 134_217_728;
/// Sealed tables of a pack (PACK-1).
pub const TABLES_LENGTH_MAX: usize = 33_554_432;
/// Frames of a pack (PACK-6).
pub const PACK_FRAMES_MAX: usize = 65_536;
/// Sessions whose frames lie in one pack (PACK-5).
pub const PACK_SESSIONS_MAX: usize = 4_096;
/// Base ranges of a frame (PACK-10).
pub const BASES_MAX: usize = 64;
/// Bytes of all base ranges of a frame (PACK-10).
pub const BASES_LENGTH_MAX: usize = 8_388_608;
/// Packs in one index object (INDEX-4).
pub const INDEX_PACKS_MAX: usize = 65_536;

/// Data blocks of a codeword (PARITY-5).
pub const PARITY_DATA_BLOCKS_MAX: usize = 220;
/// Recovery blocks of a codeword (PARITY-4).
pub const PARITY_RECOVERY_MAX: usize = 35;
/// Bytes of a block that can be recovered (PARITY-4).
pub const PARITY_BLOCK_MIN: u32 = 4_096;
/// Bytes of a block that can be recovered (PARITY-4).
pub const PARITY_BLOCK_MAX: u32 = 1_048_576;
/// Recovery blocks of one sidecar together (PARITY-5).
pub const PARITY_RECOVERY_LENGTH_MAX: usize = 33_554_432;

/// Wraps in a session record (SES-1).
pub const WRAPS_MAX: usize = 16;
/// Snapshots that one session may publish (CLOSED-2).
pub const CLOSED_SNAPSHOTS_MAX: usize = 4_096;
/// Label of a session (SESS-2).
pub const LABEL_MAX: usize = 1_024;

/// Pack size of a config (CFG-4).
pub const PACK_SIZE_MIN: u32 = 65_536;
/// Pack size of a config (CFG-4).
pub const PACK_SIZE_MAX: u32 = FRAMES_LENGTH_MAX as u32;
/// Frame size of a config (CFG-4).
pub const FRAME_SIZE_MIN: u32 = 4_096;
/// Frame size of a config (CFG-4).
pub const FRAME_SIZE_MAX: u32 = CHUNK_SIZE_MAX as u32;
/// Cutters of a config (CFG-5).
pub const CUTTERS_MAX: usize = 64;
/// Restore keys of a config (CFG-6).
pub const RESTORE_KEYS_MAX: usize = 256;
/// Revoked credentials of a config (CFG-8).
pub const REVOKED_MAX: usize = 4_096;

/// Memory that a passphrase slot may ask for (SLOT-4).
pub const ARGON2_MEMORY_KIB_MAX: u32 = 65_536;
/// Passes that a passphrase slot may ask for (SLOT-4).
pub const ARGON2_PASSES_MAX: u32 = 16;
/// Lanes that a passphrase slot may ask for (SLOT-4).
pub const ARGON2_LANES_MAX: u32 = 16;
/// Sealed credential of a slot (SLOT-5).
pub const SLOT_SEALED_MAX: usize = 65_536;

/// Key of an entry (TREE-5).
pub const KEY_MAX: usize = 65_536;
/// A tree node.
pub const NODE_SIZE_MAX: usize = 2_097_152;
/// Items of a tree, recipe or refs node.
pub const NODE_ITEMS_MAX: usize = 4_096;
/// Level of a root.
pub const NODE_LEVEL_MAX: u8 = 10;
/// Chunks that stand in an entry itself (TREE-13).
pub const INLINE_CHUNKS_MAX: usize = 64;
/// Target of a symlink (TREE-14).
pub const TARGET_MAX: usize = 65_536;
/// Names and values of one entry's extended attributes (TREE-11).
pub const ATTRIBUTES_MAX: usize = 1_048_576;

/// A text in a snapshot (SNAP-10).
pub const TEXT_MAX: usize = 4_096;
/// Tags of a snapshot (SNAP-6, SNAP-10).
pub const TAGS_MAX: usize = 256;
/// Paths of a snapshot (SNAP-10).
pub const PATHS_MAX: usize = 4_096;
/// Bytes of all tags that a writer puts into a snapshot. With the paths they must fit into an object of 1 MiB (OBJ-1).
pub const TAGS_LENGTH_MAX: usize = 262_144;
/// Bytes of all paths that a writer puts into a snapshot.
pub const PATHS_LENGTH_MAX: usize = 524_288;
/// Packs condemned by one epoch (EPOCH-1).
pub const EPOCH_PACKS_MAX: usize = 524_288;
/// Withdrawn snapshots that one epoch names (EPOCH-1).
pub const EPOCH_SNAPSHOTS_MAX: usize = 524_288;
/// Frames of one relocations object (RELOC-1).
pub const RELOCATED_FRAMES_MAX: usize = 65_536;
/// Packs of one placement object (PLACE-5).
pub const PLACED_PACKS_MAX: usize = 65_536;
/// Ways to thaw of one tier (PLACE-4).
pub const THAW_CLASSES_MAX: usize = 16;
/// Address of a tier (PLACE-3).
pub const TIER_ADDRESS_MAX: usize = 4_096;
/// Label or storage class of a tier (PLACE-3).
pub const TIER_LABEL_MAX: usize = 256;
/// Name of a tier or of a way to thaw (PLACE-3).
pub const TIER_NAME_MAX: usize = 64;
/// Note of a hold (HOLD-4).
pub const NOTE_MAX: usize = 1_024;
/// Snapshots of one hold (HOLD-5).
pub const HELD_SNAPSHOTS_MAX: usize = 65_536;
/// A lock ends before this second since 1970: the beginning of the year 10000 (HOLD-2).
pub const LOCK_END_MAX: i64 = 253_402_300_800;
/// Steps that a reader follows from a chunk to where it stands now.
pub const RELOCATION_STEPS_MAX: usize = 16;
