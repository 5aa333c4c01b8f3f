//! Client and server over real sockets on 127.0.0.1, in one process. Every wait has a deadline.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::Duration;

use live::client::{Client, Plan};
use live::server::{Drained, Server};
use live::tally::{Requests, Summary};
use proto::hello::v1::hello_client::HelloClient;
use proto::hello::v1::{HelloRequest, HelloResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::Request;
use tonic::transport::Endpoint;

/// More than any of these tests takes, less than anybody waits.
const LIMIT: Duration = Duration::from_secs(20);
const RPC_DEADLINE: Duration = Duration::from_secs(5);
/// The demo's batch of 10, three times.
const THREE_BATCHES: Plan = Plan { concurrency: 10, batches: Some(3), pause: Duration::ZERO };

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Drained>,
}

impl Running {
    fn start(name: &str, drain: Duration) -> Self {
        let server = Server::bind(([127, 0, 0, 1], 0).into(), Some(name.to_owned())).unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(async move {
            let stop = async { stopped.await.expect("the test holds the sender until it stops the server") };
            server.serve(stop, drain).await.unwrap()
        });
        Self { address, stop, ended }
    }

    async fn stop(self) -> Drained {
        self.stop.send(()).unwrap();
        timeout(LIMIT, self.ended).await.expect("the server ends after its drain deadline").unwrap()
    }
}

fn client(address: SocketAddr, deadline: Duration) -> Client {
    Client::new("client-1".to_owned(), address.to_string().parse().unwrap(), deadline)
}

async fn run(client: &Client, plan: Plan) -> Summary {
    timeout(LIMIT, client.run(plan, pending(), |_, _| ControlFlow::Continue(()))).await.expect("the plan ends")
}

fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

#[tokio::test]
async fn three_batches_of_ten_are_echoed_and_counted() {
    let server = Running::start("server-1", Duration::from_secs(10));
    let client = client(server.address, RPC_DEADLINE);

    let response = client.hello(7).await.unwrap();
    assert_eq!(response, HelloResponse { message: "echo: client-1 #7".to_owned(), server: "server-1".to_owned() });

    let summary = run(&client, THREE_BATCHES).await;
    assert_eq!(summary.batches, 3);
    assert_eq!(summary.requests, Requests { started: 30, ok: 30, failed: 0 });
    assert_eq!(summary.tally.servers, counts([("server-1", 30)]));

    // The client's connection is still open: the drain closes it with GOAWAY instead of waiting for the client.
    assert_eq!(server.stop().await, Drained::InTime);
    assert_eq!(
        run(&client, Plan { batches: Some(1), ..THREE_BATCHES }).await.tally.failures,
        counts([("UNAVAILABLE", 10)])
    );
}

/// What the demo shows with a ClusterIP Service. kube-proxy chooses per connection; here it is a listener that deals
/// connections out in turn, so that every further connection would show up as another server.
#[tokio::test]
async fn one_channel_is_one_connection_so_one_of_three_servers_gets_everything() {
    let servers = ["server-1", "server-2", "server-3"].map(|name| Running::start(name, Duration::from_secs(10)));
    let backends = servers.each_ref().map(|server| server.address);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cluster_ip = listener.local_addr().unwrap();
    let forwarder = tokio::spawn(async move {
        for backend in backends.into_iter().cycle() {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(backend).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });

    let first = run(&client(cluster_ip, RPC_DEADLINE), THREE_BATCHES).await;
    assert_eq!(first.tally.servers, counts([("server-1", 30)]));
    // Another client is another connection: only that gets another server to work.
    let second = run(&client(cluster_ip, RPC_DEADLINE), THREE_BATCHES).await;
    assert_eq!(second.tally.servers, counts([("server-2", 30)]));

    forwarder.abort();
    for server in servers {
        assert_eq!(server.stop().await, Drained::InTime);
    }
}

#[tokio::test]
async fn a_silent_server_costs_one_deadline_a_batch() {
    // The kernel completes the connection; nobody ever reads from it.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(silent.local_addr().unwrap(), Duration::from_millis(200));
    let summary = run(&client, Plan { batches: Some(1), ..THREE_BATCHES }).await;
    assert_eq!(summary.requests, Requests { started: 10, ok: 0, failed: 10 });
    assert_eq!(summary.tally.failures, counts([("DEADLINE_EXCEEDED", 10)]));
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_when_an_rpc_does_not() {
    let server = Running::start("server-1", Duration::from_millis(200));

    // One message, and never the end of the request: the server cannot answer a unary call before that.
    let channel = Endpoint::from_shared(format!("http://{}", server.address)).unwrap().connect_lazy();
    let (opened, is_open) = oneshot::channel();
    let mut opened = Some(opened);
    let first = tokio_stream::once(HelloRequest::default()).map(move |message| {
        // tonic asks for the first message once the stream is open.
        opened.take().unwrap().send(()).unwrap();
        message
    });
    let messages = first.chain(tokio_stream::pending());
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    let held = tokio::spawn(async move {
        grpc.ready().await.unwrap();
        let path = "/evenkeel.hello.v1.Hello/Hello".parse().unwrap();
        let codec = tonic_prost::ProstCodec::<HelloRequest, HelloResponse>::default();
        grpc.client_streaming(Request::new(messages), path, codec).await.map(|_| ())
    });
    timeout(LIMIT, is_open).await.unwrap().unwrap();
    // Frames keep their order on a connection: once a later RPC on it is answered, the server has the held one.
    let mut hello = HelloClient::new(channel);
    timeout(LIMIT, hello.hello(HelloRequest::default())).await.unwrap().unwrap();

    assert_eq!(server.stop().await, Drained::Late);
    held.abort();
}

#[tokio::test]
async fn a_loop_without_end_finishes_its_batch_when_stopped() {
    let server = Running::start("server-1", Duration::from_secs(10));
    let client = client(server.address, RPC_DEADLINE);
    let (stop, stopped) = oneshot::channel();
    let mut stop = Some(stop);
    let endless = Plan { batches: None, ..THREE_BATCHES };
    let running = client.run(endless, async { stopped.await.unwrap() }, |number, _| {
        if number == 5 {
            stop.take().unwrap().send(()).unwrap();
        }
        ControlFlow::Continue(())
    });
    let summary = timeout(LIMIT, running).await.expect("the loop stops");
    assert_eq!((summary.batches, summary.requests), (5, Requests { started: 50, ok: 50, failed: 0 }));
    assert_eq!(server.stop().await, Drained::InTime);
}

#[tokio::test]
async fn a_taken_port_is_named_with_a_remedy() {
    let server = Running::start("server-1", Duration::from_secs(10));
    let error = Server::bind(server.address, None).err().expect("the port is taken").to_string();
    assert!(error.starts_with(&format!("cannot listen on {}: ", server.address)), "{error}");
    assert!(error.ends_with("; pass another address with --listen (port 0 takes any free one)"), "{error}");
}
