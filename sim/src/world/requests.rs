//! What a balancer may look at of a request: whom it is for, and with that its hash and its session.
//!
//! A key is drawn from the same number as a request's work, so it needs no place in the call, and the same requests have the
//! same keys under every strategy.

use lb_core::route::{RequestInfo, hash_of};
use lb_core::{Address, EndpointId};
use scenarios::Keys;

use super::callers::Caller;
use super::calls::Call;
use super::load::ClientId;
use super::{PodId, World};
use crate::engine::Id;
use crate::random::Work;

/// How often each key of a load comes.
#[derive(Debug)]
pub(crate) struct KeyShares {
    population: u32,
    /// Sums of the shares up to each key; empty if all are equal.
    cumulative: Vec<f64>,
    /// The pod that the last request of each key reached.
    last: Vec<Option<PodId>>,
    /// How often it was another than the one before.
    pub(crate) moved: u64,
}

impl KeyShares {
    pub(super) fn new(keys: &Keys) -> Self {
        let mut sum = 0.0;
        let mut add = |k: u32| {
            sum += libm::pow(f64::from(k + 1), -keys.zipf);
            sum
        };
        let cumulative =
            if keys.zipf == 0.0 { Vec::new() } else { (0..keys.population).map(&mut add).collect::<Vec<_>>() };
        Self { population: keys.population, cumulative, last: vec![None; keys.population as usize], moved: 0 }
    }

    /// The key of a request.
    fn of(&self, work: Work) -> u32 {
        let part = work.key();
        match self.cumulative.last() {
            Some(sum) => {
                let at = part * sum;
                (self.cumulative.partition_point(|up_to| *up_to <= at) as u32).min(self.population - 1)
            }
            // Below 1 times the population is below the population.
            None => (part * f64::from(self.population)) as u32,
        }
    }
}

impl World<'_> {
    /// Whom a request is for; 0 where nobody tells its client's requests apart.
    fn key_of(&self, call: &Call) -> u32 {
        self.keys[self.client(call.client).load as usize].as_ref().map_or(0, |shares| shares.of(call.work))
    }

    /// The headers of a request with its key are put where [`Self::request`] finds them.
    #[inline]
    pub(super) fn write_key(&mut self, id: Id<Call>) {
        let Some(call) = self.calls.get(id) else { return };
        let load = self.client(call.client).load as usize;
        if self.keys[load].is_some() {
            let key = self.key_of(call).to_string();
            // The key's header is the last, see `headers`.
            if let Some((_, value)) = self.headers[load].last_mut() {
                *value = key.into();
            }
        }
    }

    /// What routing sees of a client's requests, with the key that was written last.
    #[inline]
    pub(super) fn request(&self, client: ClientId) -> RequestInfo<'_> {
        let load = self.client(client).load as usize;
        RequestInfo { path: &self.scenario.loads[load].path, headers: &self.headers[load] }
    }

    /// What a hashing policy goes by: as the route said, or by the header that the policy has named.
    pub(super) fn hash_for(&mut self, caller: Id<Caller>, id: Id<Call>) -> Option<u64> {
        let parent = self.calls.get(id)?.parent;
        if let Some(routed) = self.calls.get(parent).and_then(|parent| self.routed.get(parent.routed)) {
            return routed.hash;
        }
        let header = self.callers.get(caller)?.hash_header.clone()?;
        self.write_key(id);
        let request = self.request(self.calls.get(id)?.client);
        request.headers.iter().find(|(name, _)| *name == header).map(|(_, value)| hash_of(value))
    }

    /// A request has reached a server.
    #[inline]
    pub(super) fn note_key(&mut self, id: Id<Call>) {
        let Some(call) = self.calls.get(id) else { return };
        let load = self.client(call.client).load as usize;
        let (work, pod) = (call.work, call.pod);
        let counts = self.recorder.counts(self.now());
        if let Some(shares) = &mut self.keys[load] {
            let key = shares.of(work) as usize;
            let before = shares.last[key].replace(pod);
            shares.moved += u64::from(counts && before.is_some_and(|before| before != pod));
        }
    }

    /// The endpoint that the request's session is bound to, by the cookie that its client holds.
    pub(super) fn session_for(&self, id: Id<Call>) -> Option<Address> {
        let call = self.calls.get(id)?;
        self.client(call.client).sessions.get(&self.key_of(call)).cloned()
    }

    /// A balancer that binds sessions has answered a request: with a cookie, unless the client has it already.
    pub(super) fn bind_session(&mut self, caller: Id<Caller>, call: &Call, endpoint: EndpointId) {
        let key = self.key_of(call);
        let Some(address) = self.callers.get(caller).and_then(|c| c.address(endpoint)).cloned() else { return };
        self.client_mut(call.client).sessions.insert(key, address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    fn counts(zipf: f64) -> Vec<u32> {
        let shares = KeyShares::new(&Keys { header: "x".into(), population: 4, zipf });
        let mut rng = stream(1, Purpose::Workload, 0);
        let mut counts = vec![0; 4];
        for _ in 0..100_000 {
            counts[shares.of(Work::draw(&mut rng)) as usize] += 1;
        }
        counts
    }

    #[test]
    fn keys_come_as_often_as_zipf_says() {
        // 25,000 each; five standard deviations are 5 · √(100,000 · 1/4 · 3/4) = 685.
        assert!(counts(0.0).iter().all(|c| c.abs_diff(25_000) < 685), "{:?}", counts(0.0));
        // 1, 1/2, 1/3, 1/4 of a sum of 25/12: 48 %, 24 %, 16 %, 12 %.
        let expected = [48_000, 24_000, 16_000, 12_000];
        assert!(counts(1.0).iter().zip(expected).all(|(c, e)| c.abs_diff(e) < 790), "{:?}", counts(1.0));
    }
}
