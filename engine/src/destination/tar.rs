//! Tar as POSIX has it since 2001 (pax), with what is in use beside the standard.
//!
//! | of an entry | in the archive |
//! |---|---|
//! | what fits into the old header | there, as bytes |
//! | long names, targets, owner names; large numbers; times before 1970, with fractions or far away | `path`, `linkpath`, `uname`, `gname`, `uid`, `gid`, `size`, `mtime` |
//! | names of these that are not UTF-8 | as they are, with `hdrcharset=BINARY` |
//! | extended attributes, capabilities | `SCHILY.xattr.NAME`; `%` and `=` in the name as GNU tar writes them |
//! | POSIX ACLs | `SCHILY.acl.access`, `SCHILY.acl.default`, with numbers |
//! | inode flags | `SCHILY.fflags`, as far as they have names |
//! | holes | GNU's sparse format 1.0 |
//! | sockets, devices with numbers that do not fit | not at all |

use crate::entry::{Entry, EntryKind, FileContent, Metadata, key_components};
use crate::error::{Error, ErrorKind, Result};
use std::fmt::Write;

/// Everything in an archive is padded to this.
pub(crate) const BLOCK: usize = 512;
/// An archive is padded to this, as tape drives once needed.
pub(crate) const RECORD: u64 = 20 * BLOCK as u64;

const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;
const OWNER_NAME_BYTES: usize = 32;
/// What fits into seven and eleven octal digits.
const SEVEN_DIGITS: u64 = (1 << 21) - 1;
const ELEVEN_DIGITS: u64 = (1 << 33) - 1;

/// Inode flags by the names that libarchive gives them.
const FLAG_NAMES: [(u32, &str); 10] = [
    (0x0000_0001, "securedeletion"),
    (0x0000_0002, "undel"),
    (0x0000_0004, "compress"),
    (0x0000_0008, "sync"),
    (0x0000_0010, "simmutable"),
    (0x0000_0020, "sappend"),
    (0x0000_0040, "nodump"),
    (0x0000_0080, "noatime"),
    (0x0001_0000, "dirsync"),
    (0x0080_0000, "nocow"),
];

/// All that stands before the content of an entry: headers, and of a file with holes the map of what is not one.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for what an archive cannot hold.
pub(crate) fn head(entry: &Entry) -> Result<Vec<u8>> {
    let path = path_of(entry);
    let mut head = Head { fields: Fields::new(&entry.metadata), records: Records::default(), map: Vec::new() };
    match &entry.kind {
        EntryKind::File(content) if content.holes.is_empty() => head.fields.size = content.size,
        EntryKind::File(content) => head.sparse(&path, content)?,
        EntryKind::Folder => head.fields.kind = b'5',
        EntryKind::Symlink(target) => head.link(b'2', target),
        EntryKind::HardLink(earlier) => head.link(b'1', &joined(earlier)),
        EntryKind::Fifo => head.fields.kind = b'6',
        EntryKind::CharDevice(major, minor) => head.device(b'3', *major, *minor)?,
        EntryKind::BlockDevice(major, minor) => head.device(b'4', *major, *minor)?,
        EntryKind::Socket => return Err(Error::new(ErrorKind::Unsupported, "an archive cannot hold sockets")),
    }
    if !head.is_sparse() {
        head.name("path", &path);
    }
    if !matches!(entry.kind, EntryKind::HardLink(_)) {
        head.metadata(&entry.metadata);
    }
    Ok(head.into_bytes(&path))
}

/// What stands at the end of an archive of so many bytes.
pub(crate) fn tail(length: u64) -> Vec<u8> {
    let end = (length + 2 * BLOCK as u64).next_multiple_of(RECORD);
    vec![0; usize::try_from(end - length).unwrap_or_default()]
}

fn joined(key: &[u8]) -> Vec<u8> {
    key_components(key).collect::<Vec<_>>().join(&b'/')
}

fn path_of(entry: &Entry) -> Vec<u8> {
    let path = joined(&entry.key);
    match (path.is_empty(), &entry.kind) {
        (true, _) => b"./".to_vec(),
        (_, EntryKind::Folder) => [&path[..], b"/"].concat(),
        _ => path,
    }
}

struct Head {
    fields: Fields,
    records: Records,
    map: Vec<u8>,
}

