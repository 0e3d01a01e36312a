//! What a CONNECT or AUTH of MQTT 5 says of who its client is.

use hub::decision::{Facts, cut};
use hub::identity::Identity;
use hub::refusal::Refusal;
use hub::signed_context::{Context, SignedContext};
use wire::mqtt::five::{Auth, Connect, UserProperties};

/// The one version of the API that there is over MQTT 5.
const API_VERSION: &str = "2020-10-01-preview";

/// How a client authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// By a signature of the context of its connection.
    Sas,
    /// By the certificate of the TLS handshake.
    X509,
}

impl Method {
    fn parse(name: Option<&str>) -> Result<Self, Refusal> {
        match name {
            Some("SAS") => Ok(Self::Sas),
            Some("X509") => Ok(Self::X509),
            Some(_) => refused("`Authentication Method` is neither SAS nor X509"),
            None => refused("`Authentication Method` is missing"),
        }
    }
}

/// What a new authentication has to have in common with the first.
#[derive(Debug)]
pub(crate) struct Held {
    method: Method,
    host: String,
    policy: String,
}

/// A client that presents itself.
#[derive(Debug)]
pub(crate) struct Presented {
    /// Who it says it is.
    pub(crate) identity: Identity,
    /// The host that it wants.
    pub(crate) host: String,
    /// What it signed; `None` for one that relies on its certificate.
    pub(crate) context: Option<SignedContext>,
    /// What the connection keeps.
    pub(crate) held: Held,
}

/// Reads a CONNECT. `facts` gets what it says of its client.
pub(crate) fn read(connect: &Connect, facts: &mut Facts) -> Result<Presented, Refusal> {
    let said = Said::read(&connect.user_properties)?;
    facts.sdk = said.client_agent.map(cut);
    facts.api_version = said.api_version.map(cut);
    let method = Method::parse(connect.auth_method.as_deref())?;
    match said.api_version {
        Some(API_VERSION) => {}
        Some(_) => return refused(format!("the user property `api-version` is not {API_VERSION}")),
        None => return refused("the user property `api-version` is missing"),
    }
    let Some(host) = said.host.or(facts.server_name.as_deref()) else {
        return refused("the user property `host` is missing, and TLS names no server");
    };
    let identity = Identity::parse(&connect.client_id)
        .map_err(|error| Refusal::IllegalId { problem: format!("the client id is illegal: {error}") })?;
    let policy = said.policy.unwrap_or_default();
    let mut held = Held { method, host: host.to_owned(), policy: policy.to_owned() };
    let context = held.context(&identity, &said, connect.auth_data.as_deref())?;
    if context.is_none() {
        // Nothing will be signed: nothing of what came is kept.
        held = Held { method, host: String::new(), policy: String::new() };
    }
    Ok(Presented { identity, host: host.to_owned(), context, held })
}

impl Held {
    /// Reads an AUTH by which an admitted client authenticates again.
    pub(crate) fn read_again(
        &self,
        identity: &Identity,
        auth: &Auth,
    ) -> Result<Option<SignedContext>, Refusal> {
        let said = Said::read(&auth.user_properties)?;
        if Method::parse(auth.auth_method.as_deref())? != self.method {
            return refused("AUTH has another Authentication Method than CONNECT");
        }
        if said.policy.is_some_and(|policy| policy != self.policy) {
            return refused("AUTH has another `sas-policy` than CONNECT");
        }
        self.context(identity, &said, auth.auth_data.as_deref())
    }

    fn context(
        &self,
        identity: &Identity,
        said: &Said<'_>,
        signature: Option<&[u8]>,
    ) -> Result<Option<SignedContext>, Refusal> {
        let context = Context {
            host: &self.host,
            policy: &self.policy,
            at: said.at.unwrap_or_default(),
            expiry: said.expiry.unwrap_or_default(),
        };
        match self.method {
            Method::X509 => Ok(None),
            Method::Sas => SignedContext::read(identity, context, signature.unwrap_or_default()).map(Some),
        }
    }
}

/// The user properties of a CONNECT or AUTH.
#[derive(Default)]
struct Said<'a> {
    api_version: Option<&'a str>,
    host: Option<&'a str>,
    at: Option<&'a str>,
    expiry: Option<&'a str>,
    policy: Option<&'a str>,
    client_agent: Option<&'a str>,
}

impl<'a> Said<'a> {
    fn read(properties: &'a UserProperties) -> Result<Self, Refusal> {
        let mut said = Self::default();
        for (name, value) in properties {
            let slot = match &**name {
                "api-version" => &mut said.api_version,
                "host" => &mut said.host,
                "sas-at" => &mut said.at,
                "sas-expiry" => &mut said.expiry,
                "sas-policy" => &mut said.policy,
                "client-agent" => &mut said.client_agent,
                own if own.starts_with('@') => continue,
                _ => return refused(format!("the user property `{}` is not known", cut(name))),
            };
            if slot.replace(&**value).is_some() {
                return refused(format!("the user property `{name}` comes twice"));
            }
        }
        Ok(said)
    }
}

