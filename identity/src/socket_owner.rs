//! The user that owns the other end of a connection within this machine, according to the kernel.
//!
//! The kernel is asked for the peer's socket by both addresses of the connection: over netlink (`sock_diag`), which
//! costs a few microseconds, or by the table in `/proc` on a system without netlink. Only a socket that a process still
//! holds has an owner: for a closed one the kernel answers 0, which would be root.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto, socket_with,
};
use tokio::net::TcpStream;

/// Constants of the kernel's `linux/netlink.h`, `linux/sock_diag.h` and `linux/inet_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
const ANSWER_BYTES_MIN: usize = HEADER_BYTES + 72;
/// Offset of the socket's state in an answer, in bytes. Addresses, owner and inode come after it.
const STATE_AT: usize = HEADER_BYTES + 1;
const ADDRESSES_AT: usize = HEADER_BYTES + 4;
const ADDRESSES_BYTES: usize = 36;
const OWNER_AT: usize = HEADER_BYTES + 64;
const INODE_AT: usize = HEADER_BYTES + 68;
/// Size of the buffer for an answer, in bytes. An answer is far smaller.
const ANSWER_BYTES_MAX: usize = 1024;
const IPPROTO_TCP: u8 = 6;
/// States of a connection whose end a process can still hold: established, and closed for writing.
const STATES: [u8; 3] = [1, 4, 5];

/// Whether netlink has ever described a socket here, held or not. A kernel without `sock_diag` gives the same answer
/// for every socket as for one that is gone.
static IS_NETLINK_ANSWERED: AtomicBool = AtomicBool::new(false);

/// The user that owns the other end of a connection; `None` if the kernel does not know that socket.
///
/// # Errors
/// The kernel cannot be asked.
pub(crate) fn of(stream: &TcpStream) -> io::Result<Option<u32>> {
    let ends = Ends { peer: canonical(stream.peer_addr()?), own: canonical(stream.local_addr()?) };
    match by_netlink(ends) {
        // The table grows with every connection of the machine, so it is read only if netlink never answered.
        Ok(None) | Err(_) if !IS_NETLINK_ANSWERED.load(Ordering::Relaxed) => by_table(ends),
        other => other,
    }
}

/// Whether a connection is within this machine. Either end shows that, since a peer can bind another address of the
/// machine.
pub(crate) fn is_local(stream: &TcpStream) -> io::Result<bool> {
    let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
    Ok(is_loopback(stream.local_addr()?) || is_loopback(stream.peer_addr()?))
}

