//! The table and the expectations as text of at most 100 columns for usual names, 110 with intervals, which have lines
//! of their own below the figures. Colour only adds: the best figure of a
//! column in bold, ✓ in green, ✗ in red.

use crate::number::sig5;
use crate::record::{ExpectationRecord, RunRecord};
use crate::summary::{COLUMNS, Cell, cells, gaps, warm_up, words};
use crate::verdict::sentence_case;

/// Columns of the widest table whose names are whole.
const WIDE: usize = 110;

/// Columns that a name gets in a table that would be wider.
const NAME: usize = 16;

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// One row a strategy, then one entry an expectation. `colour` adds ANSI styles.
#[must_use]
pub fn table(record: &RunRecord, colour: bool) -> String {
    let mut out = comparison(record, colour);
    if !record.expectations.is_empty() {
        out.push('\n');
        out.push_str(&expectations(record.expectations.iter(), record.seed, colour));
    }
    out
}

/// The entries of the expectations that failed; nothing if all hold.
#[must_use]
pub fn failed(record: &RunRecord, colour: bool) -> String {
    expectations(record.expectations.iter().filter(|e| !e.holds), record.seed, colour)
}

fn comparison(record: &RunRecord, colour: bool) -> String {
    let cells = cells(record);
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|c| {
            let interval = |cell: &Cell| cell.interval.as_deref().map_or(0, width);
            let of_cells = cells.iter().map(|row| width(&row[c].text).max(interval(&row[c])));
            of_cells.chain([width(COLUMNS[c].head), width(COLUMNS[c].unit)]).max().unwrap_or_default()
        })
        .collect();
    let figures_width: usize = widths.iter().map(|w| w + 2).sum();
    let longest = record.strategies.iter().map(|s| width(&s.name)).max().unwrap_or_default();
    // Names that would make the table too wide go on in the next line, which intervals have anyway.
    let most = if longest + figures_width > WIDE { NAME } else { longest };
    let names: Vec<Vec<String>> = record.strategies.iter().map(|s| wrapped(&s.name, most)).collect();
    let name_width =
        names.iter().flatten().map(|part| width(part)).chain([width("strategy")]).max().unwrap_or_default();
    let mut out = String::new();
    line(&mut out, &left("strategy", name_width), COLUMNS.iter().zip(&widths).map(|(c, &w)| right(c.head, w)));
    line(&mut out, &left("", name_width), COLUMNS.iter().zip(&widths).map(|(c, &w)| right(c.unit, w)));
    for (name, row) in names.iter().zip(&cells) {
        let mut name = name.iter();
        let mut next = || left(name.next().map_or("", String::as_str), name_width);
        let figures = row.iter().zip(&widths).map(|(cell, &w)| figure(cell, w, colour));
        line(&mut out, &next(), figures);
        if row.iter().any(|cell| cell.interval.is_some()) {
            let intervals = row.iter().zip(&widths);
            let intervals = intervals.map(|(cell, &w)| right(cell.interval.as_deref().unwrap_or_default(), w));
            line(&mut out, &next(), intervals);
        }
        name.for_each(|part| line(&mut out, part, std::iter::empty()));
    }
    if let Some(words) = warm_up(record) {
        out.push_str(&format!("\n{}.\n", sentence_case(&words)));
    }
    if let Some(replications) = &record.replications {
        out.push_str(&format!(
            "\nMeans over {}; ± is half a 95 % interval, [ ] the 95 % interval of a change in %, paired by seed.\n",
            replications.words()
        ));
        gaps(record).iter().for_each(|gap| out.push_str(&format!("{gap}\n")));
    }
    out
}

fn line(out: &mut String, name: &str, figures: impl Iterator<Item = String>) {
    let mut text = name.to_owned();
    for figure in figures {
        text.push_str("  ");
        text.push_str(&figure);
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

fn figure(cell: &Cell, width: usize, colour: bool) -> String {
    let text = right(&cell.text, width);
    if colour && cell.best { format!("{BOLD}{text}{PLAIN}") } else { text }
}

fn expectations<'a>(list: impl Iterator<Item = &'a ExpectationRecord>, seed: u64, colour: bool) -> String {
    let mut out = String::new();
    for e in list {
        let (mark, style) = if e.holds { ("✓", GREEN) } else { ("✗", RED) };
        let mark = if colour { format!("{style}{mark}{PLAIN}") } else { mark.to_owned() };
        let spell = |measured: Option<f64>| measured.map_or_else(|| "nothing to measure".to_owned(), sig5);
        let (measured, seeds) = match &e.held {
            None => (spell(e.measured), String::new()),
            Some(held) => {
                let (seed, measured) = held.failed.as_ref().map_or((seed, e.measured), |f| (f.seed, f.measured));
                (format!("{} with seed {seed}", spell(measured)), format!(" ({} of {} seeds)", held.seeds, held.of))
            }
        };
        out.push_str(&format!("{mark} {}: {}{seeds}\n", e.strategy, words(e)));
        out.push_str(&format!("    {}: {measured}, expected {}\n", e.metric, e.bound));
    }
    out
}

/// A name in lines of at most `most` columns, cut behind its last "-" or space that fits, or else in the middle of a word.
fn wrapped(name: &str, most: usize) -> Vec<String> {
    let mut rest: Vec<char> = name.chars().collect();
    let mut lines = Vec::new();
    while rest.len() > most.max(1) {
        let fits = &rest[..most.max(1)];
        let cut = fits.iter().rposition(|c| matches!(c, '-' | ' ')).map_or(fits.len(), |at| at + 1);
        let tail = rest.split_off(cut);
        lines.push(rest.iter().collect::<String>().trim_end().to_owned());
        rest = tail;
    }
    lines.push(rest.into_iter().collect());
    lines
}

/// Columns on the terminal: all our own signs are one wide.
fn width(text: &str) -> usize {
    text.chars().count()
}

fn left(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

fn right(text: &str, width: usize) -> String {
    format!("{text:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_goes_on_in_the_next_line() {
        assert_eq!(wrapped("headless", 16), ["headless"]);
        assert_eq!(wrapped("synchronised-short-grace", 16), ["synchronised-", "short-grace"]);
        assert_eq!(wrapped("bad by time", 8), ["bad by", "time"]);
        assert_eq!(wrapped("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrapped("", 16), [""]);
        assert_eq!(wrapped("é-é", 0), ["é", "-", "é"]);
    }
}
