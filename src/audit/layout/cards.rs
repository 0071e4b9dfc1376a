//! Rows as they are shown: coloured texts, tags, flags with what they were raised for, the picture.

use std::collections::BTreeMap;
use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use crate::audit::layout::PAIRS;
use crate::audit::layout::bars::width;
use crate::audit::pieces::pieces;
use crate::audit::place::Place;
use crate::audit::report::Row;
use crate::audit::survey::Findings;
use crate::page::percent;
use crate::sample::Link;
use crate::sample::Tag;
use crate::sample::WordOrigin;
use crate::text::shortened;

/// Letters of a text, and tags, of one card.
const LETTERS: usize = 800;
const TAGS: usize = 14;

/// Bytes of all pictures of a page, as they stand in it.
const PICTURE_BYTES: usize = 1_700_000;

/// A row in full.
#[derive(Serialize)]
pub(super) struct Card<'a> {
    key: &'a str,
    place: String,
    writer: &'a str,
    picture: Option<usize>,
    has_text: bool,
    pieces: Vec<Coloured>,
    raw: Option<String>,
    synthetic: Option<String>,
    tags: &'a [Tag],
    /// Tags that are not shown.
    tags_more: usize,
    flags: Vec<Raised<'a>>,
    score: String,
    width: f64,
    level: &'static str,
}

#[derive(Serialize)]
struct Raised<'a> {
    flag: &'a str,
    evidence: &'a str,
}

/// Two rows beside each other.
#[derive(Serialize)]
pub(super) struct Couple<'a> {
    cards: [Card<'a>; 2],
    /// Why they are shown.
    note: String,
}

/// A piece of a text, and the origin of the word that it is.
#[derive(Serialize)]
pub(super) struct Coloured {
    text: String,
    origin: Option<&'static str>,
    /// What sort of word it is, and how it was found.
    title: String,
}

/// The pictures of a page, each once.
#[derive(Default)]
pub(super) struct Pictures {
    places: HashMap<Place, usize>,
    all: Vec<Picture>,
    bytes: usize,
}

/// A picture that other parts of the page refer to.
#[derive(Serialize)]
pub(super) struct Picture {
    id: usize,
    url: String,
}

impl<'a> Card<'a> {
    pub(super) fn of(place: Place, row: &'a Row, pictures: &mut Pictures) -> Card<'a> {
        let text = row.text_generated.as_deref();
        let evidence = row.evidence.iter().map(String::as_str).chain(std::iter::repeat(""));
        let flags = row.flags.iter().zip(evidence);
        Card {
            key: &row.key,
            place: format!("shard {}, row {}", place.shard, place.row),
            writer: &row.writer,
            picture: pictures.of(place, row),
            has_text: text.is_some(),
            pieces: coloured(text.unwrap_or_default(), &row.words, LETTERS),
            raw: row.text_raw.as_deref().map(|text| shortened(text, LETTERS)),
            synthetic: row.text_synthetic.as_deref().map(|text| shortened(text, LETTERS)),
            tags: &row.tags[..row.tags.len().min(TAGS)],
            tags_more: row.tags.len().saturating_sub(TAGS),
            flags: flags.map(|(flag, evidence)| Raised { flag, evidence }).collect(),
            score: format!("{:.2}", row.score),
            width: width(f64::from(row.score)),
            level: level(row.score),
        }
    }
}

/// These rows, as far as they are known.
pub(super) fn cards<'a>(
    places: impl Iterator<Item = Place>,
    rows: &'a BTreeMap<Place, Row>,
    pictures: &mut Pictures,
) -> Vec<Card<'a>> {
    let known = places.filter_map(|place| Some((place, rows.get(&place)?)));
    known.map(|(place, row)| Card::of(place, row, pictures)).collect()
}

/// Texts beside the row that they fit better.
pub(super) fn mixed_up<'a>(
    findings: &Findings,
    rows: &'a BTreeMap<Place, Row>,
    pictures: &mut Pictures,
) -> Vec<Couple<'a>> {
    let pairs = findings.mixed_up.suspects.iter().take(PAIRS).map(|pair| {
        let (own, other) = (percent(pair.own), percent(pair.other));
        let note = format!(
            "The left text: its own row has {own} of its words (rare words count more), \
             the row on the right {other}."
        );
        (pair.place, pair.other_place, note)
    });
    couples(pairs, rows, pictures)
}

