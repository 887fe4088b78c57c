//! Deciding what is left out: the options in the form in which the walk uses them.

use super::options::SourceOptions;
use crate::error::{Error, ErrorKind, Result};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// An ignore file larger than this is none that a person wrote.
const IGNORE_FILE_SIZE_MAX: u64 = 1 << 20;

/// The options, compiled.
#[derive(Debug)]
pub(crate) struct Rules {
    globs: Gitignore,
    ignore_names: Vec<CString>,
    tags: Vec<CString>,
    caches: bool,
    pub(crate) one_file_system: bool,
    pub(crate) size_max: u64,
    fixed: Gitignore,
}

/// The patterns of an ignore file, and the one that counts after it.
#[derive(Debug)]
pub(crate) struct IgnoreFile {
    globs: Gitignore,
    above: Option<Arc<IgnoreFile>>,
}

impl Drop for IgnoreFile {
    /// Frees a long chain without recursion, as for folders.
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(mut file) = above.and_then(Arc::into_inner) {
            above = file.above.take();
        }
    }
}

impl Rules {
    /// Compiles `options`.
    pub(crate) fn new(options: &SourceOptions) -> Result<Self> {
        let names = |names: &[String], what: &str| {
            let name = |name: &String| match CString::new(name.as_str()) {
                Ok(c_name) if !name.is_empty() && !name.contains('/') => Ok(c_name),
                _ => Err(Error::new(
                    ErrorKind::Invalid,
                    format!("{what} `{name}` is not the name of a file: it must not be empty or hold a slash"),
                )),
            };
            names.iter().map(name).collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            globs: globs(&options.excludes, "exclude")?,
            fixed: globs(&options.fixed, "fixed")?,
            ignore_names: names(&options.exclude_files, "ignore file")?,
            tags: names(&options.exclude_if_present, "exclude-if-present")?,
            caches: options.exclude_caches,
            one_file_system: options.one_file_system,
            size_max: options.exclude_larger_than.unwrap_or(u64::MAX),
        })
    }

    /// Whether paths matter at all below a folder with these ignore files.
    pub(crate) fn look_at_paths(&self, ignore: Option<&Arc<IgnoreFile>>) -> bool {
        !self.globs.is_empty() || ignore.is_some()
    }

    /// Whether patterns leave out the absolute `path`.
    pub(crate) fn exclude(&self, path: &[u8], is_folder: bool, ignore: Option<&Arc<IgnoreFile>>) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        let mut globs = Some(&self.globs);
        let mut above = ignore;
        while let Some(now) = globs {
            match now.matched(path, is_folder) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
            globs = above.map(|file| &file.globs);
            above = above.and_then(|file| file.above.as_ref());
        }
        false
    }

    /// Whether the file at the absolute path that `path` gives is cut at fixed sizes.
    pub(crate) fn is_fixed(&self, path: impl Fn() -> Vec<u8>) -> bool {
        !self.fixed.is_empty() && self.fixed.matched(Path::new(OsStr::from_bytes(&path())), false).is_ignore()
    }

    /// The names because of which the rest of a folder is left out; empty where it is not.
    pub(crate) fn tags_in(&self, folder: &OwnedFd, has: impl Fn(&[u8]) -> bool) -> Vec<&[u8]> {
        let mut tags: Vec<&[u8]> = self.tags.iter().map(|tag| tag.to_bytes()).filter(|tag| has(tag)).collect();
        if self.caches && has(CACHE_TAG) && is_cache_tag(folder) {
            tags.push(CACHE_TAG);
        }
        tags
    }

    /// Puts the ignore files of the folder at `path` before those `above`. What cannot be used is told to `trouble` by name.
    pub(crate) fn ignore_files(
        &self,
        folder: &OwnedFd,
        path: impl Fn() -> Vec<u8>,
        has: impl Fn(&[u8]) -> bool,
        above: Option<Arc<IgnoreFile>>,
        mut trouble: impl FnMut(&[u8], String),
    ) -> Option<Arc<IgnoreFile>> {
        let mut chain = above;
        for name in self.ignore_names.iter().filter(|name| has(name.to_bytes())) {
            let text = match read_regular(folder, name, IGNORE_FILE_SIZE_MAX + 1) {
                Ok(text) if text.len() as u64 <= IGNORE_FILE_SIZE_MAX => text,
                Ok(_) => {
                    trouble(name.to_bytes(), format!("this ignore file is not used: it is larger than {IGNORE_FILE_SIZE_MAX} bytes"));
                    continue;
                }
                Err(error) => {
                    trouble(name.to_bytes(), format!("this ignore file is not used: {error}"));
                    continue;
                }
            };
            let path = path();
            let mut builder = GitignoreBuilder::new(OsStr::from_bytes(&path));
            for line in text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text).split(|byte| *byte == b'\n') {
                let added = std::str::from_utf8(line)
                    .map_err(|error| error.to_string())
                    .and_then(|line| builder.add_line(None, line).map(|_| ()).map_err(|error| error.to_string()));
                if let Err(error) = added {
                    trouble(name.to_bytes(), format!("the pattern `{}` is not used: {error}", String::from_utf8_lossy(line)));
                }
            }
            match builder.build() {
                Ok(globs) if globs.is_empty() => {}
                Ok(globs) => chain = Some(Arc::new(IgnoreFile { globs, above: chain })),
                Err(error) => trouble(name.to_bytes(), format!("this ignore file is not used: {error}")),
            }
        }
        chain
    }
}

