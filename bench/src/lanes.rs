//! Where devices run that send all the time: one thread on each processor, which stays there, and each device with one of them. So a
//! device's packets always come from the same processor, as those of a connection come from one queue of a network card, and
//! what the generator takes does not change with where its threads happen to be.

use std::sync::LazyLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, Handle, Runtime};

static LANES: LazyLock<Vec<Runtime>> = LazyLock::new(|| processors().into_iter().map(lane).collect());

/// The lane of the device with this number.
pub(crate) fn of(place: usize) -> Handle {
    LANES.get(place % LANES.len().max(1)).map_or_else(Handle::current, |lane| lane.handle().clone())
}

/// The processors that this process may use.
pub(crate) fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect()
}

/// Keeps this thread on a processor.
pub(crate) fn stay_on(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    // It is one of those that are allowed. Elsewhere the thread works as well, and what is measured swings more.
    let _ = sched_setaffinity(None, &set);
}

fn lane(processor: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(move || stay_on(processor))
        .enable_all()
        .build()
        .expect("threads are to be had for a generator that starts")
}
