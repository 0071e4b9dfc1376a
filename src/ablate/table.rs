//! The table of a comparison: a row for each number, a column for each arm.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::ablate::Config;
use crate::ablate::Estimate;
use crate::ablate::Measured;
use crate::chart;
use crate::chart::Bar;
use crate::chart::BarChart;
use crate::chart::BarSeries;
use crate::eval::page::percent;
use crate::page;
use crate::page::Page;
use crate::page::Section;

/// What each arm scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    /// The seeds that means are over.
    pub seeds: Vec<u64>,
    /// The arms, in order; differences are from the first.
    pub arms: Vec<String>,
    /// Rows that each is trained on.
    pub rows: Vec<u64>,
    /// The numbers.
    pub numbers: Vec<Number>,
}

/// A number of each arm, as shares from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Number {
    /// What it is.
    pub name: String,
    /// What guessing gives.
    pub chance: Option<f64>,
    /// The mean over the seeds, of each arm.
    pub arms: Vec<Option<Estimate>>,
    /// The mean difference from the first arm at the same seeds.
    pub differences: Vec<Option<Estimate>>,
}

impl Table {
    pub(super) fn of(config: &Config, rows: &[u64], measured: &[Measured]) -> Table {
        let number = |measured: &Measured| {
            let of = |arm: usize| measured.values.get(arm).map_or(&[][..], Vec::as_slice);
            let arms = 0..config.arm.len();
            let difference = |arm: usize| match arm {
                0 => None,
                _ => Estimate::of_differences(of(arm), of(0)),
            };
            Number {
                name: measured.name.clone(),
                chance: measured.chance,
                arms: arms.clone().map(|arm| Estimate::of(of(arm))).collect(),
                differences: arms.map(difference).collect(),
            }
        };
        Table {
            seeds: config.seeds.clone(),
            arms: config.arm.iter().map(|arm| arm.name.clone()).collect(),
            rows: rows.to_vec(),
            numbers: measured.iter().map(number).collect(),
        }
    }

    /// What stands under the table.
    pub fn note(&self) -> String {
        let same = self.rows.windows(2).all(|pair| pair[0] == pair[1]);
        format!(
            "Per cent, means over {} seed{}{}. Bold: the 95 % interval of the difference from {} at the \
             same seeds leaves out zero.{}",
            self.seeds.len(),
            if self.seeds.len() == 1 { "" } else { "s" },
            if self.seeds.len() > 1 { " with 95 % intervals (Student's t)" } else { "" },
            self.arms.first().map_or("", String::as_str),
            if same { "" } else { " The arms are not trained on the same rows." },
        )
    }

    /// Heads and cells, for terminals and files: the text of a cell, and whether it is clearly apart.
    pub fn cells(&self) -> (Vec<String>, Vec<Vec<(String, bool)>>) {
        let head = ["", "chance"].into_iter().map(str::to_owned);
        let head = head.chain(self.arms.iter().cloned()).collect();
        let plain = |text: String| (text, false);
        let rows = [plain("rows trained on".to_owned()), plain(String::new())].into_iter();
        let rows = rows.chain(self.rows.iter().map(|rows| plain(rows.to_string()))).collect();
        let number = |number: &Number| {
            let chance = number.chance.map_or(String::new(), percent);
            let head = [plain(number.name.clone()), plain(chance)].into_iter();
            let cell = |(estimate, difference): (&Option<Estimate>, &Option<Estimate>)| {
                let text = estimate.map_or("-".to_owned(), |estimate| written(&estimate));
                (text, difference.is_some_and(|difference| difference.is_clear()))
            };
            head.chain(number.arms.iter().zip(&number.differences).map(cell)).collect()
        };
        (head, std::iter::once(rows).chain(self.numbers.iter().map(number)).collect())
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let (head, rows) = self.cells();
        let mut out =
            format!("| {} |\n|---|{}\n", head.join(" | "), "---:|".repeat(head.len() - 1));
        for row in rows {
            let cells = row.into_iter().map(|(text, strong)| match strong {
                true => format!("**{text}**"),
                false => text,
            });
            // A string takes every line.
            let _ = writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "));
        }
        let _ = writeln!(out, "\n{}", self.note());
        out
    }

    /// As a page.
    pub fn page(&self) -> Page {
        let (head, rows) = self.cells();
        let cell =
            |(text, strong): (String, bool)| page::Cell { text, strong, ..Default::default() };
        let rows = rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
        let bar = |estimate: &Option<Estimate>| {
            estimate.map(|Estimate { mean, half_width }| Bar {
                value: 100.0 * mean,
                interval: half_width.map(|half| (100.0 * (mean - half), 100.0 * (mean + half))),
            })
        };
        let series = |(arm, name): (usize, &String)| BarSeries {
            name: name.clone(),
            bars: self.numbers.iter().map(|number| bar(&number.arms[arm])).collect(),
        };
        let figure = chart::bars(&BarChart {
            title: String::new(),
            value_label: "%".to_owned(),
            groups: self.numbers.iter().map(|number| number.name.clone()).collect(),
            series: self.arms.iter().enumerate().map(series).collect(),
            chance: self.numbers.iter().map(|n| n.chance.map(|chance| 100.0 * chance)).collect(),
        });
        Page {
            title: "Which text to train on".to_owned(),
            subtitle: format!("{} arms, {} seeds", self.arms.len(), self.seeds.len()),
            facts: Vec::new(),
            sections: vec![
                Section {
                    heading: "Scores".to_owned(),
                    note: self.note(),
                    figures: vec![figure],
                    table: Some(page::Table { head, rows }),
                },
                self.differences(),
            ],
        }
    }

    fn differences(&self) -> Section {
        let first = self.arms.first().map_or("", String::as_str);
        let others = self.arms.iter().skip(1).cloned();
        let row = |number: &Number| {
            let cell = |difference: &Option<Estimate>| match difference {
                Some(difference) => page::Cell {
                    text: written(difference),
                    strong: difference.is_clear(),
                    ..Default::default()
                },
                None => "-".into(),
            };
            let name = page::Cell::from(number.name.clone());
            std::iter::once(name).chain(number.differences.iter().skip(1).map(cell)).collect()
        };
        Section {
            heading: format!("Differences from {first}"),
            note: "In points, at the same seeds.".to_owned(),
            figures: Vec::new(),
            table: Some(page::Table {
                head: std::iter::once(String::new()).chain(others).collect(),
                rows: self.numbers.iter().map(row).collect(),
            }),
        }
    }
}

fn written(estimate: &Estimate) -> String {
    match estimate.half_width {
        Some(half) => format!("{} ± {}", percent(estimate.mean), percent(half)),
        None => percent(estimate.mean),
    }
}
