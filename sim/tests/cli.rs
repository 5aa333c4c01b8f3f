//! The program from outside: exit status, stdout, stderr and files.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use snapbox::cmd::{Command, OutputAssert};
use snapbox::str;
use tempfile::TempDir;

const SIM: &str = env!("CARGO_BIN_EXE_sim");

/// A client kept on one connection beside one that spreads its requests. Every figure follows from constants.
const SCENARIO: &str = r#"# Question: does one connection spread?
title = "One or all?"
duration = "4s"

[[deployment]]
name = "server"
replicas = 3
service_time = { constant = "10ms" }

[[deployment]]
name = "client"

[[service]]
name = "server"
deployments = ["server"]

[load]
from = "client"
to = "server"
closed = { concurrency = 3, pause = "90ms" }

[[strategy]]
name = "one"
balancer = "kube_proxy"

[[strategy]]
name = "all"
balancer = "client"
client = { policy = "round_robin" }

[[expect]]
text = "one server gets it all"
strategy = "one"
metric = "share.max"
bound = "== 1"

[[expect]]
text = "each server gets its third"
strategy = "all"
metric = "share.max"
bound = "0.33..0.36"
"#;

/// A folder with `small.toml` in it.
fn folder(scenario: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    fs::write(dir.path().join("small.toml"), scenario).expect("written");
    dir
}

fn sim(dir: &Path, args: &[&str]) -> OutputAssert {
    Command::new(SIM).current_dir(dir).args(args).assert()
}

fn stdout(run: &OutputAssert) -> String {
    String::from_utf8(run.get_output().stdout.clone()).expect("UTF-8")
}

/// The files of `small.toml`'s report, by name; none if there is no report.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(dir.join("out/small/sim")) else { return Vec::new() };
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("entry").path())
        .map(|path| (path.file_name().expect("a name").to_string_lossy().into(), fs::read(&path).expect("readable")))
        .collect();
    files.sort();
    files
}

fn file<'a>(files: &'a [(String, Vec<u8>)], name: &str) -> &'a [u8] {
    &files.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name}")).1
}

/// Everything in a folder and below.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("entry").path();
        found.push(path.file_name().expect("a name").to_string_lossy().into_owned());
        if path.is_dir() {
            found.extend(tree(&path));
        }
    }
    found.sort();
    found
}

