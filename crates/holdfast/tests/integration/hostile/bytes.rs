//! What attackers send.

use crate::support::Random;

/// Openings of a connection that are no handshake, or none that is served.
pub(super) fn before_tls(random: &mut Random) -> Vec<Vec<u8>> {
    let hello = client_hello([3, 3]);
    let mut all = vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"DELETE /devices/d1 HTTP/1.1\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"AMQP\x00\x01\x00\x00".to_vec(),
        b"AMQP\x03\x01\x00\x00".to_vec(),
        connect("d1", "localhost/d1", "no token"),
        vec![0; 64],
        vec![0x16],
        vec![0x16; 70_000],
        // SSL 2, an alert, application data before a handshake, and lengths that promise too much or nothing.
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec(),
        b"\x15\x03\x01\x00\x02\x02\x28".to_vec(),
        b"\x17\x03\x03\x00\x05hello".to_vec(),
        b"\x16\x03\x01\xff\xff\x01\x00\xff\xfb".to_vec(),
        b"\x16\x03\x01\x00\x00".repeat(1_000),
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff".to_vec(),
        client_hello([3, 0]),
        client_hello([3, 1]),
        client_hello([3, 2]),
        hello.clone(),
        hello.repeat(3),
    ];
    all.extend((1..hello.len()).step_by(7).map(|cut| hello[..cut].to_vec()));
    all.extend(damaged(&hello, random));
    all.extend(noise(random));
    all
}

/// A ClientHello of an old client: no extensions, two cipher suites.
pub(super) fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0]);
    let mut bytes = vec![0x16, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    bytes.extend(body);
    bytes
}

/// Random bytes of random lengths.
pub(super) fn noise(random: &mut Random) -> Vec<Vec<u8>> {
    let mut one = || {
        let length = 1 + random.below(3_000);
        (0..length).map(|_| random.next() as u8).collect()
    };
    (0..12).map(|_| one()).collect()
}

/// The same bytes cut short, and with some of them changed.
pub(super) fn damaged(bytes: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    if bytes.len() < 2 {
        return Vec::new();
    }
    let mut all = vec![bytes[..1 + random.below(bytes.len() as u64 - 1) as usize].to_vec()];
    for _ in 0..3 {
        let mut changed = bytes.to_vec();
        for _ in 0..1 + random.below(4) {
            // The heads of packets and frames are worth more than their ends.
            let within = if random.once_in(2) { bytes.len().min(12) } else { bytes.len() };
            changed[random.below(within as u64) as usize] = random.next() as u8;
        }
        all.push(changed);
    }
    all
}

