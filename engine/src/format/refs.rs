//! Refs: the frames that a snapshot needs, and of a frame used in part which chunks (`format-spec/refs.md`).

use super::cursor::{Reader, Write};
use super::node;
use crate::error::{Error, Result};
use crate::id::{ChunkId, FrameId, SessionId};
use crate::limits::{FRAME_CHUNKS_MAX, NODE_ITEMS_MAX};

const LEAF: u8 = 5;
/// One above the numbers of data and meta frames.
const NUMBER_END: u64 = 1 << 31;

/// A frame that a snapshot needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameUse {
    /// The frame: of class data or meta.
    pub frame: FrameId,
    /// What of it is needed.
    pub usage: Usage,
}

/// What a snapshot needs of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    /// Every chunk.
    Whole,
    /// The frame as it is, every chunk of it: another one that is needed is compressed against it. No relocation stands for it.
    Base,
    /// Some of its chunks.
    Part {
        /// How many chunks the frame has: 2 to 16,384.
        chunks: u16,
        /// One bit for each chunk, the first in the lowest bit of the first byte, unused bits zero; one at least is set, one at least is clear.
        bitmap: Vec<u8>,
    },
}

impl Usage {
    /// Whether the chunk at `position` is needed.
    pub fn contains(&self, position: u16) -> bool {
        match self {
            Self::Whole | Self::Base => true,
            Self::Part { chunks, bitmap } => {
                position < *chunks && bitmap.get(usize::from(position / 8)).is_some_and(|byte| byte >> (position % 8) & 1 == 1)
            }
        }
    }
}

/// A node of refs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RefsNode {
    /// Frames, ascending.
    Leaf(Vec<FrameUse>),
    /// Children in order, at a level of 1 and up.
    Inner(u8, Vec<RefsChild>),
}

/// What an inner node says of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefsChild {
    /// The last frame that it names.
    pub(crate) last: FrameId,
    pub(crate) id: ChunkId,
    /// Frames named below it.
    pub(crate) frames: u64,
}

/// Writes a leaf; `frames` ascend.
pub(crate) fn encode_refs_leaf(frames: &[FrameUse]) -> Vec<u8> {
    let mut out = vec![LEAF, 0];
    let mut runs = Vec::new();
    let sessions = || frames.chunk_by(|a, b| a.frame.session == b.frame.session);
    out.put_varint(sessions().count() as u64);
    for frames in sessions() {
        runs.clear();
        out.put_bytes(&frames.first().map_or([0; 16], |used| used.frame.session.0));
        let count = write_runs(&mut runs, frames);
        out.put_varint(count);
        out.put_bytes(&runs);
    }
    out
}

/// Writes the runs of one session and counts them.
fn write_runs(out: &mut Vec<u8>, frames: &[FrameUse]) -> u64 {
    let (mut count, mut end) = (0, 0);
    let in_a_row = |a: &FrameUse, b: &FrameUse| {
        a.usage == Usage::Whole && b.usage == Usage::Whole && a.frame.number.checked_add(1) == Some(b.frame.number)
    };
    for run in frames.chunk_by(in_a_row) {
        let Some(first) = run.first() else { continue };
        let start = u64::from(first.frame.number);
        out.put_varint(start - end);
        match &first.usage {
            Usage::Whole => out.put_varint(run.len() as u64 * 2),
            Usage::Base => out.put_varint(1),
            Usage::Part { chunks, bitmap } => {
                out.put_varint(u64::from(*chunks) * 2 + 1);
                out.put_bytes(bitmap);
            }
        }
        end = start + run.len() as u64;
        count += 1;
    }
    count
}

/// Writes an inner node.
pub(crate) fn encode_refs_inner(level: u8, children: &[RefsChild]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + children.len() * 56);
    out.put_bytes(&[LEAF + 1, level]);
    out.put_varint(children.len() as u64);
    for child in children {
        out.put_bytes(child.last.session.as_bytes());
        out.put_u32(child.last.number);
        out.put_bytes(child.id.as_bytes());
        out.put_varint(child.frames);
    }
    out
}

/// Reads a node, whose level must be the expected one where one is expected: REFS-1 to REFS-4, and of REFS-5 what one node shows.
pub(crate) fn decode_refs_node(bytes: &[u8], level_expected: Option<u8>) -> Result<RefsNode> {
    let mut reader = Reader::new(bytes);
    let node = match node::read_head(&mut reader, LEAF, level_expected, "REFS-1")? {
        0 => RefsNode::Leaf(read_leaf(&mut reader)?),
        level => RefsNode::Inner(level, read_inner(&mut reader)?),
    };
    reader.end()?;
    Ok(node)
}