impl Head {
    fn is_sparse(&self) -> bool {
        !self.map.is_empty()
    }

    /// GNU's format 1.0: the map stands before the content, and a program that does not know it unpacks both under a telling name.
    fn sparse(&mut self, path: &[u8], content: &FileContent) -> Result<()> {
        let mut parts: Vec<(u64, u64)> = Vec::with_capacity(content.holes.len() + 1);
        let mut at = 0;
        for (offset, length) in &content.holes {
            if *offset > at {
                parts.push((at, offset - at));
            }
            at = offset.saturating_add(*length);
        }
        // A part without length at the end tells how long the file is.
        parts.push((at, content.size.saturating_sub(at)));
        let mut map = format!("{}\n", parts.len());
        for (offset, length) in &parts {
            let _ = writeln!(map, "{offset}\n{length}");
        }
        self.map = map.into_bytes();
        self.map.resize(self.map.len().next_multiple_of(BLOCK), 0);
        let data: u64 = parts.iter().map(|(_, length)| length).sum();
        self.fields.size = (self.map.len() as u64).checked_add(data).ok_or_else(|| Error::new(ErrorKind::Damaged, "a file without end"))?;
        self.records.add("GNU.sparse.major", b"1");
        self.records.add("GNU.sparse.minor", b"0");
        self.records.add_name("GNU.sparse.name", path);
        self.records.add("GNU.sparse.realsize", content.size.to_string().as_bytes());
        let cut = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = [&path[..cut], b"GNUSparseFile.0/", &path[cut..]].concat();
        self.fields.set_path(&name);
        Ok(())
    }

    fn link(&mut self, kind: u8, target: &[u8]) {
        self.fields.kind = kind;
        if target.len() > NAME_BYTES {
            self.records.add_name("linkpath", target);
        }
        self.fields.link = cut(target, NAME_BYTES);
    }

    fn device(&mut self, kind: u8, major: u32, minor: u32) -> Result<()> {
        if u64::from(major.max(minor)) > SEVEN_DIGITS {
            return Err(Error::new(ErrorKind::Unsupported, format!("an archive cannot hold device {major}:{minor}")));
        }
        self.fields.kind = kind;
        (self.fields.major, self.fields.minor) = (major, minor);
        Ok(())
    }

    fn name(&mut self, record: &str, path: &[u8]) {
        if !self.fields.set_path(path) {
            self.records.add_name(record, path);
        }
    }

    fn metadata(&mut self, metadata: &Metadata) {
        for (record, id) in [("uid", metadata.uid), ("gid", metadata.gid)] {
            if u64::from(id) > SEVEN_DIGITS {
                self.records.add(record, id.to_string().as_bytes());
            }
        }
        for (record, name) in [("uname", &metadata.user), ("gname", &metadata.group)] {
            // One byte for the zero at its end.
            if name.len() >= OWNER_NAME_BYTES {
                self.records.add_name(record, name);
            }
        }
        let modified = metadata.modified;
        if modified.nanoseconds > 0 || !u64::try_from(modified.seconds).is_ok_and(|seconds| seconds <= ELEVEN_DIGITS) {
            self.records.add("mtime", decimal(modified.seconds, modified.nanoseconds).as_bytes());
        }
        for (name, value) in &metadata.xattrs {
            let acl = match &name[..] {
                b"system.posix_acl_access" => acl_text(value).map(|text| ("SCHILY.acl.access", text)),
                b"system.posix_acl_default" => acl_text(value).map(|text| ("SCHILY.acl.default", text)),
                _ => None,
            };
            match acl {
                Some((record, text)) => self.records.add(record, text.as_bytes()),
                None => self.records.add_bytes(&attribute_keyword(name), value),
            }
        }
        let flags: Vec<_> = FLAG_NAMES.iter().filter(|(flag, _)| metadata.inode_flags & flag != 0).map(|(_, name)| *name).collect();
        if !flags.is_empty() {
            self.records.add("SCHILY.fflags", flags.join(",").as_bytes());
        }
    }

