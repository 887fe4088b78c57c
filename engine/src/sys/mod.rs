//! What needs `unsafe`: small, each with the argument for why it is sound.

#![allow(unsafe_code, reason = "the one place for it")]

mod mmap;
mod prefix;
mod read;

pub(crate) use mmap::MappedFile;
pub(crate) use prefix::{compress_behind, decompress_behind};
pub(crate) use read::read_more;
