//! The scenario that the README teaches with is a valid one.

#[test]
fn the_readmes_scenario_is_valid() {
    let readme = include_str!("../../../README.md");
    let text = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a TOML block");
    scenarios::parse("README.md", text).unwrap_or_else(|errors| panic!("{errors}"));
}
