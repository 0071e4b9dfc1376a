//! Batches of pictures through one network, and what to do when a batch fails.

use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;
use ort::value::TensorRef;

use crate::perceive::session::Network;
use crate::perceive::session::dims;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Stage;

/// A batch of network inputs.
///
/// # Shapes
/// `data` is `[rows, 3, height, width]`, or `[rows, height, width, 3]`, contiguous.
#[derive(Clone, Copy)]
pub(crate) struct Images<'a> {
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) data: &'a [f32],
}

impl<'a> Images<'a> {
    pub(crate) fn slice(&self, rows: Range<usize>) -> Images<'a> {
        let row = 3 * self.width * self.height;
        Images { rows: rows.len(), data: &self.data[rows.start * row..rows.end * row], ..*self }
    }

    pub(crate) fn shape(&self) -> [usize; 4] {
        [self.rows, 3, self.height, self.width]
    }
}

/// A network from pictures to one tensor of floats.
pub(crate) struct ImageNetwork {
    network: Network,
    input: String,
    output: String,
    /// One picture as the network takes it.
    shape: [usize; 3],
    /// The batch size of exports that fix it (Ultralytics' default is 1).
    fixed_rows: Option<usize>,
    padded: Vec<f32>,
}

impl ImageNetwork {
    /// Checks that the network takes pictures of this size, so that a wrong file is an error at the
    /// start and not a reject for every row.
    pub(crate) fn new(network: Network, row: [usize; 3]) -> Result<ImageNetwork> {
        let at = network.path().display().to_string();
        let [input] = network.session.inputs() else {
            bail!("{at} wants the inputs {:?}, not one picture", network.input_names());
        };
        let shape = dims(input, &at)?;
        let accepts = |(have, want): (&i64, &usize)| *have < 0 || *have == *want as i64;
        let fits = shape.len() == 4 && shape[1..].iter().zip(&row).all(accepts);
        let [a, b, c] = row;
        ensure!(
            fits,
            "{at} takes {} of shape {shape:?}, not [batch, {a}, {b}, {c}] as its configuration \
             says",
            input.name()
        );
        let outputs = network.session.outputs();
        let output = outputs.iter().find(|o| o.name() == "logits").or(outputs.first());
        let output = output.with_context(|| format!("{at} has no output"))?;
        dims(output, &at)?;
        Ok(ImageNetwork {
            input: input.name().to_owned(),
            output: output.name().to_owned(),
            shape: row,
            fixed_rows: usize::try_from(shape[0]).ok().filter(|rows| *rows > 0),
            padded: Vec::new(),
            network,
        })
    }

    /// The static shape of the output, -1 where it varies.
    pub(crate) fn output_dims(&self) -> Vec<i64> {
        let shape = self.network.output(&self.output).and_then(|o| o.dtype().tensor_shape());
        shape.map(|s| s.to_vec()).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &Path {
        self.network.path()
    }

    /// Runs a batch and reads each row of the output: its shape without the batch, and its values.
    pub(crate) fn run<T>(
        &mut self,
        images: Images<'_>,
        mut read: impl FnMut(&[i64], &[f32]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let step = self.fixed_rows.unwrap_or(images.rows).max(1);
        let mut results = Vec::with_capacity(images.rows);
        for start in (0..images.rows).step_by(step) {
            let part = images.slice(start..images.rows.min(start + step));
            self.run_once(part, step, &mut results, &mut read)?;
        }
        Ok(results)
    }

    fn run_once<T>(
        &mut self,
        images: Images<'_>,
        rows: usize,
        results: &mut Vec<T>,
        read: &mut impl FnMut(&[i64], &[f32]) -> Result<T>,
    ) -> Result<()> {
        let images = if images.rows == rows { images } else { pad(images, rows, &mut self.padded) };
        let wanted = results.len() + images.rows;
        let [a, b, c] = self.shape;
        let input = TensorRef::from_array_view(([images.rows, a, b, c], images.data))?;
        let outputs = self.network.session.run(ort::inputs![self.input.as_str() => input])?;
        let output = outputs.get(&self.output).context("the network gave no output")?;
        let (shape, values) = output.try_extract_tensor::<f32>()?;
        ensure!(shape.first() == Some(&(rows as i64)), "output of shape {shape} for {rows} rows");
        let row = values.len() / rows;
        for row in values.chunks_exact(row.max(1)).take(wanted - results.len()) {
            results.push(read(&shape[1..], row)?);
        }
        Ok(())
    }
}

/// Fills the rows a fixed batch has too many of with zeros.
fn pad<'a>(images: Images<'_>, rows: usize, padded: &'a mut Vec<f32>) -> Images<'a> {
    padded.clear();
    padded.extend_from_slice(images.data);
    padded.resize(rows * 3 * images.width * images.height, 0.0);
    Images { rows, width: images.width, height: images.height, data: padded }
}

/// Runs a batch; if it fails, runs each row alone, so that one bad row costs only itself.
pub(crate) fn by_row<T>(
    rows: usize,
    mut run: impl FnMut(Range<usize>) -> Result<Vec<Result<T, Reject>>>,
) -> Vec<Result<T, Reject>> {
    match run(0..rows) {
        Ok(results) => results,
        Err(e) if rows == 1 => vec![Err(failed(&e))],
        Err(_) => (0..rows).map(|row| single(&mut run, row)).collect(),
    }
}

fn single<T>(
    run: &mut impl FnMut(Range<usize>) -> Result<Vec<Result<T, Reject>>>,
    row: usize,
) -> Result<T, Reject> {
    match run(row..row + 1) {
        Ok(mut results) => results.pop().unwrap_or_else(|| Err(failed(&anyhow!("no result")))),
        Err(e) => Err(failed(&e)),
    }
}

fn failed(error: &anyhow::Error) -> Reject {
    Reject::new(Stage::Perceive, Reason::ModelFailed, format!("{error:#}"))
}

/// The reject for a row whose output holds NaN or infinity.
pub(crate) fn not_a_number(model: &str) -> Reject {
    Reject::new(Stage::Perceive, Reason::NanOutput, model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_row_costs_only_itself() {
        let mut calls = Vec::new();
        let results = by_row(4, |rows| {
            calls.push(rows.clone());
            ensure!(!rows.contains(&2), "row 2 is poison");
            Ok(rows.map(Ok).collect())
        });
        assert_eq!(calls, [0..4, 0..1, 1..2, 2..3, 3..4]);
        let rejected: Vec<bool> = results.iter().map(Result::is_err).collect();
        assert_eq!(rejected, [false, false, true, false]);
        let reject = results[2].as_ref().unwrap_err();
        assert_eq!(reject.reason, Reason::ModelFailed);
        assert!(reject.detail.contains("row 2 is poison"));
    }
}
