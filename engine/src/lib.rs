//! icecore: a content-addressed, deduplicating, encrypted storage engine for backups.

pub mod backend;
pub mod backup;
pub mod check;
pub mod chunker;
pub mod compress;
pub mod crypto;
pub mod destination;
pub mod entry;
mod error;
pub mod format;
pub mod id;
pub mod limits;
pub mod progress;
pub mod repository;
pub mod restore;
pub mod retention;
pub mod runtime;
pub mod source;
mod sys;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tree;

pub use error::{Error, ErrorKind, Result};
