//! Who uses what is stored: every byte of the repository falls to one series, or to nobody, and they add up to what is there.
//!
//! A frame's bytes are shared out evenly among the series that use any of it; bytes that do not come out even go to the first of them. What no snapshot needs,
//! second copies, and the packs' own tables are the rest of the packs.

use super::stats::FramesUsed;
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::snapshot::Token;
use crate::id::SnapshotId;
use crate::progress::{Event, Progress};
use crate::repository::{FrameReader, Repository, SnapshotState};
use crate::runtime::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Tells in which tier an object lies, by the tier's place in a list of the caller.
pub type TierOf<'a> = dyn Fn(&ObjectName) -> usize + 'a;

/// What is stored in one tier, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierShare {
    /// What falls to each series, in the order of [`Shares::series`].
    pub series: Vec<u64>,
    /// What of the packs falls to nobody.
    pub rest: u64,
    /// Packs among these of which nothing falls to anybody, in the order of their names: gc deletes them, wherever they lie.
    pub unneeded: Vec<Unneeded>,
    /// Sidecars, and objects that are no packs.
    pub others: u64,
    /// Objects of all kinds.
    pub objects: u64,
}

impl TierShare {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.series.iter().sum::<u64>() + self.rest + self.others
    }
}

/// A pack that nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unneeded {
    /// Its size.
    pub bytes: u64,
    /// When it came to its tier, in seconds since 1970, by the clock of who moved it; `None` in the warm place, where nothing tells.
    pub since: Option<u64>,
}

/// A snapshot, as far as it is needed to say how much comes with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// When it was made, as its client says.
    pub time: Timestamp,
    /// Sealed bytes that were written for it.
    pub bytes: u64,
}

/// A series that has snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeriesShare {
    /// Stands for it.
    pub token: Token,
    /// Its name; `None` where the credential lacks the role restore.
    pub name: Option<String>,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<Added>,
    /// What the newest one uses and is fetched where it is restored, by the tiers in which it lies.
    pub newest: BTreeMap<usize, NewestShare>,
}

/// What a snapshot uses of one tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NewestShare {
    /// Sealed bytes of the frames.
    pub bytes: u64,
    /// Packs in which they lie.
    pub packs: u64,
}

impl SeriesShare {
    /// Sealed bytes of the frames that the newest snapshot uses.
    pub fn newest_bytes(&self) -> u64 {
        self.newest.values().map(|share| share.bytes).sum()
    }
}

/// Who uses what is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shares {
    /// The series, by their tokens.
    pub series: Vec<SeriesShare>,
    /// The tiers that have objects.
    pub tiers: BTreeMap<usize, TierShare>,
}

