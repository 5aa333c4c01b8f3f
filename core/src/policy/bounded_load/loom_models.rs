//! Every order in which picks and ends of requests can come from several threads.

use loom::thread::spawn;

use super::*;
use crate::policy::draw::scripted::Script;
use crate::{Address, Code, Connectivity, Context, Endpoint};

const IDS: [EndpointId; 2] = [EndpointId(0), EndpointId(1)];

/// Two endpoints that are READY, of which each may have so much of the mean; a picker, and what it counts.
fn ready(percent: u32) -> (Arc<dyn Picker>, Arc<Load>) {
    let child_policy = Box::new(serde_json::from_str(r#"{"maglev": {"table_size": 5}}"#).expect("a policy"));
    let config = BoundedLoadConfig { hash_balance_factor: percent, next: Next::Jump, child_policy };
    let shared = Shared::default();
    let bound = config.bound(&shared);
    let load = bound.load.clone();
    let mut policy = config.around_child(bound, &shared);
    let mut rng = Script::indices(1, &[0]);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    policy.update(&mut cx, &EndpointSet::new(IDS.map(|id| Endpoint::new(id, Address::new(&format!("pod-{}", id.0))))));
    IDS.iter().for_each(|&id| policy.connectivity(&mut cx, id, Connectivity::Ready));
    (policy.picker(&mut cx), load)
}

/// Where a request goes; all have the same key.
fn pick(picker: &dyn Picker) -> EndpointId {
    let mut rng = Script::indices(1, &[0]);
    match picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng).with_hash(42)) {
        Pick::Endpoint(id) => id,
        other => panic!("{other:?}"),
    }
}

fn counts(load: &Load) -> ([u32; 2], [u32; 2], u32) {
    let counted = |id: EndpointId| load.counted.get(id.index()).unwrap().load(Ordering::Relaxed);
    (IDS.map(|id| load.outstanding.get(id)), IDS.map(counted), load.total.load(Ordering::Relaxed))
}

#[test]
fn picks_at_once_do_not_exceed_the_bound() {
    loom::model(|| {
        let (picker, load) = ready(100);
        let threads = [(); 2].map(|()| {
            let picker = picker.clone();
            spawn(move || pick(&*picker))
        });
        let mut picked = threads.map(|thread| thread.join().unwrap());
        picked.sort();
        // ⌈2 · ½⌉ = 1 each.
        assert_eq!(picked, IDS);
        assert_eq!(counts(&load), ([1, 1], [1, 1], 2));
    });
}

#[test]
fn nothing_is_counted_when_all_has_ended() {
    loom::model(|| {
        // ⌈2 · 2 · ½⌉ = 2, so that both may go to the same.
        let (picker, load) = ready(200);
        let first = pick(&*picker);
        let threads = [Some(first), None].map(|picked| {
            let (picker, load) = (picker.clone(), load.clone());
            spawn(move || {
                let id = picked.unwrap_or_else(|| pick(&*picker));
                let later = Waiting { answer: Pick::Queue, load };
                later.done(id, Nanos::ZERO, &Outcome::new(Code::Ok, Nanos::ZERO));
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(counts(&load), ([0, 0], [0, 0], 0));
    });
}
