//! One page about a run, readable from a file: no script, no request, everything escaped.
//!
//! The caller says what happened in a plain [`Report`]; this file only lays it out. Texts come from
//! the web, so the template escapes all of them, thumbnails are the only images (as `data:` URLs of
//! checked types), and a content security policy forbids everything but this page's own style.

use std::sync::LazyLock;

use anyhow::Context;
use anyhow::Result;
use minijinja::Environment;
use minijinja::Value;
use minijinja::context;
use minijinja::value::Serde;
use serde::Serialize;

use crate::audit::layout;
use crate::audit::layout::Layout;
use crate::audit::tally::Summary;
use crate::page;
use crate::sample::Tag;
use crate::sample::WordOrigin;

/// Everything the page shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Heading, for example the name of the run.
    pub title: String,
    /// One sentence under it.
    pub subtitle: String,
    /// What was run on what and how fast: name and value, in the order to be shown.
    pub facts: Vec<Fact>,
    /// The models and writers that took part.
    pub models: Vec<Model>,
    /// The stages, in order.
    pub funnel: Vec<Stage>,
    /// Why rows were rejected, the most frequent first.
    pub rejects: Vec<Rejects>,
    /// Figures of the refined rows.
    pub summary: Summary,
    /// Sampled rows.
    pub rows: Vec<Row>,
}

/// A name and a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Its value, as text.
    pub value: String,
}

/// A model that took part.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Model {
    /// `tagger`, `detector`, `captioner`, `writer`.
    pub role: String,
    /// Its name, with revision if known.
    pub name: String,
    /// SHA-256 of its main file or of its prompt, hex; empty if it has none.
    pub sha256: String,
}

/// A stage of the path.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Rows that came in.
    pub entered: u64,
    /// Rows rejected here.
    pub rejected: u64,
}

/// A reason for rejection.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rejects {
    /// Where.
    pub stage: String,
    /// Why.
    pub reason: String,
    /// How many rows.
    pub rows: u64,
}

/// A sampled row.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// Its key.
    pub key: String,
    /// A small picture: JPEG, PNG or WebP bytes.
    #[serde(skip)]
    pub thumbnail: Option<Vec<u8>>,
    /// What the web said.
    pub text_raw: Option<String>,
    /// What the captioner saw.
    pub text_synthetic: Option<String>,
    /// What the writer made of it.
    pub text_generated: Option<String>,
    /// The writer.
    pub writer: String,
    /// Where the content words of the generated text come from, in order.
    pub words: Vec<WordOrigin>,
    /// Tags of all models.
    pub tags: Vec<Tag>,
    /// The audit's score, 0..1.
    pub score: f32,
    /// The audit's named flags.
    pub flags: Vec<String>,
}

/// Writes the page.
pub fn render(report: &Report) -> Result<String> {
    let template = ENVIRONMENT.get_template(PAGE).context("the report's template is damaged")?;
    let style_hash = page::hash_of_style(STYLE);
    template
        .render(context! {
            report => Value::from(Serde(report)),
            layout => Value::from(Serde(Layout::of(report))),
            style => STYLE,
            style_hash,
        })
        .context("cannot lay out the report")
}

