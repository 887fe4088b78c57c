//! Config generations and key slots: objects whose body is clear, so that every check can read them.

use super::reading::{Listing, Reading};
use crate::backend::{ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, Result};
use crate::format::Trust;
use crate::format::config::Config;
use crate::format::slot::Slot;
use crate::id::CredentialId;
use std::collections::BTreeMap;
use std::ops::Range;

/// Objects of a kind.
pub(super) fn of_kind(listing: &Listing, kind: ObjectKind) -> &[ObjectInfo] {
    listing.get(&kind).map_or(&[], Vec::as_slice)
}

/// Checks all generations, each against the one before, of which those up to `newest` must be there; the newest that is right is returned. What admin
/// did not sign only uses up its number.
pub(super) fn check_configs(reading: &Reading<'_>, listing: &Listing, trust: &Trust, newest: u32) -> Result<Option<Config>> {
    let configs = of_kind(listing, ObjectKind::Config);
    let mut by_number: BTreeMap<u32, &ObjectInfo> = configs.iter().map(|object| (object.name.number(), object)).collect();
    if let Some(object) = by_number.remove(&0) {
        reading.findings.say(Some(object.name), Some("NAME-1"), format!("{}: generations count from 1", object.name));
    }
    let mut before: Option<(u32, [u8; 32])> = None;
    let mut last = None;
    for (generation, object) in &by_number {
        let Some(bytes) = reading.read_small(object)? else { continue };
        let Some(opened) = reading.open(&object.name, &bytes, trust)? else { continue };
        let decoded = Config::decode(*generation, opened.body, trust.admin_key.as_ref()).map_err(|error| error.context(object.name));
        let Some(config) = reading.judge(&object.name, decoded)? else { continue };
        let number = before.map_or(0, |(number, _)| number);
        // One that follows the one before shows that none was between them, whoever used these numbers up.
        if !before.is_some_and(|(_, hash)| config.follows(&hash)) {
            report_missing(reading, &by_number, number + 1..*generation);
            if number > 0 && number + 1 == *generation {
                let error = Error::rule("CFG-2", format!("{}: it names another predecessor than the one that is here", object.name));
                reading.findings.add(object.name, &error);
            }
        }
        before = Some((*generation, opened.hash));
        last = Some(config);
    }
    report_missing(reading, &by_number, before.map_or(0, |(number, _)| number).saturating_add(1)..newest.saturating_add(1));
    Ok(last)
}

/// Tells which of these numbers are not there, as ranges: there may be very many.
fn report_missing(reading: &Reading<'_>, there: &BTreeMap<u32, &ObjectInfo>, numbers: Range<u32>) {
    if numbers.is_empty() {
        return;
    }
    let mut expected = numbers.start;
    for number in there.range(numbers.clone()).map(|(number, _)| *number).chain([numbers.end]) {
        if number > expected {
            let name = ObjectName::config(expected);
            let message = match number - 1 {
                last if last == expected => format!("{name} is missing"),
                last => format!("{name} to {} are missing", ObjectName::config(last)),
            };
            reading.findings.say(Some(name), Some("CFG-2"), message);
        }
        expected = number.saturating_add(1);
    }
}

/// Checks all key slots as far as possible without what opens them (SLOT-1 to SLOT-5, SLOT-10). One of them must hold `credential`.
pub(super) fn check_slots(reading: &Reading<'_>, listing: &Listing, trust: &Trust, credential: Option<CredentialId>) -> Result<()> {
    let (mut has_active, mut has_own) = (false, credential.is_none());
    for object in of_kind(listing, ObjectKind::Slot) {
        let Some(bytes) = reading.read_small(object)? else { continue };
        let Some(opened) = reading.open(&object.name, &bytes, trust)? else { continue };
        let Some(slot) = reading.judge(&object.name, Slot::decode(opened.body).map_err(|error| error.context(object.name)))? else {
            continue;
        };
        has_active |= slot.sealed.is_some();
        has_own |= Some(slot.credential) == credential;
    }
    // One that could not be read may be the one that is missed.
    if of_kind(listing, ObjectKind::Slot).iter().any(|object| reading.findings.is_unread(&object.name)) {
        return Ok(());
    }
    if !has_active {
        reading.findings.say(
            None,
            None,
            "no key slot is left that can be opened: keep the one in hand alive and add another before it ends",
        );
    } else if !has_own {
        reading.findings.say(None, None, "the key slot that this credential came from is missing; it cannot be opened again");
    }
    Ok(())
}
