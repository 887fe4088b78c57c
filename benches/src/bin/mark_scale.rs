//! Marking at scale: how long garbage collection takes to mark synthetic refs, and how much memory. Prints, last, one line of JSON.
//!
//! ```sh
//! cargo run --release -p icecore-benches --bin mark_scale -- --refs 100000000 [--memory BYTES]
//! ```
//!
//! A thirty-second of so many frames stands in packs of 64; 32 snapshots name all of them, in the order of their identities as refs do, in
//! leaves of 1,000, and share no leaf. Decoding leaves is not part of it. `build_seconds` is the time that the index of the frames takes;
//! `resident_bytes` counts mapped pages of the index. With `--memory` all of it runs in a process that may have so much memory, pages of files
//! included (in a memory cgroup, where this user may make one).

use icecore::backend::ObjectKind;
use icecore::format::{ContentsTable, FrameRecord, FrameUse, Usage};
use icecore::id::{ChunkId, DomainId, FrameClass, FrameId, PackId, SessionId};
use icecore::repository::index::{ContentsSource, LookupIndex};
use icecore::runtime::{Clock, SystemClock};
use icecore::testing::measure::Marking;
use icecore::testing::process::MemoryGroup;
use icecore::{Error, ErrorKind};
use serde_json::json;
use std::sync::Arc;

const FRAMES_IN_A_PACK: u64 = 64;
const FRAMES_IN_A_SESSION: u64 = 64 * 1000;
const SNAPSHOTS: u64 = 32;
const FRAMES_IN_A_LEAF: u64 = 1000;

/// Nothing is looked up by chunk.
#[derive(Debug)]
struct NoTables;

impl ContentsSource for NoTables {
    fn contents(&self, _kind: ObjectKind, _pack: PackId) -> icecore::Result<ContentsTable> {
        Err(Error::new(ErrorKind::NotFound, "no tables"))
    }
}

fn frame_id(number: u64) -> FrameId {
    // Sessions are hashes: their order is not that in which they came.
    let session = blake3::hash(&(number / FRAMES_IN_A_SESSION).to_le_bytes());
    let session = SessionId(session.as_bytes().first_chunk().copied().unwrap_or_default());
    FrameId::new(session, FrameClass::Data, (number % FRAMES_IN_A_SESSION) as u32)
}

fn add_packs(index: &LookupIndex, frames: u64) -> icecore::Result<()> {
    for pack in 0..frames / FRAMES_IN_A_PACK {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&pack.to_le_bytes());
        let frames = (pack * FRAMES_IN_A_PACK..(pack + 1) * FRAMES_IN_A_PACK).map(|number| FrameRecord {
            id: frame_id(number),
            sealed_length: 500_000,
            plaintext_length: 1 << 20,
            hash: [0; 32],
            bases: Vec::new(),
            // One chunk stands for all of them: marking asks for none.
            chunks: vec![ChunkId(*blake3::hash(&number.to_be_bytes()).as_bytes())],
        });
        index.add_pack(ObjectKind::DataPack, PackId(id), &ContentsTable { frames: frames.collect() }, |_| DomainId([0; 16]))?;
    }
    index.save()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<_> = std::env::args().collect();
    let refs: u64 = match &words[1..] {
        [option, value] if option == "--refs" => value.parse()?,
        [option, value, memory, bytes] if option == "--refs" && memory == "--memory" => {
            let group = MemoryGroup::new(bytes.parse()?)?;
            let status = group.command(std::env::current_exe()?).args([option, value]).status()?;
            return if status.success() { Ok(()) } else { Err(format!("within {bytes} bytes of memory: {status}").into()) };
        }
        _ => return Err("usage: mark_scale --refs N [--memory BYTES]".into()),
    };
    let frames = (refs / SNAPSHOTS).next_multiple_of(FRAMES_IN_A_PACK);
    let clock = SystemClock;
    let repository = icecore_benches::create(None);
    let index = Arc::new(LookupIndex::open(None, repository.id(), Arc::new(NoTables))?);
    index.set_tables_bytes_max(0);
    let started = clock.monotonic_ns();
    add_packs(&index, frames)?;
    let build_ns = clock.monotonic_ns() - started;
    let mut marking = Marking::new(&repository, index)?;
    let mut sessions: Vec<u64> = (0..frames.div_ceil(FRAMES_IN_A_SESSION)).collect();
    sessions.sort_unstable_by_key(|session| frame_id(session * FRAMES_IN_A_SESSION).session);
    let mut leaf = Vec::with_capacity(FRAMES_IN_A_LEAF as usize);
    let (mut marked, mut marking_ns) = (0u64, 0);
    for _ in 0..SNAPSHOTS {
        for session in &sessions {
            let of_session = session * FRAMES_IN_A_SESSION..((session + 1) * FRAMES_IN_A_SESSION).min(frames);
            for first in of_session.clone().step_by(FRAMES_IN_A_LEAF as usize) {
                leaf.clear();
                let numbers = first..(first + FRAMES_IN_A_LEAF).min(of_session.end);
                leaf.extend(numbers.map(|number| FrameUse { frame: frame_id(number), usage: Usage::Whole }));
                let started = clock.monotonic_ns();
                if !marking.mark(&leaf)? {
                    return Err("a frame was not found".into());
                }
                marking_ns += clock.monotonic_ns() - started;
                marked += leaf.len() as u64;
            }
        }
    }
    if marking.frames() != frames {
        return Err(format!("{} of {frames} frames are marked", marking.frames()).into());
    }
    let seconds = marking_ns as f64 / 1e9;
    let line = json!({
        "refs": marked,
        "frames": frames,
        "mark_seconds": seconds,
        "refs_per_second": marked as f64 / seconds,
        "resident_bytes": icecore_benches::resident_bytes(),
        "build_seconds": build_ns as f64 / 1e9,
    });
    println!("{line}");
    Ok(())
}
