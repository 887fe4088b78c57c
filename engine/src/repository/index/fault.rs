//! What can go wrong inside the index.

use std::io;

/// A failure below [`super::LookupIndex`], which makes a public error of it.
#[derive(Debug)]
pub(super) enum Fault {
    /// A file of the cache does not hold what was written: nothing in the cache can be trusted any more.
    Torn(String),
    /// The file system refused; what is in the cache is good.
    Io(io::Error),
    /// More packs or frames than there are numbers.
    Full,
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
