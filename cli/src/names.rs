//! Names and paths, which are bytes, for people and for JSON.

use icecore::entry::key_components;
use icecore::id::to_hex;
use serde_json::{Value, json};

/// A path on one line. Control characters are escaped, and those that turn the direction of what follows, so that a hostile name can neither end the
/// line, nor drive the terminal, nor look like another one.
pub(crate) fn shown(path: &[u8]) -> String {
    let turns = |character| matches!(character, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut text = String::new();
    for character in String::from_utf8_lossy(path).chars() {
        match character.is_control() || turns(character) {
            true => text.extend(character.escape_default()),
            false => text.push(character),
        }
    }
    text
}

/// What errors and notices say, which may repeat what stands in a repository: as [`shown`], line by line.
pub(crate) fn shown_lines(text: &str) -> String {
    text.split('\n').map(|line| shown(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

/// The path of an entry within its snapshot; `.` for the root.
pub(crate) fn path_of(key: &[u8]) -> Vec<u8> {
    match key {
        b"" => b".".to_vec(),
        key => key_components(key).collect::<Vec<_>>().join(&b'/'),
    }
}

/// Adds `path` to a JSON object, and `path_hex` where it is not UTF-8.
pub(crate) fn put_path(object: &mut Value, path: &[u8]) {
    object["path"] = String::from_utf8_lossy(path).into();
    if std::str::from_utf8(path).is_err() {
        object["path_hex"] = to_hex(path).into();
    }
}

/// Adds `paths` to a JSON object, and `paths_hex` where one is not UTF-8.
pub(crate) fn put_paths(object: &mut Value, paths: &[Vec<u8>]) {
    object["paths"] = json!(paths.iter().map(|path| String::from_utf8_lossy(path)).collect::<Vec<_>>());
    if paths.iter().any(|path| std::str::from_utf8(path).is_err()) {
        object["paths_hex"] = json!(paths.iter().map(|path| to_hex(path)).collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_text_keep_their_bytes_in_json_and_do_not_reach_the_terminal() {
        assert_eq!(shown(b"a\n\x1b[2Jb\xff"), "a\\n\\u{1b}[2Jb\u{fffd}");
        assert_eq!(shown("photo\u{202e}gpj.exe".as_bytes()), "photo\\u{202e}gpj.exe");
        let mut object = json!({});
        put_path(&mut object, b"a\xff");
        put_paths(&mut object, &[b"b".to_vec()]);
        assert_eq!(object, json!({"path": "a\u{fffd}", "path_hex": "61ff", "paths": ["b"]}));
    }
}
