//! Rows as hostile as the web's, for the tests beside.

use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::Value;
use serde_json::json;

use crate::arrow_json::extra_column;
use crate::sample::Audit;
use crate::sample::Extra;
use crate::sample::ExtraColumn;
use crate::sample::Fit;
use crate::sample::Generated;
use crate::sample::Item;
use crate::sample::Origin;
use crate::sample::Picture;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Safety;
use crate::sample::Sample;
use crate::sample::Stage;
use crate::sample::StoredImage;
use crate::sample::Synthetic;
use crate::sample::Tag;
use crate::sample::WordOrigin;
use crate::shard::Outcome;

pub(super) fn extra_columns() -> Vec<ExtraColumn> {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    let columns = [
        ("width", DataType::Int64),
        ("key_source", DataType::Utf8),
        ("key", DataType::Utf8),
        ("image", DataType::Utf8),
        ("row", DataType::Int32),
        ("similarity", DataType::Float64),
        ("flag", DataType::Boolean),
        ("blob", DataType::Binary),
        ("pair", DataType::Struct(vec![Field::new("list", list, true)].into())),
    ];
    columns.iter().map(|(name, data_type)| extra_column(name, data_type).unwrap()).collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        vec(any::<char>(), 0..8).prop_map(String::from_iter),
        Just("\0\u{1}\r\n\"\\',;\u{202e}\u{feff}</script>{{ x }}\u{10ffff}".to_owned()),
    ]
}

fn number() -> impl Strategy<Value = f32> {
    use proptest::num::f32::{NORMAL, SUBNORMAL, ZERO};
    NORMAL | SUBNORMAL | ZERO
}

fn extra() -> impl Strategy<Value = Extra> {
    use proptest::num::f64::{NORMAL, SUBNORMAL, ZERO};
    let pair = vec(option::of(text()), 0..3).prop_map(|list| json!({ "list": list }));
    let cells = (
        option::of(any::<i64>().prop_map(Value::from)),
        option::of(text().prop_map(Value::from)),
        option::of(text().prop_map(Value::from)),
        option::of(text().prop_map(Value::from)),
        option::of(any::<i32>().prop_map(Value::from)),
        option::of((NORMAL | SUBNORMAL | ZERO).prop_map(Value::from)),
        option::of(any::<bool>().prop_map(Value::from)),
        option::of("([0-9a-f]{2}){0,4}".prop_map(Value::from)),
        option::of(pair),
    );
    cells.prop_map(|(a, b, c, d, e, f, g, h, i)| {
        let names = extra_columns().into_iter().map(|column| column.name);
        let cells = names.zip([a, b, c, d, e, f, g, h, i]);
        cells.filter_map(|(name, cell)| Some((name, cell?))).collect()
    })
}

fn item() -> impl Strategy<Value = Item> {
    let cells = (text(), option::of(text()), option::of(text()), extra());
    cells.prop_map(|(key, url, text_raw, extra)| {
        let picture = Picture::Absent { reason: Reason::ImageNull, detail: String::new() };
        Item { key, picture, url, text_raw, extra }
    })
}

fn tag() -> impl Strategy<Value = Tag> {
    let cells = (text(), number(), option::of([number(), number(), number(), number()]), text());
    cells.prop_map(|(label, score, bbox, model)| Tag { label, score, bbox, model: model.into() })
}

fn generated() -> impl Strategy<Value = Generated> {
    let cells = (text(), text(), text(), text(), text(), option::of(any::<u32>()));
    cells.prop_map(|(text, writer, model, prompt, finish_reason, tokens)| {
        let (writer, model, prompt) = (writer.into(), model.into(), prompt.into());
        Generated { text, writer, model, prompt, finish_reason, tokens }
    })
}

fn audit() -> impl Strategy<Value = Audit> {
    let origins = [Origin::Tag, Origin::Synthetic, Origin::Raw, Origin::Nowhere];
    let word = (text(), proptest::sample::select(origins.to_vec()));
    let word = word.prop_map(|(word, origin)| WordOrigin::new(word, origin));
    let cells = (number(), vec(text(), 0..3), vec(word, 0..3));
    cells.prop_map(|(score, reasons, words)| Audit { score, reasons, words, ..Audit::default() })
}

fn image() -> impl Strategy<Value = StoredImage> {
    let path = (text(), prop_oneof!["jpg", "png", "webp"]);
    let path = path.prop_map(|(name, extension)| format!("{name}.{extension}"));
    let cells = (vec(any::<u8>(), 0..40), path, any::<[u32; 4]>());
    cells.prop_map(|(bytes, path, [width, height, original_width, original_height])| {
        let bytes = Bytes::from(bytes);
        StoredImage { bytes, path, width, height, original_width, original_height }
    })
}

fn sample() -> impl Strategy<Value = Sample> {
    let synthetic = (text(), text());
    let synthetic = synthetic.prop_map(|(text, model)| Synthetic { text, model: Arc::from(model) });
    let texts = (option::of(synthetic), option::of(generated()), option::of(text()));
    // Boxed: strategies are values, and this one had outgrown the stack of a test's thread.
    let (texts, judged) =
        (texts.boxed(), (audit(), option::of(fit()), option::of(safety())).boxed());
    let cells = (item(), image(), text(), any::<u64>(), vec(tag(), 0..3), texts, judged);
    cells.prop_map(|(item, image, sha256, phash, tags, texts, (audit, fit, safety))| {
        let (synthetic, generated, generated_refused) = texts;
        Sample {
            item,
            image,
            sha256,
            phash,
            tags,
            synthetic,
            generated,
            generated_refused,
            audit,
            fit,
            safety,
        }
    })
}

fn safety() -> impl Strategy<Value = Safety> {
    (number(), text()).prop_map(|(nsfw, model)| Safety { nsfw, model: Arc::from(model) })
}

fn fit() -> impl Strategy<Value = Fit> {
    let cosine = || option::of(number());
    let cells = (cosine(), cosine(), cosine(), text());
    cells.prop_map(|(raw, synthetic, generated, model)| Fit {
        raw,
        synthetic,
        generated,
        model: Arc::from(model),
    })
}

fn reject() -> impl Strategy<Value = (Item, Reject)> {
    let stage = proptest::sample::select(Stage::ALL.to_vec());
    let reason = proptest::sample::select(Reason::ALL.to_vec());
    let reject = (stage, reason, text());
    let reject = reject.prop_map(|(stage, reason, detail)| Reject { stage, reason, detail });
    (item(), reject)
}

pub(super) fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![2 => sample().prop_map(Ok), 1 => reject().prop_map(Err)]
}

/// The same rows in every call.
pub(super) fn outcomes(rows: usize) -> Vec<Outcome> {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    vec(outcome(), rows).new_tree(&mut runner).unwrap().current()
}

pub(super) fn samples(rows: usize) -> Vec<Outcome> {
    let mut all = outcomes(rows * 3);
    all.retain(Result::is_ok);
    all.truncate(rows);
    assert_eq!(all.len(), rows);
    all
}
