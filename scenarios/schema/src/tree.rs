//! A TOML file as a tree in which every key and value knows its place.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::errors::{Report, Source};

/// With more broken lines than this, a file is not read past them: it is hardly TOML.
const MOST_BROKEN_LINES: usize = 100;

/// A value and where it stands. A table that a header opens stands at that header.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    String(String),
    /// Beyond 128 bits: the largest or smallest of them.
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Datetime,
    Array(Vec<Node>),
    /// In the order of the file.
    Table(Vec<Entry>),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) node: Node,
}

impl Node {
    fn new(span: Range<usize>, value: DeValue<'_>) -> Self {
        let value = match value {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(n) => {
                Value::Integer(i128::from_str_radix(n.as_str(), n.radix()).unwrap_or(if n.as_str().starts_with('-') {
                    i128::MIN
                } else {
                    i128::MAX
                }))
            }
            DeValue::Float(x) => Value::Float(x.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(b) => Value::Boolean(b),
            DeValue::Datetime(_) => Value::Datetime,
            DeValue::Array(items) => {
                Value::Array(items.into_iter().map(|item| Self::new(item.span(), item.into_inner())).collect())
            }
            DeValue::Table(table) => Self::table(table),
        };
        Self { span, value }
    }

    fn table(table: DeTable<'_>) -> Value {
        let mut entries: Vec<Entry> = table
            .into_iter()
            .map(|(key, value)| Entry {
                key_span: key.span(),
                key: key.into_inner().into_owned(),
                node: Self::new(value.span(), value.into_inner()),
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        Value::Table(entries)
    }

    /// The entry of that key, if this is a table that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value at `path` (keys and indices joined with dots), or its closest ancestor, and whether it is the former.
    ///
    /// A single `[deployment]` counts as the first of a list, as [`shape`](crate::shape) reads it.
    pub(crate) fn at(&self, path: &str) -> (&Self, bool) {
        let mut node = self;
        for step in path.split('.').filter(|step| !step.is_empty()) {
            let next = match &node.value {
                Value::Array(items) => step.parse().ok().and_then(|i: usize| items.get(i)),
                Value::Table(_) => node.entry(step).map(|entry| &entry.node).or((step == "0").then_some(node)),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => return (node, false),
            }
        }
        (node, true)
    }
}

/// A file's tree, and the paths at which it is not what the author meant.
pub(crate) struct Parsed {
    pub(crate) root: Node,
    /// Paths whose value was lost to a syntax error.
    pub(crate) lost: BTreeSet<String>,
}

/// Reads TOML. Syntax errors are reported; if the lines they are on can be left out without changing what the others
/// mean, the rest is read, so that its mistakes can be reported too.
pub(crate) fn parse(source: &Source<'_>, text: &str, report: &mut Report) -> Option<Parsed> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let root = Node { span: table.span(), value: Node::table(table.into_inner()) };
        return Some(Parsed { root, lost: BTreeSet::new() });
    }
    let mut places: Vec<(usize, Range<usize>, String)> = errors
        .iter()
        .map(|error| {
            let span = error.span().unwrap_or(0..0);
            (source.line_of(span.start), span, error.message().to_owned())
        })
        .collect();
    places.sort_by_key(|(_, span, _)| span.start);
    // What follows on the same line is mostly the parser losing its footing.
    places.dedup_by_key(|(line, ..)| *line);
    for (line, span, message) in &places {
        let (rule, hint) = explain(source, *line, span, message);
        report.add(span.start, rule, hint);
    }

    if places.len() > MOST_BROKEN_LINES {
        return None;
    }
    let lines: Vec<usize> = places.into_iter().map(|(line, ..)| line).collect();
    let keys: Vec<Vec<&str>> = lines.iter().map(|line| plain_keys(source.line(*line))).collect::<Option<_>>()?;
    let mut rest = text.as_bytes().to_vec();
    for line in &lines {
        rest[source.line_range(*line)].fill(b' ');
    }
    let rest = String::from_utf8(rest).ok()?;
    let table = DeTable::parse(&rest).ok()?;
    let root = Node { span: table.span(), value: Node::table(table.into_inner()) };
    let lost = lines.iter().zip(keys).flat_map(|(line, keys)| {
        let home = home(&root, source, source.line_range(*line).start);
        keys.into_iter().map(move |key| home.path_of(key))
    });
    let lost = lost.collect();
    Some(Parsed { root, lost })
}

/// The keys that a line of the form `key = value` sets: the first, and whatever else stands before an `=`, should the
/// mistake be a missing line end. `None` if the line is something else.
fn plain_keys(line: &str) -> Option<Vec<&str>> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let (first, _) = line.split_once('=')?;
    let first = first.trim();
    if first.is_empty() || !first.chars().all(word) || line.contains('\r') {
        return None;
    }
    let before = line.match_indices('=').map(|(at, _)| {
        let text = line[..at].trim_end();
        let start = text.rfind(|c| !word(c)).map_or(0, |i| i + text[i..].chars().next().map_or(1, char::len_utf8));
        &text[start..]
    });
    Some(before.filter(|key| !key.is_empty()).collect())
}

/// Where a line belongs.
enum Home {
    /// To this table.
    Table(String),
    /// To some part of this value, which spans lines and is now in doubt as a whole.
    Value(String),
}

impl Home {
    fn path_of(&self, key: &str) -> String {
        match self {
            Self::Table(path) => join(path, key),
            Self::Value(path) => path.clone(),
        }
    }
}

/// To what a line that starts at `offset` belongs: the value around it, or the last table opened above.
fn home(root: &Node, source: &Source<'_>, offset: usize) -> Home {
    let mut last_header = (0, String::new());
    let mut open = vec![(root, String::new())];
    while let Some((node, path)) = open.pop() {
        let header = source.slice(&node.span).starts_with('[') && matches!(node.value, Value::Table(_));
        if header && node.span.start <= offset && node.span.start >= last_header.0 {
            last_header = (node.span.start, path.clone());
        }
        if !path.is_empty() && !header && node.span.contains(&offset) {
            return Home::Value(path);
        }
        match &node.value {
            Value::Table(entries) => {
                open.extend(entries.iter().map(|entry| (&entry.node, join(&path, &entry.key))));
            }
            Value::Array(items) => {
                open.extend(items.iter().enumerate().map(|(i, item)| (item, join(&path, &i.to_string()))));
            }
            _ => {}
        }
    }
    Home::Table(last_header.1)
}

/// `path.step`
pub(crate) fn join(path: &str, step: &str) -> String {
    if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") }
}

/// The parser's message in our words where it is one that people meet.
fn explain(source: &Source<'_>, line: usize, span: &Range<usize>, message: &str) -> (String, Option<String>) {
    let written = source.slice(span);
    if message.starts_with("string values must be quoted") {
        return match written {
            "" => (
                "there is no value after the `=`".into(),
                Some("write one, or delete the line to get the default".into()),
            ),
            _ => (format!("`{written}` is text without quotes"), Some(format!("write \"{written}\""))),
        };
    }
    if message == "duplicate key" {
        return if source.line(line).trim_start().starts_with('[') {
            let rule = format!("the table `{written}` is there already");
            (rule, Some("a [table] may be opened once; each item of a list has its own [[table]]".into()))
        } else {
            (format!("`{written}` is set twice in the same table"), Some("keep one of the two lines".into()))
        };
    }
    (format!("this is not TOML: {message}"), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(text: &str) -> Option<Vec<String>> {
        let mut report = Report::default();
        let parsed = parse(&Source::new(text), text, &mut report);
        assert!(!report.is_empty());
        parsed.map(|parsed| parsed.lost.into_iter().collect())
    }

    #[test]
    fn a_broken_line_is_left_out_with_its_path() {
        assert_eq!(lost("a = 10s\nb = 1"), Some(vec!["a".to_owned()]));
        assert_eq!(lost("[[d]]\nx = 1\n[[d]]\ny = \nz = 1"), Some(vec!["d.1.y".to_owned()]));
        assert_eq!(lost("a = 1 é b = 2"), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(lost("[t]\nx = {\n y = oops,\n z = 2\n}\n"), Some(vec!["t.x".to_owned()]));
    }

    #[test]
    fn a_broken_header_ends_the_reading() {
        assert_eq!(lost("[a\nx = 1\n"), None);
        assert_eq!(lost("x = [1,\ny = 2\n"), None);
    }
}
