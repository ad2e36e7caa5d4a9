//! Connections that only do what is necessary to stay open, like those of a careless or hostile client.

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::deadline::within;

/// Receive buffer of an idle connection, in bytes. Unread data soon fills it.
const BUFFER_BYTES: u32 = 4096;

/// Opens this many connections, sends `first` on each, and reads nothing. They stay open until they are dropped or the
/// server ends them.
pub async fn open(address: &str, count: usize, first: &[u8]) -> Vec<TcpStream> {
    orbit_program::open_files::raise_limit().expect("a test may have many files open");
    let address = address.parse().expect("a server's address");
    let mut opened = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(BUFFER_BYTES).expect("a small buffer");
        let mut stream =
            within("a connection", socket.connect(address)).await.expect("the server takes connections");
        // The server may have closed it already, which is allowed.
        let _ = stream.write_all(first).await;
        opened.push(stream);
    }
    opened
}
