//! Bad tokens from many addresses, by clients that do not wait for their answers. It runs in a process of its own: see
//! [`super::flood`].

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sim::{Device, DeviceOptions, SimError};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::subject::Subject;

/// How long a client waits for its answer, which a hub that slows it down does not give by then.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct AttackOptions {
    /// Bad tokens a second.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) attempts: u32,
    /// Addresses that they come from.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=250))]
    pub(crate) addresses: u8,
    /// Registered devices in whose names they come.
    #[arg(long, default_value_t = 100)]
    pub(crate) devices: usize,
}

/// What was attempted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attacked {
    pub(crate) attempts: u64,
    pub(crate) attempts_per_second: f64,
    /// How many were told no within 100 ms.
    pub(crate) refused: u64,
}

/// Tries at an even rate until standard input ends.
pub(crate) async fn attack(subject: &Subject, options: AttackOptions) -> Result<Attacked> {
    let identities: Vec<_> =
        (0..options.devices.max(1)).map(|place| subject.impostor(place)).collect::<Result<_>>()?;
    let (end, mut ended) = (stdin_ends(), false);
    tokio::pin!(end);
    let mut ticks = interval(Duration::from_secs(1) / options.attempts.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begun, mut clients, mut attempts, mut refused) = (Instant::now(), JoinSet::new(), 0_u64, 0);
    let mut take = |outcome: Result<bool>| outcome.map(|no| refused += u64::from(no));
    while !ended {
        tokio::select! {
            _ = &mut end => ended = true,
            _ = ticks.tick() => {
                let source = address(attempts, options.addresses);
                let identity = &identities[attempts as usize % identities.len()];
                clients.spawn(is_refused(source, subject.mqtt, identity.clone()));
                attempts += 1;
            }
        }
        while let Some(client) = clients.try_join_next() {
            take(client?)?;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    while let Some(client) = clients.join_next().await {
        take(client?)?;
    }
    Ok(Attacked { attempts, attempts_per_second: attempts as f64 / seconds, refused })
}

/// The address that an attempt comes from: each in its turn.
fn address(attempt: u64, addresses: u8) -> IpAddr {
    let last = u8::try_from(attempt % u64::from(addresses)).unwrap_or_default() + 1;
    IpAddr::V4(Ipv4Addr::new(127, 0, 50, last))
}

/// One attempt; whether it was refused while the client waited.
async fn is_refused(source: IpAddr, server: SocketAddr, identity: DeviceOptions) -> Result<bool> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(server).await.context("the server takes no connection any more")?;
    match timeout(PATIENCE, Device::connect_over(stream, &identity)).await {
        Ok(Ok(_)) => anyhow::bail!("{} was admitted with a wrong key", identity.device),
        Ok(Err(SimError::Refused(_))) => Ok(true),
        Ok(Err(_)) | Err(_) => Ok(false),
    }
}

/// Returns when whoever started this process closes its standard input.
async fn stdin_ends() {
    let (sender, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = sender.send(());
    });
    let _ = ended.await;
}
