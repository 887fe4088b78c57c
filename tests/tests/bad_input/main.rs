//! Repositories that somebody or something damaged. What the program says of them, and of such that somebody hostile made who holds all
//! keys, is tested with the program.

mod mutations;
mod stored;
