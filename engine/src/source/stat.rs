//! What `stat` says, in one shape for every processor.

use crate::runtime::Timestamp;
use rustix::fs::{FileType, Stat};

/// What tells whether a file changed since an earlier backup: where all of it agrees, it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatKey {
    /// The file system's device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// When the inode last changed; programs cannot set it.
    pub ctime: Timestamp,
    /// When the content was last modified.
    pub modified: Timestamp,
    /// Length in bytes.
    pub size: u64,
}

/// The parts of `struct stat` that a walk uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u64,
    pub(crate) special: u64,
    /// Bytes that the file system says it allocated.
    pub(crate) allocated: u64,
    pub(crate) key: StatKey,
}

impl Facts {
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between processors")]
    pub(crate) fn new(stat: &Stat) -> Self {
        let time = |seconds: i64, nanoseconds: u64| Timestamp { seconds, nanoseconds: nanoseconds.min(999_999_999) as u32 };
        Self {
            kind: FileType::from_raw_mode(stat.st_mode as _),
            mode: stat.st_mode as u32 & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: stat.st_nlink as u64,
            special: stat.st_rdev as u64,
            allocated: (stat.st_blocks as u64).saturating_mul(512),
            key: StatKey {
                device: stat.st_dev as u64,
                inode: stat.st_ino as u64,
                ctime: time(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
                modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
                size: u64::try_from(stat.st_size).unwrap_or(0),
            },
        }
    }
}
