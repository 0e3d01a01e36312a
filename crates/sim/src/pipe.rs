//! TLS over TCP, or a WebSocket in it, written and read so that giving up a wait loses nothing.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::{Buf as _, BytesMut};
use futures_util::{Sink as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ProtocolVersion;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::trust::server_name;
use crate::websocket::{self, Protocol};
use crate::{SimError, Trust};

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// The bytes of a connection.
pub(crate) struct Pipe {
    stream: Stream,
    unflushed: bool,
}

enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    WebSocket(Box<WebSocketStream<TlsStream<TcpStream>>>),
}

/// Connects and does the handshake.
pub(crate) async fn dial(
    address: SocketAddr,
    host: &str,
    trust: &Trust,
) -> Result<TlsStream<TcpStream>, SimError> {
    secure(TcpStream::connect(address).await?, host, trust).await
}

/// Does the handshake.
async fn secure(stream: TcpStream, host: &str, trust: &Trust) -> Result<TlsStream<TcpStream>, SimError> {
    let name = server_name(host)?;
    stream.set_nodelay(true)?;
    Ok(Box::pin(trust.connector().connect(name, stream)).await?)
}

/// The version of TLS that was agreed on: `1.2` or `1.3`.
pub(crate) fn tls_version(stream: &TlsStream<TcpStream>) -> &'static str {
    match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    }
}

impl Pipe {
    /// Connects and does the handshake.
    pub(crate) async fn open(address: SocketAddr, host: &str, trust: &Trust) -> Result<Self, SimError> {
        Self::over(TcpStream::connect(address).await?, host, trust).await
    }

    /// Does the handshake over this connection.
    pub(crate) async fn over(stream: TcpStream, host: &str, trust: &Trust) -> Result<Self, SimError> {
        let stream = Stream::Tls(Box::new(secure(stream, host, trust).await?));
        Ok(Self { stream, unflushed: false })
    }

    /// The same with a WebSocket in it.
    pub(crate) async fn open_websocket(
        address: SocketAddr,
        host: &str,
        trust: &Trust,
        protocol: Protocol,
    ) -> Result<Self, SimError> {
        let stream = dial(address, host, trust).await?;
        let stream = Stream::WebSocket(Box::new(websocket::upgrade(stream, host, protocol).await?));
        Ok(Self { stream, unflushed: false })
    }

    /// The version of TLS that was agreed on.
    pub(crate) fn tls_version(&self) -> &'static str {
        match &self.stream {
            Stream::Tls(stream) => tls_version(stream),
            Stream::WebSocket(socket) => tls_version(socket.get_ref()),
        }
    }

    /// Writes all of the output, taking out of it what was written.
    pub(crate) async fn write(&mut self, output: &mut BytesMut) -> Result<(), SimError> {
        match &mut self.stream {
            Stream::Tls(stream) => {
                while !output.is_empty() {
                    let written = stream.write(output).await?;
                    if written == 0 {
                        return Err(io::Error::from(io::ErrorKind::WriteZero).into());
                    }
                    output.advance(written);
                    self.unflushed = true;
                }
                if self.unflushed {
                    stream.flush().await?;
                }
            }
            Stream::WebSocket(socket) => {
                if !output.is_empty() {
                    // Between room for a message and handing it over nothing is awaited.
                    poll_fn(|cx| Pin::new(&mut **socket).poll_ready(cx)).await.map_err(websocket::failed)?;
                    let message = Message::Binary(output.split().freeze());
                    Pin::new(&mut **socket).start_send(message).map_err(websocket::failed)?;
                    self.unflushed = true;
                }
                if self.unflushed {
                    socket.flush().await.map_err(websocket::failed)?;
                }
            }
        }
        self.unflushed = false;
        Ok(())
    }

    /// Reads what there is and hands it on.
    pub(crate) async fn read(&mut self, mut hand_on: impl FnMut(&[u8])) -> Result<(), SimError> {
        match &mut self.stream {
            Stream::Tls(stream) => {
                // Neither cleared for each read, nor a part of what waits for it.
                let read = poll_fn(|cx| {
                    let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
                    let mut buffer = ReadBuf::uninit(&mut bytes);
                    ready!(Pin::new(&mut **stream).poll_read(cx, &mut buffer))?;
                    hand_on(buffer.filled());
                    Poll::Ready(io::Result::Ok(buffer.filled().len()))
                });
                if read.await? == 0 { Err(SimError::Closed) } else { Ok(()) }
            }
            Stream::WebSocket(socket) => match socket.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    hand_on(&bytes);
                    Ok(())
                }
                Some(Ok(Message::Close(_))) | None => Err(SimError::Closed),
                // Pings are answered where they are read.
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(websocket::failed(error)),
            },
        }
    }

    /// Says good-bye and closes.
    pub(crate) async fn close(self) {
        match self.stream {
            Stream::Tls(mut stream) => drop(stream.shutdown().await),
            Stream::WebSocket(mut socket) => drop(socket.close().await),
        }
    }
}
