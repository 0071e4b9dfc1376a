//! Texts to the ids that a model reads: CLIP's own vocabulary, or any `tokenizer.json`.

use std::path::Path;

use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;

use crate::clip_tokenizer;
use crate::clip_tokenizer::Tokenizer;
use crate::model;

/// A tokenizer that fits a model.
pub struct Words {
    kind: Kind,
    context: usize,
}

/// In no vocabulary; a tokenizer that fails here would end a run at some text.
const UNHEARD_OF: &str = "\u{13000}\u{2FA1D} qzxj";

enum Kind {
    Clip(&'static Tokenizer),
    File(Box<tokenizers::Tokenizer>),
}

impl Words {
    /// The tokenizer of a file, or CLIP's where none is named.
    ///
    /// # Errors
    /// When the file cannot be read, or the tokenizer has more ids than the model.
    pub fn open(file: Option<&Path>, sizes: &model::Config) -> Result<Words> {
        let (kind, ids, name) = match file {
            None => {
                ensure!(
                    sizes.ctx_len == clip_tokenizer::CONTEXT,
                    "the model reads texts of {} tokens; CLIP's tokenizer gives {}; name another \
                     tokenizer",
                    sizes.ctx_len,
                    clip_tokenizer::CONTEXT
                );
                let name = "CLIP's tokenizer".to_owned();
                (Kind::Clip(Tokenizer::clip()?), clip_tokenizer::VOCABULARY, name)
            }
            Some(path) => {
                let shown = path.display();
                let mut tokenizer = tokenizers::Tokenizer::from_file(path)
                    .map_err(|e| anyhow!("{shown} is not a tokenizer.json: {e}"))?;
                // Cut and filled here, to the model's context and not to another model's.
                tokenizer.with_padding(None);
                tokenizer.with_truncation(None).map_err(|e| anyhow!("{shown}: {e}"))?;
                tokenizer.encode(UNHEARD_OF, true).map_err(|e| {
                    anyhow!("{shown} cannot split every text ({e}); it needs an unknown token")
                })?;
                let largest = tokenizer.get_vocab(true).into_values().max();
                let ids = largest.map_or(0, |id| id as usize + 1);
                (Kind::File(Box::new(tokenizer)), ids, shown.to_string())
            }
        };
        let vocabulary = sizes.vocab_size;
        ensure!(ids <= vocabulary, "the model has {vocabulary} ids; {name} gives {ids}");
        Ok(Words { kind, context: sizes.ctx_len })
    }

    /// Ids of a text.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The ids of each text, one after the other, cut or filled with 0 to the context length. Of a
    /// text that is cut, the last id stays the one that closes it.
    ///
    /// # Errors
    /// When a tokenizer of a file cannot split a text; CLIP's can split any.
    pub fn ids(&self, texts: &[&str]) -> Result<Vec<u32>> {
        let mut all = Vec::with_capacity(texts.len() * self.context);
        for text in texts {
            match &self.kind {
                Kind::Clip(tokenizer) => all.extend(tokenizer.context(text)),
                Kind::File(tokenizer) => {
                    let encoding = tokenizer.encode(*text, true);
                    let encoding = encoding.map_err(|e| {
                        anyhow!(
                            "the tokenizer cannot split {text:?}: {e}; has it an unknown token?"
                        )
                    })?;
                    all.extend(fitted(encoding.get_ids(), self.context));
                }
            }
        }
        Ok(all)
    }
}

fn fitted(ids: &[u32], context: usize) -> Vec<u32> {
    let mut row = ids.to_vec();
    row.resize(context, 0);
    if let (true, Some(last), Some(&close)) = (ids.len() > context, row.last_mut(), ids.last()) {
        *last = close;
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_filled_or_cut_and_stays_closed() {
        assert_eq!(fitted(&[7, 1, 8], 5), [7, 1, 8, 0, 0]);
        assert_eq!(fitted(&[7, 1, 2, 3, 8], 3), [7, 1, 8]);
        assert_eq!(fitted(&[7, 1, 8], 3), [7, 1, 8]);
        assert_eq!(fitted(&[], 2), [0, 0]);
    }

    #[test]
    fn a_tokenizer_that_does_not_fit_is_refused() {
        let mut sizes = model::Config::preset("tiny").unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let captioner = root.join("examples/models/captioner/tokenizer.json");
        let words = Words::open(Some(&captioner), &sizes).unwrap();
        let ids = words.ids(&["a cat", "a cat on a house"]).unwrap();
        assert_eq!(ids.len(), 2 * sizes.ctx_len);
        assert!(ids[0] != 0 && ids[sizes.ctx_len - 1] == 0);
        sizes.vocab_size = 54;
        let error = |file: Option<&Path>| {
            format!("{:#}", Words::open(file, &sizes).err().expect("an error"))
        };
        assert!(error(None).contains("has 54 ids; CLIP's tokenizer gives 49408"));
        assert!(error(Some(&captioner)).contains("tokenizer.json gives 3000"));
        assert!(error(Some(&root.join("Cargo.toml"))).contains("is not a tokenizer.json"));
    }
}