/// The two ends of a connection, from the view of its peer: `peer` is the peer's address, `own` is ours.
#[derive(Debug, Clone, Copy)]
struct Ends {
    peer: SocketAddr,
    own: SocketAddr,
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn by_netlink(ends: Ends) -> io::Result<Option<u32>> {
    let asking = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    sendto(&asking, &request(ends), SendFlags::empty(), &kernel)?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    // The kernel has answered before `sendto` returns.
    let (length, _) = recv(&asking, &mut answer[..], RecvFlags::DONTWAIT)?;
    let answer = &answer[..length.min(ANSWER_BYTES_MAX)];
    if answer.get(4..6) == Some(&SOCK_DIAG_BY_FAMILY.to_ne_bytes()[..]) {
        IS_NETLINK_ANSWERED.store(true, Ordering::Relaxed);
    }
    Ok(owner_in(answer, ends))
}

/// Asks for one socket by its two addresses.
fn request(ends: Ends) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    bytes[..4].copy_from_slice(&(REQUEST_BYTES as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    let family = match ends.peer.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let body = &mut bytes[HEADER_BYTES..];
    body[0] = u8::try_from(family.as_raw()).unwrap_or_default();
    body[1] = IPPROTO_TCP;
    // All states; the state in the answer is checked.
    body[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    body[8..8 + ADDRESSES_BYTES].copy_from_slice(&addresses(ends));
    // Any interface; no cookie.
    body[48..56].fill(0xff);
    bytes
}

/// Both ports and both addresses, in the order and form of `struct inet_diag_sockid`.
fn addresses(ends: Ends) -> [u8; ADDRESSES_BYTES] {
    let mut bytes = [0; ADDRESSES_BYTES];
    bytes[..2].copy_from_slice(&ends.peer.port().to_be_bytes());
    bytes[2..4].copy_from_slice(&ends.own.port().to_be_bytes());
    for (at, address) in [(4, ends.peer.ip()), (20, ends.own.ip())] {
        match address {
            IpAddr::V4(address) => bytes[at..at + 4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes[at..at + 16].copy_from_slice(&address.octets()),
        }
    }
    bytes
}

fn owner_in(answer: &[u8], ends: Ends) -> Option<u32> {
    let word =
        |at: usize| answer.get(at..at + 4).and_then(|word| Some(u32::from_ne_bytes(word.try_into().ok()?)));
    let kind = answer.get(4..6).and_then(|kind| Some(u16::from_ne_bytes(kind.try_into().ok()?)))?;
    if kind == NLMSG_ERROR || kind != SOCK_DIAG_BY_FAMILY || answer.len() < ANSWER_BYTES_MIN {
        return None;
    }
    let is_held = STATES.contains(answer.get(STATE_AT)?) && word(INODE_AT)? != 0;
    // The kernel can answer with a socket that listens on the peer's port.
    let is_it = ends_in(answer)? == (ends.peer, ends.own);
    if is_held && is_it { word(OWNER_AT) } else { None }
}

/// The addresses in an answer: those of the socket and of its peer. A dual-stack IPv6 socket has mapped addresses.
fn ends_in(answer: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let found = answer.get(ADDRESSES_AT..ADDRESSES_AT + ADDRESSES_BYTES)?;
    let is_ipv4 = u16::from(*answer.get(HEADER_BYTES)?) == AddressFamily::INET.as_raw();
    let end = |port: usize, at: usize| {
        let port = u16::from_be_bytes(found.get(port..port + 2)?.try_into().ok()?);
        let address = match is_ipv4 {
            true => IpAddr::from(<[u8; 4]>::try_from(found.get(at..at + 4)?).ok()?),
            false => IpAddr::from(<[u8; 16]>::try_from(found.get(at..at + 16)?).ok()?),
        };
        Some(canonical(SocketAddr::new(address, port)))
    };
    Some((end(0, 4)?, end(2, 20)?))
}

/// The tables of sockets, which every process can read.
const TABLES: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];

fn by_table(ends: Ends) -> io::Result<Option<u32>> {
    let mut is_any_read = false;
    let mut last = None;
    for path in TABLES {
        match std::fs::read_to_string(path) {
            Ok(table) => {
                is_any_read = true;
                if let Some(owner) = owner_in_table(&table, ends) {
                    return Ok(Some(owner));
                }
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if !is_any_read => Err(error),
        Some(_) | None => Ok(None),
    }
}

fn owner_in_table(table: &str, ends: Ends) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        if endpoint(local)? != ends.peer || endpoint(remote)? != ends.own {
            return None;
        }
        let is_open = STATES.contains(&u8::from_str_radix(state, 16).ok()?);
        // The owner follows the queues, the timer and the retransmissions.
        let owner = fields.nth(3)?.parse().ok()?;
        let inode: u64 = fields.nth(1)?.parse().ok()?;
        (is_open && inode != 0).then_some(owner)
    })
}

/// Reads an address as the tables write it: 32-bit words in the machine's byte order in hexadecimal, a colon, the port.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        octets.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let address = match octets.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
        _ => return None,
    };
    Some(canonical(SocketAddr::new(address, port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};

    async fn pair(listen: &str, from: Option<&str>, to: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(listen).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to: SocketAddr = format!("{to}:{port}").parse().unwrap();
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        if let Some(from) = from {
            socket.bind(from.parse().unwrap()).unwrap();
        }
        let client = socket.connect(to).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    fn ends(served: &TcpStream) -> Ends {
        Ends { peer: canonical(served.peer_addr().unwrap()), own: canonical(served.local_addr().unwrap()) }
    }

    #[tokio::test]
    async fn the_kernel_names_the_owner_over_netlink_and_in_its_tables() {
        let me = rustix::process::geteuid().as_raw();
        for (listen, to) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "[::1]"),
            // A dual-stack IPv6 socket at either end.
            ("[::]:0", "127.0.0.1"),
            ("127.0.0.1:0", "[::ffff:127.0.0.1]"),
        ] {
            let (_client, served) = pair(listen, None, to).await;
            assert!(is_local(&served).unwrap(), "{listen}");
            assert_eq!(by_netlink(ends(&served)).unwrap(), Some(me), "netlink, {listen} {to}");
            assert_eq!(by_table(ends(&served)).unwrap(), Some(me), "table, {listen} {to}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_no_process_holds_any_more_has_no_owner() {
        let (client, served) = pair("127.0.0.1:0", None, "127.0.0.1").await;
        drop(client);
        // In whatever state the socket is now, the kernel gives 0 as its owner, which would be root.
        assert_eq!(of(&served).unwrap(), None);
    }

    #[tokio::test]
    async fn an_end_that_is_closed_for_writing_still_has_an_owner() {
        use tokio::io::AsyncWriteExt as _;
        let (mut client, served) = pair("127.0.0.1:0", None, "127.0.0.1").await;
        client.shutdown().await.unwrap();
        assert_eq!(of(&served).unwrap(), Some(rustix::process::geteuid().as_raw()));
    }

    #[tokio::test]
    async fn another_address_of_this_machine_is_local_too() {
        let (_client, served) = pair("127.0.0.1:0", Some("127.0.0.2:0"), "127.0.0.1").await;
        assert!(is_local(&served).unwrap());
        assert_eq!(of(&served).unwrap(), Some(rustix::process::geteuid().as_raw()));
    }

    #[test]
    fn a_line_of_the_table_is_read() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let row = |state: &str, owner: u32, inode: u32| {
            let words = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
            let (local, remote) = (words([127, 0, 0, 1]), words([127, 0, 0, 2]));
            format!(
                "{head}   1: {local}:0400 {remote}:1BBC {state} 00000000:00000000 00:00000000 00000000 {owner}        0 {inode} 1 0 20 4 30 10 -1\n"
            )
        };
        let ends = Ends { peer: "127.0.0.1:1024".parse().unwrap(), own: "127.0.0.2:7100".parse().unwrap() };
        assert_eq!(owner_in_table(&row("01", 1000, 7), ends), Some(1000));
        assert_eq!(owner_in_table(&row("06", 0, 0), ends), None, "waiting for its time to end");
        assert_eq!(owner_in_table(&row("04", 0, 0), ends), None, "closed by its process");
        assert_eq!(owner_in_table("damaged\nlines 0:0\n", ends), None);
    }
}