fn read_leaf(reader: &mut Reader<'_>) -> Result<Vec<FrameUse>> {
    let sessions = node::read_count(reader, "REFS-2")?;
    let mut frames = Vec::new();
    let mut before = None;
    for _ in 0..sessions {
        let session = SessionId(reader.array()?);
        if before.is_some_and(|before| before >= session) {
            return Err(Error::rule("REFS-2", format!("session {session} is not above the one before")));
        }
        before = Some(session);
        read_session(reader, session, &mut frames)?;
    }
    Ok(frames)
}

fn read_session(reader: &mut Reader<'_>, session: SessionId, frames: &mut Vec<FrameUse>) -> Result<()> {
    let runs = reader.count(2)?;
    if runs == 0 {
        return Err(Error::rule("REFS-2", format!("session {session} has no runs")));
    }
    let mut end = 0_u64;
    let mut after_whole = false;
    for _ in 0..runs {
        let gap = reader.varint()?;
        let head = reader.varint()?;
        let whole = head & 1 == 0;
        let length = if whole { head / 2 } else { 1 };
        if length > (NODE_ITEMS_MAX - frames.len()) as u64 {
            return Err(Error::rule("REFS-2", format!("a leaf names more than {NODE_ITEMS_MAX} frames")));
        }
        if length == 0 || (whole && after_whole && gap == 0) {
            return Err(Error::rule("REFS-3", format!("a run of session {session} is empty or touches the one before")));
        }
        let (first, past) = match end.checked_add(gap) {
            Some(first) if first <= NUMBER_END - length => (first, first + length),
            _ => return Err(Error::rule("REFS-3", format!("a frame of session {session} is neither of class data nor meta"))),
        };
        if whole {
            let frame = |number| FrameUse { frame: FrameId { session, number }, usage: Usage::Whole };
            frames.extend((first as u32..past as u32).map(frame));
        } else {
            let frame = FrameId { session, number: first as u32 };
            let usage = if head == 1 { Usage::Base } else { read_part(reader, frame, head / 2)? };
            frames.push(FrameUse { frame, usage });
        }
        (end, after_whole) = (past, whole);
    }
    Ok(())
}

fn read_part(reader: &mut Reader<'_>, frame: FrameId, chunks: u64) -> Result<Usage> {
    let chunks = match u16::try_from(chunks) {
        Ok(n @ 2..) if usize::from(n) <= FRAME_CHUNKS_MAX => n,
        _ => return Err(Error::rule("REFS-4", format!("frame {frame} with {chunks} chunks used in part"))),
    };
    let bitmap = reader.bytes(usize::from(chunks).div_ceil(8))?;
    let set: u32 = bitmap.iter().map(|byte| byte.count_ones()).sum();
    let unused = bitmap.last().is_some_and(|byte| chunks % 8 != 0 && byte >> (chunks % 8) != 0);
    if set == 0 || set >= u32::from(chunks) || unused {
        return Err(Error::rule("REFS-4", format!("the bitmap of frame {frame} has {set} bits set for {chunks} chunks")));
    }
    Ok(Usage::Part { chunks, bitmap: bitmap.to_vec() })
}

