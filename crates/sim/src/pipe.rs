//! TLS over TCP, written and read so that giving up a wait loses nothing.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::trust::server_name;
use crate::{SimError, Trust};

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// The bytes of a connection.
pub(crate) struct Pipe {
    stream: TlsStream<TcpStream>,
    unflushed: bool,
}

impl Pipe {
    /// Connects and does the handshake.
    pub(crate) async fn open(address: SocketAddr, host: &str, trust: &Trust) -> Result<Self, SimError> {
        let name = server_name(host)?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = Box::pin(trust.connector().connect(name, stream)).await?;
        Ok(Self { stream, unflushed: false })
    }

    /// Writes all of the output, taking out of it what was written.
    pub(crate) async fn write(&mut self, output: &mut BytesMut) -> io::Result<()> {
        while !output.is_empty() {
            let written = self.stream.write(output).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            output.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            self.stream.flush().await?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// Reads what there is and hands it on.
    pub(crate) async fn read(&mut self, mut hand_on: impl FnMut(&[u8])) -> Result<(), SimError> {
        let mut bytes = [0_u8; READ_BYTES];
        match self.stream.read(&mut bytes).await? {
            0 => Err(SimError::Closed),
            length => {
                hand_on(&bytes[..length]);
                Ok(())
            }
        }
    }

    /// Says good-bye in TLS and closes.
    pub(crate) async fn close(mut self) {
        let _ = self.stream.shutdown().await;
    }
}
