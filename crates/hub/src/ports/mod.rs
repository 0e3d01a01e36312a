//! What the rules need from outside, in the hub's words. Every port has at least two adapters, so that none is
//! shaped after one product; no SQL type, broker type or file crosses it.

pub mod audit;
pub mod blobs;
pub mod bus;
pub mod clock;
pub mod event_log;
pub mod registry;
pub mod remote;
pub mod secrets;

use std::future::Future;
use std::pin::Pin;

/// What an asynchronous port function returns: boxed, so that ports stay object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
