//! Batches: pieces of content, cut, named and looked up, with the entries that they belong to.

use crate::chunker::{ContentCutter, Cutter, FixedCutter};
use crate::crypto::Secret;
use crate::entry::{Entry, FileContent};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::CutMethod;
use crate::id::{ChunkId, DomainId};
use crate::repository::index::LookupIndex;
use crate::repository::{ChunkIds, ChunkKind, ChunkUse, Repository, Writer};
use crate::runtime::Pool;
use crate::runtime::channel::{Receiver, Sender, bounded, unbounded};
use crate::source::StatKey;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What comes out of a worker, with its place in the sequence.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) batch: Result<Batch>,
    /// Given back when the batch has been taken.
    _token: Token,
}

/// Content and entries in the order of the source.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The bytes that the chunks of `items` are ranges of.
    pub(super) data: Vec<u8>,
    pub(super) items: Vec<Item>,
    pub(super) bytes_read: u64,
}

/// One step of a batch.
#[derive(Debug)]
pub(super) enum Item {
    /// Chunks of the file whose entry comes next, perhaps in a later batch.
    Chunks(Vec<Found>),
    /// An entry; of a file, all chunks came before.
    Entry { entry: Entry, stat: Option<StatKey> },
    /// A file that did not change: its whole content, and where its chunks stand.
    Unmodified { entry: Entry, stat: StatKey, content: FileContent, uses: Vec<ChunkUse> },
    /// Something that could not be read, or only in part.
    Failed { path: Vec<u8>, message: String },
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
}

/// A cutter of the config, and its id there.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) cutter: Cutter,
    pub(super) id: u32,
}

/// What workers need to make chunks out of bytes.
#[derive(Debug)]
pub(super) struct Chunking {
    content: Cut,
    fixed: Option<Cut>,
    pub(super) ids: ChunkIds,
    pub(super) index: Arc<LookupIndex>,
    pub(super) domain: DomainId,
}

impl Chunking {
    /// With the first content-defined cutter and the first fixed one of the config.
    pub(super) fn new(repository: &Repository, writer: &Writer) -> Result<Self> {
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
        Ok(Self { content, fixed, ids: ChunkIds::new(&repository.credential), index: writer.index(), domain })
    }

    /// What cuts content, where the content says or at fixed sizes; a config may lack one of the two.
    pub(super) fn cut(&self, is_fixed: bool) -> &Cut {
        match &self.fixed {
            Some(fixed) if is_fixed => fixed,
            _ => &self.content,
        }
    }

    /// Names the chunks and looks them up.
    pub(super) fn find(&self, data: &[u8], ranges: Vec<Range<usize>>) -> Result<Vec<Found>> {
        ranges
            .into_iter()
            .map(|range| {
                let id = self.ids.id_of(ChunkKind::Data, &data[range.clone()])?;
                Ok(Found { id, place: self.place(&id)?, range })
            })
            .collect()
    }

    /// Where a chunk stands in packs that were listed.
    pub(super) fn place(&self, id: &ChunkId) -> Result<Option<ChunkUse>> {
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
    tokens: Receiver<()>,
    give_back: Sender<()>,
    /// Set by the first worker that finds nobody listening.
    is_abandoned: Arc<AtomicBool>,
}

/// The right to have one batch in flight.
#[derive(Debug)]
struct Token(Sender<()>);

impl Drop for Token {
    fn drop(&mut self) {
        // Nobody waits for it when the dispatcher is gone.
        let _ = self.0.send(());
    }
}

impl Dispatcher {
    /// A dispatcher and where its results come out.
    pub(super) fn new(repository: &Repository) -> Result<(Self, Receiver<Numbered>)> {
        let in_flight = 2 * repository.runtime.executor.threads() + 2;
        // One more place than tokens, so that giving back never waits.
        let (give_back, tokens) = bounded(in_flight + 1);
        for _ in 0..in_flight {
            give_back.send(()).map_err(|_| Error::new(ErrorKind::Internal, "tokens"))?;
        }
        let (results, receiver) = unbounded();
        Ok((Self { pool: repository.pool()?, next: 0, results, tokens, give_back, is_abandoned: Arc::default() }, receiver))
    }

    /// Runs `work` on the pool; false where nobody wants results any more.
    pub(super) fn dispatch(&mut self, work: impl FnOnce() -> Result<Batch> + Send + 'static) -> bool {
        let Ok(()) = self.tokens.recv() else { return false };
        let token = Token(self.give_back.clone());
        let (number, results) = (self.next, self.results.clone());
        let is_abandoned = Arc::clone(&self.is_abandoned);
        self.next += 1;
        self.pool.spawn(move || {
            if results.send(Numbered { number, batch: work(), _token: token }).is_err() {
                is_abandoned.store(true, Ordering::Relaxed);
            }
        });
        !self.is_abandoned.load(Ordering::Relaxed)
    }
}
