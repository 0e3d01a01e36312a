//! The letter case of header names. HTTP/1.1 carries it, hyper folds it, and the names of application properties are
//! case-sensitive (`docs/protocol/device-https.md` §3): so the head of each request is looked at as it passes, and the
//! head of each answer is spelled as it passes.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head_names::HeadNames;
use super::spelling::{Next, NextAnswer, head_length, is_final, spell};

/// A stream whose request heads are kept until they are taken, and whose answers have names as they are to be.
pub(super) struct CaseTap<S> {
    stream: S,
    names: HeaderNames,
    /// What is written next.
    next: Next,
    /// A head that was spelled, with what came after it, as far as the stream did not take it yet.
    spelled: BytesMut,
}

/// The names of the request that came last, as they were written.
#[derive(Clone, Default)]
pub(super) struct HeaderNames(Arc<Mutex<Head>>);

#[derive(Default)]
struct Head {
    names: HeadNames,
    /// Whether what comes belongs to a body.
    passing: bool,
    /// The answers that were given and whose heads are not written yet: a client may send ahead and read slowly.
    answers: VecDeque<NextAnswer>,
}

impl<S> CaseTap<S> {
    /// Taps a stream.
    pub(super) fn new(stream: S) -> (Self, HeaderNames) {
        let names = HeaderNames::default();
        (Self { stream, names: names.clone(), next: Next::Head, spelled: BytesMut::new() }, names)
    }
}

impl HeaderNames {
    /// The names of the request that is being served, in the case in which they were written. Empty when a client
    /// sent the request before the answer to the one before it came; its names are then those that hyper gives.
    pub(super) fn take(&self) -> Vec<String> {
        let mut head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        head.passing = true;
        std::mem::take(&mut head.names).names()
    }

    /// The first byte of a head that was not taken, for one that is none.
    pub(super) fn first_byte(&self) -> Option<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).names.first_byte()
    }

    /// Says that the request is served by this answer: what comes next is a head.
    pub(super) fn arm(&self, answer: NextAnswer) {
        let mut head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        head.passing = false;
        head.answers.push_back(answer);
    }

    /// Says that no more heads come.
    fn forget(&self) {
        let mut head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        head.passing = true;
        head.names = HeadNames::default();
    }

    /// What is known of the answer that is written now. hyper gives some itself.
    fn answered(&self) -> NextAnswer {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).answers.pop_front().unwrap_or_default()
    }

    fn pass(&self, bytes: &[u8]) {
        let mut head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !head.passing {
            head.names.read(bytes);
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

impl<S: AsyncWrite + Unpin> CaseTap<S> {
    /// Takes a head with what came with it, and says how much that is.
    fn take_head(&mut self, bytes: &[u8]) -> Option<usize> {
        let length = head_length(bytes)?;
        self.spelled.extend_from_slice(&bytes[..length]);
        let answer = if is_final(bytes) { self.names.answered() } else { NextAnswer::default() };
        self.next = spell(&mut self.spelled, answer);
        if self.next == Next::Rest {
            self.names.forget();
        }
        let body = match self.next {
            Next::Body(left) => bytes.len().saturating_sub(length).min(left.try_into().unwrap_or(usize::MAX)),
            Next::Head | Next::Rest => 0,
        };
        self.spelled.extend_from_slice(&bytes[length..length + body]);
        self.next = self.next.passed(body);
        Some(length + body)
    }

    fn poll_spelled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.spelled.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.spelled))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.spelled.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CaseTap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_spelled(cx))?;
        if self.next == Next::Head && !bytes.is_empty() {
            if let Some(taken) = self.take_head(bytes) {
                // What the stream does not take now goes before whatever comes next.
                return match self.poll_spelled(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
                };
            }
            // hyper offers a head as a whole, so that this is none.
            self.next = Next::Rest;
        }
        let length = match self.next {
            Next::Body(left) => bytes.len().min(left.try_into().unwrap_or(usize::MAX)),
            Next::Head | Next::Rest => bytes.len(),
        };
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..length]))?;
        self.next = self.next.passed(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_spelled(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_spelled(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::spelling::WrittenNames;
    use super::*;

    /// Takes so many bytes, then nothing until it is given room again.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = bytes.len().min(self.room);
            if written == 0 {
                return Poll::Pending;
            }
            self.room -= written;
            self.taken.extend_from_slice(&bytes[..written]);
            Poll::Ready(Ok(written))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes all of it through a stream that takes a few bytes at a time.
    fn written(answers: &[(&str, &[&str])], room: usize) -> String {
        let (mut tap, names) = CaseTap::new(Narrow { taken: Vec::new(), room });
        let mut cx = Context::from_waker(Waker::noop());
        for (text, own) in answers {
            if !text.starts_with("HTTP/1.1 400") {
                let own = WrittenNames(own.iter().map(|name| (*name).to_owned()).collect());
                names.arm(NextAnswer { to_head: false, names: own });
            }
            let mut left = text.as_bytes();
            while !left.is_empty() || Pin::new(&mut tap).poll_flush(&mut cx).is_pending() {
                tap.stream.room = room;
                if let Poll::Ready(written) = Pin::new(&mut tap).poll_write(&mut cx, left) {
                    left = &left[written.expect("no error")..];
                }
            }
        }
        String::from_utf8(tap.stream.taken).expect("UTF-8")
    }

    #[test]
    fn heads_are_spelled_and_bodies_pass_however_little_is_taken_at_a_time() {
        let body = "HTTP/1.1 200 OK\r\netag: 1\r\n\r\n";
        let first = format!(
            "HTTP/1.1 200 OK\r\netag: 2\r\niothub-app-ab: 3\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answers: [(&str, &[&str]); 4] = [
            (&first, &["iothub-app-aB"]),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nx-ms-a: 1\r\niothub-app-c: 1\r\n\r\n",
                &["iothub-app-C"],
            ),
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", &[]),
            ("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\netag: raw\r\n\r\n", &[]),
        ];
        let right = [
            first.replacen("etag", "ETag", 1).replace("-ab", "-aB").replace("content-l", "Content-L"),
            answers[1].0.replace("-app-c", "-app-C"),
            answers[2].0.replace("content-l", "Content-L"),
            answers[3].0.replace("upgrade", "Upgrade"),
        ]
        .concat();
        for room in [1, 2, 7, 64, 100_000] {
            assert_eq!(written(&answers, room), right, "{room}");
        }
    }
}
