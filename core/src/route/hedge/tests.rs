//! Examples with their arithmetic and upstream's vectors; `core/tests/routes.rs` has the properties.

use super::*;

/// A host with one request, whose attempts end when the test says so.
struct Host {
    policy: HedgePolicy,
    hedges: Hedges,
    now: Nanos,
    /// When each attempt was sent, in seconds.
    sent: Vec<f64>,
}

fn policy(toml: &str) -> HedgePolicy {
    let config: HedgeConfig = toml::from_str(toml).unwrap();
    assert_eq!(config.problems().0, []);
    HedgePolicy::new(&config)
}

/// What becomes of it when an attempt ends.
fn finish(why: Why) -> HedgeDecision {
    HedgeDecision::Finish(why)
}

fn after_ms(ms: u64) -> Pushback {
    Pushback::After(Nanos::from_millis(ms))
}

impl Host {
    fn new(policy: &HedgePolicy) -> Self {
        let mut host =
            Self { policy: policy.clone(), hedges: policy.begin(Nanos::ZERO), now: Nanos::ZERO, sent: vec![0.0] };
        host.send_due();
        host
    }

    fn send_due(&mut self) {
        while let Some(number) = self.policy.send_due(&mut self.hedges, self.now) {
            self.sent.push(self.now.as_secs_f64());
            assert_eq!(number as usize, self.sent.len(), "attempts have their numbers in order");
        }
    }

    /// Time passes, and the timer rings when it should.
    fn forward(&mut self, seconds: f64) -> &[f64] {
        let until = self.now + Nanos::from_secs_f64(seconds);
        while let Some(at) = self.hedges.next_at().filter(|&at| at <= until) {
            self.now = at;
            self.send_due();
        }
        self.now = until;
        &self.sent
    }

    fn ends_with(&mut self, number: u32, code: Code, pushback: Pushback) -> HedgeDecision {
        let decision = self.policy.on_attempt_end(&mut self.hedges, number, code, pushback, self.now);
        if decision == HedgeDecision::GoOn {
            self.send_due();
        }
        decision
    }

    fn ends(&mut self, number: u32, code: Code) -> HedgeDecision {
        self.ends_with(number, code, Pushback::None)
    }

    /// Attempts under way.
    fn running(&self) -> Vec<u32> {
        (1..=self.hedges.sent()).filter(|&number| self.hedges.running & bit(number) != 0).collect()
    }

    /// Another request of the same route fails.
    fn another_fails(&self) {
        let mut other = self.policy.begin(self.now);
        let _ = self.policy.on_attempt_end(&mut other, 1, Code::Unavailable, Pushback::Stop, self.now);
        self.policy.end(other);
    }
}

/// A6's example, with the delay of 0.5 s that its text counts with.
const A6: &str =
    "max_attempts = 4\nhedging_delay = '0.5s'\nnon_fatal_status_codes = ['UNAVAILABLE', 'INTERNAL', 'ABORTED']";

/// `HEDGING_POLICY` of grpc-java's RetriableStreamTest, with five attempts for its six.
const JAVA: &str = "max_attempts = 5\nhedging_delay = '100s'\nnon_fatal_status_codes = ['UNAVAILABLE', 'DATA_LOSS']";

/// `createHedgingServiceConfig` of grpc-dotnet's tests.
fn dotnet(max_attempts: u32, delay_ms: u32) -> String {
    format!(
        "max_attempts = {max_attempts}\nhedging_delay = '{delay_ms}ms'\nnon_fatal_status_codes = ['UNAVAILABLE']\n\
         throttling = {{ max_tokens = 5, token_ratio = 0.1 }}"
    )
}

#[test]
fn a6_one_attempt_every_half_second_up_to_four() {
    let mut host = Host::new(&policy(A6));
    // After 1 ms there is one, after 501 there are two, then three, then four.
    assert_eq!(host.forward(0.001), [0.0]);
    assert_eq!(host.forward(0.5), [0.0, 0.5]);
    assert_eq!(host.forward(0.5), [0.0, 0.5, 1.0]);
    assert_eq!(host.forward(0.5), [0.0, 0.5, 1.0, 1.5]);
    assert_eq!(host.forward(100.0).len(), 4);
    assert_eq!(host.running(), [1, 2, 3, 4]);
}