    fn into_bytes(mut self, path: &[u8]) -> Vec<u8> {
        if self.fields.size > ELEVEN_DIGITS {
            self.records.add("size", self.fields.size.to_string().as_bytes());
        }
        let mut bytes = Vec::new();
        let records = self.records.into_bytes();
        if !records.is_empty() {
            let base = path.strip_suffix(b"/").unwrap_or(path);
            let base = base.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let mut fields = Fields { kind: b'x', mode: 0o644, size: records.len() as u64, ..Fields::default() };
            fields.set_path(&cut(&[b"PaxHeaders/", base].concat(), NAME_BYTES));
            bytes.extend(fields.to_block());
            bytes.extend(records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend(self.fields.to_block());
        bytes.extend(self.map);
        bytes
    }
}

fn cut(bytes: &[u8], length: usize) -> Vec<u8> {
    bytes[..bytes.len().min(length)].to_vec()
}

/// Seconds with their fraction, which counts upwards in an entry and away from zero in writing.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let (whole, fraction) = (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
    let sign = if total < 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{fraction:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn attribute_keyword(name: &[u8]) -> Vec<u8> {
    let mut keyword = b"SCHILY.xattr.".to_vec();
    for byte in name {
        match byte {
            b'%' => keyword.extend(b"%25"),
            b'=' => keyword.extend(b"%3D"),
            byte => keyword.push(*byte),
        }
    }
    keyword
}

/// An ACL as Linux stores it, in words; `None` where it is not one.
fn acl_text(bytes: &[u8]) -> Option<String> {
    let (version, entries) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return None;
    }
    let mut texts = Vec::new();
    for entry in entries.as_chunks::<8>().0 {
        let [tag_low, tag_high, rights, _, id @ ..] = *entry;
        let id = u32::from_le_bytes(id);
        let who = match u16::from_le_bytes([tag_low, tag_high]) {
            0x01 => "user:".to_owned(),
            0x02 => format!("user:{id}"),
            0x04 => "group:".to_owned(),
            0x08 => format!("group:{id}"),
            0x10 => "mask:".to_owned(),
            0x20 => "other:".to_owned(),
            _ => return None,
        };
        let right = |bit, letter| if rights & bit != 0 { letter } else { '-' };
        texts.push(format!("{who}:{}{}{}", right(4, 'r'), right(2, 'w'), right(1, 'x')));
    }
    Some(texts.join(","))
}

/// Extended header records.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    has_binary_names: bool,
}

impl Records {
    fn add(&mut self, keyword: &str, value: &[u8]) {
        self.add_bytes(keyword.as_bytes(), value);
    }

    /// A value that is text by the standard.
    fn add_name(&mut self, keyword: &str, value: &[u8]) {
        self.has_binary_names |= std::str::from_utf8(value).is_err();
        self.add(keyword, value);
    }

    fn add_bytes(&mut self, keyword: &[u8], value: &[u8]) {
        push_record(&mut self.bytes, keyword, value);
    }

    fn into_bytes(self) -> Vec<u8> {
        match self.has_binary_names {
            true => {
                let mut bytes = Vec::new();
                // Before what it is for.
                push_record(&mut bytes, b"hdrcharset", b"BINARY");
                bytes.extend(self.bytes);
                bytes
            }
            false => self.bytes,
        }
    }
}

/// `length keyword=value`, where the length counts its own digits.
fn push_record(bytes: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    bytes.extend(length.to_string().as_bytes());
    bytes.push(b' ');
    bytes.extend(keyword);
    bytes.push(b'=');
    bytes.extend(value);
    bytes.push(b'\n');
}

/// The old header.
struct Fields {
    name: Vec<u8>,
    prefix: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    seconds: u64,
    user: Vec<u8>,
    group: Vec<u8>,
    major: u32,
    minor: u32,
}

impl Default for Fields {
    fn default() -> Self {
        Self::new(&Metadata::default())
    }
}

impl Fields {
    fn new(metadata: &Metadata) -> Self {
        Self {
            name: Vec::new(),
            prefix: Vec::new(),
            link: Vec::new(),
            kind: b'0',
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            size: 0,
            seconds: u64::try_from(metadata.modified.seconds).unwrap_or(0),
            user: cut(&metadata.user, OWNER_NAME_BYTES - 1),
            group: cut(&metadata.group, OWNER_NAME_BYTES - 1),
            major: 0,
            minor: 0,
        }
    }

