//! Whatever the text, the reader answers with a scenario or with errors that can be printed; it never panics.

use proptest::prelude::*;

const VALID: [&str; 2] = [include_str!("valid/headless-and-sidecar.toml"), include_str!("valid/everything.toml")];

/// Values of every type and notation, to be put where they do not belong.
const VALUES: &[&str] = &[
    "0",
    "-1",
    "3",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "true",
    "\"\"",
    "\"x\"",
    "\"10s\"",
    "\"500/s\"",
    "\"== 1\"",
    "\"client\"",
    "\"server\"",
    "\"584000y\"",
    "99999999999999999999999999999999999999999999",
    "0xFFFFFFFFFFFFFFFF",
    "1979-05-27T07:32:00Z",
    "07:32:00",
    "[]",
    "{}",
    "[[]]",
    "[{}]",
    "{ a = 1 }",
    "{ exponential = \"1ms\" }",
    "\"\"\"\n\"\"\"",
    "é",
    "",
];

/// Parses, and prints what was found.
fn reads(text: &str) {
    match scenarios::parse("x.toml", text) {
        Ok(scenario) => assert!(!scenario.strategies.is_empty()),
        Err(errors) => {
            assert!(!errors.problems().is_empty());
            let lines = text.split('\n').count();
            for problem in errors.problems() {
                let place = problem.place.as_ref().expect("a text that was read has places");
                assert!((1..=lines).contains(&place.line) && place.column >= 1);
                assert!(place.caret <= place.excerpt.chars().count(), "{place:?}");
            }
            assert!(!errors.to_string().chars().any(|c| c.is_control() && c != '\n'), "{errors}");
        }
    }
}

fn char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text(text in "(?s).{0,400}") {
        reads(&text);
    }

    #[test]
    fn any_text_in_the_alphabet_of_toml(text in "[a-z\\[\\]{}=\"'.,#\\\\0-9 \n\r\t-]{0,200}") {
        reads(&text);
    }

    #[test]
    fn a_slice_is_missing_or_something_else(which in 0..2usize, from in 0..3000usize, length in 0..80usize, put in "(?s).{0,12}") {
        let text = VALID[which];
        let from = char_boundary(text, from);
        let to = char_boundary(text, from + length).max(from);
        reads(&format!("{}{put}{}", &text[..from], &text[to..]));
    }

    #[test]
    fn values_are_of_another_type(
        which in 0..2usize,
        changes in prop::collection::vec((0..200usize, prop::sample::select(VALUES)), 1..6),
    ) {
        let mut lines: Vec<String> = VALID[which].lines().map(str::to_owned).collect();
        for (at, value) in changes {
            let at = at % lines.len();
            if let Some((key, _)) = lines[at].clone().split_once(" = ") {
                lines[at] = format!("{key} = {value}");
            }
        }
        reads(&lines.join("\n"));
    }

    #[test]
    fn lines_are_in_another_order(which in 0..2usize, swaps in prop::collection::vec((0..200usize, 0..200usize), 1..6)) {
        let mut lines: Vec<&str> = VALID[which].lines().collect();
        for (a, b) in swaps {
            let (a, b) = (a % lines.len(), b % lines.len());
            lines.swap(a, b);
        }
        reads(&lines.join("\n"));
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    reads(&format!("title = {}{}", "[".repeat(100_000), "]".repeat(100_000)));
    reads(&format!("title = {}", "{a=".repeat(100_000)));
    reads(&format!("{} = 1", vec!["a"; 100_000].join(".")));
    reads(&format!("[{}]", vec!["a"; 100_000].join(".")));
}

#[test]
fn many_mistakes_do_not_take_long_to_print() {
    let errors = scenarios::parse("x.toml", &"[[expect]]\nx=1\n".repeat(10_000)).unwrap_err();
    assert!(errors.problems().len() > 50_000);
    assert!(errors.to_string().len() < 100_000);
    let line = format!("title = [{}]", "1,".repeat(300_000));
    reads(&line);
}
