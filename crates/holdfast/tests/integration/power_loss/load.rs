//! Devices that send as fast as the hub acknowledges, and a reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sim::{Device, DeviceOptions, EventReader, QoS, ReaderOptions};

use super::Random;
use super::ledger::{Attempt, Ledger, body, name};

/// What the tasks of one life of the hub share.
#[derive(Default)]
pub(crate) struct Life {
    /// The hub was killed, or is about to be.
    pub(crate) over: AtomicBool,
    /// Connections may break although the hub lives: faults are being injected.
    pub(crate) faulty: AtomicBool,
    /// How often a device had to connect again.
    pub(crate) reconnects: AtomicU64,
}

impl Life {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// Sends one message of each device and waits for all acknowledgements; gives the messages.
pub(crate) async fn fence(ledger: &Ledger, devices: &mut [(u32, Device)]) -> Vec<Attempt> {
    let connection = CONNECTIONS.fetch_add(1, Ordering::SeqCst);
    let mut fences = Vec::new();
    for (number, device) in devices.iter_mut() {
        let attempt = ledger.send(*number, connection);
        device.enqueue(&topic(*number), body(attempt), QoS::AtLeastOnce).unwrap();
        device.flush().await.unwrap();
        fences.push(attempt);
    }
    for ((_, device), attempt) in devices.iter_mut().zip(&fences) {
        device.next_acknowledged().await.unwrap();
        ledger.acknowledge(*attempt);
    }
    fences
}

/// One device: windows of random size, until the life is over. It connects again while faults are injected.
pub(crate) async fn send(
    ledger: Arc<Ledger>,
    life: Arc<Life>,
    number: u32,
    options: DeviceOptions,
    first: Device,
    mut random: Random,
) {
    let mut device = Some(first);
    while !life.is_over() {
        let connected = match device.take() {
            Some(device) => Ok(device),
            None => Device::connect(&options).await,
        };
        let Ok(mut device) = connected else {
            assert!(life.is_over() || life.faulty.load(Ordering::SeqCst), "{} cannot connect", name(number));
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if let Err(error) = send_on(&ledger, &life, number, &mut device, &mut random).await {
            let excused = life.is_over() || life.faulty.load(Ordering::SeqCst);
            if !excused {
                // The kill may be noticed here before it is noted there.
                tokio::time::sleep(Duration::from_millis(500)).await;
                if !life.is_over() {
                    ledger.problem(format!("the connection of {} broke: {error}", name(number)));
                }
            }
            life.reconnects.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn send_on(
    ledger: &Ledger,
    life: &Life,
    number: u32,
    device: &mut Device,
    random: &mut Random,
) -> Result<(), sim::SimError> {
    let connection = CONNECTIONS.fetch_add(1, Ordering::SeqCst);
    let topic = topic(number);
    let mut waiting = HashMap::new();
    let mut window = 1;
    while !life.is_over() {
        if random.once_in(20) {
            window = 1 + random.below(24) as usize;
        }
        while waiting.len() < window {
            let attempt = ledger.send(number, connection);
            let id = device.enqueue(&topic, body(attempt), QoS::AtLeastOnce)?;
            waiting.insert(id.expect("QoS 1 has an identifier"), attempt);
        }
        let id = device.next_acknowledged().await?;
        ledger.acknowledge(waiting.remove(&id).expect("it acknowledges what was sent"));
        if random.once_in(40) {
            tokio::time::sleep(Duration::from_millis(random.below(20))).await;
        }
    }
    Ok(())
}

/// Reads from the beginning of every partition until the life is over.
pub(crate) async fn read(ledger: Arc<Ledger>, life: Arc<Life>, options: ReaderOptions) {
    ledger.begin_reading();
    let result = async {
        let mut reader = EventReader::connect(&options).await?;
        loop {
            for event in reader.next_batch().await? {
                ledger.see(&event);
            }
        }
    };
    let result: Result<(), sim::SimError> = result.await;
    if let Err(error) = result
        && !life.is_over()
    {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if !life.is_over() {
            ledger.problem(format!("the reader broke: {error}"));
        }
    }
}

fn topic(number: u32) -> String {
    format!("devices/{}/messages/events/", name(number))
}
