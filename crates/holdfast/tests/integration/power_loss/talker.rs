//! A device that reports to its twin, hears of its desired properties and answers calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use sim::{CONVERSATION, Device, DeviceOptions, Incoming, SimError};
use tokio::time::timeout;

use super::load::Life;

/// The device.
pub(crate) const TALKER: &str = "talker";

/// Steps that somebody writes into one part of a twin, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    asked: AtomicU64,
    acknowledged: AtomicU64,
    /// The highest version that anybody was told.
    version: AtomicU64,
}

impl Steps {
    /// The next step, which is asked for now.
    pub(crate) fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A step was taken.
    pub(crate) fn acknowledge(&self, step: u64, version: u64) {
        self.acknowledged.store(step, Ordering::SeqCst);
        self.version.fetch_max(version, Ordering::SeqCst);
    }

    /// How many were acknowledged, or tried.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// After a loss of power: the step that stands there is the last that was acknowledged, or a later one that was asked for.
    pub(crate) fn judge(&self, part: &str, found: &Value, version: u64) {
        let step = found["step"].as_u64().unwrap_or_default();
        let known = self.acknowledged()..=self.asked.load(Ordering::SeqCst);
        assert!(known.contains(&step), "step {step} is {part}, and what is known of it is {known:?}");
        let told = self.version.fetch_max(version, Ordering::SeqCst);
        assert!(version >= told, "version {version} is {part}, and somebody was told {told}");
    }
}

/// Reports and answers until the life is over. It connects again while faults are injected.
pub(crate) async fn talk(options: DeviceOptions, life: Arc<Life>, reported: Arc<Steps>) {
    while !life.is_over() {
        let talked = talk_on(&options, &life, &reported).await;
        if talked.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn talk_on(options: &DeviceOptions, life: &Life, reported: &Steps) -> Result<(), SimError> {
    let mut device = Device::connect(options).await?;
    device.subscribe_all(&CONVERSATION).await?;
    let mut heard = 0;
    while !life.is_over() {
        let step = reported.ask();
        device.report(Bytes::from(format!("{{\"step\":{step}}}"))).await?;
        reported.acknowledge(step, 0);
        while let Ok(publish) = timeout(Duration::from_millis(5), device.receive()).await {
            let publish = publish?;
            match Incoming::of(&publish.topic) {
                Incoming::Call { request_id, .. } => {
                    device.answer(request_id, 200, publish.payload.clone()).await?;
                }
                Incoming::Desired => {
                    let patch: Value = serde_json::from_slice(&publish.payload).expect("JSON");
                    let version = patch["$version"].as_u64().expect("a version");
                    assert!(version > heard, "version {version} came after {heard}");
                    heard = version;
                }
                Incoming::TwinAnswer { .. } | Incoming::Message => {}
            }
        }
    }
    Ok(())
}
