//! What slow functions gave is remembered, so that a simulation computes it once: signatures, and what was sealed to a public key.
//!
//! What they give depends on what goes in and on nothing else, so remembering changes nothing but the time. A signature that was made here
//! is known to be right. Only tests are built with this, and only a thread that asks for it remembers.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Results after which the older ones are forgotten that were not asked for since.
const RESULTS_MAX: usize = 16_384;

/// Results by all that decides them.
type Results = HashMap<Box<[u8]>, Box<dyn Any>, BuildHasherDefault<Words>>;

#[derive(Debug, Default)]
struct Memory {
    young: Results,
    old: Results,
    /// What is asked for.
    question: Vec<u8>,
}

thread_local! {
    /// `None` where nothing is remembered.
    static MEMORY: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

/// From now on this thread remembers.
pub fn remember() {
    MEMORY.with_borrow_mut(|memory| {
        memory.get_or_insert_default();
    });
}

/// What `compute` gives, which `what` and `input` alone decide.
pub(super) fn remembered<T: Clone + 'static>(what: &str, input: &[&[u8]], compute: impl FnOnce() -> T) -> T {
    let known = MEMORY.with_borrow_mut(|memory| memory.as_mut()?.find(what, input)?.downcast_ref::<T>().cloned());
    known.unwrap_or_else(|| {
        let result = compute();
        note(what, input, || result.clone());
        result
    })
}

/// Remembers what would be computed.
pub(super) fn note<T: 'static>(what: &str, input: &[&[u8]], result: impl FnOnce() -> T) {
    MEMORY.with_borrow_mut(|memory| {
        if let Some(memory) = memory {
            memory.ask(what, input);
            memory.keep(Box::new(result()));
        }
    });
}

impl Memory {
    fn ask(&mut self, what: &str, input: &[&[u8]]) {
        self.question.clear();
        for piece in [what.as_bytes()].iter().chain(input) {
            self.question.extend_from_slice(piece);
            self.question.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        }
    }

    fn find(&mut self, what: &str, input: &[&[u8]]) -> Option<&dyn Any> {
        self.ask(what, input);
        if let Some(result) = self.old.remove(&self.question[..]) {
            self.keep(result);
        }
        self.young.get(&self.question[..]).map(|result| &**result)
    }

    fn keep(&mut self, result: Box<dyn Any>) {
        if self.young.len() >= RESULTS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(self.question[..].into(), result);
    }
}

/// A quick hash of inputs that nobody chooses to do harm.
#[derive(Debug, Default)]
struct Words(u64);

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut whole = [0; 8];
            whole[..word.len()].copy_from_slice(word);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(whole)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Secret, Signer, public_key_of, unwrap, verify, wrap};
    use crate::runtime::SeededEntropy;

    #[test]
    fn what_is_remembered_is_what_would_be_computed() {
        let seed = Secret::new([3; 32]);
        let all = || {
            let signer = Signer::new(&seed);
            let signature = signer.sign("context", b"bytes");
            let of = |context, bytes| verify(&signer.verifying_key(), context, bytes, &signature);
            let public_key = public_key_of(&seed);
            let (encapsulated, sealed) = wrap(&public_key, b"info", b"secret", &SeededEntropy::new(1)).unwrap();
            let opened = [b"info", b"else"].map(|info| unwrap(&seed, info, &encapsulated, &sealed));
            (signature, of("context", b"bytes"), of("context", b"other"), of("contextb", b"ytes"), public_key, opened)
        };
        let computed = all();
        assert_eq!((computed.1, computed.2), (true, false));
        assert_eq!(computed.5, [Some(b"secret".to_vec()), None]);
        remember();
        assert_eq!(all(), computed, "while it is learnt");
        assert_eq!(all(), computed, "while it is known");
        for number in 0..3 * RESULTS_MAX as u64 {
            assert_eq!(remembered("number", &[&number.to_le_bytes()], || number), number);
        }
        assert_eq!(remembered("number", &[&(3 * RESULTS_MAX as u64 - 1).to_le_bytes()], || 0), 3 * RESULTS_MAX as u64 - 1);
        assert_eq!(remembered("number", &[&0_u64.to_le_bytes()], || 7), 7, "forgotten");
        assert!(
            MEMORY.with_borrow(|memory| memory.as_ref().is_some_and(|memory| memory.young.len() + memory.old.len() <= 2 * RESULTS_MAX))
        );
    }
}