    /// Takes the path, in two parts where it has to be; `false` where it does not fit and its beginning has to do.
    fn set_path(&mut self, path: &[u8]) -> bool {
        if path.len() <= NAME_BYTES {
            self.name = path.to_vec();
            return true;
        }
        // Not at the slash that ends the name of a folder.
        let latest = (path.len() - 1).min(PREFIX_BYTES + 1);
        let split = path[..latest].iter().rposition(|byte| *byte == b'/');
        if let Some(at) = split.filter(|at| *at > 0 && (1..=NAME_BYTES).contains(&(path.len() - at - 1))) {
            (self.prefix, self.name) = (path[..at].to_vec(), path[at + 1..].to_vec());
            return true;
        }
        self.name = cut(path, NAME_BYTES);
        false
    }

    fn to_block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        let id = |id: u32| if u64::from(id) > SEVEN_DIGITS { 0 } else { id };
        let size = if self.size > ELEVEN_DIGITS { 0 } else { self.size };
        put(0, &self.name);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, format!("{:07o}", id(self.uid)).as_bytes());
        put(116, format!("{:07o}", id(self.gid)).as_bytes());
        put(124, format!("{size:011o}").as_bytes());
        put(136, format!("{:011o}", self.seconds.min(ELEVEN_DIGITS)).as_bytes());
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.link);
        put(257, b"ustar\x0000");
        put(265, &self.user);
        put(297, &self.group);
        put(329, format!("{:07o}", self.major).as_bytes());
        put(337, format!("{:07o}", self.minor).as_bytes());
        put(345, &self.prefix);
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_digits() {
        for (value, wanted) in [("", "5 a=\n"), ("b", "6 a=b\n"), ("bcdef", "11 a=bcdef\n"), ("bcd", "8 a=bcd\n"), ("bcde", "9 a=bcde\n")] {
            let mut bytes = Vec::new();
            push_record(&mut bytes, b"a", value.as_bytes());
            assert_eq!(String::from_utf8(bytes).unwrap(), wanted);
        }
        for length in [94, 95, 96, 990, 991, 992, 993, 994, 9990] {
            let mut bytes = Vec::new();
            push_record(&mut bytes, b"k", &vec![b'v'; length]);
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(text.split(' ').next().unwrap().parse::<usize>().unwrap(), text.len(), "{length}");
        }
    }

    #[test]
    fn times_are_written_away_from_zero() {
        let times = [(0, 0, "0"), (1, 500_000_000, "1.5"), (-1, 0, "-1"), (-1, 250_000_000, "-0.75"), (-86_401, 750_000_000, "-86400.25")];
        for (seconds, nanoseconds, wanted) in times {
            assert_eq!(decimal(seconds, nanoseconds), wanted);
        }
        assert_eq!(decimal(i64::MIN, 1), "-9223372036854775807.999999999");
        assert_eq!(decimal(10, 0), "10");
    }

    #[test]
    fn long_paths_are_split_at_a_slash_or_go_to_a_record() {
        for (path, splits) in [
            (format!("{}/{}", "a".repeat(155), "b".repeat(100)), true),
            (format!("{}/{}", "a".repeat(156), "b".repeat(100)), false),
            (format!("{}/{}", "a".repeat(155), "b".repeat(101)), false),
            (format!("/{}", "a".repeat(100)), false),
            ("a".repeat(101), false),
            (format!("{}/", "a".repeat(100)), false),
            (format!("{}/{}/", "a".repeat(100), "b".repeat(20)), true),
        ] {
            let mut fields = Fields::default();
            assert_eq!(fields.set_path(path.as_bytes()), splits, "{path}");
            if splits {
                assert_eq!([&fields.prefix[..], &fields.name].join(&b'/'), path.as_bytes());
                assert!(fields.prefix.len() <= PREFIX_BYTES && fields.name.len() <= NAME_BYTES);
            }
        }
    }

    #[test]
    fn acls_become_words_and_rubbish_does_not() {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in
            [(1_u16, 6_u16, u32::MAX), (2, 5, 70_000), (4, 4, u32::MAX), (8, 1, 5), (16, 7, u32::MAX), (32, 0, u32::MAX)]
        {
            bytes.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
        }
        assert_eq!(acl_text(&bytes).unwrap(), "user::rw-,user:70000:r-x,group::r--,group:5:--x,mask::rwx,other::---");
        for rubbish in [&b""[..], &bytes[..11], &[1, 0, 0, 0], &[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(acl_text(rubbish), None);
        }
    }
}
