//! What the nodes of trees, recipes and refs have in common: a type, a level, and bounds.

use super::cursor::Reader;
use crate::error::{Error, Result};
use crate::limits::{NODE_ITEMS_MAX, NODE_LEVEL_MAX};

/// Reads type and level of a node: 0 for a leaf (of type `leaf_type`), otherwise an inner node (of the type after it).
pub(super) fn read_head(reader: &mut Reader<'_>, leaf_type: u8, level_expected: Option<u8>, rule: &'static str) -> Result<u8> {
    let node_type = reader.u8()?;
    if node_type != leaf_type && node_type != leaf_type + 1 {
        return Err(Error::unsupported(rule, format!("node type {node_type}, expected {leaf_type} or {}", leaf_type + 1)));
    }
    let level = reader.u8()?;
    let levels = if node_type == leaf_type { 0..=0 } else { 1..=NODE_LEVEL_MAX };
    if !levels.contains(&level) {
        return Err(Error::rule(rule, format!("a node of type {node_type} at level {level}")));
    }
    match level_expected {
        Some(expected) if expected != level => Err(Error::rule(rule, format!("level {level}, expected {expected}"))),
        _ => Ok(level),
    }
}

/// Reads how many items a node has.
pub(super) fn read_count(reader: &mut Reader<'_>, rule: &'static str) -> Result<usize> {
    let count = reader.varint()?;
    match usize::try_from(count) {
        Ok(n) if (1..=NODE_ITEMS_MAX).contains(&n) => Ok(n),
        _ => Err(Error::rule(rule, format!("{count} items, expected 1 to {NODE_ITEMS_MAX}"))),
    }
}
