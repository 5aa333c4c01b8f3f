//! The closed loop: n concurrent RPCs, wait for all, again.
//!
//! Everything goes over one tonic channel, that is one HTTP/2 connection: this client does not balance (see the
//! crate's documentation).

use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use proto::hello::v1::hello_client::HelloClient;
use proto::hello::v1::{HelloRequest, HelloResponse};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::tally::{Requests, Summary, Tally};
use crate::target::Target;
use crate::{CONNECTION_WINDOW_BYTES, echo};

/// The least wait after a batch with failures, 1 s (ours): a refused connection fails in microseconds, and a loop that
/// never ends would spin on it.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What the loop does.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// RPCs sent at once; the next batch starts when all of them have ended.
    pub concurrency: u32,
    /// Batches to send; `None` means until stopped.
    pub batches: Option<u64>,
    /// Rest between two batches; after a batch with failures at least one second.
    pub pause: Duration,
}

/// A caller of the Hello service.
#[derive(Debug, Clone)]
pub struct Client {
    name: String,
    target: Target,
    deadline: Duration,
    hello: HelloClient<Channel>,
}

impl Client {
    /// A client that calls itself `name` and gives every RPC `deadline` from its start to its response, connecting
    /// included. Connects at the first RPC. Must be called in a tokio runtime.
    pub fn new(name: String, target: Target, deadline: Duration) -> Self {
        let endpoint = Endpoint::from(target.uri())
            .connect_timeout(deadline)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        Self { name, target, deadline, hello: HelloClient::new(endpoint.connect_lazy()) }
    }

    /// Sends request number `counter`. A response that is not its echo is an error (`DATA_LOSS`).
    pub async fn hello(&self, counter: u64) -> Result<HelloResponse, Status> {
        let message = HelloRequest { client: self.name.clone(), counter };
        let expected = echo(&message);
        let mut request = Request::new(message);
        request.set_timeout(self.deadline); // lets the server give up too
        let mut hello = self.hello.clone();
        // tonic's own timeout does not cover the wait for a connection and reports CANCELLED. Ours starts first, and
        // `biased` lets it win if both are due in the same tick.
        let response = tokio::select! {
            biased;
            () = tokio::time::sleep(self.deadline) => {
                return Err(Status::deadline_exceeded(format!("no response within {:?}", self.deadline)));
            }
            response = hello.hello(request) => response?.into_inner(),
        };
        if response.message == expected {
            Ok(response)
        } else {
            Err(Status::data_loss(format!("sent `{expected}`, got `{}` from {}", response.message, response.server)))
        }
    }

    /// Sends requests `first .. first + concurrency` at once and waits for all of them.
    pub async fn batch(&self, first: u64, concurrency: u32) -> Tally {
        let mut rpcs = JoinSet::new();
        for counter in first..first + u64::from(concurrency) {
            let client = self.clone();
            rpcs.spawn(async move { client.hello(counter).await });
        }
        let mut tally = Tally::default();
        while let Some(ended) = rpcs.join_next().await {
            let count = match ended.expect("an RPC task neither panics nor is aborted") {
                Ok(response) => tally.servers.entry(response.server),
                Err(status) => tally.failures.entry(code_name(status.code())),
            };
            *count.or_default() += 1;
        }
        tally
    }

    /// Runs `plan` until it is done, `stop` completes, or `each` breaks; `each` gets every batch's number and counts.
    ///
    /// A batch that was started is always finished, which takes one deadline at most.
    pub async fn run(
        &self,
        plan: Plan,
        stop: impl Future<Output = ()>,
        mut each: impl FnMut(u64, &Tally) -> ControlFlow<()>,
    ) -> Summary {
        let mut stop = pin!(stop);
        let (mut batches, mut tally) = (0, Tally::default());
        while plan.batches != Some(batches) {
            let batch = self.batch(batches * u64::from(plan.concurrency) + 1, plan.concurrency).await;
            batches += 1;
            tally.add(&batch);
            if each(batches, &batch).is_break() || plan.batches == Some(batches) {
                break;
            }
            let pause = if batch.failed() > 0 { plan.pause.max(PAUSE_AFTER_FAILURE) } else { plan.pause };
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = rest(pause) => {}
            }
        }
        let requests = Requests::from(&tally);
        Summary { client: self.name.clone(), target: self.target.to_string(), batches, requests, tally }
    }
}

/// Sleeps, but not at all for no time: the shortest sleep of tokio's timer is a millisecond.
async fn rest(pause: Duration) {
    if pause.is_zero() { tokio::task::yield_now().await } else { tokio::time::sleep(pause).await }
}

/// The code as gRPC writes it: `DeadlineExceeded` is `DEADLINE_EXCEEDED`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_named_as_grpc_names_them() {
        assert_eq!(code_name(Code::Unavailable), "UNAVAILABLE");
        assert_eq!(code_name(Code::DeadlineExceeded), "DEADLINE_EXCEEDED");
    }
}
