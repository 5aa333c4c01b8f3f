//! The two programs as processes: exit codes, stdout and SIGTERM. Every wait has a deadline.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(20);

/// A command that sees none of the variables the programs read, and dies with the test.
fn program(path: &str) -> Command {
    let mut command = Command::new(path);
    command.env_remove("TARGET").env_remove("HOSTNAME").kill_on_drop(true).stdin(Stdio::null());
    command
}

async fn client(args: &[&str]) -> Output {
    let output = program(env!("CARGO_BIN_EXE_client")).args(args).output();
    timeout(LIMIT, output).await.expect("the client ends").unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn server_and_client_meet_and_the_server_drains_on_sigterm() {
    let mut server = program(env!("CARGO_BIN_EXE_server"))
        .args(["--listen", "127.0.0.1:0", "--name", "server-1", "--drain", "10s"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap());
    let mut line = String::new();
    timeout(LIMIT, log.read_line(&mut line)).await.expect("the server says where it listens").unwrap();
    let address = line.strip_prefix("server-1 listens on ").and_then(|rest| rest.split_once(',')).unwrap().0;
    assert!(address.starts_with("127.0.0.1:"), "{line}");

    let flags = ["--target", address, "--name", "client-1", "--batches", "3"];
    let plain = client(&flags).await;
    assert_eq!(plain.status.code(), Some(0));
    assert_eq!(
        text(&plain.stdout),
        format!(
            "batch 1: server-1 10\nbatch 2: server-1 10\nbatch 3: server-1 10\n\
             30 RPCs to http://{address} in 3 batches: 30 ok, 0 failed; server-1 30\n"
        )
    );
    let json = client(&[&flags[..], &["--json"]].concat()).await;
    assert_eq!(json.status.code(), Some(0));
    assert_eq!(
        text(&json.stdout),
        format!(
            r#"{{"client":"client-1","target":"http://{address}","batches":3,"requests":{{"started":30,"ok":30,"failed":0}},"servers":{{"server-1":30}},"failures":{{}}}}"#
        ) + "\n"
    );

    let pid = server.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let status = timeout(LIMIT, server.wait()).await.expect("the server drains").unwrap();
    let mut rest = String::new();
    timeout(LIMIT, log.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "{rest}");
    assert_eq!(rest, "server-1 drains\nserver-1 answered 60 RPCs in all\n");
}

#[tokio::test]
async fn a_failed_rpc_is_exit_code_1() {
    // A port that was free a moment ago: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = client(&["--target", &free, "--batches", "1", "--concurrency", "2"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stdout),
        format!(
            "batch 1: failed UNAVAILABLE 2\n2 RPCs to http://{free} in 1 batch: 0 ok, 2 failed; failed UNAVAILABLE 2\n"
        )
    );
}

#[tokio::test]
async fn a_taken_port_is_exit_code_1_and_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let server = program(env!("CARGO_BIN_EXE_server")).env("RUST_BACKTRACE", "1").args(["--listen", &address]).output();
    let output = timeout(LIMIT, server).await.expect("the server gives up").unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.starts_with(&format!("error: cannot listen on {address}: ")), "{error}");
    assert!(error.ends_with("; pass another address with --listen (port 0 takes any free one)\n"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[tokio::test]
async fn bad_flags_are_exit_code_2_and_say_what_to_write() {
    for (flags, says) in [
        (["--target", "dns:///server:50051"], "write `host:port` to send everything over one connection"),
        (["--concurrency", "0"], "0 is not in 1..=10000"),
        (["--deadline", "0s"], "`0s` leaves no time at all; write a longer duration, such as \"1s\""),
        (["--pause", "5"], "`5` is not a duration; write a number and a unit, such as \"10s\""),
    ] {
        let output = client(&flags).await;
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}
