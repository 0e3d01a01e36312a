//! A WebSocket as a stream of bytes: message boundaries mean nothing, both ways
//! (`docs/protocol/device-mqtt.md` §1, `docs/protocol/amqp.md` §2).

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::io::Stream;
use crate::unadmitted::Admission;
use hub::limits::UNADMITTED_WEBSOCKET_MESSAGE_BYTES_MAX as UNADMITTED_MESSAGE_BYTES_MAX;

/// A message may be as large as the largest packet and its headers.
const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The bytes of a WebSocket.
pub(crate) struct WebSocketBytes {
    upgraded: TokioIo<Upgraded>,
    protocol: WebSocketContext,
    /// What of the last message is not read yet.
    rest: Bytes,
    /// `None` once it is admitted.
    unadmitted: Option<Arc<Admission>>,
}

impl Stream for WebSocketBytes {}

impl WebSocketBytes {
    /// The bytes of a WebSocket whose handshake was answered.
    pub(crate) fn new(upgraded: Upgraded, admission: Arc<Admission>) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(UNADMITTED_MESSAGE_BYTES_MAX))
            .max_frame_size(Some(UNADMITTED_MESSAGE_BYTES_MAX))
            .read_buffer_size(8 * 1024)
            .write_buffer_size(0);
        Self {
            upgraded: TokioIo::new(upgraded),
            protocol: WebSocketContext::new(Role::Server, Some(config)),
            rest: Bytes::new(),
            unadmitted: Some(admission),
        }
    }

    fn raise_limits_once_admitted(&mut self) {
        if self.unadmitted.as_ref().is_some_and(|admission| admission.is_admitted()) {
            self.unadmitted = None;
            self.protocol.set_config(|config| {
                config.max_message_size = Some(MESSAGE_BYTES_MAX);
                config.max_frame_size = Some(MESSAGE_BYTES_MAX);
            });
        }
    }

    /// Runs a step of the protocol on what can be read and written without waiting.
    fn step<T>(
        &mut self,
        cx: &mut Context<'_>,
        step: impl FnOnce(&mut WebSocketContext, &mut Now<'_, '_>) -> Result<T, Error>,
    ) -> Poll<Result<T, Error>> {
        match step(&mut self.protocol, &mut Now { io: Pin::new(&mut self.upgraded), cx }) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.step(cx, |protocol, now| protocol.flush(now)).map_err(as_io)
    }
}

impl AsyncRead for WebSocketBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.raise_limits_once_admitted();
        while self.rest.is_empty() {
            match self.step(cx, |protocol, now| protocol.read(now)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(as_io(error))),
                Poll::Ready(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Poll::Ready(Ok(Message::Text(_))) => {
                    let error = "a text message came where only binary ones may";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                // Pings are answered by the library; pongs say nothing.
                Poll::Ready(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            }
        }
        let length = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocketBytes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // One message at a time: the one before it has to be out.
        match self.poll_flushed(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        match self.step(cx, |protocol, now| protocol.write(now, message)) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(as_io(error))),
            // What could not be written yet is queued, and goes out with the next flush.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.step(cx, |protocol, now| protocol.close(now, None)) {
            Poll::Ready(Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(as_io(error))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What a stream can do now, as the protocol's synchronous calls want it; where it would wait, the task is woken later.
struct Now<'a, 'c> {
    io: Pin<&'a mut TokioIo<Upgraded>>,
    cx: &'a mut Context<'c>,
}

impl Read for Now<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match self.io.as_mut().poll_read(self.cx, &mut buffer) {
            Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Now<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.io.as_mut().poll_write(self.cx, bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.io.as_mut().poll_flush(self.cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

fn as_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
