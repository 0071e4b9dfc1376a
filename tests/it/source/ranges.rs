//! Rows are the same whatever ranges they are read in.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::BinaryArray;
use arrow::array::StringArray;
use proptest::prelude::*;
use proptest::sample::Index;

use super::parquet::write_parquet;
use super::webdataset::tar_of;
use super::*;

/// Rows of each fixture, in three files.
const ROWS: u64 = 90;

fn folder() -> TempDir {
    let dir = folder_of(&[]);
    for split in ["a", "b"] {
        let rows =
            (0..30).map(|n| format!("{{\"file_name\": \"{n}.jpg\", \"text\": \"{split}{n}\"}}\n"));
        write(dir.path(), &format!("{split}/metadata.jsonl"), rows.collect::<String>().as_bytes());
        (0..29).for_each(|n| write(dir.path(), &format!("{split}/{n}.jpg"), &[n]));
    }
    (0..30).for_each(|n| write(dir.path(), &format!("c/{n}.jpg"), &[n]));
    dir
}

fn table() -> TempDir {
    let dir = folder_of(&[]);
    for file in ["a", "b", "c"] {
        let row = |n: u64| match n % 7 {
            6 => "too,many,fields,here\n".to_owned(),
            _ => format!("http://a.example/{file}{n},\"text\n{n}\"\n"),
        };
        let csv = format!("url,text\n{}", (0..30).map(row).collect::<String>());
        write(dir.path(), &format!("{file}.csv"), csv.as_bytes());
    }
    dir
}

fn tars() -> TempDir {
    let dir = folder_of(&[]);
    for file in ["a", "b", "c"] {
        let names: Vec<[String; 2]> =
            (0..30).map(|n| [format!("{n:04}.jpg"), format!("{n:04}.txt")]).collect();
        let members = names.iter().flatten().map(|name| (name.as_str(), name.as_bytes()));
        write(dir.path(), &format!("{file}.tar"), &tar_of(&members.collect::<Vec<_>>()));
    }
    dir
}

fn parquets() -> TempDir {
    let dir = folder_of(&[]);
    for file in ["a", "b", "c"] {
        let texts: Vec<String> = (0..30).map(|n| format!("{file}{n}")).collect();
        let images = texts.iter().map(|text| (text.len() > 2).then_some(text.as_bytes()));
        let images: BinaryArray = images.collect();
        let columns: Vec<(&str, arrow::array::ArrayRef)> =
            vec![("image", Arc::new(images)), ("text", Arc::new(StringArray::from(texts)))];
        write_parquet(&dir.path().join(format!("{file}.parquet")), columns, 8);
    }
    dir
}

/// The rows between cuts.
fn ranges(cuts: &[Index]) -> Vec<Range<u64>> {
    let mut cuts: Vec<u64> = cuts.iter().map(|cut| cut.index(ROWS as usize + 1) as u64).collect();
    cuts.extend([0, ROWS]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

fn read(source: &Source, rows: Range<u64>) -> Vec<Item> {
    source.items(rows).unwrap().collect::<anyhow::Result<_>>().unwrap()
}

fn assert_parts_are_the_whole(dir: &TempDir) {
    let whole = items(&open(&[dir.path().to_owned()]).unwrap());
    assert_eq!(whole.len() as u64, ROWS);
    let source = open(&[dir.path().to_owned()]).unwrap();
    let config =
        ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let cuts = prop::collection::vec(any::<Index>(), 0..12);
    let strategy = (cuts, any::<Index>(), any::<Index>());
    proptest::test_runner::TestRunner::new(config)
        .run(&strategy, |(cuts, first, given_up)| {
            let ranges = ranges(&cuts);
            let parts = ranges.iter().flat_map(|rows| read(&source, rows.clone()));
            prop_assert_eq!(&parts.collect::<Vec<_>>(), &whole);
            // Out of order, after a range that was given up in its middle.
            let _ = source.items(0..ROWS).unwrap().take(given_up.index(ROWS as usize)).count();
            let rows = ranges[first.index(ranges.len())].clone();
            prop_assert_eq!(
                read(&source, rows.clone()),
                &whole[rows.start as usize..rows.end as usize]
            );
            Ok(())
        })
        .unwrap();
    assert!(read(&source, ROWS..ROWS + 5).is_empty(), "there is nothing behind the last row");
    assert_eq!(read(&source, 85..ROWS + 5), &whole[85..]);
}

#[test]
fn parts_of_a_folder_are_the_whole() {
    assert_parts_are_the_whole(&folder());
}

#[test]
fn parts_of_tables_are_the_whole() {
    assert_parts_are_the_whole(&table());
}

#[test]
fn parts_of_tars_are_the_whole() {
    assert_parts_are_the_whole(&tars());
}

#[test]
fn parts_of_parquet_files_are_the_whole() {
    assert_parts_are_the_whole(&parquets());
}

/// Reading the second half must not begin at the first row again: it goes on where the first half
/// ended, which shows when the file is gone from its place by then, but its size and time are not.
#[test]
fn ranges_in_order_cost_one_pass() {
    for (dir, name) in [(table(), "a.csv"), (tars(), "a.tar"), (parquets(), "a.parquet")] {
        let path = dir.path().join(name);
        let source = open(std::slice::from_ref(&path)).unwrap();
        let whole = read(&source, 0..30);
        read(&source, 0..15);
        let before = fs::metadata(&path).unwrap();
        let moved = dir.path().join("moved");
        fs::rename(&path, moved).unwrap();
        fs::write(&path, vec![b'\n'; before.len() as usize]).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        assert_eq!(read(&source, 15..22), &whole[15..22], "{name}");
        assert_eq!(read(&source, 22..30), &whole[22..], "{name}");
    }
}

#[test]
fn words_are_the_items_without_their_pictures() {
    let keyed = folder_of(&[]);
    let texts = |name: &str| -> arrow::array::ArrayRef {
        Arc::new(StringArray::from((0..ROWS).map(|n| format!("{name}{n}")).collect::<Vec<_>>()))
    };
    let images = BinaryArray::from_iter((0..ROWS).map(|_| Some(PIXELS)));
    let mut columns: Vec<(&str, arrow::array::ArrayRef)> = vec![("image", Arc::new(images))];
    columns.extend(["one", "key", "text", "two"].map(|name| (name, texts(name))));
    write_parquet(&keyed.path().join("a.parquet"), columns, 8);
    let wanted = BTreeSet::from(["two".to_owned()]);
    for (dir, has_keys) in
        [(folder(), true), (table(), true), (tars(), true), (parquets(), false), (keyed, true)]
    {
        let source = open(&[dir.path().to_owned()]).unwrap();
        let whole = items(&source);
        let words = source.words(7..ROWS - 3, &wanted).unwrap();
        let words: Vec<Item> = words.collect::<anyhow::Result<_>>().unwrap();
        assert_eq!(words.len() as u64, ROWS - 10);
        for (word, item) in words.iter().zip(&whole[7..]) {
            assert!(!matches!(word.picture, Picture::Bytes { .. }));
            assert!(!has_keys || word.key == item.key, "{} {}", word.key, item.key);
            assert_eq!((&word.text_raw, &word.url), (&item.text_raw, &item.url));
            assert_eq!(word.extra.get("two"), item.extra.get("two"));
            assert_eq!(word.extra.get("one"), None);
        }
        assert_eq!(items(&source), whole, "what is read after words is whole again");
    }
}
