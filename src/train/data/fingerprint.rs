//! A hash over all that batches depend on but the pictures: a training does not go on with other data.

use anyhow::Result;
use sha2::Digest;
use sha2::Sha256;

use crate::sample::Item;
use crate::source::Format;
use crate::source::Plan;
use crate::train::data::DataConfig;
use crate::train::data::Texts;

/// A hash over what is trained on.
pub(super) struct Fingerprint {
    hash: Sha256,
    has_keys: bool,
}

impl Fingerprint {
    pub(super) fn new(config: &DataConfig, plan: &Plan) -> Result<Fingerprint> {
        let DataConfig { filter, texts, block, pool, augment, .. } = config;
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(&(filter, texts, block, pool, augment))?);
        for file in &plan.files {
            hash.update(file.rows.to_le_bytes());
        }
        // Keys that parquet does not have come from bytes and places, which are not to count.
        let has_keys = plan.format != Format::Parquet || plan.mapping.key.is_some();
        Ok(Fingerprint { hash, has_keys })
    }

    pub(super) fn push(&mut self, row: u32, item: &Item, texts: &Texts) {
        self.hash.update(row.to_le_bytes());
        let key = self.has_keys.then_some(item.key.as_str());
        for text in texts.iter().chain([&key]) {
            // A length, so that no two rows of words run together.
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            self.hash.update(length.to_le_bytes());
            self.hash.update(text.unwrap_or_default());
        }
    }

    pub(super) fn finish(self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
