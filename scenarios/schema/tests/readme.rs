//! What the README teaches with is valid.

/// The README's blocks of TOML, in order.
fn blocks() -> Vec<&'static str> {
    let readme = include_str!("../../../README.md");
    readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_readmes_scenario_is_valid() {
    let text = blocks()[0];
    scenarios::parse("README.md", text).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn the_readmes_routes_are_valid_where_there_are_two_versions() {
    let version = |v| format!("[[deployment]]\nname = '{v}'\n[[service]]\nname = '{v}'\ndeployments = ['{v}']\n");
    let text = format!(
        "title = 'Two versions'\nduration = '120s'\n{}{}[[deployment]]\nname = 'proxy'\n[[deployment]]\nname = 'client'\n\
         [load]\nfrom = 'client'\nto = 'server-v1'\nclosed = {{ concurrency = 1 }}\n{}",
        version("server-v1"),
        version("server-v2"),
        blocks()[1]
    );
    scenarios::parse("README.md", &text).unwrap_or_else(|errors| panic!("{errors}"));
}
