//! The simulated devices: each connects, sends its readings, and comes back when it is thrown out.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::{Value, json};
use sim::{Clock, Credential, Device, DeviceOptions, Message, QoS, SasKey, SimError};
use tokio::sync::watch;

use super::board::State;
use super::plant::{Quantity, Sensor, Shape};
use super::{Shared, Way};
use crate::cli::target::{Request, Target, encoded};

/// A device of the demo.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// Its id.
    pub(super) id: &'static str,
    /// What it measures.
    pub(super) quantity: Quantity,
    /// Time between two readings.
    every: Duration,
    /// How late its clock is.
    pub(super) clock_behind: Duration,
}

/// How late the clock of the wrong one is.
const LATE: Duration = Duration::from_secs(3 * 3_600);
/// How long a token lives.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);
/// How long a device waits before it tries again.
const RETRY: Duration = Duration::from_secs(3);

/// The fleet; the last one has a clock that is hours late.
pub(super) const MEMBERS: &[Member] = &[
    member("boiler-1", 200, wave("temperature", "°C", 82.0, 7.0, 90.0, 88.0)),
    member("compressor-1", 250, wave("pressure", "bar", 6.4, 0.9, 50.0, 7.2)),
    member("line-1", 200, wave("flow", "m³/h", 18.0, 5.0, 70.0, 22.5)),
    member("motor-1", 100, shaped(Shape::Bursts, "vibration", "mm/s", 2.4, 1.6, 60.0, 3.5)),
    member("tank-1", 500, shaped(Shape::Saw, "level", "%", 55.0, 35.0, 40.0, 85.0)),
    Member { clock_behind: LATE, ..member("meter-1", 500, wave("power", "kW", 41.0, 9.0, 60.0, 48.0)) },
];

const fn member(id: &'static str, every_milliseconds: u64, quantity: Quantity) -> Member {
    Member { id, quantity, every: Duration::from_millis(every_milliseconds), clock_behind: Duration::ZERO }
}

const fn wave(
    name: &'static str,
    unit: &'static str,
    base: f64,
    swing: f64,
    period: f64,
    alert: f64,
) -> Quantity {
    shaped(Shape::Wave, name, unit, base, swing, period, alert)
}

const fn shaped(
    shape: Shape,
    name: &'static str,
    unit: &'static str,
    base: f64,
    swing: f64,
    period: f64,
    alert: f64,
) -> Quantity {
    Quantity { name, unit, base, swing, period, shape, alert, digits: if base < 10.0 { 2 } else { 1 } }
}

/// Registers the fleet through the public API, or finds it registered; gives the keys in order.
pub(super) fn register(target: &Target) -> anyhow::Result<Vec<SasKey>> {
    let mut keys = Vec::new();
    for Member { id, .. } in MEMBERS {
        let path = format!("/devices/{}", encoded(id));
        let device = match target.service(Request::new("GET", path.clone())) {
            Ok(device) => device,
            Err(_) => target
                .service(Request::new("PUT", path).with(json!({ "deviceId": id, "status": "enabled" })))
                .with_context(|| format!("could not register {id}"))?,
        };
        let key = device.pointer("/authentication/symmetricKey/primaryKey").and_then(Value::as_str);
        keys.push(SasKey::of_device(key.with_context(|| format!("{id} is registered without a key"))?)?);
    }
    Ok(keys)
}

/// The life of one device.
pub(super) async fn live(
    place: usize,
    way: Way,
    key: SasKey,
    board: Shared,
    mut stop: watch::Receiver<bool>,
) {
    let member = &MEMBERS[place];
    let options = DeviceOptions {
        address: way.mqtt,
        server_name: way.server_name,
        host: way.host,
        device: member.id.to_owned(),
        credential: Credential::Sas { key, lifetime: TOKEN_LIFETIME },
        trust: way.trust,
        clock: Clock::behind(member.clock_behind),
        keep_alive_seconds: 60,
        clean_session: false,
    };
    let mut sensor = Sensor::new(member.quantity, place as u64 + 1);
    while !*stop.borrow() {
        let ended = match Device::connect(&options).await {
            Ok(mut device) => {
                board.lock().row(place).state = State::Online;
                tokio::select! {
                    error = send_readings(&mut device, place, &mut sensor, &board) => Some(error),
                    _ = stop.changed() => {
                        device.disconnect().await;
                        None
                    }
                }
            }
            Err(error) => Some(error),
        };
        let Some(error) = ended else { return };
        board.lock().row(place).state = match error {
            SimError::Refused(code) => State::Refused(code as u8),
            other => State::Lost(other.to_string()),
        };
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Sends readings until that fails.
async fn send_readings(device: &mut Device, place: usize, sensor: &mut Sensor, board: &Shared) -> SimError {
    let member = &MEMBERS[place];
    let mut every = tokio::time::interval(member.every);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let value = sensor.read();
        let Quantity { name, unit, digits, alert, .. } = member.quantity;
        let body = format!("{{\"{name}\":{value:.digits$}}}");
        let alert = if value > alert { "true" } else { "false" };
        let properties = [
            ("$.ct", "application/json"),
            ("$.ce", "utf-8"),
            ("site", "plant-1"),
            ("unit", unit),
            ("alert", alert),
        ];
        board.lock().row(place).sent(value);
        let sent = Instant::now();
        let message = Message { body: Bytes::from(body), properties: &properties };
        if let Err(error) = device.publish(&message, QoS::AtLeastOnce).await {
            return error;
        }
        board.lock().acknowledged(place, sent.elapsed());
    }
}
