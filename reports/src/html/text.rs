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

/// First letter large, for a clause that becomes a sentence. Not for names: those keep their spelling.
pub(super) fn sentence_case(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
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
    fn names_are_cut_in_the_middle() {
        assert_eq!(shorten("server-0", 8), "server-0");
        assert_eq!(shorten("server-56dc579658-x4746", 12), "serve…-x4746");
    }
}
