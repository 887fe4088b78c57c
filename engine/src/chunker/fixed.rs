//! Cutting every so many bytes, for block devices and images that are written in blocks.

use super::CHUNK_LENGTH_MAX;
use crate::error::{Error, ErrorKind, Result};

/// Makes chunks of one length; the last one is as long as what is left.
#[derive(Debug, Clone)]
pub struct FixedCutter {
    length: u32,
}

impl FixedCutter {
    /// Makes a cutter for chunks of `length` bytes, 1..=[`CHUNK_LENGTH_MAX`].
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for any other length.
    pub fn new(length: u32) -> Result<Self> {
        if length == 0 || length > CHUNK_LENGTH_MAX {
            return Err(Error::new(ErrorKind::Invalid, format!("chunks of {length} bytes: choose 1 to {CHUNK_LENGTH_MAX}")));
        }
        Ok(Self { length })
    }

    /// See [`super::Cutter::next_cut`].
    pub fn next_cut(&self, data: &[u8], is_last: bool) -> Option<usize> {
        let length = self.length_max();
        if data.len() >= length {
            return Some(length);
        }
        (is_last && !data.is_empty()).then_some(data.len())
    }

    /// The length, in bytes.
    pub fn length_max(&self) -> usize {
        self.length as usize
    }
}
