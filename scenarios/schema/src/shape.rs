//! Does a file have the shape of a scenario? Every key that is unknown, missing or of the wrong type is reported.
//!
//! The file's tree is walked along the JSON Schema of [`Scenario`](crate::Scenario), so the types are the only list of
//! what is allowed, and their doc comments become the hints. What does not fit is replaced by a stand-in, and its path
//! remembered, so that the rest can be decoded and checked without follow-up errors.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use lb_core::channel::{BackoffConfig, ChannelConfig, ResolverConfig};
use lb_core::{Nanos, PolicyConfig};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use crate::errors::{Report, Source, did_you_mean};
use crate::tree::{Entry, Node, Parsed, Value, join};
use crate::{Bound, PodCount, Rate, schema};

/// A definition by its name in the schema, and its own reader, which has the last word once the shape is right.
struct Reader {
    definition: fn() -> Cow<'static, str>,
    read: fn(&Json) -> Result<(), String>,
}

impl Reader {
    const fn of<T: JsonSchema + DeserializeOwned>() -> Self {
        Self { definition: T::schema_name, read: reads::<T> }
    }
}

const READERS: &[Reader] = &[
    Reader::of::<Nanos>(),
    Reader::of::<Rate>(),
    Reader::of::<Bound>(),
    Reader::of::<PodCount>(),
    Reader::of::<PolicyConfig>(),
    Reader::of::<ResolverConfig>(),
    Reader::of::<BackoffConfig>(),
    Reader::of::<ChannelConfig>(),
];

fn reads<T: DeserializeOwned>(json: &Json) -> Result<(), String> {
    T::deserialize(json).map(drop).map_err(|error| error.to_string())
}

/// A file's content in the scenario's shape.
pub(crate) struct Shaped {
    pub(crate) json: Json,
    /// Paths at which `json` holds a stand-in.
    pub(crate) in_doubt: BTreeSet<String>,
}

/// Fits the tree into the schema.
pub(crate) fn fit(parsed: &Parsed, source: &Source<'_>, report: &mut Report) -> Shaped {
    let root = schema::shared();
    let mut walk = Walk { root, source, report, lost: &parsed.lost, in_doubt: parsed.lost.clone() };
    let json = walk.fit(root, &parsed.root, "", "");
    Shaped { json, in_doubt: walk.in_doubt }
}

