//! Text from a record becomes text on the page: escaped, never markup.

/// Escapes for element content and quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters have no place in HTML text.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Like [`escape`], but lines and tabs stay: for a file shown as it is.
pub(super) fn escape_lines(text: &str) -> String {
    let tab = |line: &str| line.split('\t').map(escape).collect::<Vec<_>>().join("\t");
    text.lines().map(tab).collect::<Vec<_>>().join("\n")
}

/// A figure and its unit stay on one line: "60 s", "31 ms", "20 %", "3.00 ×".
pub(super) fn keep_units(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for (i, c) in text.char_indices() {
        let unit = || text[i + 1..].split(|c: char| !(c.is_alphanumeric() || c == '%' || c == '×')).next();
        let glue = c == ' ' && before.is_ascii_digit() && matches!(unit(), Some("s" | "ms" | "%" | "×"));
        out.push(if glue { '\u{a0}' } else { c });
        before = c;
    }
    out
}

/// At most `max` characters, cut in the middle: a pod's name differs at its end.
pub(super) fn shorten(text: &str, max: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= max || max < 5 {
        return text.to_owned();
    }
    let tail = max / 2;
    let head = max - tail - 1;
    chars[..head].iter().chain(['…'].iter()).chain(&chars[chars.len() - tail..]).collect()
}

/// Rough width in CSS pixels at the plots' 12 px: an average, with room to spare.
pub(super) fn width_px(text: &str) -> f64 {
    text.chars()
        .map(|c| match c {
            'i' | 'l' | 'j' | '.' | ',' | ':' | ' ' | '-' | '|' | '\'' | 't' | 'f' | 'r' => 4.4,
            'm' | 'w' | 'M' | 'W' | '→' | '…' | '%' => 11.0,
            c if c.is_uppercase() => 8.6,
            _ => 7.0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        assert_eq!(escape("a<b>&\"c\"'\n"), "a&lt;b&gt;&amp;&quot;c&quot;&#39; ");
    }

    #[test]
    fn a_file_keeps_its_lines() {
        assert_eq!(escape_lines("a = \"<b>\"\r\n\tc\u{7}\n\n# d\n"), "a = &quot;&lt;b&gt;&quot;\n\tc \n\n# d");
    }

    #[test]
    fn units_stay_with_their_figures() {
        assert_eq!(
            keep_units("within 30 s of 3 servers, 5 × more, +4 %"),
            "within 30\u{a0}s of 3 servers, 5\u{a0}× more, +4\u{a0}%"
        );
        assert_eq!(keep_units("s 5 "), "s 5 ");
    }

    #[test]
    fn names_are_cut_in_the_middle() {
        assert_eq!(shorten("server-0", 8), "server-0");
        assert_eq!(shorten("server-56dc579658-x4746", 12), "serve…-x4746");
    }
}
