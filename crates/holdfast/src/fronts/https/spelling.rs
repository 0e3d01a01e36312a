//! How the names of headers are written in answers. hyper writes them in lower case; clients of Azure's compare some as
//! Azure writes them, and the names of application properties are the sender's (`docs/protocol/device-https.md` §1,
//! §4).

/// Names that are not written as [`title`] would.
const KNOWN: [&str; 7] = [
    "ETag",
    "ContentType",
    "ContentEncoding",
    "Content-MD5",
    "WWW-Authenticate",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Protocol",
];

/// What names in lower case begin with.
const LOWER: [&str; 3] = ["iothub-", "x-ms-", "dt-"];

/// Names of one answer in the case in which its sender wrote them, in the order in which they stand in it.
#[derive(Clone, Default)]
pub(super) struct WrittenNames(pub(super) Vec<String>);

/// What has to be known of the answer that is written next.
#[derive(Default)]
pub(super) struct NextAnswer {
    /// Whether it answers HEAD, so that no body follows.
    pub(super) to_head: bool,
    /// Names that have a case of their own.
    pub(super) names: WrittenNames,
}

/// What is written next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The head of an answer.
    Head,
    /// So many bytes of a body.
    Body(u64),
    /// What has no heads any more.
    Rest,
}

impl Next {
    /// What comes after this head.
    fn after(head: &[u8], to_head: bool) -> Self {
        let text = String::from_utf8_lossy(head);
        let status = text.split(' ').nth(1).unwrap_or_default();
        let value = |wanted: &str| {
            text.split("\r\n").skip(1).find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
            })
        };
        if status == "101" || value("transfer-encoding").is_some() {
            return Self::Rest;
        }
        if to_head || status.starts_with('1') || matches!(status, "204" | "304") {
            return Self::Head;
        }
        value("content-length").map_or(Self::Rest, |length| length.parse().map_or(Self::Rest, Self::body))
    }

    fn body(bytes: u64) -> Self {
        if bytes == 0 { Self::Head } else { Self::Body(bytes) }
    }

    /// What comes after so many bytes of this.
    pub(super) fn passed(self, bytes: usize) -> Self {
        match self {
            Self::Body(left) => Self::body(left.saturating_sub(bytes as u64)),
            Self::Head | Self::Rest => self,
        }
    }
}

/// The length of the head that these bytes begin with, if all of it is there.
pub(super) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Whether it is the head of a final answer.
pub(super) fn is_final(head: &[u8]) -> bool {
    head.get(9) != Some(&b'1') || head.starts_with(b"HTTP/1.1 101")
}

/// Writes the names of a head as they are to be, and says what follows it.
pub(super) fn spell(head: &mut [u8], answer: NextAnswer) -> Next {
    let next = Next::after(head, answer.to_head);
    let mut names = answer.names.0;
    for line in head.split_mut(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = &mut line[..colon];
        let is_it = |written: &str| written.as_bytes().eq_ignore_ascii_case(name);
        if let Some(at) = names.iter().position(|written| is_it(written)) {
            name.copy_from_slice(names.remove(at).as_bytes());
        } else if let Some(known) = KNOWN.iter().find(|known| is_it(known)) {
            name.copy_from_slice(known.as_bytes());
        } else if !LOWER.iter().any(|prefix| name.starts_with(prefix.as_bytes())) {
            title(name);
        }
    }
    next
}

/// `content-type` becomes `Content-Type`.
fn title(name: &mut [u8]) {
    for word in name.split_mut(|byte| *byte == b'-') {
        if let Some(first) = word.first_mut() {
            first.make_ascii_uppercase();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(head: &str, answer: NextAnswer) -> (String, Next) {
        let mut bytes = head.replace('\n', "\r\n").into_bytes();
        let next = spell(&mut bytes, answer);
        (String::from_utf8(bytes).expect("ASCII").replace("\r\n", "\n"), next)
    }

    #[test]
    fn names_are_written_as_azure_and_the_sender_write_them() {
        let names = ["iothub-app-Room", "iothub-app-room", "iothub-app-aB"].map(str::to_owned);
        let answer = NextAnswer { to_head: false, names: WrittenNames(names.to_vec()) };
        let head = "HTTP/1.1 200 OK\ncontent-type: a: b\netag: \"x\"\nx-ms-request-id: 1\niothub-ack: full\ncontenttype: t\n\
                    iothub-app-room: 1\niothub-app-room: 2\niothub-app-ab: 3\niothub-app-other: 4\ncontent-length: 7\n\
                    retry-after: 5\nwww-authenticate: x\nsec-websocket-accept: y\ndate: etag: z\n\n";
        let right = "HTTP/1.1 200 OK\nContent-Type: a: b\nETag: \"x\"\nx-ms-request-id: 1\niothub-ack: full\nContentType: t\n\
                     iothub-app-Room: 1\niothub-app-room: 2\niothub-app-aB: 3\niothub-app-other: 4\nContent-Length: 7\n\
                     Retry-After: 5\nWWW-Authenticate: x\nSec-WebSocket-Accept: y\nDate: etag: z\n\n";
        assert_eq!(spelled(head, answer), (right.to_owned(), Next::Body(7)));
    }

    #[test]
    fn what_follows_a_head_is_known() {
        let next = |head: &str, to_head| spelled(head, NextAnswer { to_head, ..NextAnswer::default() }).1;
        assert_eq!(next("HTTP/1.1 200 OK\ncontent-length: 0\n\n", false), Next::Head);
        assert_eq!(next("HTTP/1.1 405 No\ncontent-length: 9\n\n", true), Next::Head);
        assert_eq!(next("HTTP/1.1 204 No Content\n\n", false), Next::Head);
        assert_eq!(next("HTTP/1.1 100 Continue\n\n", false), Next::Head);
        assert_eq!(next("HTTP/1.1 101 Switching Protocols\nupgrade: websocket\n\n", false), Next::Rest);
        assert_eq!(next("HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n", false), Next::Rest);
        assert_eq!(next("HTTP/1.1 200 OK\n\n", false), Next::Rest);
        assert_eq!(Next::Body(5).passed(3), Next::Body(2));
        assert_eq!(Next::Body(5).passed(5), Next::Head);
        assert!(!is_final(b"HTTP/1.1 100 Continue\r\n\r\n") && is_final(b"HTTP/1.1 101 Switching"));
    }
}