/// What a part of the schema asks for.
enum Kind<'s> {
    Table(&'s Map<String, Json>, Vec<&'s str>),
    /// A table with keys of the author's own.
    Named(&'s Json),
    /// One of some names, or a table with one of some keys.
    Choice(Vec<&'s str>, Vec<(&'s str, &'s Json)>),
    List(&'s Json),
    Text,
    Integer(i128, i128),
    Number,
    Boolean,
    Anything,
}

struct Walk<'s, 'r> {
    root: &'s Json,
    source: &'r Source<'r>,
    report: &'r mut Report,
    lost: &'r BTreeSet<String>,
    in_doubt: BTreeSet<String>,
}

impl<'s> Walk<'s, '_> {
    /// The definition a `$ref` leads to, with its name.
    fn resolve(&self, schema: &'s Json) -> (&'s Json, &'s str) {
        let Some(name) = schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix("#/$defs/")) else {
            return (schema, "");
        };
        (self.root["$defs"].get(name).unwrap_or(&Json::Null), name)
    }

    fn kind(&self, schema: &'s Json) -> Kind<'s> {
        if let Some(options) = schema.get("oneOf").or(schema.get("anyOf")).and_then(Json::as_array) {
            let (mut names, mut tables) = (Vec::new(), Vec::new());
            for option in options {
                names.extend(option.get("const").and_then(Json::as_str));
                names.extend(strings(option.get("enum")));
                tables.extend(option.get("properties").and_then(Json::as_object).into_iter().flatten());
            }
            let mut tables: Vec<_> = tables.into_iter().map(|(key, of)| (key.as_str(), of)).collect();
            // The order of a JSON object's keys depends on how serde_json was built; messages must not.
            tables.sort_by_key(|(key, _)| *key);
            return Kind::Choice(names, tables);
        }
        if schema.get("enum").is_some() {
            return Kind::Choice(strings(schema.get("enum")).collect(), Vec::new());
        }
        match schema.get("type").and_then(Json::as_str) {
            Some("object") if schema.get("additionalProperties").is_some_and(Json::is_object) => {
                Kind::Named(&schema["additionalProperties"])
            }
            Some("object") => {
                static NONE: LazyLock<Map<String, Json>> = LazyLock::new(Map::new);
                let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&NONE);
                Kind::Table(properties, strings(schema.get("required")).collect())
            }
            Some("array") => Kind::List(schema.get("items").unwrap_or(&Json::Null)),
            Some("string") => Kind::Text,
            Some("integer") => {
                let (low, high) = match schema.get("format").and_then(Json::as_str) {
                    Some("uint8") => (0, u8::MAX.into()),
                    Some("uint16") => (0, u16::MAX.into()),
                    Some("uint32") => (0, u32::MAX.into()),
                    Some("uint64" | "uint") => (0, u64::MAX.into()),
                    Some("int32") => (i32::MIN.into(), i32::MAX.into()),
                    _ => (i64::MIN.into(), i64::MAX.into()),
                };
                let asked = |key| schema.get(key).and_then(Json::as_i64).map(i128::from);
                Kind::Integer(asked("minimum").unwrap_or(low).max(low), asked("maximum").unwrap_or(high).min(high))
            }
            Some("number") => Kind::Number,
            Some("boolean") => Kind::Boolean,
            _ => Kind::Anything,
        }
    }

    /// `node` as JSON that fits `schema`; where it does not, says so and takes a stand-in. `name` is its key.
    fn fit(&mut self, schema: &'s Json, node: &Node, path: &str, name: &str) -> Json {
        // What is left of a value that a syntax error has cut says nothing.
        if self.lost.contains(path) {
            return self.stand_in(schema, 0);
        }
        let (definition, definition_name) = self.resolve(schema);
        let doubts = self.in_doubt.len();
        let found = match (self.kind(definition), &node.value) {
            (Kind::Table(properties, required), Value::Table(entries)) => {
                Some(self.table(definition, properties, &required, entries, node, path))
            }
            (Kind::Named(of), Value::Table(entries)) => {
                let named = |Entry { key, node, .. }: &Entry| (key.clone(), self.fit(of, node, &join(path, key), key));
                Some(Json::Object(entries.iter().map(named).collect()))
            }
            (Kind::Choice(names, tables), Value::String(text)) => {
                if !names.contains(&text.as_str()) {
                    return self.unknown_name(schema, node, path, name, (text, &names, &tables));
                }
                Some(json!(text))
            }
            (Kind::Choice(_, tables), Value::Table(entries)) if !tables.is_empty() => {
                return self.choice(schema, definition_name, &tables, entries, node, path, name);
            }
            (Kind::List(items), Value::Array(nodes)) => {
                let list =
                    nodes.iter().enumerate().map(|(i, item)| self.fit(items, item, &join(path, &i.to_string()), name));
                Some(Json::Array(list.collect()))
            }
            // A list that may be written as one table.
            (Kind::List(items), Value::Table(_)) if definition.get(schema::ONE_OR_MANY).is_some() => {
                Some(json!([self.fit(items, node, &join(path, "0"), name)]))
            }
            // `[deployment]` instead of `[[deployment]]`: say so, and read it as a list of one.
            (Kind::List(items), Value::Table(_)) if matches!(self.kind(self.resolve(items).0), Kind::Table(..)) => {
                let rule = format!("`{name}` is one table, but there may be several of them");
                self.report.add(node.span.start, rule, format!("write `[[{name}]]`"));
                Some(json!([self.fit(items, node, &join(path, "0"), name)]))
            }
            (Kind::Text, Value::String(text)) => Some(json!(text)),
            (Kind::Boolean, Value::Boolean(b)) => Some(json!(b)),
            (Kind::Number, Value::Float(x)) if x.is_finite() => Some(json!(x)),
            (Kind::Number, Value::Integer(n)) => Some(json!(*n as f64)),
            (Kind::Integer(low, high), Value::Integer(n)) => {
                if (low..=high).contains(n) {
                    u64::try_from(*n).map(Json::from).or(i64::try_from(*n).map(Json::from)).ok()
                } else {
                    let rule =
                        format!("`{name}` is {}; it must be from {low} to {high}", self.source.slice(&node.span));
                    let hint = format!("for example `{name} = {}`", self.example_of(schema));
                    return self.stand_in_for(schema, node, path, rule, Some(hint));
                }
            }
            _ => None,
        };
        match found {
            None => self.wrong_type(schema, definition_name, node, path, name),
            Some(json) if self.in_doubt.len() == doubts => self.read(schema, definition_name, json, node, path, name),
            Some(json) => json,
        }
    }

    /// Lets the definition's own reader judge what has the right shape.
    fn read(&mut self, schema: &'s Json, definition: &str, json: Json, node: &Node, path: &str, name: &str) -> Json {
        let Some(reader) = READERS.iter().find(|reader| (reader.definition)() == definition) else { return json };
        match (reader.read)(&json) {
            Ok(()) => json,
            Err(rule) => {
                // `… is not a duration; write …` reads as rule and remedy.
                let (rule, hint) = match rule.split_once("; ") {
                    Some((rule, hint)) => (rule.to_owned(), Some(hint.to_owned())),
                    None => (rule, None),
                };
                let hint =
                    hint.or_else(|| example(definition).map(|example| format!("for example `{name} = {example}`")));
                self.stand_in_for(schema, node, path, rule, hint)
            }
        }
    }

    fn table(
        &mut self,
        schema: &'s Json,
        properties: &'s Map<String, Json>,
        required: &[&'s str],
        entries: &[Entry],
        node: &Node,
        path: &str,
    ) -> Json {
        let mut json = Map::new();
        // A map, whose keys are the writer's own.
        let any_key = schema.get("additionalProperties").filter(|of| of.is_object());
        for Entry { key, key_span, node } in entries {
            let Some(of) = properties.get(key).or(any_key) else {
                let rule = format!("unknown key `{key}` in {}", table_name(path));
                let mut known: Vec<&str> = properties.keys().map(String::as_str).collect();
                known.sort_unstable();
                let hint = did_you_mean(key, known, "this table has no keys");
                self.report.add(key_span.start, rule, hint);
                // A misspelt `replicas` is no reason to complain about the default that takes its place.
                self.in_doubt.extend(closest(key, properties).map(|meant| join(path, meant)));
                continue;
            };
            let value = self.fit(of, node, &join(path, key), key);
            // What has a default gets that one in place of a stand-in, so that later checks see something sensible.
            if required.contains(&key.as_str()) || !self.in_doubt.contains(&join(path, key)) {
                json.insert(key.clone(), value);
            }
        }
        for key in required {
            if json.contains_key(*key) {
                continue;
            }
            let place = join(path, key);
            let of = &schema["properties"][*key];
            if self.in_doubt.insert(place) {
                let text = of.get("description").and_then(Json::as_str);
                let rule = format!("{} has no `{key}`", table_name(path));
                let hint = text.map(|text| format!("`{key}`: {}", text.split('\n').next().unwrap_or("")));
                self.report.add(node.span.start, rule, hint);
            }
            json.insert((*key).to_owned(), self.stand_in(of, 0));
        }
        Json::Object(json)
    }

    /// `{ exponential = "10ms" }`: exactly one key, which says what the value is.
    #[expect(clippy::too_many_arguments, reason = "all of them are where and what is being looked at")]
    fn choice(
        &mut self,
        schema: &'s Json,
        definition: &str,
        tables: &[(&'s str, &'s Json)],
        entries: &[Entry],
        node: &Node,
        path: &str,
        name: &str,
    ) -> Json {
        let known = || tables.iter().map(|(key, _)| *key);
        let (mut json, doubts) = (Map::new(), self.in_doubt.len());
        for Entry { key, key_span, node } in entries {
            match tables.iter().find(|(of, _)| of == key) {
                Some((_, of)) => {
                    let value = self.fit(of, node, &join(path, key), key);
                    json.insert(key.clone(), value);
                }
                None => {
                    let rule = format!("unknown key `{key}` in {}", table_name(path));
                    self.report.add(key_span.start, rule, did_you_mean(key, known(), ""));
                    self.in_doubt.insert(path.to_owned());
                }
            }
        }
        if json.len() == 1 {
            let json = Json::Object(json);
            return match self.in_doubt.len() == doubts {
                true => self.read(schema, definition, json, node, path, name),
                false => json,
            };
        }
        if json.len() > 1 || entries.is_empty() {
            let written = if json.is_empty() { "none" } else { "more than one" };
            let all = known().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            let rule = format!("`{name}` names {written}; it takes exactly one of {all}");
            return self.stand_in_for(schema, node, path, rule, Some("write the one that is meant".into()));
        }
        self.stand_in(schema, 0)
    }

    fn unknown_name(
        &mut self,
        schema: &'s Json,
        node: &Node,
        path: &str,
        name: &str,
        (text, names, tables): (&str, &[&'s str], &[(&'s str, &'s Json)]),
    ) -> Json {
        if let Some((key, of)) = tables.iter().find(|(key, _)| *key == text) {
            let rule = format!("`{name} = \"{text}\"` leaves out how much");
            let hint = format!("write `{name} = {{ {key} = {} }}`", self.example_of(of));
            return self.stand_in_for(schema, node, path, rule, Some(hint));
        }
        if names.is_empty() {
            return self.wrong_type(schema, "", node, path, name);
        }
        let rule = format!("`{name}` is \"{text}\", which is not one of those known");
        let hint = did_you_mean(text, names.iter().copied(), "");
        self.stand_in_for(schema, node, path, rule, Some(hint))
    }

    fn wrong_type(&mut self, schema: &'s Json, definition: &str, node: &Node, path: &str, name: &str) -> Json {
        let written = self.source.slice(&node.span);
        let written = match &node.value {
            Value::String(_) => "text".to_owned(),
            Value::Integer(_) | Value::Float(_) => format!("the number {written}"),
            Value::Boolean(_) => written.to_owned(),
            Value::Datetime => "a date or time of day".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        };
        let expected = match definition {
            "Duration" => "a duration is text with a unit",
            "Rate" => "a rate is text with a unit of time",
            "Bound" => "a bound is text with an operator or a range",
            "PodCount" => "a number of pods is text",
            _ => match self.kind(self.resolve(schema).0) {
                Kind::Table(..) | Kind::Named(_) => "it must be a table",
                Kind::Choice(_, tables) if tables.is_empty() => "it must be a name in quotes",
                Kind::Choice(names, _) if names.is_empty() => "it must be a table with one key",
                Kind::Choice(..) => "it must be a name in quotes, or a table with one key",
                Kind::List(_) => "it must be a list",
                Kind::Text => "it must be text in quotes",
                Kind::Integer(..) => "it must be a whole number",
                Kind::Number => "it must be a finite number",
                Kind::Boolean => "it must be true or false",
                Kind::Anything => "that does not fit here",
            },
        };
        // An element of a list has no key of its own.
        let element = path.rsplit('.').next().is_some_and(|step| step.parse::<usize>().is_ok());
        let subject = if element { format!("an element of `{name}`") } else { format!("`{name}`") };
        let hint = match (&node.value, definition) {
            (Value::Integer(n), "Duration") => format!("write a unit: \"{n}s\" or \"{n}ms\""),
            (Value::Integer(n), "PodCount") => format!("write \"{n}\""),
            (Value::Integer(n), "Rate") => format!("write \"{n}/s\""),
            (Value::Integer(n), "Bound") => format!("write \"== {n}\", \"<= {n}\" or \">= {n}\""),
            (Value::Array(_), _) if self.source.slice(&node.span).ends_with(&format!("{name}]]")) => {
                format!("write `[{name}]`")
            }
            _ if element => format!("for example `{name} = [{}]`", self.example_of(schema)),
            _ => format!("for example `{name} = {}`", self.example_of(schema)),
        };
        self.stand_in_for(schema, node, path, format!("{subject} is {written}; {expected}"), Some(hint))
    }

    fn stand_in_for(&mut self, schema: &'s Json, node: &Node, path: &str, rule: String, hint: Option<String>) -> Json {
        self.report.add(node.span.start, rule, hint);
        self.in_doubt.insert(path.to_owned());
        self.stand_in(schema, 0)
    }

    /// Something that fits. Schemas of ours are trees, so `depth` only guards against a definition that holds itself.
    fn stand_in(&self, schema: &'s Json, depth: usize) -> Json {
        if depth > 16 {
            return Json::Null;
        }
        let (definition, name) = self.resolve(schema);
        match (name, self.kind(definition)) {
            ("Duration", _) => json!("1s"),
            ("Rate", _) => json!("1/s"),
            ("Bound", _) => json!("== 0"),
            (_, Kind::Table(properties, required)) => {
                let entries = required
                    .iter()
                    .filter_map(|key| Some(((*key).to_owned(), self.stand_in(properties.get(*key)?, depth + 1))));
                Json::Object(entries.collect())
            }
            (_, Kind::Choice(names, tables)) => match (names.first(), tables.first()) {
                (Some(name), _) => json!(name),
                (None, Some((key, of))) => json!({*key: self.stand_in(of, depth + 1)}),
                (None, None) => Json::Null,
            },
            (_, Kind::Named(_)) => json!({}),
            (_, Kind::List(_)) => json!([]),
            (_, Kind::Text) => json!("x"),
            (_, Kind::Integer(low, _)) => json!(i64::try_from(low.max(1)).unwrap_or(1)),
            (_, Kind::Number) => json!(1.0),
            (_, Kind::Boolean) => json!(false),
            (_, Kind::Anything) => Json::Null,
        }
    }

    /// Something that fits, as TOML.
    fn example_of(&self, schema: &'s Json) -> String {
        let (definition, name) = self.resolve(schema);
        if let Some(example) = example(name) {
            return example.to_owned();
        }
        match self.kind(definition) {
            Kind::Choice(names, tables) => match (names.first(), tables.first()) {
                (Some(name), _) => format!("\"{name}\""),
                (None, Some((key, of))) => format!("{{ {key} = {} }}", self.example_of(of)),
                (None, None) => "…".into(),
            },
            Kind::Table(properties, required) => {
                let keys = required
                    .iter()
                    .filter_map(|key| Some(format!("{key} = {}", self.example_of(properties.get(*key)?))));
                let keys = keys.collect::<Vec<_>>().join(", ");
                if keys.is_empty() { "{}".into() } else { format!("{{ {keys} }}") }
            }
            Kind::Named(of) => format!("{{ name = {} }}", self.example_of(of)),
            Kind::List(items) => format!("[{}]", self.example_of(items)),
            Kind::Text => "\"server\"".into(),
            Kind::Integer(..) => "10".into(),
            Kind::Number => "1.5".into(),
            Kind::Boolean => "true".into(),
            Kind::Anything => "…".into(),
        }
    }
}

fn example(definition: &str) -> Option<&'static str> {
    match definition {
        "Duration" => Some("\"10s\""),
        "Rate" => Some("\"500/s\""),
        "Bound" => Some("\"<= 1.01\""),
        "PodCount" => Some("\"25%\""),
        _ => None,
    }
}

fn strings(list: Option<&Json>) -> impl Iterator<Item = &str> {
    list.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}

/// The key that a misspelt one stands for, if it is plain which.
fn closest<'s>(key: &str, properties: &'s Map<String, Json>) -> Option<&'s str> {
    let close =
        |known: &&str| known.len().abs_diff(key.len()) <= 8 && strsim::damerau_levenshtein(key, known) <= key.len() / 3;
    properties.keys().map(String::as_str).find(close)
}

/// A table as its author would call it: `strategy.0.proxy` is `[strategy.proxy]`.
fn table_name(path: &str) -> String {
    let steps: Vec<&str> = path.split('.').collect();
    let name = steps.iter().filter(|step| step.parse::<usize>().is_err()).copied().collect::<Vec<_>>().join(".");
    match steps.last() {
        _ if path.is_empty() => "the file's first part".into(),
        Some(step) if step.parse::<usize>().is_ok() => format!("[[{name}]]"),
        _ => format!("[{name}]"),
    }
}
