//! PAX headers: records of keys and values that say more of a member than its header can.

use super::sparse::{self, Map};
use crate::runtime::Timestamp;
use std::collections::BTreeMap;

/// A record of a PAX header for which there is no place in an entry, and what it says.
const LOST: [(&str, &str); 4] = [
    ("SCHILY.acl.access", "access list: write it as SCHILY.xattr"),
    ("SCHILY.acl.default", "default access list: write it as SCHILY.xattr"),
    ("RHT.security.selinux", "SELinux label: write it as SCHILY.xattr"),
    ("SCHILY.fflags", "inode flags"),
];
const XATTR: &str = "SCHILY.xattr.";
/// Bytes that global headers may come to, all together.
const GLOBALS_LENGTH_MAX: usize = 1 << 20;

type Result<T> = std::result::Result<T, String>;

/// The records of one header, or of several that count together. The last one of a key counts.
#[derive(Debug, Default, Clone)]
pub(super) struct Pax {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// PAX 0.0 repeats its keys.
    map: Map,
}

impl Pax {
    /// Reads records: `length key=value\n`, where the length counts all of the record.
    pub(super) fn read(mut bytes: &[u8]) -> Result<Self> {
        let mut pax = Self::default();
        let mut offset = None;
        // Some programs fill up with zeros.
        while !bytes.is_empty() && bytes[0] != 0 {
            let digits = bytes.iter().position(|byte| *byte == b' ').ok_or("a record has no length")?;
            let length: usize = decimal(&bytes[..digits])?.try_into().map_err(|_| "a record is too long")?;
            let record = bytes.get(digits + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or("a record is cut off")?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or("a record has no value")?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match (key, offset) {
                (b"GNU.sparse.offset", None) => offset = Some(decimal(value)?),
                (b"GNU.sparse.numbytes", Some(start)) => {
                    pax.map.push((start, decimal(value)?));
                    sparse::check_length(&pax.map)?;
                    offset = None;
                }
                (b"GNU.sparse.offset" | b"GNU.sparse.numbytes", _) => return Err("a map of holes is out of order".into()),
                _ => drop(pax.records.insert(key.to_vec(), value.to_vec())),
            }
            bytes = &bytes[length..];
        }
        Ok(pax)
    }

    /// Takes over what a later global header says.
    pub(super) fn update(&mut self, other: Self) -> Result<()> {
        self.records.extend(other.records);
        let length: usize = self.records.iter().map(|(key, value)| key.len() + value.len()).sum();
        if length > GLOBALS_LENGTH_MAX { Err(format!("global headers of {length} bytes")) } else { Ok(()) }
    }

    /// What counts for a member with the header `local`.
    pub(super) fn with(&self, local: Self) -> Self {
        let mut records = self.records.clone();
        records.extend(local.records);
        Self { records, map: local.map }
    }

    /// A value; an empty one takes back what an earlier header said.
    pub(super) fn text(&self, key: &str) -> Option<&[u8]> {
        self.records.get(key.as_bytes()).map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>> {
        self.text(key).map(decimal).transpose()
    }

    /// The name; that of a sparse file is not the one in `path`, which is for programs that do not know sparse files.
    pub(super) fn path(&self) -> Option<&[u8]> {
        self.text("GNU.sparse.name").or_else(|| self.text("path"))
    }

    pub(super) fn target(&self) -> Option<&[u8]> {
        self.text("linkpath")
    }

    /// The time of the last modification: decimal seconds, perhaps negative or with a fraction.
    pub(super) fn modified(&self) -> Option<Result<Timestamp>> {
        self.text("mtime").map(|text| time(text).ok_or_else(|| "its time is none".into()))
    }

    /// Extended attributes, ascending by name.
    pub(super) fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let named = self.records.iter().filter_map(|(key, value)| Some((key.strip_prefix(XATTR.as_bytes())?, value)));
        named.filter(|(name, _)| !name.is_empty()).map(|(name, value)| (name.to_vec(), value.clone())).collect()
    }

    /// What is said of the member that cannot be kept.
    pub(super) fn lost(&self) -> Option<&'static str> {
        LOST.iter().find(|(key, _)| self.text(key).is_some()).map(|(_, what)| *what)
    }

    /// Which form the map of holes has.
    pub(super) fn sparse_version(&self) -> Option<(u64, u64)> {
        let number = |key| self.number(key).ok().flatten();
        match (number("GNU.sparse.major"), number("GNU.sparse.minor")) {
            (Some(major), minor) => Some((major, minor.unwrap_or(0))),
            (None, _) if self.text("GNU.sparse.map").is_some() => Some((0, 1)),
            (None, _) if self.text("GNU.sparse.size").is_some() => Some((0, 0)),
            (None, _) => None,
        }
    }

    /// The size of a sparse file.
    pub(super) fn real_size(&self) -> Option<Result<u64>> {
        self.number("GNU.sparse.realsize").and_then(|size| Ok(size.or(self.number("GNU.sparse.size")?))).transpose()
    }

    /// The map of holes of PAX 0.0 and 0.1.
    pub(super) fn sparse_map(&self) -> Result<Map> {
        let Some(text) = self.text("GNU.sparse.map") else { return Ok(self.map.clone()) };
        let numbers = text.split(|byte| *byte == b',').map(decimal).collect::<Result<Vec<_>>>()?;
        let (pairs, rest) = numbers.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a map of holes is cut off".into());
        }
        Ok(pairs.iter().map(|[offset, length]| (*offset, *length)).collect())
    }
}

/// A decimal number.
pub(super) fn decimal(text: &[u8]) -> Result<u64> {
    let wrong = || format!("`{}` is no number", text.escape_ascii());
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)
}

fn time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_decimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_decimal(whole) || !is_decimal(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    // Digits beyond nanoseconds do not count.
    let nanoseconds: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(match (is_negative, nanoseconds) {
        (false, nanoseconds) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds: 0 },
        (true, nanoseconds) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}
