//! What a person wants left out.

/// What a walk leaves out. Nothing by default.
///
/// A path that was given by name is never left out, whatever the options say, nor is what leads to it.
///
/// # Patterns
/// `excludes` are globs as in `.gitignore`, matched against absolute paths (as given; `..` resolved):
/// * `*.o`, `target` or `build/out` match at any depth below a given path.
/// * `/home/*/.cache` begins with a slash and matches from the root of the file system, as in restic and borg.
/// * `*`, `?` and `[a-z]` do not match a slash; `**` matches any number of folders; `{a,b}` matches either; a trailing slash
///   matches folders only; a backslash makes the next character ordinary.
/// * `!keep.o` takes back what an earlier pattern left out; the last pattern that matches decides. What lies below a folder
///   that is left out is never looked at, hence cannot be taken back.
///
/// A `#` at the start is an ordinary character: whoever reads patterns from a file drops comments and empty lines.
/// A pattern that is no glob makes the start of the walk fail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// Patterns, see above. What one of them says about a path, leaving it out or taking it back, goes before ignore files.
    pub excludes: Vec<String>,
    /// Names of ignore files, for example `.icecoreignore`. Such a file in a folder holds patterns as in `.gitignore`, relative to
    /// that folder (a leading or inner slash anchors there; `#` starts a comment). Deeper files go before higher ones, later names before
    /// earlier ones. Files above a given path are not read. The ignore files themselves are backed up.
    pub exclude_files: Vec<String>,
    /// Leaves out what lies in a folder that holds a `CACHEDIR.TAG` with its signature. The folder and the tag are kept, so that
    /// it is a cache after a restore too.
    pub exclude_caches: bool,
    /// Does not enter other file systems than the one each given path is on. Their mount points are kept as empty folders.
    pub one_file_system: bool,
    /// Names: leaves out what lies in a folder that holds one of them. The folder and the named thing are kept.
    pub exclude_if_present: Vec<String>,
    /// Leaves out regular files larger than so many bytes.
    pub exclude_larger_than: Option<u64>,
    /// Patterns, see above, of regular files that are cut every so many bytes instead of where their content says: images of disks and
    /// files that are written in blocks. Block devices that were given by name always are.
    pub fixed: Vec<String>,
}
