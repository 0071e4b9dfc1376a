//! The rows behind a number: a panel each, which a link opens.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::audit::frequent::Count;
use crate::audit::layout::bars::Bar;
use crate::audit::layout::bars::bar;
use crate::audit::layout::cards::Coloured;
use crate::audit::layout::cards::Picture;
use crate::audit::layout::cards::Pictures;
use crate::audit::layout::cards::coloured;
use crate::audit::layout::cards::level;
use crate::audit::place::Place;
use crate::audit::report::Rejects;
use crate::audit::report::Row;
use crate::audit::tally::KindCount;
use crate::audit::tally::WordCount;
use crate::page::thousands;
use crate::text::shortened;

/// Rows of one panel.
const ROWS: usize = 3;
/// Letters of a generated and of a raw text.
const GENERATED: usize = 300;
const RAW: usize = 160;

/// Some rows of one number.
#[derive(Serialize)]
pub(super) struct Panel {
    title: String,
    /// Rows that there are, of which some are shown.
    rows: u64,
    minis: Vec<Mini>,
}

/// A row in few words.
#[derive(Serialize)]
struct Mini {
    key: String,
    place: String,
    picture: Option<usize>,
    pieces: Vec<Coloured>,
    raw: Option<String>,
    detail: String,
    score: Option<String>,
    level: &'static str,
}

/// Panels as they are made.
pub(super) struct Panels<'a> {
    rows: &'a BTreeMap<Place, Row>,
    pictures: Pictures,
    all: Vec<Panel>,
}

impl<'a> Panels<'a> {
    pub(super) fn new(rows: &'a BTreeMap<Place, Row>, pictures: Pictures) -> Panels<'a> {
        Panels { rows, pictures, all: Vec::new() }
    }

    /// A panel, unless the page has none of its rows.
    pub(super) fn add(&mut self, title: String, rows: u64, examples: &[Place]) -> Option<usize> {
        let known = examples.iter().filter_map(|place| Some((place, self.rows.get(place)?)));
        let minis: Vec<Mini> = known
            .take(ROWS)
            .map(|(place, row)| Mini::of(*place, row, &mut self.pictures))
            .collect();
        self.push(title, rows, minis)
    }

    /// Bars of texts, the share of `full`.
    pub(super) fn counts<'t>(
        &mut self,
        what: &str,
        counts: &'t [Count],
        full: u64,
    ) -> Vec<Bar<'t>> {
        let bar_of = |count: &'t Count| Bar {
            panel: self.add(titled(what, &count.text), count.rows, &count.examples),
            ..bar(&count.text, count.rows, full)
        };
        counts.iter().map(bar_of).collect()
    }

    /// Bars of words from nowhere, beside each other.
    pub(super) fn words<'t>(&mut self, words: &'t [WordCount]) -> Vec<Bar<'t>> {
        let full = words.iter().map(|word| word.rows).max().unwrap_or(0);
        let bar_of = |word: &'t WordCount| Bar {
            detail: word.kind.clone(),
            panel: self.add(titled("from nowhere", &word.word), word.rows, &word.examples),
            ..bar(&word.word, word.rows, full)
        };
        words.iter().map(bar_of).collect()
    }

    /// Bars of the kinds of words: those from nowhere, as a share of all.
    pub(super) fn kinds<'t>(&mut self, kinds: &'t [KindCount]) -> Vec<Bar<'t>> {
        let bar_of = |kind: &'t KindCount| Bar {
            detail: thousands(kind.words),
            second: kind.texts_nowhere,
            panel: self.add(
                format!("texts with an unknown {}", kind.kind),
                kind.texts_nowhere,
                &kind.examples,
            ),
            ..bar(&kind.kind, kind.nowhere, kind.words)
        };
        kinds.iter().map(bar_of).collect()
    }

    /// Bars of reasons, with what is known of the rejected rows.
    pub(super) fn rejects<'t>(&mut self, rejects: &'t [Rejects]) -> Vec<Bar<'t>> {
        let all: u64 = rejects.iter().map(|reject| reject.rows).sum();
        let bar_of = |reject: &'t Rejects| {
            let minis = reject.examples.iter().map(|row| Mini {
                key: shortened(&row.key, RAW),
                place: format!("shard {}", row.shard),
                picture: None,
                pieces: Vec::new(),
                raw: row.text_raw.as_deref().map(|text| shortened(text, RAW)),
                detail: shortened(&row.detail, RAW),
                score: None,
                level: "",
            });
            Bar {
                detail: reject.stage.clone(),
                panel: self.push(titled("rejected", &reject.reason), reject.rows, minis.collect()),
                ..bar(&reject.reason, reject.rows, all)
            }
        };
        rejects.iter().map(bar_of).collect()
    }

    /// All panels, and the pictures that they and others show.
    pub(super) fn finish(self) -> (Vec<Panel>, Vec<Picture>) {
        (self.all, self.pictures.all())
    }

    fn push(&mut self, title: String, rows: u64, minis: Vec<Mini>) -> Option<usize> {
        if minis.is_empty() {
            return None;
        }
        self.all.push(Panel { title, rows, minis });
        Some(self.all.len())
    }
}

impl Mini {
    fn of(place: Place, row: &Row, pictures: &mut Pictures) -> Mini {
        let text = row.text_generated.as_deref().unwrap_or_default();
        Mini {
            key: shortened(&row.key, RAW),
            place: format!("shard {}, row {}", place.shard, place.row),
            picture: pictures.of(place, row),
            pieces: coloured(text, &row.words, GENERATED),
            raw: row.text_raw.as_deref().map(|text| shortened(text, RAW)),
            detail: row.flags.join(", "),
            score: Some(format!("{:.2}", row.score)),
            level: level(row.score),
        }
    }
}

fn titled(what: &str, text: &str) -> String {
    format!("{what}: {}", shortened(text, RAW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_rows_on_the_page_has_no_panel() {
        let place = |row| Place { shard: 0, row };
        let row =
            Row { key: "k".to_owned(), thumbnail: Some(vec![0xff, 0xd8, 0xff]), ..Row::default() };
        let rows = BTreeMap::from([(place(1), row)]);
        let mut panels = Panels::new(&rows, Pictures::default());
        assert_eq!(panels.add("none".to_owned(), 1, &[place(2)]), None);
        assert_eq!(panels.add("one".to_owned(), 9, &[place(2), place(1)]), Some(1));
        assert_eq!(panels.add("again".to_owned(), 9, &[place(1)]), Some(2));
        let (panels, pictures) = panels.finish();
        assert_eq!((panels.len(), pictures.len()), (2, 1), "one picture for both panels");
        assert_eq!(panels[0].minis[0].place, "shard 0, row 1");
    }
}
