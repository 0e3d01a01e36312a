//! The names of the header fields of a request, as the client wrote them, read from the bytes of its head as they come.

/// Names longer than this together are not kept: whoever needs them falls back on those in lower case.
const NAMES_BYTES_MAX: usize = 16 * 1024;

/// The names of one head. Values are passed over, so that a long head is not held twice.
#[derive(Debug, Default)]
pub(super) struct HeadNames {
    first_byte: Option<u8>,
    /// The names so far, each with a line feed behind it, and what there is of the next one.
    names: Vec<u8>,
    /// Where the name of the present line begins.
    begin: usize,
    place: Place,
    /// Bytes of the present line, without its end.
    length: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    RequestLine,
    Name,
    Value,
    /// Behind the empty line.
    End,
}

impl HeadNames {
    /// Reads on.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.first_byte = self.first_byte.or_else(|| bytes.first().copied());
        for byte in bytes {
            match (byte, self.place) {
                (_, Place::End) => return,
                (b'\n', _) => self.end_line(),
                (b'\r', _) => {}
                (b':', Place::Name) => {
                    self.names.push(b'\n');
                    self.begin = self.names.len();
                    self.place = Place::Value;
                }
                (byte, Place::Name) if self.names.len() < NAMES_BYTES_MAX => {
                    self.names.push(*byte);
                    self.length += 1;
                }
                (_, Place::Name | Place::Value | Place::RequestLine) => self.length += 1,
            }
        }
    }

    fn end_line(&mut self) {
        // What has no colon is no field.
        self.names.truncate(self.begin);
        self.place = match (self.place, self.length) {
            // Empty lines before the request line are passed over (RFC 9112 section 2.2).
            (Place::RequestLine, 0) => Place::RequestLine,
            (Place::Name, 0) => Place::End,
            (Place::RequestLine | Place::Name | Place::Value | Place::End, _) => Place::Name,
        };
        self.length = 0;
    }

    /// The names; none when they were too long.
    pub(super) fn names(&self) -> Vec<String> {
        if self.names.len() >= NAMES_BYTES_MAX {
            return Vec::new();
        }
        let names = self.names[..self.begin].split(|byte| *byte == b'\n').filter(|name| !name.is_empty());
        names.filter_map(|name| std::str::from_utf8(name).ok().map(str::to_owned)).collect()
    }

    /// The first byte that came.
    pub(super) fn first_byte(&self) -> Option<u8> {
        self.first_byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(head: &str, piece: usize) -> Vec<String> {
        let mut names = HeadNames::default();
        head.as_bytes().chunks(piece).for_each(|bytes| names.read(bytes));
        names.names()
    }

    #[test]
    fn names_are_kept_as_they_were_written_in_whatever_pieces_they_come() {
        let head = "\r\nPOST /a:b HTTP/1.1\r\nHost: h:443\r\niothub-app-Room: a: b\r\nnothing\r\nX:\r\n\r\nBody: 1\r\n\r\n";
        for piece in [1, 2, 5, 1_000] {
            assert_eq!(names_of(head, piece), ["Host", "iothub-app-Room", "X"], "{piece}");
        }
    }

    #[test]
    fn a_head_that_is_not_complete_has_the_names_that_came() {
        assert_eq!(names_of("GET / HTTP/1.1\r\nA: 1\r\nB", 7), ["A"]);
        assert_eq!(names_of("GET / HT", 7), [] as [&str; 0]);
    }

    #[test]
    fn values_take_no_room_and_names_only_so_much() {
        let mut names = HeadNames::default();
        names.read(b"GET / HTTP/1.1\r\nA: ");
        names.read(&vec![b'v'; 1_000_000]);
        assert!(names.names.capacity() < 1_000);
        names.read(b"\r\n");
        names.read(&vec![b'n'; 1_000_000]);
        assert!(names.names.capacity() <= 2 * NAMES_BYTES_MAX);
        assert_eq!(names.names(), [] as [&str; 0]);
    }
}