#[test]
fn inputs_then_table_then_expectations_then_the_report() {
    let dir = folder(SCENARIO);
    // 4 s of batches: 90 ms of pause, 10 ms of work and the way: a little more than 0.1 s each, so 40 with the first.
    sim(dir.path(), &["small.toml"]).code(0).stderr_eq("").stdout_eq(str![[r#"
small.toml: One or all?
seed 1 · 4s simulated · one, all

strategy   p50   p99  p99.9  errors  goodput  imbalance  new pods  hops   conns     Δp99
            ms    ms     ms            per s   max/mean  1st req.  mean  opened  to base
one  [..]
all  [..]

✓ one: one server gets it all
    share.max of server pods: 1, expected == 1
✓ all: each server gets its third
    share.max of server pods: [..], expected 0.33..0.36

report: out/small/sim/index.html

"#]]);
    let files = files(dir.path());
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["data.csv", "index.html", "run.json"]);
    let csv = String::from_utf8_lossy(file(&files, "data.csv")).into_owned();
    assert!(csv.starts_with("strategy,pod,deployment,node,bucket_start_s,requests\none,server-0,server,node-0,0,"));
    // 2 strategies × (3 servers and a client) × 4 buckets, and the head.
    assert_eq!(csv.lines().count(), 2 * 4 * 4 + 1);
    assert!(file(&files, "index.html").starts_with(b"<!"));
}

#[test]
fn an_expectation_that_fails_is_marked_and_gives_1() {
    let dir = folder(&SCENARIO.replace("0.33..0.36", "<= 0.25"));
    let run = sim(dir.path(), &["small.toml"]).code(1).stderr_eq("");
    let text = stdout(&run);
    assert!(text.contains("✓ one: one server gets it all"), "{text}");
    assert!(
        text.contains("✗ all: each server gets its third\n    share.max of server pods: 0.35, expected <= 0.25"),
        "{text}"
    );
    assert_eq!(files(dir.path()).len(), 3, "a failed expectation is a result, and results are written");
}

#[test]
fn a_broken_scenario_gives_2_and_leaves_nothing() {
    let dir = folder(&SCENARIO.replace("replicas = 3", "replicas = -3").replace("to = \"server\"", "to = \"sever\""));
    sim(dir.path(), &["small.toml"]).code(2).stdout_eq("").stderr_eq(str![[r#"
small.toml:7:12: [..]
...
small.toml:19:6: service `sever` is not declared
...
2 errors in small.toml

"#]]);
    assert_eq!(tree(dir.path()), ["small.toml"]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = folder(SCENARIO);
    fs::write(dir.path().join("latin1.toml"), b"title = \"caf\xe9\"").expect("written");
    let before = tree(dir.path());
    for (scenario, reason) in [
        ("missing.toml", "missing.toml: cannot be read: "),
        (".", ".: cannot be read: "),
        ("latin1.toml", "latin1.toml:1:13: byte 12 (counted from 0) is not UTF-8"),
    ] {
        let run = sim(dir.path(), &[scenario]).code(2).stdout_eq("");
        let stderr = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
        assert!(stderr.starts_with(reason), "{stderr}");
    }
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn arguments_that_make_no_sense_give_2() {
    let dir = folder(SCENARIO);
    sim(dir.path(), &["small.toml", "--strategy", "al"]).code(2).stdout_eq("").stderr_eq(str![[r#"
--strategy al: small.toml has no such strategy
  hint: did you mean `all`? it has one, all

"#]]);
    for args in [&[][..], &["small.toml", "--seed", "-1"], &["small.toml", "--sed", "1"], &["small.toml", "other.toml"]]
    {
        let run = sim(dir.path(), args).code(2).stdout_eq("");
        assert!(!run.get_output().stderr.is_empty(), "{args:?}");
    }
    assert_eq!(tree(dir.path()), ["small.toml"]);
}

#[test]
fn strategy_keeps_what_is_named() {
    let dir = folder(SCENARIO);
    let text = stdout(&sim(dir.path(), &["small.toml", "--strategy", "all"]).code(0));
    assert!(text.contains("\nall ") && !text.contains("\none "), "{text}");
    assert!(text.contains("✓ all: ") && !text.contains("one: "), "an expectation about another goes with it: {text}");
    // One that fails is not counted either when its strategy is not run.
    let dir = folder(&SCENARIO.replace("\"== 1\"", "\"== 2\""));
    sim(dir.path(), &["small.toml", "--strategy", "all"]).code(0);
    sim(dir.path(), &["small.toml", "--strategy", "all", "--strategy", "one"]).code(1);
}

#[test]
fn one_seed_one_result() {
    // Random work, or there would be nothing for the seed to change.
    let dir = folder(&SCENARIO.replace("constant", "exponential"));
    sim(dir.path(), &["small.toml"]).code(0);
    let first = files(dir.path());
    sim(dir.path(), &["small.toml"]).code(0);
    assert!(files(dir.path()) == first, "the same command gives the same bytes");
    sim(dir.path(), &["small.toml", "--seed", "1"]).code(0);
    assert!(files(dir.path()) == first, "1 is the scenario's own seed");
    sim(dir.path(), &["small.toml", "--seed", "2"]).code(0);
    let second = files(dir.path());
    for name in ["run.json", "index.html"] {
        assert!(file(&second, name) != file(&first, name), "{name} is that of another seed");
    }
    sim(dir.path(), &["small.toml", "--seed", "18446744073709551615"]).code(0);
}

#[test]
fn several_seeds_give_means_intervals_and_how_many_hold() {
    // Random work, the same for both: three seeds do not tell them apart.
    let dir = folder(&SCENARIO.replace("constant", "exponential"));
    let run = sim(dir.path(), &["small.toml", "--seeds", "3"]).code(0).stderr_eq("");
    run.stdout_eq(str![[r#"
small.toml: One or all?
seeds 1 to 3 · 4s simulated · one, all

strategy    p50    p99  p99.9  errors  goodput  imbalance  new pods   hops   conns                 Δp99
             ms     ms     ms            per s   max/mean  1st req.   mean  opened              to base
one        7.94   43.8   49.0       0     27.8       3.00         –   0.67       1                 base
          ±0.54  ±13.4  ±14.1      ±0       ±0         ±0            ±1.44      ±0
all        7.91   43.8   49.1       0     27.8       1.05         –   0.65       3  no difference found
          ±0.82  ±12.6  ±13.8      ±0       ±0         ±0               ±0      ±0         [−1.9, +2.1]

Means over seeds 1 to 3; ± is half a 95 % interval, [ ] the 95 % interval of a change in %, paired by seed.

✓ one: one server gets it all (3 of 3 seeds)
    share.max of server pods: 1 with seed 1, expected == 1
✓ all: each server gets its third (3 of 3 seeds)
    share.max of server pods: 0.35135 with seed 1, expected 0.33..0.36

report: out/small/sim/index.html

"#]]);
    let first = files(dir.path());
    sim(dir.path(), &["small.toml", "--seeds", "3"]).code(0);
    assert!(files(dir.path()) == first, "the same command gives the same bytes");
    let record: reports::RunRecord = serde_json::from_slice(file(&first, "run.json")).expect("a run record");
    assert_eq!(record.reproduce, "cargo run -p sim -- small.toml --seed 1 --seeds 3");
    assert_eq!(record.replications.expect("three seeds").seeds, [1, 2, 3]);
    sim(dir.path(), &["small.toml", "--seeds", "3", "--seed", "18446744073709551615"]).code(0);
}

#[test]
fn one_seed_of_several_is_enough_to_fail() {
    // Which server kube-proxy chooses is chance, and with it whether requests cross a border between nodes.
    let more = "\n[[expect]]\ntext = \"as far as under seed 1\"\nstrategy = \"one\"\nmetric = \"node_hops.mean\"\nbound = \"BOUND\"\n";
    let hops = |seed: &str| {
        let dir = folder(&format!("{SCENARIO}{}", more.replace("BOUND", ">= 0")));
        sim(dir.path(), &["small.toml", "--seed", seed]).code(0);
        let record: reports::RunRecord =
            serde_json::from_slice(file(&files(dir.path()), "run.json")).expect("a run record");
        record.strategies[0].node_hops.mean
    };
    let of_seeds: Vec<f64> = ["1", "2", "3", "4", "5", "6", "7", "8"].map(hops).to_vec();
    let holding = of_seeds.iter().filter(|hops| **hops == of_seeds[0]).count();
    let failing = of_seeds.iter().position(|hops| *hops != of_seeds[0]).expect("eight seeds differ") + 1;
    let dir = folder(&format!("{SCENARIO}{}", more.replace("BOUND", &format!("== {}", of_seeds[0]))));
    sim(dir.path(), &["small.toml"]).code(0);
    let text = stdout(&sim(dir.path(), &["small.toml", "--seeds", "8"]).code(1));
    assert!(text.contains("✓ one: one server gets it all (8 of 8 seeds)"), "{text}");
    assert!(text.contains(&format!("✗ one: as far as under seed 1 ({holding} of 8 seeds)")), "{text}");
    assert!(text.contains(&format!(" with seed {failing}, expected == ")), "{text}");
}

#[test]
fn one_seed_is_none_of_several() {
    let dir = folder(SCENARIO);
    sim(dir.path(), &["small.toml"]).code(0);
    let first = files(dir.path());
    sim(dir.path(), &["small.toml", "--seeds", "1"]).code(0);
    assert!(files(dir.path()) == first);
}

#[test]
fn seeds_are_a_number_from_1_up() {
    let dir = folder(SCENARIO);
    sim(dir.path(), &["small.toml", "--seeds", "0"]).code(2).stdout_eq("").stderr_eq(str![[r#"
error: invalid value '0' for '--seeds <N>': no seed, no run; it needs at least 1, and 2 or more for intervals

For more information, try '--help'.

"#]]);
    for text in ["-1", "many", "10001", "99999999999"] {
        let run = sim(dir.path(), &["small.toml", &format!("--seeds={text}")]).code(2).stdout_eq("");
        let stderr = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
        assert!(stderr.contains("not a whole number from 1 to 10000"), "{stderr}");
    }
    assert_eq!(tree(dir.path()), ["small.toml"]);
}

#[test]
fn json_is_the_file_and_nothing_else() {
    let dir = folder(SCENARIO);
    let run = sim(dir.path(), &["small.toml", "--json"]).code(0).stderr_eq("");
    assert!(run.get_output().stdout == file(&files(dir.path()), "run.json"));
    let record: reports::RunRecord = serde_json::from_slice(&run.get_output().stdout).expect("a run record");
    assert_eq!((record.scenario.as_str(), record.host.as_str(), record.seed), ("small", "sim", 1));
    assert_eq!(record.strategies.len(), 2);
    assert!(record.expectations.iter().all(|e| e.holds));
}

#[test]
fn the_command_in_the_record_gives_it_again() {
    let dir = folder(&SCENARIO.replace("constant", "exponential").replace("\"all\"", "\"it's all\""));
    sim(dir.path(), &["small.toml", "--seed", "5", "--strategy", "it's all"]).code(0);
    let first = files(dir.path());
    let record: reports::RunRecord = serde_json::from_slice(file(&first, "run.json")).expect("a run record");
    let args = record.reproduce.strip_prefix("cargo run -p sim -- ").expect("a command of ours");
    let args = shlex::split(args).expect("words that a shell reads");
    sim(dir.path(), &args.iter().map(String::as_str).collect::<Vec<_>>()).code(0);
    assert!(files(dir.path()) == first);
}

#[test]
fn the_record_does_not_tell_where_the_scenario_lies() {
    let (dir, elsewhere) = (folder(SCENARIO), tempfile::tempdir().expect("temporary folder"));
    let absolute = dir.path().join("small.toml");
    sim(elsewhere.path(), &[absolute.to_str().expect("UTF-8")]).code(0);
    sim(dir.path(), &["small.toml"]).code(0);
    assert!(files(elsewhere.path()) == files(dir.path()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_is_an_error() {
    let dir = folder(SCENARIO);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device that is always full");
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["small.toml", "--json"])
        .current_dir(dir.path())
        .stdout(full)
        .output()
        .expect("the program");
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&run.stderr).starts_with("standard output: "));
}

#[test]
fn schemas_are_json() {
    let dir = tempfile::tempdir().expect("temporary folder");
    for flag in ["--schema", "--record-schema"] {
        let run = sim(dir.path(), &[flag]).code(0).stderr_eq("");
        let schema: serde_json::Value = serde_json::from_slice(&run.get_output().stdout).expect("JSON");
        assert!(schema["$schema"].is_string() && schema["properties"].is_object(), "{flag}");
    }
    assert!(tree(dir.path()).is_empty());
}

#[test]
fn a_file_where_the_folder_should_be_is_left_alone() {
    let dir = folder(SCENARIO);
    fs::write(dir.path().join("mine"), "precious").expect("written");
    let run = sim(dir.path(), &["small.toml", "--out", "mine"]).code(2);
    let stderr = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(stderr.starts_with("mine") && stderr.contains("choose another output folder"), "{stderr}");
    assert_eq!(tree(dir.path()), ["mine", "small.toml"]);
    assert_eq!(fs::read_to_string(dir.path().join("mine")).expect("readable"), "precious");
}

#[test]
fn no_colour_where_nobody_sees_it() {
    let dir = folder(SCENARIO);
    for colour in ["", "1"] {
        let run = Command::new(SIM).current_dir(dir.path()).env("NO_COLOR", colour).arg("small.toml").assert();
        assert!(!stdout(&run).contains('\x1b'), "NO_COLOR={colour:?}");
    }
    let run = sim(dir.path(), &["--help"]).code(0);
    assert!(!stdout(&run).contains('\x1b'));
}

/// The scenario, taking minutes.
fn endless() -> String {
    SCENARIO
        .replace("\"4s\"", "\"48h\"")
        .replace("\"90ms\"", "\"0s\"")
        .replace("duration", "interval = \"30s\"\nduration")
}

#[test]
fn a_run_that_is_killed_leaves_what_was_there() {
    for before in [false, true] {
        let dir = folder(SCENARIO);
        if before {
            sim(dir.path(), &["small.toml"]).code(0);
        }
        let old = files(dir.path());
        fs::write(dir.path().join("small.toml"), endless()).expect("written");
        let mut child = std::process::Command::new(SIM)
            .current_dir(dir.path())
            .arg("small.toml")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        // Its inputs come first: then it simulates.
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("readable");
        assert!(line.starts_with("small.toml: "), "{line}");
        assert!(child.try_wait().expect("a status").is_none(), "it is not done yet");
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(files(dir.path()) == old, "old files stay as they were, none come half-written");
    }
}

#[test]
fn a_reader_that_leaves_early_does_no_harm() {
    let dir = folder(SCENARIO);
    for args in [&["small.toml"][..], &["small.toml", "--json"], &["--schema"]] {
        let mut child = std::process::Command::new(SIM)
            .current_dir(dir.path())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("readable");
        assert_eq!((child.wait().expect("ended").code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
    assert_eq!(files(dir.path()).len(), 3, "the report is written whoever listens");
}

#[test]
fn no_progress_bar_for_those_who_cannot_see_it() {
    // Long enough for a terminal to get one.
    let dir = folder(&endless().replace("48h", "24h"));
    sim(dir.path(), &["small.toml", "--strategy", "all"]).stderr_eq("");
}

/// A folder `scenarios` with two files, and one of a policy.
fn three_files() -> TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    fs::create_dir_all(dir.path().join("scenarios/policies")).expect("made");
    let from = |from: &str| SCENARIO.replacen("title", &format!("#\n# From: {from}\ntitle"), 1);
    for (name, text) in [
        ("b-pain", from("the pain \"it hurts\" (x#1)")),
        ("a-seed", from("seed 000 \"Canaries\"")),
        ("policies/c-policy", SCENARIO.to_owned()),
    ] {
        fs::write(dir.path().join(format!("scenarios/{name}.toml")), text).expect("written");
    }
    // What is no scenario is left alone.
    fs::write(dir.path().join("scenarios/notes.md"), "x").expect("written");
    dir
}

#[test]
fn the_gallery_leads_to_a_report_of_every_file() {
    let dir = three_files();
    sim(dir.path(), &["gallery"]).code(0).stderr_eq("").stdout_eq(str![[r#"
✓ a-seed: 2 of 2 expectations hold
✓ b-pain: 2 of 2 expectations hold
✓ c-policy: 2 of 2 expectations hold

gallery: out/index.html

"#]]);
    let read = |path: &str| fs::read_to_string(dir.path().join(path)).expect(path);
    let page = read("out/index.html");
    let at = |what: &str| page.find(what).unwrap_or_else(|| panic!("{what} is not on the page"));
    let order = [
        at(">Seed 000: Canaries</h2>"),
        at("<a href=\"a-seed/sim/index.html\">"),
        at("Does one connection spread?"),
        at(">Pains that users report</h2>"),
        at("<a href=\"b-pain/sim/index.html\">"),
        at(">Others</h2>"),
        at("<a href=\"c-policy/sim/index.html\">"),
    ];
    assert!(order.is_sorted(), "{order:?}");
    // Each report is the one that the plain form writes.
    let report = read("out/a-seed/sim/index.html");
    sim(dir.path(), &["scenarios/a-seed.toml", "--out", "plain"]).code(0);
    assert!(read("plain/a-seed/sim/index.html") == report);
    sim(dir.path(), &["gallery", "scenarios", "--out", "again"]).code(0);
    assert!(read("again/index.html") == page, "the same files give the same page");
}

#[test]
fn the_gallery_shows_what_failed_first_and_gives_1() {
    let dir = three_files();
    let path = dir.path().join("scenarios/z-fails.toml");
    let fails =
        SCENARIO.replace("0.33..0.36", "<= 0.25").replacen("title", "#\n# From: seed 000 \"Canaries\"\ntitle", 1);
    fs::write(path, fails).expect("written");
    let text = stdout(&sim(dir.path(), &["gallery"]).code(1));
    assert!(text.contains("✗ z-fails: 1 of 2 expectations failed\n✗ all: each server gets its third\n"), "{text}");
    let page = fs::read_to_string(dir.path().join("out/index.html")).expect("written");
    assert!(page.find("z-fails/sim").expect("a card") < page.find("a-seed/sim").expect("a card"));
    assert!(page.contains("1 of 8 expectations failed"));
    assert!(page.contains("<li><b>all</b> each server gets its third</li>"));
}

#[test]
fn the_gallery_runs_nothing_if_a_file_is_broken() {
    let dir = three_files();
    for name in ["x", "y"] {
        let text = SCENARIO.replace("to = \"server\"", "to = \"sever\"");
        fs::write(dir.path().join(format!("scenarios/{name}.toml")), text).expect("written");
    }
    let run = sim(dir.path(), &["gallery"]).code(2).stdout_eq("");
    let stderr = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    for file in ["scenarios/x.toml:", "scenarios/y.toml:"] {
        assert!(stderr.contains(file), "{stderr}");
    }
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_gallery_of_nothing_and_two_of_a_name_are_bad_input() {
    let dir = three_files();
    sim(dir.path(), &["gallery", "no-such"]).code(2).stdout_eq("").stderr_eq("no-such: cannot be read: [..]\n");
    fs::create_dir(dir.path().join("empty")).expect("made");
    sim(dir.path(), &["gallery", "empty"]).code(2).stdout_eq("").stderr_eq("empty: has no scenario file (*.toml)\n");
    fs::write(dir.path().join("scenarios/policies/a-seed.toml"), SCENARIO).expect("written");
    sim(dir.path(), &["gallery"]).code(2).stdout_eq("").stderr_eq(str![[r#"
scenarios/policies/a-seed.toml: has the name of scenarios/a-seed.toml, and so its report's folder
  hint: rename one of them

"#]]);
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_warm_up_is_in_the_timeline_and_in_no_figure() {
    // A batch of 3 every 0.1 s and a little more: 40 of them in 4 s, 20 in the last 2 s.
    let dir = folder(&SCENARIO.replace("duration", "warm_up = \"2s\"\nduration"));
    let text = stdout(&sim(dir.path(), &["small.toml"]).code(0));
    assert!(text.contains("\nThe first 2 s are warm-up and not in the figures.\n"), "{text}");
    assert!(text.contains("share.max of server pods: 1, expected"), "{text}");
    let record: reports::RunRecord =
        serde_json::from_slice(file(&files(dir.path()), "run.json")).expect("a run record");
    for s in &record.strategies {
        let sum = |series: &[u32]| series.iter().map(|&n| u64::from(n)).sum::<u64>();
        let after = &s.timeline.started[2..];
        assert_eq!(s.requests.started, sum(after), "{}", s.name);
        assert!(sum(&s.timeline.started) > s.requests.started + 50, "{}: the timeline has all", s.name);
        // What was under way at the border ends after it and is not counted: at most a batch.
        assert!((sum(&s.timeline.ok[2..]) - 3..=sum(&s.timeline.ok[2..])).contains(&s.requests.ok), "{}", s.name);
    }
    let goodput = record.strategies[0].requests.ok as f64 / 2.0;
    assert!((28.0..=30.0).contains(&goodput), "{goodput} per s over the 2 s that are left");
    let page = String::from_utf8_lossy(file(&files(dir.path()), "index.html")).into_owned();
    assert!(page.contains("The first 2 s are warm-up and not in the figures."));
}
