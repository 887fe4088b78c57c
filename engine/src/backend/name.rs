//! Object names: the only place where a name is built or taken apart.
//!
//! Names are given by `format-spec/names.md`. Random ones are 32 lower-case hex digits, numbered ones ten decimal
//! digits; packs stand in 256 folders by their first byte, so that no folder of a file system grows too large.

use crate::error::{Error, ErrorKind, Result};
use crate::id::{
    HoldId, IndexId, PackId, PlacementId, RelocationsId, RepositoryId, SessionId, SidecarId, SlotId, SnapshotId, from_hex, to_hex,
};
use std::fmt;

/// What an object is; the first component of its name and a byte of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// A generation of the configuration.
    Config = 1,
    /// A key slot.
    Slot = 2,
    /// A pack of data frames.
    DataPack = 3,
    /// A pack of meta frames.
    MetaPack = 4,
    /// A pack of refs frames.
    RefsPack = 5,
    /// An index object.
    Index = 6,
    /// A snapshot.
    Snapshot = 7,
    /// A session.
    Session = 8,
    /// A sign of life of a session.
    Beat = 9,
    /// The end of a session.
    Closed = 10,
    /// A session given up by a collector.
    Tombstone = 11,
    /// A snapshot taken back.
    Withdrawn = 12,
    /// A round of garbage collection.
    Epoch = 13,
    /// Frames that were re-made.
    Relocation = 14,
    /// Which pack is where.
    Placement = 15,
    /// What was verified when.
    Scrubbed = 16,
    /// Holds, locks, extensions and releases.
    Hold = 17,
    /// What heals another object: its sidecar.
    Parity = 18,
    /// Journals between snapshots; reserved.
    Journal = 19,
    /// Frames read and verified by another domain; reserved.
    Attest = 20,
}

/// How the rest of a name is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `kind/<ten digits>`
    Numbered,
    /// `kind/<32 hex>`
    Random,
    /// `kind/<first 2 hex>/<32 hex>`
    Spread,
    /// `kind/<32 hex>/<ten digits>`
    RandomNumbered,
}

impl ObjectKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 20] = [
        Self::Config,
        Self::Slot,
        Self::DataPack,
        Self::MetaPack,
        Self::RefsPack,
        Self::Index,
        Self::Snapshot,
        Self::Session,
        Self::Beat,
        Self::Closed,
        Self::Tombstone,
        Self::Withdrawn,
        Self::Epoch,
        Self::Relocation,
        Self::Placement,
        Self::Scrubbed,
        Self::Hold,
        Self::Parity,
        Self::Journal,
        Self::Attest,
    ];

    /// The number in an object's header.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The first component of the name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Slot => "keys",
            Self::DataPack => "packs",
            Self::MetaPack => "meta",
            Self::RefsPack => "refs",
            Self::Index => "index",
            Self::Snapshot => "snapshots",
            Self::Session => "sessions",
            Self::Beat => "beats",
            Self::Closed => "closed",
            Self::Tombstone => "tombstones",
            Self::Withdrawn => "withdrawn",
            Self::Epoch => "epochs",
            Self::Relocation => "relocations",
            Self::Placement => "placement",
            Self::Scrubbed => "scrubbed",
            Self::Hold => "holds",
            Self::Parity => "parity",
            Self::Journal => "journal",
            Self::Attest => "attest",
        }
    }

    /// Whether objects of this kind are packs.
    pub fn is_pack(self) -> bool {
        matches!(self, Self::DataPack | Self::MetaPack | Self::RefsPack)
    }

    /// Whether names of this kind may continue with a component `name` that is not their last one.
    pub(crate) fn has_folder(self, name: &str) -> bool {
        let bytes = match self.shape() {
            Shape::Numbered | Shape::Random => return false,
            Shape::Spread => 1,
            Shape::RandomNumbered => 16,
        };
        from_hex(name).is_some_and(|id| id.len() == bytes)
    }

    fn shape(self) -> Shape {
        match self {
            Self::Config | Self::Epoch => Shape::Numbered,
            Self::DataPack | Self::MetaPack | Self::RefsPack | Self::Parity => Shape::Spread,
            Self::Slot | Self::Beat => Shape::RandomNumbered,
            _ => Shape::Random,
        }
    }
}

/// The name of an object: its kind, its random part (zero where there is none) and its number (zero where there is none).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    kind: ObjectKind,
    id: [u8; 16],
    number: u32,
}

impl ObjectName {
    /// `config/<generation>`
    pub fn config(generation: u32) -> Self {
        Self { kind: ObjectKind::Config, id: [0; 16], number: generation }
    }

    /// `keys/<slot>/<generation>`
    pub fn slot(slot: SlotId, generation: u32) -> Self {
        Self { kind: ObjectKind::Slot, id: slot.0, number: generation }
    }

    /// A pack of `kind`, which must be one of the three pack kinds.
    ///
    /// # Panics
    /// Where `kind` is no pack.
    pub fn pack(kind: ObjectKind, pack: PackId) -> Self {
        assert!(kind.is_pack(), "{kind:?} is no kind of pack");
        Self { kind, id: pack.0, number: 0 }
    }

    /// `index/<id>`
    pub fn index(id: IndexId) -> Self {
        Self { kind: ObjectKind::Index, id: id.0, number: 0 }
    }

    /// `snapshots/<id>`
    pub fn snapshot(id: SnapshotId) -> Self {
        Self { kind: ObjectKind::Snapshot, id: id.0, number: 0 }
    }

