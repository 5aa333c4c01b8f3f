//! `run.json`, `data.csv` and `index.html`, whole or not at all; and the gallery's page.
//!
//! All three are written in full to temporary files beside their places and only then renamed over them. Whatever fails,
//! the temporary files go, and files already replaced get their old contents back. A kill between two renames leaves each
//! file whole; `run.json` goes last, so a new one means that the other two are new as well.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::record::RunRecord;
use crate::{html, json};

/// Where the three files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The record.
    pub run_json: PathBuf,
    /// Requests per pod and bucket.
    pub data_csv: PathBuf,
    /// The report.
    pub index_html: PathBuf,
}

impl Paths {
    fn of(dir: &Path) -> Self {
        Self { run_json: dir.join("run.json"), data_csv: dir.join("data.csv"), index_html: dir.join("index.html") }
    }
}

/// Why the files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The folder's place is taken by something else.
    #[error("{}: is not a folder, and the report needs one there; move it away or choose another output folder", path.display())]
    NotAFolder {
        /// The place.
        path: PathBuf,
    },
    /// The folder could not be made.
    #[error("{}: cannot make this folder: {source}; check that you may write there or choose another output folder", path.display())]
    MakeFolder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("{}: cannot write: {source}; check free space and permissions or choose another output folder", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file's place is taken by a folder.
    #[error("{}: is a folder where a file belongs; move it away", path.display())]
    IsAFolder {
        /// The place.
        path: PathBuf,
    },
}

/// Finds out whether [`write`](fn@write) can write into `dir`, before a long run: makes the folder if need be, and a
/// file in it that is gone again. What stands there already stays as it is.
///
/// # Errors
///
/// The same as those of [`write`](fn@write). That may still fail afterwards: a disk fills up, a folder goes.
pub fn prepare(dir: &Path) -> Result<(), WriteError> {
    let paths = folder(dir)?;
    for path in [&paths.data_csv, &paths.index_html, &paths.run_json] {
        if path.is_dir() {
            return Err(WriteError::IsAFolder { path: path.clone() });
        }
    }
    temporary(dir, b"").map(drop).map_err(|source| WriteError::Write { path: paths.data_csv, source })
}

/// Makes the folder if need be.
fn folder(dir: &Path) -> Result<Paths, WriteError> {
    if dir.exists() && !dir.is_dir() {
        return Err(WriteError::NotAFolder { path: dir.to_owned() });
    }
    fs::create_dir_all(dir).map_err(|source| WriteError::MakeFolder { path: dir.to_owned(), source })?;
    Ok(Paths::of(dir))
}

/// Writes the three files into `dir`, which is made if need be.
///
/// # Errors
///
/// [`WriteError`], naming path and remedy; then nothing is left behind and the old files are as they were.
pub fn write(dir: &Path, record: &RunRecord) -> Result<Paths, WriteError> {
    let paths = folder(dir)?;
    let contents = [
        (&paths.data_csv, csv(record)),
        (&paths.index_html, html::render(record)),
        (&paths.run_json, json::to_string(record)),
    ];
    let mut fresh = Vec::new();
    for (path, text) in &contents {
        if path.is_dir() {
            return Err(WriteError::IsAFolder { path: path.to_path_buf() });
        }
        let file =
            temporary(dir, text.as_bytes()).map_err(|source| WriteError::Write { path: path.to_path_buf(), source })?;
        fresh.push((path.as_path(), file));
    }
    replace_all(dir, fresh)?;
    Ok(paths)
}

/// Writes the gallery's page to `dir/index.html`; the folder is made if need be.
///
/// # Errors
///
/// [`WriteError`], naming path and remedy; then the old page is as it was.
pub fn gallery(dir: &Path, html: &str) -> Result<PathBuf, WriteError> {
    let path = folder(dir)?.index_html;
    if path.is_dir() {
        return Err(WriteError::IsAFolder { path });
    }
    let write = || temporary(dir, html.as_bytes())?.persist(&path).map(drop).map_err(|e| e.error);
    match write() {
        Ok(()) => Ok(path),
        Err(source) => Err(WriteError::Write { path, source }),
    }
}