/// Pictures that look alike, with their texts.
pub(super) fn alike<'a>(
    findings: &Findings,
    rows: &'a BTreeMap<Place, Row>,
    pictures: &mut Pictures,
) -> Vec<Couple<'a>> {
    let pairs = findings.alike.pairs.iter().take(PAIRS).map(|pair| {
        let common = percent(f64::from(pair.common));
        let how = match (pair.same_bytes, pair.distance) {
            (true, _) => "The same file.".to_owned(),
            (_, bits) => format!("The hashes differ in {bits} of 64 bits."),
        };
        let note = format!("{how} Of the words of both texts {common} are common.");
        (pair.place, pair.other_place, note)
    });
    couples(pairs, rows, pictures)
}

fn couples<'a>(
    pairs: impl Iterator<Item = (Place, Place, String)>,
    rows: &'a BTreeMap<Place, Row>,
    pictures: &mut Pictures,
) -> Vec<Couple<'a>> {
    let known = pairs.filter_map(|(one, other, note)| {
        Some(([(one, rows.get(&one)?), (other, rows.get(&other)?)], note))
    });
    let couple = |(cards, note): ([(Place, &'a Row); 2], String)| Couple {
        cards: cards.map(|(place, row)| Card::of(place, row, pictures)),
        note,
    };
    known.map(couple).collect()
}

/// The first letters of a text, cut at its content words.
pub(super) fn coloured(text: &str, words: &[WordOrigin], letters: usize) -> Vec<Coloured> {
    let piece = |piece: crate::audit::pieces::Piece| {
        let link = piece.link.map_or("no source", Link::as_str);
        let title = piece.kind.map(|kind| format!("{}, {link}", kind.as_str()));
        let origin = piece.origin.map(|origin| origin.as_str());
        Coloured { text: piece.text, origin, title: title.unwrap_or_default() }
    };
    pieces(&shortened(text, letters), words).into_iter().map(piece).collect()
}

/// Good, fair or poor.
pub(super) fn level(score: f32) -> &'static str {
    match score {
        score if score >= 0.8 => "good",
        score if score >= 0.5 => "fair",
        _ => "poor",
    }
}

impl Pictures {
    /// The number of a row's picture; none where it has none, or where the page has too many.
    pub(super) fn of(&mut self, place: Place, row: &Row) -> Option<usize> {
        if let Some(known) = self.places.get(&place) {
            return Some(*known);
        }
        let url = data_url(row.thumbnail.as_deref()?)?;
        if self.bytes + url.len() > PICTURE_BYTES {
            return None;
        }
        self.bytes += url.len();
        let id = self.all.len() + 1;
        self.all.push(Picture { id, url });
        self.places.insert(place, id);
        Some(id)
    }

    pub(super) fn all(self) -> Vec<Picture> {
        self.all
    }
}

/// Only of what surely is a raster image: an SVG could carry a script.
fn data_url(bytes: &[u8]) -> Option<String> {
    let kind = match bytes {
        [0xff, 0xd8, 0xff, ..] => "jpeg",
        [0x89, b'P', b'N', b'G', ..] => "png",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "webp",
        _ => return None,
    };
    Some(format!("data:image/{kind};base64,{}", BASE64.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Origin;

    #[test]
    fn a_long_text_is_cut_and_words_behind_the_cut_are_not_marked() {
        let words = ["cat", "dog"].map(|word| WordOrigin::new(word, Origin::Tag));
        let found = coloured("a cat and a dog", &words, 10);
        let text: String = found.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(text, "a cat and …");
        assert_eq!(found.iter().filter(|piece| piece.origin.is_some()).count(), 1);
    }

    #[test]
    fn pictures_stop_at_the_bytes_that_a_page_may_have() {
        let mut jpeg = vec![0; PICTURE_BYTES / 3];
        jpeg[..3].copy_from_slice(&[0xff, 0xd8, 0xff]);
        let row = Row { thumbnail: Some(jpeg), ..Row::default() };
        let mut pictures = Pictures::default();
        let mut of = |place| pictures.of(Place { shard: 0, row: place }, &row);
        assert_eq!([of(0), of(1), of(2), of(3), of(0)], [Some(1), Some(2), None, None, Some(1)]);
    }
}
