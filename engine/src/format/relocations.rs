//! Relocations: where chunks of frames that were re-made stand now (`format-spec/relocations.md`).

use super::cursor::{Reader, Write};
use crate::error::{Error, Result};
use crate::id::{FrameClass, FrameId, SessionId};
use crate::limits::{FRAME_CHUNKS_MAX, RELOCATED_FRAMES_MAX};
use crate::runtime::Timestamp;

/// One above the highest counter of a frame.
const COUNTER_END: u64 = 1 << 30;

/// What `relocations/` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelocationsBody {
    /// The collector, whose frames hold the chunks now.
    pub session: SessionId,
    /// Its clock, for people.
    pub now: Timestamp,
    /// Frames that were re-made, ascending.
    pub frames: Vec<RelocatedFrame>,
}

/// A frame that was re-made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelocatedFrame {
    /// The frame, of class data or meta.
    pub frame: FrameId,
    /// How many chunks it has: 1 to 16,384.
    pub chunks: u16,
    /// Those of them that are mapped, ascending by their position; at least one.
    pub moved: Vec<MovedChunk>,
}

/// Where a chunk stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MovedChunk {
    /// Its position in the frame that was re-made.
    pub position: u16,
    /// The counter of its new frame, which is of the same class.
    pub counter: u32,
    /// Its position there.
    pub new_position: u16,
}

impl RelocationsBody {
    /// The plaintext of the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_bytes(&self.session.0);
        bytes.put_time(self.now);
        bytes.put_varint(self.frames.len() as u64);
        for frame in &self.frames {
            bytes.put_bytes(&frame.frame.session.0);
            bytes.put_u32(frame.frame.number);
            bytes.put_varint(u64::from(frame.chunks));
            let mut bitmap = vec![0_u8; usize::from(frame.chunks).div_ceil(8)];
            frame.moved.iter().for_each(|chunk| bitmap[usize::from(chunk.position) / 8] |= 1 << (chunk.position % 8));
            bytes.put_bytes(&bitmap);
            for chunk in &frame.moved {
                bytes.put_varint(u64::from(chunk.counter));
                bytes.put_varint(u64::from(chunk.new_position));
            }
        }
        bytes
    }

    /// Reads it.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let session = SessionId(reader.array()?);
        let now = reader.time()?;
        let count = reader.count_at_most(RELOCATED_FRAMES_MAX, 1, "RELOC-1")?;
        if count == 0 {
            return Err(Error::rule("RELOC-1", "no frames"));
        }
        let mut frames: Vec<RelocatedFrame> = Vec::new();
        for _ in 0..count {
            let frame = FrameId { session: SessionId(reader.array()?), number: reader.u32()? };
            if frames.last().is_some_and(|before| before.frame >= frame) {
                return Err(Error::rule("RELOC-1", format!("frame {frame} is not above the one before")));
            }
            if frame.session == session || !matches!(frame.class(), Some(FrameClass::Data | FrameClass::Meta)) {
                return Err(Error::rule("RELOC-2", format!("frame {frame} is of the collector's own session, or of class refs")));
            }
            frames.push(read_frame(&mut reader, frame)?);
        }
        reader.end()?;
        Ok(Self { session, now, frames })
    }
}

