//! Sizes as people write and read them: binary units.

use std::num::NonZeroU64;

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// `bytes` with one decimal: `1.5 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut unit = 0;
    let mut value = bytes as f64;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

/// A count with a comma after each third digit.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of things, whose name is given for one of them: `1 pack`, `2 packs`, `2,000 entries`, `2 series`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    match (number, thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        _ if thing.ends_with('s') => format!("{} {thing}", count(number)),
        (_, Some(stem)) => format!("{} {stem}ies", count(number)),
        _ => format!("{} {thing}s", count(number)),
    }
}

/// Reads `10M`, `1.5 GiB`, `4096`; units are binary.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let invalid = || format!("`{text}` is no size; write it as 4096, 10M or 1.5G (units of 1024)");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim().to_ascii_uppercase();
    let letter = unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit);
    let power = UNITS.iter().position(|name| name.trim_end_matches("iB").trim_end_matches('B') == letter).ok_or_else(invalid)?;
    let factor = 1_u64 << (10 * power);
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(factor).ok_or_else(invalid);
    }
    match number.parse::<f64>() {
        Ok(number) if number * (factor as f64) < u64::MAX as f64 => Ok((number * factor as f64) as u64),
        _ => Err(invalid()),
    }
}

/// Reads bytes a second, at least one.
pub(crate) fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(parse(text)?).ok_or_else(|| "a limit of 0 lets nothing through; leave the option out for no limit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_not_several() {
        let told = [(0, "pack"), (1, "pack"), (1234, "pack"), (1, "entry"), (2, "entry"), (5, "series")];
        let told = told.map(|(number, thing)| counted(number, thing));
        assert_eq!(told, ["0 packs", "1 pack", "1,234 packs", "1 entry", "2 entries", "5 series"]);
    }

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("10M", 10 << 20),
            ("10m", 10 << 20),
            ("1.5 GiB", 3 << 29),
            ("2kb", 2048),
            ("7B", 7),
            ("1E", 1 << 60),
        ] {
            assert_eq!(parse(text), Ok(size), "{text}");
        }
        for text in ["", "M", "-1", "1X", "1iB2", "1.2.3", "99E", "1e3"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let shown = [0, 1023, 1024, 1536, (1 << 20) - 1, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "16.0 EiB"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
