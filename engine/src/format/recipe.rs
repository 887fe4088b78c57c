//! Recipes: the long chunk list of a file as a tree of nodes (`format-spec/recipe.md`).

use super::cursor::{Reader, Write};
use super::node;
use crate::entry::ChunkRef;
use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::limits::CHUNK_SIZE_MAX;

const LEAF: u8 = 3;

/// A node of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RecipeNode {
    /// Chunks in order.
    Leaf(Vec<ChunkRef>),
    /// Children in order, at a level of 1 and up.
    Inner(u8, Vec<RecipeChild>),
}

/// What an inner node says of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecipeChild {
    pub(crate) id: ChunkId,
    /// Chunks below it.
    pub(crate) chunks: u64,
    /// Sum of their lengths.
    pub(crate) bytes: u64,
}

/// Writes a leaf.
pub(crate) fn encode_recipe_leaf(chunks: &[ChunkRef]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + chunks.len() * 36);
    out.put_bytes(&[LEAF, 0]);
    out.put_varint(chunks.len() as u64);
    for chunk in chunks {
        out.put_bytes(chunk.id.as_bytes());
        out.put_varint(u64::from(chunk.length));
    }
    out
}

/// Writes an inner node.
pub(crate) fn encode_recipe_inner(level: u8, children: &[RecipeChild]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + children.len() * 42);
    out.put_bytes(&[LEAF + 1, level]);
    out.put_varint(children.len() as u64);
    for child in children {
        out.put_bytes(child.id.as_bytes());
        out.put_varint(child.chunks);
        out.put_varint(child.bytes);
    }
    out
}

/// Reads a node, whose level must be the expected one where one is expected: RECIPE-1 to RECIPE-3.
pub(crate) fn decode_recipe_node(bytes: &[u8], level_expected: Option<u8>) -> Result<RecipeNode> {
    let mut reader = Reader::new(bytes);
    let level = node::read_head(&mut reader, LEAF, level_expected, "RECIPE-1")?;
    let count = node::read_count(&mut reader, "RECIPE-2")?;
    let node = if level == 0 {
        let chunks = (0..count).map(|_| read_chunk(&mut reader, "RECIPE-3")).collect::<Result<_>>()?;
        RecipeNode::Leaf(chunks)
    } else {
        let child = |reader: &mut Reader<'_>| -> Result<RecipeChild> {
            Ok(RecipeChild { id: ChunkId(reader.array()?), chunks: reader.varint()?, bytes: reader.varint()? })
        };
        RecipeNode::Inner(level, (0..count).map(|_| child(&mut reader)).collect::<Result<_>>()?)
    };
    reader.end()?;
    Ok(node)
}

/// Reads a chunk's id and length, as they stand in recipes and in tree leaves.
pub(super) fn read_chunk(reader: &mut Reader<'_>, rule: &'static str) -> Result<ChunkRef> {
    let id = ChunkId(reader.array()?);
    let length = reader.varint()?;
    match u32::try_from(length) {
        Ok(length @ 1..) if length as usize <= CHUNK_SIZE_MAX => Ok(ChunkRef { id, length }),
        _ => Err(Error::rule(rule, format!("a chunk of {length} bytes, expected 1 to {CHUNK_SIZE_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::{mutate, refused};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn encode(node: &RecipeNode) -> Vec<u8> {
        match node {
            RecipeNode::Leaf(chunks) => encode_recipe_leaf(chunks),
            RecipeNode::Inner(level, children) => encode_recipe_inner(*level, children),
        }
    }

    fn node() -> impl Strategy<Value = RecipeNode> {
        let chunk = (any::<[u8; 32]>(), 1..=CHUNK_SIZE_MAX as u32).prop_map(|(id, length)| ChunkRef { id: ChunkId(id), length });
        let child =
            (any::<[u8; 32]>(), any::<u64>(), any::<u64>()).prop_map(|(id, chunks, bytes)| RecipeChild { id: ChunkId(id), chunks, bytes });
        prop_oneof![
            vec(chunk, 1..20).prop_map(RecipeNode::Leaf),
            (1..=10_u8, vec(child, 1..20)).prop_map(|(level, children)| RecipeNode::Inner(level, children)),
        ]
    }

    proptest! {
        #[test]
        fn nodes_read_back(node in node()) {
            prop_assert_eq!(decode_recipe_node(&encode(&node), None).unwrap(), node);
        }

        #[test]
        fn what_is_accepted_is_canonical(node in node(), changes in mutate::changes()) {
            let bytes = mutate::apply(encode(&node), &changes);
            if let Ok(node) = decode_recipe_node(&bytes, None) {
                prop_assert_eq!(encode(&node), bytes);
            }
        }
    }

    #[test]
    fn rules_are_named() {
        let chunk = ChunkRef { id: ChunkId([7; 32]), length: 1 };
        let leaf = encode_recipe_leaf(&[chunk]);
        let check = |rule, bytes: &[u8], level| refused(rule, decode_recipe_node(bytes, level));
        check("RECIPE-1", &[1, 0], None);
        check("RECIPE-1", &[3, 1], None);
        check("RECIPE-1", &[4, 0], None);
        check("RECIPE-1", &[4, 11], None);
        check("RECIPE-1", &leaf, Some(1));
        check("RECIPE-2", &[3, 0, 0], None);
        check("RECIPE-2", &encode_recipe_leaf(&vec![chunk; 4_097]), None);
        check("RECIPE-3", &encode_recipe_leaf(&[ChunkRef { length: 0, ..chunk }]), None);
        check("RECIPE-3", &encode_recipe_leaf(&[ChunkRef { length: 4_194_305, ..chunk }]), None);
        check("CONV-2", &leaf[..leaf.len() - 1], None);
        check("CONV-3", &[&leaf[..], &[0]].concat(), None);
        decode_recipe_node(&encode_recipe_leaf(&vec![chunk; 4_096]), Some(0)).unwrap();
    }
}
