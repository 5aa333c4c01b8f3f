//! A thin layer over plotters' SVG backend: CSS pixels as `f64` in, a lean inline SVG out.
//!
//! The backend counts in whole pixels, so plots are drawn at twice their size and scaled back by the view box: half a
//! pixel is fine enough for a line. What the style sheet says anyway (font, size, opacity 1, no fill of a line) is cut
//! from the SVG, and neighbouring rectangles of one colour become one path: a heat map is mostly its rectangles.

use std::fmt::Write as _;

use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle};

use super::colour::Rgb;
use super::text::escape;

const SCALE: f64 = 2.0;

/// A plot is drawn twice: for a wide column and for a phone; the style sheet shows the one that fits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) narrow: bool,
}

/// Which side of the text its point is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// What is drawn on.
pub(super) struct Canvas<'a> {
    backend: SVGBackend<'a>,
}

/// Draws one SVG; `label` is what a reader who does not see it is told.
pub(super) fn svg(size: Size, class: &str, label: &str, draw: impl FnOnce(&mut Canvas<'_>)) -> String {
    let mut raw = String::new();
    let pixels = |x: f64| (x * SCALE).round().clamp(1.0, 20_000.0) as u32;
    let (width, height) = (pixels(size.width), pixels(size.height));
    {
        let mut canvas = Canvas { backend: SVGBackend::with_string(&mut raw, (width, height)) };
        draw(&mut canvas);
        // Writing to a string cannot fail.
        let _ = canvas.backend.present();
    }
    let fit = if size.narrow { "narrow" } else { "wide" };
    let head = format!(
        "<svg class=\"{fit} {class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escape(label)
    );
    head + &lean(&raw)
}

impl Canvas<'_> {
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: Rgb, width: f64) {
        let _ = self.backend.draw_line(at(from), at(to), &stroke(colour, width));
    }

    pub(super) fn path(&mut self, points: &[(f64, f64)], colour: Rgb, width: f64) {
        let _ = self.backend.draw_path(points.iter().copied().map(at), &stroke(colour, width));
    }

    pub(super) fn area(&mut self, points: &[(f64, f64)], colour: Rgb) {
        let _ = self.backend.fill_polygon(points.iter().copied().map(at), &rgb(colour));
    }

    /// An area that what is below shines through.
    pub(super) fn veil(&mut self, points: &[(f64, f64)], colour: Rgb) {
        let _ = self.backend.fill_polygon(points.iter().copied().map(at), &rgb(colour).mix(0.22));
    }

    pub(super) fn rect(&mut self, from: (f64, f64), to: (f64, f64), colour: Rgb) {
        let ((x0, y0), (x1, y1)) = (at(from), at(to));
        let (from, to) = ((x0.min(x1), y0.min(y1)), (x0.max(x1), y0.max(y1)));
        let _ = self.backend.draw_rect(from, to, &rgb(colour), true);
    }

    /// The middle of the text's height is at `point`.
    pub(super) fn text(&mut self, point: (f64, f64), text: &str, anchor: Anchor, colour: Rgb) {
        self.write(point, text, anchor, colour, FontStyle::Normal);
    }

    pub(super) fn bold(&mut self, point: (f64, f64), text: &str, anchor: Anchor, colour: Rgb) {
        self.write(point, text, anchor, colour, FontStyle::Bold);
    }

    fn write(&mut self, point: (f64, f64), text: &str, anchor: Anchor, colour: Rgb, weight: FontStyle) {
        let h = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let font = ("sans-serif", 24).into_font().style(weight);
        let ink = rgb(colour);
        let style = TextStyle::from(font).color(&ink).pos(Pos::new(h, VPos::Center));
        let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = self.backend.draw_text(&clean, &style, at(point));
    }
}

fn rgb((r, g, b): Rgb) -> RGBColor {
    RGBColor(r, g, b)
}

fn stroke(colour: Rgb, width: f64) -> ShapeStyle {
    rgb(colour).stroke_width((width * SCALE).round().max(1.0) as u32)
}

