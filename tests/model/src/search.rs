//! Breadth-first search over all states, remembering a fingerprint of each.

use crate::shape::Shape;
use crate::world::{Next, Step, World, names};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is ever lost.
    Safe,
    /// Something is lost.
    Lost(&'static str),
    /// More states than were allowed; nothing was lost in those that were visited.
    TooMany,
}

/// A search that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// What it found.
    pub outcome: Outcome,
    /// States visited.
    pub states: usize,
    /// Steps from the start to the farthest state visited.
    pub depth: usize,
}

/// Multiplies and folds; two lanes make 64 bits that are as good as random for a few hundred million states.
#[derive(Default)]
struct Fingerprint(u64);

impl Fingerprint {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_a076_1d64_78bd_642f_u128 as u64 as u128;
        self.0 = (product as u64).rotate_left(23) ^ (product >> 64) as u64;
    }
}

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        let mut last = Self(self.0);
        last.mix(0x5851_f42d_4c95_7f2d);
        last.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.mix(u64::from_le_bytes(word) ^ (piece.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.mix(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }
}

/// Fingerprints need no hashing.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = Fingerprint::default();
    world.hash(&mut hasher);
    hasher.finish()
}

/// Visits at most `states_max` states, nearest first.
pub fn search(shape: &Shape, states_max: usize) -> Search {
    run(shape, states_max, &mut |_, _, _| {}).0
}

fn run(shape: &Shape, states_max: usize, saw: &mut dyn FnMut(u64, u64, Step)) -> (Search, u64) {
    let start = World::start(shape);
    let mut seen: HashSet<u64, BuildHasherDefault<Same>> = HashSet::default();
    seen.insert(fingerprint(&start));
    let mut layer = vec![start];
    let mut depth = 0;
    let mut next = Next { shape, worlds: Vec::new() };
    loop {
        let mut following = Vec::new();
        for world in layer {
            world.next(&mut next);
            for (step, after) in next.worlds.drain(..) {
                let print = fingerprint(&after);
                if !seen.insert(print) {
                    continue;
                }
                saw(fingerprint(&world), print, step);
                let found = after.loss(shape).map(Outcome::Lost);
                let found = found.or_else(|| (seen.len() >= states_max).then_some(Outcome::TooMany));
                if let Some(outcome) = found {
                    return (Search { outcome, states: seen.len(), depth: depth + 1 }, print);
                }
                following.push(after);
            }
        }
        if following.is_empty() {
            return (Search { outcome: Outcome::Safe, states: seen.len(), depth }, 0);
        }
        depth += 1;
        layer = following;
    }
}

/// The steps of a shortest way to lose something, one a line.
pub fn trace(shape: &Shape, states_max: usize) -> String {
    let mut before: HashMap<u64, (u64, Step)> = HashMap::new();
    let (search, mut at) = run(shape, states_max, &mut |from, to, step| {
        before.insert(to, (from, step));
    });
    let mut steps = Vec::new();
    while let Some((from, step)) = before.get(&at) {
        let objects = names(step.objects);
        let separator = if objects.is_empty() { "" } else { ": " };
        steps.push(format!("{:12} {}{separator}{objects}", step.who, step.what));
        at = *from;
    }
    steps.reverse();
    format!("{}\n=> {:?}", steps.join("\n"), search.outcome)
}
