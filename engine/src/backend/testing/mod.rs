//! The contract suite for backends, and backends that count, fail, lie and ask. For this project and for authors of backends.

pub mod contract;
mod faulty;
mod freezing;
mod hooked;
mod recording;
pub mod s3;

pub use faulty::FaultyBackend;
pub use freezing::FreezingBackend;
pub use hooked::{Call, HookedBackend, Order};
pub use recording::{Count, RecordingBackend};

/// What is asked of a backend, for counting and for failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// [`super::Backend::create`] and [`super::Backend::replace`]
    Create,
    /// [`super::ObjectWriter::write`]
    Write,
    /// [`super::ObjectWriter::finish`]
    Finish,
    /// [`super::Backend::get_range`]
    GetRange,
    /// [`super::Backend::size`]
    Size,
    /// [`super::Backend::list`]
    List,
    /// [`super::Backend::delete`]
    Delete,
    /// [`super::Backend::make_durable`]
    MakeDurable,
    /// [`super::Backend::hold`] and [`super::Backend::is_held`]
    Hold,
}

impl Operation {
    /// How many there are.
    pub const COUNT: usize = 9;

    fn index(self) -> usize {
        self as usize
    }
}
