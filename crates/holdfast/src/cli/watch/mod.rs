//! `holdfast device watch`: what concerns one device, as it happens, out of three sources: the event stream, the audit log,
//! and its queue of device-bound messages.

mod inbox;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use sim::{Event, EventReader, Start};
use tokio::time::{MissedTickBehavior, interval};

use self::inbox::Inbox;
use super::Common;
use super::audit::row;
use super::events;
use super::lines::{Lines, body};
use super::target::{Request, Target, encoded};

/// Time between two looks at the audit log and the queue. What came in between is shown in order.
const LOOK: Duration = Duration::from_secs(1);
/// Records that one request asks for.
const RECORDS: usize = 100;

/// Show live what one device does, and what is done to it, until Ctrl-C.
///
/// Its telemetry, connections, refusals and their causes, changes of its twin and registration with who made them, and what
/// becomes of the messages that are sent to it. Changes of twins come out of the event stream, where the hub puts them there
/// (hub-events).
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast device watch pump-1
  holdfast device watch pump-1 --consumer-group dashboard -o jsonl")]
pub(crate) struct WatchArgs {
    /// The device id.
    id: String,
    /// The consumer group to read in.
    #[arg(long, value_name = "NAME", default_value = "$Default")]
    consumer_group: String,
    #[command(flatten)]
    common: Common,
}

/// Something that happened.
struct Happened {
    time: Timestamp,
    what: String,
    details: Vec<(&'static str, Value)>,
}

/// Watches until Ctrl-C.
pub(super) fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let target = args.common.target.open()?;
    let options = events::options(&target, args.consumer_group, Start::Latest)?;
    let log = Log::begin(Arc::new(target), args.id.clone())?;
    let lines = Lines::new(args.common.output);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watched = runtime.block_on(async {
        let mut reader = EventReader::connect(&options).await.context("the events could not be read")?;
        lines.tell(
            "watching",
            &[("device", json!(args.id)), ("partitions", json!(reader.partitions().count()))],
        );
        let watched = watch(&mut reader, log, &args.id, &lines).await;
        reader.close().await;
        watched
    });
    // A look that is under way does not hold up the end.
    runtime.shutdown_background();
    watched.map(|()| ExitCode::SUCCESS)
}

async fn watch(reader: &mut EventReader, log: Log, device: &str, lines: &Lines) -> anyhow::Result<()> {
    let mut every = interval(LOOK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut happened, mut log, mut look) = (Vec::new(), Some(log), None);
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            event = reader.next() => {
                let event = event.context("the events could not be read")?;
                if concerns(&event, device) {
                    happened.push(of_event(&event));
                }
            }
            _ = every.tick(), if look.is_none() => {
                // The requests block, and events come in the meantime.
                look = log.take().map(|log| tokio::task::spawn_blocking(move || log.look()));
            }
            looked = async { look.as_mut().expect("a look is under way").await }, if look.is_some() => {
                let (back, found) = looked.context("a look failed")??;
                (log, look) = (Some(back), None);
                happened.extend(found);
                happened.sort_by_key(|happened: &Happened| happened.time);
                for Happened { time, what, details } in happened.drain(..) {
                    lines.tell_of(time, &what, &details);
                }
            }
            _ = &mut stop => return Ok(()),
        }
    }
}

/// What is asked for again and again.
struct Log {
    target: Arc<Target>,
    device: String,
    /// The number of the last record that was shown.
    last: u64,
    inbox: Inbox,
}

impl Log {
    /// From now on.
    fn begin(target: Arc<Target>, device: String) -> anyhow::Result<Self> {
        let mut log = Self { target, device, last: 0, inbox: Inbox::default() };
        let newest = log.ask(&format!("audit/records?limit=1&device={}", encoded(&log.device)))?;
        log.last = newest.pointer("/0/number").and_then(Value::as_u64).unwrap_or_default();
        // A device that is not registered yet may be watched, too: it has no queue.
        let queue = log.queue();
        log.inbox.compare(&queue);
        Ok(log)
    }

    fn ask(&self, path: &str) -> anyhow::Result<Value> {
        self.target.management(Request::new("GET", format!("/holdfast/v1/{path}")))
    }

    fn queue(&self) -> Value {
        self.ask(&format!("inbox/{}", encoded(&self.device))).unwrap_or_default()
    }

    /// What happened since the last look.
    fn look(mut self) -> anyhow::Result<(Self, Vec<Happened>)> {
        let records = self.records()?;
        let was_refused = records.iter().any(|record| !record["refusal"].is_null());
        let causes = match was_refused {
            true => self.ask(&format!("why?limit={RECORDS}&device={}", encoded(&self.device)))?,
            false => Value::Null,
        };
        let mut happened: Vec<Happened> = records.iter().map(|record| of_record(record, &causes)).collect();
        let queue = self.queue();
        happened.extend(self.inbox.compare(&queue));
        Ok((self, happened))
    }

