//! icecore: a content-addressed, deduplicating, encrypted storage engine for backups.

pub mod backend;
pub mod destination;
pub mod entry;
mod error;
pub mod format;
pub mod id;
pub mod progress;
pub mod runtime;

pub use error::{Error, ErrorKind, Result};
