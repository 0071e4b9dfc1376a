//! One reviewer's desk: the queue of rows, and what everybody said of them so far.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;

use crate::review::queue;
use crate::review::queue::BANDS;
use crate::review::queue::band;
use crate::review::rows::Row;
use crate::review::rows::Rows;
use crate::review::statistics::Judged;
use crate::review::statistics::Statistics;
use crate::review::steps::Steps;
use crate::review::verdicts;
use crate::review::verdicts::Line;
use crate::review::verdicts::Log;
use crate::review::verdicts::Verdict;

/// The rows to judge and the verdicts on them.
pub struct Desk {
    reviewer: String,
    /// Rows in the order in which they are shown.
    queue: Vec<usize>,
    /// Of a row its position in the queue.
    positions: BTreeMap<usize, usize>,
    population: [u64; BANDS],
    log: Log,
    steps: Steps,
    said: Said,
}

/// What everybody says now, by row and reviewer.
type Said = BTreeMap<usize, BTreeMap<String, Verdict>>;

impl Desk {
    /// Opens the log of a run; it is there from then on.
    ///
    /// # Errors
    /// When the log cannot be opened or read, or the reviewer has no usable name.
    pub fn open(run: &Path, rows: &Rows, config: &queue::Config, reviewer: &str) -> Result<Desk> {
        verdicts::ensure_name(reviewer)?;
        let scores: Vec<f32> = rows.all().iter().map(|row| row.score).collect();
        let queue = config.order(&scores);
        let positions = queue.iter().enumerate().map(|(position, row)| (*row, position)).collect();
        let mut desk = Desk {
            reviewer: reviewer.to_owned(),
            queue,
            positions,
            population: rows.population(),
            log: Log::open(run)?,
            steps: Steps::default(),
            said: Said::new(),
        };
        desk.catch_up(rows)?;
        Ok(desk)
    }

    /// Who sits here.
    pub fn reviewer(&self) -> &str {
        &self.reviewer
    }

    /// How many rows are to be judged.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The row at a position of the queue.
    pub fn row(&self, position: usize) -> Option<usize> {
        self.queue.get(position).copied()
    }

    /// What the reviewer says of each row, in the order of the queue.
    pub fn verdicts(&self) -> Vec<Option<Verdict>> {
        let mine = |row| self.said.get(row)?.get(&self.reviewer).copied();
        self.queue.iter().map(mine).collect()
    }

    /// What the reviewer said of a row, with the edited text.
    pub fn mine(&self, rows: &Rows, row: usize) -> Option<&Line> {
        let row = &rows.all()[row];
        let line = self.steps.now(rows.shard(row), &row.key)?;
        (line.text_sha256 == row.text_sha256).then_some(line)
    }

    /// Where to go on: the first row without a verdict after the last one that got one.
    pub fn next(&self, rows: &Rows) -> usize {
        let verdicts = self.verdicts();
        let last = self.last(rows);
        let open = |position: &usize| verdicts[*position].is_none();
        let after = last.map_or(0, |last| last + 1);
        let next = (after..verdicts.len()).find(open).or_else(|| (0..after).find(open));
        next.unwrap_or(last.unwrap_or(0))
    }

    /// Puts a verdict on the disk. The text is what the reviewer would have instead.
    ///
    /// # Errors
    /// When there is no such row, or the log cannot be written.
    pub fn judge(
        &mut self,
        rows: &Rows,
        position: usize,
        verdict: Verdict,
        text: Option<String>,
    ) -> Result<()> {
        let row = self.row(position).context("there is no such row")?;
        let Row { key, text_sha256, .. } = rows.all()[row].clone();
        let line = Line {
            shard: rows.shard(&rows.all()[row]),
            key,
            verdict: Some(verdict),
            text,
            text_sha256,
            reviewer: self.reviewer.clone(),
            at: verdicts::now(),
        };
        let says_the_same = |said: &Line| (said.verdict, &said.text) == (line.verdict, &line.text);
        if self.mine(rows, row).is_some_and(says_the_same) {
            return Ok(());
        }
        self.log.append(&[line])?;
        self.catch_up(rows)
    }

    /// Takes the reviewer's last step back; the position of its row. Nothing where there is none among
    /// these rows.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn undo(&mut self, rows: &Rows) -> Result<Option<usize>> {
        let (last, line) = (self.last(rows), self.steps.undo(verdicts::now()));
        let (Some(position), Some(line)) = (last, line) else {
            return Ok(None);
        };
        self.log.append(&[line])?;
        self.catch_up(rows)?;
        Ok(Some(position))
    }

    /// What everybody's verdicts say.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn statistics(&mut self, rows: &Rows) -> Result<Statistics> {
        self.catch_up(rows)?;
        Ok(statistics(rows, &self.said, &self.population))
    }

    /// Takes in what came to the log, also by others.
    fn catch_up(&mut self, rows: &Rows) -> Result<()> {
        for line in self.log.news()? {
            let Some(row) = rows.place_of(&line) else { continue };
            say(&mut self.said, row, &line);
            if line.reviewer == self.reviewer {
                self.steps.take(line);
            }
        }
        Ok(())
    }

    /// The position of the row of the reviewer's last step.
    fn last(&self, rows: &Rows) -> Option<usize> {
        let (shard, key) = self.steps.last()?;
        self.positions.get(&rows.find(shard, key)?).copied()
    }
}

/// What the verdicts of a log say about these rows, without a desk.
pub fn statistics_of(rows: &Rows, lines: Vec<Line>) -> Statistics {
    let mut said = Said::new();
    for line in lines {
        if let Some(row) = rows.place_of(&line) {
            say(&mut said, row, &line);
        }
    }
    statistics(rows, &said, &rows.population())
}

fn say(said: &mut Said, row: usize, line: &Line) {
    let of_row = said.entry(row).or_default();
    match line.verdict {
        Some(verdict) => of_row.insert(line.reviewer.clone(), verdict),
        None => of_row.remove(&line.reviewer),
    };
}

fn statistics(rows: &Rows, said: &Said, population: &[u64; BANDS]) -> Statistics {
    let judged = |(row, verdicts): (&usize, &BTreeMap<String, Verdict>)| {
        let row = &rows.all()[*row];
        Judged {
            band: band(row.score),
            flags: row.flags.iter().map(|flag| flag.to_string()).collect(),
            nowhere: row.nowhere,
            verdicts: verdicts.clone(),
        }
    };
    let judged: Vec<Judged> = said.iter().map(judged).collect();
    Statistics::of(&judged, population)
}
