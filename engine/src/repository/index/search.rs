//! Finding a place among sorted things that are spread evenly.

use super::fault::Result;

/// Where among `length` things that run evenly from `first` to `last` something like `key` should stand.
pub(super) fn interpolate(key: u64, first: u64, last: u64, length: u64) -> u64 {
    let share = key.saturating_sub(first) as f64 / last.saturating_sub(first).max(1) as f64;
    (share * length as f64) as u64
}

/// How many of `length` things, sorted, `is_below` holds for; cheap where that is near `guess`.
///
/// Doubling steps from the guess bracket the place, halving finds it: keys that are not spread evenly cost no more than twice a
/// binary search.
pub(super) fn partition_near(length: u64, guess: u64, mut is_below: impl FnMut(u64) -> Result<bool>) -> Result<u64> {
    let (mut low, mut high) = (0, length);
    if length == 0 {
        return Ok(0);
    }
    let mut probe = guess.min(length - 1);
    let mut step = 1;
    let is_ascending = is_below(probe)?;
    let mut is_probe_below = is_ascending;
    loop {
        if is_probe_below {
            low = probe + 1;
        } else {
            high = probe;
        }
        if low >= high || is_probe_below != is_ascending {
            break;
        }
        probe = if is_ascending { (low + step).min(high - 1) } else { high.saturating_sub(1 + step).max(low) };
        step *= 2;
        is_probe_below = is_below(probe)?;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if is_below(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The first eight bytes as a number.
pub(super) fn prefix(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::partition_near;

    #[test]
    fn any_guess_finds_the_place() {
        for length in 0..40u64 {
            for place in 0..=length {
                for guess in [0, 1, place.saturating_sub(1), place, place + 1, length / 2, length, u64::MAX] {
                    let mut probes = 0;
                    let found = partition_near(length, guess, |at| {
                        assert!(at < length);
                        probes += 1;
                        Ok(at < place)
                    });
                    assert_eq!(found.unwrap(), place, "{length} {guess}");
                    assert!(probes <= 13, "{probes} probes");
                }
            }
        }
    }
}
