//! How figures are spelt: three significant digits, thousands separators, a real minus sign.

/// `41,203`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Three significant digits, never an exponent below 10¹⁵: `0.0123`, `1.50`, `46.2`, `1,230`.
pub(crate) fn sig3(x: f64) -> String {
    if !x.is_finite() {
        return "–".to_owned();
    }
    let a = x.abs();
    let sign = if x < 0.0 { "−" } else { "" };
    let text = if a == 0.0 {
        return "0".to_owned();
    } else if a < 0.0005 {
        return format!("{sign}<0.001");
    } else if a < 0.9995 {
        // 0.0462 keeps two leading zeros and three digits: 4 decimals; below 0.01 we stop at 4.
        trim(if a < 0.09995 { format!("{a:.4}") } else { format!("{a:.3}") })
    } else if a < 9.995 {
        format!("{a:.2}")
    } else if a < 99.95 {
        format!("{a:.1}")
    } else if a < 1e15 {
        count(a.round() as u64)
    } else {
        format!("{a:.2e}")
    };
    format!("{sign}{text}")
}

/// A tick or a moment: like [`sig3`] without zeros at the end, and whole numbers in full (`125.5`, `60`, `1,200`).
pub(crate) fn short(x: f64) -> String {
    if !x.is_finite() {
        return "–".to_owned();
    }
    if x.abs() < 1e15 && (x - x.round()).abs() < 1e-9 {
        let sign = if x.round() < 0.0 { "−" } else { "" };
        return format!("{sign}{}", count(x.round().abs() as u64));
    }
    if (100.0..10_000.0).contains(&x.abs()) {
        let sign = if x < 0.0 { "−" } else { "" };
        let tenths = (x.abs() * 10.0).round() as u64;
        return match tenths % 10 {
            0 => format!("{sign}{}", count(tenths / 10)),
            t => format!("{sign}{}.{t}", count(tenths / 10)),
        };
    }
    let text = sig3(x);
    if text.contains('.') && !text.contains(['<', 'e']) { trim(text) } else { text }
}

/// What is held against a bound: five significant digits without zeros at the end (`0.33341`, `41,203`), so that a
/// figure just beyond its bound does not read like the bound.
pub(crate) fn sig5(x: f64) -> String {
    let a = x.abs();
    let decimals = match a {
        _ if !(0.000_005..10_000.0).contains(&a) => return short(x),
        _ if a < 1.0 => 5,
        _ if a < 10.0 => 4,
        _ if a < 100.0 => 3,
        _ if a < 1000.0 => 2,
        _ => 1,
    };
    let text = trim(format!("{a:.decimals$}"));
    if x < 0.0 { format!("−{text}") } else { text }
}

