//! From a file to a scenario, or to everything that is wrong with it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use crate::errors::{Errors, Report, Source};
use crate::{Proxy, Scenario, check, shape, tree};

/// 1 MiB: some hundred times the largest scenario worth reading. Our choice.
const LARGEST_FILE: usize = 1 << 20;

/// A scenario and the text it was read from, byte for byte.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The scenario.
    pub scenario: Scenario,
    /// The file's content: the report shows it, the run record holds its hash.
    pub text: String,
}

/// Reads and validates a scenario file. `path` is shown in errors as it is given.
///
/// # Errors
///
/// Everything that is wrong with the file; or that it cannot be read, is larger than 1 MiB, or is not UTF-8.
pub fn load(path: &Path) -> Result<Loaded, Errors> {
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| Errors::of_file(&name, format!("cannot be read: {error}"), None);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    // One byte more than allowed tells a file that is too large, whatever its metadata says.
    file.take(LARGEST_FILE as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > LARGEST_FILE {
        return Err(too_large(&name));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let (valid, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let lossy = String::from_utf8_lossy(bytes);
        let place = Source::new(&lossy).place(valid);
        let rule = format!("byte {valid} (counted from 0) is not UTF-8");
        Errors::at(&name, place, rule, Some("save the file as UTF-8, which TOML requires".into()))
    })?;
    let scenario = parse(&name, &text)?;
    Ok(Loaded { scenario, text })
}

/// Validates a scenario's text. `name` stands for the file in errors.
///
/// The result has its defaults filled in: a strategy has a [`Proxy`] exactly if its balancer is one.
///
/// # Errors
///
/// Everything that is wrong with the text.
pub fn parse(name: &str, text: &str) -> Result<Scenario, Errors> {
    if text.len() > LARGEST_FILE {
        return Err(too_large(name));
    }
    let source = Source::new(text);
    let mut report = Report::default();
    let Some(parsed) = tree::parse(&source, text, &mut report) else {
        return Err(report.into_errors(name, &source));
    };
    let shaped = shape::fit(&parsed, &source, &mut report);
    match Scenario::deserialize(&shaped.json) {
        Ok(mut scenario) => {
            check::check(&scenario, &parsed.root, &shaped.in_doubt, &source, &mut report);
            if report.is_empty() {
                for strategy in &mut scenario.strategies {
                    if strategy.balancer.has_proxy() {
                        strategy.proxy.get_or_insert_with(Proxy::default);
                    }
                }
                return Ok(scenario);
            }
        }
        // A rule that only the type's own reader knows, and the schema does not: its message is all there is.
        Err(error) if report.is_empty() => report.add(0, error.to_string(), None),
        Err(_) => {}
    }
    Err(report.into_errors(name, &source))
}

fn too_large(name: &str) -> Errors {
    let rule = format!("is larger than {LARGEST_FILE} bytes, the most a scenario may have");
    Errors::of_file(name, rule, Some("a scenario is written by hand; is this the right file?".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, bytes).unwrap();
        let text = load(&path).unwrap_err().to_string();
        text.replace(&path.display().to_string(), "x.toml")
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = load(Path::new("no/such.toml")).unwrap_err().to_string();
        assert!(message.starts_with("no/such.toml: cannot be read: "), "{message}");
    }

    #[test]
    fn what_is_not_utf8_is_refused_with_its_byte() {
        let message = message(b"title = \"caf\xe9\"\n");
        assert_eq!(
            message,
            "x.toml:1:13: byte 12 (counted from 0) is not UTF-8\n  |\n1 | title = \"caf\u{fffd}\"\n  |             ^\n  \
             = hint: save the file as UTF-8, which TOML requires\n\n1 error in x.toml"
        );
    }

    #[test]
    fn a_huge_file_is_refused_unread() {
        assert!(message(&vec![b'#'; LARGEST_FILE + 1]).starts_with("x.toml: is larger than 1048576 bytes"));
    }
}
