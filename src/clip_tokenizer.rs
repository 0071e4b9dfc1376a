//! CLIP's byte-level byte-pair encoding: 49,408 ids, 77 a text, exactly those of open_clip.
//!
//! Written out rather than built with the `tokenizers` crate: that one needs a JSON of both
//! vocabulary and merges (several times the size the binary carries), and its CLIP normaliser
//! does not decode character references. Before encoding, the reference runs `ftfy.fix_text`. The
//! parts of it that touch ordinary text (curly quotes, ligatures, full-width forms, controls, NFC,
//! UTF-8 read as Windows-1252) are done here; its weighing of other encodings is not.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::sync::LazyLock;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use flate2::read::GzDecoder;
use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use crate::text::entities;
use crate::text::mojibake;

/// Number of ids.
pub const VOCABULARY: usize = 49_408;
/// Ids a text model reads.
pub const CONTEXT: usize = 77;
/// Opens each text.
pub const START: u32 = 49_406;
/// Closes each text, also a truncated one.
pub const END: u32 = 49_407;

/// The encoder; one for the whole process.
pub struct Tokenizer {
    /// Two neighbours, and the id they become. Ids were given in the order of the merges, so the
    /// smaller id is the earlier merge.
    merges: HashMap<(u32, u32), u32>,
    /// Words that are one id: most words of most captions, found without merging.
    words: HashMap<Vec<u8>, u32>,
}

impl Tokenizer {
    /// The tokenizer of all CLIP models, from the vocabulary that the binary carries.
    pub fn clip() -> Result<&'static Tokenizer> {
        static CLIP: LazyLock<Result<Tokenizer>> = LazyLock::new(Tokenizer::carried);
        CLIP.as_ref().map_err(|e| anyhow!("the CLIP vocabulary of this build is damaged: {e:#}"))
    }

    /// The ids of a text, without [`START`] and [`END`], of any length.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let text = normalised(text);
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        for word in WORDS.find_iter(readable(&text)) {
            match word.as_str() {
                "<start_of_text>" => ids.push(START),
                "<end_of_text>" => ids.push(END),
                word => self.push_word(word.as_bytes(), &mut ids),
            }
        }
        ids
    }

    /// How many ids a text needs, with the two that open and close it; over [`CONTEXT`], it is cut.
    pub fn len_with_specials(&self, text: &str) -> usize {
        self.encode(text).len() + 2
    }

    /// What a text model reads: opened, cut to fit, closed, filled with zeros.
    pub fn context(&self, text: &str) -> [u32; CONTEXT] {
        let ids = self.encode(text);
        let mut row = [0; CONTEXT];
        let kept = ids.len().min(CONTEXT - 2);
        row[0] = START;
        row[1..=kept].copy_from_slice(&ids[..kept]);
        row[kept + 1] = END;
        row
    }

    fn push_word(&self, word: &[u8], ids: &mut Vec<u32>) {
        match self.words.get(word) {
            Some(&id) => ids.push(id),
            None => ids.append(&mut self.merge(word)),
        }
    }

    /// Joins the neighbours that were merged earliest in training until none are left to join.
    fn merge(&self, word: &[u8]) -> Vec<u32> {
        let mut ids: Vec<u32> = word.iter().map(|&byte| byte_id(byte)).collect();
        if let Some(last) = ids.last_mut() {
            *last += BYTES;
        }
        while let Some((pair, merged)) = self.earliest(&ids) {
            join(&mut ids, pair, merged);
        }
        ids
    }

    fn earliest(&self, ids: &[u32]) -> Option<((u32, u32), u32)> {
        let pairs = ids.windows(2).map(|two| (two[0], two[1]));
        let known = pairs.filter_map(|pair| Some((pair, *self.merges.get(&pair)?)));
        known.min_by_key(|(_, merged)| *merged)
    }

    fn carried() -> Result<Tokenizer> {
        let packed = include_bytes!("clip_tokenizer/bpe_simple_vocab_16e6.txt.gz");
        let mut lines = String::new();
        GzDecoder::new(packed.as_slice()).read_to_string(&mut lines).context("cannot unpack it")?;
        Tokenizer::parse(&lines)
    }

    /// Reads a version line, then one merge a line: two tokens in the byte alphabet.
    fn parse(lines: &str) -> Result<Tokenizer> {
        let mut ids: HashMap<&str, u32> = HashMap::new();
        let alphabet: Vec<[String; 2]> = ALPHABET.iter().map(|&c| spellings(c)).collect();
        for (id, [inner, last]) in (0..).zip(&alphabet) {
            ids.insert(inner, id);
            ids.insert(last, id + BYTES);
        }
        let joined: Vec<String> = lines.lines().skip(1).map(|line| line.replace(' ', "")).collect();
        let mut merges = HashMap::with_capacity(joined.len());
        for ((line, token), merged) in lines.lines().skip(1).zip(&joined).zip(2 * BYTES..) {
            let pair = line.split_once(' ').and_then(|(a, b)| Some((*ids.get(a)?, *ids.get(b)?)));
            merges.insert(pair.with_context(|| format!("unknown tokens in {line:?}"))?, merged);
            ids.insert(token, merged);
        }
        ensure!(ids.len() + 2 == VOCABULARY, "it has {} tokens, not {VOCABULARY}", ids.len() + 2);
        let words = ids.iter().filter_map(|(token, &id)| Some((word_bytes(token)?, id))).collect();
        Ok(Tokenizer { merges, words })
    }
}

