//! Durations on the command line, written as in a scenario: `30s`, `250ms`.

use std::time::Duration;

use lb_core::Nanos;

/// A duration, zero included. For clap's `value_parser`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let nanos: Nanos = text.parse().map_err(|e: lb_core::ParseNanosError| e.to_string())?;
    Ok(Duration::from_nanos(nanos.0))
}

/// A duration longer than zero. For clap's `value_parser`.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("`{text}` leaves no time at all; write a longer duration, such as \"1s\"")),
        longer => Ok(longer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_deadlines_need_a_length() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(duration("30").unwrap_err().starts_with("`30` is not a duration; write a number and a unit"));
        assert_eq!(
            positive_duration("0s").unwrap_err(),
            "`0s` leaves no time at all; write a longer duration, such as \"1s\""
        );
    }
}
