//! For the tests of decoders: bytes with random changes, and refusals.

use crate::error::Result;
use std::fmt::Debug;

/// The bytes must be refused by `rule`.
#[track_caller]
pub(crate) fn refused<T: Debug>(rule: &str, result: Result<T>) {
    match result {
        Ok(value) => panic!("{rule} expected, accepted as {value:?}"),
        Err(error) => assert_eq!(error.broken_rule(), Some(rule), "{error}"),
    }
}

/// Random changes of bytes.
pub(crate) mod mutate {
    use proptest::prelude::*;
    use proptest::sample::Index;

    /// One change and where.
    #[derive(Debug, Clone)]
    pub(crate) enum Change {
        Set(Index, u8),
        Flip(Index, u8),
        Insert(Index, u8),
        Remove(Index),
        Cut(Index),
    }

    /// No change or a few.
    pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
            (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
            any::<Index>().prop_map(Change::Remove),
            any::<Index>().prop_map(Change::Cut),
        ];
        proptest::collection::vec(change, 0..4)
    }

    /// The bytes with the changes.
    pub(crate) fn apply(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
        for change in changes {
            if bytes.is_empty() {
                break;
            }
            match change {
                Change::Set(at, byte) => *at.get_mut(&mut bytes) = *byte,
                Change::Flip(at, bits) => *at.get_mut(&mut bytes) ^= bits,
                Change::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
                Change::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
                Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
            }
        }
        bytes
    }
}
