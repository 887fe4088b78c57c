//! Many questions to a store at a time: each of them waits for the network, and none for another.

use super::{Executor, Pool};
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// So many are under way at most, whatever the store says: each is a thread.
const AT_ONCE_MAX: usize = 64;

/// What came of asking.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    /// In the order of what was asked; `None` where nothing was, or where it failed.
    pub(crate) given: Vec<Option<T>>,
    /// Of those that failed the first in that order. After a failure nothing more was asked.
    pub(crate) failed: Option<Error>,
}

impl<T> Answers<T> {
    /// All of them.
    ///
    /// # Errors
    /// What asking failed with.
    pub(crate) fn all(self) -> Result<Vec<T>> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.given.into_iter().flatten().collect()),
        }
    }
}

/// Asks about each item, so many at once; on this thread where that is one.
///
/// # Errors
/// Where no threads can be had. What asking fails with is among the answers, which are as true as without it.
pub(crate) fn ask_all<I: Sync, T: Send>(
    executor: &Arc<dyn Executor>,
    at_once: usize,
    items: &[I],
    ask: impl Fn(&I) -> Result<T> + Sync,
) -> Result<Answers<T>> {
    let mut answers = Answers { given: items.iter().map(|_| None).collect(), failed: None };
    let threads = items.len().min(at_once).min(AT_ONCE_MAX);
    if threads <= 1 {
        for (item, given) in items.iter().zip(&mut answers.given) {
            match ask(item) {
                Ok(answer) => *given = Some(answer),
                Err(error) => {
                    answers.failed = Some(error);
                    break;
                }
            }
        }
        return Ok(answers);
    }
    let pool = Pool::start_with(executor, threads)?;
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut of_thread = Vec::new();
        while !has_failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            let answer = ask(item);
            has_failed.fetch_or(answer.is_err(), Ordering::Relaxed);
            of_thread.push((at, answer));
        }
        of_thread
    };
    let mut of_threads: Vec<_> = (0..threads).map(|_| Vec::new()).collect();
    pool.in_place_scope(|scope| of_threads.iter_mut().for_each(|of_thread| scope.spawn(|_| *of_thread = work())));
    let mut all: Vec<_> = of_threads.into_iter().flatten().collect();
    all.sort_by_key(|(at, _)| *at);
    for (at, answer) in all {
        match answer {
            Ok(answer) => answers.given[at] = Some(answer),
            Err(error) => answers.failed = answers.failed.or(Some(error)),
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::runtime::SystemExecutor;
    use parking_lot::{Condvar, Mutex};
    use std::time::Duration;

    fn executor() -> Arc<dyn Executor> {
        Arc::new(SystemExecutor::new(1))
    }

    #[test]
    fn many_are_under_way_at_once_and_never_too_many() {
        let (under_way, changed, most) = (Mutex::new(0), Condvar::new(), AtomicUsize::new(0));
        let items: Vec<usize> = (0..AT_ONCE_MAX * 3).collect();
        let ask = |item: &usize| {
            let mut now = under_way.lock();
            *now += 1;
            most.fetch_max(*now, Ordering::Relaxed);
            changed.notify_all();
            // Nobody of the first ones is answered before all of them have asked.
            while *item < AT_ONCE_MAX && most.load(Ordering::Relaxed) < AT_ONCE_MAX {
                if changed.wait_for(&mut now, Duration::from_secs(60)).timed_out() {
                    return Err(Error::new(ErrorKind::Unavailable, "they ask one after the other"));
                }
            }
            *now -= 1;
            Ok(item * 2)
        };
        let answers = ask_all(&executor(), usize::MAX, &items, ask).unwrap().all().unwrap();
        assert_eq!(answers, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::Relaxed), AT_ONCE_MAX);
    }

    #[test]
    fn after_a_failure_nothing_more_is_asked_and_what_was_answered_is_told() {
        let asked = AtomicUsize::new(0);
        let ask = |item: &usize| {
            asked.fetch_add(1, Ordering::Relaxed);
            if *item == 5 { Err(Error::new(ErrorKind::Unavailable, "no")) } else { Ok(*item) }
        };
        let items: Vec<usize> = (0..100_000).collect();
        for at_once in [1, 16] {
            asked.store(0, Ordering::Relaxed);
            let answers = ask_all(&executor(), at_once, &items, ask).unwrap();
            assert_eq!(answers.failed.as_ref().map(Error::kind), Some(ErrorKind::Unavailable));
            assert_eq!(answers.given.iter().flatten().count() + 1, asked.load(Ordering::Relaxed));
            assert!(answers.given.iter().enumerate().all(|(at, answer)| answer.is_none_or(|answer| answer == at && at != 5)));
            assert!(asked.load(Ordering::Relaxed) < items.len());
        }
        assert_eq!(ask_all(&executor(), 16, &[] as &[u8], |_| Ok(())).unwrap().all().unwrap(), []);
    }
}
