//! Cutting: bytes in, chunk lengths out.
//!
//! Pure computation without buffers of its own: the caller shows the bytes since the last cut and is told where the next
//! cut lies. Two invariants, on which deduplication and the reuse of earlier cuts rest:
//!
//! - A chunk that is not the last of its stream is decided by its own bytes alone: neither what lies before it nor what
//!   follows changes its length. So whoever finds the same bytes at the start of a chunk again has proven the cut.
//! - The cuts do not depend on the sizes of the pieces in which the stream arrives.

mod content;
mod fixed;
mod gear;
mod guide;
mod seam;

pub use content::ContentCutter;
pub use fixed::FixedCutter;
pub(crate) use guide::Guide;
pub(crate) use seam::Seam;

/// The longest chunk that any cutter may make, in bytes.
pub const CHUNK_LENGTH_MAX: u32 = 4 << 20;

/// Either way of cutting.
#[derive(Debug, Clone)]
pub enum Cutter {
    /// Where the content says.
    Content(ContentCutter),
    /// Every so many bytes.
    Fixed(FixedCutter),
}

impl Cutter {
    /// The length of the first chunk of `data`, which begins at the last cut; `None` where that needs more data, or where
    /// `data` is empty.
    ///
    /// `is_last` says that the stream ends with `data`. With [`Cutter::length_max`] bytes or more the answer is never `None`.
    pub fn next_cut(&self, data: &[u8], is_last: bool) -> Option<usize> {
        match self {
            Self::Content(cutter) => cutter.next_cut(data, is_last),
            Self::Fixed(cutter) => cutter.next_cut(data, is_last),
        }
    }

    /// Whether a chunk that begins with `bytes` ends with them, if it does not end before. Looks at the last few bytes only.
    pub(crate) fn may_end(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Content(cutter) => cutter.may_end(bytes),
            Self::Fixed(cutter) => bytes.len() == cutter.length_max(),
        }
    }

    /// The longest chunk that this cutter makes, in bytes.
    pub fn length_max(&self) -> usize {
        match self {
            Self::Content(cutter) => cutter.length_max(),
            Self::Fixed(cutter) => cutter.length_max(),
        }
    }
}

impl From<ContentCutter> for Cutter {
    fn from(cutter: ContentCutter) -> Self {
        Self::Content(cutter)
    }
}

impl From<FixedCutter> for Cutter {
    fn from(cutter: FixedCutter) -> Self {
        Self::Fixed(cutter)
    }
}

#[cfg(test)]
mod tests;
