//! Tokens that are put on an open connection, for whoever they are: a device or module, or a policy
//! (`docs/protocol/amqp.md` §4).

use crate::access::PolicyName;
use crate::authenticate::{self, Grant};
use crate::decision::Facts;
use crate::hub::{Credential, Hub, NotAdmitted, parsed};
use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::sas::Token;
use crate::service_grant::ServiceGrant;

/// What came of a token that was put.
#[derive(Debug)]
pub struct Put {
    /// The device or module that it is for, where it is for one.
    pub identity: Option<Identity>,
    /// What it admits to.
    pub admitted: Result<Admitted, NotAdmitted>,
}

/// What a token admits to.
#[derive(Debug)]
pub enum Admitted {
    /// To be a device or module.
    Identity(Grant),
    /// To what a policy may do.
    Policy(ServiceGrant),
}

impl Hub {
    /// Decides on a token whose own words say whom it is for: the name that goes with it is another in every SDK.
    /// `facts` gets what was presented.
    pub async fn admit_put_token(&self, text: &str, facts: &mut Facts) -> Put {
        let token = match parsed(text) {
            Ok(token) => token,
            Err(refusal) => return Put { identity: None, admitted: Err(refusal.into()) },
        };
        let mut identities = token.identities(&self.settings.hosts);
        let Some(last) = identities.pop() else {
            facts.token = Some(token.facts());
            let admitted = self.admit_policy(&token, text, facts).await.map(Admitted::Policy);
            return Put { identity: None, admitted };
        };
        for identity in identities {
            let admitted = self.admit(&identity, Credential::Token(text), facts).await;
            if !matches!(&admitted, Err(NotAdmitted::Refused(refusal)) if is_unknown(refusal)) {
                return Put { identity: Some(identity), admitted: admitted.map(Admitted::Identity) };
            }
        }
        let admitted = self.admit(&last, Credential::Token(text), facts).await;
        Put { identity: Some(last), admitted: admitted.map(Admitted::Identity) }
    }

    /// Decides whether a device or module may use the connection of a policy that was proved on it.
    pub async fn admit_under(
        &self,
        identity: &Identity,
        proved: &ServiceGrant,
    ) -> Result<Grant, NotAdmitted> {
        let loaded = self.load_known(identity, Some(proved.policy.as_str()), false).await?;
        Ok(authenticate::admit_under(identity, proved, &self.known(&loaded), self.clock.now())?)
    }

    /// Decides whether a module may use the connection of a policy that was proved for its device.
    pub async fn admit_module_under(
        &self,
        identity: &Identity,
        device: &Grant,
    ) -> Result<Grant, NotAdmitted> {
        let policy = device.basis.policy().map(PolicyName::as_str);
        let loaded = self.load_known(identity, policy, false).await?;
        Ok(authenticate::admit_module_under(identity, device, &self.known(&loaded), self.clock.now())?)
    }

    /// Decides which policy a token proves, and whether any link could be opened with it.
    async fn admit_policy(
        &self,
        token: &Token<'_>,
        text: &str,
        facts: &mut Facts,
    ) -> Result<ServiceGrant, NotAdmitted> {
        let hosts = &self.settings.hosts;
        if token.skn.is_none() && !token.names_host(hosts) {
            return Err(authenticate::out_of_scope(token, hosts, "").into());
        }
        let grant = self.proved_policy(token, text, facts).await?;
        grant.opens_any(&self.settings)?;
        Ok(grant)
    }
}

/// Whether it was refused for not being registered.
pub fn is_unknown(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::UnknownDevice { .. } | Refusal::UnknownModule { .. })
}