fn refused<T>(problem: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::AuthenticationProperties { problem: problem.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 3] =
        [("api-version", API_VERSION), ("host", "hub.example.net"), ("sas-expiry", "1600991395320")];

    fn user(properties: &[(&str, &str)]) -> UserProperties {
        properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn connect(method: Option<&'static str>, properties: &[(&str, &str)]) -> Connect {
        Connect {
            client_id: "d1/m1".into(),
            auth_method: method.map(Into::into),
            auth_data: Some(vec![1; 32].into()),
            user_properties: user(properties),
            ..Connect::default()
        }
    }

    fn problem<T>(read: Result<T, Refusal>) -> String {
        match read.err() {
            Some(Refusal::AuthenticationProperties { problem }) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_client_presents_itself_by_properties() {
        let mut facts = Facts::default();
        let mut properties = GOOD.to_vec();
        properties.extend([("client-agent", "artisan;Linux"), ("@own", "x"), ("sas-policy", "device")]);
        let read = read(&connect(Some("SAS"), &properties), &mut facts);
        let presented = read.expect("it says what it has to");
        assert_eq!(
            (presented.identity.to_string().as_str(), presented.host.as_str()),
            ("d1/m1", "hub.example.net")
        );
        assert_eq!(facts.sdk.as_deref(), Some("artisan;Linux"));
        assert_eq!(facts.api_version.as_deref(), Some(API_VERSION));
        let context = presented.context.expect("a signed context");
        assert_eq!(context.token().skn.as_deref(), Some("device"));
    }

    #[test]
    fn the_host_may_be_that_of_the_handshake() {
        let mut facts = Facts { server_name: Some("hub.example.net".to_owned()), ..Facts::default() };
        let by_certificate = connect(Some("X509"), &GOOD[..1]);
        let presented = read(&by_certificate, &mut facts).expect("it says what it has to");
        assert_eq!((presented.host.as_str(), presented.context.is_none()), ("hub.example.net", true));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let mut facts = Facts::default();
        let mut told = |connect: Connect| problem(read(&connect, &mut facts));
        assert!(told(connect(None, &GOOD)).contains("Method` is missing"));
        assert!(told(connect(Some("sas"), &GOOD)).contains("neither"));
        assert!(told(connect(Some("SAS"), &GOOD[1..])).contains("`api-version` is missing"));
        assert!(told(connect(Some("SAS"), &[("api-version", "2021-04-12")])).contains("is not 2020"));
        assert!(told(connect(Some("SAS"), &GOOD[..1])).contains("TLS names no server"));
        assert!(told(connect(Some("SAS"), &GOOD[..2])).contains("`sas-expiry` is missing"));
        let twice = [GOOD.as_slice(), &[("host", "x")]].concat();
        assert!(told(connect(Some("SAS"), &twice)).contains("comes twice"));
        let unknown = [GOOD.as_slice(), &[("password", "x")]].concat();
        assert!(told(connect(Some("SAS"), &unknown)).contains("`password` is not known"));
        let unsigned = Connect { auth_data: None, ..connect(Some("SAS"), &GOOD) };
        assert!(told(unsigned).contains("Data` is missing"));
        let nobody = Connect { client_id: "no id".into(), ..connect(Some("SAS"), &GOOD) };
        assert!(matches!(read(&nobody, &mut facts), Err(Refusal::IllegalId { .. })));
    }

    #[test]
    fn a_new_authentication_keeps_to_the_first() {
        let held = Held { method: Method::Sas, host: "h".to_owned(), policy: "device".to_owned() };
        let identity = Identity::parse("d1").expect("an id");
        let auth = |method: &'static str, properties: &[(&str, &str)]| Auth {
            auth_method: Some(method.into()),
            auth_data: Some(vec![1; 32].into()),
            user_properties: user(properties),
            ..Auth::default()
        };
        let expiry = ("sas-expiry", "1600991395320");
        let again = held.read_again(&identity, &auth("SAS", &[expiry])).expect("it is as before");
        assert_eq!(again.expect("a signed context").token().skn.as_deref(), Some("device"));
        let other = held.read_again(&identity, &auth("SAS", &[expiry, ("sas-policy", "service")]));
        assert!(problem(other).contains("another `sas-policy`"));
        assert!(
            problem(held.read_again(&identity, &auth("X509", &[]))).contains("another Authentication Method")
        );
    }
}
