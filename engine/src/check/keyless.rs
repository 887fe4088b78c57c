//! Scrub without any credential: headers, names, hashes, signatures, group hashes.
//!
//! What is sealed stays sealed, so nothing is known of what needs what. Whoever can write to the store could have put a repository of
//! their own there: the admin key is taken from config generation 1 as it is, and a notice says so.

use super::CheckReport;
use super::clear::{check_configs, check_slots, of_kind};
use super::reading::{Listing, Reading};
use super::sidecars::{check_sidecars, heal_small, say_not_healed};
use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
use crate::format::config::Config;
use crate::format::object::{HEADER_LENGTH, Opened};
use crate::id::to_hex;
use crate::limits::GROUP_SIZE;
use crate::progress::{Event, Progress};
use crate::repository::{ClearTail, heal};
use crate::runtime::Runtime;
use crate::runtime::channel::bounded;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Checks every byte of every object as far as that needs no key.
///
/// # Errors
/// [`ErrorKind::NoRepository`] where nothing is there, [`ErrorKind::Unavailable`] where the backend cannot be listed or read any more,
/// [`ErrorKind::Cancelled`] when `progress` says so. Damage is no error but a finding.
pub fn scrub_keyless(backend: &dyn Backend, runtime: &Runtime, progress: &dyn Progress) -> Result<CheckReport> {
    scrub(backend, runtime, progress, false)
}

/// As [`scrub_keyless`], and puts the bytes of damaged and lost objects back where their sidecars allow it.
///
/// # Errors
/// As [`scrub_keyless`].
pub fn scrub_and_heal_keyless(backend: &dyn Backend, runtime: &Runtime, progress: &dyn Progress) -> Result<CheckReport> {
    scrub(backend, runtime, progress, true)
}

fn scrub(backend: &dyn Backend, runtime: &Runtime, progress: &dyn Progress, heals: bool) -> Result<CheckReport> {
    let started = runtime.clock.monotonic_ns();
    let reading = Reading::new(backend, progress);
    let mut listing = reading.list()?;
    if listing.values().all(Vec::is_empty) {
        return Err(Error::new(ErrorKind::NoRepository, format!("{}: there is no repository here", backend.describe())));
    }
    let heals = heals && wants_parity(&reading, &listing);
    // Before anything is believed: the config itself may be what was lost.
    if heals && heal_small(&reading, &listing, &read_trust(&reading).unwrap_or_default(), true)? {
        listing = reading.list()?;
    }
    let mut trust = first_trust(&reading, &listing)?;
    let config = check_configs(&reading, &listing, &trust, 1)?;
    check_slots(&reading, &listing, &trust, None)?;
    let is_demanded = config.as_ref().is_some_and(|config| config.parity_percent() > 0);
    trust.revoked = config.map(|config| config.revoked).unwrap_or_default();
    let is_small = |kind: &ObjectKind| !kind.is_pack() && !matches!(kind, ObjectKind::Config | ObjectKind::Slot | ObjectKind::Parity);
    for object in listing.iter().filter(|(kind, _)| is_small(kind)).flat_map(|(_, objects)| objects) {
        if let Some(bytes) = reading.read_small(object)? {
            reading.open(&object.name, &bytes, &trust)?;
        }
    }
    check_sidecars(&reading, &trust, &listing, true, is_demanded)?;
    let packs: Vec<_> = listing.iter().filter(|(kind, _)| kind.is_pack()).flat_map(|(_, objects)| objects).collect();
    let bytes_total = Some(packs.iter().map(|object| object.size).sum());
    progress.event(Event::Phase { name: "scrub packs", bytes_total, items_total: Some(packs.len() as u64) });
    scrub_packs(&reading, &trust, runtime, &packs)?;
    for object in packs.iter().filter(|object| heals && reading.findings.is_about(&object.name)) {
        // It is read back and checked whole by who healed it.
        match heal(backend, &trust, &object.name) {
            Ok(()) => reading.findings.mark_healed(&object.name),
            Err(failure) => say_not_healed(&reading, &object.name, failure)?,
        }
    }
    Ok(reading.finish(runtime.clock.monotonic_ns().saturating_sub(started)))
}

/// Whether the newest config that can be read wants sidecars, or none can be read.
fn wants_parity(reading: &Reading<'_>, listing: &Listing) -> bool {
    let trust = read_trust(reading).unwrap_or_default();
    let read = |object: &ObjectInfo| {
        let bytes = reading.backend.get(&object.name, object.name.kind().size_max()).ok()?;
        let opened = Opened::check(&object.name, &bytes, &trust).ok()?;
        Config::decode(object.name.number(), opened.body, None).ok()
    };
    of_kind(listing, ObjectKind::Config).iter().rev().find_map(read).is_none_or(|config| config.parity_percent() > 0)
}

