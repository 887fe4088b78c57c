//! Batches: pieces of content, cut, named and looked up, with the entries that they belong to.

use crate::chunker::{ContentCutter, Cutter, FixedCutter, Guide};
use crate::crypto::Secret;
use crate::entry::{ChunkRef, Entry, FileContent};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::CutMethod;
use crate::id::{ChunkId, DomainId};
use crate::repository::index::LookupIndex;
use crate::repository::{BaseHint, ChunkIds, ChunkKind, ChunkUse, Repository, Writer};
use crate::runtime::channel::{Receiver, Sender, bounded, unbounded};
use crate::runtime::{Clock, Pool};
use crate::source::StatKey;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Content of large files and streams is read in pieces of this size.
pub(super) const PIECE_LENGTH: usize = 2 << 20;
/// Of a buffer that became longer this much is kept: a piece, and the longest chunk that reaches into it, at usual sizes.
pub(super) const BUFFER_LENGTH_KEPT: usize = PIECE_LENGTH + (256 << 10);

/// What comes out of a worker, with its place in the sequence.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) number: u64,
    /// `None` at the end of all: a thread that panicked would look like one that is done.
    pub(super) batch: Option<Result<Batch>>,
}

/// Content and entries in the order of the source.
#[derive(Debug)]
pub(super) struct Batch {
    /// The bytes that the chunks of `items` are ranges of.
    pub(super) data: Buffer,
    pub(super) items: Vec<Item>,
    pub(super) bytes_read: u64,
}

/// One step of a batch.
#[derive(Debug)]
pub(super) enum Item {
    /// A large file begins, at this key.
    Begin(Vec<u8>),
    /// Chunks of the file whose entry comes next, perhaps in a later batch.
    Chunks(Vec<Found>),
    /// The next extent of the large file whose entry comes next.
    Extent(Extent),
    /// An entry; of a file, all chunks came before.
    Entry { entry: Entry, stat: Option<StatKey> },
    /// A file that did not change: its whole content, and where its chunks stand.
    Unmodified { entry: Entry, stat: StatKey, content: FileContent, uses: Vec<ChunkUse> },
    /// Something that could not be read, or only in part.
    Failed { path: Vec<u8>, message: String },
    /// The file at this key is the one that failed last, and other names of it may come as links to it.
    Lost(Vec<u8>),
}

impl Item {
    /// About how much memory the lists of a file take that is used again.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Self::Unmodified { uses, .. } => 64 * uses.len() as u64,
            _ => 0,
        }
    }
}

/// A chunk that was read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: ChunkId,
    pub(super) range: Range<usize>,
    /// Where it stands already; `None` where the worker did not find it.
    pub(super) place: Option<ChunkUse>,
    /// Where the last version of it stands, if it is new.
    pub(super) bases: Vec<BaseHint>,
}

/// A part of a data range, the whole data of its batch, cut as if a chunk ended where it begins.
#[derive(Debug)]
pub(super) struct Extent {
    pub(super) chunking: Arc<Chunking>,
    pub(super) is_fixed: bool,
    /// Its chunks, without gaps and from the first byte on; what follows them may go on in the next extent.
    pub(super) found: Vec<Found>,
    /// Whether its data range ends with it.
    pub(super) is_last: bool,
    /// Whether the file ended within it: whatever comes behind it was read later and does not count.
    pub(super) is_short: bool,
}

/// A cutter of the config, and its id there.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) cutter: Cutter,
    pub(crate) id: u32,
}

/// What workers need to make chunks out of bytes.
#[derive(Debug)]
pub(crate) struct Chunking {
    content: Cut,
    fixed: Option<Cut>,
    pub(crate) ids: ChunkIds,
    pub(crate) index: Arc<LookupIndex>,
    pub(crate) domain: DomainId,
    /// Whether bases are looked for.
    wants_bases: bool,
    /// By which files get their times, as far as that is known.
    pub(super) clock: Arc<dyn Clock>,
}

