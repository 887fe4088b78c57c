//! "Did you mean": of known names the one that somebody may have meant.

/// The known name that is nearest to what was written, if one is near.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong; of short names one.
    let most = (written.chars().count() / 3).max(1);
    let is_near = |(steps, _): &(usize, &str)| *steps <= most;
    known.into_iter().map(|name| (distance(written, name), name)).filter(is_near).min_by_key(|(steps, _)| *steps).map(|(_, name)| name)
}

/// `; did you mean ...?`, or nothing.
pub(crate) fn advice<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Letters to put in, take out, change or swap with the one beside to make one of the other; upper and lower case are the same.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before_last_at(&before_last, j - 1) + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

fn before_last_at(row: &[usize], at: usize) -> usize {
    row.get(at).copied().unwrap_or(usize::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["repository", "tags", "series", "key-file"];
        let near = |written| nearest(written, known);
        assert_eq!(near("repositroy"), Some("repository"));
        assert_eq!((near("tag"), near("Series"), near("key_file")), (Some("tags"), Some("series"), Some("key-file")));
        assert_eq!((near("passphrase"), near("x")), (None, None));
        assert_eq!(advice("serie", known), "; did you mean `series`?");
        assert_eq!([distance("", "abc"), distance("abcd", "acbd"), distance("same", "SAME")], [3, 1, 0]);
    }
}
