//! Owners by name: on another machine the same person may have another number.

use crate::entry::Metadata;
use crate::source::{GROUPS, USERS, local_accounts};
use std::collections::HashMap;

/// Numbers of this machine's local accounts by name; empty where owners are restored by number.
#[derive(Debug, Default)]
pub(crate) struct LocalOwners {
    users: HashMap<Vec<u8>, u32>,
    groups: HashMap<Vec<u8>, u32>,
}

impl LocalOwners {
    /// Reads this machine's accounts.
    pub(crate) fn of_system() -> Self {
        Self { users: by_name(local_accounts(USERS)), groups: by_name(local_accounts(GROUPS)) }
    }

    /// Puts the number that a name has here in the place of the stored one. Where the name is unknown, here or in the entry, the number stays.
    pub(crate) fn apply(&self, metadata: &mut Metadata) {
        metadata.uid = self.users.get(&metadata.user).copied().unwrap_or(metadata.uid);
        metadata.gid = self.groups.get(&metadata.group).copied().unwrap_or(metadata.gid);
    }
}

/// Of several numbers for a name the first counts, as in `getpwnam`.
fn by_name(accounts: Vec<(Vec<u8>, u32)>) -> HashMap<Vec<u8>, u32> {
    let mut numbers = HashMap::new();
    for (name, number) in accounts.into_iter().filter(|(name, _)| !name.is_empty()) {
        numbers.entry(name).or_insert(number);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_known_here_decide() {
        let list = |names: &[(&str, u32)]| by_name(names.iter().map(|(name, number)| (name.as_bytes().to_vec(), *number)).collect());
        let owners = LocalOwners { users: list(&[("root", 0), ("ann", 1001), ("ann", 7)]), groups: list(&[("", 5), ("staff", 50)]) };
        for (user, group, wanted) in [("ann", "staff", (1001, 50)), ("bob", "", (1000, 1000)), ("", "wheel", (1000, 1000))] {
            let mut metadata = Metadata { uid: 1000, gid: 1000, user: user.into(), group: group.into(), ..Metadata::default() };
            owners.apply(&mut metadata);
            assert_eq!((metadata.uid, metadata.gid), wanted, "{user}:{group}");
        }
        let mut metadata = Metadata { uid: 1000, user: b"root".to_vec(), ..Metadata::default() };
        LocalOwners::default().apply(&mut metadata);
        assert_eq!(metadata.uid, 1000);
    }
}
