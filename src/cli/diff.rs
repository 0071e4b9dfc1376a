//! `recaption diff`: two runs beside each other.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comfy_table::CellAlignment;
use comfy_table::ContentArrangement;
use comfy_table::Table;

use crate::atomic_file;
use crate::cli::look::printable;
use crate::curate::diff;
use crate::curate::diff::Comparison;
use crate::curate::diff::Config;
use crate::curate::diff::Difference;
use crate::curate::diff::Example;
use crate::curate::diff::ObjectCount;
use crate::curate::diff::Only;

#[derive(Args)]
pub(super) struct Diff {
    /// The run that is measured against, A.
    run_a: PathBuf,
    /// The run that is measured, B.
    run_b: PathBuf,
    /// Rows shown of the worst regressions and of the best gains.
    #[arg(long, value_name = "N", default_value_t = Config::default().examples)]
    examples: usize,
    /// Words for objects shown of those that came and of those that went.
    #[arg(long, value_name = "N", default_value_t = Config::default().objects)]
    objects: usize,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
    /// Write a page.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Diff {
    pub(super) fn run(self) -> Result<()> {
        let config = Config { examples: self.examples, objects: self.objects };
        let difference = diff::compare(&self.run_a, &self.run_b, config)?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&difference)?),
            false => print(&difference),
        }
        if let Some(output) = &self.output {
            atomic_file::write(output, diff::html(&difference)?.as_bytes())?;
            // Standard output may be JSON for a program.
            eprintln!("{}", output.display());
        }
        Ok(())
    }
}

fn print(difference: &Difference) {
    println!("A is {}, B is {}.", difference.a, difference.b);
    println!("{}", rows(difference));
    println!("{}", win_rates(&difference.indicators));
    println!(
        "Ahead: better by that indicator; where neither end is better, more of it. Win rates are of \
         the rows that are no ties, with Wilson's 95 % interval. * it excludes one half."
    );
    let objects = [&difference.objects_gained, &difference.objects_lost];
    if objects.iter().any(|counts| !counts.is_empty()) {
        println!("{}", self::objects(objects));
    }
    let parts = [("Worst regressions", &difference.regressions), ("Best gains", &difference.gains)];
    for (heading, rows) in parts.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        println!("{heading}:\n{}", examples(rows));
    }
}

fn rows(difference: &Difference) -> Table {
    let changed = &difference.changed;
    let mut table = Table::new();
    table.set_header(["rows", ""]);
    let mut add = |rows: u64, what: &str| {
        table.add_row([rows.to_string(), what.to_owned()]);
    };
    add(difference.both, "in both");
    add(changed.generated, "with another generated text");
    add(changed.generated_gained, "with a generated text in B alone");
    add(changed.generated_lost, "with a generated text in A alone");
    add(changed.synthetic, "with another synthetic caption");
    add(changed.tags, "with other tags");
    add(changed.raw, "with another raw text");
    for (run, other, only) in [("A", "B", &difference.only_a), ("B", "A", &difference.only_b)] {
        add(only.rows, &format!("only in {run}{}", keys(only)));
        for (reason, rows) in &only.rejected {
            add(*rows, &format!("  which {other} rejected: {reason}"));
        }
        if only.unknown > 0 {
            add(only.unknown, &format!("  which {other} never read"));
        }
    }
    right(&mut table, &[0]);
    table
}

/// The first keys, as many as a line holds.
fn keys(only: &Only) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = only.keys.iter().take(SHOWN).map(|key| printable(key)).collect();
    let more = if only.rows > shown.len() as u64 { ", …" } else { "" };
    if shown.is_empty() { String::new() } else { format!(": {}{more}", shown.join(", ")) }
}

fn win_rates(comparisons: &[Comparison]) -> Table {
    let mut table = Table::new();
    table.set_header([
        "indicator",
        "better",
        "A",
        "B",
        "A ahead",
        "ties",
        "B ahead",
        "B's win rate",
    ]);
    let mean = |mean: Option<f64>| mean.map_or(String::new(), |mean| format!("{mean:.3}"));
    for comparison in comparisons {
        table.add_row([
            comparison.words(),
            comparison.better.words().to_owned(),
            mean(comparison.mean_a),
            mean(comparison.mean_b),
            comparison.wins_a.to_string(),
            comparison.ties.to_string(),
            comparison.wins_b.to_string(),
            win_rate(comparison),
        ]);
    }
    right(&mut table, &[2, 3, 4, 5, 6]);
    table
}

fn win_rate(comparison: &Comparison) -> String {
    let rate = &comparison.win_rate;
    let star = if comparison.is_clear() { " *" } else { "" };
    rate.share.map_or("–".to_owned(), |share| {
        let [share, low, high] = [share, rate.low, rate.high].map(|share| share * 100.0);
        format!("{share:.1} % [{low:.1}, {high:.1}]{star}")
    })
}

fn objects([gained, lost]: [&Vec<ObjectCount>; 2]) -> Table {
    let mut table = Table::new();
    table.set_header(["objects gained", "rows", "no source", "objects lost", "rows", "no source"]);
    let cells = |count: Option<&ObjectCount>| match count {
        Some(count) => [printable(&count.word), count.rows.to_string(), count.nowhere.to_string()],
        None => Default::default(),
    };
    for place in 0..gained.len().max(lost.len()) {
        table.add_row([cells(gained.get(place)), cells(lost.get(place))].concat());
    }
    right(&mut table, &[1, 2, 4, 5]);
    table
}

fn examples(examples: &[Example]) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["key", "text of A", "score", "text of B", "score"]);
    let text = |text: &Option<String>| printable(text.as_deref().unwrap_or("(no text)"));
    for example in examples {
        table.add_row([
            printable(&example.key),
            text(&example.a),
            format!("{:.2}", example.score_a),
            text(&example.b),
            format!("{:.2}", example.score_b),
        ]);
    }
    right(&mut table, &[2, 4]);
    table
}

fn right(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
