//! HTTPS on 443: the service API, the device API, WebSockets, and Holdfast's own API
//! (`docs/protocol/service-rest.md`, `docs/protocol/device-https.md`).
//!
//! Routes are matched on decoded path segments, literals without regard to case and ids exactly, which no router
//! library does; hence hyper alone.

mod answer;
mod audit;
mod authorize;
mod block_list;
mod case_tap;
mod content;
mod feedback;
mod files;
mod head_names;
mod inbox;
mod management;
mod methods;
mod operator_inbox;
mod own_address;
mod posture;
mod proxied;
mod registry;
mod request;
mod route;
mod shapes;
mod specs;
mod spelling;
mod storage;
mod telemetry;
mod trace;
mod twins;
mod websocket;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use hub::decision::Act;
use hub::hub::Hub;
use hub::limits::REQUEST_HEAD_BYTES_MAX as HEAD_BYTES_MAX;
use hub::refusal::Refusal;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use self::answer::Answer;
use self::case_tap::CaseTap;
use self::spelling::NextAnswer;
use crate::drain::Drain;
use crate::fronts::amqp::AmqpFront;
use crate::guard::Guard;
use crate::io::TlsConnection;
use crate::listen::{Front, Visitor, spoken};
use crate::management::Management;
use crate::metrics::Metrics;
use crate::notary::Notary;
use crate::recorder::QueueRecorder;

/// How long a client may take to send the head of a request. It is the idle time-out of kept connections too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(125);

/// HTTPS.
pub(crate) struct HttpsFront {
    /// The hub that decides.
    pub(crate) hub: Arc<Hub>,
    /// Holdfast's own API.
    pub(crate) management: Arc<Management>,
    /// The way of decisions, to settle before they are read.
    pub(crate) recorder: Arc<QueueRecorder>,
    /// The posture engine.
    pub(crate) guard: Arc<Guard>,
    /// The figures.
    pub(crate) metrics: Arc<Metrics>,
    /// The port by which clients reach it.
    pub(crate) public_port: u16,
    /// Whether whoever asks from this machine gets them without a credential.
    pub(crate) metrics_are_open: bool,
    /// Signs checkpoints of the audit log.
    pub(crate) notary: Arc<Notary>,
    /// AMQP, for its WebSockets.
    pub(crate) amqp: Arc<AmqpFront>,
    /// Ends kept connections when the hub stops.
    pub(crate) drain: Drain,
}

impl Front for HttpsFront {
    async fn serve(self: Arc<Self>, stream: TlsConnection, visitor: Box<Visitor>) {
        let (stream, names) = CaseTap::new(stream);
        let visitor = Arc::new(*visitor);
        let (front, drain) = (self.clone(), self.drain.clone());
        let (heads, client) = (names.clone(), visitor.clone());
        let service = service_fn(move |request| {
            let (front, visitor, names) = (front.clone(), visitor.clone(), names.clone());
            async move {
                let header_names = names.take();
                let to_head = request.method() == Method::HEAD;
                let mut response = route::answer(&front, request, &visitor, &header_names).await;
                let names_of = |answer: &mut Answer| answer.extensions_mut().remove().unwrap_or_default();
                let own = names_of(&mut response);
                names.arm(NextAnswer { to_head, names: own });
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = drain.begun() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            if let (true, Some(spoken)) = (error.is_parse(), heads.first_byte().and_then(spoken)) {
                let served = "HTTPS and WebSockets".to_owned();
                let refusal = Refusal::WrongPort { spoken: spoken.to_owned(), served };
                let (origin, facts) = (client.origin.clone(), client.facts.clone());
                self.hub.record(Act::Handshake, None, origin, facts, Some(refusal));
            }
            tracing::debug!(%error, "an HTTPS connection ended");
        }
    }
}
