use super::*;
use crate::Address;
use proptest::prelude::*;
use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

/// The ring as everybody else has it: one sorted list, and a binary search of it.
fn walk_of_a_list(points: &[Point], hash: u64) -> Vec<EndpointId> {
    let mut sorted = points.to_vec();
    sorted.sort_unstable();
    let (first, n) = (sorted.partition_point(|p| p.0 < hash), sorted.len());
    sorted.rotate_left(if first == n { 0 } else { first });
    sorted.iter().map(|p| p.1).collect()
}

fn random_points(n: usize, owners: std::ops::Range<u32>, seed: u64) -> Vec<Point> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..n).map(|i| (rng.next_u64(), EndpointId(owners.start + i as u32 % owners.len() as u32))).collect()
}

proptest! {
    /// Whatever comes and goes, and however unevenly the points lie.
    #[test]
    fn it_is_a_sorted_list_and_a_binary_search(
        steps in proptest::collection::vec((any::<u64>(), 0..1200usize, 0..64u32, 0..100u32), 1..6),
        hashes in proptest::collection::vec(any::<u64>(), 1..40),
    ) {
        let (mut ring, mut list) = (Ring::default(), Vec::new());
        for (seed, n, squeeze, stays) in steps {
            let gone: Vec<Point> = list.iter().copied().filter(|p: &Point| p.0 % 100 >= u64::from(stays)).collect();
            let squeezed = |p: Point| (p.0 >> squeeze, p.1);
            let new: Vec<Point> = random_points(n, 0..7, seed).into_iter().map(squeezed).collect();
            list.retain(|p| !gone.contains(p));
            // A point that one endpoint has twice is there twice; they go together, so there is no need to tell them apart.
            let new: Vec<Point> = new.into_iter().filter(|p| !list.contains(p)).collect();
            list.extend(&new);
            ring = ring.changed(gone, new);
            prop_assert_eq!(ring.len, list.len());
            let points = list.iter().map(|p| p.0);
            let edges = [0, u64::MAX].into_iter().chain(points.take(9).flat_map(|h| [h, h.wrapping_add(1)]));
            for hash in hashes.iter().copied().chain(edges) {
                prop_assert_eq!(ring.from(hash).collect::<Vec<_>>(), walk_of_a_list(&list, hash), "from {}", hash);
            }
        }
    }
}

#[test]
fn an_empty_ring_has_nobody() {
    assert_eq!(Ring::default().from(7).next(), None);
    let all = random_points(5_000, 0..3, 1);
    let emptied = Ring::default().changed(Vec::new(), all.clone()).changed(all, Vec::new());
    assert_eq!((emptied.len, emptied.from(7).next()), (0, None));
}

#[test]
fn a_look_up_goes_past_one_point() {
    let ring = Ring::default().changed(Vec::new(), random_points(100_000, 0..9, 2));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    let passed = |hash: u64| {
        let sector = &ring.sectors[ring.sector_of(hash)];
        ring.walk(hash).next - sector[ring.part(hash, sector.len())].first as usize
    };
    let (mut sum, mut most) = (0, 0);
    for _ in 0..100_000 {
        let passed = passed(rng.next_u64());
        (sum, most) = (sum + passed, most.max(passed));
    }
    // n points in n parts: one in each on average, and half of its own part lies before the hash. The most is that of a
    // Poisson variable of mean 1 among 100,000 parts: 1/(e · 8!) · 10^5 = 0.9 have 8.
    assert!((40_000..60_000).contains(&sum) && most <= 10, "{sum}, {most}");
}

#[test]
fn rings_share_what_they_do_not_differ_in() {
    let before = Ring::default().changed(Vec::new(), random_points(100_000, 0..1_000, 4));
    let (gone, new) = (random_points(100_000, 0..1_000, 4), random_points(3, 1_000..1_001, 5));
    let after = before.changed(gone.into_iter().filter(|p| p.1 == EndpointId(0)).take(3).collect(), new);
    let shared = before.sectors.iter().zip(&*after.sectors).filter(|(b, a)| Arc::ptr_eq(b, a)).count();
    assert!((before.sectors.len() - shared) <= 6, "{shared} of {} shared", before.sectors.len());
    assert_eq!(before.sectors.len(), 512, "100,000 / 128 = 781, and 512 ≤ 781 < 1,024");
}

