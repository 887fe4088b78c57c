//! A restore, a forget, and somebody who looks for missing snapshots.

use crate::shape::Rule;
use crate::world::{
    CLOSED, Next, PACKS, READER, RELOCATIONS, SNAPSHOT_COUNT, SNAPSHOTS, Step, WITHDRAWN, Waited, World, closed, session_of_snapshot,
    snapshot, withdrawn,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ReaderAt {
    Away,
    Begin,
    ReadEpoch,
    PublishSession,
    RereadEpoch,
    Reread,
    ReadEpochs,
    FindFrames,
    Reading,
    Close,
}

/// Restores a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    at: ReaderAt,
    snapshot: u8,
    epoch: u8,
}

impl Reader {
    pub(crate) fn new(takes_part: bool) -> Self {
        Self { at: if takes_part { ReaderAt::Begin } else { ReaderAt::Away }, snapshot: 0, epoch: 0 }
    }

    /// Which snapshot is being restored.
    pub(crate) fn reads(&self) -> Option<usize> {
        (self.at == ReaderAt::Reading).then_some(self.snapshot as usize)
    }
}

/// Forgets snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Forgetter {
    left: u8,
    /// The snapshot at hand, and what is done about it: 1 delete the snapshot, 2 delete `closed/`, 3 publish `withdrawn/`.
    work: Option<(u8, u8)>,
}

impl Forgetter {
    pub(crate) fn new(left: u8) -> Self {
        Self { left, work: None }
    }
}

/// Lists snapshots as somebody who looks for damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Observer {
    at: u8,
    named: u8,
    listed: u8,
}

const AWAY: u8 = 9;
const ALARM: u8 = 8;

impl Observer {
    pub(crate) fn new(takes_part: bool) -> Self {
        Self { at: if takes_part { 0 } else { AWAY }, named: 0, listed: 0 }
    }

    pub(crate) fn alarm(&self) -> bool {
        self.at == ALARM
    }
}

