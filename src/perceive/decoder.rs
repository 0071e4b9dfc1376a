//! One step of a text decoder with a cache, for many rows at once.
//!
//! The names of inputs and outputs, the number of layers and the heads are read from the session.
//! Cache tensors that a step gives are the inputs of the next as they are, without a copy; they are
//! copied only where rows leave or change places ([`Decoder::select`]).

use std::borrow::Cow;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use ort::session::SessionInputValue;
use ort::session::SessionOutputs;
use ort::value::DynValue;
use ort::value::Tensor;
use ort::value::TensorElementType;
use ort::value::TensorRef;

use crate::perceive::session::Network;
use crate::perceive::session::dims;
use crate::perceive::session::floats;

const TOKENS: &str = "input_ids";
const HIDDEN: &str = "encoder_hidden_states";
const HIDDEN_MASK: &str = "encoder_attention_mask";
const BRANCH: &str = "use_cache_branch";
const PAST: &str = "past_key_values.";
const PRESENT: &str = "present.";
const LOGITS: &str = "logits";

/// A decoder in one file or two, belonging to one worker.
pub(crate) struct Decoder {
    /// Takes the first token; the merged export also takes the others.
    first: Network,
    /// Takes the others, where the export has two files.
    next: Option<Network>,
    cache: Vec<CacheSlot>,
}

/// One tensor of the cache.
struct CacheSlot {
    /// Input of the step that reads it.
    past: String,
    /// Output of the step that makes it.
    present: String,
    /// Keys or values of the encoder's output: made by the first step, the same ever after.
    of_encoder: bool,
    /// Shape without batch and length.
    heads: usize,
    head_width: usize,
}

/// The rows under way.
pub(crate) struct State {
    /// `[rows, encoder length, width]`
    hidden: DynValue,
    /// Which picture each row belongs to.
    pictures: Vec<usize>,
    /// `[rows, heads, length, head width]` each; empty before the first step.
    past: Vec<DynValue>,
}

impl Decoder {
    pub(crate) fn new(first: Network, next: Option<Network>) -> Result<Decoder> {
        let with_past = next.as_ref().unwrap_or(&first);
        let cache = cache_slots(with_past, &first)?;
        let decoder = Decoder { cache, first, next };
        for network in std::iter::once(&decoder.first).chain(&decoder.next) {
            decoder.check(network)?;
        }
        Ok(decoder)
    }

    /// Refuses inputs nobody would fill and outputs nobody gives.
    fn check(&self, network: &Network) -> Result<()> {
        let at = network.path().display();
        let known = |name: &str| {
            [TOKENS, HIDDEN, HIDDEN_MASK, BRANCH].contains(&name)
                || self.cache.iter().any(|slot| slot.past == name)
        };
        if let Some(name) = network.input_names().into_iter().find(|name| !known(name)) {
            bail!("{at} wants an input {name}, which is not supported yet");
        }
        let logits = network.output(LOGITS);
        let logits = logits.with_context(|| format!("{at} has no output {LOGITS}"))?;
        dims(logits, &at.to_string())?;
        let tokens = network.input(TOKENS).with_context(|| format!("{at} takes no {TOKENS}"))?;
        ensure!(
            tokens.dtype().tensor_type() == Some(TensorElementType::Int64),
            "{TOKENS} of {at} is {}, not int64",
            tokens.dtype()
        );
        Ok(())
    }

    /// The number of tokens there are, if the network says it.
    pub(crate) fn vocabulary(&self) -> Option<usize> {
        let shape = self.first.output(LOGITS)?.dtype().tensor_shape()?;
        shape.last().and_then(|n| usize::try_from(*n).ok())
    }

    /// Rows at their start: row `i` is picture `pictures[i]`.
    ///
    /// # Shapes
    /// `hidden` is `[rows, encoder length, width]`.
    pub(crate) fn start(&self, hidden: DynValue, pictures: Vec<usize>) -> State {
        State { hidden, pictures, past: Vec::new() }
    }

    /// Feeds each row its token and gives the logits of the next one.
    ///
    /// # Shapes
    /// `tokens` is `[rows]`, what `read` gets `[rows, vocabulary]`.
    pub(crate) fn step<T>(
        &mut self,
        state: &mut State,
        tokens: &[i64],
        read: impl FnOnce(&[f32]) -> T,
    ) -> Result<T> {
        let is_first = state.past.is_empty();
        if is_first {
            state.past = empty_cache(&self.cache, tokens.len())?;
        }
        let network = match &mut self.next {
            Some(next) if !is_first => next,
            _ => &mut self.first,
        };
        let mask = vec![1; tokens.len() * encoder_length(state)?];
        let inputs = inputs(network, &self.cache, state, tokens, &mask, is_first)?;
        let mut outputs = network.session.run(inputs)?;
        keep_cache(&self.cache, state, &mut outputs, is_first)?;
        let logits = outputs.get(LOGITS).context("the decoder gave no logits")?;
        let (shape, logits) = floats(logits)?;
        ensure!(
            shape.len() == 3 && shape[..2] == [tokens.len(), 1],
            "logits of shape {shape:?} for {} rows of one token",
            tokens.len()
        );
        Ok(read(logits))
    }

