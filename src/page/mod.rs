//! A page of facts, tables and figures, readable from a file: no script, no request, everything escaped.
//!
//! Reports of trainings, scores and comparisons are pages of this form. Figures are SVG of
//! [`chart`](crate::chart), which escapes what it writes; all other text is escaped here. A content
//! security policy forbids everything but the page's own style.

use std::sync::LazyLock;

use anyhow::Context;
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use minijinja::AutoEscape;
use minijinja::Environment;
use minijinja::UndefinedBehavior;
use minijinja::Value;
use minijinja::context;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

/// What a page shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Page {
    /// Heading.
    pub title: String,
    /// A sentence under it.
    pub subtitle: String,
    /// Names and values, in the order to be shown.
    pub facts: Vec<(String, String)>,
    /// The parts, in order.
    pub sections: Vec<Section>,
}

/// A part of a page.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// A sentence that says how it is to be read; may be empty.
    pub note: String,
    /// Figures, as SVG.
    pub figures: Vec<String>,
    /// A table.
    pub table: Option<Table>,
}

/// A table. The first column holds names, the others numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// What the columns are.
    pub head: Vec<String>,
    /// The rows, as many cells as the head.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// What stands in it.
    pub text: String,
    /// What stands smaller beside it, as an interval; may be empty.
    pub aside: String,
    /// Whether it stands out, as the best of its column.
    pub strong: bool,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell { text: text.to_owned(), ..Cell::default() }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell { text, ..Cell::default() }
    }
}

/// The page as HTML.
///
/// # Errors
/// None in practice: the template is tested.
pub fn render(page: &Page) -> Result<String> {
    let template = ENVIRONMENT.get_template(NAME).context("the page's template is damaged")?;
    let style_hash = hash_of_style(STYLE);
    let page = Value::from(Serde(page));
    template
        .render(context! { page, style => STYLE, style_hash })
        .context("cannot lay out the page")
}

/// Where templates of pages live, here and in other modules: everything is escaped, lines of statements
/// leave no trace.
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    // A misspelt name is an error here, not an empty place in somebody's page.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual delimiters are valid"));
    environment
}

/// What a content security policy calls a style that it allows, after `sha256-`.
pub fn hash_of_style(style: &str) -> String {
    BASE64.encode(Sha256::digest(style))
}

/// `1234567` with narrow spaces that do not break.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len());
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A share in 0..1 as `12.3 %`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.05 {
        return "<\u{202f}0.1\u{202f}%".to_owned();
    }
    format!("{percent:.1}\u{202f}%")
}

const NAME: &str = "page.html";
const STYLE: &str = include_str!("page.css");

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = environment();
    environment
        .add_template(NAME, include_str!("page.html"))
        .expect("the tests render this template");
    environment
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_figures_are_not() {
        let hostile = "<script>alert(1)</script> {{ 7*191 }}";
        let own = || hostile.to_owned();
        let page = Page {
            title: own(),
            subtitle: own(),
            facts: vec![(own(), own())],
            sections: vec![Section {
                heading: own(),
                note: own(),
                figures: vec!["<svg><path></path></svg>".to_owned()],
                table: Some(Table {
                    head: vec![own()],
                    rows: vec![vec![Cell { text: own(), aside: own(), strong: true }]],
                }),
            }],
        };
        let html = render(&page).unwrap();
        assert!(html.contains("<svg><path></path></svg>"));
        assert!(!html.contains("<script") && !html.contains("1337"));
        assert_eq!(html.matches("&lt;script&gt;").count(), 10, "{html}");
        for forbidden in ["src=", "href=", "url(", "@import", "style=\""] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        let style = html.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next());
        let hash = BASE64.encode(Sha256::digest(style.unwrap()));
        assert!(html.contains(&format!("'sha256-{hash}'")), "the policy would forbid the style");
    }

    #[test]
    fn numbers_are_written_for_people() {
        let numbers = [0, 12, 123, 1_234, 123_456, 1_234_567].map(thousands);
        let wanted = ["0", "12", "123", "1 234", "123 456", "1 234 567"];
        assert_eq!(numbers, wanted.map(|number| number.replace(' ', "\u{202f}")));
        let shares = [0.0, 0.0001, 0.123, 1.0].map(percent);
        let wanted = ["0.0 %", "< 0.1 %", "12.3 %", "100.0 %"];
        assert_eq!(shares, wanted.map(|share| share.replace(' ', "\u{202f}")));
    }

    #[test]
    fn an_empty_page_is_one() {
        assert!(render(&Page::default()).unwrap().contains("<h1>"));
    }
}
