//! `recaption audit RUN`: the finished shards of a run by today's rules.

use std::path::Path;

use anyhow::Result;
use comfy_table::ContentArrangement;
use comfy_table::Table;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

use crate::audit::Config;
use crate::audit::frequent::Count;
use crate::audit::survey::Findings;
use crate::audit::tally::Summary;
use crate::cli::look::percent;
use crate::cli::look::printable;
use crate::clip;
use crate::clip::Embedder;
use crate::clip::Judge;
use crate::curate::fit::Fitness;
use crate::curate::reaudit;
use crate::report;
use crate::shard;

/// Rows of each list.
const SHOWN: usize = 8;

pub(super) fn audit(
    run: &Path,
    config: &Config,
    clip: &clip::Config,
    with_rows: bool,
    json: bool,
) -> Result<()> {
    let embedder = clip.checkpoint.as_ref().map(|_| Embedder::open(clip)).transpose()?;
    let judge = embedder.map(|embedder| Judge::new(embedder, clip.batch));
    let asked = judge.as_ref().map(|judge| (judge, clip.nearness));
    let rows: u64 = shard::all_finished(run)?.iter().map(|marker| marker.refined).sum();
    let style = "{elapsed_precise} {bar:30} {pos}/{len} rows, {per_sec}, {eta} left";
    let bar = ProgressBar::new(rows).with_style(ProgressStyle::with_template(style)?);
    let audited = reaudit::run(run, config, asked, with_rows, &|rows| bar.inc(rows))?;
    let findings = &audited.findings;
    let page = report::write_audited(run, findings, config)?;
    bar.finish_and_clear();
    if judge.is_some() {
        let seconds = bar.elapsed().as_secs_f64();
        eprintln!("{rows} pictures in {seconds:.1} s, {:.1} a second", rows as f64 / seconds);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&audited)?);
        return Ok(());
    }
    println!("{}", figures(findings));
    println!("{}", lists(&findings.summary));
    println!("{}", drift(&findings.summary));
    println!("{}", worst(findings));
    if let Some(fit) = &audited.fit {
        println!("{}\n{}", fitness(fit), fit_lists(fit));
    }
    println!("{}\n{}", run.join(reaudit::SUMMARY).display(), page.display());
    Ok(())
}

fn figures(findings: &Findings) -> Table {
    let summary = &findings.summary;
    let mut table = table(["figure", "value", "what it is"]);
    let mut add = |name: &str, value: String, what: &str| {
        table.add_row([name, value.as_str(), what]);
    };
    add("rows", summary.rows.to_string(), "refined rows of finished shards");
    add("with a text", of(summary.generated, summary.rows), "rows with a generated text");
    let mean = summary.score.mean.unwrap_or(0.0);
    add("mean score", format!("{mean:.3}"), "1: every word has a source, no flag");
    for kind in &summary.kinds {
        let name = format!("{}s from nowhere", kind.kind);
        let value = of(kind.nowhere, kind.words);
        let texts = of(kind.texts_nowhere, summary.generated);
        add(&name, value, &format!("of all {}s; in {texts} of the texts", kind.kind));
    }
    for indicator in &summary.indicators {
        let mean = indicator.values.mean.map(|mean| format!("{mean:.3}"));
        let rows = format!("mean of {} rows", indicator.values.rows);
        mean.into_iter().for_each(|mean| add(&indicator.name, mean, &rows));
    }
    add("cut by CLIP", of(summary.cut, summary.generated), "longer than 77 tokens");
    let repeated = of(summary.repeated_rows, summary.generated);
    add("repeated texts", repeated, "rows whose very text comes again");
    let variety = &summary.diversity;
    let distinct = [variety.distinct_1, variety.distinct_2, variety.distinct_3];
    let distinct = distinct.map(|share| format!("{share:.3}")).join(" ");
    add("distinct-1, 2, 3", distinct, "different runs of one, two, three words");
    let mixed = &findings.mixed_up;
    let chance =
        format!("fit a neighbour's picture better; chance gives {}", percent(mixed.chance()));
    add("mixed up", of(mixed.mixed, mixed.tested), &chance);
    let alike = &findings.alike;
    let tested = format!(
        "look like an earlier picture with a text of other words; {} of {} candidates compared",
        alike.tested, alike.differ
    );
    add("look-alikes", alike.confirmed.to_string(), &tested);
    table
}

