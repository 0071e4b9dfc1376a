//! A sentence for a picture: an image encoder and a text decoder (`VisionEncoderDecoderModel`).
//!
//! A batch is decoded together. A picture whose caption is finished leaves the batch at once, so
//! nothing is computed for padding and the result of a batch is that of its pictures one by one.

use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use ort::value::DynValue;
use ort::value::TensorRef;
use tokenizers::Tokenizer;

use crate::models::folder;
use crate::models::folder::DecoderFiles;
use crate::perceive::decoder::Decoder;
use crate::perceive::network::Images;
use crate::perceive::network::by_row;
use crate::perceive::network::not_a_number;
use crate::perceive::search::Hypothesis;
use crate::perceive::search::Rules;
use crate::perceive::search::Search;
use crate::perceive::search::Step;
use crate::perceive::session::Network;
use crate::perceive::session::OnnxRuntime;
use crate::perceive::session::SessionOptions;
use crate::perceive::session::dims;
use crate::perceive::session::floats;
use crate::sample::Reject;

/// A captioner with its sessions; belongs to one worker.
pub(crate) struct Captioner {
    encoder: Encoder,
    decoder: Decoder,
    tokenizer: Tokenizer,
    clean_up_spaces: bool,
    rules: Rules,
    model: Arc<str>,
}

struct Encoder {
    network: Network,
    input: String,
    output: String,
}

/// A caption and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Caption {
    /// What people read; may be empty.
    pub(crate) text: String,
    /// The start token, then each new one, the end token included.
    pub(crate) ids: Vec<i64>,
    /// See [`Hypothesis::score`].
    pub(crate) score: Option<f32>,
}

impl Captioner {
    pub(crate) fn open(
        runtime: &OnnxRuntime,
        plan: &folder::Captioner,
        rules: Rules,
        options: SessionOptions,
        model: Arc<str>,
    ) -> Result<Captioner> {
        let network = |path| Network::open(runtime, path, options);
        let decoder = match &plan.decoder {
            DecoderFiles::Merged(path) => Decoder::new(network(path)?, None)?,
            DecoderFiles::Pair { first, next } => {
                Decoder::new(network(first)?, Some(network(next)?))?
            }
        };
        let tokenizer = Tokenizer::from_file(&plan.tokenizer)
            .map_err(|e| anyhow!("{} is no tokenizer: {e}", plan.tokenizer.display()))?;
        let tokens = tokenizer.get_vocab_size(true);
        ensure!(
            decoder.vocabulary().is_none_or(|v| v >= tokens),
            "{} knows {tokens} tokens, the decoder fewer: the files are not of one export",
            plan.tokenizer.display()
        );
        let encoder = Encoder::new(network(&plan.encoder)?)?;
        let clean_up_spaces = plan.clean_up_spaces;
        Ok(Captioner { encoder, decoder, tokenizer, clean_up_spaces, rules, model })
    }

    /// The caption of each row.
    pub(crate) fn caption(&mut self, images: Images<'_>) -> Vec<Result<Caption, Reject>> {
        by_row(images.rows, |rows| self.caption_batch(images.slice(rows)))
    }

    /// Changes how captions are searched for; `doctor` runs one model with several rules.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    fn caption_batch(&mut self, images: Images<'_>) -> Result<Vec<Result<Caption, Reject>>> {
        let hidden = self.encoder.encode(images)?;
        let found = self.search(hidden, images.rows)?;
        found.into_iter().map(|hypothesis| self.finish(hypothesis)).collect()
    }

    /// The best token sequence of each picture, `None` where the network gave no number.
    ///
    /// # Shapes
    /// `hidden` is `[pictures, encoder length, width]`.
    fn search(&mut self, hidden: DynValue, pictures: usize) -> Result<Vec<Option<Hypothesis>>> {
        let mut found = vec![None; pictures];
        let mut open: Vec<(usize, Search)> =
            (0..pictures).map(|picture| (picture, Search::new(&self.rules))).collect();
        let mut state = self.decoder.start(hidden, (0..pictures).collect());
        let mut tokens = Vec::new();
        while !open.is_empty() {
            tokens.clear();
            open.iter().for_each(|(_, search)| search.last_tokens(&self.rules, &mut tokens));
            let rules = &self.rules;
            let rows = self.decoder.step(&mut state, &tokens, |logits| {
                advance(&mut open, rules, logits, &mut found)
            })?;
            if !open.is_empty() {
                self.decoder.select(&mut state, &rows)?;
            }
        }
        Ok(found)
    }

    fn finish(&self, hypothesis: Option<Hypothesis>) -> Result<Result<Caption, Reject>> {
        let Some(Hypothesis { tokens, score }) = hypothesis else {
            return Ok(Err(not_a_number(&self.model)));
        };
        let new: Vec<u32> = tokens.iter().filter_map(|t| u32::try_from(*t).ok()).collect();
        let text = self.tokenizer.decode(&new, true);
        let text = text.map_err(|e| anyhow!("the tokenizer cannot decode {new:?}: {e}"))?;
        let text = if self.clean_up_spaces { clean_up_spaces(&text) } else { text };
        let ids = std::iter::once(self.rules.start).chain(tokens).collect();
        Ok(Ok(Caption { text: text.trim().to_owned(), ids, score }))
    }
}