#[test]
fn a6_without_a_delay_all_at_once() {
    let host = Host::new(&policy("max_attempts = 4\nnon_fatal_status_codes = ['UNAVAILABLE']"));
    assert_eq!((&host.sent[..], host.hedges.next_at()), (&[0.0; 4][..], None));
}

#[test]
fn a6_more_than_five_attempts_are_five() {
    let config = HedgeConfig { max_attempts: 1_000, ..HedgeConfig::default() };
    assert_eq!(Host::new(&HedgePolicy::new(&config)).sent.len(), 5);
    assert_eq!(HedgePolicy::new(&config).max_attempts(), 5);
}

#[test]
fn a6_summary_1_ok_and_2_a_fatal_code_end_the_request() {
    for code in [Code::Ok, Code::InvalidArgument] {
        let mut host = Host::new(&policy(A6));
        host.forward(0.7);
        assert_eq!(host.ends(2, code), finish(Why::NotRetryable));
        assert_eq!(host.running(), [1], "for the host to cancel");
    }
}

#[test]
fn a6_summary_3_a_non_fatal_code_sends_the_next_at_once() {
    let mut host = Host::new(&policy(A6));
    host.forward(0.2);
    assert_eq!(host.ends(1, Code::Unavailable), HedgeDecision::GoOn);
    // The others follow at the delay from then on.
    assert_eq!(host.forward(1.0), [0.0, 0.2, 0.7, 1.2]);
}

#[test]
fn a6_summary_4_a_pushback_that_says_no_stops_further_attempts() {
    let mut host = Host::new(&policy(A6));
    host.forward(0.7);
    assert_eq!(host.ends_with(1, Code::Unavailable, Pushback::Stop), HedgeDecision::GoOn);
    assert_eq!((host.forward(10.0).len(), host.running()), (2, vec![2]));
    // What is under way may still succeed; if it fails, nothing is left.
    assert_eq!(host.ends(2, Code::Unavailable), finish(Why::Pushback));
    let mut alone = Host::new(&policy(A6));
    assert_eq!(alone.ends_with(1, Code::Unavailable, Pushback::Stop), finish(Why::Pushback));
}

#[test]
fn a6_summary_5_a_pushback_of_n_ms_sends_the_next_in_n_ms() {
    let mut host = Host::new(&policy(A6));
    host.forward(0.2);
    assert_eq!(host.ends_with(1, Code::Aborted, after_ms(2_000)), HedgeDecision::GoOn);
    // 0.2 + 2, and from there on at n + the delay.
    assert_eq!(host.forward(3.0), [0.0, 2.2, 2.7, 3.2]);
    assert_eq!(host.ends_with(2, Code::Aborted, after_ms(0)), HedgeDecision::GoOn);
    assert_eq!(host.forward(10.0).len(), 4, "attempts that are used up are used up");
}

#[test]
fn a6_when_all_have_failed_there_is_no_other() {
    let mut host = Host::new(&policy(A6));
    host.forward(2.0);
    assert_eq!([3, 1, 4].map(|number| host.ends(number, Code::Internal)), [HedgeDecision::GoOn; 3]);
    assert_eq!(host.ends(2, Code::Internal), finish(Why::Attempts));
}

#[test]
fn a6_throttling_counts_attempts() {
    // 10 tokens, 0.1 a success: the example. Only non-fatal codes and a pushback that says no count as failures.
    let policy = policy(&format!("{A6}\nthrottling = {{ max_tokens = 10, token_ratio = 0.1 }}"));
    let fails = |code, pushback| {
        let mut host = Host::new(&policy);
        host.forward(10.0);
        let _ = host.ends_with(1, code, pushback);
        policy.end(host.hedges);
        policy.tokens()
    };
    assert_eq!(fails(Code::InvalidArgument, Pushback::None), Some(10.0));
    assert_eq!(fails(Code::Unavailable, Pushback::None), Some(9.0));
    assert_eq!(fails(Code::InvalidArgument, Pushback::Stop), Some(8.0));
    assert_eq!(fails(Code::Ok, Pushback::None), Some(8.1));
    // At half of the maximum, 8.1 − 3.1 = 5, the first attempt is all there is.
    for _ in 0..3 {
        fails(Code::Unavailable, Pushback::None);
    }
    assert_eq!((policy.tokens(), Host::new(&policy).forward(10.0).len()), (Some(5.1), 4));
    fails(Code::Unavailable, Pushback::None);
    assert_eq!((policy.tokens(), Host::new(&policy).forward(10.0).len()), (Some(4.1), 1));
}