fn read_frame(reader: &mut Reader<'_>, frame: FrameId) -> Result<RelocatedFrame> {
    let count = reader.varint()?;
    let chunks = match u16::try_from(count) {
        Ok(chunks @ 1..) if usize::from(chunks) <= FRAME_CHUNKS_MAX => chunks,
        _ => return Err(Error::rule("RELOC-3", format!("frame {frame} with {count} chunks"))),
    };
    let bitmap = reader.bytes(usize::from(chunks).div_ceil(8))?;
    let unused = bitmap.last().is_some_and(|byte| chunks % 8 != 0 && byte >> (chunks % 8) != 0);
    if unused || bitmap.iter().all(|byte| *byte == 0) {
        return Err(Error::rule("RELOC-3", format!("the bitmap of frame {frame} has no bit set, or an unused one")));
    }
    let mut moved = Vec::new();
    for position in (0..chunks).filter(|position| bitmap[usize::from(position / 8)] >> (position % 8) & 1 == 1) {
        let (counter, new_position) = (reader.varint()?, reader.varint()?);
        if counter >= COUNTER_END || new_position >= FRAME_CHUNKS_MAX as u64 {
            return Err(Error::rule(
                "RELOC-4",
                format!("chunk {position} of frame {frame} leads to chunk {new_position} of frame {counter}"),
            ));
        }
        // Bound: just checked.
        moved.push(MovedChunk { position, counter: counter as u32, new_position: new_position as u16 });
    }
    Ok(RelocatedFrame { frame, chunks, moved })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::{mutate, refused};
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    const COLLECTOR: SessionId = SessionId([9; 16]);

    fn frame(session: u8, number: u32, chunks: u16, moved: &[(u16, u32, u16)]) -> RelocatedFrame {
        let moved = moved.iter().map(|(position, counter, new_position)| MovedChunk {
            position: *position,
            counter: *counter,
            new_position: *new_position,
        });
        RelocatedFrame { frame: FrameId { session: SessionId([session; 16]), number }, chunks, moved: moved.collect() }
    }

    fn body(frames: Vec<RelocatedFrame>) -> RelocationsBody {
        RelocationsBody { session: COLLECTOR, now: Timestamp::default(), frames }
    }

    fn bodies() -> impl Strategy<Value = RelocationsBody> {
        let number = prop_oneof![0..30_u32, (1 << 30) - 3..(1 << 30) + 3_u32];
        let targets = vec(prop_oneof![1 => Just(None), 2 => (0..1_u32 << 30, 0..16_384_u16).prop_map(Some)], 1..40);
        btree_map((0..3_u8, number), targets, 1..12).prop_map(|frames| {
            let frames = frames.into_iter().filter(|(_, targets)| targets.iter().any(Option::is_some));
            body(
                frames
                    .map(|((session, number), targets)| {
                        let moved =
                            targets.iter().zip(0..).filter_map(|(target, at)| target.map(|(counter, position)| (at, counter, position)));
                        frame(session, number, targets.len() as u16, &moved.collect::<Vec<_>>())
                    })
                    .collect(),
            )
        })
    }

    proptest! {
        #[test]
        fn bodies_read_back(body in bodies().prop_filter("empty", |body| !body.frames.is_empty())) {
            prop_assert_eq!(RelocationsBody::decode(&body.encode()).unwrap(), body);
        }

        #[test]
        fn what_is_accepted_is_canonical(body in bodies(), changes in mutate::changes()) {
            let bytes = mutate::apply(body.encode(), &changes);
            if let Ok(body) = RelocationsBody::decode(&bytes) {
                prop_assert_eq!(body.encode(), bytes);
            }
        }
    }

    #[test]
    fn rules_are_named() {
        let check = |rule, frames: Vec<RelocatedFrame>| refused(rule, RelocationsBody::decode(&body(frames).encode()));
        let good = || frame(1, 0, 3, &[(1, 0, 0)]);
        check("RELOC-1", vec![]);
        check("RELOC-1", vec![good(), good()]);
        check("RELOC-1", vec![frame(2, 0, 3, &[(1, 0, 0)]), good()]);
        check("RELOC-2", vec![frame(9, 0, 3, &[(1, 0, 0)])]);
        check("RELOC-2", vec![frame(1, 2 << 30, 3, &[(1, 0, 0)])]);
        check("RELOC-3", vec![frame(1, 0, 16_385, &[(1, 0, 0)])]);
        check("RELOC-3", vec![frame(1, 0, 0, &[])]);
        check("RELOC-3", vec![frame(1, 0, 3, &[])]);
        check("RELOC-3", vec![frame(1, 0, 3, &[(1, 0, 0), (3, 0, 1)])]);
        check("RELOC-4", vec![frame(1, 0, 3, &[(1, 1 << 30, 0)])]);
        check("RELOC-4", vec![frame(1, 0, 3, &[(1, 0, 16_384)])]);
        refused("CONV-3", RelocationsBody::decode(&[&body(vec![good()]).encode()[..], &[0]].concat()));
        let mut many = body(vec![good()]).encode();
        many.splice(28..29, [0x81, 0x80, 4]);
        refused("RELOC-1", RelocationsBody::decode(&many));
    }
}
