//! The steps of one reviewer, and the way back.

use std::collections::BTreeMap;

use crate::review::verdicts::Line;

/// What one reviewer did, in order.
///
/// It is read from the log, so that undo goes on after a restart: a line that says what held before the
/// last one of its row is that one's undo.
#[derive(Default)]
pub struct Steps {
    /// Of each row what was said, oldest first.
    rows: BTreeMap<(u32, String), Vec<Line>>,
    /// The rows in order of the steps.
    order: Vec<(u32, String)>,
}

impl Steps {
    /// What the reviewer's next line changes.
    pub fn take(&mut self, line: Line) {
        let row = (line.shard, line.key.clone());
        let said = self.rows.entry(row.clone()).or_default();
        if is_undo(said, &line) {
            said.pop();
            let last = self.order.iter().rposition(|other| *other == row);
            last.map(|place| self.order.remove(place));
            return;
        }
        said.push(line);
        self.order.push(row);
    }

    /// What the reviewer says of a row now.
    pub fn now(&self, shard: u32, key: &str) -> Option<&Line> {
        let said = self.rows.get(&(shard, key.to_owned()))?.last()?;
        said.verdict.is_some().then_some(said)
    }

    /// The row of the last step.
    pub fn last(&self) -> Option<(u32, &str)> {
        self.order.last().map(|(shard, key)| (*shard, key.as_str()))
    }

    /// The line that takes the last step back; nothing where there is none.
    pub fn undo(&self, at: u64) -> Option<Line> {
        let row = self.order.last()?;
        let said = self.rows.get(row)?;
        let last = said.last()?;
        let nothing = || Line { verdict: None, text: None, ..last.clone() };
        let before = said.iter().rev().nth(1).cloned().unwrap_or_else(nothing);
        Some(Line { at, ..before })
    }
}

fn is_undo(said: &[Line], line: &Line) -> bool {
    match said {
        [] => false,
        [_] => line.verdict.is_none(),
        [.., before, _] => line.says_what(before),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::review::Verdict;
    use crate::review::verdicts::LOG;
    use crate::review::verdicts::Log;
    use crate::review::verdicts::latest;
    use crate::review::verdicts::read;

    fn line(key: &str, verdict: Option<Verdict>) -> Line {
        let text_sha256 = "0".to_owned();
        let (key, reviewer) = (key.to_owned(), "ann".to_owned());
        Line { key, shard: 0, verdict, text: None, text_sha256, reviewer, at: 1 }
    }

    /// A verdict on one of three rows, or an undo.
    fn steps() -> impl Strategy<Value = Vec<Option<(usize, usize)>>> {
        proptest::collection::vec(proptest::option::weighted(0.7, (0_usize..3, 0_usize..5)), 0..40)
    }

    const KEYS: [&str; 3] = ["a", "b\n\u{2028}", "c"];

    proptest! {
        #[test]
        fn undo_brings_back_what_was_said_before(steps in steps()) {
            let dir = tempfile::tempdir().unwrap();
            let mut log = Log::open(dir.path()).unwrap();
            let mut live = Steps::default();
            // The slow twin: every state there was.
            let mut states: Vec<[Option<Verdict>; 3]> = vec![[None; 3]];
            for step in steps {
                let said = match step {
                    Some((row, verdict)) => {
                        let verdict = Some(Verdict::ALL[verdict]);
                        let mut state = *states.last().unwrap();
                        // The page does not send what is said already, nor what would look like an undo.
                        let said = live.rows.get(&(0, KEYS[row].to_owned()));
                        let line = line(KEYS[row], verdict);
                        if state[row] == verdict || said.is_some_and(|said| is_undo(said, &line)) {
                            continue;
                        }
                        state[row] = verdict;
                        states.push(state);
                        Some(line)
                    }
                    None => {
                        if states.len() > 1 { states.pop(); }
                        live.undo(2)
                    }
                };
                if let Some(said) = said {
                    log.append(std::slice::from_ref(&said)).unwrap();
                    live.take(said);
                }
                let now = KEYS.map(|key| live.now(0, key).and_then(|line| line.verdict));
                prop_assert_eq!(&now, states.last().unwrap());
            }
            let mut again = Steps::default();
            let all = read(&dir.path().join(LOG)).unwrap();
            all.iter().cloned().for_each(|line| again.take(line));
            prop_assert_eq!(&again.order, &live.order);
            let last = latest(all);
            let found = |key| last.iter().find(|line| line.key == key).and_then(|line| line.verdict);
            prop_assert_eq!(&KEYS.map(found), states.last().unwrap());
        }
    }
}
