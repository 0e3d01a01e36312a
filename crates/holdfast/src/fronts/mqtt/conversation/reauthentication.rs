//! A client of MQTT 5 authenticates again on its open connection, before its right to it ends.

use std::sync::Arc;
use std::time::Instant;

use hub::decision::{Act, Facts};
use hub::hub::NotAdmitted;
use hub::ports::bus::{Ending, Holder as _};
use wire::mqtt::five::Auth;

use super::connecting::until;
use super::{Conversation, End, Spoken};
use crate::fronts::mqtt::live::Live;
use crate::io::Stream;

impl<S: Stream> Conversation<S> {
    pub(super) async fn on_reauthenticate(&mut self, auth: Box<Auth>) -> Result<(), End> {
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let Spoken::Five(held) = &online.spoken else { return Ok(()) };
        let (grant, identity) = (online.live.grant(), online.live.grant().identity());
        let mut facts = Facts::default();
        let admitted = match held.read_again(identity, &auth) {
            Ok(context) => self.hub.admit_again(grant, context.as_ref(), &mut facts).await,
            Err(refusal) => Err(refusal.into()),
        };
        let refusal = match &admitted {
            Ok(_) => None,
            Err(NotAdmitted::Refused(refusal)) => Some(refusal.clone()),
            Err(NotAdmitted::Unavailable(error)) => {
                return Err(End::Failed(format!("it could not be decided on an AUTH: {error}")));
            }
        };
        let (identity, origin) = (identity.to_string(), self.visitor.origin.clone());
        self.hub.record(Act::Token, Some(identity), origin, facts, refusal);
        let Ok(grant) = admitted else { return Err(End::NotRenewed) };
        online.ends = grant.ends.map(|ends| Instant::now() + until(ends, self.hub.now()));
        online.live = Arc::new(Live::renewed(online.live.clone(), grant));
        self.hub.bus.renew(online.epoch, online.live.clone());
        // A change that committed meanwhile found the connection with the former grant.
        if let Err(NotAdmitted::Refused(_)) = self.hub.confirm(online.live.grant()).await {
            return Err(End::Ended(Ending::RightEnded));
        }
        self.machine.authenticated();
        Ok(())
    }
}
