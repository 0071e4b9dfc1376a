//! What people say of the rows of a run, together.
//!
//! Of each reviewer the last line about a row counts, if it is about the text that the row has. The
//! verdict of most wins; of as many, the worst. Of several edited texts the one that was written to the
//! log last is taken.

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::review::Line;
use crate::review::Verdict;
use crate::review::statistics::consensus;

/// The log of one run by rows.
#[derive(Debug, Default)]
pub(super) struct Opinions {
    rows: HashMap<(u32, String), Vec<Said>>,
    /// Verdicts in force, of whatever text.
    pub(super) verdicts: u64,
}

/// What one reviewer says in the end.
#[derive(Debug)]
struct Said {
    /// Place in the log.
    place: usize,
    line: Line,
}

/// What all of them say of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Opinion {
    pub(super) verdict: Verdict,
    /// Who said what.
    pub(super) said: BTreeMap<String, Verdict>,
    /// The text as a reviewer would have it, and who that is.
    pub(super) edit: Option<(String, String)>,
}

impl Opinions {
    pub(super) fn of(lines: Vec<Line>) -> Opinions {
        let mut last = HashMap::new();
        for (place, line) in lines.into_iter().enumerate() {
            let whose = (line.shard, line.key.clone(), line.reviewer.clone());
            match line.verdict {
                Some(_) => last.insert(whose, Said { place, line }),
                None => last.remove(&whose),
            };
        }
        let mut opinions = Opinions { verdicts: last.len() as u64, ..Opinions::default() };
        for said in last.into_values() {
            let row = (said.line.shard, said.line.key.clone());
            opinions.rows.entry(row).or_default().push(said);
        }
        for said in opinions.rows.values_mut() {
            said.sort_by_key(|said| said.place);
        }
        opinions
    }

    /// What is said of this text of a row; nothing where nobody judged it.
    pub(super) fn on(&self, shard: u32, key: &str, text: &str) -> Option<Opinion> {
        let said = self.rows.get(&(shard, key.to_owned()))?;
        let valid: Vec<&Line> =
            said.iter().map(|said| &said.line).filter(|line| line.is_about(text)).collect();
        let verdict = |line: &&Line| Some((line.reviewer.clone(), line.verdict?));
        let said: BTreeMap<String, Verdict> = valid.iter().filter_map(verdict).collect();
        let edit = |line: &&Line| {
            let edited = line.text.as_deref()?.trim();
            let is_one = !edited.is_empty() && edited != text.trim();
            is_one.then(|| (edited.to_owned(), line.reviewer.clone()))
        };
        let edit = valid.iter().rev().find_map(edit);
        Some(Opinion { verdict: consensus(&said)?, said, edit })
    }
}
