//! Ranges of keys.

use crate::entry::Key;

/// A range of keys: a folder, keys that begin alike, one key, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The lowest key.
    pub(super) start: Key,
    /// Above the highest key; `None` where there is no bound.
    end: Option<Key>,
}

impl KeyRange {
    /// All keys.
    pub fn all() -> Self {
        Self { start: Key::new(), end: None }
    }

    /// One key.
    pub fn exactly(key: &[u8]) -> Self {
        Self { start: key.to_vec(), end: Some([key, &[0]].concat()) }
    }

    /// An entry of a tree of paths and everything below it.
    pub fn folder(key: &[u8]) -> Self {
        if key.is_empty() {
            return Self::all();
        }
        // What lies below has a zero byte after the folder's key.
        Self { start: key.to_vec(), end: Some([key, &[1]].concat()) }
    }

    /// Keys that begin with these bytes.
    pub fn prefix(prefix: &[u8]) -> Self {
        let end = prefix.iter().rposition(|byte| *byte != 0xff).map(|last| {
            let mut end = prefix.get(..=last).unwrap_or_default().to_vec();
            end.iter_mut().skip(last).for_each(|byte| *byte += 1);
            end
        });
        Self { start: prefix.to_vec(), end }
    }

    /// The part of the range from `key` on.
    pub(crate) fn starting_at(self, key: Key) -> Self {
        Self { start: self.start.max(key), end: self.end }
    }

    /// Whether the key is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && !self.is_past(key)
    }

    /// Whether the key is above the range.
    pub(super) fn is_past(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_some_and(|end| end.as_slice() <= key)
    }

    /// Whether no key above `key` is in the range.
    pub(super) fn ends_after(&self, key: &[u8]) -> bool {
        // The next key is the same with a zero byte at its end.
        self.end.as_ref().is_some_and(|end| end.as_slice() <= key || end.strip_suffix(&[0]) == Some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::is_below;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_what_they_are_named(key in "[\0\x01a]{0,3}", range in "[\0\x01a]{0,2}", highest in 0..2_usize) {
            let key = key.as_bytes();
            let range = [range.as_bytes(), &vec![0xff; highest]].concat();
            prop_assert_eq!(KeyRange::prefix(&range).contains(key), key.starts_with(&range));
            prop_assert_eq!(KeyRange::exactly(&range).contains(key), key == range);
            prop_assert_eq!(KeyRange::folder(&range).contains(key), key == range || is_below(key, &range));
            prop_assert!(KeyRange::all().contains(key));
            prop_assert_eq!(KeyRange::exactly(&range).ends_after(key), key >= range.as_slice());
        }
    }
}
