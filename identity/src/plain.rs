//! A connection without TLS, and what the kernel knows about its peer.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::plain_stream::PlainStream;

/// The peer of a connection without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainPeer {
    /// A user of this machine, by its number.
    User(u32),
    /// Another machine, by its address.
    Address(SocketAddr),
}

/// See the module.
#[derive(Debug)]
pub struct PlainConnection {
    stream: PlainStream,
    peer: PlainPeer,
}

impl PlainConnection {
    /// A connection that was admitted.
    pub(crate) fn new(stream: PlainStream, peer: PlainPeer) -> Self {
        Self { stream, peer }
    }
}

impl Connected for PlainConnection {
    type ConnectInfo = PlainPeer;

    fn connect_info(&self) -> PlainPeer {
        self.peer
    }
}

impl AsyncRead for PlainConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PlainConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
