//! The error codes of IoT Hub that this hub raises (`docs/protocol/service-rest.md` §12,
//! `docs/protocol/device-https.md` §6).

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal / $status:literal;)*) => {
        /// An IoT Hub error code: a name, a number, and the HTTP status that goes with it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum HubErrorCode { $($(#[$doc])* $name,)* }

        impl HubErrorCode {
            /// The name, as it stands in `iothub-errorcode` and after `ErrorCode:`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The number.
            pub fn number(self) -> u32 {
                match self { $(Self::$name => $number,)* }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
        }
    };
}

codes! {
    /// The request cannot be understood.
    GenericBadRequest = 400000 / 400;
    /// `api-version` is missing or unknown.
    InvalidProtocolVersion = 400001 / 400;
    /// The operation makes no sense here.
    InvalidOperation = 400003 / 400;
    /// An argument is not what it may be.
    ArgumentInvalid = 400004 / 400;
    /// An argument is missing.
    ArgumentNull = 400005 / 400;
    /// The body is no JSON of the expected form.
    IotHubFormatError = 400006 / 400;
    /// One bulk request names an id twice.
    DeviceDefinedMultipleTimes = 400011 / 400;
    /// There is no upload of this correlation id.
    InvalidFileUploadCorrelationId = 400015 / 400;
    /// The upload of this correlation id took too long.
    ExpiredFileUploadCorrelationId = 400016 / 400;
    /// The storage of files cannot be asked.
    InvalidStorageEndpoint = 400017 / 400;
    /// The file is not there.
    InvalidStorageEndpointOrBlob = 400020 / 400;
    /// An etag inside a bulk entry does not match.
    EtagDoesNotMatch = 400023 / 400;
    /// A newer connection of the same identity took over.
    ConnectionForcefullyClosedOnNewConnection = 400027 / 400;
    /// The scope is not that of an existing edge device.
    InvalidDeviceScope = 400028 / 400;
    /// The content of a configuration is none that can be applied.
    InvalidConfigurationContent = 400402 / 400;
    /// The host names no hub that is served here.
    IotHubNotFound = 401001 / 401;
    /// The credential does not admit.
    IotHubUnauthorizedAccess = 401002 / 401;
    /// The credential has no right to this.
    IotHubUnauthorized = 401003 / 401;
    /// System modules are not for users to make or delete.
    SystemModuleModifyUnauthorizedAccess = 401100 / 401;
    /// The device is disabled. On the wire it is refused as unauthorised.
    DeviceDisabled = 403012 / 403;
    /// As many device-bound messages wait for the device as may.
    DeviceMaximumQueueDepthExceeded = 403004 / 403;
    /// As many uploads of the device are open as may be.
    DeviceMaximumActiveFileUploadLimitExceeded = 403006 / 403;
    /// As many calls of methods are under way to the device as may be.
    DeviceMaximumInflightMethodExceeded = 403800 / 403;
    /// There is no such route.
    GenericNotFound = 404000 / 404;
    /// The device is not registered.
    DeviceNotFound = 404001 / 404;
    /// The module is not registered.
    ModuleNotFound = 404010 / 404;
    /// The device is not connected, or takes no calls of methods.
    DeviceNotOnline = 404103 / 404;
    /// The connection was lost.
    DeviceConnectionClosedRemotely = 404104 / 404;
    /// The route has no such method.
    GenericMethodNotAllowed = 405000 / 405;
    /// Something in the registry forbids it.
    GenericConflict = 409000 / 409;
    /// The device exists.
    DeviceAlreadyExists = 409001 / 409;
    /// A newer link of the same identity took over.
    LinkCreationConflict = 409002 / 409;
    /// The module exists.
    ModuleAlreadyExistsOnDevice = 409301 / 409;
    /// The etag does not match.
    PreconditionFailed = 412001 / 412;
    /// The lock of a device-bound message lapsed, or the message was settled already.
    DeviceMessageLockLost = 412002 / 412;
    /// The message is too large.
    MessageTooLarge = 413001 / 413;
    /// Too many devices, or too many entries in one request.
    TooManyDevices = 413002 / 413;
    /// The device has as many modules as it may.
    TooManyModulesOnDevice = 413003 / 413;
    /// The media type is not supported.
    GenericUnsupportedMediaType = 415000 / 415;
    /// Too many requests.
    ThrottlingException = 429001 / 429;
    /// The hub failed.
    ServerError = 500001 / 500;
    /// The device answered what is no answer.
    GenericBadGateway = 502000 / 502;
    /// The hub cannot do it now.
    ServiceUnavailable = 503001 / 503;
    /// The hub has too much to do.
    ServerBusy = 503005 / 503;
    /// The device did not answer in time.
    GatewayTimeout = 504101 / 504;
}

/// A request that the hub refuses, for a front to turn into its own wire form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HubError {
    /// The code.
    pub code: HubErrorCode,
    /// What was wrong and what would be right. It goes to the client, so it tells nothing that Azure would not.
    pub message: String,
}

impl HubError {
    /// An error with this code and text.
    pub fn new(code: HubErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<crate::ports::registry::StoreError> for HubError {
    fn from(error: crate::ports::registry::StoreError) -> Self {
        // The cause is for the operator's log, not for the client.
        let code = HubErrorCode::ServiceUnavailable;
        match error {
            crate::ports::registry::StoreError::NoSpace => {
                Self::new(code, "No space is left for the registry")
            }
            crate::ports::registry::StoreError::Stale(_) | crate::ports::registry::StoreError::Failed(_) => {
                Self::new(code, "The registry is not available")
            }
        }
    }
}
