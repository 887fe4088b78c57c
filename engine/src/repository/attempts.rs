//! Whether frames are compressed against bases: an attempt for each, and pauses where attempts fail.
//!
//! What the last attempts came to is the best guess at the next one, since like lies beside like: of a disk image whose blocks are new each time a few frames are tried
//! and the rest is not. Outcomes come from workers, whenever these are done; so that what is stored does not depend on it, an attempt heeds
//! the outcomes of those that began at least [`LAG`] before it, and waits for them.

use super::FrameReader;
use crate::compress::Effort;
use crate::error::{Error, ErrorKind, Result};
use crate::id::FrameId;
use crate::runtime::channel::{Receiver, Sender, unbounded};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Attempts that may be under way.
const LAG: u32 = 8;
/// After so many failures in a row a pause is made, of one frame, and each more doubles it up to 4: long pauses miss what would pay, and a failure costs little
/// more than the frame itself.
const FAILURES_BEFORE_PAUSE: u32 = 4;
const DOUBLINGS_MAX: u32 = 2;

/// More effort pays where frames take at most one part in so many of their plaintext: then they are put together of what they were, and of little else.
const PLAIN_PER_SEALED_MIN: usize = 48;

/// The attempts of a session.
#[derive(Debug)]
pub(super) struct Attempts {
    reader: Arc<FrameReader>,
    frame_size: usize,
    /// The most that is made.
    effort: Effort,
    /// Whether more effort than usual pays, by the last outcome that was heeded; not before there is one.
    pays: bool,
    begun: u32,
    /// Outcomes that were heeded.
    heeded: u32,
    /// Failures in a row.
    failures: u32,
    /// Bytes of chunks with bases that are left alone.
    pause: usize,
    give: Sender<(u32, Outcome)>,
    outcomes: Receiver<(u32, Outcome)>,
    early: BTreeMap<u32, Outcome>,
    /// The bases of each frame that has any, by number.
    bases: HashMap<u32, Vec<FrameId>>,
}

/// What an attempt came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Number of the frame.
    pub(super) frame: u32,
    /// Frames that it is compressed against; none where that did not pay.
    pub(super) bases: Vec<FrameId>,
    /// Lengths of the frame.
    pub(super) sealed: usize,
    pub(super) plaintext: usize,
}

/// An attempt on its way to a worker.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) reader: Arc<FrameReader>,
    pub(super) effort: Effort,
    number: u32,
    give: Sender<(u32, Outcome)>,
}

impl Attempt {
    /// Says what it came to.
    pub(super) fn tell(self, outcome: Outcome) {
        // Nobody listens when the session is over.
        let _ = self.give.send((self.number, outcome));
    }
}

impl Attempts {
    pub(super) fn new(reader: Arc<FrameReader>, frame_size: usize, effort: Effort) -> Self {
        let (give, outcomes) = unbounded();
        let (early, bases) = (BTreeMap::new(), HashMap::new());
        Self { reader, frame_size, effort, pays: false, begun: 0, heeded: 0, failures: 0, pause: 0, give, outcomes, early, bases }
    }

    /// Whether a frame with bases is begun by a chunk of so many bytes.
    pub(super) fn begin(&mut self, length: usize) -> Result<bool> {
        self.heed(self.begun.saturating_sub(LAG))?;
        if self.pause > 0 {
            self.pause = self.pause.saturating_sub(length);
            return Ok(false);
        }
        self.begun += 1;
        Ok(true)
    }

    /// The frame that was begun last goes to a worker.
    pub(super) fn end(&mut self) -> Attempt {
        let effort = if self.pays { self.effort } else { Effort::Usual };
        Attempt { reader: Arc::clone(&self.reader), effort, number: self.begun - 1, give: self.give.clone() }
    }

