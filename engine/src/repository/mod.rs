//! What a repository is made of, above the format and the backend.

pub mod index;
