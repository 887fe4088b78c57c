//! Frames on their way to a replica: copied by several threads, each from packs of its own into packs of its own, because each waits for its store.

use crate::backend::ObjectName;
use crate::error::Result;
use crate::gc::{Copier, Pack};
use crate::id::FrameId;
use crate::progress::Progress;
use crate::repository::{Repository, Session};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// A thread of its own is worth so many packs: each leaves the last one of each kind short.
const PACKS_PER_THREAD: u64 = 2;

/// What became of the frames.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Packs that were written, with their sizes.
    pub(super) written: Vec<(Pack, u64)>,
    /// Packs of the source of which something could not be read.
    pub(super) packs_damaged: Vec<ObjectName>,
    /// Frames that were not copied.
    pub(super) lost: HashSet<FrameId>,
}

/// From where to where.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) source: &'a Repository,
    pub(super) target: &'a Repository,
    /// The one at the target.
    pub(super) session: &'a Session<'a>,
    pub(super) progress: &'a dyn Progress,
}

impl Way<'_> {
    /// Copies these frames, of so many bytes. When it returns all that is not lost is durable at the target.
    pub(super) fn copy(self, frames: &BTreeMap<Pack, HashSet<FrameId>>, bytes: u64) -> Result<Copies> {
        // Whichever end has more of them: a far one has.
        let (here, there) = (self.source.pool()?, self.target.pool()?);
        let pool = if here.current_num_threads() > there.current_num_threads() { here } else { there };
        let threads = bytes / (PACKS_PER_THREAD * u64::from(self.target.config.pack_size).max(1));
        let shares = split(frames, usize::try_from(threads).unwrap_or(usize::MAX).clamp(1, pool.current_num_threads()));
        let has_failed = AtomicBool::new(false);
        let mut results: Vec<Result<Copies>> = shares.iter().map(|_| Ok(Copies::default())).collect();
        pool.in_place_scope(|scope| {
            for (share, result) in shares.iter().zip(&mut results) {
                let has_failed = &has_failed;
                scope.spawn(move |_| {
                    *result = self.copy_share(share, has_failed);
                    if result.is_err() {
                        has_failed.store(true, Ordering::Relaxed);
                    }
                });
            }
        });
        let mut all = Copies::default();
        for copies in results {
            let copies = copies?;
            all.written.extend(copies.written);
            all.packs_damaged.extend(copies.packs_damaged);
            all.lost.extend(copies.lost);
        }
        Ok(all)
    }

    fn copy_share(self, share: &[(Pack, &HashSet<FrameId>)], has_failed: &AtomicBool) -> Result<Copies> {
        let mut copier = Copier::between(self.source, self.target, self.progress);
        let mut copies = Copies::default();
        for (pack, frames) in share {
            // What the others have is durable or not, as after a crash; the error says why.
            if has_failed.load(Ordering::Relaxed) {
                return Ok(copies);
            }
            self.session.require_keys_unchanged()?;
            let failed_before = copier.failed.len();
            if !copier.copy_these(*pack, frames)? {
                copies.packs_damaged.push(ObjectName::pack(pack.0, pack.1));
                // Where not even its tables can be read, all of it is lost.
                let all_of_it = copier.failed.len() == failed_before;
                copies.lost.extend(frames.iter().filter(|frame| all_of_it || copier.failed.contains(frame)));
            }
        }
        copier.finish()?;
        copies.written = copier.written;
        Ok(copies)
    }
}

/// Shares of about as many frames each, none of them empty.
fn split(frames: &BTreeMap<Pack, HashSet<FrameId>>, count: usize) -> Vec<Vec<(Pack, &HashSet<FrameId>)>> {
    let total: usize = frames.values().map(HashSet::len).sum();
    let enough = total.div_ceil(count.max(1));
    let (mut shares, mut share, mut length) = (Vec::new(), Vec::new(), 0);
    for (pack, frames) in frames {
        share.push((*pack, frames));
        length += frames.len();
        if length >= enough {
            shares.push(std::mem::take(&mut share));
            length = 0;
        }
    }
    if !share.is_empty() {
        shares.push(share);
    }
    shares
}
