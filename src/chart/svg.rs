//! Pieces of an SVG file, everything escaped.

use std::fmt::Display;
use std::fmt::Write;

/// An SVG picture being written. Its units are pixels at the size that suits a page's column; a reader
/// may show it at any other.
pub(super) struct Svg {
    body: String,
}

/// Width of every figure.
pub(super) const WIDTH: f64 = 820.0;
/// Height of a letter.
pub(super) const LETTER: f64 = 12.0;

/// Where a text stands relative to its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Distinct for most colour-blind readers in this order; a contrast of 3 or more on white and on
/// nearly black.
const COLOURS: [&str; 8] =
    ["#3f7fd0", "#d9702a", "#2e9b63", "#9466d0", "#cf4f57", "#218f9c", "#a07d1f", "#c2569c"];

/// The colour of a series; after the last, the first again.
pub(super) fn colour(series: usize) -> &'static str {
    COLOURS[series % COLOURS.len()]
}

impl Svg {
    pub(super) fn new(height: f64, title: &str) -> Svg {
        let mut svg = Svg { body: String::new() };
        svg.push(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" \
             viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"100%\" \
             font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif\" \
             font-size=\"{LETTER}\" fill=\"currentColor\">\n<title>{}</title>\n",
            escaped(title)
        ));
        svg
    }

    pub(super) fn push(&mut self, markup: impl Display) {
        // Writing into a String cannot fail.
        let _ = write!(self.body, "{markup}");
    }

    pub(super) fn heading(&mut self, x: f64, y: f64, text: &str) {
        let text = escaped(text);
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"15\" font-weight=\"600\">{text}</text>\n"
        ));
    }

    /// A quiet text, as of axes.
    pub(super) fn label(&mut self, x: f64, y: f64, anchor: Anchor, text: &str) {
        let (anchor, text) = (anchor.word(), escaped(text));
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill-opacity=\"0.7\">\
             {text}</text>\n"
        ));
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, text: &str) {
        let (anchor, text) = (anchor.word(), escaped(text));
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n"
        ));
    }

    /// A line of the ink around the figure, as faint as `opacity` says.
    pub(super) fn rule(&mut self, from: (f64, f64), to: (f64, f64), opacity: f64) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"currentColor\" \
             stroke-opacity=\"{opacity}\" fill=\"none\"/>\n"
        ));
    }

    /// The names of the series beside their colours, in as many lines as they need; the height that
    /// they take.
    pub(super) fn legend(&mut self, x: f64, y: f64, names: &[&str]) -> f64 {
        let (mut at, mut line) = (x, y);
        for (series, name) in names.iter().enumerate() {
            let width = 30.0 + width_of(name);
            if at > x && at + width > WIDTH {
                (at, line) = (x, line + LINE);
            }
            self.push(format_args!(
                "<rect x=\"{at:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"3\" fill=\"{}\"/>\n",
                line - 10.0,
                colour(series)
            ));
            self.text(at + 18.0, line, Anchor::Start, name);
            at += width + 10.0;
        }
        if names.is_empty() { 0.0 } else { line - y + LINE }
    }

    pub(super) fn finish(mut self) -> String {
        self.body.push_str("</svg>\n");
        self.body
    }
}

/// From one line of text to the next.
pub(super) const LINE: f64 = 20.0;

impl Anchor {
    fn word(self) -> &'static str {
        match self {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        }
    }
}

/// About the width of a text; fonts differ, so a little more than most need.
pub(super) fn width_of(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER * 0.57
}

/// A text that is no longer than so many letters; the end of names tells them apart more often than
/// their middle.
pub(super) fn shortened(text: &str, letters: usize) -> String {
    let all: Vec<char> = text.chars().collect();
    if all.len() <= letters {
        return text.to_owned();
    }
    let tail = letters / 2;
    let head: String = all[..letters - tail - 1].iter().collect();
    let tail: String = all[all.len() - tail..].iter().collect();
    format!("{head}…{tail}")
}

pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no place for control characters, not even escaped.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_shortened_in_the_middle() {
        assert_eq!(escaped("<a b=\"c\">&\u{0}"), "&lt;a b=&quot;c&quot;&gt;&amp; ");
        assert_eq!(shortened("abcdefghij", 10), "abcdefghij");
        assert_eq!(shortened("abcdefghijk", 6), "ab…ijk");
    }
}