/// Requests that no client makes.
pub(super) fn http() -> Vec<Vec<u8>> {
    let head = "POST /devices/d1/messages/events?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\n";
    let with = |rest: &str| format!("{head}{rest}").into_bytes();
    vec![
        b"\r\n\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET /%00/%ff%fe/..%2f..%2fetc HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(200_000)).into_bytes(),
        format!("GET /devices/{} HTTP/1.1\r\nHost: l\r\n\r\n", "%2f/".repeat(2_000)).into_bytes(),
        with(&format!("{}\r\n", "X-Flood: 1\r\n".repeat(5_000))),
        with(&format!("X-Large: {}\r\n\r\n", "x".repeat(1 << 20))),
        with(&"X-No-End: 1\r\n".repeat(20)),
        with("Authorization: Bearer \r\n\r\n"),
        with(&format!("Authorization: SharedAccessSignature {}\r\n\r\n", "sr=&sig=&se=".repeat(3_000))),
        with("Authorization: SharedAccessSignature sr=%ZZ&sig=%&se=99999999999999999999\r\n\r\n"),
        with("Content-Length: 99999999999999999999\r\n\r\n"),
        with("Content-Length: -1\r\n\r\n"),
        with("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        with("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello"),
        with("Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"),
        with("Content-Length: 400000\r\n\r\n").into_iter().chain(vec![b'x'; 400_000]).collect(),
        [with("Content-Length: 200000\r\n\r\n"), b"[".repeat(200_000)].concat(),
        [b"GET / HTTP/1.1\r\nHost: l\r\n\r\n".repeat(2_000), b"nonsense".to_vec()].concat(),
    ]
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn request(path: &str, rest: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\n{rest}\r\n"
    )
    .into_bytes()
}

/// A request for a WebSocket that is answered with one.
pub(super) fn upgrade(protocol: &str) -> Vec<u8> {
    request("/$iothub/websocket", &format!("{KEY}Sec-WebSocket-Protocol: {protocol}\r\n"))
}

/// WebSockets that break the protocol, in the head or behind it.
pub(super) fn websocket() -> Vec<Vec<u8>> {
    let mut all = vec![
        request("/", KEY),
        request("/$iothub/websocket", ""),
        request("/$iothub/websocket", KEY),
        request("/$iothub/websocket", &format!("{KEY}Sec-WebSocket-Protocol: chat\r\n")),
        request("/$iothub/websocket", "Sec-WebSocket-Key: \r\nSec-WebSocket-Protocol: mqtt\r\n"),
    ];
    let frames: [&[u8]; 12] = [
        // Unmasked, text, a reserved opcode, reserved bits, a continuation of nothing.
        b"\x82\x05hello",
        b"\x81\x85\0\0\0\0hello",
        b"\x83\x85\0\0\0\0hello",
        b"\xf2\x85\0\0\0\0hello",
        b"\x80\x85\0\0\0\0hello",
        // Lengths: 2^63, 2^64 - 1, 3 MiB, a long ping, a ping in two pieces.
        b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0",
        b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
        b"\x82\xff\0\0\0\0\0\x30\0\0\0\0\0\0",
        b"\x89\xfe\0\x80\0\0\0\0",
        b"\x09\x80\0\0\0\0",
        // A close with a bad code, and with half a code.
        b"\x88\x82\0\0\0\0\0\x01",
        b"\x88\x81\0\0\0\0\x03",
    ];
    for protocol in ["mqtt", "AMQPWSB10"] {
        all.extend(frames.iter().map(|frame| [upgrade(protocol), frame.to_vec()].concat()));
        all.push([upgrade(protocol), b"\x89\x80\0\0\0\0".repeat(5_000)].concat());
        all.push(
            [upgrade(protocol), b"\x02\x80\0\0\0\0".to_vec(), b"\x00\x81\0\0\0\0x".repeat(5_000)].concat(),
        );
    }
    all
}

/// A CONNECT as SDKs send it.
pub(super) fn connect(client_id: &str, user_name: &str, password: &str) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04\xc2\x00\x3c".to_vec();
    for text in [client_id, user_name, password] {
        body.extend((text.len() as u16).to_be_bytes());
        body.extend(text.bytes());
    }
    packet(0x10, &body)
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    let mut length = body.len();
    loop {
        let more = length >= 128;
        bytes.push((length % 128) as u8 | if more { 128 } else { 0 });
        length /= 128;
        if !more {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// MQTT that breaks the standard, or no right.
pub(super) fn mqtt() -> Vec<Vec<u8>> {
    let token = "SharedAccessSignature sr=localhost%2Fdevices%2Fd1&sig=AAAA&se=9999999999";
    let good = connect("d1", "localhost/d1/?api-version=2021-04-12", token);
    vec![
        good.clone(),
        good.repeat(50),
        connect("", "", ""),
        connect("d1", &"localhost/".repeat(6_000), token),
        connect("d1", "localhost/d1", &"A".repeat(65_535)),
        connect("d1", "localhost/d1", "SharedAccessSignature sr=%&sig=%F&se=-1"),
        connect(&"\u{fffd}".repeat(20_000), "localhost/d1", token),
        // No CONNECT first; every kind of packet; lengths that are too long, or never end.
        (0..=255).flat_map(|kind| [kind, 0]).collect(),
        b"\x30\xff\xff\xff\x7f".to_vec(),
        b"\x10\xff\xff\xff\xff\xff\xff".to_vec(),
        b"\x10\xff\xff\x7f".iter().copied().chain(vec![0; 300_000]).collect(),
        packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00"),
        packet(0x10, b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x02d1"),
        packet(0x10, b"\x00\x04MQTT\x04\xff\xff\xff\xff\xff"),
        packet(0x32, b"\x00\x05hello\x00\x01"),
        packet(0x82, b"\x00\x01"),
        packet(0xc0, b""),
        b"\xc0\x00".repeat(20_000),
        b"AMQP\x00\x01\x00\x00".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ]
}

/// What an admitted device may try: each is the packets behind its CONNECT.
pub(super) fn mqtt_of_a_device(device: &str) -> Vec<Vec<u8>> {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    let publish = |topic: &str, body: &[u8]| packet(0x32, &[&text(topic)[..], b"\x00\x01", body].concat());
    let events = format!("devices/{device}/messages/events/");
    let many = |names: usize| (0..names).map(|number| format!("{number:x}")).collect::<Vec<_>>().join("&");
    let filters = |kind: u8, count: usize, end: &[u8]| {
        let filter = |number: usize| format!("$iothub/twin/res/{number:x}/#");
        let filters = (0..count).flat_map(|number| [&text(&filter(number))[..], end].concat());
        packet(kind, &b"\x00\x01".iter().copied().chain(filters).collect::<Vec<_>>())
    };
    let full = format!("{events}{}", many(13_500));
    vec![
        // A topic full of names, over and over; one full of the same name; one of percent signs.
        publish(&full, b"x").repeat(40),
        publish(&format!("{events}{}", "a=1&".repeat(16_000)), b"x").repeat(40),
        publish(&format!("{events}{}", "%".repeat(65_000)), b"x").repeat(40),
        // More filters than it may have, and as many to give up.
        filters(0x82, 12_000, b"\x01").repeat(4),
        filters(0xa2, 12_000, b"").repeat(20),
        // What is another's, what does not exist, and what is too large.
        publish("devices/witness/messages/events/", b"forged"),
        publish("$iothub/twin/GET/?$rid=1", b"").repeat(1_000),
        publish("no/such/topic", b"x"),
        packet(0x82, &[b"\x00\x01", &text("devices/witness/messages/devicebound/#")[..], b"\x01"].concat()),
        packet(0x82, &[b"\x00\x01", &text("#")[..], b"\x01"].concat()),
        publish(&events, &vec![b'x'; 262_145]),
        publish(&events, &vec![b'x'; 200_000]).repeat(30),
        packet(0x30, &text(&events)).repeat(20_000),
        // What only a server sends, QoS 2, a second CONNECT, and a CONNECT inside a PUBLISH that never ends.
        packet(0x40, b"\x00\x01"),
        packet(0x34, &[&text(&events)[..], b"\x00\x01x"].concat()),
        connect(device, "localhost/other", "x"),
        b"\x32\xff\xff\x0f".iter().copied().chain(connect(device, "localhost/other", "x")).collect(),
    ]
}

/// AMQP that breaks the standard.
pub(super) fn amqp() -> Vec<Vec<u8>> {
    const SASL: &[u8] = b"AMQP\x03\x01\x00\x00";
    const PLAIN: &[u8] = b"AMQP\x00\x01\x00\x00";
    let frame = |kind: u8, body: &[u8]| {
        let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend([2, kind, 0, 0]);
        bytes.extend(body);
        bytes
    };
    let init = frame(1, b"\x00\x53\x41\xc0\x0c\x01\xa3\x09ANONYMOUS");
    let open = frame(0, b"\x00\x53\x10\xc0\x04\x01\xa1\x01c");
    let begin = frame(0, b"\x00\x53\x11\xc0\x0a\x04\x40\x43\x70\x00\x00\x10\x00\x52\x10");
    let start = [SASL, &init, PLAIN, &open].concat();
    let after = |bytes: &[u8]| [&start[..], bytes].concat();
    let lists = |depth: usize| b"\xd0\x00\x00\xff\xff\x00\x00\x00\x01".repeat(depth);
    vec![
        b"AMQP\x00\x00\x09\x01".to_vec(),
        b"AMQP\x01\x01\x00\x00".to_vec(),
        b"AMQP\x02\x01\x00\x00".to_vec(),
        PLAIN.repeat(100),
        start.clone(),
        after(&begin),
        after(&begin.repeat(5_000)),
        after(&open),
        // Sizes: none, less than a head, everything; a body that begins before the head ends, or behind the frame.
        after(b"\x00\x00\x00\x00\x02\x00\x00\x00"),
        after(b"\x00\x00\x00\x07\x02\x00\x00\x00"),
        after(b"\xff\xff\xff\xff\x02\x00\x00\x00"),
        after(b"\x00\x00\x00\x08\x00\x00\x00\x00"),
        after(b"\x00\x00\x00\x08\xff\x00\x00\x00"),
        after(b"\x00\x00\x00\x08\x02\x07\x00\x00"),
        after(&b"\x00\x00\x00\x08\x02\x00\x00\x00".repeat(20_000)),
        // Values: nested without end, more elements than bytes, no known type, no known performative.
        after(&frame(0, &[b"\x00\x53\x10", &lists(5_000)[..]].concat())),
        after(&frame(0, &b"\x00".repeat(8_000))),
        after(&frame(0, b"\x00\x53\x14\xd0\x00\x00\x00\x08\xff\xff\xff\xff\x40\x40\x40\x40")),
        after(&frame(0, b"\x00\x53\x14\xf0\x00\x00\x00\x08\xff\xff\xff\xff\x45")),
        after(&frame(0, b"\x00\x53\xff\x45")),
        after(&frame(0, b"\x3f\x3f\x3f")),
        after(&[&begin[..], &frame(0, b"\x00\x53\x12\xc0\x05\x03\xa1\x01l\x43\x41")].concat()),
        after(&[&begin[..], &frame(0, b"\x00\x53\x14\xc0\x02\x01\x52\x63")].concat()),
        [SASL, &init.repeat(100)[..]].concat(),
        [SASL, &frame(1, b"\x00\x53\x41\xc0\x08\x01\xa3\x05PLAIN")[..]].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ]
}
