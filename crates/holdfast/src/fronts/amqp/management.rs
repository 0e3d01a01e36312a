//! `$management` of the event hub: its properties and those of its partitions
//! (`docs/protocol/event-hubs-endpoint.md` §5).

use hub::decision::cut;
use hub::hub::Hub;
use hub::ports::event_log::Bounds;
use hub::refusal::Refusal;
use wire::amqp::codec::{Array, Value, ValueRef};
use wire::amqp::message::{Message, MessageWriter, Properties};

use super::event::{as_long, last_offset, last_sequence};

/// Writes the answer to a request. What is returned is why it was refused, where that is worth a record.
pub(super) fn answer(
    hub: &Hub,
    created: i64,
    request: &Message<'_>,
    w: &mut MessageWriter<'_>,
) -> Option<Refusal> {
    let text =
        |name: &str| request.application_properties.get(name).and_then(ValueRef::as_text).unwrap_or_default();
    let (name, kind) = (hub.settings.event_hub_name.as_str(), text("type"));
    if !text("operation").eq_ignore_ascii_case("READ") {
        refuse(w, request, 501, "amqp:not-implemented", "The operation is not READ.");
        return None;
    }
    let asked = text("name");
    if !asked.eq_ignore_ascii_case(name) {
        let text = format!("The messaging entity '{asked}' could not be found.");
        refuse(w, request, 404, "amqp:not-found", &text);
        return Some(Refusal::UnknownEventHub { presented: cut(asked), name: name.to_owned() });
    }
    let partitions = hub.partition_count();
    match kind.to_ascii_lowercase().as_str() {
        "com.microsoft:eventhub" => {
            accept(w, request);
            w.value_map(|map| {
                map.string("name", name);
                map.string("type", "com.microsoft:eventhub");
                map.timestamp("created_at", created);
                map.int("partition_count", i32::from(partitions));
                let ids = Array::of_strings((0..partitions).map(|id| id.to_string()));
                map.value("partition_ids", &Value::Array(ids));
                map.int("georeplication_factor", 1);
            });
        }
        "com.microsoft:partition" => match partition_bounds(hub, text("partition")) {
            Some(bounds) => {
                accept(w, request);
                write_partition(w, name, text("partition"), &bounds);
            }
            None => {
                let partition = text("partition");
                let text = format!("The partition '{partition}' could not be found.");
                refuse(w, request, 404, "amqp:not-found", &text);
                return Some(Refusal::UnknownPartition { partition: cut(partition), count: partitions });
            }
        },
        _ => refuse(w, request, 400, "com.microsoft:argument-error", "The type is not known."),
    }
    None
}

fn partition_bounds(hub: &Hub, partition: &str) -> Option<Bounds> {
    let id = partition.parse().ok().filter(|id| *id < hub.partition_count())?;
    hub.log.bounds(id)
}

fn write_partition(w: &mut MessageWriter<'_>, name: &str, partition: &str, bounds: &Bounds) {
    w.value_map(|map| {
        map.string("name", name);
        map.string("type", "com.microsoft:partition");
        map.string("partition", partition);
        map.long("begin_sequence_number", as_long(bounds.first_sequence));
        map.long("last_enqueued_sequence_number", last_sequence(bounds));
        map.string("last_enqueued_offset", &last_offset(bounds));
        map.timestamp("last_enqueued_time_utc", bounds.last_enqueued);
        map.bool("is_partition_empty", bounds.first_sequence == bounds.next_sequence);
    });
}

fn accept(w: &mut MessageWriter<'_>, request: &Message<'_>) {
    super::cbs::answer(w, request, 200, "OK");
}

fn refuse(w: &mut MessageWriter<'_>, request: &Message<'_>, status: i32, condition: &str, description: &str) {
    w.properties(&Properties { correlation_id: request.properties.message_id, ..Properties::default() });
    w.application_properties(|map| {
        map.int("status-code", status);
        map.string("status-description", description);
        map.symbol("error-condition", condition);
    });
}
