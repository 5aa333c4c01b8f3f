//! The run record's shape as JSON Schema. The committed copy is `reports/run.schema.json`.

use crate::record::RunRecord;

/// JSON Schema of [`RunRecord`], pretty, with a newline at the end.
#[must_use]
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(RunRecord)).expect("a schema is plain JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE=1 cargo test -p reports schema` rewrites the copy.
    #[test]
    fn committed_copy_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/run.schema.json");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, schema()).expect("run.schema.json can be written");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == schema(),
            "reports/run.schema.json is not current; run UPDATE=1 cargo test -p reports schema"
        );
    }
}