/// Repository and admin key as config generation 1 has them.
fn read_trust(reading: &Reading<'_>) -> Result<Trust> {
    let name = ObjectName::config(1);
    let bytes = reading.backend.get(&name, name.kind().size_max())?;
    let opened = Opened::check(&name, &bytes, &Trust::default())?;
    let config = Config::decode(1, opened.body, None)?;
    if config.admin_key != *opened.certificate.verifying_key() {
        return Err(Error::rule("CFG-3", format!("{name}: it is not signed by the admin key that it names")));
    }
    Ok(Trust { repository: Some(opened.header.repository), admin_key: Some(config.admin_key), revoked: Vec::new() })
}

/// As [`read_trust`], and says what it is worth.
fn first_trust(reading: &Reading<'_>, listing: &Listing) -> Result<Trust> {
    let name = ObjectName::config(1);
    match read_trust(reading) {
        Ok(trust) => {
            let key = trust.admin_key.map(|key| to_hex(&key)).unwrap_or_default();
            reading.findings.notice(format!("without a credential the admin key is taken from {name} as it is, unpinned: {key}"));
            Ok(trust)
        }
        Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
        Err(_) => {
            // The check of the configs says what is wrong with it.
            let what =
                if of_kind(listing, ObjectKind::Config).is_empty() { "no config is there" } else { "config generation 1 cannot be used" };
            reading.findings.notice(format!("{what}: that objects are of one repository and signed by its admin cannot be checked"));
            Ok(Trust::default())
        }
    }
}

/// Reads pieces in order on this thread, hashes them on others.
fn scrub_packs(reading: &Reading<'_>, trust: &Trust, runtime: &Runtime, packs: &[&ObjectInfo]) -> Result<()> {
    let threads = runtime.executor.threads().max(1);
    let (work, jobs) = bounded::<Job>(threads);
    let (report, results) = crate::runtime::channel::unbounded();
    for _ in 0..threads {
        let (jobs, report) = (jobs.clone(), report.clone());
        let run = move || {
            for job in jobs {
                // The scrub may have been stopped.
                let _ = report.send((job.object, job.wrong_groups()));
            }
        };
        runtime.executor.spawn("icecore-scrub", Box::new(run))?;
    }
    drop((jobs, report));
    let say = |(object, wrong): (ObjectName, Vec<usize>)| {
        for number in wrong {
            let error = Error::rule("PACK-4", format!("{object}: group {number} of 1 MiB does not have its hash"));
            reading.findings.add(object, &error);
        }
    };
    for object in packs {
        reading.go_on()?;
        reading.counts.objects.fetch_add(1, Ordering::Relaxed);
        reading.counts.packs.fetch_add(1, Ordering::Relaxed);
        read_pack(reading, trust, object, &work)?;
        results.try_iter().for_each(say);
        reading.progress.event(Event::Advance { bytes: 0, items: 1 });
    }
    drop(work);
    results.iter().for_each(say);
    Ok(())
}

/// Bytes to be hashed.
struct Job {
    object: ObjectName,
    groups: Arc<Vec<u8>>,
    first_group: usize,
    bytes: Vec<u8>,
}

impl Job {
    /// The groups whose hash is not the one that is expected.
    fn wrong_groups(&self) -> Vec<usize> {
        let expected = |number: usize| self.groups.get(32 * number..32 * (number + 1)).unwrap_or_default();
        let hashes = self.bytes.chunks(GROUP_SIZE).map(blake3::hash);
        let numbered = hashes.enumerate().map(|(at, hash)| (self.first_group + at, hash));
        numbered.filter(|(number, hash)| hash.as_bytes() != expected(*number)).map(|(number, _)| number).collect()
    }
}

fn read_pack(reading: &Reading<'_>, trust: &Trust, object: &ObjectInfo, work: &crate::runtime::channel::Sender<Job>) -> Result<()> {
    let tail = ClearTail::read(reading.backend, trust, &object.name, object.size)
        .and_then(|clear| clear.check(trust).map(|_| ()).map(|()| clear))
        .map_err(|error| if error.broken_rule().is_some() { error.context(object.name) } else { error });
    let Some(tail) = reading.judge(&object.name, tail)? else { return Ok(()) };
    reading.counts.bytes_read.fetch_add((HEADER_LENGTH + tail.bytes.len()) as u64, Ordering::Relaxed);
    let groups = Arc::new(tail.groups().to_vec());
    let (mut at, length) = (0, tail.footer.frames_length as usize);
    while at < length {
        reading.go_on()?;
        let piece = super::scrub::PIECE_LENGTH.min(length - at);
        let read = reading.backend.get_range(&object.name, (HEADER_LENGTH + at) as u64, piece);
        let Some(bytes) = reading.judge(&object.name, read)? else { return Ok(()) };
        reading.counts.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        reading.progress.event(Event::Advance { bytes: bytes.len() as u64, items: 0 });
        let job = Job { object: object.name, groups: Arc::clone(&groups), first_group: at / GROUP_SIZE, bytes };
        work.send(job).map_err(|_| Error::new(ErrorKind::Internal, "the threads of the scrub are gone"))?;
        at += piece;
    }
    Ok(())
}
