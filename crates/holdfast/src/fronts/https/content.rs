//! The body of an answer: bytes that are there, or a file that is read while it is sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hub::ports::BoxFuture;
use hub::ports::blobs::BlobError;
use hub::upload::PartReader;
use hyper::body::{Body, Frame, SizeHint};

/// The body of an answer.
pub(super) enum Content {
    /// Bytes that are there.
    Whole(Full<Bytes>),
    /// A file.
    File(Box<FileContent>),
}

/// A file that is read as far as the client takes it.
pub(super) struct FileContent {
    reading: BoxFuture<'static, Result<Option<(Bytes, PartReader)>, BlobError>>,
    left: u64,
}

impl Content {
    /// A file of so many bytes.
    pub(super) fn file(reader: PartReader, bytes: u64) -> Self {
        Self::File(Box::new(FileContent { reading: Box::pin(reader.next()), left: bytes }))
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = BlobError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BlobError>>> {
        let file = match &mut *self {
            Self::Whole(whole) => {
                return Pin::new(whole).poll_frame(cx).map_err(|never| match never {});
            }
            Self::File(file) => file,
        };
        if file.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(file.reading.as_mut().poll(cx)) {
            Ok(Some((bytes, reader))) => {
                file.left = file.left.saturating_sub(bytes.len() as u64);
                file.reading = Box::pin(reader.next());
                Ok(Frame::data(bytes))
            }
            // The length was told: the connection breaks off.
            Ok(None) => Err(BlobError::Gone),
            Err(error) => Err(error),
        }))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::File(file) => file.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::File(file) => SizeHint::with_exact(file.left),
        }
    }
}
