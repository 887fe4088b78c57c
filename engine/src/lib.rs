//! icecore: a content-addressed, deduplicating, encrypted storage engine for backups.
//!
//! This crate is the engine: no terminal, no environment, no home directory. Clock, randomness and threads come from the caller
//! ([`runtime::Runtime`]), objects lie in a [`backend::Backend`], progress goes to a [`progress::Progress`].
//! What is stored is described in `format-spec/`, which is normative.
//!
//! # Back up a folder and restore it
//! ```
//! use icecore::backend::LocalBackend;
//! use icecore::backup::BackupOptions;
//! use icecore::progress::Silent;
//! use icecore::repository::{CreateOptions, Key, Repository, Settings};
//! use icecore::restore::RestoreOptions;
//! use icecore::runtime::Runtime;
//! use icecore::source::{Roots, SourceOptions};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let place = tempfile::tempdir()?;
//! std::fs::create_dir(place.path().join("photos"))?;
//! std::fs::write(place.path().join("photos/glacier"), "blue")?;
//!
//! let runtime = Runtime::system(0);
//! // Keep the key: without it nobody can read the repository.
//! let key = Key::generate(&runtime);
//! let backend = Arc::new(LocalBackend::create(place.path().join("repository"))?);
//! let repository = Repository::create(backend, runtime, &key, &CreateOptions::default(), Settings::default())?;
//!
//! let roots = Roots::resolve(&[place.path().join("photos")])?;
//! let made = repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("photos"), &Silent)?;
//! assert_eq!((made.files_new, made.files_failed), (1, 0));
//!
//! let snapshot = repository.find_snapshot("latest", Some("photos"), None)?;
//! let target = place.path().join("restored");
//! repository.restore(&snapshot, &target, &RestoreOptions::default(), &Silent)?;
//! assert_eq!(std::fs::read(target.join("photos/glacier"))?, b"blue");
//! # Ok(())
//! # }
//! ```
//!
//! # Store a named stream and fetch it
//! ```
//! # use icecore::{backend::MemoryBackend, backup::BackupOptions, progress::Silent, runtime::Runtime};
//! # use icecore::repository::{CreateOptions, Key, Repository, Settings};
//! # use std::sync::Arc;
//! # fn main() -> icecore::Result<()> {
//! # let runtime = Runtime::system(2);
//! # let key = Key::generate(&runtime);
//! # let repository = Repository::create(Arc::new(MemoryBackend::new()), runtime, &key, &CreateOptions::default(), Settings::default())?;
//! let dump = std::io::Cursor::new("create table layers (depth integer);");
//! repository.backup_stream("dump.sql", Box::new(dump), &BackupOptions::new("database"), &Silent)?;
//!
//! let snapshot = repository.find_snapshot("latest", Some("database"), None)?;
//! let mut fetched = Vec::new();
//! repository.restore_to_writer(&snapshot, Some(b"dump.sql"), &mut fetched, &Silent)?;
//! assert_eq!(fetched, b"create table layers (depth integer);");
//! # Ok(())
//! # }
//! ```
//!
//! # Keep objects somewhere else
//! See [`backend::Backend`], which has a whole implementation as its example and a contract suite to run against yours.
//!
//! # Follow progress, and stop
//! ```
//! # use icecore::{backend::MemoryBackend, backup::BackupOptions, runtime::Runtime, ErrorKind};
//! # use icecore::repository::{CreateOptions, Key, Repository, Settings};
//! # use std::sync::Arc;
//! use icecore::progress::{Event, Progress};
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! #[derive(Debug, Default)]
//! struct Meter {
//!     bytes: AtomicU64,
//!     bytes_max: u64,
//! }
//!
//! impl Progress for Meter {
//!     fn event(&self, event: Event<'_>) {
//!         match event {
//!             Event::Advance { bytes, .. } => drop(self.bytes.fetch_add(bytes, Ordering::Relaxed)),
//!             Event::ItemFailed { item, message } => eprintln!("{item}: {message}"),
//!             _ => {}
//!         }
//!     }
//!
//!     fn is_cancelled(&self) -> bool {
//!         self.bytes.load(Ordering::Relaxed) > self.bytes_max
//!     }
//! }
//!
//! # fn main() -> icecore::Result<()> {
//! # let runtime = Runtime::system(2);
//! # let key = Key::generate(&runtime);
//! # let repository = Repository::create(Arc::new(MemoryBackend::new()), runtime, &key, &CreateOptions::default(), Settings::default())?;
//! let endless = Box::new(std::io::repeat(7));
//! let meter = Meter { bytes_max: 16 << 20, ..Meter::default() };
//! let error = repository.backup_stream("endless", endless, &BackupOptions::new("test"), &meter).unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Cancelled);
//! # Ok(())
//! # }
//! ```
//!
//! # Layers
//! A module uses what stands below it.
//! ```text
//! operations   backup   restore   browse   check   gc   tiers
//! store        repository
//! model        tree   source   destination
//! backend      backend
//! pure         format   chunker   compress   crypto   parity
//! ground       error   id   entry   limits   progress   runtime   sys
//! ```

pub mod backend;
pub mod backup;
pub mod browse;
pub mod check;
pub mod chunker;
pub mod compress;
pub mod cost;
pub mod crypto;
pub mod destination;
pub mod entry;
mod error;
pub mod format;
pub mod gc;
pub mod id;
pub mod limits;
mod parity;
pub mod progress;
pub mod repair;
pub mod replicate;
pub mod repository;
pub mod restore;
pub mod retention;
pub mod runtime;
pub mod source;
mod spill;
mod sys;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tiers;
pub mod tree;

pub use error::{Error, ErrorKind, Result, TierWait};
