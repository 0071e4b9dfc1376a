//! Arrays of every kind go to JSON rows and come back equal.

use arrow::array::BinaryArray;
use arrow::array::BooleanArray;
use arrow::array::Date32Array;
use arrow::array::Decimal128Array;
use arrow::array::DictionaryArray;
use arrow::array::DurationMillisecondArray;
use arrow::array::FixedSizeBinaryArray;
use arrow::array::Float32Array;
use arrow::array::Float64Array;
use arrow::array::Int32Array;
use arrow::array::Int32Builder;
use arrow::array::Int64Array;
use arrow::array::IntervalYearMonthArray;
use arrow::array::ListArray;
use arrow::array::MapBuilder;
use arrow::array::NullArray;
use arrow::array::StringBuilder;
use arrow::array::StringViewArray;
use arrow::array::StructArray;
use arrow::array::Time64MicrosecondArray;
use arrow::array::TimestampMicrosecondArray;
use arrow::array::TimestampSecondArray;
use arrow::array::UInt64Array;
use proptest::prelude::*;

use super::*;

fn round_trip(array: ArrayRef) -> (ArrayRef, Vec<Extra>) {
    let column = extra_column("x", array.data_type()).unwrap();
    let rows =
        columns_to_rows(std::slice::from_ref(&column), std::slice::from_ref(&array), array.len());
    let rows = rows.unwrap();
    let text = serde_json::to_string(&rows).unwrap();
    let again: Vec<Extra> = serde_json::from_str(&text).unwrap();
    assert_eq!(again, rows, "rows survive as JSON text");
    let back = rows_to_batch(&[column], &rows.iter().collect::<Vec<_>>()).unwrap();
    (back.into_iter().next().unwrap(), rows)
}

fn assert_survives(array: impl Array + 'static) -> Vec<Extra> {
    let array: ArrayRef = Arc::new(array);
    let (back, rows) = round_trip(array.clone());
    assert_eq!(&back, &array, "{}", array.data_type());
    rows
}

#[test]
fn plain_types_come_back_equal() {
    assert_survives(BooleanArray::from(vec![Some(true), None, Some(false)]));
    assert_survives(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)]));
    assert_survives(Int64Array::from(vec![i64::MIN, 9_007_199_254_740_993, i64::MAX]));
    assert_survives(UInt64Array::from(vec![0, u64::MAX]));
    assert_survives(StringArray::from(vec![Some(""), None, Some("a\n\"\u{0}\u{1f600}")]));
    assert_survives(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None, Some(b"")]));
    assert_survives(FixedSizeBinaryArray::try_from(vec![&b"ab"[..], b"\xff\x00"]).unwrap());
    assert_survives(Float64Array::from(vec![0.1, f64::MAX, f64::MIN_POSITIVE, -0.0]));
}

#[test]
fn times_and_decimals_come_back_equal() {
    let micros = vec![Some(1_700_000_000_123_456), None, Some(-1)];
    assert_survives(TimestampMicrosecondArray::from(micros.clone()));
    let rows =
        assert_survives(TimestampMicrosecondArray::from(micros.clone()).with_timezone("UTC"));
    assert_eq!(rows[0]["x"], "2023-11-14T22:13:20.123456Z");
    assert_survives(TimestampMicrosecondArray::from(micros).with_timezone("Europe/Berlin"));
    assert_survives(TimestampSecondArray::from(vec![0, 1]).with_timezone("+05:30"));
    assert_survives(Date32Array::from(vec![-1, 0, 20_000]));
    assert_survives(Time64MicrosecondArray::from(vec![0, 86_399_999_999]));
    assert_survives(DurationMillisecondArray::from(vec![-5, 5]));
    let decimals = Decimal128Array::from(vec![Some(12345678901234567890123456789), None, Some(-1)]);
    assert_survives(decimals.with_precision_and_scale(38, 9).unwrap());
}

#[test]
fn nested_types_come_back_equal() {
    let lists = vec![Some(vec![Some(1), None]), None, Some(vec![])];
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
    assert_survives(lists.clone());
    let stamps: ArrayRef = Arc::new(TimestampSecondArray::from(vec![None, Some(2), Some(3)]));
    let name = "it's \"quoted\", really";
    let fields = vec![
        (Arc::new(Field::new(name, lists.data_type().clone(), true)), Arc::new(lists) as ArrayRef),
        (Arc::new(Field::new("t", stamps.data_type().clone(), true)), stamps),
    ];
    assert_survives(StructArray::from(fields));
}

