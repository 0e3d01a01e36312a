//! Why a connection of a device or module ended that the hub ended.

use jiff::Timestamp;

use crate::authenticate::{Basis, Grant};
use crate::hub::{Hub, NotAdmitted};
use crate::ports::bus::Ending;
use crate::refusal::Refusal;

impl Hub {
    /// The cause by which the end is explained; a hub that stops explains itself.
    pub async fn cause_of_end(&self, ending: Ending, grant: &Grant) -> Option<Refusal> {
        match ending {
            Ending::TakenOver => Some(Refusal::TakenOver { by: None }),
            Ending::RightEnded => {
                let because = match self.still_holds(grant).await {
                    Err(NotAdmitted::Refused(refusal)) => Some(refusal.cause().to_owned()),
                    Ok(()) | Err(NotAdmitted::Unavailable(_)) => None,
                };
                Some(Refusal::RightEnded { because, change: None })
            }
            Ending::TokenEnded => {
                let ended = grant.ends.and_then(|ends| Timestamp::from_second(ends).ok());
                Some(match &grant.basis {
                    Basis::Thumbprint(..) | Basis::Authority(..) => Refusal::CertificateEnded { ended },
                    Basis::Key(..) | Basis::DeviceKey(..) | Basis::Policy(..) | Basis::Gateway(_) => {
                        Refusal::TokenEnded { ended }
                    }
                })
            }
            Ending::NotReading => Some(Refusal::NotReading),
            Ending::Draining => None,
        }
    }
}
