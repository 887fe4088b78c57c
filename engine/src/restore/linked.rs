//! What stands in the target under several names and is as it is to be.
//!
//! What has other names is never written to: they could lie outside of the target. So it is made anew, unless nothing about it differs. That has to
//! be known before anything of it is planned, and so it is compared here as a whole.

use super::compare::has_chunk;
use super::layout::Layout;
use super::run::{Restore, Target};
use crate::destination::{OutputFile, Standing};
use crate::entry::{Entry, FileContent};
use crate::error::Result;
use crate::progress::Event;

impl Restore<'_, '_> {
    /// Whether the first name of an entry stands in the target beside other names, and nothing about it differs. `content` is that of a file.
    pub(super) fn is_left_alone(&mut self, entry: &Entry, content: Option<&FileContent>) -> Result<bool> {
        let Some(folder) = self.target.folder().filter(|folder| !folder.is_new()) else { return Ok(false) };
        let Some(inode) = folder.with_other_names(&entry.key) else { return Ok(false) };
        // One that another entry has already is not this entry's, too: they are to be two.
        if self.left_alone.get(&inode)?.is_some() {
            return Ok(false);
        }
        let file = match folder.standing(entry) {
            Ok(Standing::Same { file, .. }) if folder.has_metadata(entry) => file,
            _ => return Ok(false),
        };
        let same = match (content, file) {
            (None, _) => Some(0),
            (Some(content), Some((file, length))) if length == content.size => self.same_bytes(&file, content)?,
            _ => None,
        };
        let Some(same) = same else { return Ok(false) };
        self.left_alone.insert(&inode, &[])?;
        self.tally.bytes_unchanged.fetch_add(same, std::sync::atomic::Ordering::Relaxed);
        self.tally.progress.event(Event::Advance { bytes: same, items: 0 });
        if let Target::Planned(_) = self.target {
            self.tell(entry, None, 0);
        }
        Ok(true)
    }

    /// The bytes outside of holes, where a file has this content.
    fn same_bytes(&self, file: &OutputFile, content: &FileContent) -> Result<Option<u64>> {
        if !file.has_zeros(&content.holes) {
            return Ok(None);
        }
        // What of the list is damaged is said of the file when it is planned.
        let Ok(mut layout) = Layout::new(self.chunks, content) else { return Ok(None) };
        let (mut buffer, mut same) = (Vec::new(), 0);
        loop {
            self.tally.check_cancelled()?;
            let Ok(next) = layout.next() else { return Ok(None) };
            let Some((offset, chunk)) = next else { return Ok(Some(same)) };
            if !has_chunk(file, offset, chunk.length, &chunk.id, self.chunks.reader.ids(), &mut buffer)? {
                return Ok(None);
            }
            same += u64::from(chunk.length);
        }
    }
}
