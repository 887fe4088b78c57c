//! The format: bytes to values and back, as `format-spec` gives it.
//!
//! No I/O, no clock, no panic on any input, and no allocation that the input alone decides. One file for each page
//! of the specification, of the same name.

mod contents_table;
mod cursor;
mod node;
pub(crate) mod recipe;
pub(crate) mod refs;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tree;

pub use contents_table::{BaseRange, ContentsTable, FrameRecord};
pub use refs::{FrameUse, Usage};
