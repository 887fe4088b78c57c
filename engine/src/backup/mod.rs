//! Backup: what a source holds becomes a snapshot.

mod stat_cache;
