//! zstd with bytes that come before a frame, in contexts that outlive these bytes: a context costs more to make than a frame of some KiB to carry out.

use zstd::zstd_safe::{CCtx, DCtx, ResetDirective, SafeResult};

/// Compresses `plaintext` into `out` as if `prefix` came before it; gives how many bytes, or zstd's error code.
pub(crate) fn compress_behind(context: &mut CCtx<'static>, prefix: &[u8], plaintext: &[u8], out: &mut [u8]) -> SafeResult {
    // SAFETY: the empty prefix below takes the place of this one before it ends, whatever came of the compression; nothing between unwinds, and nobody
    // else has the context meanwhile.
    let lasting: &'static [u8] = unsafe { std::slice::from_raw_parts(prefix.as_ptr(), prefix.len()) };
    let outcome = context.ref_prefix(lasting).and_then(|_| context.compress2(out, plaintext));
    // A prefix can be changed only between frames, and a compression that failed is still in one.
    let forgotten = context.reset(ResetDirective::SessionOnly).and_then(|_| context.ref_prefix(&[]));
    assert!(forgotten.is_ok(), "zstd keeps a prefix");
    outcome
}

/// Unpacks the frame `bytes` that goes on behind `prefix` into the room of `out`; gives how many bytes, or zstd's error code.
pub(crate) fn decompress_behind(context: &mut DCtx<'static>, prefix: &[u8], bytes: &[u8], out: &mut Vec<u8>) -> SafeResult {
    // SAFETY: as in `compress_behind`.
    let lasting: &'static [u8] = unsafe { std::slice::from_raw_parts(prefix.as_ptr(), prefix.len()) };
    let outcome = context.ref_prefix(lasting).and_then(|_| context.decompress(out, bytes));
    let forgotten = context.reset(ResetDirective::SessionOnly).and_then(|_| context.ref_prefix(&[]));
    assert!(forgotten.is_ok(), "zstd keeps a prefix");
    outcome
}
