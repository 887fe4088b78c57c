//! The repository as a set of objects, and what must always hold of it.
//!
//! There is one old frame, `f0`, with two chunks, `x` and `d`. Snapshot `S` uses `x`; `d` is dead at first. Each writer brings a chunk of
//! its own and wants one of the two, which it finds somewhere or stores in its own frame, perhaps compressed against `f0`. Collector `j` can copy `f0` to pack `Bj`
//! (repack), make a new frame `f1j` of `x` alone in pack `Fj` (reframe, with a relocation), and rescue any frames into pack `Rj`.

use crate::collector::Collector;
use crate::others::{Forgetter, Observer, Reader};
use crate::shape::{Rule, Shape};
use crate::writer::Writer;

/// Writers and collectors there is room for.
pub(crate) const WRITERS: usize = 2;
pub(crate) const COLLECTORS: usize = 2;
/// Rounds of garbage collection there is room for.
pub(crate) const EPOCHS: usize = 2;

/// Names of all objects, one bit each, in this order.
const NAMES: [&str; 35] = [
    "A",
    "W0",
    "W1",
    "B0",
    "B1",
    "F0",
    "F1",
    "R0",
    "R1",
    "snapshot S",
    "snapshot T0",
    "snapshot T1",
    "session of writer 0",
    "session of writer 1",
    "session of collector 0",
    "session of collector 1",
    "session of the reader",
    "session of S",
    "closed/ of writer 0",
    "closed/ of writer 1",
    "closed/ of collector 0",
    "closed/ of collector 1",
    "closed/ of the reader",
    "closed/ of S",
    "tombstone of writer 0",
    "tombstone of writer 1",
    "tombstone of collector 0",
    "tombstone of collector 1",
    "tombstone of the reader",
    "tombstone of S",
    "withdrawn/ S",
    "withdrawn/ T0",
    "withdrawn/ T1",
    "relocation 0",
    "relocation 1",
];

/// Bits of packs.
pub(crate) const PACKS: u64 = (1 << 9) - 1;
pub(crate) const A: u64 = 1;
pub(crate) const fn w(writer: usize) -> u64 {
    1 << (1 + writer)
}
pub(crate) const fn b(collector: usize) -> u64 {
    1 << (3 + collector)
}
pub(crate) const fn f(collector: usize) -> u64 {
    1 << (5 + collector)
}
pub(crate) const fn r(collector: usize) -> u64 {
    1 << (7 + collector)
}

/// Snapshots are 0 for `S` and 1 + i for that of writer i; sessions 0 and 1 writers, 2 and 3 collectors, 4 the reader, 5 that of `S`.
pub(crate) const SNAPSHOT_COUNT: usize = 1 + WRITERS;
pub(crate) const SESSION_COUNT: usize = 6;
pub(crate) const READER: usize = 4;
const OLD: usize = 5;
const SNAPSHOT_AT: usize = 9;
const SESSION_AT: usize = 12;
const CLOSED_AT: usize = 18;
const TOMBSTONE_AT: usize = 24;
const WITHDRAWN_AT: usize = 30;
const RELOCATION_AT: usize = 33;
pub(crate) const SNAPSHOTS: u64 = 0b111 << SNAPSHOT_AT;
pub(crate) const SESSIONS: u64 = 0b11_1111 << SESSION_AT;
pub(crate) const CLOSED: u64 = 0b11_1111 << CLOSED_AT;
pub(crate) const WITHDRAWN: u64 = 0b111 << WITHDRAWN_AT;
pub(crate) const RELOCATIONS: u64 = 0b11 << RELOCATION_AT;
pub(crate) const fn snapshot(t: usize) -> u64 {
    1 << (SNAPSHOT_AT + t)
}
pub(crate) const fn session(k: usize) -> u64 {
    1 << (SESSION_AT + k)
}
pub(crate) const fn closed(k: usize) -> u64 {
    1 << (CLOSED_AT + k)
}
pub(crate) const fn tombstone(k: usize) -> u64 {
    1 << (TOMBSTONE_AT + k)
}
pub(crate) const fn withdrawn(t: usize) -> u64 {
    1 << (WITHDRAWN_AT + t)
}
pub(crate) const fn relocation(j: usize) -> u64 {
    1 << (RELOCATION_AT + j)
}
pub(crate) const fn session_of_snapshot(t: usize) -> usize {
    if t == 0 { OLD } else { t - 1 }
}
pub(crate) fn listed_snapshots(listed: u64) -> impl Iterator<Item = usize> {
    (0..SNAPSHOT_COUNT).filter(move |t| listed & snapshot(*t) != 0)
}

