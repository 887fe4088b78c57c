//! What tests of the whole share: folders full of odd things, and how to compare two of them.

pub mod folders;
pub mod reader;
