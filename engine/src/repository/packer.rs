//! The packer: a thread that puts sealed frames back in order and deals them out to packs, each of which is written by a thread of its own.

use super::pack_writer::{PackMaker, SealedFrame, WrittenPack};
use crate::backend::ObjectKind;
use crate::crypto::{Secret, derive};
use crate::error::Result;
use crate::id::PackId;
use crate::limits::{FRAME_SEALED_MAX, FRAMES_LENGTH_MAX, PACK_FRAMES_MAX, TABLES_LENGTH_MAX};
use crate::runtime::Executor;
use crate::runtime::channel::{Receiver, Sender, bounded};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pack also ends when its tables would reach a quarter of what they may have.
const TABLES_LENGTH_END: usize = TABLES_LENGTH_MAX / 4;
/// Sealed frames that wait for the thread that writes their pack.
const FRAMES_BEFORE_DISK: usize = 4;

/// Puts sealed frames back in order and deals them out to packs.
pub(super) struct Packer {
    pub(super) maker: PackMaker,
    pub(super) pack_ids: Secret,
    pub(super) pack_size: u64,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) tokens: Sender<()>,
    pub(super) report: Sender<Result<WrittenPack>>,
    pub(super) lanes: [Lane; 3],
}

/// The frames of one class on their way into packs.
#[derive(Default)]
pub(super) struct Lane {
    next: u32,
    waiting: BTreeMap<u32, SealedFrame>,
    open: Option<OpenPack>,
    packs: u32,
}

struct OpenPack {
    frames: Sender<SealedFrame>,
    length: u64,
    frame_count: usize,
    tables_length: usize,
}

impl Packer {
    /// Takes frames, each with its place in the order of its class, until nobody gives any more.
    pub(super) fn run(mut self, sealed: &Receiver<(u32, SealedFrame)>) {
        for (order, frame) in sealed {
            let class = (frame.record.id.number >> 30) as usize % self.lanes.len();
            self.lanes[class].waiting.insert(order, frame);
            while let Some(frame) = self.lanes[class].take_next() {
                self.deal(class, frame);
            }
        }
    }

    fn deal(&mut self, class: usize, frame: SealedFrame) {
        let length = frame.bytes.len() as u64;
        if self.lanes[class].open.is_none() {
            let pack = self.open_pack(class);
            self.lanes[class].open = Some(pack);
        }
        let Some(open) = &mut self.lanes[class].open else { return };
        open.length += length;
        open.frame_count += 1;
        open.tables_length += frame.record.table_length();
        // A pack whose thread is gone has reported why; whoever waits for room has to hear of it.
        if open.frames.send(frame).is_err() {
            let _ = self.tokens.send(());
        }
        if open.is_full(self.pack_size) {
            self.lanes[class].open = None;
        }
    }

    fn open_pack(&mut self, class: usize) -> OpenPack {
        let number = self.lanes[class].packs;
        self.lanes[class].packs += 1;
        // Named by the session's secret, not by chance, so that the order in which packs of different classes begin does not matter.
        let name = derive("icecore pack id", &[self.pack_ids.bytes(), &[class as u8], &number.to_le_bytes()]);
        let mut id = [0; PackId::LENGTH];
        id.copy_from_slice(&name.bytes()[..PackId::LENGTH]);
        let kind = [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack][class];
        let (sender, frames) = bounded(FRAMES_BEFORE_DISK);
        let (maker, tokens, report) = (self.maker.clone(), self.tokens.clone(), self.report.clone());
        let work = move || {
            let written = maker.write(kind, PackId(id), &frames, &tokens);
            // Nobody listens when the session has failed already.
            let _ = report.send(written);
        };
        if let Err(error) = self.executor.spawn("icecore-pack", Box::new(work)) {
            // As if its thread had failed to write it.
            let _ = self.report.send(Err(error));
        }
        OpenPack { frames: sender, length: 0, frame_count: 0, tables_length: 0 }
    }
}

impl OpenPack {
    /// Whether it has what the config asks for, or another frame might make it larger than a pack may be.
    fn is_full(&self, pack_size: u64) -> bool {
        self.length >= pack_size
            || self.length + FRAME_SEALED_MAX as u64 > FRAMES_LENGTH_MAX as u64
            || self.frame_count == PACK_FRAMES_MAX
            || self.tables_length >= TABLES_LENGTH_END
    }
}

impl Lane {
    fn take_next(&mut self) -> Option<SealedFrame> {
        let frame = self.waiting.remove(&self.next)?;
        self.next += 1;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PACK_SIZE_MAX;

    #[test]
    fn a_pack_ends_before_a_frame_could_make_it_too_large() {
        let pack = |length| OpenPack { frames: bounded(1).0, length, frame_count: 1, tables_length: 100 };
        let (frame, most) = (FRAME_SEALED_MAX as u64, FRAMES_LENGTH_MAX as u64);
        assert!(pack(1000).is_full(1000) && !pack(999).is_full(1000));
        assert!(!pack(most - frame).is_full(u64::from(PACK_SIZE_MAX)));
        assert!(pack(most - frame + 1).is_full(u64::from(PACK_SIZE_MAX)));
    }
}
