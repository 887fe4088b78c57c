//! icecore: a content-addressed, deduplicating, encrypted storage engine for backups.

pub mod backend;
mod backup;
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
pub mod runtime;
mod sys;
pub mod source;

pub use error::{Error, ErrorKind, Result};