    /// Waits for all outcomes; every frame that was begun has ended.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.heed(self.begun)
    }

    /// What a frame of this session is compressed against, as far as outcomes were heeded.
    pub(super) fn bases_of(&self, frame: u32) -> Option<&[FrameId]> {
        self.bases.get(&frame).map(Vec::as_slice)
    }

    /// Heeds the outcomes of the first `count` attempts, in their order.
    fn heed(&mut self, count: u32) -> Result<()> {
        while self.heeded < count {
            let Some(outcome) = self.early.remove(&self.heeded) else {
                let (number, outcome) = self.outcomes.recv().map_err(|_| Error::new(ErrorKind::Internal, "an attempt was lost"))?;
                self.early.insert(number, outcome);
                continue;
            };
            self.heeded += 1;
            self.pays = outcome.sealed * PLAIN_PER_SEALED_MIN <= outcome.plaintext;
            if outcome.bases.is_empty() {
                self.failures += 1;
                let more = self.failures.checked_sub(FAILURES_BEFORE_PAUSE);
                self.pause = more.map_or(0, |more| self.frame_size << more.min(DOUBLINGS_MAX));
            } else {
                (self.failures, self.pause) = (0, 0);
                self.bases.insert(outcome.frame, outcome.bases);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;
    use crate::id::SessionId;
    use crate::repository::tests::repository;

    const FRAME_SIZE: usize = 1000;
    /// One that pays no more effort.
    const GOOD: usize = FRAME_SIZE / 4;
    const EXCELLENT: usize = FRAME_SIZE / PLAIN_PER_SEALED_MIN;

    fn attempts(effort: Effort) -> Attempts {
        let repository = repository(&MemoryBackend::new());
        let index = repository.open_index().unwrap();
        Attempts::new(Arc::new(FrameReader::new(&repository, index)), FRAME_SIZE, effort)
    }

    /// Makes an attempt that comes to `sealed` bytes, or does not pay; gives the effort. `None` in a pause.
    fn attempt(attempts: &mut Attempts, sealed: Option<usize>) -> Option<Effort> {
        attempts.begin(FRAME_SIZE).unwrap().then(|| {
            let (attempt, frame) = (attempts.end(), attempts.begun);
            let (effort, bases) = (attempt.effort, vec![FrameId { session: SessionId([1; 16]), number: 7 }]);
            let bases = if sealed.is_some() { bases } else { Vec::new() };
            attempt.tell(Outcome { frame, bases, sealed: sealed.unwrap_or(FRAME_SIZE / 2), plaintext: FRAME_SIZE });
            effort
        })
    }

    #[test]
    fn more_effort_is_made_where_it_paid_and_no_longer() {
        let (mut more, mut usual) = (attempts(Effort::More), attempts(Effort::Usual));
        let comes_to = |number: u32| if (20..40).contains(&number) { EXCELLENT } else { GOOD };
        for number in 0..60 {
            let paid = number > LAG && comes_to(number - LAG - 1) == EXCELLENT;
            assert_eq!(
                attempt(&mut more, Some(comes_to(number))),
                Some(if paid { Effort::More } else { Effort::Usual }),
                "attempt {number}"
            );
            assert_eq!(attempt(&mut usual, Some(comes_to(number))), Some(Effort::Usual));
        }
    }

    #[test]
    fn failures_make_pauses_and_a_success_ends_them() {
        let mut attempts = attempts(Effort::More);
        let made: Vec<bool> = (0..40).map(|_| attempt(&mut attempts, None).is_some()).collect();
        let made = made.iter().map(|made| if *made { '+' } else { '.' }).collect::<String>();
        let at_first = "+".repeat((LAG + FAILURES_BEFORE_PAUSE) as usize);
        assert!(made.starts_with(&(at_first + ".+..+....+....+")), "{made}");
        for _ in 0..100 {
            attempt(&mut attempts, Some(GOOD));
        }
        assert_eq!((attempts.failures, attempts.pause), (0, 0));
        assert!((0..10).all(|_| attempt(&mut attempts, Some(GOOD)).is_some()));
        assert!(attempts.bases_of(1).is_none() && attempts.bases_of(attempts.heeded - 1).is_some());
    }
}
