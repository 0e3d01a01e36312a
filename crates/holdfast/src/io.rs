//! The byte streams of the doors: TLS over TCP, and the binary messages of a WebSocket over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::unadmitted::Admission;

/// TLS over TCP. It has its own place on the heap: a connection's futures hand it on, and each of them would keep room for
/// all of it.
pub(crate) type TlsConnection = Box<Guarded>;

/// What a front reads and writes.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl Stream for Guarded {}
impl<S: Stream> Stream for Box<S> {}

/// TLS over TCP, of which no more is read than an unadmitted connection may send until it is admitted.
pub(crate) struct Guarded {
    tls: TlsStream<TcpStream>,
    /// `None` once it is admitted.
    unadmitted: Option<Arc<Admission>>,
}

impl Guarded {
    /// A connection that has just shaken hands.
    pub(crate) fn new(tls: TlsStream<TcpStream>, admission: Arc<Admission>) -> Self {
        Self { tls, unadmitted: Some(admission) }
    }

    /// The TLS connection.
    pub(crate) fn tls(&self) -> &rustls::ServerConnection {
        self.tls.get_ref().1
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tls).poll_read(cx, buf))?;
        if let Some(admission) = &self.unadmitted {
            match admission.is_admitted() {
                true => self.unadmitted = None,
                false => admission.received(buf.filled().len() - before)?,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
