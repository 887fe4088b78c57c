//! What this user has seen of a repository, kept between runs: by it a store is caught that serves an older state, or from which a snapshot was
//! taken away together with everything that told of it.
//!
//! Everything in a store that is old enough was valid once, so only memory outside the store can tell. Remembered are the newest config and epoch and the
//! snapshots that counted, each with the looks between which it came, so that a false time of it does no harm to others. A snapshot may go only after it was withdrawn, and of a withdrawal there is a marker or an epoch that names it (EPOCH-1):
//! nothing else makes it be forgotten here, neither that it is damaged nor that what says that it counts is gone.
//! Remembered as well are the holds in force, and what the clock here said a day ago and since: by that a lock is known to be over.
//! What is not durable yet may be gone after a power failure, though nobody took it away: what is new is made durable before it is remembered
//! (`OthersDurable`), and where that fails it is not.
//! Two processes that write at the same time leave the sightings of one of them, which is made good by the next run.

use super::generations::Signed;
use super::holds::DAY_SECONDS;
use super::{Repository, SnapshotListing, SnapshotState};
use crate::backend::{Backend, BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
use crate::format::object::Opened;
use crate::format::snapshot::{SnapshotHeader, Token};
use crate::id::{HoldId, SessionId, SnapshotId, from_hex, to_hex};
use crate::progress::{Event, Progress};
use crate::runtime::Timestamp;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const FIRST_LINE: &str = "icecore sightings 1";
/// Begins the word that says of which series a snapshot is.
const SERIES: &str = "series:";
/// So many seconds may pass before it is noted that nothing new was seen.
const LOOK_NOTED_AFTER: i64 = 3_600;

/// Between which looks a snapshot came. Both by the clock of whoever looked, which went on in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sight {
    /// The last look without it.
    pub(crate) not_there: Timestamp,
    /// The first with it.
    pub(crate) first: Timestamp,
}

/// A snapshot that counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SeenSnapshot {
    /// Who made it.
    session: SessionId,
    /// Of which series it is, where that was known: when it is damaged or gone nothing else tells.
    series: Option<Token>,
    /// `None` for those of the first look, those by this process, and where the clock went back. Of a copy as at its source.
    sight: Option<Sight>,
}

/// What was seen of one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    /// Number and trailer hash of the newest config generation.
    config: (u32, [u8; 32]),
    /// Number and trailer hash of the newest epoch; 0 and zeros for none.
    epoch: (u32, [u8; 32]),
    /// When snapshots were listed last; to the second.
    looked: Option<Timestamp>,
    /// Snapshots that counted.
    snapshots: BTreeMap<SnapshotId, SeenSnapshot>,
    /// Holds in force, each with the second in which it ends; 0 for a legal hold.
    holds: BTreeMap<HoldId, i64>,
    /// What the clock here said, in seconds: at least a day before the second reading, and at most a day ago. 0 for none.
    clock: (i64, i64),
}

impl Seen {
    /// Nothing where there is no file yet.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where it is not as it was written.
    fn load(path: &Path) -> Result<Self> {
        let damaged = || {
            let message = format!(
                "{}, which holds what was seen of the repository before, is damaged, so it cannot be told whether the store serves an older \
                 state; remove this file to go on without",
                path.display()
            );
            Error::new(ErrorKind::Damaged, message)
        };
        match fs::read(path) {
            Ok(bytes) => Self::decode(&bytes).ok_or_else(damaged),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io(format!("reading what was seen before in {}", path.display()), error)),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (sum, text) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
        let mut lines = text.lines();
        if sum != checksum(text) || lines.next() != Some(FIRST_LINE) {
            return None;
        }
        let mut seen = Self::default();
        for line in lines {
            let mut words = line.split(' ');
            let (what, first, second) = (words.next()?, words.next()?, words.next().unwrap_or_default());
            let numbered = || Some((first.parse().ok()?, from_hex(second)?.try_into().ok()?));
            match what {
                "config" => seen.config = numbered()?,
                "epoch" => seen.epoch = numbered()?,
                "looked" => seen.looked = Some(at(first)?),
                "snapshot" => {
                    let rest: Vec<&str> = words.collect();
                    let (series, times): (Vec<&str>, Vec<&str>) = rest.into_iter().partition(|word| word.starts_with(SERIES));
                    let sight = match times[..] {
                        [not_there, first] => Some(Sight { not_there: at(not_there)?, first: at(first)? }),
                        _ => None,
                    };
                    let series = series.first().and_then(|word| from_hex(word.strip_prefix(SERIES)?)?.try_into().ok());
                    let session = SessionId::parse(second).ok()?;
                    seen.snapshots.insert(SnapshotId::parse(first).ok()?, SeenSnapshot { session, series, sight });
                }
                "clock" => seen.clock = (first.parse().ok()?, second.parse().ok()?),
                "hold" => drop(seen.holds.insert(HoldId::parse(first).ok()?, second.parse().ok()?)),
                _ => return None,
            }
        }
        Some(seen)
    }

