//! Rows for tests, with nothing in them that may be absent. A test adds what it is about.

use bytes::Bytes;

use crate::sample::Generated;
use crate::sample::Item;
use crate::sample::Picture;
use crate::sample::Reason;
use crate::sample::Sample;
use crate::sample::StoredImage;

/// A sample of this key, without texts, tags and figures.
pub(crate) fn sample(key: &str) -> Sample {
    let item = Item {
        key: key.to_owned(),
        picture: Picture::Absent { reason: Reason::ImageNull, detail: String::new() },
        url: None,
        text_raw: None,
        extra: Default::default(),
    };
    let image = StoredImage {
        bytes: Bytes::from_static(b"\xff\xd8\xff"),
        path: format!("{key}.jpg"),
        width: 1,
        height: 1,
        original_width: 1,
        original_height: 1,
    };
    Sample::decoded(item, image, "00".repeat(32), 0)
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
