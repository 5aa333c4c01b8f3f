//! What the client counts: who served its RPCs, and how the others failed.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Counts of RPCs. Every RPC that was started is in exactly one of `servers` and `failures`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// RPCs answered, by server.
    pub servers: BTreeMap<String, u64>,
    /// RPCs failed, by gRPC status code; `DATA_LOSS` is a reply that does not echo its request.
    pub failures: BTreeMap<String, u64>,
}

impl Tally {
    /// RPCs answered.
    pub fn ok(&self) -> u64 {
        self.servers.values().sum()
    }

    /// RPCs that failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Adds `other`'s counts.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.servers, &other.servers), (&mut self.failures, &other.failures)] {
            for (name, count) in theirs {
                *mine.entry(name.clone()).or_default() += count;
            }
        }
    }
}

/// `server-1 7, server-2 3, failed UNAVAILABLE 2`; `none` without an RPC.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.servers.iter().map(|(name, count)| format!("{name} {count}"));
        let failures = self.failures.iter().map(|(code, count)| format!("failed {code} {count}"));
        let parts: Vec<_> = servers.chain(failures).collect();
        f.write_str(if parts.is_empty() { "none" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// What a run of the client came to; `client --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The client's name.
    pub client: String,
    /// Where it sent to.
    pub target: String,
    /// Batches finished.
    pub batches: u64,
    /// RPCs over all batches.
    pub requests: Requests,
    /// The same RPCs, by server and by failure.
    #[serde(flatten)]
    pub tally: Tally,
}

/// RPCs by how they ended; `started` is the sum of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// RPCs sent.
    pub started: u64,
    /// RPCs answered.
    pub ok: u64,
    /// RPCs that failed.
    pub failed: u64,
}

impl From<&Tally> for Requests {
    fn from(tally: &Tally) -> Self {
        let (ok, failed) = (tally.ok(), tally.failed());
        Self { started: ok + failed, ok, failed }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Requests { started, ok, failed } = self.requests;
        let (target, batches, tally) = (&self.target, self.batches, &self.tally);
        let s = if batches == 1 { "" } else { "es" };
        write!(f, "{started} RPCs to {target} in {batches} batch{s}: {ok} ok, {failed} failed; {tally}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(servers: &[(&str, u64)], failures: &[(&str, u64)]) -> Tally {
        let map = |counts: &[(&str, u64)]| counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        Tally { servers: map(servers), failures: map(failures) }
    }

    #[test]
    fn tallies_add_up_by_name() {
        let mut all = tally(&[("a", 7)], &[]);
        all.add(&tally(&[("a", 1), ("b", 3)], &[("UNAVAILABLE", 2)]));
        assert_eq!(all, tally(&[("a", 8), ("b", 3)], &[("UNAVAILABLE", 2)]));
        // 8 + 3 = 11 answered, 2 not: 13 started.
        assert_eq!(Requests::from(&all), Requests { started: 13, ok: 11, failed: 2 });
        assert_eq!(all.to_string(), "a 8, b 3, failed UNAVAILABLE 2");
        assert_eq!(Tally::default().to_string(), "none");
    }

    #[test]
    fn the_summary_is_one_flat_json_object() {
        let tally = tally(&[("a", 2)], &[("UNAVAILABLE", 1)]);
        let requests = Requests::from(&tally);
        let summary = Summary { client: "c".into(), target: "http://s:1".into(), batches: 1, requests, tally };
        assert_eq!(
            serde_json::to_string(&summary).unwrap(),
            r#"{"client":"c","target":"http://s:1","batches":1,"requests":{"started":3,"ok":2,"failed":1},"servers":{"a":2},"failures":{"UNAVAILABLE":1}}"#
        );
        assert_eq!(summary.to_string(), "3 RPCs to http://s:1 in 1 batch: 2 ok, 1 failed; a 2, failed UNAVAILABLE 1");
    }
}
