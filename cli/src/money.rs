//! Money as people write and read it, in whatever unit they pay in; in between it is counted in millionths.

const UNIT: u64 = 1_000_000;

/// Reads `0.99` or `23`: at most six digits after the point.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let invalid = || format!("`{text}` is no price; write it as 23 or 0.99");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 6 || !is_number(whole) || !is_number(part) || (text.contains('.') && part.is_empty()) {
        return Err(invalid());
    }
    let part: u64 = format!("{part:0<6}").parse().map_err(|_| invalid())?;
    let whole: u64 = whole.parse().map_err(|_| invalid())?;
    whole.checked_mul(UNIT).and_then(|whole| whole.checked_add(part)).ok_or_else(invalid)
}

/// `12.34`; of what is less than a hundredth so much that something is seen.
pub(crate) fn shown(millionths: u64) -> String {
    match millionths {
        0 => "0".into(),
        1..10_000 => format!("0.{millionths:06}").trim_end_matches('0').to_owned(),
        _ => {
            let hundredths = (millionths + 5_000) / 10_000;
            format!("{}.{:02}", hundredths / 100, hundredths % 100)
        }
    }
}

/// A number for JSON.
pub(crate) fn as_number(millionths: u64) -> f64 {
    millionths as f64 / UNIT as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_and_shown() {
        for (text, price) in [("0", 0), ("23", 23_000_000), ("0.99", 990_000), ("0.000001", 1), ("1.5", 1_500_000)] {
            assert_eq!(parse(text), Ok(price), "{text}");
        }
        for text in ["", ".5", "5.", "-1", "1e3", "0.0000001", "1,5", "99999999999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!([0, 1, 1_200, 10_000, 990_000, 12_345_678].map(shown), ["0", "0.000001", "0.0012", "0.01", "0.99", "12.35"]);
    }
}
