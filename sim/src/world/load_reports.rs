//! What servers say of their load (ORCA): with each response, apart from responses, and when they are probed.
//!
//! Only where a policy asks for it; a server that nobody asks measures nothing. Rates and utilisation are averages over the
//! last whole period of the pod's `load_report`, so they lag by up to two of them; requests in flight are those of the moment.
//!
//! Probes are answered at once, without a place in the queue, as Prequal's servers do: the latency in the answer is the median
//! of recent requests that came when about as many were in flight as now.

use std::collections::VecDeque;

use lb_core::channel::Input;
use lb_core::{EndpointId, LoadReport, Nanos};

use super::callers::Caller;
use super::calls::{Call, End};
use super::connections::Connection;
use super::deployments::Role;
use super::pods::Phase;
use super::{Event, World};
use crate::engine::Id;

/// Requests that a probe's latency is estimated from, of those that came at about the same load. Our choice: the paper has no
/// number.
const NEAREST: usize = 16;
/// Requests that a server remembers. Our choice. They do not age: a server that was slow may get nothing for some seconds. If it
/// said nothing instead, all clients would take it for the fastest at once, which costs more (with 2 s of memory six times the
/// errors in scenarios/policies/prequal.toml; with 10 s it makes no difference there).
const REMEMBERED: usize = 128;

/// A server's measurements.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Beginning of the period that goes on.
    since: Nanos,
    /// Requests answered in it, and those of them that failed.
    answered: u32,
    failed: u32,
    /// The pod's busy time when it began.
    busy_ns: u64,
    /// Averages of the last whole period.
    last: LoadReport,
    /// Recent requests: how many were in flight when one came, and how long it took.
    recent: VecDeque<(u32, Nanos)>,
}

/// What is known of a request besides its call: kept only where somebody asks for load.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trailer {
    /// Requests in flight at the server when it came.
    in_flight: u32,
    came: Nanos,
    /// When the server began to work on it; none if it was refused.
    begun: Option<Nanos>,
    /// The report in its response.
    report: Option<LoadReport>,
}

/// A probe on its way to a server, or back.
#[derive(Debug)]
pub(crate) struct Probe {
    caller: Id<Caller>,
    endpoint: EndpointId,
    connection: Id<Connection>,
    report: LoadReport,
}

impl Meter {
    /// Ends the period if it is over.
    fn roll(&mut self, now: Nanos, period: Nanos, busy_ns: u64, concurrency: u32) {
        let passed = now.since(self.since);
        if passed < period {
            return;
        }
        let busy = busy_ns.wrapping_sub(self.busy_ns) as f64;
        let utilization = busy / (passed.0 as f64 * f64::from(concurrency));
        let per_s = |n: u32| f64::from(n) / passed.as_secs_f64();
        self.last = LoadReport {
            application_utilization: utilization,
            cpu_utilization: utilization,
            rps: per_s(self.answered),
            eps: per_s(self.failed),
            ..LoadReport::default()
        };
        (self.since, self.busy_ns, self.answered, self.failed) = (now, busy_ns, 0, 0);
    }

    /// The median time of requests that came at about this load, the latest of them.
    fn latency_at(&self, in_flight: u32) -> Option<Nanos> {
        let mut nearest: Vec<(u32, u32, Nanos)> =
            (0..).zip(self.recent.iter().rev()).map(|(age, (n, took))| (n.abs_diff(in_flight), age, *took)).collect();
        if nearest.len() > NEAREST {
            nearest.select_nth_unstable(NEAREST - 1);
            nearest.truncate(NEAREST);
        }
        let mut times: Vec<Nanos> = nearest.into_iter().map(|(_, _, took)| took).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }
}

