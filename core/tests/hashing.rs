//! The hashing policies against data that another program computed: see `data/hashing/README.md`.

use std::sync::Arc;

use lb_core::route::hash_of;
use lb_core::{
    Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, Picker, PolicyConfig,
};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh64::xxh64;

fn rows<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = format!("{}/tests/data/hashing/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("it is committed")).expect("as in the README")
}

/// The policy over these endpoints, all ready, in an order that is neither the keys' nor the file's.
fn picker(policy: &str, endpoints: &[(String, u32)]) -> Arc<dyn Picker> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut cx = Context::new(Nanos::ZERO, &mut rng);
    let mut policy = serde_json::from_str::<PolicyConfig>(policy).unwrap_or_else(|e| panic!("{policy}: {e}")).build();
    let listed = |(i, (key, weight)): (u32, &(String, u32))| {
        let endpoint = Endpoint::new(EndpointId(i), Address::new(&format!("10.99.0.{i}:1"))).with_weight(*weight);
        Endpoint { key: Some(key.as_str().into()), ..endpoint }
    };
    let (odd, even): (Vec<Endpoint>, Vec<Endpoint>) = (0..).zip(endpoints).map(listed).partition(|e| e.id.0 % 2 == 1);
    policy.update(&mut cx, &EndpointSet::new(odd.into_iter().rev().chain(even)));
    (0..endpoints.len() as u32).for_each(|i| policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready));
    policy.picker(&mut cx)
}

fn pick(picker: &dyn Picker, hash: u64) -> u32 {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    match picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng).with_hash(hash)) {
        Pick::Endpoint(id) => id.0,
        other => panic!("{hash}: {other:?}"),
    }
}

#[derive(Deserialize)]
struct Hashes {
    text: String,
    hashes: Vec<(u64, u64)>,
}

#[test]
fn xxh64_is_xxh64() {
    for Hashes { text, hashes } in rows::<Hashes>("xxh64.json") {
        for (seed, hash) in hashes {
            assert_eq!(xxh64(text.as_bytes(), seed), hash, "{text:?}, seed {seed}");
            assert!(seed != 0 || hash_of(&text) == hash, "{text:?}");
        }
    }
}

#[derive(Deserialize)]
struct Ring {
    min_ring_size: u32,
    max_ring_size: u32,
    endpoints: Vec<(String, u32)>,
    points: Vec<(u64, u32)>,
}

#[test]
fn rings_have_these_points() {
    for Ring { min_ring_size: min, max_ring_size: max, endpoints, points } in rows("rings.json") {
        let policy = format!(r#"{{"ring_hash": {{"min_ring_size": {min}, "max_ring_size": {max}}}}}"#);
        let picker = picker(&policy, &endpoints);
        // Each point owns the hashes from the one before it, exclusive, to itself, and the first those past the last.
        let mut before = points.last().expect("no ring is empty").0;
        for &(point, owner) in &points {
            for hash in [before.wrapping_add(1), before.wrapping_add(point.wrapping_sub(before) / 2 + 1), point] {
                assert_eq!(pick(&*picker, hash), owner, "{hash}, of the point {point}");
            }
            before = point;
        }
        assert_eq!([0, u64::MAX].map(|hash| pick(&*picker, hash)), [points[0].1; 2]);
    }
}

#[derive(Deserialize)]
struct Table {
    endpoints: Vec<(String, u32)>,
    table_size: u32,
    #[serde(default)]
    table: Vec<u32>,
    xxh64_of_table: Option<u64>,
}

#[test]
fn maglev_tables_have_these_entries() {
    for Table { endpoints, table_size, table, xxh64_of_table } in rows("maglev.json") {
        let picker = picker(&format!(r#"{{"maglev": {{"table_size": {table_size}}}}}"#), &endpoints);
        let entries: Vec<u32> = (0..u64::from(table_size)).map(|hash| pick(&*picker, hash)).collect();
        match xxh64_of_table {
            Some(hash) => {
                let texts: Vec<String> = entries.iter().map(u32::to_string).collect();
                assert_eq!(hash_of(&texts.join(",")), hash, "{} endpoints", endpoints.len());
            }
            None => assert_eq!(entries, table),
        }
    }
}
