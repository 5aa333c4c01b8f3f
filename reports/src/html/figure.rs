//! A figure: the finding first, then how to read the plot, then the plot in both sizes.

use super::canvas::Size;
use super::text::{escape, keep_units};
use crate::verdict::sentence_case;

/// What a plot's module returns. All fields are plain text but `plot`, which is SVG.
#[derive(Debug, Clone, Default)]
pub(super) struct Figure {
    pub(super) finding: String,
    pub(super) how: String,
    pub(super) plot: String,
}

impl Figure {
    pub(super) fn html(&self) -> String {
        format!(
            "<figure><figcaption><strong>{}</strong> {}</figcaption>{}</figure>\n",
            escape(&keep_units(&self.finding)),
            escape(&keep_units(&self.how)),
            self.plot
        )
    }
}

/// A clause as the finding of a caption.
pub(super) fn finding(clause: &str) -> String {
    format!("{}.", sentence_case(clause))
}

/// Both sizes of a plot beside others in the wide column.
pub(super) fn main_sizes(wide_height: f64, narrow_height: f64) -> [Size; 2] {
    [
        Size { width: 776.0, height: wide_height, narrow: false },
        Size { width: 358.0, height: narrow_height, narrow: true },
    ]
}

/// Both sizes of a plot in the side column.
pub(super) fn side_sizes(wide_height: f64, narrow_height: f64) -> [Size; 2] {
    [
        Size { width: 424.0, height: wide_height, narrow: false },
        Size { width: 358.0, height: narrow_height, narrow: true },
    ]
}