    /// Makes row `i` continue what row `rows[i]` was. Rows not named are gone, a row named twice
    /// goes on in two ways.
    pub(crate) fn select(&self, state: &mut State, rows: &[usize]) -> Result<()> {
        if rows.iter().copied().eq(0..state.pictures.len()) {
            return Ok(());
        }
        let before = state.pictures.len();
        let pictures: Vec<usize> = rows.iter().map(|&row| state.pictures[row]).collect();
        // Beams trading places within a picture see the same encoder output as before.
        let same_pictures = pictures == state.pictures;
        for (slot, past) in self.cache.iter().zip(&mut state.past) {
            if !(slot.of_encoder && same_pictures) {
                *past = gather(past, before, rows)?;
            }
        }
        if !same_pictures {
            state.hidden = gather(&state.hidden, before, rows)?;
        }
        state.pictures = pictures;
        Ok(())
    }
}

fn inputs<'a>(
    network: &Network,
    cache: &'a [CacheSlot],
    state: &'a State,
    tokens: &'a [i64],
    mask: &'a [i64],
    is_first: bool,
) -> Result<Vec<(Cow<'a, str>, SessionInputValue<'a>)>> {
    let rows = tokens.len();
    let takes = |name: &str| network.input(name).is_some();
    let mut inputs: Vec<(Cow<'a, str>, SessionInputValue<'a>)> =
        Vec::with_capacity(4 + cache.len());
    inputs.push((TOKENS.into(), TensorRef::from_array_view(([rows, 1], tokens))?.into()));
    if takes(HIDDEN) {
        inputs.push((HIDDEN.into(), (&state.hidden).into()));
    }
    if takes(HIDDEN_MASK) {
        let shape = [rows, mask.len() / rows.max(1)];
        inputs.push((HIDDEN_MASK.into(), TensorRef::from_array_view((shape, mask))?.into()));
    }
    if takes(BRANCH) {
        inputs.push((BRANCH.into(), Tensor::from_array(([1], vec![!is_first]))?.into()));
    }
    for (slot, past) in cache.iter().zip(&state.past).filter(|(slot, _)| takes(&slot.past)) {
        inputs.push((slot.past.as_str().into(), past.into()));
    }
    Ok(inputs)
}

/// Takes the new cache out of a step's outputs. What comes from the encoder stays that of the first
/// step: later ones give an empty tensor for it (merged export) or none at all (pair).
fn keep_cache(
    cache: &[CacheSlot],
    state: &mut State,
    outputs: &mut SessionOutputs<'_>,
    is_first: bool,
) -> Result<()> {
    for (slot, past) in cache.iter().zip(&mut state.past) {
        if is_first || !slot.of_encoder {
            *past = outputs
                .remove(&slot.present)
                .with_context(|| format!("the decoder gave no {}", slot.present))?;
        }
    }
    Ok(())
}

/// The cache tensors that `with_past` reads, with the outputs of `first` they come from.
fn cache_slots(with_past: &Network, first: &Network) -> Result<Vec<CacheSlot>> {
    let at = with_past.path().display().to_string();
    let mut slots = Vec::new();
    for outlet in with_past.session.inputs() {
        let Some(rest) = outlet.name().strip_prefix(PAST) else { continue };
        let present = format!("{PRESENT}{rest}");
        ensure!(first.output(&present).is_some(), "{at}: {present} is given by no network");
        let &[_, heads, _, head_width] = dims(outlet, &at)?.as_slice() else {
            bail!("{} of {at} has not four dimensions", outlet.name());
        };
        let size = |n: i64| usize::try_from(n).ok().filter(|n| (1..=1 << 16).contains(n));
        slots.push(CacheSlot {
            past: outlet.name().to_owned(),
            of_encoder: rest.contains(".encoder."),
            heads: size(heads).with_context(|| format!("{at} does not say how many heads"))?,
            head_width: size(head_width).with_context(|| format!("{at}: heads of what width?"))?,
            present,
        });
    }
    ensure!(
        !slots.is_empty(),
        "{at} has no cache ({PAST}*): export it with a cache (Optimum's default)"
    );
    Ok(slots)
}

/// The cache before the first token: no length at all.
fn empty_cache(cache: &[CacheSlot], rows: usize) -> Result<Vec<DynValue>> {
    let empty = |slot: &CacheSlot| {
        let shape = [rows, slot.heads, 0, slot.head_width];
        Ok(Tensor::<f32>::from_array((shape, Vec::new()))?.into_dyn())
    };
    cache.iter().map(empty).collect()
}

fn encoder_length(state: &State) -> Result<usize> {
    let (shape, _) = floats(&state.hidden)?;
    shape.get(1).copied().context("the encoder's output has no length")
}

/// Copies rows of a tensor that has `before` rows, in this order.
fn gather(value: &DynValue, before: usize, rows: &[usize]) -> Result<DynValue> {
    let (mut shape, values) = floats(value)?;
    ensure!(shape.first() == Some(&before), "a cache of shape {shape:?} for {before} rows");
    let width = values.len() / before.max(1);
    let mut gathered = Vec::with_capacity(rows.len() * width);
    for &row in rows {
        gathered.extend_from_slice(&values[row * width..(row + 1) * width]);
    }
    shape[0] = rows.len();
    Ok(Tensor::from_array((shape, gathered))?.into_dyn())
}
