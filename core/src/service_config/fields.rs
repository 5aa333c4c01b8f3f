//! Messages of a service config whose fields are settings of ours: tables of what is called how, for both directions.

use serde_json::{Map, Value};

use super::ServiceConfigError;
use super::proto_json::{Object, duration};
use crate::{Code, Nanos};

/// A setting that both have.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) ours: &'static str,
    pub(super) theirs: &'static str,
    pub(super) kind: Kind,
}

/// What its value is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// bool and its wrapper.
    Bool,
    /// uint32, uint64 and their wrappers.
    Count,
    /// float, double and their wrappers.
    Number,
    /// google.protobuf.Duration.
    Duration,
    /// repeated google.rpc.Code, by name or number.
    Codes,
    /// string.
    Text,
    /// A message of its own, and ours with its defaults, whose fields may be more.
    Message(&'static [Field], fn() -> Value),
}

/// A row of a table.
pub(super) const fn field(ours: &'static str, theirs: &'static str, kind: Kind) -> Field {
    Field { ours, theirs, kind }
}

/// The settings that the message has, ready for the settings' own type. Fields that are in no row are ignored, as gRPC's
/// implementations do.
pub(super) fn read(message: &Object<'_>, fields: &[Field]) -> Result<Map<String, Value>, ServiceConfigError> {
    let mut settings = Map::new();
    for field in fields {
        let value = match field.kind {
            Kind::Bool => message.bool(field.theirs)?.map(Value::from),
            Kind::Count => message.count(field.theirs)?.map(Value::from),
            Kind::Number => message.number(field.theirs)?.map(Value::from),
            Kind::Duration => message.duration(field.theirs)?.map(|time| exact(time).into()),
            Kind::Codes => message.list(field.theirs)?.map(|list| codes(message, field.theirs, list)).transpose()?,
            Kind::Text => message.text(field.theirs)?.map(Value::from),
            Kind::Message(fields, _) => {
                message.object(field.theirs)?.map(|inner| read(&inner, fields)).transpose()?.map(Value::from)
            }
        };
        settings.extend(value.map(|value| (field.ours.to_owned(), value)));
    }
    Ok(settings)
}

/// The message that has these settings, and those that it has no field for.
pub(super) fn write(settings: Map<String, Value>, fields: &[Field]) -> (Map<String, Value>, Map<String, Value>) {
    let (mut message, mut rest) = (Map::new(), Map::new());
    for (setting, value) in settings {
        match fields.iter().find(|field| field.ours == setting) {
            None => rest.insert(setting, value),
            Some(_) if value.is_null() => None,
            Some(Field { theirs, kind: Kind::Duration, .. }) => {
                let time: Option<Nanos> = value.as_str().and_then(|text| text.parse().ok());
                message.insert((*theirs).to_owned(), time.map_or(value, |time| duration(time).into()))
            }
            Some(Field { theirs, kind: Kind::Message(fields, default), .. }) => {
                let default = default();
                let mut changed = value.as_object().cloned().unwrap_or_default();
                changed.retain(|setting, value| default.get(setting.as_str()) != Some(value));
                let (inner, lost) = write(changed, fields);
                rest.extend(lost.into_iter().map(|(inner, value)| (format!("{setting}.{inner}"), value)));
                message.insert((*theirs).to_owned(), inner.into())
            }
            Some(field) => message.insert(field.theirs.to_owned(), value),
        };
    }
    (message, rest)
}

fn codes(message: &Object<'_>, name: &str, list: &[Value]) -> Result<Value, ServiceConfigError> {
    let code = |(i, value): (usize, &Value)| {
        let number = value.as_u64().and_then(|n| Code::ALL.get(usize::try_from(n).ok()?).copied());
        let code = number.or_else(|| value.as_str().and_then(|name| name.parse().ok()));
        let code =
            code.ok_or_else(|| message.error(&format!("{name}[{i}]"), format_args!("{value} is no status code")));
        code.map(|code| Value::from(code.name()))
    };
    list.iter().enumerate().map(code).collect()
}

/// A time that a scenario's language reads to the nanosecond.
fn exact(time: Nanos) -> String {
    format!("{}ns", time.0)
}