/// A ring whose points are handed out in the order of this list, as Envoy does.
fn ring_of(endpoints: &[Endpoint], min_ring_size: u32, max_ring_size: u32) -> Ring {
    let mut all = Vec::new();
    let counts = replicas(endpoints.iter().map(|e| e.weight), min_ring_size, max_ring_size);
    endpoints.iter().zip(counts).for_each(|(e, count)| points(e, 0..count, &mut all));
    Ring::default().changed(Vec::new(), all)
}

/// 127.0.0.1 with these ports and weights, numbered from 0.
fn local(endpoints: impl IntoIterator<Item = (u32, u32)>) -> Vec<Endpoint> {
    let endpoint = |(i, (port, weight))| {
        Endpoint::new(EndpointId(i), Address::new(&format!("127.0.0.1:{port}"))).with_weight(weight)
    };
    (0..).zip(endpoints).map(endpoint).collect()
}

fn owner(ring: &Ring, hash: u64) -> u32 {
    ring.from(hash).next().expect("it has points").0
}

/// Points of each of n endpoints.
fn counts(ring: &Ring, n: usize) -> Vec<usize> {
    let mut counts = vec![0; n];
    ring.from(0).for_each(|id| counts[id.index()] += 1);
    counts
}

/// How often each of n endpoints is meant by `hashes` hashes that lie evenly, as in Envoy's tests.
fn hits(ring: &Ring, n: usize, hashes: u64) -> Vec<u32> {
    let mut hits = vec![0; n];
    (0..hashes).for_each(|i| hits[owner(ring, i * (u64::MAX / hashes)) as usize] += 1);
    hits
}

#[test]
fn ring_hash_lb_test_basic() {
    let ring = ring_of(&local((90..96).map(|port| (port, 1))), 12, 8_388_608);
    assert_eq!(counts(&ring, 6), [2; 6]);
    let at = [0, u64::MAX, 3_551_244_743_356_806_947, 3_551_244_743_356_806_948, 16_117_243_373_044_804_880];
    assert_eq!(at.map(|hash| owner(&ring, hash)), [4, 4, 5, 3, 0]);
}

#[test]
fn ring_hash_lb_test_basic_with_metadata_hash_key() {
    let named = |e: Endpoint| Endpoint { key: Some(format!("{}", 90 + e.id.0).into()), ..e };
    let endpoints: Vec<Endpoint> = local((90..96).map(|port| (port, 1))).into_iter().map(named).collect();
    let ring = ring_of(&endpoints, 12, 8_388_608);
    let listed = [
        (95, 1_975_508_444_536_362_413),
        (95, 2_376_063_919_839_173_711),
        (93, 2_386_806_903_309_390_596),
        (94, 6_749_904_478_991_551_885),
        (93, 6_803_900_775_736_438_537),
        (92, 7_225_015_537_174_310_577),
        (90, 8_787_465_352_164_086_522),
        (92, 11_282_020_843_382_717_940),
        (91, 13_723_418_369_486_627_818),
        (90, 13_776_502_110_861_797_421),
        (91, 14_338_313_586_354_474_791),
        (94, 15_364_271_037_087_512_980),
    ];
    let points = ring.sectors.iter().flat_map(|s| s.iter().map(|e| (90 + e.owner.0, e.hash)));
    assert_eq!(points.collect::<Vec<_>>(), listed);
    let at = [0, u64::MAX, 7_225_015_537_174_310_577, 6_803_900_775_736_438_537];
    assert_eq!(at.map(|hash| owner(&ring, hash)), [5, 5, 2, 3]);
}

#[test]
fn ring_hash_lb_test_uneven_hosts() {
    // Two hosts and at least three points: two each.
    let ring = ring_of(&local([(80, 1), (81, 1)]), 3, 8_388_608);
    assert_eq!((counts(&ring, 2), owner(&ring, 0)), (vec![2, 2], 0));
    let ring = ring_of(&local([(81, 1), (82, 1)]), 3, 8_388_608);
    let points: Vec<u64> = ring.sectors.iter().flat_map(|s| s.iter().map(|e| e.hash)).collect();
    let listed =
        [7_859_399_908_942_313_493, 8_241_336_090_459_785_962, 12_882_406_409_176_325_258, 16_064_866_803_292_627_174];
    assert_eq!((points, owner(&ring, 0)), (listed.to_vec(), 0));
}

