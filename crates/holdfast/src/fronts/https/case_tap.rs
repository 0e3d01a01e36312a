//! The letter case of header names. HTTP/1.1 carries it, hyper folds it, and the names of application properties
//! are case-sensitive (`spec/device-https.md` §3): so the head of each request is looked at as it passes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Heads longer than this are not kept; hyper refuses them too.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A stream whose request heads are kept until they are taken.
pub(super) struct CaseTap<S> {
    stream: S,
    names: HeaderNames,
}

/// The head of the request that came last, as it was written.
#[derive(Clone, Default)]
pub(super) struct HeaderNames(Arc<Mutex<Head>>);

#[derive(Default)]
struct Head {
    bytes: Vec<u8>,
    /// Whether what comes belongs to a body.
    passing: bool,
}

impl<S> CaseTap<S> {
    /// Taps a stream.
    pub(super) fn new(stream: S) -> (Self, HeaderNames) {
        let names = HeaderNames::default();
        (Self { stream, names: names.clone() }, names)
    }
}

impl HeaderNames {
    /// The names of the request that is being served, in the case in which they were written. Empty when a client
    /// sent the request before the answer to the one before it came; its names are then those that hyper gives.
    pub(super) fn take(&self) -> Vec<String> {
        let mut head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        head.passing = true;
        let bytes = std::mem::take(&mut head.bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
        bytes[..end]
            .split(|byte| *byte == b'\n')
            .skip(1)
            .filter_map(|line| line.split(|byte| *byte == b':').next())
            .filter_map(|name| std::str::from_utf8(name).ok().map(str::to_owned))
            .collect()
    }

    /// The first byte of a head that was not taken, for one that is none.
    pub(super) fn first_byte(&self) -> Option<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.first().copied()
    }

    /// Says that the request is served: what comes next is a head.
    pub(super) fn arm(&self) {
        let mut head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        head.passing = false;
    }

    fn pass(&self, bytes: &[u8]) {
        let mut head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !head.passing && head.bytes.len() < HEAD_BYTES_MAX {
            head.bytes.extend_from_slice(bytes);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CaseTap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if result.is_ready() {
            self.names.pass(&buf.filled()[before..]);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CaseTap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