#[test]
fn maps_with_text_keys_come_back_equal() {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    builder.keys().append_value("a");
    builder.values().append_value(1);
    builder.keys().append_value("b");
    builder.values().append_null();
    builder.append(true).unwrap();
    builder.append(false).unwrap();
    builder.append(true).unwrap();
    assert_survives(builder.finish());
}

#[test]
fn floats_that_json_lacks_come_back() {
    let values = vec![f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let (back, rows) = round_trip(Arc::new(Float64Array::from(values)));
    let back = back.as_primitive::<Float64Type>();
    assert_eq!(rows[2]["x"], "NaN");
    assert_eq!((back.value(0), back.value(1)), (f64::INFINITY, f64::NEG_INFINITY));
    assert!(back.value(2).is_nan() && back.is_valid(2));
}

#[test]
fn dictionaries_and_views_become_plain() {
    let words: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
    let expected: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("a")]));
    assert_eq!(&round_trip(Arc::new(words)).0, &expected);
    let views = StringViewArray::from(vec![Some("a"), None, Some("a")]);
    assert_eq!(&round_trip(Arc::new(views)).0, &expected);
}

#[test]
fn types_without_json_form_become_text() {
    let (back, _) = round_trip(Arc::new(IntervalYearMonthArray::from(vec![Some(14), None])));
    assert_eq!(back.as_string::<i32>().value(0), "1 years 2 mons");
    let mut builder = MapBuilder::new(None, Int32Builder::new(), Int32Builder::new());
    builder.keys().append_value(1);
    builder.values().append_value(2);
    builder.append(true).unwrap();
    assert_eq!(round_trip(Arc::new(builder.finish())).0.as_string::<i32>().value(0), "{1: 2}");
    assert_eq!(round_trip(Arc::new(NullArray::new(2))).0.null_count(), 2);
}

#[test]
fn a_time_no_calendar_shows_becomes_null_and_stops_nothing() {
    let (back, _) = round_trip(Arc::new(TimestampSecondArray::from(vec![i64::MAX, 0])));
    assert_eq!((back.is_null(0), back.is_valid(1)), (true, true));
}

#[test]
fn no_columns_and_no_rows_are_fine() {
    assert_eq!(columns_to_rows(&[], &[], 2).unwrap(), vec![Extra::new(), Extra::new()]);
    let column = extra_column("x", &DataType::Int32).unwrap();
    assert_eq!(rows_to_batch(&[column], &[]).unwrap()[0].len(), 0);
}

#[test]
fn a_value_that_does_not_fit_is_an_error() {
    let column = extra_column("x", &DataType::Int32).unwrap();
    let row = Extra::from_iter([("x".to_owned(), Value::from("not a number"))]);
    assert!(rows_to_batch(&[column], &[&row]).is_err());
}

proptest! {
    #[test]
    fn floats_of_both_widths_come_back(wide in any::<f64>(), bits in any::<u32>()) {
        let narrow = f32::from_bits(bits);
        if wide.is_finite() {
            let (back, _) = round_trip_quick(Arc::new(Float64Array::from(vec![wide])));
            prop_assert_eq!(back.as_primitive::<Float64Type>().value(0).to_bits(), wide.to_bits());
        }
        if narrow.is_finite() {
            let (back, _) = round_trip_quick(Arc::new(Float32Array::from(vec![narrow])));
            prop_assert_eq!(back.as_primitive::<Float32Type>().value(0).to_bits(), bits);
        }
    }
}

/// Without the detour over JSON text, whose parser may round the last bit.
fn round_trip_quick(array: ArrayRef) -> (ArrayRef, Vec<Extra>) {
    let column = extra_column("x", array.data_type()).unwrap();
    let rows = columns_to_rows(std::slice::from_ref(&column), &[array], 1).unwrap();
    (rows_to_batch(&[column], &[&rows[0]]).unwrap().remove(0), rows)
}