/// Compiles patterns against absolute paths; `what` names them in errors.
fn globs(patterns: &[String], what: &str) -> Result<Gitignore> {
    let mut globs = GitignoreBuilder::new("/");
    globs.allow_unclosed_class(false);
    for pattern in patterns {
        let invalid = |why: &str| Error::new(ErrorKind::Invalid, format!("{what} pattern `{pattern}`: {why}"));
        let line = line_of(pattern).map_err(invalid)?;
        globs.add_line(None, &line).map_err(|error| invalid(&error.to_string()))?;
    }
    globs.build().map_err(|error| Error::new(ErrorKind::Invalid, format!("{what} patterns: {error}")))
}

/// Turns a pattern into a line of a `.gitignore` at the root of the file system that means what [`SourceOptions`] says.
fn line_of(pattern: &str) -> std::result::Result<String, &'static str> {
    let (taken_back, glob) = match pattern.strip_prefix('!') {
        Some(glob) => ("!", glob),
        None => ("", pattern),
    };
    let path = glob.strip_suffix('/').unwrap_or(glob);
    if path.is_empty() {
        return Err("it names nothing");
    }
    if path.split('/').any(|component| matches!(component, "." | "..")) {
        return Err("it never matches, since paths hold no `.` and `..`; use an absolute path or leave them out");
    }
    let depth = if path.starts_with('/') || path.starts_with("**/") || !path.contains('/') { "" } else { "**/" };
    let escape = if taken_back.is_empty() && depth.is_empty() && glob.starts_with('#') { "\\" } else { "" };
    let mut line = format!("{taken_back}{depth}{escape}{glob}");
    if line.ends_with(' ') && !line.ends_with("\\ ") {
        line.insert(line.len() - 1, '\\');
    }
    Ok(line)
}

fn is_cache_tag(folder: &OwnedFd) -> bool {
    read_regular(folder, &c"CACHEDIR.TAG".to_owned(), CACHE_SIGNATURE.len() as u64).is_ok_and(|bytes| bytes == CACHE_SIGNATURE)
}

/// Reads at most `length` bytes of a regular file.
fn read_regular(folder: &OwnedFd, name: &CString, length: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(folder, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patterns: &[&str]) -> Result<Rules> {
        Rules::new(&SourceOptions { excludes: patterns.iter().map(|p| (*p).to_owned()).collect(), ..SourceOptions::default() })
    }

    #[test]
    fn patterns_match_as_documented() {
        let cases: &[(&[&str], &str, bool, bool)] = &[
            (&["*.o"], "/a/b/x.o", false, true),
            (&["*.o"], "/a/b/x.oo", false, false),
            (&["b/x"], "/a/b/x", false, true),
            (&["b/x"], "/a/b/c/x", false, false),
            (&["b/**/x"], "/a/b/c/d/x", false, true),
            (&["/b/x"], "/a/b/x", false, false),
            (&["/a/*/x"], "/a/b/x", false, true),
            (&["/a/*/x"], "/a/b/c/x", false, false),
            (&["target/"], "/a/target", true, true),
            (&["target/"], "/a/target", false, false),
            (&["*.o", "!keep.o"], "/a/keep.o", false, false),
            (&["!keep.o", "*.o"], "/a/keep.o", false, true),
            (&["#*#"], "/a/#x#", false, true),
            (&["c/#x"], "/a/c/#x", false, true),
            (&["\\!x"], "/a/!x", false, true),
            (&["a "], "/x/a ", false, true),
            (&["a "], "/x/a", false, false),
            (&["[a-c]?"], "/x/bz", false, true),
            (&["\\*"], "/x/*", false, true),
            (&["\\*"], "/x/y", false, false),
        ];
        for (patterns, path, is_folder, expected) in cases {
            assert_eq!(rules(patterns).unwrap().exclude(path.as_bytes(), *is_folder, None), *expected, "{patterns:?} on {path}");
        }
        assert!(rules(&["*\u{e4}"]).unwrap().exclude(b"/x/\xff\xc3\xa4", false, None));
    }

    #[test]
    fn patterns_that_cannot_work_are_refused() {
        for pattern in ["", "!", "/", "./a", "a/../b", "a[", "{a"] {
            let error = rules(&[pattern]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{pattern}");
            assert!(error.to_string().contains(&format!("`{pattern}`")), "{error}");
        }
    }
}