impl Repository {
    /// Shares out what is stored. Every credential may ask; names of series need the role restore.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where the refs of a snapshot that counts cannot be read, [`ErrorKind::Cancelled`] when `progress` says so, otherwise what
    /// the backend says.
    pub fn shares(&self, tier_of: &TierOf<'_>, progress: &dyn Progress) -> Result<Shares> {
        let listing = self.list_snapshots()?;
        let reader = FrameReader::new(self, self.open_index()?);
        let mut by_series: BTreeMap<Token, Vec<SnapshotId>> = BTreeMap::new();
        for (id, header) in listing.headers().filter(|(id, _)| !listing.withdrawn.contains(id)) {
            by_series.entry(header.series).or_default().push(id);
        }
        progress.event(Event::Phase {
            name: "refs",
            bytes_total: None,
            items_total: Some(by_series.values().map(|ids| ids.len() as u64).sum()),
        });
        let (mut shares, mut uses) = (Shares::default(), Vec::new());
        for (token, ids) in by_series {
            let mut headers: Vec<_> = ids.iter().filter_map(|id| Some((*id, listing.header(*id)?))).collect();
            headers.sort_by_key(|(id, header)| (header.time, header.sequence, *id));
            let (mut used, mut newest) = (FramesUsed::default(), FramesUsed::default());
            for (at, (id, header)) in headers.iter().enumerate() {
                if progress.is_cancelled() {
                    return Err(Error::new(ErrorKind::Cancelled, "stopped"));
                }
                let marks = if at + 1 == headers.len() { vec![&mut used, &mut newest] } else { vec![&mut used] };
                for mark in marks {
                    // What is in no pack takes no space.
                    match self.mark_used(&reader, &header.refs_root, mark, |_| Ok(())) {
                        Err(error) if error.kind() == ErrorKind::Damaged && listing.state(*id, header) == SnapshotState::Suspect => {}
                        marked => marked.map_err(|error| error.context(format_args!("snapshot {id}")))?,
                    }
                }
                progress.event(Event::Advance { bytes: 0, items: 1 });
            }
            let name = match headers.last() {
                Some((id, _)) if self.roles().contain(Roles::RESTORE) => Some(self.read_snapshot(*id, &listing)?.body.series),
                _ => None,
            };
            let (mut of_newest, mut packs) = (BTreeMap::<usize, NewestShare>::new(), HashSet::new());
            newest.for_each(&reader, |place, _| {
                let pack = ObjectName::pack(place.kind, place.pack);
                let share = of_newest.entry(tier_of(&pack)).or_default();
                share.bytes += u64::from(place.sealed_length);
                share.packs += u64::from(packs.insert(pack));
            })?;
            let snapshots = headers.iter().map(|(_, header)| Added { time: header.time, bytes: header.new_bytes }).collect();
            shares.series.push(SeriesShare { token, name, snapshots, newest: of_newest });
            uses.push(used);
        }
        self.share_out(&reader, &uses, tier_of, &mut shares)?;
        Ok(shares)
    }

    /// Every byte that is listed, to those who use it.
    fn share_out(&self, reader: &FrameReader, uses: &[FramesUsed], tier_of: &TierOf<'_>, shares: &mut Shares) -> Result<()> {
        let new_tier = || TierShare { series: vec![0; uses.len()], ..TierShare::default() };
        // Of each frame: how many series use it, and how many of them got their share.
        let mut users: HashMap<u32, (u32, u32)> = HashMap::new();
        for used in uses {
            used.for_each(reader, |place, _| users.entry(place.ordinal.get()).or_default().0 += 1)?;
        }
        let mut given: HashMap<ObjectName, u64> = HashMap::new();
        for (series, used) in uses.iter().enumerate() {
            used.for_each(reader, |place, _| {
                let (count, served) = users.entry(place.ordinal.get()).or_insert((1, 0));
                let one_more = place.sealed_length % *count > *served;
                let part = u64::from(place.sealed_length / *count) + u64::from(one_more);
                *served += 1;
                let pack = ObjectName::pack(place.kind, place.pack);
                *given.entry(pack).or_default() += part;
                shares.tiers.entry(tier_of(&pack)).or_insert_with(new_tier).series[series] += part;
            })?;
        }
        for kind in ObjectKind::ALL {
            let listed = self.backend.list_sorted(kind)?;
            let placement = self.tiers.view()?;
            for object in listed {
                let tier = shares.tiers.entry(tier_of(&object.name)).or_insert_with(new_tier);
                tier.objects += 1;
                match kind.is_pack() {
                    // A pack that is gone since the index was read, or came since, gives nothing to anybody.
                    true => {
                        let given = given.remove(&object.name);
                        tier.rest += object.size.saturating_sub(given.unwrap_or(0));
                        if given.is_none() {
                            let place =
                                object.name.pack_id().filter(|_| kind == ObjectKind::DataPack).and_then(|pack| placement.coldest(pack));
                            tier.unneeded.push(Unneeded { bytes: object.size, since: place.map(|(_, placed)| placed.since) });
                        }
                    }
                    false => tier.others += object.size,
                }
            }
        }
        Ok(())
    }
}
