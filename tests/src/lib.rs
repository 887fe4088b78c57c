//! What tests of the whole share: the specification's vectors, the second reader, folders full of odd things.

pub mod folders;
pub mod reader;
mod specification;

pub use specification::*;
