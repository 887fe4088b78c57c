//! Names of owners and groups.
//!
//! Read once from `/etc/passwd` and `/etc/group`. Names that only a directory service knows stay empty: asking it needs the
//! C library's resolver, which is not reentrant and loads code at run time. The numbers are stored in any case.

use std::collections::HashMap;
use std::io::Read;

/// A file with more than this is no list of local accounts.
const FILE_SIZE_MAX: u64 = 16 << 20;

/// Account names by number.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
}

impl Owners {
    /// Reads this machine's local accounts. A list that cannot be read counts as empty.
    pub(crate) fn of_system() -> Self {
        let read = |path: &str| {
            let mut bytes = Vec::new();
            match std::fs::File::open(path).and_then(|file| file.take(FILE_SIZE_MAX).read_to_end(&mut bytes)) {
                Ok(_) => parse(&bytes),
                Err(_) => HashMap::new(),
            }
        };
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    /// The name of user `uid`; empty where unknown.
    pub(crate) fn user(&self, uid: u32) -> &[u8] {
        self.users.get(&uid).map_or(b"", Vec::as_slice)
    }

    /// The name of group `gid`; empty where unknown.
    pub(crate) fn group(&self, gid: u32) -> &[u8] {
        self.groups.get(&gid).map_or(b"", Vec::as_slice)
    }
}

/// Takes `name:password:number:…` lines; of several names for a number the first counts, as in `getpwuid`.
fn parse(bytes: &[u8]) -> HashMap<u32, Vec<u8>> {
    let mut names = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if let Some(number) = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()) {
            names.entry(number).or_insert_with(|| name.to_vec());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_name_of_a_number_counts_and_odd_lines_do_not() {
        let names = parse(b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n\n# note\nbad:x:none:1\n+::::\nme:x:1000:1000::/home/me:\n");
        assert_eq!(names.len(), 2);
        assert_eq!(names[&0], b"root");
        assert_eq!(names[&1000], b"me");
    }
}