fn trim(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A part of one as percent: `0.03 %`, `20 %`, `100 %`. What is not quite 0 or 100 is not spelt so.
pub(crate) fn percent(part: f64) -> String {
    let p = part * 100.0;
    if !p.is_finite() {
        "–".to_owned()
    } else if p > 99.95 && p < 100.0 {
        ">99.9 %".to_owned()
    } else if p > 0.0 && p < 0.005 {
        "<0.01 %".to_owned()
    } else if p.abs() < 9.95 {
        format!("{} %", trim_decimals(format!("{p:.2}")))
    } else {
        format!("{} %", trim_decimals(format!("{p:.1}")))
    }
}

fn trim_decimals(text: String) -> String {
    if text.contains('.') { trim(text) } else { text }
}

/// A change against a baseline: `−63 %`, `+4.2 %`, `±0 %`.
pub(crate) fn change(part: f64) -> String {
    let p = part * 100.0;
    if !p.is_finite() {
        return "–".to_owned();
    }
    let a = p.abs();
    let text = if a < 9.95 {
        format!("{a:.1}")
    } else if a < 1e15 {
        count(a.round() as u64)
    } else {
        format!("{a:.1e}")
    };
    match text.as_str() {
        "0.0" => "±0 %".to_owned(),
        t if p < 0.0 => format!("−{t} %"),
        t => format!("+{t} %"),
    }
}

/// A ratio to the mean, two decimals: `1.00`; a large one as [`sig3`].
pub(crate) fn ratio(x: f64) -> String {
    if x.abs() < 99.95 { format!("{x:.2}") } else { sig3(x) }
}

/// Decimals that [`sig3`] gives a figure.
pub(crate) fn decimals(x: f64) -> usize {
    match x.abs() {
        a if a < 0.09995 => 4,
        a if a < 0.9995 => 3,
        a if a < 9.995 => 2,
        a if a < 99.95 => 1,
        _ => 0,
    }
}

/// Half an interval's width to the figure's decimals, rounded up, so that it is never spelt narrower than it is: `±0.02`.
/// What comes of rounding alone, beside a figure of size `of`, is none.
pub(crate) fn half_width(half: f64, of: f64, decimals: usize) -> String {
    const SCALE: [f64; 5] = [1.0, 10.0, 100.0, 1000.0, 10_000.0];
    let decimals = decimals.min(4);
    if !half.is_finite() {
        "–".to_owned()
    } else if half <= of.abs() * 1e-12 {
        "±0".to_owned()
    } else if half >= 1000.0 {
        format!("±{}", sig3(half))
    } else {
        let up = (half * SCALE[decimals] - 1e-9).ceil() / SCALE[decimals];
        let text = format!("{up:.decimals$}");
        format!("±{}", trim_decimals(text))
    }
}

/// An end of a change's interval in percent, with its sign: rounded away from the interval (`up` or not), so that it is
/// never spelt narrower than it is, but not onto zero: what is said to differ must not read like nothing.
pub(crate) fn change_end(part: f64, up: bool) -> String {
    let p = part * 100.0;
    if !p.is_finite() {
        return "–".to_owned();
    }
    if p.abs() >= 1e12 {
        return change(part).trim_end_matches(" %").to_owned();
    }
    let decimals = usize::from(p.abs() < 9.95);
    let scale = if decimals == 1 { 10.0 } else { 1.0 };
    // A hair's breadth beyond a figure is that figure: 0.14 · 100 is 14.000000000000002.
    let steps = p * scale;
    let near = steps.round();
    let steps = match (steps - near).abs() < 1e-6 {
        true => near,
        false if up => steps.ceil(),
        false => steps.floor(),
    };
    let sign = if p < 0.0 { "−" } else { "+" };
    if p.abs() < 1e-9 {
        "±0".to_owned()
    } else if steps == 0.0 {
        format!("{sign}<0.1")
    } else if decimals == 1 {
        format!("{sign}{:.1}", steps.abs() / scale)
    } else {
        format!("{sign}{}", count(steps.abs() as u64))
    }
}

/// The interval of a change against a baseline, in percent: `[−16, −14]`.
pub(crate) fn change_interval(low: f64, high: f64) -> String {
    format!("[{}, {}]", change_end(low, false), change_end(high, true))
}

/// `2 pods`, `1 pod`.
pub(crate) fn plural(n: u64, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{} {word}s", count(n)) }
}

/// `a`, `a and b`, `a, b and c`; more than four are cut: `a, b, c and 3 more`.
pub(crate) fn list<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [head @ .., last] if names.len() <= 4 => format!("{} and {last}", head.join(", ")),
        many => format!("{} and {} more", many[..3].join(", "), many.len() - 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_significant_digits() {
        let cases = [
            (0.0, "0"),
            (0.0001, "<0.001"),
            (0.01234, "0.0123"),
            (0.5, "0.5"),
            (0.9999, "1.00"),
            (1.0, "1.00"),
            (9.999, "10.0"),
            (46.21, "46.2"),
            (99.96, "100"),
            (1234.5, "1,235"),
            (-3.0, "−3.00"),
            (f64::MAX, "1.80e308"),
        ];
        for (x, text) in cases {
            assert_eq!(sig3(x), text, "{x}");
        }
    }

    #[test]
    fn moments_and_ticks_have_no_zeros_at_the_end() {
        let cases = [(60.0, "60"), (0.1 + 0.2, "0.3"), (2.5, "2.5"), (1200.0, "1,200"), (125.52, "125.5"), (0.0, "0")];
        for (x, text) in cases {
            assert_eq!(short(x), text, "{x}");
        }
    }

    #[test]
    fn measured_figures_keep_five_digits() {
        let cases = [(0.0, "0"), (0.333_412, "0.33341"), (1.01, "1.01"), (1.0101, "1.0101"), (41_203.0, "41,203")];
        for (x, text) in cases {
            assert_eq!(sig5(x), text, "{x}");
        }
    }

    #[test]
    fn percents_never_round_to_nothing_or_all() {
        let cases = [
            (0.0, "0 %"),
            (0.00001, "<0.01 %"),
            (0.0003, "0.03 %"),
            (0.2, "20 %"),
            (0.9999, ">99.9 %"),
            (1.0, "100 %"),
        ];
        for (x, text) in cases {
            assert_eq!(percent(x), text, "{x}");
        }
    }

    #[test]
    fn changes_have_a_sign() {
        // 31 ms against 84 ms: 31/84 − 1 = −0.6309…
        assert_eq!(change(31.0 / 84.0 - 1.0), "−63 %");
        assert_eq!(change(0.042), "+4.2 %");
        assert_eq!(change(-0.0001), "±0 %");
        assert_eq!(change(12.5), "+1,250 %");
    }

    #[test]
    fn half_widths_have_their_figures_decimals_and_are_never_rounded_down() {
        let of = |half, mean| half_width(half, mean, decimals(mean));
        // 0.011 beside 7.24 is 0.02.
        assert_eq!(of(0.011, 7.24), "±0.02");
        assert_eq!(of(0.31, 46.4), "±0.4");
        assert_eq!(of(0.3, 46.4), "±0.3");
        assert_eq!(of(0.3, 344.0), "±1");
        assert_eq!(of(0.0, 344.0), "±0");
        assert_eq!(of(1e-15, 344.0), "±0");
        assert_eq!(of(f64::INFINITY, 1.0), "–");
        assert_eq!(of(1234.0, 5000.0), "±1,234");
    }

    #[test]
    fn intervals_of_changes_are_never_rounded_narrower_or_onto_zero() {
        let cases = [
            (-0.151, -0.143, "[−16, −14]"),
            (-0.16, 0.012, "[−16, +1.2]"),
            (-0.14, 0.14, "[−14, +14]"),
            (-0.02, -0.0001, "[−2.0, −<0.1]"),
            (0.0, 0.0, "[±0, ±0]"),
            (0.0123, 12.501, "[+1.2, +1,251]"),
            (f64::NEG_INFINITY, 1e30, "[–, +1.0e32]"),
        ];
        for (low, high, text) in cases {
            assert_eq!(change_interval(low, high), text);
        }
    }

    #[test]
    fn lists_are_cut_after_three() {
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b"]), "a and b");
        assert_eq!(list(&["a", "b", "c", "d"]), "a, b, c and d");
        assert_eq!(list(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(7), "7");
        assert_eq!(count(41_203), "41,203");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }
}
