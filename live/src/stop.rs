//! The signal that asks a program to finish: SIGTERM (how Kubernetes stops a pod) or Ctrl-C.

use std::io;

/// Starts listening for the signals now and returns what waits for the first.
///
/// From this call on they no longer end the process by themselves. As process 1 of a container the program would
/// otherwise not react to SIGTERM at all, and be killed when the pod's grace period is over.
#[cfg(unix)]
pub fn signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Waits for Ctrl-C; there is no SIGTERM here.
#[cfg(not(unix))]
pub fn signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await; // no signals to be had: run until killed
        }
    })
}
