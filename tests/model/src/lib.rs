//! A model of sessions, forget and garbage collection, searched exhaustively at small bounds.
//!
//! A state is what lies in the repository and where each process stands. A step is one request to the store, by any process. The
//! search visits every state that some order of steps can reach. A process that stops for ever at any point, or for long, is a
//! process that is not chosen: crashes and zombies need no steps of their own. Nothing has a clock; a session may be taken for dead at any time.
//!
//! * `world` has the objects, what frames and snapshots are made of, and what must always hold.
//! * `writer`, `collector`, `others` (reader, forget, an observer who looks for damage) are the processes.
//! * `shape` says who takes part, and which rules of the protocol are kept; `docs/invariants.md` explains the rules by the same names.
//! * `search` visits the states.

mod collector;
mod others;
mod search;
mod shape;
mod world;
mod writer;

pub use search::{Outcome, Search, search, trace};
pub use shape::{Rule, Shape};
