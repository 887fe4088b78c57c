//! What tests of the whole share: the specification's vectors, the second reader, folders full of odd things.

pub mod folders;
pub mod hostile;
pub mod reader;
pub mod simulation;
mod specification;

pub use specification::*;
