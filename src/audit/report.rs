//! One page about a run, readable from a file: no script, no request, everything escaped.
//!
//! The caller says what happened in a plain [`Report`]; this file only lays it out. Texts come from
//! the web, so the template escapes all of them, thumbnails are the only images (as `data:` URLs of
//! checked types), and a content security policy forbids everything but this page's own style.

use std::sync::LazyLock;

use anyhow::Context;
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use minijinja::AutoEscape;
use minijinja::Environment;
use minijinja::UndefinedBehavior;
use minijinja::context;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use crate::audit::frequent::Count;
use crate::audit::tally::Summary;
use crate::sample::Origin;
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
    let page = ENVIRONMENT.get_template(PAGE).context("the report's template is damaged")?;
    page.render(context! {
        report,
        style => STYLE,
        style_hash => BASE64.encode(Sha256::digest(STYLE)),
        figures => figures(&report.summary),
        funnel => funnel(&report.funnel),
        rejects => report.rejects.iter().map(reject_bar).collect::<Vec<_>>(),
        scores => histogram(&report.summary.scores),
        lengths => histogram(used(&report.summary.lengths)),
        flags => bars(&report.summary.flags, report.summary.rows),
        origins => bars(&report.summary.origins, total(&report.summary.origins)),
        repeated => bars(&report.summary.repeated_texts, most(&report.summary.repeated_texts)),
        tags => bars(&report.summary.tags, most(&report.summary.tags)),
        rows => report.rows.iter().map(card).collect::<Vec<_>>(),
    })
    .context("cannot lay out the report")
}

const PAGE: &str = "report.html";
const STYLE: &str = include_str!("report.css");

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    // A misspelt name is an error here, not an empty place in somebody's report.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_filter("thousands", thousands);
    environment.add_filter("percent", percent);
    environment
        .add_template(PAGE, include_str!("report.html"))
        .expect("the tests render this template");
    environment
});

/// `1234567` as `1 234 567`, with spaces that do not break.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let groups = digits.as_bytes()[head..].chunks(3).map(|group| String::from_utf8_lossy(group));
    let parts = (head > 0).then(|| digits[..head].into()).into_iter().chain(groups);
    parts.collect::<Vec<_>>().join("\u{202f}")
}

/// A share in 0..1: `12.3 %`.
fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p > 0.0 && p < 0.1 => "< 0.1 %".to_owned(),
        p => format!("{p:.1} %"),
    }
}

/// A labelled bar; `share` of the full width.
#[derive(Serialize)]
struct Bar<'a> {
    label: &'a str,
    detail: &'a str,
    rows: u64,
    share: f64,
    /// Full width is 100.
    width: f64,
}

fn bars(counts: &[Count], full: u64) -> Vec<Bar<'_>> {
    counts.iter().map(|count| bar(&count.text, "", count.rows, full)).collect()
}

fn bar<'a>(label: &'a str, detail: &'a str, rows: u64, full: u64) -> Bar<'a> {
    let share = rows as f64 / full.max(1) as f64;
    Bar { label, detail, rows, share, width: width(share) }
}

/// Two decimals, and never so thin that something looks like nothing.
fn width(share: f64) -> f64 {
    let percent = (share.clamp(0.0, 1.0) * 10_000.0).round() / 100.0;
    if share > 0.0 { percent.max(0.4) } else { 0.0 }
}

fn reject_bar(rejects: &Rejects) -> Bar<'_> {
    bar(&rejects.reason, &rejects.stage, rejects.rows, 1)
}

fn total(counts: &[Count]) -> u64 {
    counts.iter().map(|count| count.rows).sum()
}

fn most(counts: &[Count]) -> u64 {
    counts.iter().map(|count| count.rows).max().unwrap_or(0)
}
