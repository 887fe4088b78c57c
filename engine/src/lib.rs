//! icecore: a content-addressed, deduplicating, encrypted storage engine for backups.

pub mod backend;
pub mod entry;
mod error;
pub mod format;
pub mod id;
pub mod limits;
pub mod progress;
pub mod runtime;
pub mod tree;

pub use error::{Error, ErrorKind, Result};
