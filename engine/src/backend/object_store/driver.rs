//! Asks the store, and asks again.
//!
//! Every request goes through [`Driver::ask`]: it waits for a free connection, gives the request a time in which it must be done, and
//! repeats what may pass.

use super::answer::{self, Answer, TOO_LATE, Verdict};
use crate::backend::retry::{Patience, Tries};
use crate::backend::store::{Request, StoreSettings, Traffic};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Runtime;
use crate::runtime::channel::{Receiver, Sender, bounded};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A request may take so long, and longer by what it carries.
const REQUEST_SECONDS: u64 = 60;
/// A way to the store that is slower than this, all that is under way at once together, is as good as none. Who is gone altogether the kernel notices.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// An answer may rest for so long, at its beginning as in the middle.
const SILENCE_SECONDS: u64 = 60;

/// How long a request may take, in seconds, that carries so many bytes beside others that may carry as many.
fn seconds_for(bytes: usize, at_once: usize) -> u64 {
    REQUEST_SECONDS + (bytes as u64).saturating_mul(at_once as u64) / BYTES_PER_SECOND_MIN
}

/// Waits for what comes next of an answer to a request that sends little.
pub(super) async fn soon<T>(next: impl Future<Output = T>) -> object_store::Result<T> {
    tokio::time::timeout(Duration::from_secs(SILENCE_SECONDS), next).await.map_err(|_| answer::too_late())
}

/// Asks one store.
pub(super) struct Driver {
    network: Handle,
    /// Dropping it ends the thread that waits on the network.
    _stop: oneshot::Sender<()>,
    connections: Tokens,
    /// How many there are.
    pub(super) at_once: usize,
    /// Parts of uploads that are in memory.
    pub(super) parts: Tokens,
    pub(super) runtime: Runtime,
    pub(super) traffic: Arc<Traffic>,
    patience: Patience,
}

/// So many may go on at once.
#[derive(Debug)]
pub(super) struct Tokens {
    give: Sender<()>,
    take: Receiver<()>,
}

impl Tokens {
    fn new(count: usize) -> Self {
        let (give, take) = bounded(count.max(1));
        for _ in 0..count.max(1) {
            let _ = give.send(());
        }
        Self { give, take }
    }

    /// Waits for a token, which is given back when what is returned is dropped.
    pub(super) fn take(&self) -> Token {
        // The other end lives as long as this one.
        let _ = self.take.recv();
        Token(self.give.clone())
    }
}

/// See [`Tokens::take`].
#[derive(Debug)]
pub(super) struct Token(Sender<()>);

impl Drop for Token {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Driver {
    /// Starts the thread that waits on the network.
    pub(super) fn start(place: String, settings: &StoreSettings) -> Result<Self> {
        let failed = |error: std::io::Error| Error::io(format!("{place}: the network"), error).with_kind(ErrorKind::Unavailable);
        let tokio = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let network = tokio.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let wait = move || {
            let _ = tokio.block_on(stopped);
            // Whoever looks up a host name may take his time; nobody waits for that.
            tokio.shutdown_background();
        };
        settings.runtime.executor.spawn("icecore-store", Box::new(wait))?;
        Ok(Self {
            network,
            _stop: stop,
            connections: Tokens::new(settings.connections),
            at_once: settings.connections.max(1),
            parts: Tokens::new(settings.connections),
            runtime: settings.runtime.clone(),
            traffic: Arc::clone(&settings.traffic),
            patience: Patience::new(place, settings),
        })
    }

    /// Asks, and asks again while the failure may pass and there is patience. `bytes` is what the request carries, either way.
    pub(super) fn ask<T, F>(&self, request: Request, bytes: usize, make: impl Fn() -> F) -> std::result::Result<T, Answer>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let mut tries = Tries::default();
        loop {
            let result = {
                let _connection = self.connections.take();
                self.traffic.request(request, if request == Request::Put { bytes } else { 0 });
                self.once(bytes, make())
            };
            let why = match result {
                Ok(value) => {
                    self.patience.answered();
                    return Ok(value);
                }
                Err(Some(error)) => match Verdict::of(&error, tries.failed + 1) {
                    Verdict::Final(answer) => {
                        self.patience.answered();
                        return Err(answer);
                    }
                    Verdict::MayPass { why, is_answer } => {
                        if is_answer {
                            self.patience.answered();
                        }
                        why
                    }
                },
                Err(None) => format!("{TOO_LATE} (on a slow way, fewer requests at once may help)"),
            };
            self.patience.wait(&mut tries, &why).map_err(Answer::Refused)?;
        }
    }

    /// Asks what is no loss where it fails.
    pub(super) fn ask_once<T>(&self, request: Request, ask: impl Future<Output = object_store::Result<T>>) -> Option<T> {
        self.traffic.request(request, 0);
        self.once(0, ask).ok()
    }

    /// `Err(None)` where it took too long.
    fn once<T>(
        &self,
        bytes: usize,
        ask: impl Future<Output = object_store::Result<T>>,
    ) -> std::result::Result<T, Option<object_store::Error>> {
        let seconds = seconds_for(bytes, self.at_once);
        self.network.block_on(async {
            match tokio::time::timeout(Duration::from_secs(seconds), ask).await {
                Ok(result) => result.map_err(Some),
                Err(_) => Err(None),
            }
        })
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("patience", &self.patience).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_share_a_slow_way_have_time_enough() {
        // 8 MiB by 16 connections, over an uplink of 1 Mbit/s.
        let (part, connections) = (8 << 20, 16);
        assert!(seconds_for(part, connections) > part as u64 * connections as u64 / 125_000);
        assert_eq!(seconds_for(0, connections), 60);
        assert!(seconds_for(usize::MAX, connections) > 1 << 40);
    }
}
