//! Links that read the built-in endpoint (`docs/protocol/event-hubs-endpoint.md` §6).

use std::sync::Arc;
use std::task::Context;

use hub::decision::{Act, cut};
use hub::ports::event_log::{ReadError, StartPosition};
use hub::readers::{Displace, NoSeat};
use hub::refusal::Refusal;
use hub::service_grant::ServicePlace;
use wire::amqp::codec::{Fields, Symbol, Value};
use wire::amqp::connection::{AttachAnswer, LinkId};
use wire::amqp::performative::{Attach, Error, SndSettleMode, condition};

use super::attach::{Declined, not_found, refused};
use super::{ARGUMENT_ERROR, Conversation, Link};
use crate::fronts::amqp::filter;
use crate::fronts::amqp::reader::{Progress, Reader};
use crate::io::Stream;

const ARGUMENT_OUT_OF_RANGE: Symbol = Symbol::from_static("com.microsoft:argument-out-of-range");
const EPOCH: &str = "com.microsoft:epoch";
const RECEIVER_NAME: &str = "com.microsoft:receiver-name";
const RUNTIME_METRIC: &str = "com.microsoft:enable-receiver-runtime-metric";

impl<S: Stream> Conversation<S> {
    pub(super) fn poll_readers(&mut self, cx: &mut Context<'_>) {
        if self.readers.is_empty() {
            return;
        }
        let now = self.front.hub.now();
        let mut failed = Vec::new();
        self.readers.retain(|id| {
            let Some(Link::Reader(reader, _)) = self.links.get_mut(id) else { return false };
            if let Progress::Failed(error) = reader.poll(&mut self.machine, now, cx) {
                failed.push((*id, error));
            }
            true
        });
        for (id, error) in failed {
            tracing::error!(%error, "a reader could not go on");
            self.detach(id, Error::new(condition::INTERNAL_ERROR, "The event stream could not be read."));
        }
    }

    pub(super) fn detach_displaced(&mut self) {
        for (id, text) in self.signals.take_displaced() {
            let refusal = Refusal::ReaderDisplaced { problem: cut(&text) };
            self.record(
                Act::Disconnect { reason: "displaced".to_owned(), ending: None },
                None,
                Some(refusal),
            );
            self.detach(id, Error::new(condition::STOLEN, text));
        }
    }

    /// Opens a reader. Its position is fixed before the attach is answered: clients send as soon as they see the link
    /// open.
    pub(super) async fn open_reader(
        &mut self,
        link: LinkId,
        attach: &Attach,
        group: &str,
        partition: &str,
    ) -> Result<(Link, AttachAnswer), Declined> {
        let place = ServicePlace::Partition { group: group.to_owned(), partition: partition.to_owned() };
        self.may_go(&place).map_err(refused)?;
        let hub = self.front.hub.clone();
        let entity = &hub.settings.event_hub_name;
        match hub.has_consumer_group(group).await {
            Ok(true) => {}
            Ok(false) => {
                let error = not_found(&format!("eventhub:{entity}~{partition}|{group}"));
                let refusal = Refusal::UnknownConsumerGroup { group: cut(group), groups: Vec::new() };
                return Err(Declined::because(error, refusal));
            }
            Err(error) => return Err(Error::new(condition::INTERNAL_ERROR, error.to_string()).into()),
        }
        let count = hub.partition_count();
        let number = partition.parse::<u16>().ok().filter(|number| *number < count).ok_or_else(|| {
            let text = format!("The specified partition is invalid for an EventHub partition sender or receiver. It should be between 0 and {}.", count - 1);
            let refusal = Refusal::UnknownPartition { partition: cut(partition), count };
            Declined::because(Error::new(ARGUMENT_OUT_OF_RANGE, text), refusal)
        })?;
        let nothing = Fields::new();
        let filters = attach.source.as_ref().map_or(&nothing, |source| &source.filter);
        let start = filter::start_position(filters)?;
        let next = self.find(number, start).await?;
        let epoch = attach.properties.get(EPOCH).and_then(Value::as_i64);
        let name = attach
            .properties
            .text(RECEIVER_NAME)
            .or(attach.target.as_ref().and_then(|t| t.address.as_deref()));
        let signals = self.signals.clone();
        let displace: Displace = Arc::new(move |text| signals.displace(link, text));
        let seat = hub.readers.seat(group, number, name, epoch, displace).map_err(|error| match error {
            NoSeat::Outranked(text) => {
                let refusal = Refusal::ReaderOutranked { problem: cut(&text) };
                Declined::because(Error::new(condition::STOLEN, text), refusal)
            }
            NoSeat::Full(text) => {
                let refusal = Refusal::ReadersFull { problem: cut(&text) };
                Declined::because(Error::new(condition::RESOURCE_LIMIT_EXCEEDED, text), refusal)
            }
        })?;
        let metric = attach.desired_capabilities.iter().any(|capability| *capability == RUNTIME_METRIC);
        let seat = (seat, hub.positions.of(group, number));
        let reader = Reader::new(link, hub.log.clone(), number, next, metric, seat);
        let answer = AttachAnswer {
            snd_settle_mode: Some(SndSettleMode::Settled),
            offered_capabilities: if metric { vec![Symbol::from_static(RUNTIME_METRIC)] } else { Vec::new() },
            ..AttachAnswer::default()
        };
        Ok((Link::Reader(Box::new(reader), Box::new(place)), answer))
    }

    async fn find(&mut self, partition: u16, start: StartPosition) -> Result<u64, Error> {
        let log = self.front.hub.log.clone();
        log.find(partition, start).await.map_err(|error| match error {
            ReadError::OffsetBeyondEnd { .. } | ReadError::SequenceBeyondEnd { .. } => {
                Error::new(ARGUMENT_ERROR, capitalised(&error.to_string()))
            }
            ReadError::NoPartition(_) => Error::new(ARGUMENT_OUT_OF_RANGE, error.to_string()),
            ReadError::Failed(_) => {
                tracing::error!(%error, "a reader's start was not found");
                Error::new(condition::INTERNAL_ERROR, "The event stream could not be read.")
            }
        })
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
