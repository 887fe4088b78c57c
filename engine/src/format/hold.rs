//! Holds: snapshots that must not go, and the end of such a hold (`format-spec/holds.md`).

use super::certificate::{Certificate, Roles};
use super::cursor::{Reader, Write};
use super::snapshot::Token;
use crate::error::{Error, Result};
use crate::id::{HoldId, SessionId, SnapshotId};
use crate::limits::{HELD_SNAPSHOTS_MAX, LOCK_END_MAX, NOTE_MAX};
use crate::runtime::Timestamp;

const ZERO: Timestamp = Timestamp { seconds: 0, nanoseconds: 0 };
/// Bytes of a snapshot in a hold.
const SNAPSHOT_LENGTH: usize = 48;

/// What a hold does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldAction {
    /// Holds until it is released.
    Legal,
    /// Holds until this time, and nothing ends it before.
    Lock {
        /// When it ends.
        until: Timestamp,
    },
    /// Ends a legal hold.
    Release {
        /// The hold.
        hold: HoldId,
    },
}

/// A snapshot that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldSnapshot {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The session that made it.
    pub session: SessionId,
    /// Stands for its series.
    pub series: Token,
}

/// What `holds/` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldBody {
    /// What it does.
    pub action: HoldAction,
    /// Its writer's clock.
    pub now: Timestamp,
    /// For people: why. Every credential of the repository can read it.
    pub note: String,
    /// The snapshots, ascending; none in a release.
    pub snapshots: Vec<HeldSnapshot>,
}

