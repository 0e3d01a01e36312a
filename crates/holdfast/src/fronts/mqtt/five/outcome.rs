//! Outcomes that are no success: a status in hexadecimal digits, and for people a reason.

use hub::error::{HubError, HubErrorCode};
use wire::mqtt::five::{DisconnectReasonCode, PublishAckReason, UserProperties};

/// The statuses that this hub has a use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    BadRequest,
    NotAuthorized,
    NotAllowed,
    Conflict,
    PreconditionFailed,
    Throttled,
    ResourceExhausted,
    NotFound,
    ServerError,
    Timeout,
    ServerBusy,
}

impl Status {
    fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "0100",
            Self::NotAuthorized => "0101",
            Self::NotAllowed => "0102",
            Self::Conflict => "0103",
            Self::PreconditionFailed => "0104",
            Self::Throttled => "0501",
            Self::ResourceExhausted => "0503",
            Self::NotFound => "0504",
            Self::ServerError => "0601",
            Self::Timeout => "0602",
            Self::ServerBusy => "0603",
        }
    }

    fn of(code: HubErrorCode) -> Self {
        match code.status() {
            400..=400 | 405 | 413 | 415 => Self::BadRequest,
            401 => Self::NotAuthorized,
            403 => Self::NotAllowed,
            404 => Self::NotFound,
            409 => Self::Conflict,
            412 => Self::PreconditionFailed,
            429 => Self::Throttled,
            503 => Self::ServerBusy,
            504 => Self::Timeout,
            _ => Self::ServerError,
        }
    }
}

/// What a client is told of an operation that did not succeed. It tells nothing that Azure would not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    status: Status,
    reason: Option<String>,
}

impl Outcome {
    /// One without a reason.
    pub(crate) fn of(status: Status) -> Self {
        Self { status, reason: None }
    }

    /// A request that is not of its form.
    pub(crate) fn bad_request(reason: impl Into<String>) -> Self {
        Self { status: Status::BadRequest, reason: Some(reason.into()) }
    }

    /// A topic that does not exist.
    pub(crate) fn not_found(topic: &str) -> Self {
        Self { status: Status::NotFound, reason: Some(format!("Unsupported topic: `{topic}`")) }
    }

    /// The user properties of the answer.
    pub(crate) fn properties(&self) -> UserProperties {
        let status = ("status".into(), self.status.code().into());
        [status].into_iter().chain(self.reason()).collect()
    }

    /// The reason code of a PUBACK.
    pub(crate) fn of_publish(&self) -> PublishAckReason {
        match self.status {
            Status::NotAuthorized => PublishAckReason::NotAuthorized,
            Status::Throttled => PublishAckReason::QuotaExceeded,
            _ => PublishAckReason::ImplementationSpecificError,
        }
    }

    /// The reason code and user properties of a DISCONNECT.
    pub(crate) fn of_disconnect(&self) -> (DisconnectReasonCode, UserProperties) {
        match self.status {
            // The standard has a code for it, and the documents give it no status.
            Status::NotFound => (DisconnectReasonCode::TopicNameInvalid, self.reason().collect()),
            Status::NotAuthorized => (DisconnectReasonCode::NotAuthorized, self.properties()),
            _ => (DisconnectReasonCode::ImplementationSpecificError, self.properties()),
        }
    }

    fn reason(&self) -> impl Iterator<Item = (bytestring::ByteString, bytestring::ByteString)> {
        self.reason.iter().map(|reason| ("reason".into(), reason.as_str().into()))
    }
}

impl From<&HubError> for Outcome {
    fn from(error: &HubError) -> Self {
        Self { status: Status::of(error.code), reason: Some(hub::decision::cut(&error.message)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_errors_have_the_statuses_of_the_preview() {
        let cases = [
            (HubErrorCode::ArgumentInvalid, "0100"),
            (HubErrorCode::IotHubUnauthorizedAccess, "0101"),
            (HubErrorCode::DeviceDisabled, "0102"),
            (HubErrorCode::GenericConflict, "0103"),
            (HubErrorCode::PreconditionFailed, "0104"),
            (HubErrorCode::MessageTooLarge, "0100"),
            (HubErrorCode::ThrottlingException, "0501"),
            (HubErrorCode::DeviceNotFound, "0504"),
            (HubErrorCode::ServerError, "0601"),
            (HubErrorCode::GatewayTimeout, "0602"),
            (HubErrorCode::ServiceUnavailable, "0603"),
        ];
        for (code, status) in cases {
            let properties = Outcome::from(&HubError::new(code, "why")).properties();
            let expected = [("status".into(), status.into()), ("reason".into(), "why".into())];
            assert_eq!(properties, expected, "{code:?}");
        }
    }

    #[test]
    fn reason_codes_match_the_status_where_they_can() {
        let code = |outcome: &Outcome| u8::from(outcome.of_publish());
        assert_eq!(code(&Outcome::bad_request("x")), 131);
        assert_eq!(code(&Outcome::not_found("x")), 131);
        assert_eq!(code(&Outcome::of(Status::NotAuthorized)), 135);
        assert_eq!(code(&Outcome::of(Status::Throttled)), 151);
        let (code, properties) = Outcome::not_found("$iothub/x").of_disconnect();
        assert_eq!(u8::from(code), 144);
        assert_eq!(properties, [("reason".into(), "Unsupported topic: `$iothub/x`".into())]);
    }
}