#[test]
fn retriable_stream_test_hedging_everything_drained_one_non_fatal_one_fatal_status() {
    let mut host = Host::new(&policy(JAVA));
    assert_eq!(host.forward(99.0).len(), 1);
    assert_eq!(host.forward(1.0).len(), 2);
    assert_eq!(host.forward(100.0).len(), 3);
    // Here the fourth follows at once, as A6 has it; there it keeps to its 300 s.
    assert_eq!(host.ends(3, Code::Unavailable), HedgeDecision::GoOn);
    assert_eq!((host.running(), host.hedges.next_at()), (vec![1, 2, 4], Some(Nanos::from_secs(300))));
    // INTERNAL is fatal: 1 and 4 are cancelled.
    assert_eq!(host.ends(2, Code::Internal), finish(Why::NotRetryable));
    assert_eq!(host.running(), [1, 4]);
}

#[test]
fn retriable_stream_test_hedging_max_attempts() {
    let mut host = Host::new(&policy(JAVA));
    host.forward(300.0);
    assert_eq!(host.ends(2, Code::Unavailable), HedgeDecision::GoOn);
    assert_eq!(host.forward(1_000.0), [0.0, 100.0, 200.0, 300.0, 300.0]);
    // All but one fail; the request goes on with that one, and what it answers is the answer.
    assert_eq!([1, 4, 5].map(|number| host.ends(number, Code::DataLoss)), [HedgeDecision::GoOn; 3]);
    assert_eq!(host.running(), [3]);
    assert_eq!(host.ends(3, Code::Ok), finish(Why::NotRetryable));
}

#[test]
fn retriable_stream_test_hedging_receive_headers() {
    let mut host = Host::new(&policy(JAVA));
    host.forward(200.0);
    // The response of 2 begins: 1 and 3 are cancelled.
    assert_eq!(host.ends(2, Code::Ok), finish(Why::NotRetryable));
    assert_eq!(host.running(), [1, 3]);
}

#[test]
fn retriable_stream_test_hedging_pushback_negative() {
    let mut host = Host::new(&policy(JAVA));
    host.forward(200.0);
    assert_eq!(host.ends_with(2, Code::Unavailable, Pushback::Stop), HedgeDecision::GoOn);
    assert_eq!((host.forward(100.0).len(), host.hedges.next_at()), (3, None));
}

#[test]
fn retriable_stream_test_hedging_pushback_positive() {
    let mut host = Host::new(&policy(JAVA));
    host.forward(100.0);
    // A second more than the delay, then a second less.
    assert_eq!(host.ends_with(1, Code::Unavailable, after_ms(101_000)), HedgeDecision::GoOn);
    assert_eq!(host.forward(100.0).len(), 2);
    assert_eq!(host.forward(1.0).len(), 3);
    assert_eq!(host.ends_with(2, Code::Unavailable, after_ms(99_000)), HedgeDecision::GoOn);
    assert_eq!(host.forward(99.0), [0.0, 100.0, 201.0, 300.0]);
    assert_eq!(host.ends(4, Code::Internal), finish(Why::NotRetryable));
    assert_eq!(host.running(), [3]);
}

#[test]
fn retriable_stream_test_hedging_cancelled() {
    let mut host = Host::new(&policy(JAVA));
    host.forward(100.0);
    assert_eq!((host.policy.active_requests(), host.policy.active_hedges()), (1, 1));
    let Host { policy, hedges, .. } = host;
    policy.end(hedges);
    assert_eq!((policy.active_requests(), policy.active_hedges()), (0, 0));
}

#[test]
fn retriable_stream_test_hedging_throttled_by_other_call() {
    let mut host = Host::new(&policy(&format!("{JAVA}\nthrottling = {{ max_tokens = 4, token_ratio = 0.8 }}")));
    host.forward(100.0);
    // 4 − 1 = 3 is above half of 4: another at once.
    assert_eq!(host.ends(1, Code::Unavailable), HedgeDecision::GoOn);
    assert_eq!((host.policy.tokens(), host.sent.len()), (Some(3.0), 3));
    host.another_fails();
    assert_eq!(host.policy.tokens(), Some(2.0));
    // Here none is sent while there are no tokens, as A6 has it; there the one that was planned while there were.
    assert_eq!((host.forward(100.0).len(), host.hedges.next_at()), (3, None));
    assert_eq!(host.running(), [2, 3]);
}

