//! The Hello service, and its two ends: bind, and drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::hello::v1::hello_server::{Hello, HelloServer};
use proto::hello::v1::{HelloRequest, HelloResponse};
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::{CONNECTION_WINDOW_BYTES, echo};

/// A server that has its port and does not answer yet.
pub struct Server {
    incoming: TcpIncoming,
    address: SocketAddr,
    name: Arc<str>,
    answered: Arc<AtomicU64>,
}

/// Why a server has no port.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}; pass another address with --listen (port 0 takes any free one)")]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
}

/// How a server ended after it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every RPC in flight was answered and every connection closed.
    InTime,
    /// The deadline came first. What is still open is cut when the runtime shuts down, as it does when the process ends.
    Late,
}

impl Server {
    /// Takes the port `listen` asks for; port 0 takes any free one. Must be called in a tokio runtime.
    ///
    /// The server calls itself `name`, or by its address if there is none.
    pub fn bind(listen: SocketAddr, name: Option<String>) -> Result<Self, BindError> {
        let bound = TcpIncoming::bind(listen).and_then(|incoming| Ok((incoming.local_addr()?, incoming)));
        let (address, incoming) = bound.map_err(|cause| BindError { address: listen, cause })?;
        let name = name.unwrap_or_else(|| address.to_string()).into();
        // An echo is one small write; Nagle's algorithm would hold it back for an acknowledgement.
        Ok(Self { incoming: incoming.with_nodelay(Some(true)), address, name, answered: Arc::default() })
    }

    /// Where it listens, with the port it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The identifier in its responses.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// RPCs answered so far; keeps counting while the server runs.
    pub fn answered(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.answered)
    }

    /// Answers until `stop` completes, then drains for at most `drain`.
    ///
    /// Draining closes the listening socket at once, sends GOAWAY on every connection and waits for the RPCs in flight.
    /// tonic alone would wait for them without bound.
    pub async fn serve(
        self,
        stop: impl Future<Output = ()>,
        drain: Duration,
    ) -> Result<Drained, tonic::transport::Error> {
        let (stopping, stopped) = oneshot::channel();
        let stop = async move {
            stop.await;
            let _ = stopping.send(()); // nobody waits if serving has already failed
        };
        let serving = tonic::transport::Server::builder()
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .serve_with_incoming_shutdown(
                HelloServer::new(Echo { name: self.name, answered: self.answered }),
                self.incoming,
                stop,
            );
        let deadline = async {
            let _ = stopped.await; // an error means that serving has ended, which the other branch reports
            tokio::time::sleep(drain).await;
        };
        tokio::select! {
            biased;
            served = serving => served.map(|()| Drained::InTime),
            () = deadline => Ok(Drained::Late),
        }
    }
}

/// The service: echoes the request and says who did.
struct Echo {
    name: Arc<str>,
    answered: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Hello for Echo {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        self.answered.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(HelloResponse { message: echo(request.get_ref()), server: self.name.to_string() }))
    }
}