/// Renames every file to its place; if one fails, those before it are put back.
fn replace_all(dir: &Path, fresh: Vec<(&Path, NamedTempFile)>) -> Result<(), WriteError> {
    let mut replaced: Vec<(&Path, Option<NamedTempFile>)> = Vec::new();
    for (path, file) in fresh {
        let outcome = keep_old(dir, path).and_then(|old| file.persist(path).map(|_| old).map_err(|e| e.error));
        match outcome {
            Ok(old) => replaced.push((path, old)),
            Err(source) => {
                for (path, old) in replaced {
                    // Nothing more can be done if this fails as well; the first error is the one to tell.
                    let _ = match old {
                        Some(old) => old.persist(path).map(drop).map_err(|e| e.error),
                        None => fs::remove_file(path),
                    };
                }
                return Err(WriteError::Write { path: path.to_owned(), source });
            }
        }
    }
    Ok(())
}

/// A copy of what stands at `path`, gone again when dropped.
fn keep_old(dir: &Path, path: &Path) -> io::Result<Option<NamedTempFile>> {
    match fs::read(path) {
        Ok(bytes) => temporary(dir, &bytes).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn temporary(dir: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".evenkeel-");
    // Temporary files are private by default; a report is to be read by whom the umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// One row a strategy, pod and bucket: `strategy,pod,deployment,node,bucket_start_s,requests`.
fn csv(record: &RunRecord) -> String {
    let mut text = String::from("strategy,pod,deployment,node,bucket_start_s,requests\n");
    for s in &record.strategies {
        for (pod, buckets) in s.pods.iter().zip(&s.timeline.requests_per_pod) {
            let pod = [&s.name, &pod.name, &pod.deployment, &pod.node].map(|name| field(name)).join(",");
            for (i, n) in buckets.iter().enumerate() {
                // 3 · 0.1 is 0.30000000000000004: to the nanosecond is enough.
                let start_s = (i as f64 * record.interval_s * 1e9).round() / 1e9;
                text.push_str(&format!("{pod},{start_s},{n}\n"));
            }
        }
    }
    text
}

/// A CSV field as RFC 4180 wants it.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RunRecord {
        RunRecord {
            version: crate::record::RECORD_VERSION,
            scenario: "empty".to_owned(),
            title: "What is in nothing?".to_owned(),
            scenario_hash: "0".repeat(16),
            scenario_text: String::new(),
            host: "sim".to_owned(),
            program: "0.1.0".to_owned(),
            seed: 1,
            duration_s: 1.0,
            interval_s: 1.0,
            warm_up_s: 0.0,
            reproduce: "cargo run -p sim -- scenarios/empty.toml".to_owned(),
            events: Vec::new(),
            strategies: Vec::new(),
            expectations: Vec::new(),
            replications: None,
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("readable")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn three_files_and_nothing_else() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let paths = write(&dir.path().join("empty/sim"), &record()).expect("written");
        assert_eq!(names(&dir.path().join("empty/sim")), ["data.csv", "index.html", "run.json"]);
        let text = fs::read_to_string(paths.run_json).expect("readable");
        assert_eq!(text, json::to_string(&record()));
        assert!(text.ends_with("}\n"));
        assert_eq!(serde_json::from_str::<RunRecord>(&text).expect("valid"), record());
    }

    #[test]
    fn a_file_in_the_folders_place_is_named_with_a_remedy() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let place = dir.path().join("out");
        fs::write(&place, "mine").expect("written");
        let error = write(&place, &record()).expect_err("is a file").to_string();
        assert_eq!(
            error,
            format!(
                "{}: is not a folder, and the report needs one there; move it away or choose another output folder",
                place.display()
            )
        );
        assert_eq!(fs::read_to_string(&place).expect("readable"), "mine");
    }

    #[test]
    fn missing_parents_are_made() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let paths = write(&dir.path().join("a/b/c"), &record()).expect("written");
        assert!(paths.run_json.is_file() && paths.data_csv.is_file() && paths.index_html.is_file());
    }

    #[test]
    fn a_parent_that_is_a_file_is_told_with_the_systems_reason() {
        let dir = tempfile::tempdir().expect("temporary folder");
        fs::write(dir.path().join("out"), "mine").expect("written");
        let place = dir.path().join("out/headless/sim");
        let error = write(&place, &record()).expect_err("out is a file").to_string();
        assert!(error.starts_with(&format!("{}: cannot make this folder: ", place.display())), "{error}");
        assert!(error.ends_with("; check that you may write there or choose another output folder"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_without_permission_is_named_with_a_remedy() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("temporary folder");
        let place = dir.path().join("sim");
        fs::create_dir(&place).expect("made");
        fs::set_permissions(&place, fs::Permissions::from_mode(0o555)).expect("set");
        // Who may write anyway (root) cannot see the error.
        if fs::write(place.join("probe"), "").is_ok() {
            return;
        }
        let error = write(&place, &record()).expect_err("read-only").to_string();
        let file = place.join("data.csv");
        assert!(error.starts_with(&format!("{}: cannot write: ", file.display())), "{error}");
        assert!(error.ends_with("; check free space and permissions or choose another output folder"), "{error}");
        assert_eq!(names(&place), Vec::<String>::new());
        let error = write(&place.join("below"), &record()).expect_err("read-only").to_string();
        assert!(error.starts_with(&format!("{}: cannot make this folder: ", place.join("below").display())), "{error}");
    }

    #[test]
    fn a_failure_leaves_the_old_files_and_no_new_ones() {
        let dir = tempfile::tempdir().expect("temporary folder");
        fs::write(dir.path().join("data.csv"), "old").expect("written");
        fs::create_dir(dir.path().join("run.json")).expect("made");
        let error = write(dir.path(), &record()).expect_err("run.json is a folder").to_string();
        assert!(error.ends_with("run.json: is a folder where a file belongs; move it away"), "{error}");
        assert_eq!(names(dir.path()), ["data.csv", "run.json"]);
        assert_eq!(fs::read_to_string(dir.path().join("data.csv")).expect("readable"), "old");
    }

    #[test]
    fn a_rename_that_fails_puts_back_what_was_replaced() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (first, second, third) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        fs::write(&first, "old").expect("written");
        fs::create_dir(&third).expect("made");
        let fresh = |text: &str| temporary(dir.path(), text.as_bytes()).expect("written");
        let files = vec![(&*first, fresh("new")), (&*second, fresh("new")), (&*third, fresh("new"))];
        replace_all(dir.path(), files).expect_err("a folder cannot be replaced");
        assert_eq!(names(dir.path()), ["a", "c"]);
        assert_eq!(fs::read_to_string(&first).expect("readable"), "old");
    }

    #[test]
    fn preparing_leaves_a_folder_and_what_was_in_it() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let place = dir.path().join("a/b");
        prepare(&place).expect("can be written");
        assert_eq!(names(&place), Vec::<String>::new());
        fs::write(place.join("run.json"), "old").expect("written");
        prepare(&place).expect("can be written");
        assert_eq!(names(&place), ["run.json"]);
        assert_eq!(fs::read_to_string(place.join("run.json")).expect("readable"), "old");
    }

    #[test]
    fn preparing_says_what_writing_would_say() {
        let dir = tempfile::tempdir().expect("temporary folder");
        fs::write(dir.path().join("file"), "mine").expect("written");
        fs::create_dir_all(dir.path().join("taken/run.json")).expect("made");
        let read_only = dir.path().join("read-only");
        fs::create_dir(&read_only).expect("made");
        let mut permissions = fs::metadata(&read_only).expect("there").permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&read_only, permissions).expect("set");
        let mut places = vec![dir.path().join("file"), dir.path().join("file/below"), dir.path().join("taken")];
        // Who may write anyway (root) cannot see the error.
        if fs::write(read_only.join("probe"), "").is_err() {
            places.extend([read_only.clone(), read_only.join("below")]);
        }
        for place in places {
            let early = prepare(&place).expect_err("cannot be written").to_string();
            assert_eq!(early, write(&place, &record()).expect_err("cannot be written").to_string());
        }
        assert_eq!(names(&dir.path().join("taken")), ["run.json"]);
    }

    #[test]
    fn csv_fields_are_quoted_where_needed() {
        assert_eq!(field("server-0"), "server-0");
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
