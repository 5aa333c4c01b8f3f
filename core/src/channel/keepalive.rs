//! The client's pings on a quiet connection (gRFC A8): how a channel finds out that nobody is there any more.
//!
//! A peer that dies says so, or its kernel does. One whose packets vanish (a node without power, a network that is cut)
//! says nothing, and a connection to it looks healthy for as long as TCP goes on retransmitting, a quarter of an hour on
//! Linux (tcp(7) `tcp_retries2`). With keepalive a connection on which nothing has come for `time` is pinged, and closed if
//! nothing comes for another `timeout`; so a loss is noticed after `time` + `timeout` at the latest.
//!
//! Anything received counts as an answer, so busy connections are never pinged. By default a connection without requests is
//! left alone: it sleeps, and is pinged at once when the next request starts (grpc-go `keepalive` in http2_client.go).
//!
//! Does badly where servers forbid frequent pings: gRPC's allow one in 5 min (A8 `too_many_pings`) unless told otherwise.

use serde::{Deserialize, Serialize};

use crate::Nanos;

/// When a quiet connection is pinged, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct KeepaliveConfig {
    /// Ping when nothing has come for this long. Never by default: gRFC A8 `KEEPALIVE_TIME`, infinite for clients.
    pub time: Nanos,
    /// Close when nothing comes for this long after a ping. 20 s, gRFC A8 `KEEPALIVE_TIMEOUT`.
    #[serde(default = "twenty_seconds")]
    pub timeout: Nanos,
    /// Ping connections without requests too. False, gRFC A8 `KEEPALIVE_WITHOUT_CALLS`.
    #[serde(default)]
    pub permit_without_stream: bool,
}

fn twenty_seconds() -> Nanos {
    Nanos::from_secs(20)
}

/// What the client must do to the connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepaliveAction {
    /// Send a PING; whatever comes back is told with [`Keepalive::received`].
    Ping,
    /// Close; what is in flight is cut off.
    Close,
}

/// The pings of one connection.
///
/// A host calls [`tick`](Self::tick) at [`next_wake`](Self::next_wake), and looks at that again whenever
/// [`received`](Self::received) or [`stream_started`](Self::stream_started) says that the plan has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    config: KeepaliveConfig,
    last_received: Nanos,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Pinged at this time, unless something has come meanwhile.
    Listening {
        ping_at: Nanos,
    },
    /// Nothing has come and there are no requests.
    Asleep,
    /// A ping is out.
    Pinged {
        close_at: Nanos,
    },
    Closed,
}

impl Keepalive {
    /// Of a connection that is ready at `now`.
    pub fn new(now: Nanos, config: &KeepaliveConfig) -> Self {
        Self { config: *config, last_received: now, phase: Phase::Listening { ping_at: now + config.time } }
    }

    /// Something has come from the server. True if [`next_wake`](Self::next_wake) has changed.
    pub fn received(&mut self, now: Nanos) -> bool {
        self.last_received = now;
        // While listening this only postpones; the timer that is set finds out.
        let answers = matches!(self.phase, Phase::Pinged { .. });
        if answers {
            self.phase = Phase::Listening { ping_at: now + self.config.time };
        }
        answers
    }

    /// A request starts. True if [`next_wake`](Self::next_wake) has changed.
    pub fn stream_started(&mut self, now: Nanos) -> bool {
        let wakes = self.phase == Phase::Asleep;
        if wakes {
            self.phase = Phase::Listening { ping_at: now };
        }
        wakes
    }

    /// What is due at `now`, with so many requests in flight.
    pub fn tick(&mut self, now: Nanos, streams: u32) -> Option<KeepaliveAction> {
        match self.phase {
            Phase::Listening { ping_at } if ping_at <= now => {
                let quiet_until = self.last_received + self.config.time;
                if quiet_until > now {
                    self.phase = Phase::Listening { ping_at: quiet_until };
                    None
                } else if streams == 0 && !self.config.permit_without_stream {
                    self.phase = Phase::Asleep;
                    None
                } else {
                    self.phase = Phase::Pinged { close_at: now + self.config.timeout };
                    Some(KeepaliveAction::Ping)
                }
            }
            Phase::Pinged { close_at } if close_at <= now => {
                self.phase = Phase::Closed;
                Some(KeepaliveAction::Close)
            }
            _ => None,
        }
    }

    /// When to call [`tick`](Self::tick); [`Nanos::NEVER`] if nothing is planned.
    pub fn next_wake(&self) -> Nanos {
        match self.phase {
            Phase::Listening { ping_at } => ping_at,
            Phase::Pinged { close_at } => close_at,
            Phase::Asleep | Phase::Closed => Nanos::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Nanos {
        Nanos::from_secs(n)
    }

    const TEN: KeepaliveConfig = KeepaliveConfig { time: s(10), timeout: s(20), permit_without_stream: false };

    #[test]
    fn a_connection_that_falls_silent_is_pinged_then_closed() {
        let mut keepalive = Keepalive::new(s(100), &TEN);
        assert!(!keepalive.received(s(104)));
        // The timer that was set finds that something came at 104 s.
        assert_eq!((keepalive.next_wake(), keepalive.tick(s(110), 1)), (s(110), None));
        assert_eq!((keepalive.next_wake(), keepalive.tick(s(114), 1)), (s(114), Some(KeepaliveAction::Ping)));
        assert_eq!((keepalive.next_wake(), keepalive.tick(s(133), 1)), (s(134), None));
        // 10 s of silence and 20 s without an answer.
        assert_eq!(keepalive.tick(s(134), 1), Some(KeepaliveAction::Close));
        assert_eq!((keepalive.next_wake(), keepalive.tick(s(999), 1)), (Nanos::NEVER, None));
    }

    #[test]
    fn anything_received_answers_a_ping() {
        let mut keepalive = Keepalive::new(s(0), &TEN);
        assert_eq!(keepalive.tick(s(10), 1), Some(KeepaliveAction::Ping));
        assert!(keepalive.received(s(11)), "the next ping is sooner than the end of this one's wait");
        assert_eq!((keepalive.tick(s(20), 1), keepalive.next_wake()), (None, s(21)));
        assert_eq!(keepalive.tick(s(21), 1), Some(KeepaliveAction::Ping));
    }

    #[test]
    fn without_requests_it_sleeps_until_one_starts() {
        let mut keepalive = Keepalive::new(s(0), &TEN);
        assert_eq!((keepalive.tick(s(10), 0), keepalive.next_wake()), (None, Nanos::NEVER));
        assert!(keepalive.stream_started(s(60)) && !keepalive.stream_started(s(60)));
        assert_eq!((keepalive.next_wake(), keepalive.tick(s(60), 1)), (s(60), Some(KeepaliveAction::Ping)));

        let mut always = Keepalive::new(s(0), &KeepaliveConfig { permit_without_stream: true, ..TEN });
        assert_eq!(always.tick(s(10), 0), Some(KeepaliveAction::Ping));
    }
}