/// Gives each search its logits; those that end leave `open`. The result says which rows of this
/// step the rows of the next one continue.
fn advance(
    open: &mut Vec<(usize, Search)>,
    rules: &Rules,
    logits: &[f32],
    found: &mut [Option<Hypothesis>],
) -> Vec<usize> {
    let all: usize = open.iter().map(|(_, search)| search.rows()).sum();
    let vocabulary = logits.len() / all.max(1);
    let mut next = Vec::with_capacity(all);
    let mut row = 0;
    open.retain_mut(|(picture, search)| {
        let first = row;
        row += search.rows();
        let step = search.advance(rules, &logits[first * vocabulary..row * vocabulary]);
        let goes_on = matches!(step, Step::Continue { .. });
        match step {
            Step::Continue { origins } => next.extend(origins.iter().map(|o| first + o)),
            Step::Finished(hypothesis) => found[*picture] = Some(hypothesis),
            Step::NotANumber => {}
        }
        goes_on
    });
    next
}

impl Encoder {
    fn new(network: Network) -> Result<Encoder> {
        let at = network.path().display().to_string();
        let input = network.session.inputs().first();
        let input = input.with_context(|| format!("{at} has no input"))?.name().to_owned();
        let outputs = network.session.outputs();
        let output = outputs.iter().find(|o| o.name() == "last_hidden_state").or(outputs.first());
        let output = output.with_context(|| format!("{at} has no output"))?;
        ensure!(dims(output, &at)?.len() == 3, "{at} gives no sequence of hidden states");
        Ok(Encoder { input, output: output.name().to_owned(), network })
    }

    /// # Shapes
    /// Gives `[rows, encoder length, width]`.
    fn encode(&mut self, images: Images<'_>) -> Result<DynValue> {
        let input = TensorRef::from_array_view((images.shape(), images.data))?;
        let mut outputs = self.network.session.run(ort::inputs![self.input.as_str() => input])?;
        let hidden = outputs.remove(&self.output).context("the encoder gave no output")?;
        let (shape, _) = floats(&hidden)?;
        ensure!(shape.len() == 3 && shape[0] == images.rows, "hidden states of shape {shape:?}");
        Ok(hidden)
    }
}

/// transformers' `clean_up_tokenization`: no space before punctuation and in contractions.
fn clean_up_spaces(text: &str) -> String {
    const PAIRS: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    PAIRS.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perceive::search::EarlyStopping;

    fn rules(beams: usize) -> Rules {
        let early_stopping = EarlyStopping::Heuristic;
        Rules {
            start: 1,
            end: vec![0],
            max_new_tokens: 3,
            beams,
            length_penalty: 1.0,
            early_stopping,
        }
    }

    #[test]
    fn a_finished_picture_leaves_and_the_others_keep_their_rows() {
        let rules = rules(1);
        let mut open: Vec<_> = (0..4).map(|p| (p, Search::new(&rules))).collect();
        let mut found = vec![None; 4];
        // Vocabulary of 2; token 0 ends. Pictures 0 and 2 end, picture 3 is no number.
        let logits = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, f32::NAN, 0.0];
        let rows = advance(&mut open, &rules, &logits, &mut found);
        assert_eq!(rows, [1]);
        assert_eq!(open.iter().map(|(p, _)| *p).collect::<Vec<_>>(), [1]);
        let ended: Vec<bool> = found.iter().map(Option::is_some).collect();
        assert_eq!(ended, [true, false, true, false]);
    }

    #[test]
    fn one_row_becomes_several_beams() {
        let rules = rules(2);
        let mut open: Vec<_> = (0..2).map(|p| (p, Search::new(&rules))).collect();
        let mut found = vec![None; 2];
        let logits = [0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0];
        assert_eq!(advance(&mut open, &rules, &logits, &mut found), [0, 0, 1, 1]);
        let mut tokens = Vec::new();
        open.iter().for_each(|(_, search)| search.last_tokens(&rules, &mut tokens));
        assert_eq!(tokens, [3, 2, 3, 2]);
    }

    #[test]
    fn spaces_are_cleaned_up_as_transformers_does() {
        assert_eq!(clean_up_spaces("a dog 's ball , is n't it ?"), "a dog's ball, isn't it?");
    }
}
