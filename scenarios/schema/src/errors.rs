//! What is wrong with a scenario file, where, and what to do about it.

use std::fmt;
use std::ops::Range;

/// More mistakes than this are counted, not printed: nobody reads on, and a hostile file could ask for gigabytes.
const PRINTED: usize = 200;
/// Characters of a line that are printed around the place; longer lines are cut.
const EXCERPT: usize = 160;

/// Every mistake in one scenario file, in the order of their places. Displays as plain text with carets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    file: String,
    problems: Vec<Problem>,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is; `None` if the file could not be read at all.
    pub place: Option<Place>,
    /// Who offends against which rule.
    pub rule: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// A place in a file and the line it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line (or what surrounds the place, if it is long), with tabs and control characters as single blanks.
    pub excerpt: String,
    /// Characters of `excerpt` before the place.
    pub caret: usize,
}

impl Errors {
    /// The file's name as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The mistakes, in the order of their places. There is at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The file as a whole cannot be used.
    pub(crate) fn of_file(file: &str, rule: String, hint: Option<String>) -> Self {
        Self { file: file.to_owned(), problems: vec![Problem { place: None, rule, hint }] }
    }

    pub(crate) fn at(file: &str, place: Place, rule: String, hint: Option<String>) -> Self {
        Self { file: file.to_owned(), problems: vec![Problem { place: Some(place), rule, hint }] }
    }
}

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.problems.iter().take(PRINTED) {
            match &problem.place {
                None => {
                    writeln!(f, "{}: {}", self.file, problem.rule)?;
                    if let Some(hint) = &problem.hint {
                        writeln!(f, "   = hint: {hint}")?;
                    }
                }
                Some(Place { line, column, excerpt, caret }) => {
                    let number = line.to_string();
                    let margin = " ".repeat(number.len());
                    writeln!(f, "{}:{line}:{column}: {}", self.file, problem.rule)?;
                    writeln!(f, "{margin} |")?;
                    writeln!(f, "{}", format!("{number} | {excerpt}").trim_end())?;
                    writeln!(f, "{margin} | {}^", " ".repeat(*caret))?;
                    if let Some(hint) = &problem.hint {
                        writeln!(f, "{margin} = hint: {hint}")?;
                    }
                }
            }
            writeln!(f)?;
        }
        if let Some(more) = self.problems.len().checked_sub(PRINTED).filter(|more| *more > 0) {
            writeln!(f, "… and {more} more\n")?;
        }
        match self.problems.len() {
            1 => write!(f, "1 error in {}", self.file),
            n => write!(f, "{n} errors in {}", self.file),
        }
    }
}

/// A text and where its lines start.
pub(crate) struct Source<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { text, starts }
    }

    /// Index, from 0, of the line that holds this byte.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The bytes of a line, without its end.
    pub(crate) fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.starts.get(line).copied().unwrap_or(self.text.len());
        let end = self.starts.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let text = &self.text[start..end];
        start..start + text.strip_suffix('\r').unwrap_or(text).len()
    }

    pub(crate) fn line(&self, line: usize) -> &'a str {
        &self.text[self.line_range(line)]
    }

    /// What stands at `span`; nothing if that is no part of the text.
    pub(crate) fn slice(&self, span: &Range<usize>) -> &'a str {
        self.text.get(span.clone()).unwrap_or("")
    }

    pub(crate) fn place(&self, offset: usize) -> Place {
        let line = self.line_of(offset);
        let range = self.line_range(line);
        // A byte order mark is no character of the first line.
        let text = &self.text[range.clone()];
        let (text, start) = text.strip_prefix('\u{feff}').map_or((text, range.start), |rest| (rest, range.start + 3));
        // An offset may be at the end of the line (something is missing there), never inside a character.
        let column = text.char_indices().take_while(|(i, _)| start + i < offset).count();
        let skipped = if column > EXCERPT / 2 && text.chars().count() > EXCERPT { column - EXCERPT / 2 } else { 0 };
        let mut excerpt = String::new();
        let mut rest = text.chars().skip(skipped);
        excerpt.extend((skipped > 0).then_some('…'));
        // One blank for a tab keeps the caret under its character; a blank for ESC keeps the terminal as it was.
        excerpt.extend(rest.by_ref().take(EXCERPT).map(|c| if c.is_control() { ' ' } else { c }));
        excerpt.extend(rest.next().map(|_| '…'));
        Place { line: line + 1, column: column + 1, excerpt, caret: column - skipped + usize::from(skipped > 0) }
    }
}

