use bytes::{Buf, BufMut, BytesMut};

use crate::amqp::codec::Writer;
use crate::amqp::frame::{FrameType, OpenFrame, ProtocolHeader};
use crate::amqp::performative::{DeliveryState, Disposition, Performative};
use crate::amqp::sasl::SaslFrame;

/// Frames that wait for the transport.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) buffer: BytesMut,
    /// The peer's max-frame-size.
    pub(super) frame_size_max: u32,
    /// Bytes taken by the transport since the beginning.
    taken: u64,
    last_disposition: Option<Acceptance>,
}

/// A disposition at the end of the buffer that may still grow.
#[derive(Debug)]
struct Acceptance {
    /// First and last byte in the stream since its beginning.
    start: u64,
    end: u64,
    channel: u16,
    disposition: Disposition,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            // Before the peer's open arrives only headers, SASL and our own open go out. The standard
            // wants these below 512 bytes, yet tokens and properties do not fit and every
            // implementation takes more.
            frame_size_max: u32::MAX,
            taken: 0,
            last_disposition: None,
        }
    }

    /// Takes note that the transport has taken `count` bytes. An empty buffer is given back, so
    /// that a connection that waits holds none.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.buffer.len());
        self.taken += count as u64;
        self.buffer.advance(count);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    pub(super) fn take(&mut self) -> BytesMut {
        self.taken += self.buffer.len() as u64;
        std::mem::take(&mut self.buffer)
    }

    pub(super) fn header(&mut self, header: ProtocolHeader) {
        self.buffer.put_slice(&header.bytes());
    }

    /// An empty frame, which only says that we are alive (OASIS part 2, section 2.4.5).
    pub(super) fn empty_frame(&mut self) {
        OpenFrame::begin(&mut self.buffer, FrameType::Amqp, 0).end(&mut self.buffer);
    }

    pub(super) fn sasl(&mut self, body: &SaslFrame) {
        let frame = OpenFrame::begin(&mut self.buffer, FrameType::Sasl, 0);
        body.write(&mut Writer::new(&mut self.buffer));
        frame.end(&mut self.buffer);
    }

    /// Writes a frame. One that is too long for the peer goes out without the texts of its error.
    pub(super) fn amqp(&mut self, channel: u16, mut body: Performative) {
        if self.try_frame(channel, |w| body.write(w)).is_err() {
            strip_error(&mut body);
            // What is left has no part of variable length but a condition.
            let _ = self.try_frame(channel, |w| body.write(w));
        }
    }

    /// Writes a frame unless it is too long for the peer; then its length is the error.
    pub(super) fn try_frame(
        &mut self,
        channel: u16,
        body: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), usize> {
        let frame = OpenFrame::begin(&mut self.buffer, FrameType::Amqp, channel);
        let start = frame.start();
        body(&mut Writer::new(&mut self.buffer));
        let size = self.buffer.len() - start;
        if size > self.frame_size_max as usize {
            self.buffer.truncate(start);
            return Err(size);
        }
        frame.end(&mut self.buffer);
        Ok(())
    }

    /// Writes a disposition; one that goes on where the last frame ended becomes part of it.
    pub(super) fn disposition(&mut self, channel: u16, disposition: Disposition) {
        if self.extend_last_disposition(channel, &disposition) {
            return;
        }
        let start = self.position();
        let may_grow = disposition.settled && disposition.state == Some(DeliveryState::Accepted);
        let kept = may_grow.then(|| disposition.clone());
        self.amqp(channel, Performative::Disposition(disposition));
        let end = self.position();
        self.last_disposition = kept.map(|disposition| Acceptance { start, end, channel, disposition });
    }

    fn extend_last_disposition(&mut self, channel: u16, next: &Disposition) -> bool {
        let Some(mut last) = self.last_disposition.take() else {
            return false;
        };
        let expected = last.disposition.last.unwrap_or(last.disposition.first).wrapping_add(1);
        let goes_on = last.channel == channel
            && last.end == self.position()
            && last.start >= self.taken
            && next.first == expected
            && next.role == last.disposition.role
            && next.settled
            && next.state == Some(DeliveryState::Accepted);
        if goes_on {
            self.buffer.truncate((last.start - self.taken) as usize);
            last.disposition.last = Some(next.last.unwrap_or(next.first));
            self.amqp(channel, Performative::Disposition(last.disposition.clone()));
            last.end = self.position();
            self.last_disposition = Some(last);
        }
        goes_on
    }

    /// Bytes of the stream so far.
    fn position(&self) -> u64 {
        self.taken + self.buffer.len() as u64
    }
}

fn strip_error(body: &mut Performative) {
    let error = match body {
        Performative::Detach(detach) => detach.error.as_mut(),
        Performative::End(end) => end.error.as_mut(),
        Performative::Close(close) => close.error.as_mut(),
        Performative::Disposition(disposition) => match &mut disposition.state {
            Some(DeliveryState::Rejected(error)) => error.as_mut(),
            _ => None,
        },
        _ => None,
    };
    if let Some(error) = error {
        error.description = None;
        error.info = Default::default();
    }
}
