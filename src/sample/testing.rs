//! Rows for tests, with nothing in them that may be absent. A test adds what it is about.

use bytes::Bytes;

use crate::sample::Audit;
use crate::sample::Generated;
use crate::sample::Item;
use crate::sample::Picture;
use crate::sample::Reason;
use crate::sample::Sample;
use crate::sample::StoredImage;

/// A sample of this key, without texts, tags and figures.
pub(crate) fn sample(key: &str) -> Sample {
    let picture = Picture::Absent { reason: Reason::ImageNull, detail: String::new() };
    Sample {
        item: Item {
            key: key.to_owned(),
            picture,
            url: None,
            text_raw: None,
            extra: Default::default(),
        },
        image: StoredImage {
            bytes: Bytes::from_static(b"\xff\xd8\xff"),
            path: format!("{key}.jpg"),
            width: 1,
            height: 1,
            original_width: 1,
            original_height: 1,
        },
        sha256: "00".repeat(32),
        phash: 0,
        tags: Vec::new(),
        synthetic: None,
        generated: None,
        generated_refused: None,
        audit: Audit::default(),
        fit: None,
        safety: None,
    }
}

/// A text that the rules wrote.
pub(crate) fn generated(text: &str) -> Generated {
    Generated {
        text: text.to_owned(),
        writer: "rules".into(),
        model: "rules".into(),
        prompt: "0".into(),
        finish_reason: "stop".to_owned(),
        tokens: None,
    }
}
