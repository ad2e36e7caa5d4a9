//! The network of a grid inside one process: connections are pipes in memory.
//!
//! No socket is opened, so no other user or process of the machine can connect. An address is a number of this network
//! and means nothing outside of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orbit_identity::Expected;
use orbit_identity::network::{self, Bind, Connect};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tonic::transport::{self, Channel, Endpoint, Uri};

/// Bytes that a pipe holds in each direction.
const PIPE_BYTES: usize = 1024 * 1024;
/// Connections that wait to be served.
const WAITING_MAX: usize = 16;

type Serving<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Listeners = BTreeMap<u16, mpsc::Sender<DuplexStream>>;

/// A network. A clone is the same network.
#[derive(Clone, Default)]
pub struct InProcess {
    listeners: Arc<Mutex<Listeners>>,
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

/// A port that was taken.
struct Port {
    number: u16,
    incoming: mpsc::Receiver<DuplexStream>,
    network: InProcess,
}

impl InProcess {
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a free port. Numbers are never used again.
    fn take(&self) -> io::Result<Port> {
        let (sender, incoming) = mpsc::channel(WAITING_MAX);
        let mut listeners = self.listeners();
        let number = listeners.keys().next_back().map_or(Some(1), |last| last.checked_add(1));
        let number = number.ok_or_else(|| io::Error::other("all ports of this process are taken"))?;
        listeners.insert(number, sender);
        Ok(Port { number, incoming, network: self.clone() })
    }

    async fn connect(&self, port: Option<u16>) -> io::Result<hyper_util::rt::TokioIo<DuplexStream>> {
        let listener = port.and_then(|port| self.listeners().get(&port).cloned());
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        listener.ok_or_else(refused)?.send(theirs).await.map_err(|_| refused())?;
        Ok(hyper_util::rt::TokioIo::new(ours))
    }

    /// A channel to an address of this network.
    ///
    /// # Errors
    /// Nothing is served there.
    pub async fn channel(&self, endpoint: Endpoint) -> Result<Channel, transport::Error> {
        let network = self.clone();
        let connector = tower::service_fn(move |uri: Uri| {
            let network = network.clone();
            async move { network.connect(uri.port_u16()).await }
        });
        endpoint.connect_with_connector(connector).await
    }
}

impl Port {
    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }

    async fn serve(mut self, router: Router, stop: CancellationToken) -> Result<(), transport::Error> {
        let (_, none) = mpsc::channel(1);
        let incoming = std::mem::replace(&mut self.incoming, none);
        let incoming = ReceiverStream::new(incoming).map(Ok::<_, io::Error>);
        router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // The number stays taken; who connects finds the receiver gone.
        if let Some(sender) = self.network.listeners().get_mut(&self.number) {
            *sender = mpsc::channel(1).0;
        }
    }
}

impl Bind for InProcess {
    fn bind(&self, _: SocketAddr) -> Serving<'_, io::Result<Box<dyn network::Port>>> {
        Box::pin(async move { Ok(Box::new(self.take()?) as Box<dyn network::Port>) })
    }
}

impl Connect for InProcess {
    fn connect(&self, endpoint: Endpoint, _: Expected) -> Serving<'_, Result<Channel, transport::Error>> {
        Box::pin(self.channel(endpoint))
    }
}

impl network::Port for Port {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address())
    }

    fn serve(
        self: Box<Self>,
        router: Router,
        stop: CancellationToken,
    ) -> Serving<'static, Result<(), transport::Error>> {
        Box::pin(Self::serve(*self, router, stop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_leads_to_its_port_while_it_is_served_and_nowhere_afterwards() {
        let network = InProcess::default();
        let (mut first, second) = (network.take().unwrap(), network.take().unwrap());
        assert_ne!(first.address(), second.address());
        let _held = network.connect(Some(first.number)).await.unwrap();
        assert!(first.incoming.recv().await.is_some());
        let number = first.number;
        drop(first);
        let refused = network.connect(Some(number)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_ne!(network.take().unwrap().number, number, "a number is never used again");
        assert!(network.connect(None).await.is_err() && network.connect(Some(9)).await.is_err());
    }
}
