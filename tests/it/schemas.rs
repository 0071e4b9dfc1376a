//! The JSON Schemas in `schemas/` are those of the code, the Arrow schemas agree with them, and so
//! do rows that were really written.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::Fields;
use bytes::Bytes;
use schemars::JsonSchema;
use schemars::schema_for;
use serde_json::Value;
use serde_json::json;

use recaption::ablate;
use recaption::chat::Statement;
use recaption::config::Config;
use recaption::curate::reaudit;
use recaption::curate::select;
use recaption::describe::prompt::Caption;
use recaption::eval::result::Score;
use recaption::eval::suite::Suite;
use recaption::instruct;
use recaption::review;
use recaption::run::RunRecord;
use recaption::sample::Audit;
use recaption::sample::Fit;
use recaption::sample::Generated;
use recaption::sample::Item;
use recaption::sample::Link;
use recaption::sample::Origin;
use recaption::sample::Picture;
use recaption::sample::Reason;
use recaption::sample::Safety;
use recaption::sample::Sample;
use recaption::sample::StoredImage;
use recaption::sample::Synthetic;
use recaption::sample::Tag;
use recaption::sample::WordOrigin;
use recaption::shard;
use recaption::shard::Format;
use recaption::shard::Marker;
use recaption::shard::Record;
use recaption::shard::RejectRecord;
use recaption::train;
use recaption::train::journal::Line;

const REGENERATE: &str = "RECAPTION_WRITE_SCHEMAS";

/// A refined row, as a parquet row or as the JSON member of a webdataset. Columns of the source
/// follow under their own names; a clash gets the suffix `_source`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Row {
    #[schemars(flatten)]
    record: Record,
    /// The stored picture.
    image: Image,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Image {
    /// In parquet.
    Struct {
        /// The encoded picture: JPEG, PNG or WebP, Arrow type binary.
        bytes: String,
        /// File name.
        path: String,
    },
    /// In a webdataset: the file name; the bytes are the member beside.
    Path(String),
}

fn schemas() -> Vec<(&'static str, Value)> {
    let schemas = [
        ("row.schema.json", schema_for!(Row)),
        ("rejects.schema.json", schema_for!(RejectRecord)),
        ("stats.schema.json", schema_for!(Marker)),
        ("run.schema.json", schema_for!(RunRecord)),
        ("config.schema.json", schema_for!(Config)),
        ("score.schema.json", schema_for!(Score)),
        ("suite.schema.json", schema_for!(Suite)),
        ("train_config.schema.json", schema_for!(train::Config)),
        ("train.schema.json", schema_for!(train::Record)),
        ("metrics.schema.json", schema_for!(Line)),
        ("ablation.schema.json", schema_for!(ablate::Table)),
        ("verdict.schema.json", schema_for!(review::Line)),
        ("audit.schema.json", schema_for!(reaudit::Audited)),
        ("caption.schema.json", schema_for!(Caption)),
        ("bill.schema.json", schema_for!(Statement)),
        ("instruct.schema.json", schema_for!(instruct::Record)),
        ("selection.schema.json", schema_for!(select::Record)),
    ];
    schemas.into_iter().map(|(name, schema)| (name, schema.to_value())).collect()
}

fn schema(name: &str) -> Value {
    schemas().into_iter().find(|(file, _)| *file == name).expect("it is in the list").1
}

#[test]
fn the_schema_files_are_those_of_the_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    for (name, schema) in schemas() {
        let expected = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = folder.join(name);
        if std::env::var_os(REGENERATE).is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &expected).unwrap();
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        // Not assert_eq: two whole files would hide the one sentence that helps.
        assert!(
            there == expected,
            "schemas/{name} is not what the code says; run the tests once with {REGENERATE}=1 and \
             commit the difference"
        );
    }
}

#[test]
fn the_arrow_schemas_have_the_properties_of_the_json_schemas() {
    let refined = shard::refined_schema(&[]).unwrap();
    let row = schema("row.schema.json");
    assert_same_columns(&row, &row, refined.fields(), "row");
    let required = required(&row);
    for field in refined.fields().iter().filter(|field| field.name() != "image") {
        assert_eq!(required.contains(field.name().as_str()), !field.is_nullable(), "{field}");
    }
    // Nullable in Arrow although no row lacks it: Hugging Face `datasets` wants it so.
    assert!(required.contains("image") && refined.field(1).is_nullable());

    let rejects = shard::rejects_schema(&[]).unwrap();
    let row = schema("rejects.schema.json");
    assert_same_columns(&row, &row, rejects.fields(), "rejects");
    let columns: BTreeSet<&str> = rejects.fields().iter().filter_map(non_null).collect();
    assert_eq!(self::required(&row), columns);
}

fn non_null(field: &std::sync::Arc<Field>) -> Option<&str> {
    (!field.is_nullable()).then(|| field.name().as_str())
}

