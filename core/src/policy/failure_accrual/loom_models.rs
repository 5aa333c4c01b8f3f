//! Every order in which picks, ends of requests and the control side can come from several threads.

use loom::thread::spawn;

use super::*;
use crate::policy::draw::scripted::Script;
use crate::{Address, Code, Endpoint};

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);

/// When the first penalty ends of a failure at 0.
const FIRST_END: Nanos = Nanos::from_secs(1);

fn control<T>(policy: &mut dyn Policy, now: Nanos, call: impl FnOnce(&mut dyn Policy, &mut Context<'_>) -> T) -> T {
    let mut rng = Script::indices(1, &[0]);
    call(policy, &mut Context::new(now, &mut rng))
}

/// Two endpoints that are READY, and are shut by so many failures.
fn policy(consecutive_failures: u32) -> Box<dyn Policy> {
    let child_policy = Box::new(PolicyConfig::RoundRobin(Default::default()));
    let config = FailureAccrualConfig { consecutive_failures, jitter_ratio: 0.0, child_policy, ..Default::default() };
    let mut policy = config.build(&Shared::default());
    let endpoint = |id: EndpointId| Endpoint::new(id, Address::new(&format!("pod-{}", id.0)));
    control(&mut *policy, Nanos::ZERO, |policy, cx| {
        policy.update(cx, &EndpointSet::new([A, B].map(endpoint)));
        [A, B].into_iter().for_each(|id| policy.connectivity(cx, id, Connectivity::Ready));
    });
    policy
}

fn picker(policy: &mut dyn Policy) -> Arc<dyn Picker> {
    control(policy, FIRST_END, |policy, cx| policy.picker(cx))
}

fn pick(picker: &dyn Picker) -> Pick {
    let mut rng = Script::indices(1, &[0]);
    picker.pick(&mut PickContext::new(FIRST_END, &mut rng))
}

/// Whether a pick has found that the control side has something to do.
fn asks(picker: &dyn Picker) -> bool {
    let mut rng = Script::indices(1, &[0]);
    let mut cx = PickContext::new(Nanos::ZERO, &mut rng);
    picker.pick(&mut cx);
    cx.asks.exit_idle
}

fn end(picker: &dyn Picker, endpoint: EndpointId, now: Nanos, code: Code) {
    picker.done(endpoint, now, &Outcome::new(code, Nanos::ZERO));
}

fn tick(policy: &mut dyn Policy, now: Nanos) -> Option<Nanos> {
    control(policy, now, |policy, cx| policy.tick(cx))
}

/// As above with two failures, which A has had: it is in probation.
fn in_probation() -> Box<dyn Policy> {
    let mut policy = policy(2);
    let picker = picker(&mut *policy);
    (0..2).for_each(|_| end(&*picker, A, Nanos::ZERO, Code::Unavailable));
    assert_eq!(tick(&mut *policy, Nanos::ZERO), Some(FIRST_END));
    assert_eq!(tick(&mut *policy, FIRST_END), None);
    policy
}

#[test]
fn one_of_several_picks_is_the_probe() {
    loom::model(|| {
        let mut policy = in_probation();
        // Two that know of the probation: B goes and comes in between.
        let first = picker(&mut *policy);
        control(&mut *policy, FIRST_END, |policy, cx| {
            [Connectivity::Idle, Connectivity::Ready].into_iter().for_each(|state| policy.connectivity(cx, B, state));
        });
        let second = picker(&mut *policy);
        assert!(!Arc::ptr_eq(&first, &second));
        let threads = [first.clone(), first, second].map(|picker| spawn(move || pick(&*picker) == Pick::Endpoint(A)));
        let probes = threads.map(|thread| thread.join().unwrap());
        assert_eq!(probes.into_iter().filter(|is_probe| *is_probe).count(), 1);
    });
}

#[test]
fn the_control_side_hears_of_every_failure() {
    loom::model(|| {
        let mut policy = policy(1);
        let picker = picker(&mut *policy);
        let threads = [A, B].map(|id| {
            let picker = picker.clone();
            spawn(move || end(&*picker, id, Nanos::ZERO, Code::Unavailable))
        });
        // A pick in between may send it to look, when it has yet to hear of one of them.
        if asks(&*picker) {
            tick(&mut *policy, Nanos::ZERO);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(tick(&mut *policy, Nanos::ZERO), Some(FIRST_END));
        assert_eq!(pick(&*self::picker(&mut *policy)), Pick::Queue, "both are shut");
    });
}

#[test]
fn the_first_of_two_ends_of_a_probe_decides() {
    loom::model(|| {
        let mut policy = in_probation();
        let picker = picker(&mut *policy);
        assert_eq!(pick(&*picker), Pick::Endpoint(A));
        let threads = [Code::Ok, Code::Unavailable].map(|code| {
            let picker = picker.clone();
            spawn(move || end(&*picker, A, FIRST_END, code))
        });
        // It may act on the first before the second comes.
        if asks(&*picker) {
            tick(&mut *policy, FIRST_END);
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // Open, where one more failure is not too many, or shut for twice as long.
        let due = tick(&mut *policy, FIRST_END);
        assert!(due.is_none() || due == Some(FIRST_END + Nanos::from_secs(2)), "{due:?}");
    });
}