    fn encode(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        for (what, (number, hash)) in [("config", &self.config), ("epoch", &self.epoch)] {
            text.push_str(&format!("{what} {number} {}\n", to_hex(hash)));
        }
        text.push_str(&format!("clock {} {}\n", self.clock.0, self.clock.1));
        for (hold, end) in &self.holds {
            text.push_str(&format!("hold {hold} {end}\n"));
        }
        if let Some(looked) = self.looked {
            text.push_str(&format!("looked {}\n", looked.seconds));
        }
        for (snapshot, SeenSnapshot { session, series, sight }) in &self.snapshots {
            let sight = sight.map_or(String::new(), |sight| format!(" {} {}", sight.not_there.seconds, sight.first.seconds));
            let series = series.map_or(String::new(), |series| format!(" {SERIES}{}", to_hex(&series)));
            text.push_str(&format!("snapshot {snapshot} {session}{sight}{series}\n"));
        }
        format!("{}\n{text}", checksum(&text))
    }

    /// Notes what the clock here says. Readings that lie ahead of it were false.
    fn read_clock(&mut self, now: Timestamp) {
        let (older, newer) = self.clock;
        let older = if older > now.seconds { 0 } else { older };
        self.clock = match now.seconds.saturating_sub(newer) {
            _ if newer == 0 => (0, now.seconds),
            ..=-1 => (older, now.seconds),
            since if since.unsigned_abs() >= DAY_SECONDS => (newer, now.seconds),
            _ => (older, newer),
        };
    }

    /// Without what `before` did not know, and as if nobody had looked: what is left out is new at the next look, too.
    fn without_new(mut self, before: &Self) -> Self {
        self.snapshots.retain(|snapshot, _| before.snapshots.contains_key(snapshot));
        self.holds.retain(|hold, _| before.holds.contains_key(hold));
        Self { epoch: before.epoch, looked: before.looked, ..self }
    }

