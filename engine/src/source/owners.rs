//! Names of owners and groups.
//!
//! Read once from `/etc/passwd` and `/etc/group`. Names that only a directory service knows stay empty: asking it needs the
//! C library's resolver, which is not reentrant and loads code at run time. The numbers are stored in any case.

use std::collections::HashMap;
use std::io::Read;

/// A file with more than this is no list of local accounts.
const FILE_SIZE_MAX: u64 = 16 << 20;
/// Where this machine's users are listed.
pub(crate) const USERS: &str = "/etc/passwd";
/// Where its groups are.
pub(crate) const GROUPS: &str = "/etc/group";

/// Account names by number.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
}

impl Owners {
    /// Reads this machine's local accounts. A list that cannot be read counts as empty.
    pub(crate) fn of_system() -> Self {
        let read = |path| by_number(local_accounts(path));
        Self { users: read(USERS), groups: read(GROUPS) }
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

/// The accounts of a list such as [`USERS`], in its order. A list that cannot be read counts as empty.
pub(crate) fn local_accounts(path: &str) -> Vec<(Vec<u8>, u32)> {
    let mut bytes = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(FILE_SIZE_MAX).read_to_end(&mut bytes)) {
        Ok(_) => parse(&bytes),
        Err(_) => Vec::new(),
    }
}

/// Takes `name:password:number:…` lines.
fn parse(bytes: &[u8]) -> Vec<(Vec<u8>, u32)> {
    let account = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        Some((name.to_vec(), std::str::from_utf8(number).ok()?.parse().ok()?))
    };
    bytes.split(|byte| *byte == b'\n').filter_map(account).collect()
}

/// Of several names for a number the first counts, as in `getpwuid`.
fn by_number(accounts: Vec<(Vec<u8>, u32)>) -> HashMap<u32, Vec<u8>> {
    let mut names = HashMap::new();
    for (name, number) in accounts {
        names.entry(number).or_insert(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_name_of_a_number_counts_and_odd_lines_do_not() {
        let names =
            by_number(parse(b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n\n# note\nbad:x:none:1\n+::::\nme:x:1000:1000::/home/me:\n"));
        assert_eq!(names.len(), 2);
        assert_eq!(names[&0], b"root");
        assert_eq!(names[&1000], b"me");
    }
}
