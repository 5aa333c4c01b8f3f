//! Fixed colours: Okabe and Ito's set for series (colour-blind safe, with a dash each), viridis for heat.
//!
//! A plot is drawn in the colours of the light theme; the page's style sheet finds each by its value and replaces it by
//! the theme's. So every colour here is also a key, and no two may be equal.

use std::fmt::Write as _;

/// Red, green, blue.
pub(super) type Rgb = (u8, u8, u8);

/// Text and axes.
pub(super) const INK: Rgb = (0x11, 0x11, 0x11);
/// Secondary text.
pub(super) const MUTED: Rgb = (0x5A, 0x5A, 0x5A);
/// Grid lines.
pub(super) const GRID: Rgb = (0xDD, 0xDD, 0xDD);
/// The page behind the plot.
pub(super) const PAPER: Rgb = (0xFF, 0xFF, 0xFF);
/// Event lines.
pub(super) const EVENT: Rgb = (0x33, 0x33, 0x33);
/// What never happened.
pub(super) const NEVER: Rgb = (0xB0, 0x00, 0x20);

/// Okabe and Ito 2008, without yellow (too light for a line on white), in an order whose neighbours differ most.
const LIGHT: [Rgb; 7] = [
    (0x00, 0x72, 0xB2), // blue
    (0xD5, 0x5E, 0x00), // vermillion
    (0x00, 0x9E, 0x73), // bluish green
    (0xCC, 0x79, 0xA7), // reddish purple
    (0x56, 0xB4, 0xE9), // sky blue
    (0xE6, 0x9F, 0x00), // orange
    (0x00, 0x00, 0x00), // black
];

/// The same seven hues, lifted where a dark page would swallow them.
const DARK: [&str; 7] = ["#3d9bd8", "#ee7a28", "#1fb98d", "#d992ba", "#8fd0f5", "#f0b429", "#f2f2f2"];

/// Dashes in the plots' units (half a CSS pixel), by series index; the first is solid.
const DASHES: [&str; 7] = ["none", "18 7", "5 5", "22 6 5 6", "11 5", "22 6 5 6 5 6", "3 7"];

/// How many series are told apart by the style sheet.
pub(super) const SERIES: usize = 28;

/// Colour of a series. From the eighth on the hues come again; the low bits keep the keys, and so the dashes, apart.
pub(super) fn series(index: usize) -> Rgb {
    let (r, g, b) = LIGHT[index % LIGHT.len()];
    let round = (index % SERIES / LIGHT.len()) as u8;
    (r, g, b ^ round)
}

/// Rules that map the series' keys to the themes' variables and to dashes.
pub(super) fn series_rules(count: usize) -> String {
    let mut css = String::new();
    for index in 0..count.clamp(LIGHT.len(), SERIES) {
        let (key, hue) = (hex(series(index)), index % LIGHT.len());
        // A hue that comes again gets another dash.
        let dash = DASHES[(index + index / LIGHT.len()) % DASHES.len()];
        let _ =
            writeln!(css, "svg [fill=\"{key}\"]{{fill:var(--s{hue})}}svg [stroke=\"{key}\"]{{stroke:var(--s{hue})}}");
        let _ = writeln!(css, ".dashed [stroke=\"{key}\"]{{stroke-dasharray:{dash}}}");
    }
    css
}

/// `--s0:…;` for a theme.
pub(super) fn variables(dark: bool) -> String {
    let mut css = String::new();
    for (i, light) in LIGHT.iter().enumerate() {
        let value = if dark { DARK[i].to_owned() } else { hex(*light) };
        let _ = write!(css, "--s{i}:{value};");
    }
    css
}

/// `#0072B2`, as the SVG has it.
pub(super) fn hex((r, g, b): Rgb) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Viridis (van der Walt and Smith 2015) at nine points; between them straight lines in RGB.
const VIRIDIS: [Rgb; 9] = [
    (0x44, 0x01, 0x54),
    (0x47, 0x2D, 0x7B),
    (0x3B, 0x52, 0x8B),
    (0x2C, 0x72, 0x8E),
    (0x21, 0x91, 0x8C),
    (0x28, 0xAE, 0x80),
    (0x5E, 0xC9, 0x62),
    (0xAD, 0xDC, 0x30),
    (0xFD, 0xE7, 0x25),
];

/// Levels a heat map uses: enough for the eye, few enough that neighbours often share one.
pub(super) const HEAT_LEVELS: usize = 24;

/// The level of a value in 0..=1.
pub(super) fn heat_level(part: f64) -> usize {
    (part.clamp(0.0, 1.0) * (HEAT_LEVELS - 1) as f64).round() as usize
}

/// The colour of a level.
pub(super) fn heat(level: usize) -> Rgb {
    let at = level.min(HEAT_LEVELS - 1) as f64 / (HEAT_LEVELS - 1) as f64 * (VIRIDIS.len() - 1) as f64;
    let low = (at.floor() as usize).min(VIRIDIS.len() - 2);
    let part = at - low as f64;
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part).round() as u8;
    let (a, b) = (VIRIDIS[low], VIRIDIS[low + 1]);
    (mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_unique() {
        let mut keys: Vec<Rgb> = (0..SERIES).map(series).chain([INK, MUTED, GRID, PAPER, EVENT, NEVER]).collect();
        keys.extend((0..HEAT_LEVELS).map(heat));
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }

    #[test]
    fn heat_runs_from_end_to_end_of_viridis() {
        assert_eq!(heat(heat_level(0.0)), VIRIDIS[0]);
        assert_eq!(heat(heat_level(1.0)), VIRIDIS[8]);
        assert_eq!(heat_level(7.0), HEAT_LEVELS - 1);
    }
}
