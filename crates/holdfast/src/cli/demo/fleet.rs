//! The simulated devices: each connects, sends its readings, and comes back when it is thrown out.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hub::ports::clock::Random as _;
use serde_json::{Value, json};
use sim::{Clock, Credential, Device, DeviceOptions, Message, QoS, SasKey, SimError};
use tokio::sync::watch;

use super::board::State;
use super::plant::{Quantity, Sensor, Shape};
use super::{Shared, Way};
use crate::cli::target::{Request, Target, encoded};
use crate::secrets::SystemRandom;

/// A device of the demo.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// Its id.
    pub(super) id: &'static str,
    /// What it measures.
    pub(super) quantity: Quantity,
    /// Time between two readings.
    every: Duration,
    /// What is wrong with it.
    pub(super) flaw: Flaw,
}

/// What is wrong with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Nothing.
    None,
    /// Its clock is so late.
    ClockBehind(Duration),
    /// It has the key of another device.
    KeyOf(&'static str),
    /// Its token lives so long.
    LongToken(Duration),
}

impl Flaw {
    /// How late the clock is.
    pub(super) fn clock_behind(self) -> Duration {
        match self {
            Self::ClockBehind(late) => late,
            _ => Duration::ZERO,
        }
    }
}

/// How late the clock of the wrong one is.
const LATE: Duration = Duration::from_secs(3 * 3_600);
/// How long a token lives.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);
/// How long a device waits before it tries again.
const RETRY: Duration = Duration::from_secs(3);
/// The same of one that was refused: whoever comes more often than ten times a minute is answered late.
const RETRY_REFUSED: Duration = Duration::from_secs(8);

/// The year of a token that somebody made once and forgot.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The fleet; three of them are set up badly.
pub(super) const MEMBERS: &[Member] = &[
    member("boiler-1", 200, wave("temperature", "°C", 82.0, 7.0, 90.0, 88.0)),
    member("compressor-1", 250, wave("pressure", "bar", 6.4, 0.9, 50.0, 7.2)),
    member("line-1", 200, wave("flow", "m³/h", 18.0, 5.0, 70.0, 22.5)),
    member("motor-1", 100, shaped(Shape::Bursts, "vibration", "mm/s", 2.4, 1.6, 60.0, 3.5)),
    member("tank-1", 500, shaped(Shape::Saw, "level", "%", 55.0, 35.0, 40.0, 85.0)),
    member("valve-1", 500, shaped(Shape::Saw, "opening", "%", 40.0, 20.0, 30.0, 55.0)),
    flawed(
        Flaw::KeyOf("valve-1"),
        member("valve-2", 500, shaped(Shape::Saw, "opening", "%", 60.0, 20.0, 35.0, 75.0)),
    ),
    flawed(Flaw::LongToken(YEAR), member("gate-1", 1_000, wave("torque", "Nm", 12.0, 3.0, 45.0, 14.5))),
    flawed(Flaw::ClockBehind(LATE), member("meter-1", 500, wave("power", "kW", 41.0, 9.0, 60.0, 48.0))),
];

const fn member(id: &'static str, every_milliseconds: u64, quantity: Quantity) -> Member {
    Member { id, quantity, every: Duration::from_millis(every_milliseconds), flaw: Flaw::None }
}

const fn flawed(flaw: Flaw, member: Member) -> Member {
    Member { flaw, ..member }
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
    MEMBERS.iter().map(|member| registered(target, member)).collect()
}

fn registered(target: &Target, member: &Member) -> anyhow::Result<SasKey> {
    let Member { id, flaw, .. } = member;
    if let Ok(key) = key_of(target, id) {
        return Ok(key);
    }
    let mut device = json!({ "deviceId": id, "status": "enabled" });
    if let Flaw::KeyOf(other) = flaw {
        let mut own = [0_u8; 32];
        SystemRandom.fill(&mut own);
        device["authentication"] = json!({
            "type": "sas",
            "symmetricKey": { "primaryKey": key_text(target, other)?, "secondaryKey": STANDARD.encode(own) },
        });
    }
    target
        .service(Request::new("PUT", path_of(id)).with(device))
        .with_context(|| format!("could not register {id}"))?;
    key_of(target, id)
}

/// The key of a registered device.
pub(super) fn key_of(target: &Target, id: &str) -> anyhow::Result<SasKey> {
    Ok(SasKey::of_device(&key_text(target, id)?)?)
}

fn key_text(target: &Target, id: &str) -> anyhow::Result<String> {
    let device = target.service(Request::new("GET", path_of(id)))?;
    let key = device.pointer("/authentication/symmetricKey/primaryKey").and_then(Value::as_str);
    key.map(str::to_owned).with_context(|| format!("{id} is registered without a key"))
}

fn path_of(id: &str) -> String {
    format!("/devices/{}", encoded(id))
}

/// The life of one device.
pub(super) async fn live(
    place: usize,
    way: Way,
    key: watch::Receiver<SasKey>,
    board: Shared,
    mut stop: watch::Receiver<bool>,
) {
    let member = &MEMBERS[place];
    let lifetime = match member.flaw {
        Flaw::LongToken(lifetime) => lifetime,
        _ => TOKEN_LIFETIME,
    };
    let mut options = DeviceOptions {
        address: way.mqtt,
        server_name: way.server_name,
        host: way.host,
        device: member.id.to_owned(),
        credential: Credential::Sas { key: key.borrow().clone(), lifetime },
        trust: way.trust,
        clock: Clock::behind(member.flaw.clock_behind()),
        keep_alive_seconds: 60,
        clean_session: false,
    };
    let mut sensor = Sensor::new(member.quantity, place as u64 + 1);
    while !*stop.borrow() {
        // Somebody may have brought it a new key in the meantime.
        options.credential = Credential::Sas { key: key.borrow().clone(), lifetime };
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
        let (state, pause) = match error {
            SimError::Refused(code) => (State::Refused(code as u8), RETRY_REFUSED),
            other => (State::Lost(other.to_string()), RETRY),
        };
        board.lock().row(place).state = state;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
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
