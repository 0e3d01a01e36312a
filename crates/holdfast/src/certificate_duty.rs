//! Sees to it that the hub's certificate is valid by the clock, also where the clock was wrong when it was made.

use std::sync::Arc;
use std::time::Duration;

use hub::hub::Hub;
use hub::ports::registry::StoreError;
use hub::record::Kind;

use crate::retention::Retention;
use crate::tls::ServerCertificate;

/// How often it is looked at: a machine without a battery has the time a little after its start.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps the certificate valid.
pub(crate) struct CertificateDuty {
    hub: Arc<Hub>,
    certificate: Arc<ServerCertificate>,
    retention: Arc<Retention>,
}

impl CertificateDuty {
    /// For a hub.
    pub(crate) fn new(hub: Arc<Hub>, certificate: Arc<ServerCertificate>, retention: Arc<Retention>) -> Self {
        Self { hub, certificate, retention }
    }

    /// Does it again and again, as long as there is somebody who has this.
    pub(crate) fn keep(self: &Arc<Self>) {
        let duty = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let Some(duty) = duty.upgrade() else { return };
                duty.look().await;
            }
        });
    }

    /// Does it now. What fails is told; the hub serves all the same.
    pub(crate) async fn look(&self) {
        let now = self.hub.now();
        let doubted = self.retention.ahead().is_some();
        let kept = match self.is_unused(now).await {
            Ok(unused) => self.certificate.keep_valid(now, unused, doubted),
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::error!("the hub's certificate could not be looked at: {error:#}");
        }
    }

    /// Whether nobody can have the authority: no identity was ever registered here, and no service ever came. It is asked
    /// only where the authority is of no use.
    async fn is_unused(&self, now: jiff::Timestamp) -> anyhow::Result<bool> {
        if !self.certificate.authority_is_invalid(now)? {
            return Ok(false);
        }
        Ok(self.has_none(&[Kind::Device, Kind::Activity, Kind::PolicyUse]).await?)
    }

    async fn has_none(&self, kinds: &[Kind]) -> Result<bool, StoreError> {
        for kind in kinds {
            if self.hub.registry.count(*kind).await? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
