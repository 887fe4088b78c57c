//! Writing one object: with one request where it is small, otherwise in parts.

use super::answer::{self, Answer};
use super::{Shared, exists, missing_place};
use crate::backend::store::Request;
use crate::backend::{ObjectName, ObjectWriter};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::channel::{Receiver, Sender, unbounded};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{MultipartId, PutPayload};
use std::sync::Arc;

/// Bytes of a part, but for the last one; S3 wants 5 MiB at least, and some want all of the same size.
pub(super) const PART_BYTES: usize = 8 << 20;

/// An object on its way into the bucket.
pub(super) struct StoreWriter<'a> {
    shared: &'a Arc<Shared>,
    name: ObjectName,
    replaces: bool,
    /// What is in no part yet.
    buffer: Vec<u8>,
    upload: Option<Upload>,
    is_poisoned: bool,
}

/// An upload in parts. Dropped before it is completed it is taken back.
struct Upload {
    shared: Arc<Shared>,
    path: Path,
    id: MultipartId,
    /// By number; `None` while it is under way.
    parts: Vec<Option<PartId>>,
    under_way: usize,
    bytes: u64,
    report: Sender<(usize, std::result::Result<PartId, Answer>)>,
    reports: Receiver<(usize, std::result::Result<PartId, Answer>)>,
    is_completed: bool,
}

impl<'a> StoreWriter<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, name: &ObjectName, replaces: bool) -> Self {
        Self { shared, name: *name, replaces, buffer: Vec::new(), upload: None, is_poisoned: false }
    }

    fn check(&self) -> Result<()> {
        match self.is_poisoned {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Unavailable, format!("{}: an earlier write failed; write the object anew", self.name))),
        }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            let room = PART_BYTES - self.buffer.len();
            if bytes.len() <= room {
                self.buffer.extend_from_slice(bytes);
                return Ok(());
            }
            // There is more to come, so this part is not the last one.
            let (now, later) = bytes.split_at(room);
            self.buffer.extend_from_slice(now);
            bytes = later;
            self.send_part()?;
        }
    }

    fn send_part(&mut self) -> Result<()> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(Upload::begin(self.shared, &self.name)?),
        };
        let part = std::mem::replace(&mut self.buffer, Vec::with_capacity(PART_BYTES));
        upload.send(part).map_err(|answer| answer.error(self.name))
    }
}

impl ObjectWriter for StoreWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let pushed = self.push(bytes);
        self.is_poisoned |= pushed.is_err();
        pushed
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.check()?;
        if self.upload.is_none() {
            let bytes = PutPayload::from(std::mem::take(&mut self.buffer));
            return self.shared.put(&self.name, &bytes, self.replaces);
        }
        self.send_part()?;
        let Self { shared, name, replaces, upload, .. } = *self;
        let Some(mut upload) = upload else { return Ok(()) };
        upload.wait_for_all().map_err(|answer| answer.error(name))?;
        if !replaces && shared.find(&name)?.is_some() {
            return Err(exists(&name));
        }
        upload.complete(&name)
    }
}

impl Upload {
    fn begin(shared: &Arc<Shared>, name: &ObjectName) -> Result<Self> {
        let path = shared.path(name);
        let begun = shared.driver.ask(Request::Put, 0, || async { shared.store.create_multipart(&path).await });
        let id = begun.map_err(|answer| match answer {
            Answer::Missing => missing_place(&shared.address, name),
            answer => answer.error(name),
        })?;
        let (report, reports) = unbounded();
        let shared = Arc::clone(shared);
        Ok(Self { shared, path, id, parts: Vec::new(), under_way: 0, bytes: 0, report, reports, is_completed: false })
    }

    /// Sends a part on a thread of its own, once there is room for it.
    fn send(&mut self, part: Vec<u8>) -> std::result::Result<(), Answer> {
        let token = self.shared.driver.parts.take();
        while let Ok(report) = self.reports.try_recv() {
            self.note(report)?;
        }
        let number = self.parts.len();
        self.bytes += part.len() as u64;
        let (shared, path, id, report) = (Arc::clone(&self.shared), self.path.clone(), self.id.clone(), self.report.clone());
        let work = move || {
            let bytes = PutPayload::from(part);
            let put = || async { shared.store.put_part(&path, &id, number, bytes.clone()).await };
            let sent = shared.driver.ask(Request::Put, bytes.content_length(), put);
            drop((bytes, token));
            // Nobody listens where the writer was dropped.
            let _ = report.send((number, sent));
        };
        let spawned = self.shared.driver.runtime.executor.spawn("icecore-part", Box::new(work));
        spawned.map_err(|error| Answer::Refused(error.to_string()))?;
        self.parts.push(None);
        self.under_way += 1;
        Ok(())
    }

    fn note(&mut self, (number, sent): (usize, std::result::Result<PartId, Answer>)) -> std::result::Result<(), Answer> {
        self.under_way -= 1;
        let part = sent.map_err(|answer| match answer {
            Answer::Missing => Answer::NoUpload,
            answer => answer,
        })?;
        if let Some(place) = self.parts.get_mut(number) {
            *place = Some(part);
        }
        Ok(())
    }

    fn wait_for_all(&mut self) -> std::result::Result<(), Answer> {
        while self.under_way > 0 {
            // This upload holds the other end, too.
            let Ok(report) = self.reports.recv() else { break };
            self.note(report)?;
        }
        Ok(())
    }

    fn complete(&mut self, name: &ObjectName) -> Result<()> {
        let parts: Option<Vec<PartId>> = self.parts.iter().cloned().collect();
        let parts = parts.ok_or_else(|| Error::new(ErrorKind::Internal, format!("{name}: a part of the upload is missing")))?;
        let complete = || async {
            let completed = self.shared.store.complete_multipart(&self.path, &self.id, parts.clone()).await;
            // No condition was given, so this is not about the name.
            completed.map_err(|error| if answer::says_exists(&error) { answer::conflict(&error) } else { error })
        };
        let completed = self.shared.driver.ask(Request::Put, 0, complete);
        match completed {
            Ok(_) => {}
            // An earlier try may have done it and had no answer: then all of it is there.
            Err(Answer::NoUpload | Answer::Missing) if self.shared.find(name)? == Some(self.bytes) => {}
            Err(Answer::Missing) => return Err(Answer::NoUpload.error(name)),
            Err(answer) => return Err(answer.error(name)),
        }
        self.is_completed = true;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_completed {
            return;
        }
        // What cannot be taken back now the store's rule for unfinished uploads takes. Parts under way find their upload gone.
        let _ = self.shared.driver.ask_once(Request::Delete, async { self.shared.store.abort_multipart(&self.path, &self.id).await });
    }
}