/// What a snapshot needs: chunks of frames. A relocation maps the first one only.
pub(crate) type Needs = u8;
pub(crate) const F0X: Needs = 1;
pub(crate) const F0D: Needs = 2;
pub(crate) const fn f1x(j: usize) -> Needs {
    4 << j
}
pub(crate) const fn own(i: usize) -> Needs {
    16 << i
}
/// `f0` as it is: a base.
pub(crate) const F0B: Needs = 64;
pub(crate) fn each(needs: Needs) -> impl Iterator<Item = Needs> {
    (0..7).map(|bit| 1 << bit).filter(move |need| needs & need != 0)
}

/// Frames: `f0`, two `f1`, two of writers.
pub(crate) type Frames = u8;
pub(crate) const FRAME_0: Frames = 1;
pub(crate) const fn frame_of(need: Needs) -> Frames {
    if need <= F0D || need == F0B { FRAME_0 } else { need >> 1 }
}

/// Chunks that several want.
pub(crate) const CHUNK_X: u8 = 1;
pub(crate) const CHUNK_D: u8 = 2;

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// Objects that are there.
    pub(crate) there: u64,
    /// Objects that a listing may still miss, and objects that are gone and that a listing may still show.
    pub(crate) fresh: u64,
    pub(crate) ghost: u64,
    pub(crate) epochs: u8,
    /// Packs condemned by epochs 1 and 2.
    pub(crate) condemned: [u16; EPOCHS],
    pub(crate) session_epoch: [u8; SESSION_COUNT],
    /// What the refs of each published snapshot say.
    pub(crate) needs: [Needs; SNAPSHOT_COUNT],
    /// Which `closed/` name the session's snapshot.
    pub(crate) names: u8,
    /// Which of the chunks that several want each writer's own frame holds.
    pub(crate) holds: [u8; WRITERS],
    /// Whose own frames are compressed against `f0`.
    pub(crate) deltas: u8,
    /// Frames in each rescue pack.
    pub(crate) rescued: [Frames; COLLECTORS],
    /// Snapshots of which somebody was told that they are safe, and that nobody forgot since.
    pub(crate) promised: u8,
    pub(crate) writers: [Writer; WRITERS],
    pub(crate) collectors: [Collector; COLLECTORS],
    pub(crate) reader: Reader,
    pub(crate) forgetter: Forgetter,
    pub(crate) observer: Observer,
}

impl World {
    pub(crate) fn start(shape: &Shape) -> Self {
        Self {
            there: A | snapshot(0) | session(OLD) | closed(OLD),
            fresh: 0,
            ghost: 0,
            epochs: 0,
            condemned: [0; EPOCHS],
            session_epoch: [0; SESSION_COUNT],
            needs: [F0X, 0, 0],
            names: 1 << OLD,
            holds: [0; WRITERS],
            deltas: 0,
            rescued: [0; COLLECTORS],
            promised: 1,
            writers: std::array::from_fn(|i| Writer::new(i < shape.writers)),
            collectors: std::array::from_fn(|j| Collector::new(j < shape.collectors)),
            reader: Reader::new(shape.reader),
            forgetter: Forgetter::new(shape.forget),
            observer: Observer::new(shape.observer),
        }
    }

    pub(crate) fn has(&self, object: u64) -> bool {
        self.there & object != 0
    }

    pub(crate) fn put(&mut self, shape: &Shape, object: u64) {
        self.there |= object;
        if shape.stale {
            self.fresh |= object;
        }
    }

    pub(crate) fn delete(&mut self, shape: &Shape, object: u64) {
        if shape.stale {
            self.ghost |= object & self.there;
        }
        self.fresh &= !object;
        self.there &= !object;
    }

    /// Everything that a listing of `mask` may show to somebody for whom the changes in `waited_out` are old enough.
    pub(crate) fn listings(&self, mask: u64, waited_out: Waited) -> Listings {
        let uncertain = self.fresh & !waited_out.made;
        let optional = mask & (uncertain | (self.ghost & !waited_out.gone));
        Listings { base: mask & self.there & !uncertain, optional, next: Some(0) }
    }

    pub(crate) fn open_session(&mut self, shape: &Shape, k: usize, epoch: u8) {
        self.put(shape, session(k));
        self.session_epoch[k] = epoch;
    }

    pub(crate) fn is_over(&self, k: usize) -> bool {
        self.has(closed(k) | tombstone(k))
    }

