//! A back end of Holdfast: calls of methods and desired properties over REST, at an even rate from several connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::subject::{Subject, agent, name};

/// Connections of one kind of request, and so requests that may be under way.
const WORKERS: u32 = 16;

/// What a back end asks for, and of whom.
pub(crate) struct Errand {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// A path below `/twins/{device}`.
pub(crate) fn twin_path(place: usize, rest: &str) -> String {
    format!("/twins/{}{rest}?api-version=2021-04-12", name(place))
}

/// The even rate of one kind of request.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// When the first is sent.
    pub(crate) begin: Instant,
    /// Requests a second.
    pub(crate) rate: u32,
    /// How many.
    pub(crate) count: u32,
}

/// Sends requests, of which `errand` makes each by its number. Gives the microseconds that each took, from the moment at which
/// it was due: a back end that falls behind waits, too.
pub(crate) async fn send(
    subject: &Subject,
    pace: Pace,
    errand: impl Fn(u32) -> Errand + Send + Sync + 'static,
) -> Result<Vec<u32>> {
    let (next, errand) = (Arc::new(AtomicU32::new(0)), Arc::new(errand));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (subject, next, errand) = (subject.clone(), next.clone(), errand.clone());
            // A thread of its own: the client blocks.
            tokio::task::spawn_blocking(move || work(&subject, pace, &next, &*errand))
        })
        .collect();
    let mut times = Vec::with_capacity(pace.count as usize);
    for worker in workers {
        times.extend(worker.await??);
    }
    Ok(times)
}

fn work(subject: &Subject, pace: Pace, next: &AtomicU32, errand: &dyn Fn(u32) -> Errand) -> Result<Vec<u32>> {
    let service = subject.service()?;
    let agent = agent(&service.ca_pem)?;
    let mut times = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= pace.count {
            return Ok(times);
        }
        let due = pace.begin + Duration::from_secs_f64(f64::from(number) / f64::from(pace.rate.max(1)));
        sleep(due.saturating_duration_since(Instant::now()));
        let Errand { method, path, body } = errand(number);
        let url = format!("{}{path}", service.url);
        let request = match method {
            "POST" => agent.post(&url),
            _ => agent.patch(&url),
        };
        let mut response = request.header("authorization", &service.token).send_json(&body)?;
        let answer = response.body_mut().read_to_string()?;
        if !response.status().is_success() {
            bail!("{method} {path} was answered with {}: {answer}", response.status());
        }
        times.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
}
