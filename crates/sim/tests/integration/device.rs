use std::time::Duration;

use bytes::Bytes;
use holdfast_sim::{
    Authority, Clock, ConnectAckReason, Credential, Device, DeviceOptions, Message, QoS, SasKey, SimError,
    TlsVersions, Trust, topic_with_properties,
};

use crate::server::Echo;

#[tokio::test]
async fn a_message_is_acknowledged_and_another_received() {
    let echo = Echo::start(ConnectAckReason::ConnectionAccepted).await;
    let mut device = Device::connect(&options(&echo)).await.expect("admitted");
    assert!(!device.session_present());
    let message = Message { body: Bytes::from_static(b"{}"), properties: &[("$.ct", "application/json")] };
    device.publish(&message, QoS::AtLeastOnce).await.expect("acknowledged");
    device.publish(&message, QoS::AtMostOnce).await.expect("sent");
    device.ping().await.expect("sent");
    for _ in 0..2 {
        let echoed = device.receive().await.expect("a message");
        assert_eq!(&*echoed.topic, "devices/d1/messages/events/%24.ct=application%2Fjson");
        assert_eq!(&echoed.payload[..], b"{}");
    }
    device.disconnect().await;
}

#[tokio::test]
async fn a_window_of_messages_is_acknowledged_in_order() {
    let echo = Echo::start(ConnectAckReason::ConnectionAccepted).await;
    let mut device = Device::connect(&options(&echo)).await.expect("admitted");
    let topic = topic_with_properties("d1", &[]);
    let ids: Vec<_> = (0..10).map(|_| device.enqueue(&topic, Bytes::new(), QoS::AtLeastOnce)).collect();
    for id in ids {
        let id = id.expect("the topic is short");
        assert_eq!(Some(device.next_acknowledged().await.expect("acknowledged")), id);
    }
}

#[tokio::test]
async fn a_subscription_is_granted_or_refused() {
    let echo = Echo::start(ConnectAckReason::ConnectionAccepted).await;
    let mut device = Device::connect(&options(&echo)).await.expect("admitted");
    device.subscribe("$iothub/methods/POST/#").await.expect("granted");
    let refused = device.subscribe("forbidden").await;
    assert!(matches!(refused, Err(SimError::SubscriptionRefused(filter)) if filter == "forbidden"));
}

#[tokio::test]
async fn a_refusal_comes_with_its_code() {
    let echo = Echo::start(ConnectAckReason::NotAuthorized).await;
    let refused = Device::connect(&options(&echo)).await.err();
    assert!(matches!(refused, Some(SimError::Refused(ConnectAckReason::NotAuthorized))), "{refused:?}");
}

#[tokio::test]
async fn a_device_with_a_late_clock_sends_a_token_that_has_ended() {
    let echo = Echo::start(ConnectAckReason::ConnectionAccepted).await;
    let late = DeviceOptions { clock: Clock::behind(Duration::from_secs(4 * 3_600)), ..options(&echo) };
    Device::connect(&late).await.expect("admitted").disconnect().await;
    let connects = echo.connects.lock().expect("no panic");
    let user_name = connects[0].username.as_deref().unwrap_or_default();
    assert!(user_name.starts_with("hub.example/d1/?api-version="), "{user_name}");
    let password =
        String::from_utf8(connects[0].password.clone().unwrap_or_default().to_vec()).expect("text");
    let end: u64 = password.rsplit_once("&se=").and_then(|(_, end)| end.parse().ok()).expect("an end");
    let now = Clock::default().seconds();
    assert!((now - 3 * 3_600 - 5..=now - 3 * 3_600).contains(&end), "{end} and {now}");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() {
    let echo = Echo::start(ConnectAckReason::ConnectionAccepted).await;
    let stranger = Authority::new("stranger").expect("an authority");
    for versions in [TlsVersions::OnlyTls12, TlsVersions::OnlyTls13] {
        let trust = Trust::in_pem(stranger.pem(), versions).expect("a certificate");
        let failed = Device::connect(&DeviceOptions { trust, ..options(&echo) }).await.err();
        assert!(matches!(failed, Some(SimError::Connection(_))), "{failed:?}");
    }
}

fn options(echo: &Echo) -> DeviceOptions {
    DeviceOptions {
        address: echo.address,
        server_name: "localhost".to_owned(),
        host: "hub.example".to_owned(),
        device: "d1".to_owned(),
        credential: Credential::Sas {
            key: SasKey::of_device("c2VjcmV0").expect("base64"),
            lifetime: Duration::from_secs(3_600),
        },
        trust: echo.trust(),
        clock: Clock::default(),
        keep_alive_seconds: 60,
        clean_session: false,
    }
}
