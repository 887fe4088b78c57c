//! A run of garbage collection: mark, copy, condemn, gate, list again, rescue, settle, sweep, clean.

use crate::shape::{Rule, Shape};
use crate::world::{
    A, COLLECTORS, EPOCHS, F0B, F0D, F0X, Frames, Needs, Next, PACKS, RELOCATIONS, SESSION_COUNT, SESSIONS, SNAPSHOT_COUNT, SNAPSHOTS,
    Step, WRITERS, Waited, World, b, closed, each, f, f1x, frame_of, listed_snapshots, r, relocation, session, session_of_snapshot,
    snapshot, tombstone, w, withdrawn,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Away,
    Begin,
    PublishSession,
    MarkPacks,
    MarkSessions,
    MarkSnapshots,
    Copy,
    Relocate,
    Publish,
    WaitBeforeGate,
    Gate,
    GiveUp,
    WaitBeforeRelist,
    Relist,
    ReadEpochs,
    RelistPacks,
    WaitBeforeMissing,
    Rescue,
    Settle,
    Sweep,
    Clean,
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Plan {
    None,
    Repack,
    Reframe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Collector {
    at: At,
    /// The newest epoch that it knows; after it published its own, that.
    epoch: u8,
    /// Whether it published an epoch. If not, it finishes the sweeps of others.
    has_own: bool,
    plan: Plan,
    /// Packs: listed, then to be condemned, then to be deleted.
    packs: u16,
    /// Sessions that are open; then the one that is to be given up.
    open: u8,
    /// Withdrawals seen while marking.
    withdrawn: u8,
    /// Snapshots listed before the sweep.
    snapshots: u8,
    /// The newest epoch known when frames are looked for.
    known: u8,
    /// Whether nothing is called missing any more only because a listing is stale.
    looked_twice: bool,
    rescue: Frames,
    /// Suspect snapshots found complete, and found incomplete.
    complete: u8,
    incomplete: u8,
    waited: Waited,
}

impl Collector {
    pub(crate) fn new(takes_part: bool) -> Self {
        Self {
            at: if takes_part { At::Begin } else { At::Away },
            epoch: 0,
            has_own: false,
            plan: Plan::None,
            packs: 0,
            open: 0,
            withdrawn: 0,
            snapshots: 0,
            known: 0,
            looked_twice: false,
            rescue: 0,
            complete: 0,
            incomplete: 0,
            waited: Waited::default(),
        }
    }

    /// What no longer matters is forgotten, so that states that differ in nothing else are one.
    fn move_to(&mut self, at: At) {
        self.at = at;
        if at == At::Close {
            *self = Self { at, ..Self::new(true) };
        }
    }
}

const WHO: [&str; COLLECTORS] = ["collector 0", "collector 1"];

/// Whose session wrote a pack.
fn writer_of(pack: u64) -> Option<usize> {
    let writers = (0..WRITERS).find(|i| pack == w(*i));
    writers.or_else(|| (0..COLLECTORS).find(|j| pack & (b(*j) | f(*j) | r(*j)) != 0).map(|j| WRITERS + j))
}

fn each_pack(packs: u64) -> impl Iterator<Item = u64> {
    (0..9).map(|bit| 1 << bit).filter(move |pack| packs & pack != 0)
}

fn bits(count: usize, is: impl Fn(usize) -> bool) -> u8 {
    (0..count).filter(|i| is(*i)).fold(0, |all, i| all | 1 << i)
}

/// Takes a step: what it is, what it concerns, what it changes.
type Go<'a> = &'a mut dyn FnMut(&'static str, u64, At, &dyn Fn(&mut World));

impl World {
    pub(crate) fn collector_steps(&self, j: usize, next: &mut Next<'_>) {
        let shape = next.shape;
        let me = self.collectors[j];
        let mut go = |what: &'static str, objects: u64, at: At, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            world.collectors[j].move_to(at);
            next.worlds.push((Step { who: WHO[j], what, objects }, world));
        };
        match me.at {
            At::Away => {}
            At::Begin | At::PublishSession | At::MarkPacks | At::MarkSessions | At::MarkSnapshots => self.mark(shape, j, &mut go),
            At::Copy | At::Relocate | At::Publish => self.condemn(shape, j, &mut go),
            At::WaitBeforeGate => go("waits out the store's bound", 0, At::Gate, &|world| world.collectors[j].waited.wait(self)),
            At::Gate => self.gate(shape, j, &mut go),
            At::GiveUp => {
                let given_up = tombstone(me.open.trailing_zeros() as usize);
                go("gives it up", given_up, At::Gate, &|world| {
                    world.put(shape, given_up);
                    world.collectors[j].open = 0;
                });
            }
            At::WaitBeforeRelist => go("waits out the store's bound", 0, At::Relist, &|world| world.collectors[j].waited.wait(self)),
            At::Relist => self.relist(shape, j, &mut go),
            At::ReadEpochs => go("reads the epochs", 0, At::RelistPacks, &|world| world.collectors[j].known = self.epochs),
            At::RelistPacks => self.relist_packs(shape, j, &mut go),
            At::WaitBeforeMissing => go("misses a frame and waits out the store's bound", 0, At::ReadEpochs, &|world| {
                world.collectors[j].waited.wait(self);
                world.collectors[j].looked_twice = true;
            }),
            At::Rescue => self.rescue(shape, j, &mut go),
            At::Settle => self.settle(shape, j, &mut go),
            At::Sweep => match each_pack(me.packs.into()).next() {
                Some(pack) => go("deletes a pack", pack, At::Sweep, &|world| {
                    world.delete(shape, pack);
                    world.collectors[j].packs &= !(pack as u16);
                }),
                None => self.after_sweep(shape, j, &mut go),
            },
            At::Clean => self.clean(shape, j, &mut go),
            At::Close => go("closes its session", closed(WRITERS + j), At::Away, &|world| world.close(shape, WRITERS + j, false)),
        }
    }

    fn mark(&self, shape: &Shape, j: usize, go: Go<'_>) {
        let me = self.collectors[j];
        match me.at {
            At::Begin => go("reads the newest epoch", 0, At::PublishSession, &|world| world.collectors[j].epoch = self.epochs),
            At::PublishSession => go("publishes its session", 0, At::MarkPacks, &|world| world.open_session(shape, WRITERS + j, me.epoch)),
            At::MarkPacks => {
                for listed in self.listings(PACKS, me.waited) {
                    go("marks: lists packs", listed, At::MarkSessions, &|world| world.collectors[j].packs = listed as u16);
                }
            }
            At::MarkSessions => {
                for listed in self.listings(SESSIONS, me.waited) {
                    let open = bits(SESSION_COUNT, |k| listed & session(k) != 0 && !self.is_over(k));
                    go("marks: lists open sessions", listed, At::MarkSnapshots, &|world| world.collectors[j].open = open);
                }
            }
            _ => {
                for listed in self.listings(SNAPSHOTS, me.waited) {
                    self.plan(shape, j, listed, go);
                }
            }
        }
    }

    /// What snapshots need that are not withdrawn.
    fn live(&self, shape: &Shape, listed: u64, withdrawn: u8) -> Needs {
        let counts = |t: &usize| withdrawn & 1 << t == 0 && (shape.keeps(Rule::ProtectSuspects) || self.is_named(*t));
        listed_snapshots(listed).filter(counts).fold(0, |all, t| all | self.needs[t])
    }

    /// What of `needs` is not in `packs`, as a collector sees it.
    fn unmet_as_seen(&self, shape: &Shape, needs: Needs, packs: u64) -> Needs {
        let relocations = self.there & RELOCATIONS;
        let mut unmet = self.unmet(needs, packs, relocations);
        if !shape.keeps(Rule::RelocationFound) && relocations != 0 {
            unmet &= !F0X;
        }
        if !shape.keeps(Rule::RelocationByChunk) && unmet & F0D != 0 && self.unmet(F0X, packs, relocations) == 0 {
            unmet &= !F0D;
        }
        if !shape.keeps(Rule::BaseStands) && unmet & F0B != 0 && self.unmet(F0X, packs, relocations) == 0 {
            unmet &= !F0B;
        }
        unmet
    }

    /// Which packs to condemn, and what to copy before that: any of several plans.
    fn plan(&self, shape: &Shape, j: usize, listed: u64, go: Go<'_>) {
        let me = self.collectors[j];
        let seen = bits(SNAPSHOT_COUNT, |t| self.has(withdrawn(t)));
        let live = self.live(shape, listed, seen);
        let good = u64::from(me.packs) & !self.condemned_until(me.epoch);
        let may_go: u64 = each_pack(good).filter(|pack| writer_of(*pack).is_none_or(|k| me.open & 1 << k == 0)).sum();
        let relocated = |pack| each(live).any(|need| need == F0X && (0..COLLECTORS).any(|j| pack == f(j) && self.has(relocation(j))));
        let serves = |pack| relocated(pack) || each(live).any(|need| self.frames_in(pack) & frame_of(need) != 0);
        let dead: u64 = each_pack(may_go).filter(|pack| !serves(*pack)).sum();
        let mut choose = |what, plan, condemn: u64, at| {
            go(what, condemn, at, &|world| {
                let me = &mut world.collectors[j];
                me.plan = plan;
                me.packs = condemn as u16;
                me.withdrawn = seen;
                me.open = 0;
            });
        };
        if (me.epoch as usize) < EPOCHS {
            // Where nothing is dead, an empty epoch still lets sessions be given up and withdrawals take effect.
            if dead != 0 || shape.empty_epochs {
                choose("marks: condemns what is dead", Plan::None, dead, At::Publish);
            }
            for pack in each_pack(may_go & !dead) {
                if self.unmet_as_seen(shape, live, good & !dead & !pack) == 0 {
                    choose("marks: condemns a double as well", Plan::None, dead | pack, At::Publish);
                }
            }
            if may_go & !dead & A != 0 {
                if shape.repack {
                    choose("marks: repacks", Plan::Repack, dead | A, At::Copy);
                }
                if shape.reframe && live & (F0X | F0D | F0B) == F0X {
                    choose("marks: reframes", Plan::Reframe, dead | A, At::Copy);
                }
            }
        }
        match me.epoch {
            0 => go("marks: nothing to do", 0, At::Close, &|_| {}),
            _ => choose("marks: finishes the sweeps of others", Plan::None, 0, self.before_gate(shape)),
        }
    }

    fn before_gate(&self, shape: &Shape) -> At {
        match (shape.keeps(Rule::Gate), shape.stale && shape.keeps(Rule::WaitBeforeGate)) {
            (false, _) => self.before_relist(shape),
            (true, true) => At::WaitBeforeGate,
            (true, false) => At::Gate,
        }
    }

    fn before_relist(&self, shape: &Shape) -> At {
        if shape.stale && shape.keeps(Rule::WaitBeforeRelist) { At::WaitBeforeRelist } else { At::Relist }
    }

    fn condemn(&self, shape: &Shape, j: usize, go: Go<'_>) {
        let me = self.collectors[j];
        match me.at {
            At::Copy if !self.has(A) => go("cannot copy: the pack is gone", A, At::Close, &|_| {}),
            At::Copy => match me.plan {
                Plan::Reframe => go("writes a re-made frame", f(j), At::Relocate, &|world| world.put(shape, f(j))),
                _ => go("copies a pack", b(j), At::Publish, &|world| world.put(shape, b(j))),
            },
            At::Relocate => go("publishes a relocation", relocation(j), At::Publish, &|world| world.put(shape, relocation(j))),
            _ if self.epochs != me.epoch && shape.keeps(Rule::EpochOnce) => {
                go("finds that the epoch exists", 0, At::Close, &|_| {});
            }
            _ => {
                let at = if shape.keeps(Rule::MarkerStays) { self.before_gate(shape) } else { At::Clean };
                let publish = |world: &mut World, epoch: u8, has_own: bool| {
                    world.epochs = world.epochs.max(me.epoch + 1);
                    world.condemned[me.epoch as usize] = me.packs;
                    world.collectors[j] = Collector { epoch, has_own, packs: 0, plan: Plan::None, ..me };
                };
                go("publishes an epoch", me.packs.into(), at, &|world| publish(world, me.epoch + 1, true));
                if me.epoch > 0 {
                    // The gate of its own epoch may stay shut for long. Until it opens, sweeps of older ones go on, around withdrawn snapshots, too.
                    let has_own = !shape.keeps(Rule::GateOfNewest);
                    go("publishes an epoch and goes on with the one before", me.packs.into(), at, &|world| {
                        publish(world, me.epoch, has_own);
                    });
                }
            }
        }
    }

    fn gate(&self, shape: &Shape, j: usize, go: Go<'_>) {
        let me = self.collectors[j];
        for listed in self.listings(SESSIONS, me.waited) {
            let is_old =
                |k: &usize| listed & session(*k) != 0 && self.session_epoch[*k] < me.epoch && !self.is_over(*k) && *k != WRITERS + j;
            let old: Vec<_> = (0..SESSION_COUNT).filter(is_old).collect();
            if old.is_empty() {
                go("passes the gate", listed, self.before_relist(shape), &|world| {
                    if !shape.keeps(Rule::PacksAfterSnapshots) {
                        world.collectors[j].packs = (self.there & PACKS) as u16;
                    }
                });
            }
            for k in old {
                // Looking and giving up are two requests: the session may close in between.
                go("takes a session for dead", session(k), At::GiveUp, &|world| world.collectors[j].open = 1 << k);
            }
        }
    }

    fn relist(&self, shape: &Shape, j: usize, go: Go<'_>) {
        let me = self.collectors[j];
        if !shape.keeps(Rule::Relist) {
            let packs = self.there & PACKS & self.condemned_until(me.epoch);
            return go("does not list snapshots again", packs, At::Sweep, &|world| world.collectors[j].packs = packs as u16);
        }
        for listed in self.listings(SNAPSHOTS, me.waited) {
            let at = if shape.keeps(Rule::SettleByNewEpochs) { At::ReadEpochs } else { At::RelistPacks };
            go("lists snapshots again", listed, at, &|world| {
                let collector = &mut world.collectors[j];
                collector.snapshots = bits(SNAPSHOT_COUNT, |t| listed & snapshot(t) != 0);
                collector.known = me.epoch;
                collector.looked_twice = !(shape.stale && shape.keeps(Rule::WaitBeforeMissing));
                if !shape.keeps(Rule::WithdrawalNextEpoch) {
                    collector.withdrawn = bits(SNAPSHOT_COUNT, |t| self.has(withdrawn(t)));
                } else if !me.has_own {
                    // Which withdrawals are older than the epoch it cannot know, so all snapshots that are there are swept around.
                    collector.withdrawn = 0;
                }
            });
        }
    }

    /// Decides what is rescued, which suspects are complete, and what is deleted.
    fn relist_packs(&self, shape: &Shape, j: usize, go: Go<'_>) {
        let me = self.collectors[j];
        let is_listed = |t: usize| me.snapshots & 1 << t != 0;
        let live = self.live(shape, (0..SNAPSHOT_COUNT).filter(|t| is_listed(*t)).map(snapshot).sum(), me.withdrawn);
        for listed in self.listings(PACKS, me.waited) {
            let listed = if shape.keeps(Rule::PacksAfterSnapshots) { listed } else { me.packs.into() };
            let mine = listed & self.condemned_until(me.epoch);
            let good = listed & !self.condemned_until(me.known);
            let unmet = match shape.keeps(Rule::CopyNotCondemned) {
                true => self.unmet_as_seen(shape, live, good),
                false => each_pack(mine).fold(0, |all, pack| all | self.unmet_as_seen(shape, live, listed & !pack)),
            };
            let there = self.frames_in(listed);
            let rescue = each(unmet).fold(0, |all, need| {
                let direct = frame_of(need) & there;
                let relocated =
                    || (0..COLLECTORS).filter(|j| need == F0X && self.has(relocation(*j))).map(|j| frame_of(f1x(j)) & there).max();
                all | if direct == 0 { relocated().unwrap_or(0) } else { direct }
            });
            let is_suspect = |t: usize| {
                let k = session_of_snapshot(t);
                is_listed(t) && self.has(tombstone(k)) && !self.has(closed(k)) && !self.has(withdrawn(t))
            };
            let is_complete = |t: usize| self.unmet_with(self.needs[t], good, rescue) == 0;
            let complete = bits(SNAPSHOT_COUNT, |t| is_suspect(t) && is_complete(t));
            let incomplete = bits(SNAPSHOT_COUNT, |t| is_suspect(t) && !is_complete(t));
            let is_misled = self.unmet(live, listed, self.there & RELOCATIONS) != 0;
            if (incomplete != 0 || is_misled) && !me.looked_twice {
                go("misses a frame in the listing", listed, At::WaitBeforeMissing, &|_| {});
                continue;
            }
            let uncondemns = !shape.keeps(Rule::CondemnedForEver);
            let kept: u64 = if uncondemns { each_pack(mine).filter(|pack| self.frames_in(*pack) & rescue != 0).sum() } else { 0 };
            go("lists packs and decides", mine & !kept, if rescue == 0 { At::Settle } else { At::Rescue }, &|world| {
                if uncondemns && rescue != 0 {
                    world.condemned.iter_mut().for_each(|condemned| *condemned &= !(kept as u16));
                }
                let me = &mut world.collectors[j];
                me.packs = (mine & !kept) as u16;
                me.rescue = if uncondemns { 0 } else { rescue };
                me.complete = complete;
                me.incomplete = incomplete;
                (me.snapshots, me.known, me.waited, me.looked_twice) = (0, 0, Waited::default(), false);
            });
        }
    }

    /// As `unmet`, with some frames more.
    fn unmet_with(&self, needs: Needs, packs: u64, frames: Frames) -> Needs {
        let unmet = self.unmet(needs, packs, self.there & RELOCATIONS);
        let relocated = (0..COLLECTORS).any(|j| self.has(relocation(j)) && frames & frame_of(f1x(j)) != 0);
        each(unmet).filter(|need| frames & frame_of(*need) == 0 && !(*need == F0X && relocated)).fold(0, |all, need| all | need)
    }

    fn rescue(&self, shape: &Shape, j: usize, go: Go<'_>) {
        let me = self.collectors[j];
        match me.rescue {
            0 => go("takes packs off the condemned ones", 0, At::Settle, &|_| {}),
            frames if self.frames_in(self.there & PACKS) & frames != frames => go("cannot rescue: a frame is gone", 0, At::Close, &|_| {}),
            frames => go("rescues frames by copying them", r(j), At::Settle, &|world| {
                world.put(shape, r(j));
                world.rescued[j] = frames;
                world.collectors[j].rescue = 0;
            }),
        }
    }

    fn settle(&self, shape: &Shape, j: usize, go: Go<'_>) {
        let me = self.collectors[j];
        let first = (0..SNAPSHOT_COUNT).find(|t| (me.complete | me.incomplete) & 1 << t != 0);
        match first {
            Some(t) if me.complete & 1 << t != 0 => {
                go("settles a suspect: complete", closed(session_of_snapshot(t)), At::Settle, &|world| {
                    world.close(shape, session_of_snapshot(t), true);
                    world.collectors[j].complete &= !(1 << t);
                });
            }
            Some(t) => go("settles a suspect: incomplete", withdrawn(t), At::Settle, &|world| {
                world.put(shape, withdrawn(t));
                world.collectors[j].incomplete &= !(1 << t);
            }),
            None => match each_pack(me.packs.into()).next() {
                Some(pack) => go("deletes a pack", pack, At::Sweep, &|world| {
                    world.delete(shape, pack);
                    world.collectors[j].packs &= !(pack as u16);
                }),
                None => self.after_sweep(shape, j, go),
            },
        }
    }

    fn after_sweep(&self, shape: &Shape, j: usize, go: Go<'_>) {
        let me = self.collectors[j];
        go("has swept", 0, if me.has_own && shape.keeps(Rule::MarkerStays) { At::Clean } else { At::Close }, &|world| {
            if !shape.keeps(Rule::EpochsStay) {
                for condemned in &mut world.condemned[..me.epoch as usize] {
                    *condemned &= (self.there & PACKS) as u16;
                }
            }
            // Of a session that was given up and published nothing nothing stays, the session going first.
            let is_empty = |i: &usize| !self.has(snapshot(1 + i) | closed(*i) | withdrawn(1 + i)) && self.has(tombstone(*i));
            for i in (0..WRITERS).filter(is_empty).filter(|_| me.has_own) {
                world.delete(shape, session(i));
                world.delete(shape, tombstone(i));
            }
        });
    }

    /// Removes what was withdrawn before this epoch.
    fn clean(&self, shape: &Shape, j: usize, go: Go<'_>) {
        let me = self.collectors[j];
        let done = if shape.keeps(Rule::MarkerStays) { At::Close } else { self.before_gate(shape) };
        let Some(t) = (0..SNAPSHOT_COUNT).find(|t| me.withdrawn & 1 << t != 0) else {
            return go("has cleaned", 0, done, &|_| {});
        };
        let k = session_of_snapshot(t);
        let stays = self.has(tombstone(k)) && shape.keeps(Rule::EndsStay);
        let objects = [snapshot(t), closed(k), withdrawn(t)];
        let first = objects.into_iter().take(if stays { 1 } else { 3 }).find(|object| self.has(*object));
        match first {
            Some(object) if object != withdrawn(t) => {
                go("cleans up after a withdrawal", object, At::Clean, &|world| world.delete(shape, object))
            }
            last => go("cleans up after a withdrawal", last.unwrap_or(0), At::Clean, &|world| {
                world.delete(shape, last.unwrap_or(0));
                world.collectors[j].withdrawn &= !(1 << t);
            }),
        }
    }
}
