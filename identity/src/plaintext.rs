//! A word to whoever speaks plain HTTP/2 where TLS is spoken: a client that only sees its connection end cannot say why.
//!
//! What is sent is the beginning that every server sends, empty settings, and an end that gives the reason, so that any
//! client of gRPC shows it.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The first byte of a handshake of TLS.
const HANDSHAKE: u8 = 0x16;
/// How HTTP/2 begins, in the clear.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const REASON: &[u8] =
    b"this port speaks TLS only: write https:// and use an identity of this grid, which a join token gives";
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const GOAWAY: u8 = 7;
/// Of HTTP/2: the connection is not as safe as it must be.
const INADEQUATE_SECURITY: u32 = 12;
/// How long a peer may take to hear it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a connection begins as TLS does. One that ends at once does not.
pub(crate) async fn is_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE)
}

/// Says why, if the peer speaks HTTP/2, and lets it read that before the connection ends.
pub(crate) async fn explain(mut stream: TcpStream) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    if preface != *PREFACE {
        return Ok(());
    }
    stream.write_all(&farewell()).await?;
    stream.shutdown().await?;
    // Closing with something unread would throw away what was just written.
    let mut rest = [0; 1024];
    let reading = async {
        while stream.read(&mut rest).await? > 0 {}
        Ok(())
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or(Ok(()))
}

fn farewell() -> Vec<u8> {
    let length = u32::try_from(8 + REASON.len()).unwrap_or(u32::MAX);
    let mut frames = SETTINGS.to_vec();
    frames.extend(&length.to_be_bytes()[1..]);
    frames.extend([GOAWAY, 0, 0, 0, 0, 0]);
    frames.extend(0u32.to_be_bytes());
    frames.extend(INADEQUATE_SECURITY.to_be_bytes());
    frames.extend(REASON);
    frames
}