#[test]
fn ring_hash_lb_test_host_weighted_tiny_ring() {
    let ring = ring_of(&local([(90, 1), (91, 2), (92, 3)]), 6, 6);
    let points = [
        (928_266_305_478_181_108, 2),
        (4_443_673_547_860_492_590, 2),
        (5_583_722_120_771_150_861, 1),
        (6_311_230_543_546_372_928, 1),
        (13_444_792_449_719_432_967, 2),
        (16_117_243_373_044_804_889, 0),
    ];
    assert_eq!(counts(&ring, 3), [1, 2, 3]);
    assert!(points.into_iter().all(|(point, host)| owner(&ring, point) == host));
}

#[test]
fn ring_hash_lb_test_host_weighted_large_ring() {
    let ring = ring_of(&local([(90, 1), (91, 2), (92, 3)]), 6144, 8_388_608);
    assert_eq!(counts(&ring, 3), [1024, 2048, 3072]);
    assert_eq!(hits(&ring, 3, 6000), [987, 1932, 3081]);
}

#[test]
fn ring_hash_lb_test_host_and_locality_weighted_large_ring() {
    // Hosts 1:2 in each of two localities that are 1:2: 1, 2, 2 and 4 ninths.
    let ring = ring_of(&local([(90, 1), (91, 2), (92, 2), (93, 4)]), 9216, 8_388_608);
    assert_eq!(counts(&ring, 4), [1024, 2048, 2048, 4096]);
    assert_eq!(hits(&ring, 4, 9000), [924, 2009, 2053, 4014]);
}

#[test]
fn ring_hash_lb_test_small_fractional_scale() {
    let ring = ring_of(&local((90..94).map(|port| (port, 1))), 2, 2);
    let hits = hits(&ring, 4, 1024);
    assert_eq!((hits.iter().filter(|n| **n == 0).count(), hits.iter().sum::<u32>()), (2, 1024));
}

#[test]
fn ring_hash_lb_test_large_fractional_scale() {
    let ring = ring_of(&local([(90, 1), (91, 1)]), 1023, 1023);
    assert_eq!((counts(&ring, 2), hits(&ring, 2, 1023)), (vec![512, 511], vec![526, 497]));
}

#[test]
fn ring_hash_lb_test_lopsided_weight_small_scale() {
    // One host has 127/128 of the weight, 1,023 others the rest.
    let weight = |i| if i == 0 { 127 * 1023 } else { 1 };
    let ring = ring_of(&local((0..1024).map(|i| (i, weight(i)))), 1024, 1024);
    let points = [
        (11_664_790_346_325_243_808, 1),
        (15_894_554_872_961_148_518, 128),
        (13_958_138_884_277_627_155, 256),
        (15_803_774_069_438_192_949, 384),
        (3_829_253_010_855_396_576, 512),
        (17_918_147_347_826_565_154, 640),
        (6_442_769_608_292_299_103, 768),
        (5_881_074_926_069_334_434, 896),
    ];
    assert_eq!((ring.len, counts(&ring, 1024)[0]), (1024, 1016));
    for (point, host) in points {
        assert_eq!(owner(&ring, point), host);
    }
}

#[test]
fn ring_test_ring_new() {
    let named =
        |(i, (key, weight)): (u32, (&str, u32))| Endpoint::new(EndpointId(i), Address::new(key)).with_weight(weight);
    let endpoints: Vec<Endpoint> = (0..).zip([("a", 3), ("b", 3), ("c", 4)]).map(named).collect();
    for (min, max) in [3, 4, 6, 8].into_iter().flat_map(|min| [(min, 20), (min, 8)]) {
        let ring = ring_of(&endpoints, min, max);
        assert!((min as usize..=max as usize).contains(&ring.len), "{min} to {max}: {}", ring.len);
        for (count, weight) in counts(&ring, 3).into_iter().zip([3.0, 3.0, 4.0]) {
            // grpc-go's "equalApproximately": within a quarter of their mean.
            let (is, should) = (count as f64 / ring.len as f64, weight / 10.0);
            assert!((is - should).abs() < 0.25 * (is + should) / 2.0, "{min} to {max}: {is}, not {should}");
        }
    }
}

