//! Which tickets are settled, and who waits for the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use hub::ports::event_log::AppendError;

use super::lock;

/// The watermark of settled positions. All that is settled is durable but for the ranges that failed.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    settled: AtomicU64,
    /// The last position that failed; 0 when none did. Stored before `settled`.
    failed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: VecDeque<Failure>,
    /// One waker for each ticket that is waited for: the bound on the queue bounds this as well.
    waiting: BTreeMap<u64, Waker>,
}

#[derive(Debug)]
struct Failure {
    first: u64,
    last: u64,
    error: AppendError,
}

/// How many failures are told apart. Beyond that the oldest two become one, with the durable tickets between them:
/// whoever asks that late sends again, and nothing that failed is ever called durable.
const FAILURES_MAX: usize = 1024;

impl Tickets {
    /// Settles all tickets up to a position and wakes who waits for them; says how many there were.
    pub(crate) fn settle(&self, position: u64, result: Result<(), AppendError>) -> u64 {
        let mut state = lock(&self.state);
        let first = self.settled.load(Ordering::Relaxed) + 1;
        if position < first {
            return 0;
        }
        if let Err(error) = result {
            state.fail(Failure { first, last: position, error });
            self.failed.store(position, Ordering::Relaxed);
        }
        // Pairs with the load in `poll`: who sees the position sees the failure too.
        self.settled.store(position, Ordering::Release);
        let later = state.waiting.split_off(&(position + 1));
        let ready = std::mem::replace(&mut state.waiting, later);
        drop(state);
        ready.into_values().for_each(Waker::wake);
        position + 1 - first
    }

    /// Ready when the ticket is settled. The last waker given for a ticket is the one that is called.
    pub(crate) fn poll(&self, position: u64, cx: &mut Context<'_>) -> Poll<Result<(), AppendError>> {
        if self.settled.load(Ordering::Acquire) < position {
            let mut state = lock(&self.state);
            if self.settled.load(Ordering::Acquire) < position {
                state.waiting.insert(position, cx.waker().clone());
                return Poll::Pending;
            }
        }
        if self.failed.load(Ordering::Relaxed) < position {
            return Poll::Ready(Ok(()));
        }
        let state = lock(&self.state);
        let failure = state.failures.iter().find(|range| (range.first..=range.last).contains(&position));
        Poll::Ready(failure.map_or(Ok(()), |range| Err(range.error.clone())))
    }
}

impl State {
    fn fail(&mut self, failure: Failure) {
        match self.failures.back_mut() {
            Some(last) if last.last + 1 == failure.first && last.error == failure.error => {
                last.last = failure.last;
            }
            _ => self.failures.push_back(failure),
        }
        if self.failures.len() > FAILURES_MAX
            && let Some(oldest) = self.failures.pop_front()
            && let Some(next) = self.failures.front_mut()
        {
            next.first = oldest.first;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_ticket_is_told_once_and_only_when_settled() {
        let tickets = Tickets::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = &mut Context::from_waker(&waker);
        for _ in 0..3 {
            assert_eq!(tickets.poll(2, cx), Poll::Pending);
        }
        tickets.settle(1, Ok(()));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        tickets.settle(2, Ok(()));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(tickets.poll(2, cx), Poll::Ready(Ok(())));
    }

    #[test]
    fn what_failed_is_never_called_durable_however_much_fails_later() {
        let tickets = Tickets::default();
        let cx = &mut Context::from_waker(Waker::noop());
        for n in 0..3_000 {
            tickets.settle(2 * n + 1, Err(AppendError::NoSpace));
            tickets.settle(2 * n + 2, Ok(()));
        }
        for n in 0..3_000 {
            assert_eq!(tickets.poll(2 * n + 1, cx), Poll::Ready(Err(AppendError::NoSpace)));
        }
        assert_eq!(tickets.poll(6_000, cx), Poll::Ready(Ok(())));
        assert_eq!(lock(&tickets.state).failures.len(), FAILURES_MAX);
    }
}
