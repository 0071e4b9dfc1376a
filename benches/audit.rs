//! Rows of text that one core audits in a second: the whole verdict, and its parts.
//!
//! ```text
//! cargo bench --bench audit
//! ```
//!
//! The rows are those of `examples/foils.rs` that look like rows of a run: tags, one caption, a raw text.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use recaption::audit;
use recaption::audit::Config;
use recaption::audit::Texts;
use recaption::audit::words::Sources;
use recaption::sample::Tag;
use recaption::text::content_words;
use recaption::text::language;
use serde_json::Value;

#[path = "../examples/foils.rs"]
#[allow(dead_code)]
mod foils;

struct Row {
    raw: String,
    synthetic: String,
    generated: String,
    tags: Vec<Tag>,
}

fn main() {
    let rows: Vec<Row> = foils::rows(include_str!("../tests/data/audit/scenes.txt"))
        .iter()
        .filter(|row| row["raw"].is_string())
        .map(row)
        .collect();
    let config = Config::default();
    let all = |name: &str, work: &dyn Fn(&Row)| {
        // The first round reads the lexicon and fills the memory of words.
        rows.iter().for_each(work);
        let (start, mut done) = (Instant::now(), 0);
        while start.elapsed().as_secs_f64() < 2.0 {
            rows.iter().for_each(work);
            done += rows.len();
        }
        println!("{name:28} {:>9.0} rows/s", done as f64 / start.elapsed().as_secs_f64());
    };
    all("audit", &|row| drop(black_box(audit::audit(&config, &row.texts()))));
    all("  reading the sources", &|row| drop(black_box(Sources::new(&row.texts()))));
    all("  words of the text", &|row| drop(black_box(content_words(&row.generated))));
    all("  language of the text", &|row| {
        black_box(language::detect(&row.generated));
    });
}

impl Row {
    fn texts(&self) -> Texts<'_> {
        Texts {
            raw: Some(&self.raw),
            synthetic: Some(&self.synthetic),
            generated: Some(&self.generated),
            tags: &self.tags,
            references: &[],
            near: &[],
        }
    }
}

fn row(row: &Value) -> Row {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = row["tags"].as_array().into_iter().flatten().map(text);
    let model: Arc<str> = Arc::from("t@0");
    let tags =
        labels.map(|label| Tag { label, score: 0.5, bbox: None, model: model.clone() }).collect();
    let (raw, synthetic) = (text(&row["raw"]), text(&row["sources"][0]));
    Row { raw, synthetic, generated: text(&row["text"]), tags }
}