impl Chunking {
    /// With the first content-defined cutter and the first fixed one of the config.
    pub(crate) fn new(repository: &Repository, writer: &Writer) -> Result<Self> {
        let key = repository.credential.cutting_key.as_ref();
        let key: &Secret =
            key.ok_or_else(|| Error::new(ErrorKind::Unauthorized, "this credential cannot cut content; use one with the role backup"))?;
        let (mut content, mut fixed) = (None, None);
        for cutter in &repository.config.cutters {
            let id = cutter.id;
            match cutter.method {
                CutMethod::Content { min, average, max } if content.is_none() => {
                    content = Some(Cut { cutter: ContentCutter::new(min, average, max, key.bytes())?.into(), id });
                }
                CutMethod::Fixed(size) if fixed.is_none() => fixed = Some(Cut { cutter: FixedCutter::new(size)?.into(), id }),
                _ => {}
            }
        }
        let content = content.or_else(|| fixed.take()).ok_or_else(|| Error::rule("CFG-5", "the config has no cutter"))?;
        let domain = repository.credential.author.certificate.domain();
        Ok(Self {
            content,
            fixed,
            ids: ChunkIds::new(&repository.credential),
            index: writer.index(),
            domain,
            wants_bases: writer.wants_bases(),
            clock: Arc::clone(&repository.runtime.clock),
        })
    }

    /// What cuts content, where the content says or at fixed sizes; a config may lack one of the two.
    pub(crate) fn cut(&self, is_fixed: bool) -> &Cut {
        match &self.fixed {
            Some(fixed) if is_fixed => fixed,
            _ => &self.content,
        }
    }

    /// Names chunks that were cut and looks them up, as `guide` tells what they were.
    pub(super) fn find(&self, cut: &Cut, guide: &mut Guide, data: &[u8], ranges: Vec<Range<usize>>) -> Result<Vec<Found>> {
        let mut found = Vec::with_capacity(ranges.len());
        for range in ranges {
            let id = self.name(&data[range.clone()])?;
            guide.pass(&cut.cutter, range.len(), &id);
            found.push(self.found(id, range, guide)?);
        }
        Ok(found)
    }

    /// Looks a chunk up; if it is new, that which was in its place.
    fn found(&self, id: ChunkId, range: Range<usize>, guide: &Guide) -> Result<Found> {
        let place = self.place(&id)?;
        let wants_bases = place.is_none() && self.wants_bases;
        // What goes wrong in looking for them is no failure of the file: it is stored without.
        let bases = if wants_bases { self.bases(guide.earlier()).unwrap_or_default() } else { Vec::new() };
        Ok(Found { id, range, place, bases })
    }

    /// Cuts `data` from `start` on, as far as it can be done (all of it where `is_last`), names the chunks and looks them up. Gives where
    /// the last one ends, too.
    pub(super) fn cut_and_find(
        &self,
        cut: &Cut,
        guide: &mut Guide,
        data: &[u8],
        mut start: usize,
        is_last: bool,
    ) -> Result<(Vec<Found>, usize)> {
        let mut found = Vec::new();
        while let Some((length, id)) = guide.next_cut(&cut.cutter, &data[start..], is_last, |bytes| self.name(bytes))? {
            found.push(self.found(id, start..start + length, guide)?);
            start += length;
        }
        Ok((found, start))
    }

    /// The name of a chunk of content.
    pub(crate) fn name(&self, bytes: &[u8]) -> Result<ChunkId> {
        self.ids.id_of(ChunkKind::Data, bytes)
    }

    /// Where the `earlier` version of a chunk stands. Of one that is missing nothing is said.
    fn bases(&self, earlier: &[ChunkRef]) -> Result<Vec<BaseHint>> {
        let mut bases = Vec::new();
        for chunk in earlier {
            if let Some(place) = self.index.lookup(&chunk.id, self.domain)? {
                self.index.base_hints(&place, chunk.length, &mut bases)?;
            }
        }
        Ok(bases)
    }