fn required(schema: &Value) -> BTreeSet<&str> {
    schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

/// Same names, same kinds, however deep.
fn assert_same_columns(root: &Value, object: &Value, fields: &Fields, place: &str) {
    let properties =
        object["properties"].as_object().unwrap_or_else(|| panic!("{place}: {object}"));
    let json: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
    let arrow: BTreeSet<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    assert_eq!(json, arrow, "{place}");
    for field in fields {
        let place = format!("{place}.{}", field.name());
        assert_same_kind(root, &properties[field.name()], field.data_type(), &place);
    }
}

fn assert_same_kind(root: &Value, property: &Value, data_type: &DataType, place: &str) {
    let property = resolved(root, property);
    let word = match data_type {
        DataType::Struct(fields) => {
            assert_same_columns(root, &property, fields, place);
            "object"
        }
        DataType::List(item) => {
            assert_same_kind(root, &property["items"], item.data_type(), place);
            "array"
        }
        DataType::Utf8 | DataType::Binary => "string",
        DataType::Float32 => "number",
        DataType::UInt32 | DataType::UInt64 => "integer",
        other => panic!("{place}: {other} is new here"),
    };
    let kind = if property["type"].is_array() { &property["type"][0] } else { &property["type"] };
    assert_eq!(kind, word, "{place}: {property}");
}

/// Behind references, and the first of several forms (parquet's, or the first of an enum's words).
fn resolved(root: &Value, property: &Value) -> Value {
    let choice = property["anyOf"].get(0).or(property["oneOf"].get(0));
    match (property["$ref"].as_str(), choice) {
        (Some(reference), _) => {
            resolved(root, root.pointer(reference.trim_start_matches('#')).expect("it is defined"))
        }
        (None, Some(choice)) => resolved(root, choice),
        (None, None) => property.clone(),
    }
}

#[test]
fn rows_and_markers_that_were_written_satisfy_the_schemas() {
    let run = tempfile::tempdir().unwrap();
    let mut writer = shard::Writer::create(run.path(), 0, Format::Webdataset, &[]).unwrap();
    writer.push(Ok(sample("bare"))).unwrap();
    writer.push(Ok(described(sample("full")))).unwrap();
    let marker = writer.commit(Duration::from_secs(1)).unwrap().unwrap();

    let rows = json_members(&run.path().join(&marker.part.name));
    assert_eq!(rows.len(), 2);
    let row = jsonschema::validator_for(&schema("row.schema.json")).unwrap();
    for json in &rows {
        let errors: Vec<String> = row.iter_errors(json).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{json}");
    }
    let mut keyless = rows[0].clone();
    keyless.as_object_mut().unwrap().remove("key");
    assert!(!row.is_valid(&keyless));

    let stats = jsonschema::validator_for(&schema("stats.schema.json")).unwrap();
    let mut marker = serde_json::to_value(marker).unwrap();
    assert!(stats.is_valid(&marker));
    marker["refined"] = json!(-1);
    assert!(!stats.is_valid(&marker));
}

fn json_members(tar: &Path) -> Vec<Value> {
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let mut rows = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().extension().is_some_and(|extension| extension == "json") {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            rows.push(serde_json::from_str(&text).unwrap());
        }
    }
    rows
}

/// A row with everything absent that may be.
fn sample(key: &str) -> Sample {
    let item = Item {
        key: key.into(),
        picture: Picture::Absent { reason: Reason::ImageNull, detail: String::new() },
        url: None,
        text_raw: None,
        extra: Default::default(),
    };
    let image = StoredImage {
        bytes: Bytes::from_static(b"\xff\xd8\xff"),
        path: format!("{key}.jpg"),
        width: 3,
        height: 2,
        original_width: 30,
        original_height: 20,
    };
    Sample::decoded(item, image, "00".repeat(32), u64::MAX)
}

/// The same row with everything.
fn described(mut sample: Sample) -> Sample {
    let tag = Tag { label: "cat".into(), score: 0.1, bbox: None, model: "tagger@01234567".into() };
    sample.tags = vec![Tag { bbox: Some([0.5, 1.0, 2.0, 2.5]), ..tag.clone() }, tag];
    sample.item.url = Some("somewhere".into());
    sample.item.text_raw = Some("CAT_01.jpg".into());
    sample.synthetic = Some(Synthetic { text: "a cat".into(), model: "captioner@0".into() });
    sample.generated = Some(Generated {
        text: "A cat.".into(),
        writer: "rules".into(),
        model: "rules".into(),
        prompt: "0".into(),
        finish_reason: "stop".into(),
        tokens: Some(3),
    });
    sample.generated_refused = Some("empty".into());
    let word = WordOrigin { link: Some(Link::Same), ..WordOrigin::new("cat", Origin::Tag) };
    sample.audit = Audit {
        score: 1.0,
        reasons: vec!["email".into()],
        evidence: vec!["a@b.example".into()],
        words: vec![word],
        kept: vec!["Paris".into()],
        lost: vec!["2019".into()],
        novelty: Some(0.5),
        raw_synthetic: Some(0.5),
        raw_generated: Some(0.5),
        synthetic_generated: Some(0.5),
        language: Some("eng".into()),
        ..Audit::default()
    };
    let fit = Fit { raw: Some(0.25), synthetic: None, generated: Some(-0.5), model: "m@0".into() };
    sample.fit = Some(fit);
    sample.safety = Some(Safety { nsfw: 0.25, model: "open-nsfw@0".into() });
    sample
}
