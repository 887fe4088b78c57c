//! Command line of icecore.
fn main() {}
