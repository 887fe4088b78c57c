//! Policies over calendars, and forgetting in repositories in memory.

mod forget;
mod hold;
mod policy;
mod tag;
