//! Repositories in memory to measure on.

use icecore::backend::MemoryBackend;
use icecore::backup::{BackupOptions, BackupSummary};
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::runtime::{Runtime, StillClock, Timestamp};
use icecore::source::{Roots, SourceOptions};
use std::path::Path;
use std::sync::Arc;

/// An empty repository in memory, with caches in `cache` if that is given. Its keys are random. With caches its clock stands in a far year: files that are young
/// would be read again.
///
/// # Panics
/// Where it cannot be made.
pub fn create(cache: Option<&Path>) -> Repository {
    let mut runtime = Runtime::system(0);
    if cache.is_some() {
        runtime.clock = Arc::new(StillClock::new(Timestamp { seconds: 4_000_000_000, nanoseconds: 0 }));
    }
    let key = Key::generate(&runtime);
    let settings = cache.map_or_else(Settings::default, |folder| Settings::default().with_cache(folder));
    let backend = Arc::new(MemoryBackend::new());
    Repository::create(backend, runtime, &key, &CreateOptions::default(), settings).expect("a repository can be made")
}

/// Backs up a folder.
///
/// # Panics
/// Where that fails, or leaves anything out.
pub fn back_up(repository: &Repository, folder: &Path) -> BackupSummary {
    let roots = Roots::resolve(&[folder.to_owned()]).expect("the folder is there");
    let options = BackupOptions::new("bench");
    let summary = repository.backup(&roots, &SourceOptions::default(), &options, &Silent).expect("a backup");
    assert_eq!(summary.files_failed, 0, "nothing is left out");
    summary
}