    /// Where a chunk stands in packs that were listed.
    pub(crate) fn place(&self, id: &ChunkId) -> Result<Option<ChunkUse>> {
        let place = self.index.lookup(id, self.domain)?;
        Ok(place.map(|place| ChunkUse { frame: place.frame, position: place.position }))
    }
}

impl Cut {
    /// Where each chunk of `data[range]` ends. Gives what is left over when the last chunk may go on beyond (`is_last` false).
    pub(super) fn cut(&self, data: &[u8], range: Range<usize>, is_last: bool) -> (Vec<Range<usize>>, usize) {
        let mut chunks = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let Some(length) = self.cutter.next_cut(&data[start..range.end], is_last) else { break };
            chunks.push(start..start + length);
            start += length;
        }
        (chunks, start)
    }
}

/// Sends work to the pool, numbered, with at most so many batches between producer and assembler.
#[derive(Debug)]
pub(super) struct Dispatcher {
    pool: Arc<Pool>,
    next: u64,
    results: Sender<Numbered>,
    buffers: Receiver<Vec<u8>>,
    give_back: Sender<Vec<u8>>,
    /// Set by the first worker that finds nobody listening.
    is_abandoned: Arc<AtomicBool>,
}

/// The right to have one batch in flight, and the memory for its content. Both go back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    give_back: Sender<Vec<u8>>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.bytes.clear();
        // What a single file needed that grew while it was read is not kept.
        self.bytes.shrink_to(BUFFER_LENGTH_KEPT);
        // Nobody waits for it when the dispatcher is gone.
        let _ = self.give_back.send(std::mem::take(&mut self.bytes));
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Dispatcher {
    /// A dispatcher of at most `in_flight` batches at a time, and where its results come out.
    pub(super) fn new(repository: &Repository, in_flight: usize) -> Result<(Self, Receiver<Numbered>)> {
        // One more place than buffers, so that giving back never waits.
        let (give_back, buffers) = bounded(in_flight + 1);
        for _ in 0..in_flight {
            give_back.send(Vec::new()).map_err(|_| Error::new(ErrorKind::Internal, "buffers"))?;
        }
        let (results, receiver) = unbounded();
        Ok((Self { pool: repository.pool()?, next: 0, results, buffers, give_back, is_abandoned: Arc::default() }, receiver))
    }

    /// An empty buffer, once there is one.
    pub(super) fn buffer(&self) -> Buffer {
        // The sender is at hand, so it never fails.
        let bytes = self.buffers.recv().unwrap_or_default();
        Buffer { bytes, give_back: self.give_back.clone() }
    }

    /// Runs `work` on the pool with an empty buffer; false where nobody wants results any more.
    pub(super) fn dispatch(&mut self, work: impl FnOnce(Buffer) -> Result<Batch> + Send + 'static) -> bool {
        let buffer = self.buffer();
        self.send(move || work(buffer))
    }

    /// Runs `work`, which has a buffer of this dispatcher, on the pool; false where nobody wants results any more.
    pub(super) fn send(&mut self, work: impl FnOnce() -> Result<Batch> + Send + 'static) -> bool {
        let (number, results) = (self.next, self.results.clone());
        let is_abandoned = Arc::clone(&self.is_abandoned);
        self.next += 1;
        self.pool.spawn(move || {
            if results.send(Numbered { number, batch: Some(work()) }).is_err() {
                is_abandoned.store(true, Ordering::Relaxed);
            }
        });
        !self.is_abandoned.load(Ordering::Relaxed)
    }

    /// Says that all was dealt out.
    pub(super) fn end(self) {
        // Nobody listens after a failure.
        let _ = self.results.send(Numbered { number: self.next, batch: None });
    }
}
