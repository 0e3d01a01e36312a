//! A set of wakers, each task in it once however often it asks.

use std::collections::HashMap;
use std::task::Waker;

/// The tasks that wait for one thing.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    /// By what makes two wakers the same: their data and their functions.
    wakers: HashMap<(usize, usize), Waker>,
}

impl Wakers {
    /// Adds a task. Ten thousand connections may come at once, so that looking through a list will not do.
    pub(super) fn add(&mut self, waker: &Waker) {
        let identity = (waker.data() as usize, std::ptr::from_ref(waker.vtable()) as usize);
        self.wakers.entry(identity).or_insert_with(|| waker.clone());
    }

    /// Takes all out, to be woken when no lock is held.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Wakes all.
    pub(super) fn wake(self) {
        self.wakers.into_values().for_each(Waker::wake);
    }
}
