//! `sim export`: what is printed for strategies of the gallery, in each form.
//!
//! `SNAPSHOTS=overwrite cargo test -p sim --test export` rewrites what is expected; read the difference.

use std::fs;
use std::path::Path;

use snapbox::cmd::{Command, OutputAssert};
use snapbox::{Data, str};

fn export(args: &[&str]) -> OutputAssert {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new(env!("CARGO_BIN_EXE_sim")).current_dir(root).arg("export").args(args).assert()
}

/// Standard output and error in one text.
fn printed(args: &[&str]) -> String {
    let run = export(args);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let output = run.get_output();
    let status = output.status.code().expect("a status");
    format!("{}\n--- standard error, exit status {status}\n{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn strategies_of_the_gallery() {
    let snapshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export");
    let mut names = Vec::new();
    for (scenario, strategy) in [
        ("headless", "headless"),
        ("clusterip", "clusterip"),
        ("canary-weighted", "endpoint-weights"),
        ("fault-injection", "abort-50"),
        ("goaway-storm", "synchronised"),
        ("lookaside", "load-aware"),
        ("mesh", "mesh"),
        ("proxyless-xds", "xds"),
        ("rate-limit", "global fail-closed"),
        ("retry-storm", "budget"),
        ("retry-storm", "throttling"),
    ] {
        for form in ["grpc", "envoy", "istio"] {
            let file = format!("scenarios/{scenario}.toml");
            let name = format!("{scenario}.{}.{form}.txt", strategy.replace(' ', "-"));
            let text = printed(&["--strategy", strategy, "--as", form, &file]);
            snapbox::assert_data_eq!(text, Data::read_from(&snapshots.join(&name), None).raw());
            names.push(name);
        }
    }
    names.sort();
    let mut files: Vec<String> = fs::read_dir(snapshots)
        .expect("readable")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, names, "a snapshot of nothing");
}

#[test]
fn a_name_that_is_no_strategy_gives_2() {
    export(&["--strategy", "headles", "--as", "grpc", "scenarios/headless.toml"]).code(2).stdout_eq("").stderr_eq(
        str![[r#"
--strategy headles: scenarios/headless.toml has no such strategy
  hint: did you mean `headless`? it has headless

"#]],
    );
    export(&["--strategy", "sidecar", "--as", "grpc", "scenarios/canary-weighted.toml"])
        .code(2)
        .stdout_eq("")
        .stderr_eq(str![[r#"
--strategy sidecar: scenarios/canary-weighted.toml has no such strategy
  hint: it has endpoint-weights, route-weights

"#]]);
}

#[test]
fn a_form_is_needed() {
    let run = export(&["--strategy", "headless", "scenarios/headless.toml"]).code(2).stdout_eq("");
    let stderr = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(stderr.contains("--as <FORM>"), "{stderr}");
    let run = export(&["--as", "nginx", "--strategy", "headless", "scenarios/headless.toml"]).code(2).stdout_eq("");
    let stderr = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(stderr.contains("[possible values: grpc, envoy, istio]"), "{stderr}");
}