fn read_inner(reader: &mut Reader<'_>) -> Result<Vec<RefsChild>> {
    let count = node::read_count(reader, "REFS-5")?;
    let mut children: Vec<RefsChild> = Vec::new();
    for _ in 0..count {
        let last = FrameId { session: SessionId(reader.array()?), number: reader.u32()? };
        if children.last().is_some_and(|before| before.last >= last) {
            return Err(Error::rule("REFS-5", format!("frame {last} is not above the child before")));
        }
        children.push(RefsChild { last, id: ChunkId(reader.array()?), frames: reader.varint()? });
    }
    Ok(children)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::{mutate, refused};
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn encode(node: &RefsNode) -> Vec<u8> {
        match node {
            RefsNode::Leaf(frames) => encode_refs_leaf(frames),
            RefsNode::Inner(level, children) => encode_refs_inner(*level, children),
        }
    }

    fn frame(session: u8, number: u32) -> FrameId {
        FrameId { session: SessionId([session; 16]), number }
    }

    fn whole(number: u32) -> FrameUse {
        FrameUse { frame: frame(1, number), usage: Usage::Whole }
    }

    fn usage() -> impl Strategy<Value = Usage> {
        let part = vec(any::<bool>(), 2..70).prop_map(|bits| {
            let mut bitmap = vec![0_u8; bits.len().div_ceil(8)];
            for (index, bit) in bits.iter().enumerate() {
                bitmap[index / 8] |= u8::from(*bit) << (index % 8);
            }
            match bits.iter().all(|bit| *bit == bits[0]) {
                true => Usage::Whole,
                false => Usage::Part { chunks: bits.len() as u16, bitmap },
            }
        });
        prop_oneof![3 => Just(Usage::Whole), 1 => Just(Usage::Base), 1 => part]
    }

    fn node() -> impl Strategy<Value = RefsNode> {
        let number = || prop_oneof![0..30_u32, (1 << 30) - 3..(1 << 30) + 3_u32, (1 << 31) - 3..(1 << 31) as u32];
        let leaf = btree_map((0..3_u8, number()), usage(), 1..40).prop_map(|frames| {
            let used = |((session, number), usage)| FrameUse { frame: frame(session, number), usage };
            RefsNode::Leaf(frames.into_iter().map(used).collect())
        });
        let inner = btree_map((0..3_u8, any::<u32>()), (any::<[u8; 32]>(), any::<u64>()), 1..20).prop_map(|children| {
            let child = |((session, number), (id, frames))| RefsChild { last: frame(session, number), id: ChunkId(id), frames };
            children.into_iter().map(child).collect::<Vec<_>>()
        });
        prop_oneof![leaf, (1..=10_u8, inner).prop_map(|(level, children)| RefsNode::Inner(level, children))]
    }

    proptest! {
        #[test]
        fn nodes_read_back(node in node()) {
            prop_assert_eq!(decode_refs_node(&encode(&node), None).unwrap(), node);
        }

        #[test]
        fn what_is_accepted_is_canonical(node in node(), changes in mutate::changes()) {
            let bytes = mutate::apply(encode(&node), &changes);
            if let Ok(node) = decode_refs_node(&bytes, None) {
                prop_assert_eq!(encode(&node), bytes);
            }
        }
    }

    /// A leaf with one session and these runs.
    fn leaf(runs: &[&[u64]]) -> Vec<u8> {
        let mut out = vec![5, 0, 1];
        out.put_bytes(&[1; 16]);
        out.put_varint(runs.len() as u64);
        runs.iter().flat_map(|run| run.iter()).for_each(|value| out.put_varint(*value));
        out
    }

    #[test]
    fn rules_are_named() {
        let check = |rule, bytes: &[u8]| refused(rule, decode_refs_node(bytes, None));
        check("REFS-1", &[1, 0]);
        check("REFS-1", &[6, 0]);
        refused("REFS-1", decode_refs_node(&leaf(&[&[0, 2]]), Some(2)));
        check("REFS-2", &[5, 0, 0]);
        check("REFS-2", &leaf(&[]));
        check("REFS-2", &leaf(&[&[0, 2 * 4_097]]));
        check("REFS-2", &leaf(&[&[0, 1 << 60]]));
        let session = [&[7; 16][..], &[1, 0, 2]].concat();
        check("REFS-2", &[&[5, 0, 2][..], &session, &session].concat());
        check("REFS-3", &leaf(&[&[0, 0]]));
        check("REFS-3", &leaf(&[&[0, 2], &[0, 2]]));
        check("REFS-3", &leaf(&[&[1 << 31, 2]]));
        check("REFS-3", &leaf(&[&[0, 2], &[u64::MAX, 2]]));
        check("REFS-3", &leaf(&[&[1 << 31, 1]]));
        check("REFS-4", &leaf(&[&[0, 3, 1]]));
        check("REFS-4", &leaf(&[&[0, 2 * 16_385 + 1]]));
        for bitmap in [0, 3, 4, 5] {
            check("REFS-4", &leaf(&[&[0, 5, bitmap]]));
        }
        check("REFS-5", &[6, 1, 0]);
        let child = RefsChild { last: frame(1, 1), id: ChunkId([0; 32]), frames: 1 };
        check("REFS-5", &encode_refs_inner(1, &[child, child]));
        check("CONV-3", &[&leaf(&[&[0, 2]])[..], &[0]].concat());
    }

    #[test]
    fn runs_are_small() {
        let frames: Vec<_> = (0..4_096).map(whole).collect();
        let bytes = encode_refs_leaf(&frames);
        assert_eq!(bytes.len(), 3 + 16 + 1 + 1 + 2);
        assert_eq!(decode_refs_node(&bytes, Some(0)).unwrap(), RefsNode::Leaf(frames));
    }
}