    /// `closed/` of a session, unless there is one.
    pub(crate) fn close(&mut self, shape: &Shape, k: usize, names_snapshot: bool) {
        if !self.has(closed(k)) {
            self.put(shape, closed(k));
            self.names = self.names & !(1 << k) | u8::from(names_snapshot) << k;
        }
    }

    pub(crate) fn is_named(&self, t: usize) -> bool {
        let k = session_of_snapshot(t);
        self.has(closed(k)) && self.names & 1 << k != 0
    }

    /// Packs that epochs up to `epoch` condemn.
    pub(crate) fn condemned_until(&self, epoch: u8) -> u64 {
        self.condemned[..epoch as usize].iter().fold(0, |all, packs| all | u64::from(*packs))
    }

    /// Which frames lie in `packs`.
    pub(crate) fn frames_in(&self, packs: u64) -> Frames {
        let mut frames = 0;
        if packs & (A | b(0) | b(1)) != 0 {
            frames |= FRAME_0;
        }
        for i in 0..WRITERS {
            if packs & w(i) != 0 {
                frames |= frame_of(own(i));
            }
        }
        for j in 0..COLLECTORS {
            if packs & f(j) != 0 {
                frames |= frame_of(f1x(j));
            }
            if packs & r(j) != 0 {
                frames |= self.rescued[j];
            }
        }
        frames
    }

    /// Those of `needs` that are not in `packs`, not even by way of `relocations`.
    pub(crate) fn unmet(&self, needs: Needs, packs: u64, relocations: u64) -> Needs {
        let frames = self.frames_in(packs);
        let relocated = (0..COLLECTORS).any(|j| relocations & relocation(j) != 0 && frames & frame_of(f1x(j)) != 0);
        each(needs).filter(|need| frames & frame_of(*need) == 0 && !(*need == F0X && relocated)).fold(0, |all, need| all | need)
    }

    /// What somebody has lost, if anything.
    pub(crate) fn loss(&self, shape: &Shape) -> Option<&'static str> {
        for t in 0..SNAPSHOT_COUNT {
            let is_good = self.has(snapshot(t))
                && !self.has(withdrawn(t))
                && self.unmet(self.needs[t], self.there & PACKS, self.there & RELOCATIONS) == 0;
            if self.promised & 1 << t != 0 && !is_good {
                return Some("a snapshot that was promised is gone or has lost frames");
            }
            if self.is_named(t) && !self.has(withdrawn(t)) {
                if !self.has(snapshot(t)) {
                    return Some("`closed/` names a snapshot that is neither there nor withdrawn: false damage");
                }
                if !is_good {
                    return Some("a snapshot that counts has lost frames");
                }
            }
        }
        if let Some(t) = self.reader.reads()
            && (!self.has(tombstone(READER)) || !shape.keeps(Rule::ReaderSession))
            && self.unmet(self.needs[t], self.there & PACKS, self.there & RELOCATIONS) != 0
        {
            return Some("a reader with a live session has lost frames");
        }
        self.observer.alarm().then_some("an observer reports a snapshot as missing that is not")
    }
}

/// What is old enough for somebody that no listing of his is wrong about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Waited {
    made: u64,
    gone: u64,
}

impl Waited {
    /// Waits out the store's bound. What is made or deleted while one waits may still be listed wrongly.
    pub(crate) fn wait(&mut self, world: &World) {
        self.made = world.fresh;
        self.gone = world.ghost;
    }
}

/// The possible answers to a request for a listing.
#[derive(Debug)]
pub(crate) struct Listings {
    base: u64,
    optional: u64,
    next: Option<u64>,
}

impl Iterator for Listings {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let subset = self.next?;
        let following = (subset | !self.optional).wrapping_add(1) & self.optional;
        self.next = (following != 0).then_some(following);
        Some(self.base | subset)
    }
}

/// Names of objects, for people.
pub(crate) fn names(objects: u64) -> String {
    let names: Vec<_> = NAMES.iter().enumerate().filter(|(bit, _)| objects & 1 << bit != 0).map(|(_, name)| *name).collect();
    names.join(", ")
}

/// A step: who, what, and what it was done to or what was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) who: &'static str,
    pub(crate) what: &'static str,
    pub(crate) objects: u64,
}

/// The states that can follow a state.
pub(crate) struct Next<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) worlds: Vec<(Step, World)>,
}

impl World {
    pub(crate) fn next(&self, next: &mut Next<'_>) {
        for i in 0..WRITERS {
            self.writer_steps(i, next);
        }
        for j in 0..COLLECTORS {
            self.collector_steps(j, next);
        }
        self.reader_steps(next);
        self.forgetter_steps(next);
        self.observer_steps(next);
    }
}
