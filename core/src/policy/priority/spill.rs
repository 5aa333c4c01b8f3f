//! Envoy's arithmetic of load by priority, in whole percent as there: `recalculatePerPriorityState`,
//! `recalculatePerPriorityPanic` and `recalculateLoadInTotalPanic` of `LoadBalancerBase` (`load_balancer_impl.cc`), without
//! degraded hosts.

/// The percentage of the load of each priority, and whether it panics, by how many endpoints it has and how many of them
/// are healthy. The percentages are 100 together, if there is a priority.
pub(super) fn loads(levels: &[(usize, usize)], overprovisioning_factor: u32, threshold: u32) -> (Vec<u32>, Vec<bool>) {
    let percent = |part: u64, of: u64| part.checked_div(of).unwrap_or(0);
    let health = |&(all, healthy): &(usize, usize)| {
        percent(u64::from(overprovisioning_factor).saturating_mul(healthy as u64), all as u64).min(100)
    };
    let health: Vec<u64> = levels.iter().map(health).collect();
    let total = health.iter().sum::<u64>().min(100);
    // A priority without endpoints has nobody who is well.
    let few = |&(all, healthy): &(usize, usize)| 100 * healthy < threshold as usize * all.max(1);
    let panic: Vec<bool> = levels.iter().map(|level| total < 100 && few(level)).collect();

    let mut left = 100;
    let mut take = |load: u64| {
        let load = load.min(left);
        left -= load;
        load as u32
    };
    let total_panic = panic.iter().all(|panic| *panic);
    let mut loads: Vec<u32> = if total_panic {
        // Nobody is better than the others: by the number of endpoints, well or not.
        let all: usize = levels.iter().map(|(all, _)| all).sum();
        levels.iter().map(|(n, _)| take(percent(100 * *n as u64, all as u64))).collect()
    } else {
        health.iter().map(|health| take(percent(health * 100, total))).collect()
    };
    // What rounding left goes to the first that has anything; if none has, and without panic, all to the first.
    let first =
        if total_panic { levels.iter().position(|(all, _)| *all > 0) } else { health.iter().position(|h| *h > 0) };
    if let Some(load) = loads.get_mut(first.unwrap_or(0)) {
        *load += left as u32;
    }
    (loads, panic)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads and panic by `(hosts, healthy hosts)`, with Envoy's defaults.
    fn row(levels: &[(usize, usize)]) -> (Vec<u32>, Vec<bool>) {
        loads(levels, 140, 50)
    }

    const CALM: bool = false;
    const PANIC: bool = true;

    #[test]
    fn load_balancer_impl_base_test_priority_selection() {
        // Total panic: by hosts, 1 : 1 and 1 : 2 (33.3 %, and the rest is the first one's).
        assert_eq!(row(&[(1, 0), (1, 0)]).0, [50, 50]);
        assert_eq!(row(&[(1, 0), (2, 0)]).0, [34, 66]);
        assert_eq!(row(&[(1, 0), (2, 0), (1, 1)]).0, [0, 0, 100]);
        assert_eq!(row(&[(1, 1), (2, 0), (1, 1)]).0, [100, 0, 0]);
        assert_eq!(row(&[(1, 0), (2, 0), (1, 1)]).0, [0, 0, 100]);
    }

    #[test]
    fn load_balancer_impl_base_test_over_provisioning_factor() {
        // 140 % · 2/4 = 70 %.
        assert_eq!(row(&[(4, 2), (4, 2)]).0, [70, 30]);
        assert_eq!(loads(&[(4, 2), (4, 2)], 100, 50).0, [50, 50]);
    }

    #[test]
    fn load_balancer_impl_base_test_gentle_failover() {
        assert_eq!(row(&[(1, 1), (1, 1)]), (vec![100, 0], vec![CALM; 2]));
        assert_eq!(row(&[(2, 1), (2, 1)]), (vec![70, 30], vec![CALM; 2]));
        // 35 % and 100 %: 25 % healthy is below the threshold, but the second makes up for it.
        assert_eq!(row(&[(4, 1), (2, 2)]), (vec![35, 65], vec![CALM; 2]));
        // 35 % and 35 %, each 50 % of what there is; both panic, and have as many hosts.
        assert_eq!(row(&[(4, 1), (4, 1)]), (vec![50, 50], vec![PANIC; 2]));
        // Total panic: 4 and 6 of 10 hosts.
        assert_eq!(row(&[(4, 0), (6, 1)]), (vec![40, 60], vec![PANIC; 2]));
    }

    #[test]
    fn load_balancer_impl_base_test_gentle_failover_with_extra_levels() {
        assert_eq!(row(&[(1, 1), (1, 1), (1, 1)]), (vec![100, 0, 0], vec![CALM; 3]));
        assert_eq!(row(&[(2, 1), (2, 1), (2, 1)]).0, [70, 30, 0]);
        assert_eq!(row(&[(4, 1), (2, 2), (2, 1)]).0, [35, 65, 0]);
        assert_eq!(row(&[(4, 1), (4, 1), (4, 1)]).0, [35, 35, 30]);
        // 28 % each, 84 % together: 28/84 = 33 %, and the first has the rest.
        assert_eq!(row(&[(5, 1), (5, 1), (5, 1)]), (vec![34, 33, 33], vec![PANIC; 3]));
        assert_eq!(row(&[(5, 0), (5, 0), (5, 5)]), (vec![0, 0, 100], vec![CALM; 3]));
        assert_eq!(row(&[(5, 0), (5, 0), (5, 4)]), (vec![0, 0, 100], vec![CALM; 3]));
        // 56 % in all: everybody panics, and all have 5 hosts.
        assert_eq!(row(&[(5, 0), (5, 0), (5, 2)]), (vec![34, 33, 33], vec![PANIC; 3]));
        assert_eq!(row(&[(5, 0), (3, 0), (2, 0)]), (vec![50, 30, 20], vec![PANIC; 3]));
        // 5, 6 and 3 of 14 hosts: 35, 42 and 21 %, and 2 % over.
        assert_eq!(row(&[(5, 0), (6, 2), (3, 1)]), (vec![37, 42, 21], vec![PANIC; 3]));
        // The first that is not empty has what is over.
        assert_eq!(row(&[(0, 0), (6, 0), (3, 0)]), (vec![0, 67, 33], vec![PANIC; 3]));
        assert_eq!(row(&[(3, 0), (3, 0), (3, 0)]), (vec![34, 33, 33], vec![PANIC; 3]));
    }

    #[test]
    fn without_a_threshold_nobody_panics() {
        assert_eq!(loads(&[(4, 1), (4, 1)], 140, 0), (vec![50, 50], vec![CALM; 2]));
        assert_eq!(loads(&[(4, 0), (4, 0)], 140, 0), (vec![100, 0], vec![CALM; 2]));
        assert_eq!(loads(&[(3, 1), (4, 0)], 1, 0), (vec![100, 0], vec![CALM; 2]));
        assert_eq!(loads(&[], 140, 50), (vec![], vec![]));
    }

    #[test]
    fn loads_are_a_hundred_whatever_there_is() {
        for a in 0..6 {
            for (b, c) in (0..6).flat_map(|b| (0..6).map(move |c| (b, c))) {
                for factor in [1, 100, 140, u32::MAX] {
                    for threshold in [0, 50, 100] {
                        let loads = loads(&[(5, a), (5, b), (5, c)], factor, threshold).0;
                        assert_eq!(loads.iter().sum::<u32>(), 100, "{a} {b} {c}: {loads:?}");
                    }
                }
            }
        }
    }
}
