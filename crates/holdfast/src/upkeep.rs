//! What the hub does for its own files while it runs.

use std::sync::Arc;

use crate::certificate_duty::CertificateDuty;
use crate::retention::Retention;
use crate::scrub::Scrub;

/// The duties, for whoever tells of them.
pub(crate) struct Upkeep {
    /// The deletion of old events.
    pub(crate) retention: Arc<Retention>,
    /// The search for damage.
    pub(crate) scrub: Arc<Scrub>,
    /// The validity of the hub's certificate.
    pub(crate) certificate: Arc<CertificateDuty>,
}

impl Upkeep {
    /// Does them now and then, as long as the hub runs.
    pub(crate) fn keep(&self) {
        self.retention.keep();
        self.scrub.keep();
        self.certificate.keep();
    }
}