    /// `sessions/<id>`
    pub fn session(id: SessionId) -> Self {
        Self { kind: ObjectKind::Session, id: id.0, number: 0 }
    }

    /// `beats/<session>/<number>`
    pub fn beat(id: SessionId, number: u32) -> Self {
        Self { kind: ObjectKind::Beat, id: id.0, number }
    }

    /// `closed/<session>`
    pub fn closed(id: SessionId) -> Self {
        Self { kind: ObjectKind::Closed, id: id.0, number: 0 }
    }

    /// `tombstones/<session>`
    pub fn tombstone(id: SessionId) -> Self {
        Self { kind: ObjectKind::Tombstone, id: id.0, number: 0 }
    }

    /// `relocations/<id>`
    pub fn relocations(id: RelocationsId) -> Self {
        Self { kind: ObjectKind::Relocation, id: id.0, number: 0 }
    }

    /// `placement/<id>`
    pub fn placement(id: PlacementId) -> Self {
        Self { kind: ObjectKind::Placement, id: id.0, number: 0 }
    }

    /// `holds/<id>`
    pub fn hold(id: HoldId) -> Self {
        Self { kind: ObjectKind::Hold, id: id.0, number: 0 }
    }

    /// `parity/<spread>`
    pub fn parity(id: SidecarId) -> Self {
        Self { kind: ObjectKind::Parity, id: id.0, number: 0 }
    }

    /// The name of this kind with these parts; `None` where there is none, because a part is missing or one too many.
    pub fn from_parts(kind: ObjectKind, id: [u8; 16], number: u32) -> Option<Self> {
        let is_name = match kind.shape() {
            Shape::Numbered => id == [0; 16] && number != 0,
            Shape::Random | Shape::Spread => number == 0,
            Shape::RandomNumbered => number != 0,
        };
        is_name.then_some(Self { kind, id, number })
    }

    /// `withdrawn/<snapshot>`
    pub fn withdrawn(id: SnapshotId) -> Self {
        Self { kind: ObjectKind::Withdrawn, id: id.0, number: 0 }
    }

    /// `epochs/<number>`
    pub fn epoch(number: u32) -> Self {
        Self { kind: ObjectKind::Epoch, id: [0; 16], number }
    }

    /// The kind.
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// The random part; zero where this kind has none.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The number; zero where this kind has none.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The id of a pack.
    pub fn pack_id(&self) -> Option<PackId> {
        self.kind.is_pack().then_some(PackId(self.id))
    }

    /// Reads a name.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where icecore would not have written it.
    pub fn parse(text: &str) -> Result<Self> {
        Self::take_apart(text).ok_or_else(|| Error::new(ErrorKind::Invalid, format!("`{text}` is no object name")))
    }

    fn take_apart(text: &str) -> Option<Self> {
        let (folder, rest) = text.split_once('/')?;
        let kind = ObjectKind::ALL.into_iter().find(|kind| kind.folder() == folder)?;
        let hex = |text: &str| -> Option<[u8; 16]> { from_hex(text)?.try_into().ok() };
        let decimal = |text: &str| -> Option<u32> {
            let number = (text.len() == 10 && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok()).flatten();
            number.filter(|number| *number != 0)
        };
        let (id, number) = match kind.shape() {
            Shape::Numbered => ([0; 16], decimal(rest)?),
            Shape::Random => (hex(rest)?, 0),
            Shape::Spread => {
                let (spread, id) = rest.split_once('/')?;
                if !id.starts_with(spread) || spread.len() != 2 {
                    return None;
                }
                (hex(id)?, 0)
            }
            Shape::RandomNumbered => {
                let (id, number) = rest.split_once('/')?;
                (hex(id)?, decimal(number)?)
            }
        };
        Some(Self { kind, id, number })
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.kind.folder();
        let id = to_hex(&self.id);
        match self.kind.shape() {
            Shape::Numbered => write!(f, "{folder}/{:010}", self.number),
            Shape::Random => write!(f, "{folder}/{id}"),
            Shape::Spread => write!(f, "{folder}/{}/{id}", &id[..2]),
            Shape::RandomNumbered => write!(f, "{folder}/{id}/{:010}", self.number),
        }
    }
}

impl RepositoryId {
    /// The first eight hex digits, for people.
    pub fn short(&self) -> String {
        to_hex(&self.0[..4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_its_own_name() {
        for kind in ObjectKind::ALL {
            let numbered = matches!(kind.shape(), Shape::Numbered | Shape::RandomNumbered);
            let random = kind.shape() != Shape::Numbered;
            let name = ObjectName { kind, id: if random { [0xab; 16] } else { [0; 16] }, number: if numbered { 7 } else { 0 } };
            assert_eq!(ObjectName::parse(&name.to_string()).unwrap(), name);
            assert_eq!(ObjectKind::from_number(kind.number()), Some(kind));
        }
    }

    #[test]
    fn names_of_others_are_refused() {
        for text in [
            "config",
            "config/1",
            "config/00000000001",
            "config/+000000001",
            "config/9999999999",
            "config/0000000000",
            "packs/abababababababababababababababab",
            "packs/ac/abababababababababababababababab",
            "packs/ab/ABABABABABABABABABABABABABABABAB",
            "snapshots/ab",
            "snapshots/../config/0000000001",
            "tmp/0000000001",
            "keys/abababababababababababababababab/1",
        ] {
            assert!(ObjectName::parse(text).is_err(), "{text}");
        }
    }
}
