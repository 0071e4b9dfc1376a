//! The columns of a shard as Hugging Face features and as Croissant fields.

use serde_json::Value;
use serde_json::json;

/// The column that holds pictures.
const IMAGE: &str = "image";

/// Features as `dataset_info` lists them.
pub(super) fn hugging_face(columns: &[(String, Value)]) -> Vec<Value> {
    let feature = |(name, kind): &(String, Value)| match name.as_str() {
        IMAGE => json!({"name": name, "dtype": "image"}),
        _ => named(name, kind),
    };
    columns.iter().map(feature).collect()
}

fn named(name: &str, kind: &Value) -> Value {
    let mut feature = json!({"name": name});
    match inner(kind) {
        Value::Object(fields) => fields.into_iter().for_each(|(key, value)| feature[key] = value),
        other => feature["dtype"] = other,
    }
    feature
}

/// A dtype, or an object with `struct` or `list`.
fn inner(kind: &Value) -> Value {
    let list = kind.get("list").or_else(|| kind.get("large_list"));
    if let Some(item) = list.or_else(|| kind.get("fixed_size_list")) {
        return match inner(&item["type"]) {
            Value::Object(mut fields) => match fields.remove("struct") {
                Some(fields) => json!({"list": fields}),
                None => json!({"list": fields}),
            },
            dtype => json!({"list": dtype}),
        };
    }
    match kind.get("struct").and_then(Value::as_array) {
        Some(fields) => {
            let fields = fields.iter().map(|field| named(name_of(field), &field["type"]));
            json!({"struct": fields.collect::<Vec<_>>()})
        }
        None => dtype(kind.as_str().unwrap_or("Utf8")).into(),
    }
}

fn name_of(field: &Value) -> &str {
    field["name"].as_str().unwrap_or_default()
}

/// Arrow's word for a plain type as `datasets` spells it.
fn dtype(word: &str) -> String {
    match word {
        "Utf8" => "string".to_owned(),
        "LargeUtf8" => "large_string".to_owned(),
        "Boolean" => "bool".to_owned(),
        "Binary" => "binary".to_owned(),
        "LargeBinary" => "large_binary".to_owned(),
        "Date32" => "date32".to_owned(),
        "Date64" => "date64".to_owned(),
        _ => timestamp(word).unwrap_or_else(|| word.to_lowercase()),
    }
}

/// `Timestamp(µs)` and `Timestamp(µs, "UTC")`.
fn timestamp(word: &str) -> Option<String> {
    let inside = word.strip_prefix("Timestamp(")?.strip_suffix(')')?;
    let (unit, zone) = inside.split_once(", ").map_or((inside, None), |(u, z)| (u, Some(z)));
    let unit = match unit {
        "s" | "Second" => "s",
        "ms" | "Millisecond" => "ms",
        "ns" | "Nanosecond" => "ns",
        _ => "us",
    };
    let zone = zone.filter(|zone| *zone != "None").map(|zone| zone.replace(['"', '\\'], ""));
    let zone = zone.map(|zone| zone.trim_start_matches("Some(").trim_end_matches(')').to_owned());
    Some(zone.map_or(format!("timestamp[{unit}]"), |zone| format!("timestamp[{unit}, tz={zone}]")))
}

/// Fields of the record set; `file_set` is where they are. Lists within a struct are left to the parquet
/// files: Croissant 1.0 has no words for them.
pub(super) fn croissant(columns: &[(String, Value)], file_set: &str) -> Vec<Value> {
    let field = |(name, kind): &(String, Value)| {
        let id = format!("rows/{name}");
        let source = json!({"fileSet": {"@id": file_set}, "extract": {"column": name}});
        let mut field = json!({"@type": "cr:Field", "@id": id, "name": name, "source": source});
        if let Some(text) = describe(name) {
            field["description"] = text.into();
        }
        let list = kind.get("list").or_else(|| kind.get("large_list"));
        if name == IMAGE {
            field["dataType"] = "sc:ImageObject".into();
            field["source"]["transform"] = json!({"jsonPath": "bytes"});
            return field;
        }
        if list.is_some() {
            field["repeated"] = true.into();
        }
        let kind = list.map_or(kind, |item| &item["type"]);
        match kind.get("struct").and_then(Value::as_array) {
            Some(fields) => {
                let plain = fields.iter().filter(|field| field["type"].is_string());
                let sub = plain.map(|sub| sub_field(&id, file_set, name, sub));
                field["subField"] = sub.collect::<Vec<_>>().into();
                if let Value::Object(field) = &mut field {
                    field.remove("source");
                }
            }
            None => field["dataType"] = data_type(kind.as_str().unwrap_or("Utf8")).into(),
        }
        field
    };
    columns.iter().map(field).collect()
}

fn sub_field(parent: &str, file_set: &str, column: &str, field: &Value) -> Value {
    let name = name_of(field);
    json!({
        "@type": "cr:Field",
        "@id": format!("{parent}/{name}"),
        "name": name,
        "dataType": data_type(field["type"].as_str().unwrap_or("Utf8")),
        "source": {
            "fileSet": {"@id": file_set},
            "extract": {"column": column},
            "transform": {"jsonPath": name},
        },
    })
}

fn data_type(word: &str) -> &'static str {
    match word {
        "Boolean" => "sc:Boolean",
        _ if word.starts_with("Int") || word.starts_with("UInt") => "sc:Integer",
        _ if word.starts_with("Float") => "sc:Float",
        _ => "sc:Text",
    }
}

fn describe(name: &str) -> Option<&'static str> {
    Some(match name {
        "key" => "Stable key of the row within its shard.",
        "image" => "The picture: upright, its longer side capped.",
        "url" => "Where the web had the picture.",
        "text_raw" => "What the web said about the picture.",
        "text_synthetic" => "What a captioning model sees.",
        "text_generated" => "What a writer made of raw text, caption and tags.",
        "tags" => "Labels of taggers and detectors.",
        "audit" => "How far the generated text can be trusted.",
        "sha256" => "Hash of the original bytes.",
        "phash" => "Perceptual hash.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_spelt_as_datasets_spells_them() {
        let text = || json!({"name": "label", "type": "Utf8"});
        let item = json!({"struct": [text(), {"name": "box", "type":
            {"list": {"name": "item", "type": "Float32"}}}]});
        let columns = [
            ("image".to_owned(), json!({"struct": []})),
            ("n".to_owned(), json!("UInt32")),
            ("tags".to_owned(), json!({"list": {"name": "item", "type": item}})),
            ("at".to_owned(), json!("Timestamp(µs, \"UTC\")")),
        ];
        let wanted = json!([
            {"name": "image", "dtype": "image"},
            {"name": "n", "dtype": "uint32"},
            {"name": "tags", "list": [
                {"name": "label", "dtype": "string"},
                {"name": "box", "list": "float32"}]},
            {"name": "at", "dtype": "timestamp[us, tz=UTC]"},
        ]);
        assert_eq!(Value::from(hugging_face(&columns)), wanted);
    }
}
