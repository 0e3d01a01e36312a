//! Bytes to and from the client, and what it breaks of the protocol.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use hub::decision::cut;
use hub::refusal::Refusal;
use hub::telemetry::MESSAGE_BYTES_MAX;
use tokio::io::ReadBuf;
use wire::amqp::connection::PeerMisbehaved;

use super::{Conversation, Wake};
use crate::io::Stream;
use crate::listen::spoken;

/// Bytes read at once; they live on the stack.
const READ_BYTES: usize = 16 * 1024;

impl<S: Stream> Conversation<S> {
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.machine.output().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.machine.output()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.machine.consume_output(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            self.unflushed = true;
            // There is room in the output again, so that readers may go on; they are polled in the next round.
            if self.machine.output().is_empty() {
                self.poll_readers(cx);
                self.poll_to_services(cx);
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => return Poll::Pending,
            }
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        let mut bytes = [MaybeUninit::<u8>::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Wake::Over),
            Poll::Ready(Ok(())) => {
                self.machine.handle_bytes(buffer.filled(), Instant::now());
                Poll::Ready(Wake::Progress)
            }
            Poll::Ready(Err(error)) => {
                self.over.reason = error.to_string().into();
                Poll::Ready(Wake::Over)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The cause by which a broken protocol is explained.
pub(super) fn misbehaviour(misbehaved: &PeerMisbehaved) -> Refusal {
    match misbehaved {
        PeerMisbehaved::UnsupportedHeader(bytes) if !bytes.starts_with(b"AMQP") => match spoken(bytes[0]) {
            Some(spoken) => Refusal::WrongPort { spoken: spoken.to_owned(), served: "AMQP".to_owned() },
            None => Refusal::Protocol { problem: misbehaved.to_string() },
        },
        PeerMisbehaved::MechanismNotOffered(mechanism) => {
            Refusal::SaslMechanism { presented: cut(mechanism.as_str()) }
        }
        // How long it is was not read to the end.
        PeerMisbehaved::MessageTooLarge { limit } => {
            Refusal::MessageTooLarge { size: *limit as usize + 1, limit: MESSAGE_BYTES_MAX }
        }
        other => Refusal::Protocol { problem: other.to_string() },
    }
}