impl World<'_> {
    fn trailer(&mut self, id: Id<Call>) -> &mut Trailer {
        let index = id.index();
        if self.trailers.len() <= index {
            self.trailers.resize(index + 1, Trailer::default());
        }
        &mut self.trailers[index]
    }

    /// A request has come to its pod.
    pub(super) fn note_arrival(&mut self, id: Id<Call>) {
        let Some(pod) = self.calls.get(id).map(|c| c.pod) else { return };
        let (in_flight, came) = (self.pods[pod.0 as usize].in_flight(), self.queue.now());
        *self.trailer(id) = Trailer { in_flight, came, begun: None, report: None };
    }

    /// Its pod begins to work on a request.
    pub(super) fn note_start(&mut self, id: Id<Call>) {
        let now = self.queue.now();
        self.trailer(id).begun = Some(now);
    }

    /// A server's present report, whoever asks.
    fn load_report(&mut self, pod: super::PodId) -> LoadReport {
        let now = self.queue.now();
        let pod = &mut self.pods[pod.0 as usize];
        let (busy_ns, template) = (pod.busy_ns(now), pod.template);
        let in_flight = pod.in_flight();
        let meter = pod.meter.get_or_insert_default();
        meter.roll(now, template.load_report.period, busy_ns, template.concurrency);
        LoadReport { in_flight: Some(in_flight), ..meter.last }
    }

    /// A server answers a request: its trailers say how it is without it.
    pub(super) fn report_with(&mut self, id: Id<Call>, end: End) {
        let Some(call) = self.calls.get(id) else { return };
        let pod = call.pod;
        if self.pods[pod.0 as usize].role != Role::Server {
            return;
        }
        let now = self.queue.now();
        let Trailer { in_flight, came, begun, .. } = *self.trailer(id);
        let report = self.load_report(pod);
        let meter = self.pods[pod.0 as usize].meter.get_or_insert_default();
        meter.answered += 1;
        meter.failed += u32::from(end != End::Ok);
        if begun.is_some() {
            meter.recent.push_back((in_flight, now.since(came)));
            if meter.recent.len() > REMEMBERED {
                meter.recent.pop_front();
            }
        }
        // C3's feedback: how long the work took, without the wait before it.
        self.trailer(id).report = Some(LoadReport { latency: begun.map(|begun| now.since(begun)), ..report });
    }

    /// The report that came with a response.
    pub(super) fn take_report(&mut self, id: Id<Call>) -> Option<LoadReport> {
        self.trailers.get_mut(id.index())?.report.take()
    }

    /// A caller that wants reports apart from responses opens a stream for them on each new connection.
    pub(super) fn watch_load(&mut self, id: Id<Connection>) {
        let Some(connection) = self.connections.get(id) else { return };
        let (caller, hop) = (connection.caller, connection.hop);
        if self.callers.get(caller).is_some_and(|c| c.oob_reporting_period().is_some()) {
            let now = self.now();
            // The request and the first report.
            self.queue.at(now + Nanos(self.places.latency(hop).0 * 2), Event::LoadReport(id));
        }
    }

    /// A report reaches the caller; it left a hop ago, and the next does after the interval.
    pub(super) fn reported(&mut self, id: Id<Connection>) {
        if self.held_up(id, Event::LoadReport(id)) {
            return;
        }
        let Some((caller, name, pod)) = self.connections.get(id).and_then(|c| Some((c.caller, c.name, c.pod?))) else {
            return;
        };
        let here = &self.pods[pod.0 as usize];
        if here.phase == Phase::Gone {
            return;
        }
        let least = here.template.load_report.min_reporting_interval;
        let Some(every) = self.callers.get(caller).and_then(Caller::oob_reporting_period) else { return };
        let report = self.load_report(pod);
        let now = self.now();
        self.queue.at(now + every.max(least), Event::LoadReport(id));
        self.tell(caller, Input::LoadReport(name, report));
    }

    /// A pick wants to know how an endpoint is.
    pub(super) fn probe(&mut self, caller: Id<Caller>, endpoint: EndpointId) {
        let connection = self.link(caller, endpoint.index());
        let Some(hop) = self.connections.get(connection).map(|c| c.hop) else { return };
        self.recorder.interventions.probes += 1;
        let probe = self.probes.insert(Probe { caller, endpoint, connection, report: LoadReport::default() });
        self.queue.after(self.lanes.hops[hop as usize], Event::Probe(probe));
    }

    /// A probe reaches its server.
    pub(super) fn probe_arrives(&mut self, id: Id<Probe>) {
        let Some(connection) = self.probes.get(id).map(|p| p.connection) else { return };
        if self.held_up(connection, Event::Probe(id)) {
            return;
        }
        let alive = |pod: super::PodId| self.pods[pod.0 as usize].phase != Phase::Gone;
        let Some((pod, hop)) =
            self.connections.get(connection).and_then(|c| Some((c.pod?, c.hop))).filter(|(pod, _)| alive(*pod))
        else {
            self.probes.remove(id); // nobody answers
            return;
        };
        let mut report = self.load_report(pod);
        let meter = self.pods[pod.0 as usize].meter.get_or_insert_default();
        report.latency = meter.latency_at(report.in_flight.unwrap_or_default());
        if let Some(probe) = self.probes.get_mut(id) {
            probe.report = report;
        }
        self.queue.after(self.lanes.hops[hop as usize], Event::Probed(id));
    }

    /// The answer is there.
    pub(super) fn probed(&mut self, id: Id<Probe>) {
        let Some(connection) = self.probes.get(id).map(|p| p.connection) else { return };
        if self.held_up(connection, Event::Probed(id)) {
            return;
        }
        let Some(Probe { caller, endpoint, connection, report }) = self.probes.remove(id) else { return };
        let now = self.queue.now();
        // On a connection that is gone nothing comes any more.
        if self.connections.get(connection).is_some()
            && let Some(caller) = self.callers.get_mut(caller)
        {
            caller.probed(endpoint, now, &report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_of_the_last_whole_period() {
        let s = Nanos::from_secs;
        let mut meter = Meter { answered: 30, failed: 3, ..Meter::default() };
        meter.roll(Nanos::from_millis(999), s(1), 0, 2);
        assert_eq!(meter.last, LoadReport::default(), "none is over");
        // Two places were busy for 0.75 s each of the one that has passed.
        meter.roll(s(1), s(1), 1_500_000_000, 2);
        assert_eq!((meter.last.rps, meter.last.eps, meter.last.application_utilization), (30.0, 3.0, 0.75));
        meter.answered = 8;
        meter.roll(s(5), s(1), 1_500_000_000, 2);
        assert_eq!((meter.last.rps, meter.last.application_utilization), (2.0, 0.0), "nothing came for a while");
    }

    #[test]
    fn a_probe_hears_of_requests_that_came_at_the_same_load() {
        let ms = Nanos::from_millis;
        let mut meter = Meter::default();
        assert_eq!(meter.latency_at(3), None);
        meter.recent.extend((0..20).map(|_| (1, ms(10))).chain((0..20).map(|_| (9, ms(90)))));
        assert_eq!((meter.latency_at(0), meter.latency_at(8)), (Some(ms(10)), Some(ms(90))));
        // Of those at the same load the latest count, however quick the others were.
        meter.recent.extend((0..20).map(|_| (1, ms(30))));
        assert_eq!(meter.latency_at(1), Some(ms(30)));
    }
}
