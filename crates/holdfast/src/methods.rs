//! Carries a call of a direct method to the connection of its device, and the answer back.

use std::sync::Arc;
use std::time::Duration;

use hub::hub::Hub;
use hub::identity::Identity;
use hub::method::{Call, CallId, MethodAnswer, MethodCall, MethodError};
use hub::ports::bus::Holder;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How much earlier than it may the hub says that no answer came: the Node SDK waits for exactly the time-outs that it
/// asked for, and the failure has to reach it within them.
const MARGIN: Duration = Duration::from_millis(150);

/// Calls a method, and waits for the answer as long as the call says.
pub(crate) async fn call(
    hub: &Hub,
    identity: &Identity,
    call: MethodCall,
) -> Result<MethodAnswer, MethodError> {
    let _place = hub.calls.begin(identity)?;
    let holder = connection(hub, identity, call.connect_timeout).await?;
    let (reply, answer) = oneshot::channel();
    let id = CallId::new(&*hub.random);
    let _forget = Forget { holder: holder.clone(), id };
    let answer_to = Box::new(move |answered| drop(reply.send(answered)));
    holder.call(Call { id, name: call.name, payload: call.payload, answer: answer_to });
    match timeout(call.response_timeout.saturating_sub(MARGIN), answer).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => Err(MethodError::ConnectionLost),
        Err(_) => Err(MethodError::NoAnswer),
    }
}

/// The connection that takes the call; one that comes in time will do.
async fn connection(
    hub: &Hub,
    identity: &Identity,
    connect_timeout: Duration,
) -> Result<Arc<dyn Holder>, MethodError> {
    if let Some(holder) = hub.bus.holder(identity).filter(|holder| holder.takes_calls()) {
        return Ok(holder);
    }
    let wait = connect_timeout.saturating_sub(MARGIN);
    let connected = timeout(wait, hub.bus.callable(identity.clone())).await;
    connected.map_err(|_| MethodError::NotOnline)
}

/// Forgets the call when it is over, however that comes about: its service may be gone first.
struct Forget {
    holder: Arc<dyn Holder>,
    id: CallId,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.holder.forget(self.id);
    }
}