/// The points of n endpoints with k each cut the circle into n · k equal chances, of which k are one's share: it has the
/// distribution Beta(k, (n − 1) · k), whose relative standard deviation is √((n − 1)/(k · n + 1)).
#[test]
fn shares_deviate_as_order_statistics_say() {
    let n = 500_u32;
    for (k, simulated) in [(1, 0.9979), (10, 0.3152), (100, 0.0997), (1000, 0.0316)] {
        let all = |set: u32| -> Vec<Point> {
            let mut all = Vec::new();
            for i in 0..n {
                let endpoint =
                    Endpoint::new(EndpointId(i), Address::new(&format!("10.{set}.{}.{}:80", i / 250, i % 250)));
                points(&endpoint, 0..k, &mut all);
            }
            all.sort_unstable();
            all
        };
        let sets = if k < 100 { 100 } else { 4 };
        let (mut squares, mut shares) = (0.0, 0.0);
        for set in 0..sets {
            let all = all(set);
            let mut before = all.last().expect("there are points").0;
            let mut arcs = vec![0.0; n as usize];
            for (point, id) in all {
                arcs[id.index()] += point.wrapping_sub(before) as f64 / 2f64.powi(64) * f64::from(n);
                before = point;
            }
            squares += arcs.iter().map(|arc| (arc - 1.0).powi(2)).sum::<f64>();
            shares += f64::from(n);
        }
        let (deviation, theory) = ((squares / shares).sqrt(), f64::from(n - 1) / f64::from(k * n + 1));
        // Of 50,000 shares, or 2,000, the deviation is off by 1/√(2 · 2,000) = 1.6 % itself, and by √2 as much for k = 1, whose
        // distribution is exponential.
        assert!((deviation / theory.sqrt() - 1.0).abs() < 0.05, "{k} points: {deviation}, not {}", theory.sqrt());
        assert!((deviation / simulated - 1.0).abs() < 0.05, "{k} points: {deviation}, not {simulated}");
    }
}

#[test]
fn what_rounding_does_is_part_of_the_ring() {
    // 1/75 of 1,050 points is 14, and a sum of such doubles passes a whole number: 15 for one, in Envoy and gRPC too.
    let counts: Vec<u32> = replicas(std::iter::repeat_n(1, 75), 1024, 4096).collect();
    assert_eq!((counts.iter().max(), counts.iter().sum::<u32>()), (Some(&15), 1051));
}

proptest! {
    /// Whatever endpoints, weights and sizes: the ring that was changed step by step is the ring made at once, every endpoint has
    /// its share of the points, give or take one, and the ring has no more than it may.
    #[test]
    fn a_ring_that_changed_is_the_ring_made_at_once(
        steps in proptest::collection::vec(proptest::collection::vec((0..30u32, 0..4u32, prop_oneof![1..9u32, any::<u32>()]), 0..20), 1..6),
        min in 1..300u32,
        max in 300..3000u32,
    ) {
        let (mut shares, mut ring) = (Shares::new(min, max), Ring::default());
        for step in steps {
            let endpoint = |(id, key, weight): (u32, u32, u32)| {
                let endpoint = Endpoint::new(EndpointId(id), Address::new(&format!("10.0.{key}.{id}"))).with_weight(weight);
                Endpoint { key: (key == 0).then(|| format!("pod-{id}").into()), ..endpoint }
            };
            let endpoints = EndpointSet::new(step.into_iter().map(endpoint));
            let positions = Positions::of(endpoints.iter().map(|e| e.id));
            ring = shares.update(&ring, &endpoints, &positions);

            let mut sorted: Vec<Endpoint> = endpoints.iter().cloned().collect();
            sorted.sort_by(|a, b| a.hash_key().cmp(b.hash_key()));
            let at_once = ring_of(&sorted, min, max);
            prop_assert_eq!(ring.from(0).collect::<Vec<_>>(), at_once.from(0).collect::<Vec<_>>());
            prop_assert!(ring.len <= max as usize + 1);
            let sum: f64 = endpoints.iter().map(|e| f64::from(e.weight)).sum();
            let counts = counts(&ring, endpoints.table_len());
            for e in &endpoints {
                let share = ring.len as f64 * f64::from(e.weight) / sum;
                prop_assert!((counts[e.id.index()] as f64 - share).abs() <= 2.0, "{e:?} has {counts:?}, not {share}");
            }
        }
    }
}
