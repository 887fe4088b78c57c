//! The worker threads of a repository.
//!
//! In a program they are a pool of rayon. Where threads take turns ([`super::turns`]), which only a build for tests knows, each piece of work
//! gets a thread of its own, and the work of a scope is done at once, by whoever gives it.

use super::Executor;
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Worker threads that take turns at pieces of work.
#[derive(Debug)]
pub(crate) struct Pool {
    threads: usize,
    workers: Workers,
}

#[derive(Debug)]
enum Workers {
    Rayon(rayon::ThreadPool),
    #[cfg(any(test, feature = "testing"))]
    TakingTurns(Arc<dyn Executor>),
}

/// Work that is over before its scope is.
#[derive(Debug)]
pub(crate) enum Scope<'s, 'scope> {
    Rayon(&'s rayon::Scope<'scope>),
    #[cfg(any(test, feature = "testing"))]
    AtOnce,
}

impl Pool {
    /// Starts as many workers as `executor` says.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where they cannot start.
    pub(crate) fn start(executor: &Arc<dyn Executor>) -> Result<Self> {
        Self::start_with(executor, executor.threads())
    }

    /// Starts so many workers.
    ///
    /// # Errors
    /// As [`Pool::start`].
    pub(crate) fn start_with(executor: &Arc<dyn Executor>, threads: usize) -> Result<Self> {
        #[cfg(any(test, feature = "testing"))]
        if super::turns::current().is_some() {
            return Ok(Self { threads, workers: Workers::TakingTurns(Arc::clone(executor)) });
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .spawn_handler(|thread| {
                let name = format!("icecore-worker-{}", thread.index());
                executor.spawn(&name, Box::new(move || thread.run())).map_err(std::io::Error::other)
            })
            .build()
            .map_err(|error| Error::new(ErrorKind::Unavailable, format!("worker threads cannot start: {error}")))?;
        Ok(Self { threads, workers: Workers::Rayon(pool) })
    }

    /// How many workers there are.
    pub(crate) fn current_num_threads(&self) -> usize {
        self.threads
    }

    /// Runs `work`, and what it parts by rayon, on the workers, and waits for it.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.workers {
            Workers::Rayon(pool) => pool.install(work),
            #[cfg(any(test, feature = "testing"))]
            Workers::TakingTurns(_) => work(),
        }
    }

    /// Gives `work` to a worker.
    pub(crate) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        match &self.workers {
            Workers::Rayon(pool) => pool.spawn(work),
            #[cfg(any(test, feature = "testing"))]
            Workers::TakingTurns(executor) => executor.spawn("icecore-worker", Box::new(work)).expect("a simulation has threads"),
        }
    }

    /// Runs `work` here, and waits until all is done that it gives to the workers. Such work must not wait for anything.
    pub(crate) fn in_place_scope<'scope, R>(&self, work: impl for<'s> FnOnce(&Scope<'s, 'scope>) -> R) -> R {
        match &self.workers {
            Workers::Rayon(pool) => pool.in_place_scope(|scope| work(&Scope::Rayon(scope))),
            #[cfg(any(test, feature = "testing"))]
            Workers::TakingTurns(_) => work(&Scope::AtOnce),
        }
    }
}

impl<'scope> Scope<'_, 'scope> {
    /// Gives `work` to a worker.
    pub(crate) fn spawn(&self, work: impl for<'s> FnOnce(&Scope<'s, 'scope>) + Send + 'scope) {
        match self {
            Self::Rayon(scope) => scope.spawn(|scope| work(&Scope::Rayon(scope))),
            #[cfg(any(test, feature = "testing"))]
            Self::AtOnce => work(&Scope::AtOnce),
        }
    }
}
