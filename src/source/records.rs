//! Text files as records: lines of JSON, or rows of CSV with quoted line breaks.
//!
//! A record is bounded, whatever the file: the `csv` crate would follow an unclosed quote through a
//! whole file in memory, so records are split here, and `csv` is the twin that the tests compare
//! with. The one difference: a carriage return alone does not end a record.

use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use flate2::bufread::MultiGzDecoder;

/// The longest record that is kept. Longer than any caption with metadata, short enough to buffer.
pub(super) const MAX_RECORD_BYTES: usize = 16 << 20;

const READ_BYTES: usize = 256 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file that is read record by record.
pub(super) struct Records {
    input: Box<dyn BufRead + Send>,
    path: PathBuf,
    splitter: Splitter,
    buffer: Vec<u8>,
    /// Line on which the next record begins, from 1.
    line: u64,
}

/// A record without its line end.
pub(super) enum Record<'a> {
    /// In full.
    Whole(&'a [u8]),
    /// Longer than [`MAX_RECORD_BYTES`]; its bytes were passed over.
    TooLong,
}

/// Finds the ends of records.
#[derive(Clone, Copy)]
pub(super) enum Splitter {
    /// Each line break ends a record.
    Lines,
    /// A line break outside quotes does.
    Csv { delimiter: u8, state: CsvState },
}

/// Where in a CSV record a byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CsvState {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside quotes: the end of the quoted part, or the first half of `""`.
    QuoteInQuoted,
}

impl Records {
    /// Opens a text file, gzipped or not.
    pub(super) fn open(path: &Path, splitter: Splitter) -> Result<Records> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut input: Box<dyn BufRead + Send> =
            Box::new(BufReader::with_capacity(READ_BYTES, file));
        let start = start_of(&mut input, path)?;
        if start.starts_with(&GZIP_MAGIC) {
            let plain = MultiGzDecoder::new(input);
            input = Box::new(BufReader::with_capacity(READ_BYTES, plain));
        }
        let start = start_of(&mut input, path)?;
        if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
            bail!("{} is UTF-16; convert it to UTF-8 first", path.display());
        }
        if start.starts_with(UTF8_MARK) {
            input.consume(UTF8_MARK.len());
        }
        Ok(Records { input, path: path.to_owned(), splitter, buffer: Vec::new(), line: 1 })
    }

    /// The bytes that come next, at least one unless the file is at its end.
    pub(super) fn peek(&mut self) -> Result<&[u8]> {
        start_of(&mut self.input, &self.path)
    }

    /// The next record that is not blank, with the line it begins on.
    pub(super) fn next_record(&mut self) -> Result<Option<(u64, Record<'_>)>> {
        loop {
            let line = self.line;
            let Some(whole) = self.read_one()? else { return Ok(None) };
            if !whole {
                return Ok(Some((line, Record::TooLong)));
            }
            if !self.buffer.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some((line, Record::Whole(&self.buffer))));
            }
        }
    }

    /// Reads a record into the buffer: `None` at the end of the file, `false` if it was too long.
    fn read_one(&mut self) -> Result<Option<bool>> {
        self.buffer.clear();
        self.splitter.restart();
        let (mut any, mut whole) = (false, true);
        loop {
            let chunk = start_of(&mut self.input, &self.path)?;
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|byte| self.splitter.ends_at(*byte));
            let taken = end.map_or(chunk.len(), |end| end + 1);
            self.line += chunk[..taken].iter().filter(|byte| **byte == b'\n').count() as u64;
            whole = whole && self.buffer.len() + taken <= MAX_RECORD_BYTES;
            if whole {
                self.buffer.extend_from_slice(&chunk[..taken]);
            } else {
                // A quote that is never closed must not swallow the rest of the file as well.
                self.splitter.give_up_on_quotes();
            }
            self.input.consume(taken);
            if end.is_some() {
                break;
            }
        }
        trim_line_end(&mut self.buffer);
        Ok(any.then_some(whole))
    }
}

impl Splitter {
    /// For rows of comma- or tab-separated values.
    pub(super) fn csv(delimiter: u8) -> Splitter {
        Splitter::Csv { delimiter, state: CsvState::FieldStart }
    }

    fn restart(&mut self) {
        if let Splitter::Csv { state, .. } = self {
            *state = CsvState::FieldStart;
        }
    }

    fn give_up_on_quotes(&mut self) {
        if let Splitter::Csv { state, .. } = self {
            *state = CsvState::Plain;
        }
    }

    fn ends_at(&mut self, byte: u8) -> bool {
        match self {
            Splitter::Lines => byte == b'\n',
            Splitter::Csv { delimiter, state } => {
                *state = state.next(byte, *delimiter);
                byte == b'\n' && *state != CsvState::Quoted
            }
        }
    }
}

impl CsvState {
    fn next(self, byte: u8, delimiter: u8) -> CsvState {
        match (self, byte) {
            (CsvState::FieldStart, b'"') | (CsvState::QuoteInQuoted, b'"') => CsvState::Quoted,
            (CsvState::Quoted, b'"') => CsvState::QuoteInQuoted,
            (CsvState::Quoted, _) => CsvState::Quoted,
            (_, byte) if byte == delimiter => CsvState::FieldStart,
            _ => CsvState::Plain,
        }
    }
}