fn lists(summary: &Summary) -> Table {
    let mut table =
        table(["flags", "words from nowhere", "repeated texts", "openings", "languages"]);
    let joined = |lines: Vec<String>| lines.join("\n");
    let counts = |counts: &[Count]| {
        let lines = counts.iter().take(SHOWN);
        joined(lines.map(|count| format!("{} {}", count.rows, printable(&count.text))).collect())
    };
    let words = summary.nowhere_words.iter().take(SHOWN);
    let words = words.map(|w| format!("{} {} ({})", w.rows, printable(&w.word), w.kind)).collect();
    table.add_row([
        counts(&summary.flags),
        joined(words),
        counts(&summary.repeated_texts),
        counts(&summary.openings),
        counts(&summary.languages),
    ]);
    table
}

fn drift(summary: &Summary) -> Table {
    let mut table = table(["differs from the rest", "figure", "here", "elsewhere", "effect"]);
    for drift in summary.drift.iter().filter(|drift| drift.differs).take(SHOWN) {
        table.add_row([
            format!("{} {}", drift.kind, printable(&drift.group)),
            drift.figure.clone(),
            format!("{:.3}", drift.mean),
            format!("{:.3}", drift.others),
            format!("{:+.2} sd", drift.effect),
        ]);
    }
    if table.row_count() == 0 {
        table.add_row(["nothing, by more than chance"]);
    }
    table
}

fn worst(findings: &Findings) -> Table {
    let mut table = table(["worst rows", "score", "text", "flags", "from nowhere"]);
    for row in findings.worst.iter().take(SHOWN) {
        table.add_row([
            printable(&row.key),
            format!("{:.2}", row.score),
            printable(&row.text),
            row.reasons.join(", "),
            printable(&row.nowhere.join(", ")),
        ]);
    }
    table
}

fn fitness(fit: &Fitness) -> Table {
    let mut table = table(["fits the picture", "value", "95 % interval", "what it is"]);
    for mean in fit.means.iter().filter(|mean| mean.rows > 0) {
        let shown = |value: Option<f64>| format!("{:.3}", value.unwrap_or(f64::NAN));
        let interval = format!("{} to {}", shown(mean.low), shown(mean.high));
        let what = format!("mean cosine of {} rows", mean.rows);
        table.add_row([mean.name.clone(), shown(mean.mean), interval, what]);
    }
    for best in fit.best.iter().filter(|best| best.of > 0) {
        let percent = |share: f64| format!("{:.1}", share * 100.0);
        let interval = format!("{} to {} %", percent(best.low), percent(best.high));
        let name = match best.text.as_str() {
            "tie" => "two fit best alike".to_owned(),
            text => format!("{text} fits best"),
        };
        let what = format!("of {} rows with a generated text and another", best.of);
        table.add_row([name, of(best.rows, best.of), interval, what]);
    }
    table.add_row([
        "near words".to_owned(),
        fit.near_words.to_string(),
        String::new(),
        "no source has them, but something close to them".to_owned(),
    ]);
    table.add_row([
        "by".to_owned(),
        fit.model.clone(),
        String::new(),
        format!("{} pictures seen, {} not; as good as these weights", fit.rows, fit.unseen),
    ]);
    table
}

fn fit_lists(fit: &Fitness) -> Table {
    let mut table =
        table(["phrases that fit worst", "cosine", "row", "phrases of several", "mean"]);
    let worst = fit.worst_phrases.iter().take(SHOWN).map(|worst| {
        let phrase = printable(&worst.phrase);
        [phrase, format!("{:.3}", worst.cosine), printable(&worst.key)]
    });
    let weak = fit.weak_phrases.iter().take(SHOWN).map(|weak| {
        [format!("{} {}", weak.times, printable(&weak.phrase)), format!("{:.3}", weak.mean)]
    });
    let (worst, weak): (Vec<_>, Vec<_>) = (worst.collect(), weak.collect());
    for at in 0..worst.len().max(weak.len()) {
        let [phrase, cosine, key] = worst.get(at).cloned().unwrap_or_default();
        let [several, mean] = weak.get(at).cloned().unwrap_or_default();
        table.add_row([phrase, cosine, key, several, mean]);
    }
    table
}

fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_header(head);
    table
}

fn of(part: u64, whole: u64) -> String {
    format!("{part} ({})", percent(part as f64 / whole.max(1) as f64))
}
