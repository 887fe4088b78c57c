//! Where in a file each of its chunks belongs.

use crate::entry::{ChunkList, ChunkRef, FileContent};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::tree::{NodeSource, RecipeWalk};

/// Gives the chunks of a file in order, each with its offset; holes lie between them. Holds one node for each level of a recipe.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    chunks: Chunks<'a>,
    holes: &'a [(u64, u64)],
    size: u64,
    position: u64,
}

#[derive(Debug)]
enum Chunks<'a> {
    Inline(std::slice::Iter<'a, ChunkRef>),
    Recipe(Box<RecipeWalk<'a>>),
}

impl<'a> Layout<'a> {
    /// Opens the chunk list of `content`.
    pub(super) fn new(source: &'a dyn NodeSource, content: &'a FileContent) -> Result<Self> {
        let chunks = match &content.chunks {
            ChunkList::Inline(chunks) => Chunks::Inline(chunks.iter()),
            ChunkList::Recipe(root) => Chunks::Recipe(Box::new(RecipeWalk::new(source, root, data_bytes(content)?, 0)?)),
        };
        Ok(Self { chunks, holes: &content.holes, size: content.size, position: 0 })
    }

    /// The next chunk.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where chunks and holes do not make up the file, and whatever reading a recipe fails with.
    pub(super) fn next(&mut self) -> Result<Option<(u64, ChunkRef)>> {
        let next = match &mut self.chunks {
            Chunks::Inline(chunks) => chunks.next().copied(),
            Chunks::Recipe(walk) => walk.next().transpose()?.map(|(_, chunk)| chunk),
        };
        if let Some(&(offset, length)) = self.holes.first()
            && offset == self.position
        {
            self.position = offset.saturating_add(length);
            self.holes = &self.holes[1..];
        }
        let Some(chunk) = next else {
            return match self.position == self.size && self.holes.is_empty() {
                true => Ok(None),
                false => Err(self.damaged()),
            };
        };
        let offset = self.position;
        let end = offset.saturating_add(u64::from(chunk.length));
        if end > self.holes.first().map_or(self.size, |(hole, _)| *hole) {
            return Err(self.damaged());
        }
        self.position = end;
        Ok(Some((offset, chunk)))
    }

    fn damaged(&self) -> Error {
        let message = format!("at {} chunks and holes do not make up the {} bytes of this file", self.position, self.size);
        Error::new(ErrorKind::Damaged, message)
    }
}

/// Calls `visit` with each chunk of a file's content.
pub(crate) fn content_chunks(source: &dyn NodeSource, content: &FileContent, mut visit: impl FnMut(ChunkId) -> Result<()>) -> Result<()> {
    let mut layout = Layout::new(source, content)?;
    while let Some((_, chunk)) = layout.next()? {
        visit(chunk.id)?;
    }
    Ok(())
}

/// Bytes outside the holes.
pub(super) fn data_bytes(content: &FileContent) -> Result<u64> {
    let rest = content.holes.iter().try_fold(content.size, |rest, (_, length)| rest.checked_sub(*length));
    rest.ok_or_else(|| Error::new(ErrorKind::Damaged, "the holes of this file are larger than the file"))
}