/// The fields of a CSV record, unquoted; an error says that a quote is never closed.
pub(super) fn fields(record: &[u8], delimiter: u8) -> Result<Vec<Vec<u8>>> {
    let mut fields = vec![Vec::new()];
    let mut state = CsvState::FieldStart;
    for &byte in record {
        let before = state;
        state = before.next(byte, delimiter);
        match (before, state) {
            (
                CsvState::FieldStart | CsvState::Quoted,
                CsvState::Quoted | CsvState::QuoteInQuoted,
            ) if byte == b'"' => {}
            (_, CsvState::FieldStart) => fields.push(Vec::new()),
            _ => fields.last_mut().context("a record has a field")?.push(byte),
        }
    }
    match state {
        CsvState::Quoted => bail!("a quote is never closed"),
        _ => Ok(fields),
    }
}

fn start_of<'a>(input: &'a mut Box<dyn BufRead + Send>, path: &Path) -> Result<&'a [u8]> {
    input.fill_buf().with_context(|| format!("{} is cut off or damaged", path.display()))
}

fn trim_line_end(record: &mut Vec<u8>) {
    if record.last() == Some(&b'\n') {
        record.pop();
        if record.last() == Some(&b'\r') {
            record.pop();
        }
    }
}

/// The first bytes of a file as they lie on disk; for telling what it is.
pub(super) fn first_bytes(path: &Path, count: usize) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut start = Vec::with_capacity(count);
    file.take(count as u64)
        .read_to_end(&mut start)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn all(bytes: &[u8], splitter: Splitter) -> Vec<Option<Vec<u8>>> {
        let file = file_of(bytes);
        let mut records = Records::open(file.path(), splitter).unwrap();
        let mut out = Vec::new();
        while let Some((_, record)) = records.next_record().unwrap() {
            out.push(match record {
                Record::Whole(bytes) => Some(bytes.to_vec()),
                Record::TooLong => None,
            });
        }
        out
    }

    #[test]
    fn line_ends_marks_and_blank_lines_are_not_content() {
        let expected = vec![Some(b"a".to_vec()), Some(b"b".to_vec())];
        assert_eq!(all(b"\xef\xbb\xbfa\r\n\n \nb", Splitter::Lines), expected);
    }

    #[test]
    fn quoted_line_breaks_stay_inside() {
        let records = all(b"\"a\nb\",c\nd", Splitter::csv(b','));
        assert_eq!(records, [Some(b"\"a\nb\",c".to_vec()), Some(b"d".to_vec())]);
    }

    #[test]
    fn a_record_above_the_cap_is_passed_over() {
        let mut text = b"\"".to_vec();
        text.resize(MAX_RECORD_BYTES + READ_BYTES, b'x');
        text.extend_from_slice(b"\nnext\n");
        assert_eq!(all(&text, Splitter::csv(b',')), [None, Some(b"next".to_vec())]);
        assert_eq!(all(&text, Splitter::Lines), [None, Some(b"next".to_vec())]);
    }

    #[test]
    fn lines_are_counted_through_quotes() {
        let file = file_of(b"a\n\"b\nb\"\nc\n");
        let mut records = Records::open(file.path(), Splitter::csv(b',')).unwrap();
        let mut lines = Vec::new();
        while let Some((line, _)) = records.next_record().unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, [1, 2, 4]);
    }

    #[test]
    fn a_cut_off_gzip_is_an_error() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&(0..200_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
        let bytes = gzip.finish().unwrap();
        let file = file_of(&bytes[..bytes.len() / 2]);
        let mut records = Records::open(file.path(), Splitter::Lines).unwrap();
        let error = loop {
            match records.next_record() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the cut was not seen"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("cut off"), "{error:#}");
    }

    proptest! {
        #[test]
        fn rows_are_those_of_the_csv_crate(text in "[ab\" ,\n]{0,40}") {
            let file = file_of(text.as_bytes());
            let mut records = Records::open(file.path(), Splitter::csv(b',')).unwrap();
            let mut ours = Vec::new();
            let mut unclosed = false;
            while let Some((_, record)) = records.next_record().unwrap() {
                let Record::Whole(record) = record else { panic!("short records") };
                match fields(record, b',') {
                    Ok(fields) => ours.push(fields),
                    Err(_) => unclosed = true,
                }
            }
            let mut twin = csv::ReaderBuilder::new();
            let twin = twin.has_headers(false).flexible(true).from_reader(text.as_bytes())
                .byte_records()
                .map(|r| r.unwrap().iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
                // Lines of blanks are rows for the twin and nothing here.
                .filter(|r| r.len() > 1 || !r[0].iter().all(u8::is_ascii_whitespace) )
                .collect::<Vec<_>>();
            let ours = ours.into_iter()
                .filter(|r| r.len() > 1 || !r[0].iter().all(u8::is_ascii_whitespace))
                .collect::<Vec<_>>();
            let twin = &twin[..twin.len().min(if unclosed { ours.len() } else { usize::MAX })];
            prop_assert_eq!(&ours[..], twin);
        }
    }
}
