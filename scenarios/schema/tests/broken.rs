//! Broken scenario files, each with the exact text of its errors beside it.

use std::path::PathBuf;
use std::{env, fs};

#[test]
fn every_broken_file_gets_its_text() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 25, "only {} files in {}", files.len(), folder.display());

    let update = env::var_os("UPDATE").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# "), "{name} does not open with the rule it breaks");
        let found = match scenarios::parse(name, &text) {
            Ok(_) => format!("{name} has no mistake\n"),
            Err(errors) => format!("{errors}\n"),
        };
        let beside = file.with_extension("txt");
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if found == expected {
            continue;
        }
        if update {
            fs::write(&beside, &found).unwrap();
        } else {
            wrong.push(format!("{name}:\n{}", diff(&expected, &found)));
        }
    }
    let how = "`UPDATE=1 cargo test -p scenarios` rewrites the expected texts; read the change before you keep it";
    assert!(wrong.is_empty(), "{}\n{how}", wrong.join("\n"));
}

/// The lines that differ, between those that are equal at both ends: enough for texts of a screen.
fn diff(expected: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let removed = old[head..old.len() - tail].iter().map(|line| format!("- {line}\n"));
    let added = new[head..new.len() - tail].iter().map(|line| format!("+ {line}\n"));
    removed.chain(added).collect()
}
