//! A back end that reads the events of a hub through its Event Hubs-compatible endpoint.

mod event;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::amqp::codec::{Described, Fields, Symbol, Value, ValueRef};
use wire::amqp::connection::{CreditPolicy, LinkId};
use wire::amqp::message::{Body, Message};
use wire::amqp::performative::Source;

pub use self::event::Event;
use crate::amqp::{Amqp, Login, Node, Settling};
use crate::pipe::Pipe;
use crate::{Clock, SasKey, SimError, Trust};

/// How long a token of a reader lives; it is renewed when a tenth of that is left.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);
const SELECTOR: Symbol = Symbol::from_static("apache.org:selector-filter:string");

/// How a reader connects.
#[derive(Clone)]
pub struct ReaderOptions {
    /// Where the server listens for AMQP.
    pub address: SocketAddr,
    /// The name in the server's certificate.
    pub server_name: String,
    /// The host of the connection string.
    pub host: String,
    /// `EntityPath` of the connection string.
    pub event_hub: String,
    /// The key of the connection string ([`SasKey::of_event_hubs`]).
    pub key: SasKey,
    /// Whom it trusts.
    pub trust: Trust,
    /// The consumer group.
    pub consumer_group: String,
    /// Where it begins in each partition.
    pub start: Start,
    /// Events that may be under way per partition (the SDKs' prefetch).
    pub credit: u32,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first event that is kept.
    Earliest,
    /// With the next event that comes.
    Latest,
    /// Behind the event with this sequence number.
    AfterSequence(i64),
}

/// A reader of all partitions, or of one, over one connection.
pub struct EventReader {
    amqp: Amqp,
    cbs: Node,
    key: SasKey,
    audience: String,
    renewal: Instant,
    partitions: BTreeMap<LinkId, Arc<str>>,
    events: VecDeque<Event>,
}

impl EventReader {
    /// Connects, puts a token, asks which partitions there are, and attaches a receiver to each.
    pub async fn connect(options: &ReaderOptions) -> Result<Self, SimError> {
        let mut reader = Self::open(options).await?;
        for partition in reader.partition_ids(&options.event_hub).await? {
            reader.attach(options, partition).await?;
        }
        Ok(reader)
    }

    /// Connects, puts a token, and attaches one receiver to this partition.
    pub async fn connect_to(options: &ReaderOptions, partition: &str) -> Result<Self, SimError> {
        let mut reader = Self::open(options).await?;
        reader.attach(options, partition.to_owned()).await?;
        Ok(reader)
    }

    async fn open(options: &ReaderOptions) -> Result<Self, SimError> {
        let pipe = Pipe::open(options.address, &options.server_name, &options.trust).await?;
        let mut amqp = Amqp::open(pipe, &options.host, Login::Anonymous).await?;
        let cbs = amqp.node("$cbs").await?;
        let mut reader = Self {
            amqp,
            cbs,
            key: options.key.clone(),
            audience: format!("sb://{}/{}", options.host, options.event_hub),
            renewal: Instant::now(),
            partitions: BTreeMap::new(),
            events: VecDeque::new(),
        };
        reader.put_token().await?;
        Ok(reader)
    }

    /// The partitions that are read.
    pub fn partitions(&self) -> impl Iterator<Item = &str> {
        self.partitions.values().map(|partition| &**partition)
    }

    /// The next event. Dropping the future half-way loses nothing.
    pub async fn next(&mut self) -> Result<Event, SimError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.fill().await?;
        }
    }

    /// All events that are here, at least one.
    pub async fn next_batch(&mut self) -> Result<Vec<Event>, SimError> {
        while self.events.is_empty() {
            self.fill().await?;
        }
        Ok(self.events.drain(..).collect())
    }

    /// Closes the connection in order.
    pub async fn close(self) {
        self.amqp.close().await;
    }

    async fn fill(&mut self) -> Result<(), SimError> {
        if self.renewal <= Instant::now() {
            self.put_token().await?;
        }
        if self.amqp.received.is_empty() {
            self.amqp.step().await?;
        }
        while let Some(arrived) = self.amqp.received.pop_front() {
            if let Some(partition) = self.partitions.get(&arrived.link) {
                self.events.push_back(Event::parse(partition, &arrived.message)?);
            }
        }
        self.partitions.keys().try_for_each(|link| self.amqp.check(*link))
    }

    async fn put_token(&mut self) -> Result<(), SimError> {
        let end = Clock::default().seconds() + TOKEN_LIFETIME.as_secs();
        let token = self.key.token(&self.audience, end);
        self.amqp.put_token(self.cbs, &self.audience, &token, end).await?;
        self.renewal = Instant::now() + TOKEN_LIFETIME.mul_f64(0.9);
        Ok(())
    }

    async fn partition_ids(&mut self, event_hub: &str) -> Result<Vec<String>, SimError> {
        let management = self.amqp.node("$management").await?;
        let answer = self
            .amqp
            .ask(management, |w| {
                w.application_properties(|map| {
                    map.string("operation", "READ");
                    map.string("type", "com.microsoft:eventhub");
                    map.string("name", event_hub);
                });
            })
            .await?;
        let broken = || SimError::Amqp("the properties of the event hub name no partitions".to_owned());
        let message = Message::parse(&answer).map_err(|error| SimError::Amqp(error.to_string()))?;
        let Body::Value(ValueRef::Map(map)) = message.body else { return Err(broken()) };
        let Some(ValueRef::Array(ids)) = map.get("partition_ids") else { return Err(broken()) };
        ids.iter()
            .map(|id| id.ok().and_then(ValueRef::as_text).map(str::to_owned).ok_or_else(broken))
            .collect()
    }

    async fn attach(&mut self, options: &ReaderOptions, partition: String) -> Result<(), SimError> {
        let (hub, group) = (&options.event_hub, &options.consumer_group);
        let address = format!("amqps://{}/{hub}/ConsumerGroups/{group}/Partitions/{partition}", options.host);
        let selector = match options.start {
            Start::Earliest => "amqp.annotation.x-opt-offset > '-1'".to_owned(),
            Start::Latest => "amqp.annotation.x-opt-offset > '@latest'".to_owned(),
            Start::AfterSequence(number) => format!("amqp.annotation.x-opt-sequence-number > '{number}'"),
        };
        let mut source = Source::new(address);
        let filter = Described { descriptor: Value::Symbol(SELECTOR), value: Value::String(selector) };
        source.filter.push(SELECTOR, Value::Described(Box::new(filter)));
        let name = format!("receiver-{partition}");
        let credit = CreditPolicy::TopUp(options.credit);
        let link = self.amqp.receive_from(&name, source, Fields::new(), credit, Settling::AtOnce).await?;
        self.partitions.insert(link, partition.into());
        Ok(())
    }
}