impl HoldBody {
    /// The plaintext of the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        let (action, until, released) = match self.action {
            HoldAction::Legal => (1, ZERO, [0; 16]),
            HoldAction::Lock { until } => (2, until, [0; 16]),
            HoldAction::Release { hold } => (3, ZERO, hold.0),
        };
        let mut bytes = Vec::new();
        bytes.put_u8(action);
        bytes.put_time(self.now);
        bytes.put_time(until);
        bytes.put_bytes(&released);
        bytes.put_blob(self.note.as_bytes());
        bytes.put_varint(self.snapshots.len() as u64);
        for held in &self.snapshots {
            bytes.put_bytes(&held.snapshot.0);
            bytes.put_bytes(&held.session.0);
            bytes.put_bytes(&held.series);
        }
        bytes
    }

    /// Reads what stands in an object with this certificate.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(bytes: &[u8], certificate: &Certificate) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let action = reader.u8()?;
        if !(1..=3).contains(&action) {
            return Err(Error::rule("HOLD-1", format!("action {action}")));
        }
        let (now, until, released) = (reader.time()?, reader.time()?, HoldId(reader.array()?));
        let is_end = until > ZERO && until.seconds < LOCK_END_MAX;
        if if action == 2 { !is_end } else { until != ZERO } {
            return Err(Error::rule("HOLD-2", format!("action {action} until second {}", until.seconds)));
        }
        if (action == 3) != (released.0 != [0; 16]) {
            return Err(Error::rule("HOLD-3", format!("action {action} names {released} as released")));
        }
        let note = std::str::from_utf8(reader.blob()?).ok().filter(|note| note.len() <= NOTE_MAX);
        let note = note.ok_or_else(|| Error::rule("HOLD-4", "the note is no short text"))?.to_owned();
        let count = reader.count_at_most(HELD_SNAPSHOTS_MAX, SNAPSHOT_LENGTH, "HOLD-5")?;
        let mut snapshots: Vec<HeldSnapshot> = Vec::new();
        for _ in 0..count {
            let held = HeldSnapshot { snapshot: SnapshotId(reader.array()?), session: SessionId(reader.array()?), series: reader.array()? };
            if snapshots.last().is_some_and(|before| before.snapshot >= held.snapshot) {
                return Err(Error::rule("HOLD-5", format!("snapshot {} is not above the one before", held.snapshot)));
            }
            snapshots.push(held);
        }
        if (action == 3) != snapshots.is_empty() {
            return Err(Error::rule("HOLD-5", format!("action {action} with {count} snapshots")));
        }
        reader.end()?;
        if action == 3 && certificate.roles() != Roles::ADMIN {
            return Err(Error::rule(
                "HOLD-6",
                format!("a release by a credential for {}, where only admin may release", certificate.roles()),
            ));
        }
        let action = match action {
            1 => HoldAction::Legal,
            2 => HoldAction::Lock { until },
            _ => HoldAction::Release { hold: released },
        };
        Ok(Self { action, now, note, snapshots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Secret, Signer};
    use crate::format::testing::{mutate, refused};
    use crate::id::{CredentialId, DomainId, RepositoryId};
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn certificate(roles: Roles) -> Certificate {
        let admin = Signer::new(&Secret::new([1; 32]));
        let repository = RepositoryId([2; 16]);
        match roles {
            Roles::ADMIN => Certificate::of_admin(&admin, &repository, 1),
            _ => Certificate::sign(&admin, &repository, 1, roles, DomainId([0; 16]), CredentialId([3; 16]), [4; 32]),
        }
    }

    fn held(number: u8) -> HeldSnapshot {
        HeldSnapshot { snapshot: SnapshotId([number; 16]), session: SessionId([9; 16]), series: [8; 16] }
    }

    fn body(action: HoldAction, snapshots: Vec<HeldSnapshot>) -> HoldBody {
        HoldBody { action, now: Timestamp { seconds: 7, nanoseconds: 8 }, note: "case 4711".into(), snapshots }
    }

    const LOCK: HoldAction = HoldAction::Lock { until: Timestamp { seconds: 1_900_000_000, nanoseconds: 5 } };
    const RELEASE: HoldAction = HoldAction::Release { hold: HoldId([6; 16]) };

    fn bodies() -> impl Strategy<Value = HoldBody> {
        let snapshots = btree_map(any::<[u8; 16]>(), (any::<[u8; 16]>(), any::<Token>()), 1..9);
        let action = prop_oneof![
            Just(HoldAction::Legal),
            (1..LOCK_END_MAX, 0..1_000_000_000_u32)
                .prop_map(|(seconds, nanoseconds)| HoldAction::Lock { until: Timestamp { seconds, nanoseconds } }),
            (1..=u8::MAX).prop_map(|byte| HoldAction::Release { hold: HoldId([byte; 16]) }),
        ];
        (action, vec(any::<char>(), 0..20), snapshots).prop_map(|(action, note, snapshots)| {
            let snapshots = snapshots.into_iter().map(|(snapshot, (session, series))| HeldSnapshot {
                snapshot: SnapshotId(snapshot),
                session: SessionId(session),
                series,
            });
            let is_release = matches!(action, HoldAction::Release { .. });
            let snapshots = if is_release { Vec::new() } else { snapshots.collect() };
            HoldBody { note: note.into_iter().collect(), ..body(action, snapshots) }
        })
    }

    proptest! {
        #[test]
        fn bodies_read_back(body in bodies()) {
            prop_assert_eq!(HoldBody::decode(&body.encode(), &certificate(Roles::ADMIN)).unwrap(), body);
        }

        #[test]
        fn what_is_accepted_is_canonical(body in bodies(), changes in mutate::changes()) {
            let bytes = mutate::apply(body.encode(), &changes);
            if let Ok(body) = HoldBody::decode(&bytes, &certificate(Roles::ADMIN)) {
                prop_assert_eq!(body.encode(), bytes);
            }
        }
    }

    #[test]
    fn rules_are_named() {
        let by = |rule, bytes: Vec<u8>, roles| refused(rule, HoldBody::decode(&bytes, &certificate(roles)));
        let check = |rule, action, snapshots| by(rule, body(action, snapshots).encode(), Roles::ADMIN);
        let changed = |action, snapshots, at: usize, to: u8| {
            let mut bytes = body(action, snapshots).encode();
            bytes[at] = to;
            bytes
        };
        for action in [0, 4] {
            by("HOLD-1", changed(HoldAction::Legal, vec![held(1)], 0, action), Roles::ADMIN);
        }
        check("HOLD-2", HoldAction::Lock { until: ZERO }, vec![held(1)]);
        check("HOLD-2", HoldAction::Lock { until: Timestamp { seconds: -1, nanoseconds: 0 } }, vec![held(1)]);
        check("HOLD-2", HoldAction::Lock { until: Timestamp { seconds: LOCK_END_MAX, nanoseconds: 0 } }, vec![held(1)]);
        by("HOLD-2", changed(HoldAction::Legal, vec![held(1)], 13, 1), Roles::ADMIN);
        by("HOLD-3", changed(HoldAction::Legal, vec![held(1)], 25, 1), Roles::ADMIN);
        check("HOLD-3", HoldAction::Release { hold: HoldId([0; 16]) }, vec![]);
        by("HOLD-4", HoldBody { note: "x".repeat(NOTE_MAX + 1), ..body(LOCK, vec![held(1)]) }.encode(), Roles::ADMIN);
        by("HOLD-4", changed(LOCK, vec![held(1)], 42, 0xff), Roles::ADMIN);
        check("HOLD-5", LOCK, vec![]);
        check("HOLD-5", LOCK, vec![held(2), held(1)]);
        check("HOLD-5", HoldAction::Legal, vec![held(1), held(1)]);
        check("HOLD-5", RELEASE, vec![held(1)]);
        by("CONV-3", [body(LOCK, vec![held(1)]).encode(), vec![0]].concat(), Roles::MAINTAIN);
        by("HOLD-6", body(RELEASE, vec![]).encode(), Roles::ALL);
        HoldBody::decode(&body(LOCK, vec![held(1)]).encode(), &certificate(Roles::MAINTAIN)).unwrap();
    }
}