    /// Keeps it. Where that is not possible the next run knows less, which is said and no failure: a home that is full or read-only must not keep
    /// anybody from restoring.
    fn save(&self, path: &Path) -> std::io::Result<()> {
        let Some(folder) = path.parent() else { return Ok(()) };
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(self.encode().as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(folder)?.sync_all()
    }
}

fn at(seconds: &str) -> Option<Timestamp> {
    Some(Timestamp { seconds: seconds.parse().ok()?, nanoseconds: 0 })
}

fn checksum(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

fn older(path: &Path, what: &str) -> Error {
    let message = format!(
        "the store serves an older or another state of the repository than was seen from here before: {what}. Bring back the newer state. \
         If an older one was put in its place on purpose, remove {} to accept it",
        path.display()
    );
    Error::new(ErrorKind::Damaged, message)
}

/// Refuses a config that is older than one that was seen, or that follows another one of the same number: with it revoked keys would be in force again.
/// A newer one is remembered, if it can be made durable in `backend`.
///
/// # Errors
/// [`ErrorKind::Damaged`] then.
pub(super) fn check_config(path: &Path, backend: &dyn Backend, trust: &Trust, newest: &Signed) -> Result<()> {
    // A damaged file is told of by what lists snapshots.
    let Ok(mut seen) = Seen::load(path) else { return Ok(()) };
    let ((known, known_hash), generation) = (seen.config, newest.generation);
    if generation < known {
        return Err(older(path, &format!("generation {known} of the config was there, and now {generation} is the newest")));
    }
    let is_another = match generation == known {
        true => newest.hash != known_hash,
        // One that joins a fork names both ends.
        false if known == 0 || newest.config.follows(&known_hash) => false,
        false => match hash_of(backend, &ObjectName::config(known), trust) {
            Ok(hash) => hash != known_hash,
            // Check reports it.
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => false,
            // Compared another time, and nothing is remembered before.
            Err(_) => return Ok(()),
        },
    };
    if is_another {
        return Err(older(path, &format!("generation {known} of the config was another one")));
    }
    if generation > known && backend.make_durable(&[ObjectName::config(generation)]).is_ok() {
        seen.config = (generation, newest.hash);
        // Whoever lists snapshots says that nothing can be kept.
        let _ = seen.save(path);
    }
    Ok(())
}

/// The trailer hash of an object that is right.
fn hash_of(backend: &dyn Backend, name: &ObjectName, trust: &Trust) -> Result<[u8; 32]> {
    let bytes = backend.get(name, name.kind().size_max())?;
    Ok(Opened::check(name, &bytes, trust)?.hash)
}

impl SnapshotListing {
    /// Tells `progress` what is gone that was seen before.
    pub(crate) fn tell_setbacks(&self, progress: &dyn Progress) {
        for (name, error) in self.unread() {
            progress.event(Event::Notice { message: &format!("{name} cannot be read, and is passed over: {error}") });
        }
        if let Some(setback) = &self.setback {
            progress.event(Event::Notice { message: &setback.to_string() });
        }
        if let Some(message) = &self.unkept {
            progress.event(Event::Notice { message });
        }
        if let Some(first) = self.vanished.keys().next() {
            let (count, first) = (self.vanished.len(), first.to_string());
            let message = format!(
                "snapshots that were seen before are gone without having been forgotten ({count}, one is {first}): somebody or something removed them \
                 from the store; run check"
            );
            progress.event(Event::Notice { message: &message });
        }
    }
}

impl Repository {
    fn sightings(&self) -> Option<PathBuf> {
        Some(self.settings.sightings.as_ref()?.join(self.settings.local_name(self.id)))
    }

    /// What the clock here said in earlier runs.
    pub(super) fn clock_readings(&self) -> Vec<Timestamp> {
        let seen = self.sightings().and_then(|path| Seen::load(&path).ok()).unwrap_or_default();
        let readings = [seen.clock.0, seen.clock.1].into_iter().filter(|seconds| *seconds != 0);
        readings.map(|seconds| Timestamp { seconds, nanoseconds: 0 }).collect()
    }

    /// Notes snapshots that this process published and that count from now on.
    pub(super) fn see_own(&self, session: SessionId, snapshots: &[SnapshotId], series: &BTreeMap<SnapshotId, Token>) {
        let own = |snapshot| SeenSnapshot { session, series: series.get(snapshot).copied(), sight: None };
        self.see(snapshots.iter().map(|snapshot| (*snapshot, own(snapshot))).collect());
    }

    /// Notes snapshots that this process copied here and that count from now on, each with when it came to where it was copied from: that it was not here
    /// before says nothing of when it was made.
    pub(crate) fn see_copies<'h>(&self, copies: impl Iterator<Item = (SnapshotId, &'h SnapshotHeader, Option<Sight>)>) {
        let copy = |header: &SnapshotHeader, sight| SeenSnapshot { session: header.record.id(), series: Some(header.series), sight };
        self.see(copies.map(|(snapshot, header, sight)| (snapshot, copy(header, sight))).collect());
    }

    fn see(&self, snapshots: BTreeMap<SnapshotId, SeenSnapshot>) {
        let Some(path) = self.sightings().filter(|_| !snapshots.is_empty()) else { return };
        if let Ok(mut seen) = Seen::load(&path) {
            seen.snapshots.extend(snapshots);
            // Said when snapshots were listed before.
            let _ = seen.save(&path);
        }
    }