/// Far beyond any plot, near enough that differences stay in range.
fn at((x, y): (f64, f64)) -> (i32, i32) {
    let whole = |v: f64| (v * SCALE).round().clamp(-40_000.0, 40_000.0) as i32;
    (whole(x), whole(y))
}

/// Cuts what the style sheet says and joins rectangles. Works on the backend's own lines: one element each, a text's
/// content on a line of its own, where `<`, `>` and `"` are escaped.
fn lean(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut open: Option<(String, String)> = None;
    let mut in_text = false;
    for line in raw.lines().skip(1) {
        if let Some((fill, step)) = rectangle(line) {
            match &mut open {
                Some((colour, path)) if *colour == fill => path.push_str(&step),
                _ => {
                    close_path(&mut out, open.take());
                    open = Some((fill, step));
                }
            }
            continue;
        }
        close_path(&mut out, open.take());
        if in_text && !line.starts_with("</text>") {
            out.push_str(line);
            continue;
        }
        let mut line = line.to_owned();
        in_text = line.starts_with("<text ");
        for noise in [" opacity=\"1\"", " font-family=\"sans-serif\"", " dy=\"0.5ex\"", " text-anchor=\"start\""] {
            line = line.replacen(noise, "", 1);
        }
        if line.starts_with("<polyline") {
            line = line.replacen(" fill=\"none\"", "", 1).replacen(" \"/>", "\"/>", 1);
        }
        if let Some(start) = line.find(" font-size=\"") {
            let end = line[start + 12..].find('"').map_or(line.len(), |i| start + 12 + i + 1);
            line.replace_range(start..end, "");
        }
        out.push_str(&line);
        if !in_text {
            out.push('\n');
        }
    }
    close_path(&mut out, open.take());
    out
}

fn close_path(out: &mut String, open: Option<(String, String)>) {
    if let Some((fill, path)) = open {
        let _ = writeln!(out, "<path fill=\"{fill}\" d=\"{path}\"/>");
    }
}

/// The colour of a filled rectangle and the path that draws it.
fn rectangle(line: &str) -> Option<(String, String)> {
    let rest = line.strip_prefix("<rect ")?;
    let value = |name: &str| {
        let start = rest.find(&format!("{name}=\""))? + name.len() + 2;
        rest[start..].split('"').next()
    };
    let (x, y) = (value("x")?, value("y")?);
    let (width, height) = (value("width")?, value("height")?);
    Some((value("fill")?.to_owned(), format!("M{x} {y}h{width}v{height}h-{width}z")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::colour::{INK, series};

    const SIZE: Size = Size { width: 10.0, height: 5.0, narrow: false };

    #[test]
    fn rectangles_of_one_colour_are_one_path() {
        let svg = svg(SIZE, "", "", |c| {
            c.rect((0.0, 0.0), (1.0, 1.0), series(0));
            c.rect((1.0, 0.0), (2.0, 1.0), series(0));
            c.rect((2.0, 1.0), (3.0, 0.0), series(1));
        });
        assert!(svg.contains("<path fill=\"#0072B2\" d=\"M0 0h2v2h-2zM2 0h2v2h-2z\"/>"), "{svg}");
        assert!(svg.contains("<path fill=\"#D55E00\" d=\"M4 0h2v2h-2z\"/>"), "{svg}");
    }

    #[test]
    fn text_is_escaped_and_far_points_do_not_overflow() {
        let svg = svg(SIZE, "", "a \"b\" <c>", |c| {
            c.text((1.0, 1.0), "</svg><script>&", Anchor::Start, INK);
            c.rect((f64::MIN, f64::MIN), (f64::MAX, f64::INFINITY), INK);
            c.line((f64::NAN, 0.0), (1e300, 1.0), INK, 1.0);
        });
        assert!(svg.contains(">&lt;/svg&gt;&lt;script&gt;&amp;</text>"), "{svg}");
        assert!(svg.contains("aria-label=\"a &quot;b&quot; &lt;c&gt;\""), "{svg}");
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
    }
}
