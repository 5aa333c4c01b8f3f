//! The record as JSON that can be read: what has parts is indented, a series of plain values is one line.
//!
//! ```json
//! "timeline": {
//!   "requests_per_pod": [
//!     [34, 33, 33],
//!     [33, 34, 33]
//!   ],
//!   "ok": [67, 67, 66]
//! }
//! ```
//!
//! With a line for every number a run of minutes would be some hundred thousand lines, most of them blanks.

use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::record::RunRecord;

/// The record as `run.json` has it, with a newline at the end. Floats are the shortest that read back the same.
#[must_use]
pub fn to_string(record: &RunRecord) -> String {
    let mut bytes = Vec::new();
    record.serialize(&mut Serializer::with_formatter(&mut bytes, Readable::default())).expect("a record is plain JSON");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// What is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// An object, with a line for every key.
    Object,
    /// An array on one line; every array until its first value turns out to be an object or an array.
    Line,
    /// An array with a line for every value.
    Lines,
}

/// The first value of an array decides how the array is laid out: arrays of a record hold values of one kind.
#[derive(Default)]
struct Readable {
    open: Vec<Open>,
    /// Whether the next value is the first of an array.
    first: bool,
    /// Whether the object that ends next has a key.
    has_keys: bool,
}

impl Readable {
    fn line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        self.open.iter().try_for_each(|_| writer.write_all(b"  "))
    }

    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W, what: Open) -> io::Result<()> {
        if std::mem::take(&mut self.first)
            && let Some(around) = self.open.last_mut()
        {
            *around = Open::Lines;
            self.line(writer)?;
        }
        self.open.push(what);
        Ok(())
    }
}

impl Formatter for Readable {
    /// JSON lets DEL and U+0080 to U+009F stand as they are. A terminal obeys some of them, and what writes to one may
    /// leave them out.
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, control)) = rest.char_indices().find(|(_, c)| c.is_control()) {
            write!(writer, "{}\\u{:04x}", &rest[..at], u32::from(control))?;
            rest = &rest[at + control.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, Open::Line)?;
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.open.pop() == Some(Open::Lines) {
            self.line(writer)?;
        }
        writer.write_all(b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.first = first;
        match self.open.last() {
            _ if first => Ok(()),
            Some(Open::Lines) => {
                writer.write_all(b",")?;
                self.line(writer)
            }
            _ => writer.write_all(b", "),
        }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, Open::Object)?;
        self.has_keys = false;
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open.pop();
        if self.has_keys {
            self.line(writer)?;
        }
        writer.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        self.line(writer)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.first = false;
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        // Also after an object without keys inside this one.
        self.has_keys = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn readable(value: &Value) -> String {
        let mut bytes = Vec::new();
        value.serialize(&mut Serializer::with_formatter(&mut bytes, Readable::default())).expect("plain JSON");
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn plain_values_share_a_line() {
        let value = json!({"a": [1, 2.5, null], "b": [[1, 2], [], [3]], "c": ["x", "y, z"], "d": {"e": true}});
        let text = r#"{
  "a": [1, 2.5, null],
  "b": [
    [1, 2],
    [],
    [3]
  ],
  "c": ["x", "y, z"],
  "d": {
    "e": true
  }
}"#;
        assert_eq!(readable(&value), text);
    }

    #[test]
    fn objects_in_arrays_are_indented() {
        let value = json!([{"a": 1, "b": [{"c": [0]}]}, {}, []]);
        let text = r#"[
  {
    "a": 1,
    "b": [
      {
        "c": [0]
      }
    ]
  },
  {},
  []
]"#;
        assert_eq!(readable(&value), text);
    }

    #[test]
    fn what_is_empty_stays_short() {
        assert_eq!(readable(&json!([])), "[]");
        assert_eq!(readable(&json!({})), "{}");
        assert_eq!(readable(&json!([[]])), "[\n  []\n]");
        assert_eq!(readable(&json!({"a": {}, "b": []})), "{\n  \"a\": {},\n  \"b\": []\n}");
    }

    #[test]
    fn control_characters_are_escaped() {
        let value = json!("a\u{1b}[1m \u{7f}\u{9b}é\n\u{80}");
        let text = readable(&value);
        assert_eq!(text, r#""a\u001b[1m \u007f\u009bé\n\u0080""#);
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    }

    #[test]
    fn mixed_arrays_are_still_json() {
        for value in [json!([1, {"a": [2]}, [3]]), json!([{"a": 1}, 2, [3]]), json!([[], 1, "x", {}])] {
            assert_eq!(serde_json::from_str::<Value>(&readable(&value)).expect("JSON"), value);
        }
    }
}
