//! The format: bytes to values and back, as `format-spec` gives it.
//!
//! No I/O, no clock, no panic on any input, and no allocation that the input alone decides. One file for each page
//! of the specification, of the same name.

pub mod certificate;
pub mod config;
mod contents_table;
mod credential;
pub(crate) mod cursor;
pub mod epoch;
pub mod frame;
pub mod hold;
pub mod index_object;
mod node;
pub mod object;
pub mod pack;
pub mod parity;
pub mod placement;
pub(crate) mod recipe;
pub(crate) mod refs;
pub mod relocations;
pub mod session;
pub mod slot;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tree;

pub use certificate::{Certificate, Roles, Trust};
pub(crate) use contents_table::check_writer;
pub use contents_table::{BaseRange, ContentsTable, FrameRecord, Tables};
pub use refs::{FrameUse, Usage};
