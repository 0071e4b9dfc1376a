//! `recaption compare`: results beside each other.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use comfy_table::Attribute;
use comfy_table::CellAlignment;
use comfy_table::Table;

use crate::atomic_file;
use crate::eval::compare;
use crate::eval::compare::Cell;
use crate::eval::compare::Comparison;
use crate::eval::compare::Found;
use crate::eval::compare::Row;
use crate::eval::page;

#[derive(Args)]
pub(super) struct Compare {
    /// Result files, or folders of them; the others are measured against the model of the first.
    #[arg(required = true, value_name = "RESULTS")]
    results: Vec<PathBuf>,
    /// Write a page.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Compare {
    pub(super) fn run(self) -> Result<()> {
        let Found { scores, passed_over } = compare::read(&self.results)?;
        for why in &passed_over {
            eprintln!("passed over: {why:#}");
        }
        let comparison = Comparison::of(&scores)?;
        println!("{}", table(&comparison));
        println!("Per cent, with 95 % intervals. * the interval of the difference excludes zero.");
        if let Some(output) = &self.output {
            let page = page::html("Comparison", &scores, &comparison)?;
            atomic_file::write(output, page.as_bytes())?;
            println!("{}", output.display());
        }
        Ok(())
    }
}

/// Results for a terminal: under each value how much more it is than that of the first model.
pub(super) fn table(comparison: &Comparison) -> Table {
    let mut table = Table::new();
    let head = ["data", "task", "metric", "chance"].map(str::to_owned);
    table.set_header(head.into_iter().chain(comparison.models.iter().cloned()));
    let mut before = None;
    for row in &comparison.rows {
        // A name that stands above is not said again.
        let test = (&row.dataset, row.task);
        let is_new = before.replace(test) != Some(test);
        let said = |text: &str| if is_new { text.to_owned() } else { String::new() };
        let chance = row.chance.map_or(String::new(), |value| format!("{:.1}", value * 100.0));
        let head = [said(&row.dataset), said(row.task.words()), row.words(), chance];
        let cells = (0..row.cells.len()).map(|model| shown(row, model));
        table.add_row(head.into_iter().map(comfy_table::Cell::new).chain(cells));
    }
    table
}

fn shown(row: &Row, model: usize) -> comfy_table::Cell {
    let text = row.cells[model].as_ref().map_or("–".to_owned(), words);
    let cell = comfy_table::Cell::new(text).set_alignment(CellAlignment::Right);
    if row.clearly_best == Some(model) { cell.add_attribute(Attribute::Bold) } else { cell }
}

fn words(cell: &Cell) -> String {
    let value = page::written(cell);
    let Some(lead) = cell.lead else { return value };
    let star = if lead.is_clear() { " *" } else { "" };
    match lead.interval {
        Some(interval) => {
            format!(
                "{value}\n{} {}{star}",
                page::signed(lead.value),
                page::signed_between(interval)
            )
        }
        None => format!("{value}\n{}", page::signed(lead.value)),
    }
}
