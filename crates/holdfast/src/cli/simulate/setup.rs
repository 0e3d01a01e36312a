//! What the arguments come to: where the device connects, as whom.

use std::net::ToSocketAddrs as _;

use anyhow::{Context as _, bail};
use sim::{ClientOptions, Clock, Transport};

use super::{SimulateArgs, TransportArg};
use crate::cli::connection_string::DeviceConnectionString;
use crate::cli::target::Target;

/// A device and its way to the hub.
pub(super) struct Plan {
    /// How it connects.
    pub(super) options: ClientOptions,
    /// The way, as it is named on the command line.
    pub(super) transport: &'static str,
    /// What its credential is called.
    pub(super) credential: String,
    /// The hub, to be asked why it refused.
    pub(super) target: Target,
}

impl Plan {
    /// `host:port`
    pub(super) fn door(&self) -> String {
        format!("{}:{}", self.options.host, self.options.address.port())
    }
}

/// Finds out what the arguments leave to be found out.
pub(super) fn plan(args: &SimulateArgs) -> anyhow::Result<Plan> {
    let given = args.credential.connect_as.as_deref().map(DeviceConnectionString::parse).transpose()?;
    let target = match &given {
        None => args.common.target.open()?,
        Some(given) => args.common.target.open_at(&given.host)?,
    };
    let device = match &given {
        Some(given) => given.device.clone(),
        None => args.id.clone().unwrap_or_default(),
    };
    let module = given.as_ref().and_then(|given| given.module.clone()).or_else(|| args.module.clone());
    if args.transport == TransportArg::Https && args.behaviour.silent && module.is_some() {
        bail!("a module receives nothing over HTTPS; leave out --silent, or take another --transport");
    }
    let proof = args.credential.proof(given.as_ref(), &target, &device, module.as_deref())?;
    let (transport, port, name) = match args.transport {
        TransportArg::Mqtt => (Transport::Mqtt, target.mqtt_port, "mqtt"),
        TransportArg::MqttWs => (Transport::MqttWs, target.port, "mqtt-ws"),
        TransportArg::Amqp => (Transport::Amqp, target.amqp_port, "amqp"),
        TransportArg::AmqpWs => (Transport::AmqpWs, target.port, "amqp-ws"),
        TransportArg::Https => (Transport::Https, target.port, "https"),
    };
    let no_address = || format!("the host {} has no address", target.host);
    let mut addresses = (target.host.as_str(), port).to_socket_addrs().with_context(no_address)?;
    let options = ClientOptions {
        transport,
        address: addresses.next().with_context(no_address)?,
        host: target.host.clone(),
        device,
        module,
        credential: proof.credential,
        trust: proof.trust,
        clock: Clock::default(),
    };
    Ok(Plan { options, transport: name, credential: proof.name, target })
}