/// Gathers problems with their byte offsets while a file is looked at.
#[derive(Default)]
pub(crate) struct Report {
    found: Vec<(usize, String, Option<String>)>,
}

impl Report {
    pub(crate) fn add(&mut self, offset: usize, rule: impl Into<String>, hint: impl Into<Option<String>>) {
        self.found.push((offset, printable(rule.into()), hint.into().map(printable)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether there is already more than anyone reads: then looking for a good hint is not worth the time.
    pub(crate) fn is_long(&self) -> bool {
        self.found.len() > 10 * PRINTED
    }

    /// The problems in the order of their places; those of one place in the order they were found.
    pub(crate) fn into_errors(mut self, file: &str, source: &Source<'_>) -> Errors {
        self.found.sort_by_key(|(offset, ..)| *offset);
        self.found.dedup();
        // Beyond what is printed the excerpt would only cost memory.
        let problems = self.found.into_iter().enumerate().map(|(i, (offset, rule, hint))| {
            let place = if i < PRINTED {
                source.place(offset)
            } else {
                Place { line: source.line_of(offset) + 1, column: 1, excerpt: String::new(), caret: 0 }
            };
            Problem { place: Some(place), rule, hint }
        });
        Errors { file: file.to_owned(), problems: problems.collect() }
    }
}

/// What is quoted from a file may hold line ends, or ESC, which would command the terminal.
fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The candidate that was meant by what is written, if one is close.
pub fn closest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, closest) = candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(written.len()) <= 8)
        .map(|candidate| (strsim::damerau_levenshtein(written, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    // A third of the letters may differ: `replica`, `reqests.ok`, `sever`.
    (distance <= written.chars().count().max(3) / 3).then_some(closest)
}

/// A hint that names the candidate closest to `written`, or all of them if none is close.
pub(crate) fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>, none: &str) -> String {
    let candidates: Vec<&str> = candidates.into_iter().take(1000).collect();
    match closest(written, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if candidates.is_empty() => none.to_owned(),
        None => {
            let shown = candidates.iter().take(40).map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
            let more = if candidates.len() > 40 { ", …" } else { "" };
            if candidates.len() == 1 { format!("there is only {shown}") } else { format!("there are {shown}{more}") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_whatever_the_line_ends_with() {
        let source = Source::new("\u{feff}é = 1\r\n\tb = 2\n");
        let place = source.place(3 + "é = ".len());
        assert_eq!((place.line, place.column, place.excerpt.as_str()), (1, 5, "é = 1"));
        let place = source.place("\u{feff}é = 1\r\n\tb = ".len());
        assert_eq!((place.line, place.column, place.excerpt.as_str(), place.caret), (2, 6, " b = 2", 5));
        // The end of the text, as for an unclosed bracket.
        let place = source.place("\u{feff}é = 1\r\n\tb = 2\n".len());
        assert_eq!((place.line, place.column, place.excerpt.as_str()), (3, 1, ""));
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = "x".repeat(500) + "!" + &"y".repeat(500);
        let place = Source::new(&text).place(500);
        assert_eq!(place.column, 501);
        assert_eq!(place.excerpt.chars().nth(place.caret), Some('!'));
        assert!(place.excerpt.chars().count() <= EXCERPT + 2);
    }

    #[test]
    fn suggestions_are_close_or_complete() {
        assert_eq!(did_you_mean("replica", ["name", "replicas"], ""), "did you mean `replicas`?");
        assert_eq!(did_you_mean("zzz", ["name", "replicas"], ""), "there are `name`, `replicas`");
        assert_eq!(did_you_mean("zzz", [], "none is declared"), "none is declared");
    }
}
