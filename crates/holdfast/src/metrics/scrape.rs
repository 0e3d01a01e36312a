//! One scrape: the counters, and what is true at the moment.

use hub::error::HubError;
use hub::finding::Severity;
use hub::hub::Hub;
use hub::service_bound::Lane;
use jiff::Timestamp;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::{Labels, Metrics, process};
use crate::guard::Guard;

/// The media type of the text.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text of a scrape (OpenMetrics 1.0).
pub(crate) async fn scrape(metrics: &Metrics, hub: &Hub, guard: &Guard) -> Result<String, HubError> {
    let mut text = String::with_capacity(16 * 1024);
    let now = now(hub, guard).await?;
    let written = encode_registry(&mut text, &metrics.registry)
        .and_then(|()| encode_registry(&mut text, &now))
        .and_then(|()| encode_registry(&mut text, &process::registry()))
        .and_then(|()| encode_eof(&mut text));
    // Writing to a string does not fail.
    debug_assert!(written.is_ok());
    Ok(text)
}

async fn now(hub: &Hub, guard: &Guard) -> Result<Registry, HubError> {
    let host = hub.settings.hosts.first().cloned().unwrap_or_default();
    let mut registry =
        Registry::with_prefix_and_labels("holdfast", [("hub".into(), host.into())].into_iter());
    let build: Family<Labels, Gauge> = Family::default();
    build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("build_info", "The version that runs", build);

    let (total, disabled) = hub.device_counts().await?;
    let devices: Family<Labels, Gauge> = Family::default();
    for (state, count) in [("enabled", total.saturating_sub(disabled)), ("disabled", disabled)] {
        devices.get_or_create(&vec![("state", state)]).set(count as i64);
    }
    registry.register("devices", "Registered devices", devices);

    registry.register(
        "auth_delayed",
        "Refusals that were answered late, or not at all, because there were too many",
        ConstCounter::new(hub.backoff.delayed()),
    );
    registry.register(
        "hub_events_lost",
        "Events of the hub that did not enter the stream, because the log had no room or failed",
        ConstCounter::new(hub.events.lost()),
    );
    registry.register(
        "event_log_bytes",
        "What the event log takes on the disk",
        ConstGauge::new(guard.place().bytes("journal") as i64),
    );
    registry.register(
        "store_bytes",
        "What the registry and the audit log take on the disk",
        ConstGauge::new(guard.place().bytes("registry.db") as i64),
    );

    let ahead = guard.upkeep().retention.ahead().map_or(0, |ahead| ahead.ahead.as_secs());
    registry.register(
        "clock_ahead_seconds",
        "How far the time of day is ahead of the time by which events are deleted; 0 where it is believed",
        ConstGauge::new(ahead as i64),
    );

    if let Some(disk) = guard.upkeep().retention.disk() {
        let (free, reserve) = (ConstGauge::new(disk.free as i64), ConstGauge::new(disk.reserve as i64));
        registry.register("disk_free_bytes", "What is free on the disk of the event log", free);
        registry.register("disk_reserve_bytes", "Telemetry is refused when less than this is free", reserve);
    }
    let damaged: Family<Labels, Gauge> = Family::default();
    let found = guard.upkeep().scrub.damaged();
    for (file, places) in [("journal", found.journal), ("registry", found.registry)] {
        damaged.get_or_create(&vec![("file", file)]).set(places.len() as i64);
    }
    registry.register("damaged_places", "Places of the hub's own files that cannot be read", damaged);

    messages(&mut registry, hub).await?;
    let outgoing: Family<Labels, Gauge> = Family::default();
    for (lane, kind) in [(Lane::Feedback, "feedback"), (Lane::FileNotifications, "file_notification")] {
        let waiting = hub.service_bound_waiting(lane).await?;
        outgoing.get_or_create(&vec![("kind", kind)]).set(waiting as i64);
    }
    registry.register("service_bound_messages", "Messages that wait for services", outgoing);

    let expiry: Family<Labels, Gauge> = Family::default();
    let server = guard.server_certificate().not_after;
    expiry.get_or_create(&vec![("kind", "server")]).set(server.as_second());
    registry.register(
        "tls_certificate_expiry_timestamp_seconds",
        "When the hub's certificate ends, in seconds since 1970",
        expiry,
    );
    posture(&mut registry, guard, hub.now());
    Ok(registry)
}

/// What became of all messages: those of the stream for each consumer group, and the device-bound ones. Both always balance.
async fn messages(registry: &mut Registry, hub: &Hub) -> Result<(), HubError> {
    let events: Family<Vec<(&'static str, String)>, Gauge> = Family::default();
    let mut stored = 0;
    for (group, balance) in hub.stream_balances().await? {
        stored = balance.stored;
        for (state, count) in [
            ("delivered", balance.delivered),
            ("waiting", balance.waiting),
            ("expired", balance.expired),
            ("passed_over", balance.passed_over),
        ] {
            let labels = vec![("consumer_group", group.clone()), ("state", state.to_owned())];
            events.get_or_create(&labels).set(count as i64);
        }
    }
    registry.register("events_stored", "Events that were ever stored", ConstGauge::new(stored as i64));
    registry.register(
        "events",
        "What became of them, for each consumer group; the sum is what was stored",
        events,
    );

    let counts = hub.inbox_counts().await?;
    let inbox: Family<Labels, Gauge> = Family::default();
    for (state, count) in [
        ("waiting", counts.waiting),
        ("completed", counts.gone.completed),
        ("rejected", counts.gone.rejected),
        ("expired", counts.gone.expired),
        ("delivery_count_exceeded", counts.gone.delivery_count_exceeded),
        ("purged", counts.gone.purged),
    ] {
        inbox.get_or_create(&vec![("state", state)]).set(count as i64);
    }
    let sent = ConstGauge::new(counts.sent as i64);
    registry.register(
        "device_bound_messages_sent",
        "Device-bound messages that were ever sent to today's devices",
        sent,
    );
    registry.register("device_bound_messages", "What became of them; the sum is what was sent", inbox);
    Ok(())
}

/// What the last look found; nothing before the first one.
fn posture(registry: &mut Registry, guard: &Guard, now: Timestamp) {
    let Some(report) = guard.latest() else { return };
    registry.register("posture_score", "0 to 100", ConstGauge::new(report.score.score));
    registry.register(
        "posture_coverage_ratio",
        "The share of what the checks concern of which enough is known",
        ConstGauge::new(report.score.coverage),
    );
    let unknown: Family<Labels, Gauge> = Family::default();
    let findings: Family<Labels, Gauge> = Family::default();
    for tally in &report.tallies {
        unknown.get_or_create(&vec![("check", tally.check)]).set(tally.unknown as i64);
        let family = tally.check.split('-').next().unwrap_or_default();
        for severity in [Severity::Critical, Severity::High, Severity::Medium, Severity::Low] {
            let counts = |f: &&hub::finding::Finding| {
                f.counts(now) && f.severity == severity && f.check == tally.check
            };
            let open = report.findings.iter().filter(counts).count() as i64;
            findings.get_or_create(&vec![("severity", severity.as_str()), ("family", family)]).inc_by(open);
        }
    }
    registry.register("findings", "Open findings that are not waived", findings);
    registry.register("check_unknown_resources", "Resources of which a check knows too little", unknown);
}
