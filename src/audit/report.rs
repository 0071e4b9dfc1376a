//! One page about a run, readable from a file: no script, no request, everything escaped.
//!
//! The caller says what happened in a plain [`Report`]; this file only lays it out. Texts come from
//! the web, so the template escapes all of them, thumbnails are the only images (as `data:` URLs of
//! checked types), and a content security policy forbids everything but this page's own style.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
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
use crate::audit::place::Place;
use crate::audit::survey::Findings;
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
    /// What was paid for, where endpoints were asked.
    pub bill: Option<Bill>,
    /// The stages, in order.
    pub funnel: Vec<Stage>,
    /// Why rows were rejected, the most frequent first.
    pub rejects: Vec<Rejects>,
    /// What the refined rows are like.
    pub findings: Findings,
    /// Rows that were drawn at random.
    pub sampled: Vec<Place>,
    /// The rows of [`Report::places`].
    #[serde(skip)]
    pub rows: BTreeMap<Place, Row>,
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

/// What endpoints were paid for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bill {
    /// Answers, by all sessions of the run.
    pub answers: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Their own tokens.
    pub completion_tokens: u64,
    /// Money, where there are prices.
    pub money: Option<String>,
    /// The endpoints, in the last session.
    pub endpoints: Vec<Endpoint>,
}

/// How an endpoint was used.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Endpoint {
    /// Its address.
    pub base_url: String,
    /// Answers.
    pub answers: u64,
    /// Attempts without one.
    pub failed: u64,
    /// Those of them that it refused for being too many.
    pub refused: u64,
    /// Requests in flight at once in the end.
    pub concurrency: u64,
    /// Whether more would have brought no more answers a second.
    pub is_knee: bool,
    /// Whether more were not allowed.
    pub is_cap: bool,
    /// Why it was asked no more.
    pub out: Option<String>,
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
    /// A few of them.
    pub examples: Vec<Rejected>,
}

/// A row that was rejected.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rejected {
    /// Its key.
    pub key: String,
    /// The shard that it would be in.
    pub shard: u32,
    /// What the web said.
    pub text_raw: Option<String>,
    /// What exactly was wrong.
    pub detail: String,
}

/// A row that is shown.
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
    /// What each was raised for.
    pub evidence: Vec<String>,
}

impl Report {
    /// Where the rows are that the page shows, the more important ones first: some hundred, so that a
    /// page stays small whatever the number of rows.
    pub fn places(&self) -> Vec<Place> {
        layout::places(&self.findings, &self.sampled)
    }
}

/// Writes the page.
pub fn render(report: &Report) -> Result<String> {
    let template = ENVIRONMENT.get_template(PAGE).context("the report's template is damaged")?;
    let style_hash = page::hash_of_style(STYLE);
    let mixed_up = &report.findings.mixed_up;
    template
        .render(context! {
            report => Value::from(Serde(report)),
            layout => Value::from(Serde(Layout::of(report))),
            alike => Value::from(Serde(&report.findings.alike)),
            mixed_up => context! {
                mixed => mixed_up.mixed,
                tested => mixed_up.tested,
                rate => mixed_up.rate(),
                chance => mixed_up.chance(),
            },
            style => STYLE,
            style_hash,
        })
        .context("cannot lay out the report")
}

const PAGE: &str = "report.html";
const STYLE: &str = include_str!("report.css");

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = page::environment();
    environment.add_filter("thousands", page::thousands);
    environment.add_filter("percent", page::percent);
    environment
        .add_template(PAGE, include_str!("report.html"))
        .expect("the tests render this template");
    environment
});
