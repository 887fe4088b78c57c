//! Channels between threads.
//!
//! In a program they are those of `crossbeam_channel` and nothing else. A build for tests has the same names over the same channels, which
//! wait for their turn where threads take turns ([`super::turns`]). There a channel of capacity 0 can only be waited on for its end.

#[cfg(any(test, feature = "testing"))]
pub(crate) use crossbeam_channel::RecvTimeoutError;
#[cfg(not(any(test, feature = "testing")))]
pub(crate) use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
#[cfg(any(test, feature = "testing"))]
pub(crate) use taking_turns::{Receiver, Sender, bounded, unbounded};

#[cfg(any(test, feature = "testing"))]
mod taking_turns {
    use crate::runtime::turns::{current, new_event};
    use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};
    use std::fmt;
    use std::time::Duration;

    /// Says that a channel changed, once what it belongs to has let go of the channel.
    #[derive(Debug, Clone, Copy)]
    struct Event(u64);

    impl Event {
        fn notify(self) {
            if let Some(turns) = current() {
                turns.notify(self.0);
            }
        }
    }

    /// As that of `crossbeam_channel`.
    pub(crate) struct Sender<T> {
        /// `None` while it is dropped.
        inner: Option<crossbeam_channel::Sender<T>>,
        event: Event,
    }

    /// As that of `crossbeam_channel`.
    pub(crate) struct Receiver<T> {
        /// `None` while it is dropped.
        inner: Option<crossbeam_channel::Receiver<T>>,
        event: Event,
    }

    pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        both(crossbeam_channel::bounded(capacity))
    }

    pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        both(crossbeam_channel::unbounded())
    }

    fn both<T>((sender, receiver): (crossbeam_channel::Sender<T>, crossbeam_channel::Receiver<T>)) -> (Sender<T>, Receiver<T>) {
        let event = Event(new_event());
        (Sender { inner: Some(sender), event }, Receiver { inner: Some(receiver), event })
    }

    impl<T> Sender<T> {
        pub(crate) fn send(&self, mut value: T) -> Result<(), SendError<T>> {
            let Some(inner) = &self.inner else { return Err(SendError(value)) };
            let Some(turns) = current() else { return inner.send(value) };
            loop {
                match inner.try_send(value) {
                    Ok(()) => break,
                    Err(TrySendError::Disconnected(value)) => return Err(SendError(value)),
                    Err(TrySendError::Full(back)) => value = back,
                }
                turns.wait(self.event.0, None);
            }
            turns.notify(self.event.0);
            turns.pass();
            Ok(())
        }
    }

    impl<T> Sender<T> {
        pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
            let Some(inner) = &self.inner else { return Err(TrySendError::Disconnected(value)) };
            inner.try_send(value)?;
            self.event.notify();
            Ok(())
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn recv(&self) -> Result<T, RecvError> {
            match (current(), &self.inner) {
                (None, Some(inner)) => inner.recv(),
                _ => self.recv_until(None).map_err(|_| RecvError),
            }
        }

        pub(crate) fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
            match (current(), &self.inner) {
                (None, Some(inner)) => inner.recv_timeout(timeout),
                (None, None) => Err(RecvTimeoutError::Disconnected),
                (Some(turns), _) => {
                    let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
                    self.recv_until(Some(turns.monotonic_ns().saturating_add(timeout)))
                }
            }
        }

        pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
            let received = self.inner.as_ref().map_or(Err(TryRecvError::Disconnected), crossbeam_channel::Receiver::try_recv);
            if received.is_ok() {
                self.event.notify();
            }
            received
        }

        pub(crate) fn try_iter(&self) -> impl Iterator<Item = T> {
            std::iter::from_fn(|| self.try_recv().ok())
        }

        pub(crate) fn iter(&self) -> Iter<'_, T> {
            Iter(self)
        }

        fn recv_until(&self, until_ns: Option<u64>) -> Result<T, RecvTimeoutError> {
            loop {
                match self.try_recv() {
                    Ok(value) => return Ok(value),
                    Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                    Err(TryRecvError::Empty) => {}
                }
                let Some(turns) = current() else { return Err(RecvTimeoutError::Disconnected) };
                if until_ns.is_some_and(|until| turns.monotonic_ns() >= until) {
                    return Err(RecvTimeoutError::Timeout);
                }
                turns.wait(self.event.0, until_ns);
            }
        }
    }

    impl<T> fmt::Debug for Sender<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Sender")
        }
    }

    impl<T> fmt::Debug for Receiver<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Receiver")
        }
    }

    /// What comes out of a channel until it ends.
    pub(crate) struct Iter<'a, T>(&'a Receiver<T>);

    impl<T> Iterator for Iter<'_, T> {
        type Item = T;

        fn next(&mut self) -> Option<T> {
            self.0.recv().ok()
        }
    }

    impl<'a, T> IntoIterator for &'a Receiver<T> {
        type Item = T;
        type IntoIter = Iter<'a, T>;

        fn into_iter(self) -> Iter<'a, T> {
            self.iter()
        }
    }

    /// The same, and owns the channel.
    pub(crate) struct IntoIter<T>(Receiver<T>);

    impl<T> Iterator for IntoIter<T> {
        type Item = T;

        fn next(&mut self) -> Option<T> {
            self.0.recv().ok()
        }
    }

    impl<T> IntoIterator for Receiver<T> {
        type Item = T;
        type IntoIter = IntoIter<T>;

        fn into_iter(self) -> IntoIter<T> {
            IntoIter(self)
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            Self { inner: self.inner.clone(), event: self.event }
        }
    }

    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Self {
            Self { inner: self.inner.clone(), event: self.event }
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.inner = None;
            self.event.notify();
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.inner = None;
            self.event.notify();
        }
    }
}
