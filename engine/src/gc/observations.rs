//! What this collector saw of other sessions, kept between runs.
//!
//! A cache: where it is lost or not as it was written (a checksum tells), observing starts again, and a dead session of another machine blocks the sweep for one
//! more lease. Times are those of the collector's own monotonic clock and only compared with times of the same origin.

use super::sessions::OpenSession;
use crate::id::SessionId;
use crate::repository::Repository;
use crate::runtime::Clock;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

const FIRST_LINE: &str = "icecore gc observations 1 ";

/// What was seen, by session.
#[derive(Debug)]
pub(super) struct Observations {
    path: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    /// Last beat, and when it was first seen.
    sessions: HashMap<SessionId, (u32, u64)>,
}

impl Observations {
    /// What earlier runs saw.
    pub(super) fn load(repository: &Repository) -> Self {
        let path = repository.place_cache_folder().map(|folder| folder.join("gc-observations"));
        let clock = Arc::clone(&repository.runtime.clock);
        let mut observations = Self { path, clock, sessions: HashMap::new() };
        let text = observations.path.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let Some((sum, text)) = text.split_once('\n') else { return observations };
        if sum != checksum(text) {
            return observations;
        }
        let mut lines = text.lines();
        let origin = lines.next().and_then(|line| line.strip_prefix(FIRST_LINE));
        if origin == Some(&crate::id::to_hex(&observations.clock.origin())) {
            for line in lines {
                let _ = observations.take(line);
            }
        }
        observations
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let mut words = line.strip_prefix("session ")?.split(' ');
        let id = SessionId::parse(words.next()?).ok()?;
        self.sessions.insert(id, (words.next()?.parse().ok()?, words.next()?.parse().ok()?));
        Some(())
    }

    /// Notes a session and gives for how long it has been seen without a new beat, in nanoseconds.
    pub(super) fn see(&mut self, open: &OpenSession) -> u64 {
        let now = self.clock.monotonic_ns();
        let seen = self.sessions.entry(open.session).or_insert((open.last_beat, now));
        if seen.0 != open.last_beat || seen.1 > now {
            *seen = (open.last_beat, now);
        }
        now - seen.1
    }

    /// Forgets sessions that have ended.
    pub(super) fn keep_only(&mut self, open: &[OpenSession]) {
        self.sessions.retain(|id, _| open.iter().any(|open| open.session == *id));
    }

    /// Keeps what was seen for the next run, where there is a cache folder.
    pub(super) fn save(&self) {
        let Some(path) = &self.path else { return };
        let mut text = format!("{FIRST_LINE}{}\n", crate::id::to_hex(&self.clock.origin()));
        for (id, (beat, since)) in &self.sessions {
            text.push_str(&format!("session {id} {beat} {since}\n"));
        }
        let text = format!("{}\n{text}", checksum(&text));
        // A cache that cannot be written is none: the next run starts to observe anew.
        if let Some(folder) = path.parent()
            && std::fs::create_dir_all(folder).is_ok()
            && let Ok(mut file) = tempfile::NamedTempFile::new_in(folder)
            && std::io::Write::write_all(&mut file, text.as_bytes()).is_ok()
        {
            let _ = file.persist(path);
        }
    }
}

fn checksum(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}