    /// Tells `progress` what [`Repository::compare_with_sightings`] finds; only names are listed.
    pub(crate) fn tell_setbacks(&self, progress: &dyn Progress) -> Result<()> {
        if self.settings.sightings.is_none() {
            return Ok(());
        }
        let names = self.backend.list_sorted(ObjectKind::Snapshot)?;
        let snapshots = names.into_iter().map(|object| SnapshotId(object.name.id())).collect();
        let mut listing = SnapshotListing::default();
        listing.snapshots = snapshots;
        self.compare(&mut listing, false)?;
        listing.tell_setbacks(progress);
        Ok(())
    }

    /// Compares what was listed with what was seen before, notes in the listing what is gone and why it cannot be right, and remembers the rest.
    pub(crate) fn compare_with_sightings(&self, listing: &mut SnapshotListing) -> Result<()> {
        self.compare(listing, true)
    }

    /// `is_look` where snapshots that are new would be seen; otherwise only names were listed.
    fn compare(&self, listing: &mut SnapshotListing, is_look: bool) -> Result<()> {
        let Some(path) = self.sightings() else { return Ok(()) };
        let before = match Seen::load(&path) {
            Ok(seen) => seen,
            Err(error) => {
                listing.setback = Some(error);
                return Ok(());
            }
        };
        let now = Timestamp { nanoseconds: 0, ..self.runtime.clock.now() };
        // A clock that went back says nothing of when anything came.
        let sight = before.looked.filter(|looked| *looked <= now).map(|not_there| Sight { not_there, first: now });
        let looked = if is_look { Some(now) } else { before.looked };
        let mut seen = Seen { looked, holds: BTreeMap::new(), ..before.clone() };
        seen.read_clock(self.runtime.clock.now());
        self.compare_holds(&path, &before, &mut seen, listing)?;
        match self.compare_epochs(&path, before.epoch)? {
            Ok(epoch) => seen.epoch = epoch,
            Err(setback) => listing.setback = Some(setback),
        }
        let missed = self.look_for(&before.snapshots, listing)?;
        // Where only names were listed it is not known what is held.
        seen.snapshots.retain(|snapshot, _| !is_look || !missed.withdrawn.contains(snapshot));
        (listing.vanished, listing.unclosed) = (missed.vanished, missed.unclosed.into_keys().collect());
        for (snapshot, header) in listing.headers().filter(|(snapshot, _)| !missed.withdrawn.contains(snapshot)) {
            if let Some(known) = seen.snapshots.get_mut(&snapshot) {
                known.series = Some(header.series);
            } else if listing.state(snapshot, header) == SnapshotState::Closed && !listing.withdrawn.contains(&snapshot) {
                let new = SeenSnapshot { session: header.record.id(), series: Some(header.series), sight };
                seen.snapshots.insert(snapshot, new);
            }
        }
        listing.series = seen.snapshots.iter().filter_map(|(snapshot, seen)| Some((*snapshot, seen.series?))).collect();
        listing.sights = seen.snapshots.iter().filter_map(|(snapshot, seen)| Some((*snapshot, seen.sight?))).collect();
        if let Err(error) = self.make_new_durable(&before, &seen, listing) {
            seen = seen.without_new(&before);
            let what = "what is new in the repository may go again with a power failure, and is not remembered as seen";
            listing.unkept = Some(format!("{what}: {error}"));
        }
        let is_new_look = |looked: Timestamp| now.seconds < looked.seconds || now.seconds - looked.seconds > LOOK_NOTED_AFTER;
        let is_later = seen.looked != before.looked && before.looked.is_none_or(is_new_look);
        if is_later || seen != (Seen { looked: seen.looked, ..before }) {
            if let Err(error) = seen.save(&path) {
                listing.unkept = Some(format!(
                    "what was seen of the repository cannot be kept in {}, so that nobody here would notice if the store served an older state later: \
                     {error}",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    /// Makes durable what `before` does not know (`OthersDurable`).
    fn make_new_durable(&self, before: &Seen, seen: &Seen, listing: &SnapshotListing) -> Result<()> {
        let snapshots = seen.snapshots.keys().filter(|snapshot| !before.snapshots.contains_key(snapshot));
        let mut new = listing.publications(snapshots.copied());
        new.extend(seen.holds.keys().filter(|hold| !before.holds.contains_key(hold)).map(|hold| ObjectName::hold(*hold)));
        if seen.epoch.0 > before.epoch.0 {
            new.push(ObjectName::epoch(seen.epoch.0));
        }
        if new.is_empty() { Ok(()) } else { self.backend.make_durable(&new) }
    }

    /// Finds holds that were in force and are gone, and notes those that are.
    fn compare_holds(&self, path: &Path, before: &Seen, seen: &mut Seen, listing: &mut SnapshotListing) -> Result<()> {
        if !listing.holds.are_listed {
            seen.holds.clone_from(&before.holds);
            return Ok(());
        }
        let is_over = |seconds: i64| seconds != 0 && listing.holds.proof.is_over(Timestamp { seconds, nanoseconds: 0 });
        let is_gone = |(hold, end): &(&HoldId, &i64)| !listing.holds.is_listed(**hold) && !is_over(**end);
        let mut gone: Vec<_> = before.holds.iter().filter(is_gone).map(|(hold, end)| (*hold, *end)).collect();
        let mut late = Vec::new();
        if !gone.is_empty() {
            // Another process here may have seen what was placed since holds were listed: list them again before saying so (I13).
            let mut noted = SnapshotListing::default();
            let now = self.list_holds(|name, read| noted.keep_or_note(self, name, read))?;
            (late, gone) = gone.into_iter().partition(|(hold, _)| now.is_listed(*hold));
        }
        if let Some((hold, _)) = gone.first() {
            let what = format!("hold {hold} was there and is gone, so that what it held is not protected any more");
            listing.setback = Some(older(path, &what));
        }
        let is_to_keep =
            |hold: &HoldId| before.holds.contains_key(hold) || self.stands(&listing.holds.snapshots_of(*hold)).unwrap_or(false);
        let in_force = listing.holds.in_force().filter(|(hold, _)| is_to_keep(hold));
        seen.holds = in_force.map(|(hold, until)| (hold, until.map_or(0, |until| until.seconds))).collect();
        seen.holds.extend(gone.iter().chain(&late).copied());
        listing.holds.gone = gone.into_iter().map(|(hold, _)| hold).collect();
        Ok(())
    }

    /// Whether a hold of these will stand. One that may have come too late will be taken back, which would look as if somebody had removed it: there is a
    /// marker of what it holds, or that is gone. What is held in a replica may come later than its hold.
    fn stands(&self, held: &[SnapshotId]) -> Result<bool> {
        let counts = self.ask_each(held, |id| self.counts_still(*id))?.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(counts.iter().all(|counts| *counts != Some(false)) && counts.contains(&Some(true)))
    }

    /// Whether a snapshot that counted was not withdrawn up to now; `None` where it is gone, or never came. Whoever placed a hold of it before asking has
    /// done so in time: from now on collectors find the hold. The marker first, which goes after the snapshot.
    pub(super) fn counts_still(&self, id: SnapshotId) -> Result<Option<bool>> {
        match self.has(&ObjectName::withdrawn(id))? {
            true => Ok(Some(false)),
            false => Ok(self.has(&ObjectName::snapshot(id))?.then_some(true)),
        }
    }

    /// The newest epoch; or why it cannot be what comes after the one that was seen.
    fn compare_epochs(&self, path: &Path, (known, known_hash): (u32, [u8; 32])) -> Result<std::result::Result<(u32, [u8; 32]), Error>> {
        // What has no hash was none: something under the name of an epoch.
        let known = if known_hash == [0; 32] { 0 } else { known };
        let (newest, newest_hash) = self.newest_epoch_and_hash()?;
        if newest < known {
            let what = format!("epoch {known} of garbage collection was there, and now {newest} is the newest");
            return Ok(Err(older(path, &what)));
        }
        let another = || older(path, &format!("epoch {known} of garbage collection was another one"));
        if known > 0 && newest == known && newest_hash != [0; 32] && newest_hash != known_hash {
            return Ok(Err(another()));
        }
        if known > 0 && newest > known {
            match self.read_sealed(&ObjectName::epoch(known)) {
                Ok(epoch) if epoch.hash == known_hash => {}
                Ok(_) => return Ok(Err(another())),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Ok(Err(older(path, &format!("epoch {known} of garbage collection was there and is gone"))));
                }
                // Check reports it. It says nothing, and has no hash that could be compared.
                Err(error) if error.broken_rule().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        // Of one that cannot be read with these keys nothing is remembered.
        Ok(Ok(if newest == known || newest_hash == [0; 32] { (known, known_hash) } else { (newest, newest_hash) }))
    }

    /// What became of snapshots that were `seen` before and that are not listed, or do not count as they are listed.
    fn look_for(&self, seen: &BTreeMap<SnapshotId, SeenSnapshot>, listing: &SnapshotListing) -> Result<Missed> {
        let mut missed = Missed::default();
        for (snapshot, known) in seen {
            let is_listed = || listing.snapshots.binary_search(snapshot).is_ok();
            match listing.header(*snapshot) {
                _ if listing.withdrawn.contains(snapshot) => drop(missed.withdrawn.insert(*snapshot)),
                Some(header) if listing.state(*snapshot, header) == SnapshotState::Suspect => {
                    missed.unclosed.insert(*snapshot, known.session);
                }
                None if !is_listed() => drop(missed.vanished.insert(*snapshot, known.session)),
                // It counts, or cannot be read now: what is damaged was not forgotten.
                _ => {}
            }
        }
        // After snapshots were listed: what was removed by then had been named by an epoch before.
        missed.hear_epochs(self)?;
        // Asked by name (`AskByName`): a listing may be older than what is there. What says that a snapshot counts goes after it, and the marker last.
        for (snapshot, session) in std::mem::take(&mut missed.unclosed) {
            if self.is_withdrawn(snapshot, listing)? {
                missed.withdrawn.insert(snapshot);
            } else if !self.is_closed_with(snapshot, session, listing)? {
                let is_there = self.has(&ObjectName::snapshot(snapshot))?;
                let group = if is_there { &mut missed.unclosed } else { &mut missed.vanished };
                group.insert(snapshot, session);
            }
        }
        for (snapshot, session) in std::mem::take(&mut missed.vanished) {
            if self.is_withdrawn(snapshot, listing)? {
                missed.withdrawn.insert(snapshot);
            } else if !self.has(&ObjectName::snapshot(snapshot))? {
                missed.vanished.insert(snapshot, session);
            }
        }
        // What was removed since had been named by an epoch, too.
        missed.hear_epochs(self)?;
        Ok(missed)
    }

    /// Whether there is a marker of the snapshot that is believed.
    pub(crate) fn is_withdrawn(&self, snapshot: SnapshotId, listing: &SnapshotListing) -> Result<bool> {
        match self.read_withdrawn(snapshot, listing) {
            Ok(_) => Ok(true),
            Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Snapshots that were seen to count and do not as they are listed.
#[derive(Debug, Default)]
struct Missed {
    /// Somebody has withdrawn them.
    withdrawn: HashSet<SnapshotId>,
    /// They are gone and nobody has withdrawn them, as far as can be known; with who made them.
    vanished: BTreeMap<SnapshotId, SessionId>,
    /// They are there, and what said that they count is gone; with who made them.
    unclosed: BTreeMap<SnapshotId, SessionId>,
}

impl Missed {
    /// Takes for withdrawn what an epoch names.
    fn hear_epochs(&mut self, repository: &Repository) -> Result<()> {
        if self.vanished.is_empty() && self.unclosed.is_empty() {
            return Ok(());
        }
        let mut take = |snapshot: &SnapshotId| {
            if self.vanished.remove(snapshot).or_else(|| self.unclosed.remove(snapshot)).is_some() {
                self.withdrawn.insert(*snapshot);
            }
        };
        repository.for_each_epoch(|_, epoch| epoch.withdrawn.iter().for_each(&mut take)).map(drop)
    }
}