    /// The records since the last look.
    fn records(&mut self) -> anyhow::Result<Vec<Value>> {
        let (mut records, mut before) = (Vec::new(), String::new());
        loop {
            let device = encoded(&self.device);
            let page = self.ask(&format!("audit/records?limit={RECORDS}&device={device}{before}"))?;
            let page = page.as_array().map_or(&[][..], Vec::as_slice);
            let number = |record: &Value| record["number"].as_u64().unwrap_or_default();
            records.extend(page.iter().filter(|record| number(record) > self.last).cloned());
            match page.last().map(number) {
                Some(oldest) if oldest > self.last && page.len() == RECORDS => {
                    before = format!("&before={oldest}");
                }
                _ => break,
            }
        }
        let newest = records.iter().filter_map(|record| record["number"].as_u64()).max();
        self.last = newest.unwrap_or(self.last);
        Ok(records)
    }
}

/// Whether an event is the device's, and not one of those that the audit log has too.
fn concerns(event: &Event, device: &str) -> bool {
    let is_in_the_log =
        ["deviceLifecycleEvents", "deviceConnectionStateEvents"].contains(&event.source.as_str());
    event.device == device && !is_in_the_log
}

fn of_event(event: &Event) -> Happened {
    let text = |name: &str| event.properties.iter().find(|(have, _)| have == name).map(|(_, value)| value);
    let (what, details) = match event.source.as_str() {
        "twinChangeEvents" => (
            "twin",
            vec![
                ("module", json!(event.module)),
                ("how", json!(text("opType"))),
                ("changed", without_metadata(body(&event.body))),
            ],
        ),
        _ => {
            let properties: serde_json::Map<String, Value> =
                event.properties.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            let properties = if properties.is_empty() { Value::Null } else { Value::Object(properties) };
            let (module, id) = (json!(event.module), json!(event.message_id));
            (
                "telemetry",
                vec![("module", module), ("id", id), ("body", body(&event.body)), ("properties", properties)],
            )
        }
    };
    let time = Timestamp::from_millisecond(event.enqueued_milliseconds).unwrap_or_default();
    Happened { time, what: what.to_owned(), details }
}

/// A change of a twin without the times of all its properties, which nobody reads as they pass by.
fn without_metadata(mut twin: Value) -> Value {
    for section in ["desired", "reported"] {
        if let Some(section) =
            twin.pointer_mut(&format!("/properties/{section}")).and_then(Value::as_object_mut)
        {
            section.remove("$metadata");
        }
    }
    twin
}

/// A record, with its explanation if it is that of a refusal.
fn of_record(record: &Value, causes: &Value) -> Happened {
    let row = row(record);
    let cause = causes.as_array().into_iter().flatten().find(|cause| cause["number"] == record["number"]);
    let said = |name: &str| cause.map(|cause| cause[name].clone()).unwrap_or_default();
    let what = match record["refusal"].is_null() {
        true => record.pointer("/act/kind").and_then(Value::as_str).unwrap_or("record"),
        false => "refused",
    };
    Happened {
        time: record["time"].as_str().and_then(|time| time.parse().ok()).unwrap_or_default(),
        what: what.to_owned(),
        details: vec![
            ("number", record["number"].clone()),
            ("did", if row["what"] == what { Value::Null } else { row["what"].clone() }),
            ("who", row["who"].clone()),
            ("from", row["from"].clone()),
            ("cause", record.pointer("/refusal/cause").cloned().unwrap_or_default()),
            (
                "count",
                match record["count"].as_u64() {
                    Some(0 | 1) | None => Value::Null,
                    Some(count) => json!(count),
                },
            ),
            ("explanation", said("explanation")),
            ("fix", said("fix")),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_shown_with_its_cause_and_a_change_with_who_made_it() {
        let refused = json!({
            "number": 7, "time": "2026-11-22T09:14:03Z", "act": { "kind": "connect" }, "identity": "pump-1",
            "refusal": { "cause": "sas-expired" },
        });
        let causes = json!([{ "number": 7, "explanation": "It ended.", "fix": "renew" }]);
        let shown = of_record(&refused, &causes);
        assert_eq!(shown.what, "refused");
        assert!(shown.details.contains(&("cause", json!("sas-expired"))));
        assert!(shown.details.contains(&("explanation", json!("It ended."))));
        let change = json!({
            "number": 8, "time": "2026-11-22T09:14:04Z", "identity": "pump-1", "actor": "operator",
            "act": { "kind": "change", "what": "update device", "target": "pump-1" },
        });
        let shown = of_record(&change, &Value::Null);
        assert_eq!(shown.what, "change");
        assert!(shown.details.contains(&("who", json!("pump-1 by operator"))));
        assert!(shown.details.contains(&("did", json!("update device pump-1"))));
    }
}
