//! Shards written and read back.

mod damage;
mod rows;
mod workers;

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::shard::columns::Layout;
use rows::extra_columns;
use rows::outcome;
use rows::outcomes;
use rows::samples;
const FORMATS: [Format; 2] = [Format::Parquet, Format::Webdataset];

/// Each case waits for the disk several times.
fn cases() -> ProptestConfig {
    ProptestConfig { cases: 48, ..ProptestConfig::default() }
}

fn writer(run: &TempDir, format: Format, outcomes: &[Outcome]) -> Writer {
    let mut writer = Writer::create(run.path(), 7, format, &extra_columns()).unwrap();
    outcomes.iter().for_each(|outcome| writer.push(outcome.clone()).unwrap());
    writer
}

fn write(run: &TempDir, format: Format, outcomes: &[Outcome]) -> Marker {
    writer(run, format, outcomes).commit(Duration::ZERO).unwrap().expect("nobody else is here")
}

/// Everything in a shard, in order, with the source's columns under the source's names.
fn read(run: &TempDir, marker: &Marker) -> Vec<Outcome> {
    let columns = extra_columns();
    let (refined, rejects) = (Layout::refined(&columns), Layout::rejects(&columns));
    let mut rows: Vec<Option<Outcome>> = Vec::new();
    rows.resize_with(marker.rows_read as usize, || None);
    for rejected in super::rejects(run.path(), marker).unwrap() {
        let (row, mut item, reject) = rejected.unwrap();
        item.extra = rejects.extra_of(item.extra);
        assert!(rows[row as usize].replace(Err((item, reject))).is_none(), "row {row} twice");
    }
    let mut samples = super::refined(run.path(), marker, Images::Read).unwrap();
    for row in rows.iter_mut().filter(|row| row.is_none()) {
        let mut sample = samples.next().expect("as many rows as counted").unwrap();
        sample.item.extra = refined.extra_of(sample.item.extra);
        *row = Some(Ok(sample));
    }
    assert!(samples.next().is_none());
    rows.into_iter().flatten().collect()
}

fn names_in(run: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(run.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn metadata(run: &TempDir, file: &DataFile) -> ParquetMetaData {
    let file = fs::File::open(run.path().join(&file.name)).unwrap();
    SerializedFileReader::new(file).unwrap().metadata().clone()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn rows_come_back_as_they_went_in(outcomes in vec(outcome(), 0..8)) {
        for format in FORMATS {
            let run = tempfile::tempdir().unwrap();
            let marker = write(&run, format, &outcomes);
            prop_assert_eq!(read(&run, &marker), outcomes.clone());
            prop_assert_eq!(finished(run.path(), 7).unwrap(), Some(marker.clone()));
            marker.verify(run.path()).unwrap();
        }
    }
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    for format in FORMATS {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let rows = outcomes(120);
        assert_eq!(write(&one, format, &rows), write(&two, format, &rows));
    }
}

#[test]
fn row_groups_hold_a_hundred_rows_and_pictures_are_not_compressed() {
    let run = tempfile::tempdir().unwrap();
    let marker = write(&run, Format::Parquet, &samples(250));
    let metadata = metadata(&run, &marker.part);
    let rows: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [100, 100, 50]);
    for column in metadata.row_groups()[0].columns() {
        let path = column.column_path().string();
        let plain = column.compression() == Compression::UNCOMPRESSED;
        assert_eq!(plain, path == "image.bytes", "{path}");
        let free = ["image.bytes", "key", "url", "sha256"].contains(&path.as_str());
        let free = free || path.starts_with("text_");
        assert!(!free || column.dictionary_page_offset().is_none(), "{path} has a dictionary");
    }
}

#[test]
fn a_row_group_of_large_pictures_ends_early() {
    let run = tempfile::tempdir().unwrap();
    let mut rows = samples(3);
    let large = Bytes::from(vec![0; table::ROW_GROUP_IMAGE_BYTES / 2]);
    rows.iter_mut().flatten().for_each(|sample| sample.image.bytes = large.clone());
    let marker = write(&run, Format::Parquet, &rows);
    let metadata = metadata(&run, &marker.part);
    let rows: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [2, 1]);
}

#[test]
fn chosen_rows_are_read_with_their_pictures() {
    for format in FORMATS {
        let run = tempfile::tempdir().unwrap();
        let marker = write(&run, format, &samples(230));
        let all: Vec<Sample> =
            refined(run.path(), &marker, Images::Read).unwrap().map(Result::unwrap).collect();
        let wanted = [0, 99, 100, 229];
        let some = refined_rows(run.path(), &marker, &wanted).unwrap();
        assert_eq!(some, wanted.map(|place| all[place].clone()));
        assert!(refined_rows(run.path(), &marker, &[230]).is_err());
        assert!(refined_rows(run.path(), &marker, &[4, 4]).is_err());
        let mut plain = refined(run.path(), &marker, Images::Skip).unwrap();
        assert!(plain.all(|sample| sample.unwrap().image.bytes.is_empty()));
    }
}

#[test]
fn only_a_clash_costs_a_column_of_the_source_its_name() {
    let names = |schema: SchemaRef| -> Vec<String> {
        schema.fields().iter().map(|field| field.name().clone()).rev().take(9).collect()
    };
    let mut refined = names(refined_schema(&extra_columns()).unwrap());
    refined.reverse();
    let plain = ["row", "similarity", "flag", "blob", "pair"];
    let clashes = ["width_source", "key_source", "key_source_source", "image_source"];
    assert_eq!(refined, [&clashes[..], &plain].concat());
    assert!(names(rejects_schema(&extra_columns()).unwrap()).contains(&"row_source".to_owned()));
}
