//! Parquet files.

use std::fs::File;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow::array::ArrayRef;
use arrow::array::BinaryArray;
use arrow::array::BinaryViewArray;
use arrow::array::DictionaryArray;
use arrow::array::Int32Array;
use arrow::array::Int64Array;
use arrow::array::LargeStringArray;
use arrow::array::RecordBatch;
use arrow::array::StringArray;
use arrow::array::StringViewArray;
use arrow::array::StructArray;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::Int8Type;
use proptest::prelude::*;
use recaption::sample::Extra;
use recaption::source::Format;
use serde_json::json;

use super::*;

pub(crate) fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>, group_rows: usize) {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let properties =
        WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// An image cell of Hugging Face `datasets`: bytes and path.
type Image<'a> = (Option<&'a [u8]>, Option<&'a str>);

fn images(cells: Vec<Option<Image<'_>>>) -> ArrayRef {
    let bytes: BinaryArray = cells.iter().map(|cell| cell.and_then(|(bytes, _)| bytes)).collect();
    let paths: StringArray = cells.iter().map(|cell| cell.and_then(|(_, path)| path)).collect();
    let fields =
        vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)];
    let valid = cells.iter().map(Option::is_some).collect::<Vec<_>>();
    let arrays: Vec<ArrayRef> = vec![Arc::new(bytes), Arc::new(paths)];
    Arc::new(StructArray::new(fields.into(), arrays, Some(valid.into())))
}

#[test]
fn hugging_face_images_and_their_nulls() {
    let dir = folder_of(&[]);
    let path = dir.path().join("x.parquet");
    let cells = vec![
        Some((Some(PIXELS), Some("a.jpg"))),
        None,
        Some((None, Some("b.jpg"))),
        Some((Some(&b""[..]), None)),
        Some((Some(PIXELS), None)),
    ];
    let texts: LargeStringArray =
        [Some("one"), Some("two"), None, Some(""), Some("five")].into_iter().collect();
    let years = Int32Array::from(vec![Some(1999), None, Some(2001), None, None]);
    let keys = Int64Array::from(vec![5, 6, 7, 8, 9]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("image", images(cells)),
        ("caption", Arc::new(texts)),
        ("year", Arc::new(years)),
        ("key", Arc::new(keys)),
    ];
    write_parquet(&path, columns, 2);
    let source = open(&[path]).unwrap();
    assert_eq!(source.plan().format, Format::Parquet);
    let items = items(&source);
    assert_eq!(
        items.iter().map(tell).collect::<Vec<_>>(),
        [
            "5|one|9 bytes a.jpg",
            "6|two|image is null",
            "7|-|image bytes are null",
            "8||empty image bytes",
            "9|five|9 bytes -",
        ]
    );
    assert_eq!(items[0].extra, Extra::from_iter([("year".to_owned(), json!(1999))]));
    assert_eq!(source.plan().extra[0].data_type, json!("Int32"));
}

#[test]
fn dictionaries_views_and_plain_bytes_are_understood() {
    let dir = folder_of(&[]);
    let path = dir.path().join("x.parquet");
    let url: DictionaryArray<Int8Type> =
        vec![Some("http://a.example/1"), None].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("jpg", Arc::new(BinaryViewArray::from(vec![Some(PIXELS), None]))),
        ("url", Arc::new(url)),
        ("TEXT", Arc::new(StringViewArray::from(vec![None, Some("two")]))),
    ];
    write_parquet(&path, columns, 10);
    let told = told(&path);
    assert!(told[0].ends_with("|-|9 bytes -"), "{}", told[0]);
    assert!(told[1].ends_with("|two|image is null"), "{}", told[1]);
}

/// A row of DataComp whose image was not fetched yet, beside one that has it.
#[test]
fn a_url_is_taken_where_there_is_no_image() {
    let dir = folder_of(&[]);
    let path = dir.path().join("x.parquet");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("uid", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("image", Arc::new(BinaryArray::from_opt_vec(vec![None, Some(PIXELS)]))),
        ("url", Arc::new(StringArray::from(vec!["http://a.example/1", "http://a.example/2"]))),
        ("text", Arc::new(StringArray::from(vec!["one", "two"]))),
    ];
    write_parquet(&path, columns, 10);
    assert_eq!(told(&path), ["a|one|http://a.example/1", "b|two|9 bytes -"]);
    assert!(open(&[path]).unwrap().plan().has_urls());
}

#[test]
fn files_may_differ_in_columns_and_widths() {
    let dir = folder_of(&[]);
    let text = |words: &[&str]| Arc::new(StringArray::from(words.to_vec())) as ArrayRef;
    let first =
        vec![("url", text(&["u1"])), ("n", Arc::new(Int32Array::from(vec![1])) as ArrayRef)];
    write_parquet(&dir.path().join("1.parquet"), first, 10);
    let second = vec![
        ("n", Arc::new(Int64Array::from(vec![1 << 40])) as ArrayRef),
        ("url", text(&["u2"])),
        ("text", text(&["two"])),
    ];
    write_parquet(&dir.path().join("2.parquet"), second, 10);
    let source = open(&[dir.path().to_owned()]).unwrap();
    let items = items(&source);
    assert_eq!(items[0].extra["n"], json!(1));
    assert_eq!(
        (items[1].text_raw.as_deref(), &items[1].extra["n"]),
        (Some("two"), &json!(1i64 << 40))
    );
    assert_eq!(source.plan().extra[0].data_type, json!("Int64"));
}

#[test]
fn files_that_cannot_be_used_are_refused_by_name() {
    let dir = folder_of(&[("text.parquet", b"url,text\nu,t\n"), ("empty.parquet", b"")]);
    let path = |name: &str| dir.path().join(name);
    let numbers = || Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef;
    write_parquet(&path("wrong.parquet"), vec![("url", numbers()), ("x", numbers())], 10);
    let none = Arc::new(StringArray::from(Vec::<&str>::new())) as ArrayRef;
    write_parquet(&path("none.parquet"), vec![("url", none)], 10);
    let whole = fs::read(path("wrong.parquet")).unwrap();
    write(dir.path(), "cut.parquet", &whole[..whole.len() - 10]);
    for (name, expected) in [
        ("text.parquet", "does not begin with PAR1"),
        ("empty.parquet", "is empty (0 bytes)"),
        ("cut.parquet", "cannot be used as parquet; is it cut off?"),
        ("none.parquet", "has no rows"),
        ("wrong.parquet", "no column holds images or their urls. Columns found: url (Int32)"),
    ] {
        let said = refusal(&path(name));
        assert!(said.contains(name) && said.contains(expected), "{name}: {said}");
    }
    let config = Config { image_column: Some("x".into()), ..Config::default() };
    let said = refusal_with(&path("wrong.parquet"), &config);
    assert!(said.contains(r#"image_column is "x", but that column holds Int32"#), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_damaged_file_is_an_error_and_never_a_panic(at: prop::sample::Index, to: u8, cut in 0usize..400) {
        let dir = folder_of(&[]);
        let path = dir.path().join("x.parquet");
        let texts: Vec<String> = (0..20).map(|n| format!("http://a.example/{n}")).collect();
        write_parquet(&path, vec![("url", Arc::new(StringArray::from(texts)))], 7);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if cut % 4 == 0 {
            bytes.truncate(bytes.len().saturating_sub(cut).max(1));
        }
        fs::write(&path, bytes).unwrap();
        if let Ok(source) = open(&[path])
            && let Ok(items) = source.items(0..source.plan().rows)
        {
            let errors = items.filter(Result::is_err).count();
            prop_assert!(errors <= 1, "nothing comes after an error");
        }
    }
}
