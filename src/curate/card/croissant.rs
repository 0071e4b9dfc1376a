//! The Croissant 1.0 description, with the fields of its responsible-AI extension.

use serde_json::Value;
use serde_json::json;

use crate::curate::card::About;
use crate::curate::card::facts::Facts;
use crate::curate::card::features;
use crate::curate::card::readme;
use crate::shard::DataFile;
use crate::shard::Format;

const FILE_SET: &str = "shards";

pub(super) fn of(facts: &Facts, about: &About) -> Value {
    let refined = facts.total(|marker| marker.refined);
    let mut croissant = json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": facts.name,
        "description": format!(
            "{refined} pictures of the web with raw, synthetic and generated texts, tags and an audit \
             of every generated text."
        ),
        "keywords": ["image-text", "captions", "recaption"],
    });
    let known =
        [("license", &about.license), ("url", &about.url), ("datePublished", &about.published)];
    for (name, value) in known {
        if let Some(value) = value {
            croissant[name] = value.clone().into();
        }
    }
    if let Some(creator) = &about.creator {
        croissant["creator"] = json!({"@type": "sc:Organization", "name": creator});
    }
    let languages = readme::languages(facts);
    if !languages.is_empty() {
        croissant["inLanguage"] = languages.into();
    }
    croissant["distribution"] = distribution(facts).into();
    if !facts.columns.is_empty() {
        croissant["recordSet"] = json!([{
            "@type": "cr:RecordSet",
            "@id": "rows",
            "name": "rows",
            "description": "A row for each picture.",
            "field": features::croissant(&facts.columns, FILE_SET),
        }]);
    }
    responsible_ai(facts, &mut croissant);
    croissant
}

fn context() -> Value {
    json!({
        "@language": "en",
        "@vocab": "https://schema.org/",
        "citeAs": "cr:citeAs",
        "column": "cr:column",
        "conformsTo": "dct:conformsTo",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "dct": "http://purl.org/dc/terms/",
        "equivalentProperty": "cr:equivalentProperty",
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "extract": "cr:extract",
        "field": "cr:field",
        "fileProperty": "cr:fileProperty",
        "fileObject": "cr:fileObject",
        "fileSet": "cr:fileSet",
        "format": "cr:format",
        "includes": "cr:includes",
        "isLiveDataset": "cr:isLiveDataset",
        "jsonPath": "cr:jsonPath",
        "key": "cr:key",
        "md5": "cr:md5",
        "parentField": "cr:parentField",
        "path": "cr:path",
        "recordSet": "cr:recordSet",
        "references": "cr:references",
        "regex": "cr:regex",
        "repeated": "cr:repeated",
        "replace": "cr:replace",
        "samplingRate": "cr:samplingRate",
        "sc": "https://schema.org/",
        "separator": "cr:separator",
        "source": "cr:source",
        "subField": "cr:subField",
        "transform": "cr:transform",
    })
}

/// Every shard with its hash, and all of them as one set.
fn distribution(facts: &Facts) -> Vec<Value> {
    let format = match facts.format() {
        Format::Parquet => "application/x-parquet",
        Format::Webdataset => "application/x-tar",
    };
    let object = |file: &DataFile| {
        json!({
            "@type": "cr:FileObject",
            "@id": file.name,
            "name": file.name,
            "contentUrl": file.name,
            "contentSize": format!("{} B", file.bytes),
            "encodingFormat": format,
            "sha256": file.sha256,
        })
    };
    let files = || facts.markers.iter().map(|marker| &marker.part);
    let set = json!({
        "@type": "cr:FileSet",
        "@id": FILE_SET,
        "name": FILE_SET,
        "description": "All shards.",
        "encodingFormat": format,
        "includes": files().map(|file| &file.name).collect::<Vec<_>>(),
    });
    files().map(object).chain([set]).collect()
}

fn responsible_ai(facts: &Facts, croissant: &mut Value) {
    let total = |of| facts.total(of);
    let models = facts.models().into_iter().map(|[role, name, _]| format!("{role}: {name}"));
    let review = match &facts.review {
        Some(said) => format!(
            "People judged {} rows: {} are not ok, {} are hallucinated.",
            said.rows, said.wrong.part, said.hallucinated.part
        ),
        None => "Nobody has judged rows of this data set yet.".to_owned(),
    };
    let fields = json!({
        "rai:dataCollection": format!(
            "Pictures and texts of the web. {} rows were read, {} kept, {} rejected.",
            total(|m| m.rows_read), total(|m| m.refined), total(|m| m.rejected)
        ),
        "rai:dataCollectionType": ["Web Scraping", "Secondary Data Analysis"],
        "rai:dataCollectionMissingData": format!(
            "{} of {} rows have no generated text.",
            facts.summary.rows - facts.summary.generated, facts.summary.rows
        ),
        "rai:dataPreprocessingProtocol": [
            "Pictures are turned upright, made smaller where their longer side is above the cap, and \
             stored; broken, blank and tiny ones are rejected, and copies within a shard."
        ],
        "rai:dataAnnotationProtocol": [
            "Models tag and caption each picture; a writer makes one text of raw text, caption and tags; \
             every content word of it is traced to a source.", review
        ],
        "rai:machineAnnotationTools": models.collect::<Vec<_>>(),
        "rai:dataBiases": ["Texts and pictures have the biases of the web and of the models named here."],
        "rai:dataLimitations": [
            "Texts made by models can be wrong. The score is an estimate from words alone and does not \
             look at pictures."
        ],
        "rai:dataUseCases": ["Training of image-text models."],
        "rai:personalSensitiveInformation": [
            "Raw texts and pictures come from the web and may name or show persons."
        ],
    });
    if let Value::Object(fields) = fields {
        fields.into_iter().for_each(|(name, value)| croissant[name] = value);
    }
}
