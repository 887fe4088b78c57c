//! The sessions whose frames the index knows, numbered in the order in which they were first met, and the dedup domain of each.
//!
//! Kept until the cache is built anew: 32 bytes for each session.

use crate::id::{DomainId, SessionId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct SessionTable {
    sessions: Vec<(SessionId, DomainId)>,
    numbers: HashMap<SessionId, u32>,
    /// The one that was asked for last, which often is the next one too.
    last: AtomicU32,
}

impl SessionTable {
    /// The number of a session, which gets one where it has none; its domain is what it was when it was first met.
    pub(super) fn add(&mut self, session: SessionId, domain: impl FnOnce() -> DomainId) -> u32 {
        // Bound: there is no room in memory for as many sessions as there are numbers.
        *self.numbers.entry(session).or_insert_with(|| {
            self.sessions.push((session, domain()));
            self.sessions.len() as u32 - 1
        })
    }

    pub(super) fn number_of(&self, session: SessionId) -> Option<u32> {
        let last = self.last.load(Ordering::Relaxed);
        if self.get(last).is_some_and(|(known, _)| *known == session) {
            return Some(last);
        }
        let number = *self.numbers.get(&session)?;
        self.last.store(number, Ordering::Relaxed);
        Some(number)
    }

    pub(super) fn get(&self, number: u32) -> Option<&(SessionId, DomainId)> {
        self.sessions.get(number as usize)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &(SessionId, DomainId)> {
        self.sessions.iter()
    }
}
