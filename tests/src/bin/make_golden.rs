//! Makes a golden repository: `cargo run -p icecore-tests --bin make_golden -- FOLDER`.
//!
//! Done once for each form of the format; what is made is committed and never edited. Seeded, so that making it again shows whether bytes
//! changed. FOLDER gets `repository/`, `passphrase` and `expected`, which lists the content of each snapshot.

use icecore::backend::LocalBackend;
use icecore::backup::BackupOptions;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::runtime::{Runtime, Timestamp};
use icecore::source::{Roots, SourceOptions};
use icecore_tests::folders;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fs};

const PASSPHRASE: &str = "a golden passphrase";
/// 2026-11-24T12:00:00Z
const NOW: Timestamp = Timestamp { seconds: 1_795_521_600, nanoseconds: 0 };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("name the folder to make")?);
    fs::create_dir(&folder)?;
    fs::write(folder.join("passphrase"), format!("{PASSPHRASE}\n"))?;
    let mut options = CreateOptions::default();
    (options.pack_size, options.data_frame_size, options.meta_frame_size) = (64 << 10, 32 << 10, 8 << 10);
    let backend = Arc::new(LocalBackend::create(folder.join("repository"))?);
    let key = Key::passphrase(PASSPHRASE)?;
    let repository = Repository::create(backend, Runtime::seeded(1, NOW, 2), &key, &options, Settings::default().with_label("golden"))?;
    let mut expected = String::new();
    for state in 0..2 {
        let source = tempfile::tempdir()?;
        folders::fill_small(source.path(), state);
        let roots = Roots::resolve(&[source.path().join(".")])?;
        let mut backup = BackupOptions::new("golden");
        backup.tags = vec!["golden".into(), format!("state-{state}")];
        backup.time = Some(Timestamp { seconds: NOW.seconds + 86_400 * i64::from(state), nanoseconds: 5 });
        let made = repository.backup(&roots, &SourceOptions::default(), &backup, &Silent)?;
        let snapshot = made.snapshot.ok_or("no snapshot was made")?;
        for (name, facts) in folders::describe_portable(source.path()) {
            writeln!(expected, "{snapshot}\t{}\t{facts}", String::from_utf8_lossy(&name))?;
        }
    }
    let stream = std::io::Cursor::new(folders::noise(9, 200_000));
    let mut backup = BackupOptions::new("stream");
    backup.time = Some(NOW);
    let made = repository.backup_stream("stream", Box::new(stream), &backup, &Silent)?;
    let snapshot = made.snapshot.ok_or("no snapshot was made")?;
    writeln!(expected, "{snapshot}\tstream\tfile of 200000 bytes, {}", blake3::hash(&folders::noise(9, 200_000)))?;
    fs::write(folder.join("expected"), expected)?;
    Ok(())
}
