//! Policies over calendars, and forgetting in repositories in memory.

mod forget;
mod policy;
mod tag;