#[test]
fn retriable_stream_test_hedging_throttled_by_hedging_streams() {
    let mut host = Host::new(&policy(&format!("{JAVA}\nthrottling = {{ max_tokens = 4, token_ratio = 0.8 }}")));
    host.forward(100.0);
    assert_eq!(host.ends(1, Code::Unavailable), HedgeDecision::GoOn);
    assert_eq!(host.ends(2, Code::Unavailable), HedgeDecision::GoOn);
    // 4 − 2 = 2: no more. The third is there because the first failure sent it at once.
    assert_eq!((host.running(), host.hedges.next_at()), (vec![3], None));
    assert_eq!(host.ends(3, Code::Unavailable), finish(Why::Throttled));
}

#[test]
fn hedging_call_tests_active_calls_fatal_status_code_cleans_up_active_calls() {
    let mut host = Host::new(&policy(&dotnet(5, 20)));
    assert_eq!(host.forward(0.08), [0.0, 0.02, 0.04, 0.06, 0.08]);
    assert_eq!(host.ends(5, Code::InvalidArgument), finish(Why::NotRetryable));
    let Host { policy, hedges, .. } = host;
    policy.end(hedges);
    assert_eq!(policy.active_hedges(), 0);
}

#[test]
fn hedging_call_tests_response_async_pushback_stop_success_after_pushback_stop() {
    let mut host = Host::new(&policy(&dotnet(2, 0)));
    assert_eq!(host.ends_with(1, Code::Unavailable, Pushback::Stop), HedgeDecision::GoOn);
    assert_eq!(host.ends(2, Code::Ok), finish(Why::NotRetryable));
}

#[test]
fn hedging_tests_async_unary_call_exceed_attempts_with_and_without_pushback_delay() {
    let mut host = Host::new(&policy(&dotnet(2, 10_000)));
    assert_eq!(host.ends(1, Code::Unavailable), HedgeDecision::GoOn);
    assert_eq!(host.sent, [0.0, 0.0]);
    assert_eq!(host.ends(2, Code::Unavailable), finish(Why::Attempts));

    let mut host = Host::new(&policy(&dotnet(2, 100)));
    assert_eq!(host.ends_with(1, Code::Unavailable, after_ms(100)), HedgeDecision::GoOn);
    assert_eq!(host.forward(0.1), [0.0, 0.1]);
    assert_eq!(host.ends_with(2, Code::Unavailable, after_ms(100)), finish(Why::Attempts));
}

#[test]
fn hedging_tests_async_unary_call_pushback_delay_updates_next_call_delay() {
    let mut host = Host::new(&policy(&dotnet(5, 10_000)));
    assert_eq!(host.ends_with(1, Code::Unavailable, after_ms(0)), HedgeDecision::GoOn);
    assert_eq!(host.ends_with(2, Code::Unavailable, after_ms(10_000)), HedgeDecision::GoOn);
    assert_eq!(host.forward(9.999), [0.0, 0.0]);
    assert_eq!(host.forward(0.001), [0.0, 0.0, 10.0]);
}

#[test]
fn functional_hedging_tests_unary_trigger_retry_throttling_failure() {
    let mut host = Host::new(&policy(&dotnet(5, 10_000)));
    // Of 5 tokens 4, 3 and 2 are left after each failure; 2 is below 2.5. Three calls were made.
    assert_eq!([1, 2].map(|number| host.ends(number, Code::Unavailable)), [HedgeDecision::GoOn; 2]);
    assert_eq!((host.ends(3, Code::Unavailable), host.sent.len()), (finish(Why::Throttled), 3));
}

#[test]
fn functional_hedging_tests_unary_retry_throttling_already_active_failure() {
    for delay_ms in [0, 100] {
        let policy = policy(&dotnet(5, delay_ms));
        for _ in 0..3 {
            Host::new(&policy).another_fails();
        }
        let mut host = Host::new(&policy);
        assert_eq!((host.ends(1, Code::Unavailable), host.sent.len()), (finish(Why::Throttled), 1));
    }
}

#[test]
fn functional_hedging_tests_unary_retry_throttling_becomes_active_has_delay() {
    let mut host = Host::new(&policy(&dotnet(5, 100)));
    for _ in 0..3 {
        host.another_fails();
    }
    assert_eq!(host.forward(1.0), [0.0]);
    assert_eq!(host.ends(1, Code::Ok), finish(Why::NotRetryable));
}

