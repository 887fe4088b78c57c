//! The folder of the specification, its vectors, and JSON of known shape.

use icecore::id::{RepositoryId, from_hex};
use icecore::testing::Keys;
use serde_json::Value;
use std::path::PathBuf;

/// The folder `format-spec`.
pub fn specification() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../format-spec"))
}

/// The bytes of a file below `format-spec/vectors`.
///
/// # Panics
/// Where it cannot be read.
pub fn vector(file: &str) -> Vec<u8> {
    let path = specification().join("vectors").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A JSON file below `format-spec/vectors`.
///
/// # Panics
/// Where it cannot be read or is no JSON.
pub fn json(file: &str) -> Value {
    serde_json::from_slice(&vector(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The keys of all vectors.
///
/// # Panics
/// Where the vectors do not hold them.
pub fn keys() -> Keys {
    let repository = RepositoryId(array(&json("context.json")["repository"]));
    Keys::new(repository, &vector("valid/credential-all.bin")).expect("the credential of the vectors is right")
}

/// Bytes that JSON holds as hex.
///
/// # Panics
/// Where it holds something else.
pub fn bytes(value: &Value) -> Vec<u8> {
    value.as_str().and_then(from_hex).unwrap_or_else(|| panic!("{value} is no hex"))
}

/// As [`bytes`], of this length.
///
/// # Panics
/// Where it holds something else.
pub fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap_or_else(|_| panic!("{value} has not {N} bytes"))
}

/// A number.
///
/// # Panics
/// Where it is none of that type.
pub fn number<T: TryFrom<u64>>(value: &Value) -> T {
    value.as_u64().and_then(|n| T::try_from(n).ok()).unwrap_or_else(|| panic!("{value} is no such number"))
}

/// Text.
///
/// # Panics
/// Where it is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// The items of an array.
///
/// # Panics
/// Where it is none.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no array"))
}
