//! A backup.

use crate::shape::{Rule, Shape};
use crate::world::{CHUNK_X, Frames};
use crate::world::{
    COLLECTORS, F0B, F0D, F0X, FRAME_0, Needs, Next, PACKS, Step, WRITERS, Waited, World, closed, f1x, frame_of, own, session, snapshot,
    tombstone, w, withdrawn,
};

/// Where a writer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Away,
    Begin,
    PublishSession,
    RereadEpoch,
    LookUp,
    WritePack,
    PublishSnapshot,
    LookForTombstone,
    Withdraw,
    Close,
    GiveUp,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    at: At,
    epoch: u8,
    needs: Needs,
    /// The wanted chunk was not found, so the own frame holds it.
    stores: bool,
    /// The own frame is compressed against `f0`.
    is_delta: bool,
}

impl Writer {
    pub(crate) fn new(takes_part: bool) -> Self {
        Self { at: if takes_part { At::Begin } else { At::Away }, epoch: 0, needs: 0, stores: false, is_delta: false }
    }
}

/// Takes a step: what it is, what it concerns, what it changes.
type Go<'a> = &'a mut dyn FnMut(&'static str, u64, At, &dyn Fn(&mut World));

const WHO: [&str; WRITERS] = ["writer 0", "writer 1"];

impl World {
    pub(crate) fn writer_steps(&self, i: usize, next: &mut Next<'_>) {
        let shape = next.shape;
        let me = self.writers[i];
        let mut go = |what, objects, at, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            world.writers[i].at = at;
            change(&mut world);
            next.worlds.push((Step { who: WHO[i], what, objects }, world));
        };
        let t = 1 + i;
        match me.at {
            At::Away | At::Done => {}
            At::Begin => go("reads the newest epoch", 0, At::PublishSession, &|world| world.writers[i].epoch = self.epochs),
            At::PublishSession => go("publishes its session", 0, At::RereadEpoch, &|world| world.open_session(shape, i, me.epoch)),
            At::RereadEpoch => {
                if self.epochs == me.epoch || !shape.keeps(Rule::RereadEpoch) || (shape.stale && !shape.keeps(Rule::EpochByNumber)) {
                    go("reads the newest epoch again: the same", 0, At::LookUp, &|_| {});
                }
                if self.epochs != me.epoch {
                    go("reads the newest epoch again: it moved", 0, At::GiveUp, &|_| {});
                }
            }
            At::LookUp => self.look_up(shape, i, &mut go),
            At::WritePack => {
                let at = if shape.keeps(Rule::PacksFirst) { At::PublishSnapshot } else { At::Done };
                go("writes its pack", w(i), at, &|world| {
                    world.put(shape, w(i));
                    world.holds[i] = if me.stores { shape.wanted(i) } else { 0 };
                    world.deltas |= u8::from(me.is_delta) << i;
                });
            }
            At::PublishSnapshot => go("publishes its snapshot", snapshot(t), At::LookForTombstone, &|world| {
                world.put(shape, snapshot(t));
                world.needs[t] = me.needs;
            }),
            At::LookForTombstone => {
                let is_given_up = self.has(tombstone(i)) && shape.keeps(Rule::LookForTombstone);
                match is_given_up || !self.has(session(i)) && shape.keeps(Rule::LookForSession) {
                    true => go("finds its tombstone, or its session gone", 0, At::Withdraw, &|_| {}),
                    false => go("finds its session, and no tombstone", 0, At::Close, &|_| {}),
                }
            }
            At::Withdraw => go("withdraws its snapshot", withdrawn(t), At::GiveUp, &|world| world.put(shape, withdrawn(t))),
            At::Close => {
                let at = if shape.keeps(Rule::PacksFirst) { At::Done } else { At::WritePack };
                match self.has(closed(i)) && !self.is_named(t) {
                    true => go("finds that its session was closed without its snapshot", 0, At::Withdraw, &|_| {}),
                    false => go("closes its session and reports success", closed(i), at, &|world| {
                        world.close(shape, i, true);
                        if !world.has(withdrawn(t)) {
                            world.promised |= 1 << t;
                        }
                    }),
                }
            }
            At::GiveUp => go("closes its session without a snapshot", closed(i), At::Done, &|world| world.close(shape, i, false)),
        }
    }

    /// Lists packs and finds the wanted chunk in one of them, or does not.
    fn look_up(&self, shape: &Shape, i: usize, go: Go<'_>) {
        let after = if shape.keeps(Rule::PacksFirst) { At::WritePack } else { At::PublishSnapshot };
        let condemned = match shape.keeps(Rule::AvoidCondemned) {
            true => self.condemned_until(self.writers[i].epoch),
            false => 0,
        };
        let wanted = shape.wanted(i);
        let source_counts = self.has(snapshot(0)) && self.is_named(0) && !self.has(withdrawn(0));
        if shape.subtree && wanted == CHUNK_X && (source_counts || !shape.keeps(Rule::SubtreeSource)) {
            go("takes over a subtree of S without looking its chunks up", 0, after, &|world| world.writers[i].needs = own(i) | F0X);
        }
        if !shape.keeps(Rule::StatCacheLooksUp) {
            go("believes its stat cache", 0, after, &|world| world.writers[i].needs = own(i) | F0X);
        }
        for listed in self.listings(PACKS, Waited::default()) {
            let good = listed & !condemned;
            for place in self.places(shape, wanted, self.frames_in(good)) {
                go("lists packs and finds the chunk", good, after, &|world| world.writers[i].needs = own(i) | place);
            }
            go("lists packs and does not find the chunk", good, after, &|world| {
                world.writers[i].needs = own(i);
                world.writers[i].stores = true;
            });
            if shape.delta && self.frames_in(good) & FRAME_0 != 0 {
                go("lists packs, does not find the chunk, and finds a base", good, after, &|world| {
                    world.writers[i].needs = own(i) | F0B;
                    (world.writers[i].stores, world.writers[i].is_delta) = (true, true);
                });
            }
        }
    }

    /// Where a wanted chunk stands in `frames`.
    fn places(&self, shape: &Shape, chunk: u8, frames: Frames) -> impl Iterator<Item = Needs> {
        let old = [if chunk == CHUNK_X { F0X } else { F0D }].into_iter().filter(move |_| frames & FRAME_0 != 0);
        let made = (0..COLLECTORS).map(f1x).filter(move |need| chunk == CHUNK_X && frames & frame_of(*need) != 0);
        let holds = self.holds;
        let (deltas, looks_for_bases) = (self.deltas, shape.keeps(Rule::DeltaWithBases));
        let is_there = move |i: &usize| {
            let stands = deltas & 1 << i == 0 || frames & FRAME_0 != 0 || !looks_for_bases;
            holds[*i] & chunk != 0 && frames & frame_of(own(*i)) != 0 && stands
        };
        let others = (0..WRITERS).filter(is_there).map(move |i| if deltas & 1 << i != 0 { own(i) | F0B } else { own(i) });
        old.chain(made).chain(others)
    }
}