/// Replaces each `pair` by `merged`, from left to right.
fn join(ids: &mut Vec<u32>, pair: (u32, u32), merged: u32) {
    let mut kept = 0;
    let mut at = 0;
    while at < ids.len() {
        let both = ids.get(at + 1).is_some_and(|&next| (ids[at], next) == pair);
        ids[kept] = if both { merged } else { ids[at] };
        kept += 1;
        at += 1 + usize::from(both);
    }
    ids.truncate(kept);
}

/// Different bytes; a byte that ends a word has its id plus this.
const BYTES: u32 = 256;

/// CLIP writes each byte as a printable character: itself where it is one, else from U+0100 on. Ids
/// follow this order, in which the printable ones come first.
static ALPHABET: LazyLock<[char; 256]> = LazyLock::new(|| {
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let own = (0..=255u8).filter(printable).map(char::from);
    let mut alphabet = [' '; 256];
    for (place, c) in alphabet.iter_mut().zip(own.chain('\u{100}'..)) {
        *place = c;
    }
    alphabet
});

/// The byte's place in [`ALPHABET`].
fn byte_id(byte: u8) -> u32 {
    let byte = u32::from(byte);
    match byte {
        0x21..=0x7e => byte - 0x21,
        0xa1..=0xac => byte - 0xa1 + 94,
        0xae..=0xff => byte - 0xae + 106,
        0x00..=0x20 => byte + 188,
        0x7f..=0xa0 => byte - 0x7f + 221,
        _ => 255,
    }
}

const END_OF_WORD: &str = "</w>";

fn spellings(c: char) -> [String; 2] {
    [c.to_string(), format!("{c}{END_OF_WORD}")]
}

/// The bytes of a token that ends a word.
fn word_bytes(token: &str) -> Option<Vec<u8>> {
    let spelt = token.strip_suffix(END_OF_WORD)?;
    spelt.chars().map(|c| BYTE_OF.get(&c).copied()).collect()
}

static BYTE_OF: LazyLock<HashMap<char, u8>> =
    LazyLock::new(|| (0..=255u8).map(|byte| (ALPHABET[byte_id(byte) as usize], byte)).collect());

/// The reference's pattern; its flag for case matters for `'ſ` alone, and is kept for it.
static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d",
        r"|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+",
    ))
    .expect("a constant that the tests use")
});

/// Longest text that is read, in characters. 77 ids never reach this far, and merging one endless
/// word takes time that grows with the square of its length.
const MAX_CHARS: usize = 8192;

fn readable(text: &str) -> &str {
    if text.len() <= MAX_CHARS {
        return text;
    }
    text.char_indices().nth(MAX_CHARS).map_or(text, |(end, _)| &text[..end])
}