#[test]
fn the_budget_is_a_part_of_what_is_going_on() {
    let policy = policy("hedging_delay = '1s'\nnon_fatal_status_codes = ['UNAVAILABLE']\nbudget = {}");
    let mut hosts: Vec<Host> = (0..40).map(|_| Host::new(&policy)).collect();
    // All are slow: 20 % of 40 are 8, and who gets none gets none later.
    for host in &mut hosts {
        host.forward(5.0);
    }
    let hedged = |hosts: &[Host]| hosts.iter().filter(|host| host.sent.len() == 2).count();
    assert_eq!((hedged(&hosts), policy.active_requests(), policy.active_hedges()), (8, 40, 8));
    // A hedge that fails gives its place back, and a request that ends those of all its hedges.
    assert_eq!(hosts[0].ends(2, Code::Unavailable), HedgeDecision::GoOn);
    assert_eq!(policy.active_hedges(), 7);
    policy.end(hosts.swap_remove(1).hedges);
    assert_eq!((policy.active_requests(), policy.active_hedges()), (39, 6));
    // One that fails with nothing else under way ends for want of a place, or keeps the one that it gets while it waits.
    let full = hosts.split_off(20);
    assert_eq!(hosts.iter().filter(|host| host.sent.len() == 2).count(), 7);
    for host in full {
        policy.end(host.hedges);
    }
    assert_eq!(hosts[19].ends(1, Code::Unavailable), finish(Why::Budget));
}

#[test]
fn an_attempt_that_the_server_asked_to_wait_for_has_its_place() {
    let policy = policy(
        "hedging_delay = '1s'\nnon_fatal_status_codes = ['UNAVAILABLE']\nbudget = { min_retry_concurrency = 1 }",
    );
    let mut host = Host::new(&policy);
    assert_eq!(host.ends_with(1, Code::Unavailable, after_ms(3_000)), HedgeDecision::GoOn);
    assert_eq!(policy.active_hedges(), 1);
    // Nobody else gets it meanwhile; without it the request would have to end with an answer that is long gone.
    let mut other = Host::new(&policy);
    assert_eq!(other.forward(2.0).len(), 1);
    assert_eq!(host.forward(3.0), [0.0, 3.0]);
    assert_eq!(policy.active_hedges(), 1);
    policy.end(host.hedges);
    assert_eq!(policy.active_hedges(), 0);
}

#[test]
fn an_end_that_is_reported_twice_counts_once() {
    let mut host = Host::new(&policy(&format!("{A6}\nthrottling = {{ max_tokens = 10, token_ratio = 0.1 }}")));
    host.forward(0.6);
    assert_eq!(host.ends(1, Code::Unavailable), HedgeDecision::GoOn);
    for number in [1, 0, 4, 32, u32::MAX] {
        assert_eq!(host.ends(number, Code::Unavailable), HedgeDecision::GoOn);
    }
    assert_eq!((host.policy.tokens(), host.running()), (Some(9.0), vec![2, 3]));
}

#[test]
fn new_settings_keep_the_counts() {
    let before = policy(&dotnet(2, 0));
    let host = Host::new(&before);
    host.another_fails();
    let config: HedgeConfig = toml::from_str("throttling = { max_tokens = 100, token_ratio = 0.1 }").unwrap();
    let after = before.with_config(&config);
    // 4 of 5 are 80 of 100.
    assert_eq!((after.tokens(), after.active_requests(), after.active_hedges()), (Some(80.0), 1, 1));
    after.end(host.hedges);
    assert_eq!((before.active_requests(), before.active_hedges()), (0, 0));
}

#[test]
fn what_a_policy_drops_is_final_and_no_failure() {
    let policy = policy(
        "max_attempts = 3\nhedging_delay = '0s'\nnon_fatal_status_codes = ['UNAVAILABLE']\n\
         throttling = { max_tokens = 10, token_ratio = 0.5 }",
    );
    let mut host = Host::new(&policy);
    assert_eq!(policy.active_hedges(), 2);
    assert_eq!(policy.on_drop(&mut host.hedges, 2), finish(Why::Dropped));
    assert_eq!(policy.on_drop(&mut host.hedges, 2), HedgeDecision::GoOn, "it is not under way any more");
    assert_eq!(policy.active_hedges(), 1);
    policy.end(host.hedges);
    assert_eq!((policy.tokens(), policy.active_requests(), policy.active_hedges()), (Some(10.0), 0, 0));
}