impl World {
    pub(crate) fn reader_steps(&self, next: &mut Next<'_>) {
        let shape = next.shape;
        let me = self.reader;
        let t = me.snapshot as usize;
        let mut go = |what, objects, at, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            world.reader.at = at;
            change(&mut world);
            next.worlds.push((Step { who: "reader", what, objects }, world));
        };
        match me.at {
            ReaderAt::Away => {}
            ReaderAt::Begin => {
                for t in (0..SNAPSHOT_COUNT).filter(|t| self.has(snapshot(*t)) && !self.has(withdrawn(*t))) {
                    let at = if shape.keeps(Rule::ReaderSession) { ReaderAt::ReadEpoch } else { ReaderAt::Reread };
                    go("chooses a snapshot", snapshot(t), at, &|world| world.reader.snapshot = t as u8);
                }
            }
            ReaderAt::ReadEpoch => go("reads the newest epoch", 0, ReaderAt::PublishSession, &|world| world.reader.epoch = self.epochs),
            ReaderAt::PublishSession => {
                go("publishes its session", 0, ReaderAt::RereadEpoch, &|world| world.open_session(shape, READER, me.epoch));
            }
            ReaderAt::RereadEpoch => match self.epochs == me.epoch {
                true => go("reads the newest epoch again: the same", 0, ReaderAt::Reread, &|_| {}),
                false => go("reads the newest epoch again: it moved", 0, ReaderAt::Close, &|_| {}),
            },
            ReaderAt::Reread => {
                if shape.keeps(Rule::ReaderReread) && (!self.has(snapshot(t)) || self.has(withdrawn(t))) {
                    go("finds that the snapshot is gone", snapshot(t), ReaderAt::Close, &|_| {});
                } else if self.is_named(t) {
                    go("restores", snapshot(t), ReaderAt::Reading, &|_| {});
                } else {
                    go("finds that the snapshot is suspect", snapshot(t), ReaderAt::ReadEpochs, &|_| {});
                }
            }
            ReaderAt::ReadEpochs => go("reads the epochs", 0, ReaderAt::FindFrames, &|world| world.reader.epoch = self.epochs),
            ReaderAt::FindFrames => {
                for listed in self.listings(PACKS, Waited::default()) {
                    let condemned = if shape.keeps(Rule::ReaderByUncondemned) { self.condemned_until(me.epoch) } else { 0 };
                    match self.unmet(self.needs[t], listed & !condemned, self.there & RELOCATIONS) == 0 {
                        true if self.unmet(self.needs[t], self.there & PACKS, self.there & RELOCATIONS) == 0 => {
                            go("finds all frames and restores", listed, ReaderAt::Reading, &|_| {});
                        }
                        _ => go("does not find all frames", listed, ReaderAt::Close, &|_| {}),
                    }
                }
            }
            ReaderAt::Reading => go("ends", 0, ReaderAt::Close, &|_| {}),
            ReaderAt::Close => go("closes its session", 0, ReaderAt::Away, &|world| world.close(shape, READER, false)),
        }
    }

    pub(crate) fn forgetter_steps(&self, next: &mut Next<'_>) {
        let shape = next.shape;
        let at_once = !shape.keeps(Rule::WithdrawalNextEpoch);
        let mut go = |what, objects, work: Option<(u8, u8)>, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            world.forgetter.work = work;
            change(&mut world);
            next.worlds.push((Step { who: "forget", what, objects }, world));
        };
        let publish = |world: &mut World, t: usize| world.put(shape, withdrawn(t));
        match self.forgetter.work {
            None if self.forgetter.left > 0 => {
                // A suspect snapshot is refused.
                for t in (0..SNAPSHOT_COUNT).filter(|t| self.has(snapshot(*t)) && self.is_named(*t) && !self.has(withdrawn(*t))) {
                    let begin = |world: &mut World| {
                        world.forgetter.left -= 1;
                        world.promised &= !(1 << t);
                    };
                    match shape.keeps(Rule::WithdrawnFirst) {
                        true => go("publishes a withdrawal", withdrawn(t), at_once.then_some((t as u8, 1)), &|world| {
                            begin(world);
                            publish(world, t);
                        }),
                        false => go("deletes a snapshot", snapshot(t), Some((t as u8, 3)), &|world| {
                            begin(world);
                            world.delete(shape, snapshot(t));
                        }),
                    }
                }
            }
            None => {}
            Some((t, 1)) => {
                go("deletes a snapshot", snapshot(t as usize), Some((t, 2)), &|world| world.delete(shape, snapshot(t as usize)))
            }
            Some((t, 2)) => {
                let object = closed(session_of_snapshot(t as usize));
                go("deletes a `closed/`", object, None, &|world| world.delete(shape, object));
            }
            Some((t, _)) => go("publishes a withdrawal", withdrawn(t as usize), None, &|world| publish(world, t as usize)),
        }
    }

    pub(crate) fn observer_steps(&self, next: &mut Next<'_>) {
        let shape = next.shape;
        let me = self.observer;
        let mut go = |what, objects, to: Observer| {
            let mut world = self.clone();
            world.observer = to;
            next.worlds.push((Step { who: "observer", what, objects }, world));
        };
        let bits = |is: &dyn Fn(usize) -> bool| (0..SNAPSHOT_COUNT).filter(|t| is(*t)).fold(0, |all, t| all | 1u8 << t);
        let list_closed =
            |listed: u64| bits(&|t| listed & closed(session_of_snapshot(t)) != 0 && self.names & 1 << session_of_snapshot(t) != 0);
        let list_snapshots = |listed: u64| bits(&|t| listed & snapshot(t) != 0);
        let nobody = Waited::default();
        let careful = shape.keeps(Rule::AskByName);
        match me.at {
            0 if careful => {
                self.listings(CLOSED, nobody).for_each(|l| go("lists `closed/`", l, Observer { at: 1, named: list_closed(l), ..me }))
            }
            1 if careful => {
                self.listings(SNAPSHOTS, nobody).for_each(|l| go("lists snapshots", l, Observer { at: 2, listed: list_snapshots(l), ..me }))
            }
            0 => {
                self.listings(SNAPSHOTS, nobody).for_each(|l| go("lists snapshots", l, Observer { at: 1, listed: list_snapshots(l), ..me }))
            }
            1 => self.listings(CLOSED, nobody).for_each(|l| go("lists `closed/`", l, Observer { at: 2, named: list_closed(l), ..me })),
            2 => {
                for listed in self.listings(WITHDRAWN, nobody) {
                    let missing = me.named & !me.listed & !bits(&|t| listed & withdrawn(t) != 0);
                    let at = if missing == 0 {
                        AWAY
                    } else if careful {
                        3
                    } else {
                        ALARM
                    };
                    go("lists `withdrawn/`", listed, Observer { at, named: missing, listed: 0 });
                }
            }
            3 => {
                let missing = me.named & !bits(&|t| self.has(snapshot(t)));
                go("asks for missing snapshots by name", 0, Observer { at: if missing == 0 { AWAY } else { 4 }, named: missing, ..me });
            }
            4 => {
                let missing = me.named & !bits(&|t| self.has(withdrawn(t)));
                go("asks for their withdrawals by name", 0, Observer { at: if missing == 0 { AWAY } else { 5 }, named: missing, ..me });
            }
            5 => {
                let missing = me.named & bits(&|t| self.is_named(t));
                go("asks for their `closed/` by name", 0, Observer { at: if missing == 0 { AWAY } else { ALARM }, named: missing, ..me });
            }
            _ => {}
        }
    }
}
