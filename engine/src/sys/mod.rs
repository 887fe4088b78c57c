//! What needs `unsafe`: small, each with the argument for why it is sound.

#![allow(unsafe_code, reason = "the one place for it")]

mod mmap;
mod read;

pub(crate) use mmap::MappedFile;
pub(crate) use read::read_more;
