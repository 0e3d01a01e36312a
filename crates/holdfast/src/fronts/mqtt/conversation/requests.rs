//! What a client of MQTT 3.1.1 asks about its twin, and what it answers to calls of methods.

use hub::decision::cut;
use hub::method::MethodAnswer;
use hub::ports::bus::Holder as _;
use hub::refusal::Refusal;
use hub::telemetry::MESSAGE_BYTES_MAX;
use percent_encoding::percent_decode_str;
use wire::mqtt::{Publish, QoS};

use super::{Conversation, End};
use crate::fronts::mqtt::three::address::{Request, TwinRequest};
use crate::fronts::mqtt::three::answers;
use crate::fronts::twin::Outcome;
use crate::io::Stream;

impl<S: Stream> Conversation<S> {
    /// Does what is asked about the twin, durably, and hands on what is answered to a call.
    pub(super) async fn on_request(&mut self, publish: &Publish) -> Result<(), End> {
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let size = publish.payload.len();
        if size > MESSAGE_BYTES_MAX {
            return Err(End::Refused(Refusal::MessageTooLarge { size, limit: MESSAGE_BYTES_MAX }));
        }
        let request = match Request::parse(&publish.topic) {
            Some(Request::Twin(request)) => request,
            Some(Request::MethodAnswer { status, request_id }) => {
                // Python escapes it.
                let request_id = percent_decode_str(request_id).decode_utf8_lossy();
                let payload = publish.payload.clone();
                online
                    .live
                    .mailbox()
                    .answer(|call| call.to_string() == request_id, || MethodAnswer::judge(status, payload));
                return Ok(());
            }
            None => return Err(End::Refused(Refusal::Topic { topic: cut(&publish.topic) })),
        };
        let sender = online.live.grant().sender.clone();
        let outcome = answers::twin_request(&self.hub, &sender, request, &publish.payload).await;
        match request {
            TwinRequest::Get { .. } => self.door.twin_read(outcome.is_ok()),
            TwinRequest::Report { .. } => self.door.twin_update(outcome.is_ok()),
        }
        // Who asks and does not listen gets no answer.
        let listens = answers::wants_twin_answers(&online.session);
        let Some(request_id) = request.request_id().filter(|_| listens) else { return Ok(()) };
        if let Ok(Outcome::Read(twin)) = &outcome {
            online.desired_seen = twin.desired.version;
        }
        let answer = answers::twin_answer(&outcome, request_id, self.hub.now());
        // The topic is as short as that of the request.
        let _ = self.machine.publish(&answer.topic, answer.body, QoS::AtMostOnce);
        Ok(())
    }
}