const PAGE: &str = "report.html";
const STYLE: &str = include_str!("report.css");

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = page::environment();
    environment.add_filter("thousands", layout::thousands);
    environment.add_filter("percent", layout::percent);
    environment
        .add_template(PAGE, include_str!("report.html"))
        .expect("the tests render this template");
    environment
});

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use sha2::Digest;
    use sha2::Sha256;

    use super::*;
    use crate::audit::Config;
    use crate::audit::Texts;
    use crate::audit::audit;
    use crate::audit::place::Place;
    use crate::audit::stems::Stems;
    use crate::audit::tally;
    use crate::audit::tally::Tally;

    const HOSTILE: &str =
        "<script>alert(1)</script>\"' onload=x src=http://evil.example/a.png {{ 123*1001 }}";

    fn report_of(text: &str) -> Report {
        let tags = [Tag { label: text.to_owned(), score: 0.5, bbox: None, model: Arc::from(text) }];
        let texts = Texts {
            raw: Some(text),
            synthetic: Some(text),
            generated: Some(text),
            tags: &tags,
            references: &[],
            near: &[],
        };
        let audit = audit(&Config::default(), &texts);
        let mut tally = Tally::default();
        for row in 0..2 {
            let row = tally::Row {
                key: text,
                place: Place { shard: 0, row },
                texts,
                stems: &Stems::of(&texts),
                audit: &audit,
                fit: None,
                nsfw: None,
                model: Some(text),
                prompt: Some(text),
            };
            tally.add(&row);
        }
        let own = || text.to_owned();
        Report {
            title: own(),
            subtitle: own(),
            facts: vec![Fact { name: own(), value: own() }],
            models: vec![Model { role: own(), name: own(), sha256: own() }],
            funnel: vec![Stage { name: own(), entered: 1_234_567, rejected: 7 }],
            rejects: vec![Rejects { stage: own(), reason: own(), rows: 7 }],
            summary: tally.summary(10),
            rows: vec![Row {
                key: own(),
                thumbnail: Some(b"\x89PNG\r\n\x1a\n<script>".to_vec()),
                text_raw: Some(own()),
                text_synthetic: Some(own()),
                text_generated: Some(own()),
                writer: own(),
                words: audit.words,
                tags: tags.to_vec(),
                score: audit.score,
                flags: vec![own()],
            }],
        }
    }

    #[test]
    fn markup_in_any_text_stays_text() {
        let page = render(&report_of(HOSTILE)).unwrap();
        assert!(page.contains("&lt;script&gt;alert(1)"));
        let lower = page.to_lowercase();
        // Every tag of the page is one the template writes: no text opened another.
        for (at, _) in lower.match_indices('<') {
            let name: String = lower[at + 1..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || "/!".contains(*c))
                .collect();
            assert!(TAGS.contains(&name.trim_start_matches('/')), "<{name}");
        }
        for (at, _) in lower.match_indices("http:") {
            assert!(!lower[..at].ends_with("=\"") && !lower[..at].ends_with("=\'"));
        }
        assert!(!page.contains("123123"), "a template within a text was run");
    }

    const TAGS: [&str; 38] = [
        "!doctype", "html", "head", "meta", "title", "style", "body", "header", "main", "nav", "a",
        "section", "article", "h1", "h2", "h3", "p", "dl", "dt", "dd", "div", "span", "table",
        "thead", "tbody", "tr", "th", "td", "svg", "rect", "img", "ul", "li", "code", "footer",
        "ol", "strong", "mark",
    ];

    #[test]
    fn the_page_asks_nobody_for_anything() {
        let page = render(&report_of("A red cat.")).unwrap();
        assert!(page.contains("default-src 'none'"));
        for forbidden in
            ["src=\"http", "src=http", "href=\"http", "url(", "@import", "<script", "style=\""]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        let style = page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next());
        let hash = BASE64.encode(Sha256::digest(style.unwrap()));
        assert!(page.contains(&format!("'sha256-{hash}'")), "the policy would forbid the style");
    }

    #[test]
    fn an_empty_run_has_a_page_too() {
        let page = render(&Report { title: "empty".to_owned(), ..Report::default() }).unwrap();
        assert!(page.contains("<h1>empty</h1>"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn numbers_and_pictures_are_on_the_page() {
        let page = render(&report_of("A red cat.")).unwrap();
        assert!(page.contains("1\u{202f}234\u{202f}567"));
        assert!(page.contains("src=\"data:image/png;base64,"));
        let mut no_picture = report_of("A red cat.");
        no_picture.rows[0].thumbnail = Some(b"<svg onload=alert(1)>".to_vec());
        assert!(!render(&no_picture).unwrap().contains("<img"));
    }
}
