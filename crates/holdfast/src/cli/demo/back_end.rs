//! The back end of the demo: it reads the events over AMQP, and asks the hub why a device was refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;
use sim::{Event, EventReader, ReaderOptions, SasKey, Start};
use tokio::sync::watch;

use super::fleet::MEMBERS;
use super::{Shared, Way};
use crate::cli::target::{Request, Target, encoded};

/// Events that may be under way per partition.
const CREDIT: u32 = 300;
/// How long to wait before the hub is asked or dialled again.
const RETRY: Duration = Duration::from_secs(1);

/// A reader of all events from now on.
pub(super) struct Reading {
    reader: EventReader,
    options: ReaderOptions,
    /// The last event of each partition, where reading goes on when the connection is lost.
    last: BTreeMap<Arc<str>, i64>,
    /// Events from before are those of another run.
    since_milliseconds: i64,
}

impl Reading {
    /// Connects with the Event Hubs-compatible connection string.
    pub(super) async fn begin(way: &Way, ready: &Value) -> anyhow::Result<Self> {
        let text = ready["eventhub_connection_string"].as_str().context("the policy iothubowner is gone")?;
        let part = |name: &str| {
            let part =
                text.split(';').filter_map(|part| part.split_once('=')).find(|(have, _)| *have == name);
            part.map(|(_, value)| value).with_context(|| format!("the connection string has no {name}"))
        };
        let options = ReaderOptions {
            address: way.amqp,
            server_name: way.server_name.clone(),
            host: way.host.clone(),
            event_hub: part("EntityPath")?.to_owned(),
            key: SasKey::of_event_hubs(part("SharedAccessKeyName")?, part("SharedAccessKey")?),
            trust: way.trust.clone(),
            consumer_group: "$Default".to_owned(),
            start: Start::Latest,
            credit: CREDIT,
        };
        let reader = EventReader::connect(&options).await.context("the events could not be read")?;
        Ok(Self {
            reader,
            options,
            last: BTreeMap::new(),
            since_milliseconds: Timestamp::now().as_millisecond(),
        })
    }

    /// Reads until the end.
    pub(super) async fn run(mut self, board: Shared, mut stop: watch::Receiver<bool>) {
        loop {
            let batch = tokio::select! {
                batch = self.reader.next_batch() => batch,
                _ = stop.changed() => return self.reader.close().await,
            };
            match batch {
                Ok(events) => events.iter().for_each(|event| self.take(event, &board)),
                Err(error) => {
                    board.lock().reader_trouble = Some(error.to_string());
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        _ = stop.changed() => return,
                    }
                    // From the beginning: what was read already is passed over by its sequence number.
                    self.options.start = Start::Earliest;
                    if let Ok(reader) = EventReader::connect(&self.options).await {
                        self.reader = reader;
                        board.lock().reader_trouble = None;
                    }
                }
            }
        }
    }

    fn take(&mut self, event: &Event, board: &Shared) {
        let last = self.last.entry(event.partition.clone()).or_insert(-1);
        let passed_over = event.sequence <= *last || event.enqueued_milliseconds < self.since_milliseconds;
        if !passed_over {
            *last = event.sequence;
            board.lock().read_back(&event.device);
        }
    }
}

/// Asks the hub why the device with the wrong clock was refused, until it says so.
pub(super) async fn ask_why(target: Arc<Target>, board: Shared, mut stop: watch::Receiver<bool>) {
    let Some(wrong) = MEMBERS.iter().find(|member| !member.flaw.clock_behind().is_zero()) else { return };
    let path = format!("/holdfast/v1/why?limit=1&device={}", encoded(wrong.id));
    loop {
        let (target, path) = (target.clone(), path.clone());
        let asked = tokio::task::spawn_blocking(move || target.management(Request::new("GET", path))).await;
        if let Ok(Ok(Value::Array(entries))) = asked
            && let Some(newest) = entries.into_iter().next()
        {
            board.lock().why = Some(newest);
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = stop.changed() => return,
        }
    }
}
