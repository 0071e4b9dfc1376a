//! An outcome as a table for the terminal and as a page of Markdown.

use std::fmt;
use std::fmt::Write;

use comfy_table::Table;

use crate::eval::benchmark::Outcome;
use crate::eval::benchmark::Verdict;
use crate::eval::page::escaped;
use crate::eval::zero_shot::ClassScore;

/// Unreadable pictures and confusions that a page lists.
const SHOWN: usize = 20;

const LIMITS: [&str; 5] = ["", "limit", "wanted", "found", "pictures"];

const CLASSES: [&str; 5] = ["class", "pictures", "found", "recall", "precision"];

impl Outcome {
    /// The limits and the classes, for a terminal.
    pub fn tables(&self) -> [Table; 2] {
        let table = |header: [&str; 5], rows: Vec<[String; 5]>| {
            let mut table = Table::new();
            table.set_header(header).add_rows(rows);
            table
        };
        [table(LIMITS, self.limits()), table(CLASSES, self.classes())]
    }

    /// A page of Markdown.
    pub fn markdown(&self) -> String {
        let mut page = String::new();
        self.write(&mut page).expect("a String takes all that is written");
        page
    }

    fn write(&self, page: &mut String) -> fmt::Result {
        let kept = self.verdicts.iter().filter(|verdict| verdict.pass).count();
        let word = passed(self.pass);
        writeln!(page, "# {}: {word}\n", escaped(&self.name))?;
        writeln!(
            page,
            "{}, {} pictures of {} classes: {kept} of {} limits kept.\n",
            escaped(&self.model),
            self.classified.targets.len(),
            self.classified.classes.len(),
            self.verdicts.len()
        )?;
        write_table(page, LIMITS, self.limits())?;
        writeln!(page, "\n\"Surely\" is the worse end of the 95 % interval (Wilson).\n")?;
        write_table(page, CLASSES, self.classes())?;
        if let Some(note) = &self.note {
            writeln!(page, "\n{}.", escaped(note))?;
        }
        let list = |page: &mut String, title: &str, lines: Vec<String>| {
            if lines.is_empty() {
                return Ok(());
            }
            writeln!(page, "\n{title}:\n")?;
            lines.iter().take(SHOWN).try_for_each(|line| writeln!(page, "- {line}"))?;
            match lines.len().saturating_sub(SHOWN) {
                0 => Ok(()),
                rest => writeln!(page, "- and {rest} more"),
            }
        };
        list(page, "What was taken for what, most often first", self.confusions())?;
        let unreadable = self.unreadable.iter();
        let unreadable = unreadable.map(|u| escaped(&format!("{}: {}", u.key, u.why))).collect();
        list(page, "Pictures that cannot be read count as wrong", unreadable)?;
        let empty = self.empty_classes.iter().map(|class| escaped(class)).collect();
        list(page, "Classes without a picture, of which nothing is known", empty)
    }

    fn limits(&self) -> Vec<[String; 5]> {
        self.verdicts.iter().map(limit).collect()
    }

    fn classes(&self) -> Vec<[String; 5]> {
        self.classified.classes.iter().map(class).collect()
    }

    fn confusions(&self) -> Vec<String> {
        let table = self.classified.confusion();
        let mut wrong: Vec<(u64, usize, usize)> = Vec::new();
        for (target, row) in table.iter().enumerate() {
            let others = row.iter().enumerate().filter(|&(given, &n)| given != target && n > 0);
            wrong.extend(others.map(|(given, &n)| (n, target, given)));
        }
        wrong.sort_by_key(|&(n, target, given)| (std::cmp::Reverse(n), target, given));
        let name = |class: usize| escaped(&self.classified.classes[class].class);
        let line = |(n, target, given)| format!("{} for {}: {n}", name(target), name(given));
        wrong.into_iter().map(line).collect()
    }
}

fn limit(verdict: &Verdict) -> [String; 5] {
    [
        passed(verdict.pass).to_owned(),
        verdict.name.clone(),
        format!("{} {}", verdict.bound.as_str(), share(Some(verdict.wanted))),
        share(verdict.found),
        verdict.pictures.map_or_else(String::new, |pictures| pictures.to_string()),
    ]
}

fn class(score: &ClassScore) -> [String; 5] {
    [
        score.class.clone(),
        score.pictures.to_string(),
        score.right.to_string(),
        share(score.recall()),
        share(score.precision()),
    ]
}

fn passed(pass: bool) -> &'static str {
    if pass { "pass" } else { "FAIL" }
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share))
}

fn write_table(page: &mut String, header: [&str; 5], rows: Vec<[String; 5]>) -> fmt::Result {
    writeln!(page, "| {} |", header.join(" | "))?;
    writeln!(page, "|{}", " --- |".repeat(header.len()))?;
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| escaped(cell)).collect();
        writeln!(page, "| {} |", cells.join(" | "))?;
    }
    Ok(())
}