/// What the reference calls cleaning: repair, decode twice, single spaces, lower case.
fn normalised(text: &str) -> String {
    let text = repaired(text);
    let text = if text.contains('&') {
        Cow::Owned(entities::decode(&entities::decode(&text)).into_owned())
    } else {
        text
    };
    let mut out = String::with_capacity(text.len());
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    if out.is_ascii() {
        out.make_ascii_lowercase();
        return out;
    }
    out.to_lowercase()
}

/// Python counts the four information separators as white space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// `ftfy.fix_text` without its guesses about encodings.
fn repaired(text: &str) -> Cow<'_, str> {
    // ftfy decodes references first, but not in what may be HTML.
    let text = if text.contains('<') { Cow::Borrowed(text) } else { entities::decode(text) };
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')) {
        return text;
    }
    let text = ESCAPES.replace_all(&text, "");
    let text = mojibake::repaired(&text);
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_repaired(c, &mut out));
    Cow::Owned(out.nfc().collect())
}

static ESCAPES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\x1b\[[\d;]*[a-zA-Z]").expect("a constant that the tests use"));

fn push_repaired(c: char, out: &mut String) {
    match c {
        'ʼ' | '‘'..='‛' => out.push('\''),
        '“'..='‟' => out.push('"'),
        '\u{3000}' | '\u{ff01}'..='\u{ffee}' => out.extend([c].into_iter().nfkc()),
        'ﬀ'..='ﬄ' | 'ﬆ' | 'Ĳ' | 'ĳ' | 'Ǆ'..='ǌ' | 'Ǳ'..='ǳ' => {
            out.extend([c].into_iter().nfkc());
        }
        'ﬅ' => out.push_str("ſt"),
        'ŉ' => out.push_str("'n"),
        '\0'..='\u{8}'
        | '\u{b}'
        | '\u{e}'..='\u{1f}'
        | '\u{7f}'
        | '\u{206a}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffc}' => {}
        _ => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Parity {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
    }

    /// Made by `tests/data/parity/make_tokenizer_messy.py` and by the RWKV-CLIP fixtures' authors.
    fn cases(json: &str) -> Vec<Case> {
        serde_json::from_str::<Parity>(json).unwrap().cases
    }

    #[test]
    fn ids_equal_those_of_open_clip() {
        let clip = Tokenizer::clip().unwrap();
        let official = cases(include_str!("../tests/data/parity/tokenizer.json"));
        let messy = cases(include_str!("../tests/data/parity/tokenizer_messy.json"));
        assert!(official.len() >= 12 && messy.len() >= 300);
        for case in official.iter().chain(&messy) {
            assert_eq!(clip.context(&case.text).as_slice(), case.ids, "{:?}", case.text);
        }
    }

    #[test]
    fn each_word_of_the_vocabulary_is_what_merging_makes_of_it() {
        let clip = Tokenizer::clip().unwrap();
        assert_eq!(clip.merges.len(), VOCABULARY - 514);
        for (word, &id) in &clip.words {
            assert_eq!(clip.merge(word), [id], "{word:?}");
        }
    }

    #[test]
    fn a_long_text_is_closed_and_an_endless_word_ends() {
        let clip = Tokenizer::clip().unwrap();
        let row = clip.context(&"the quick brown fox ".repeat(100));
        assert_eq!((row[0], row[76]), (START, END));
        assert_eq!(clip.len_with_specials(""), 2);
        let word: String =
            (0..4_000_000u64).map(|i| char::from(b'a' + (i * i % 23) as u8)).collect();
        assert!(clip.encode(&word).len() > CONTEXT);
    }

    #[test]
    fn a_damaged_vocabulary_is_an_error() {
        for lines in ["", "#version\na b", "#version\nxx yy"] {
            assert!(Tokenizer::parse(lines).is_err(), "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn every_id_is_known_and_the_row_is_closed(text in "\\PC{0,80}") {
            let row = Tokenizer::clip().unwrap().context(&text);
            prop_assert!(row.iter().all(|&id| (id as usize) < VOCABULARY));
            prop_assert!(row.contains(&END));
        }
    }
}
