//! The socket of a connection.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::ReadBuf;

use super::{Conversation, End, Wake};
use crate::io::Stream;

/// Bytes read at once; they live on the stack, so that no waiting connection holds a buffer.
const READ_BYTES: usize = 16 * 1024;

impl<S: Stream> Conversation<S> {
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.machine.output().is_empty() {
            let written = match Pin::new(&mut self.stream).poll_write(cx, self.machine.output()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => written?,
                Poll::Pending => return Poll::Pending,
            };
            let output = self.machine.output();
            match written == output.len() {
                true => *output = bytes::BytesMut::new(),
                false => bytes::Buf::advance(output, written),
            }
            self.unflushed = true;
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
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                Poll::Ready(Wake::Over(End::Lost("the client closed the connection".to_owned())))
            }
            Poll::Ready(Ok(())) => {
                self.machine.handle_bytes(buffer.filled(), Instant::now());
                Poll::Ready(Wake::Progress)
            }
            Poll::Ready(Err(error)) => Poll::Ready(Wake::Over(End::Lost(error.to_string()))),
            Poll::Pending => Poll::Pending,
        }
    }
}
