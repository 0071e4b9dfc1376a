//! What each stage does to a row, or to a batch of rows. Nothing here knows threads or order.

use anyhow::Result;
use fast_image_resize::Resizer;

use crate::atomic_file;
use crate::audit;
use crate::clip::Judge;
use crate::decode;
use crate::decode::Limits;
use crate::decode::Store;
use crate::decode::View;
use crate::dedup::Print;
use crate::describe::Describer;
use crate::describe::Request;
use crate::perceive::Glimpse;
use crate::perceive::Perceiver;
use crate::pipeline::row::Flow;
use crate::pipeline::row::Left;
use crate::pipeline::row::Row;
use crate::sample::Item;
use crate::sample::Picture;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Sample;
use crate::sample::Stage;
use crate::sample::StoredImage;
use crate::vision::Captioner;

/// A row between decoding and the models: what will be stored, and what they are to see.
pub(super) struct Seen {
    pub(super) sample: Sample,
    pub(super) print: Print,
    glimpse: Glimpse,
}

/// Decodes; one for each thread, because it keeps buffers.
pub(super) struct Decoder<'a> {
    limits: &'a Limits,
    store: &'a Store,
    views: &'a [View],
    resizer: Resizer,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(limits: &'a Limits, store: &'a Store, views: &'a [View]) -> Decoder<'a> {
        Decoder { limits, store, views, resizer: Resizer::new() }
    }

    /// Bytes to what is stored and what is seen.
    pub(super) fn decode(&mut self, mut item: Item) -> Result<Seen, Left> {
        match self.look(&item) {
            Ok((image, sha256, print, glimpse)) => {
                item.picture = emptied();
                let sample = Sample::decoded(item, image, sha256, print.phash);
                Ok(Seen { sample, print, glimpse })
            }
            Err(reject) => {
                item.picture = emptied();
                Err(Left::Rejected(Box::new((item, reject))))
            }
        }
    }

    fn look(&mut self, item: &Item) -> Result<Looked, Reject> {
        let bytes = match &item.picture {
            Picture::Bytes { bytes, .. } => bytes,
            Picture::Url(url) => {
                return Err(Reject::new(Stage::Fetch, Reason::UrlInvalid, url.clone()));
            }
            Picture::Absent { reason, detail } => {
                return Err(Reject::new(Stage::Source, *reason, detail.clone()));
            }
        };
        let failed = |e: anyhow::Error| Reject::new(Stage::Decode, Reason::Corrupt, e.to_string());
        let (pixels, encoding) = decode::upright(bytes, self.limits)?;
        let resizer = &mut self.resizer;
        let views: Result<_> = self.views.iter().map(|view| view.apply(&pixels, resizer)).collect();
        let glimpse = Glimpse {
            original_width: pixels.width,
            original_height: pixels.height,
            views: views.map_err(failed)?,
        };
        let print = Print::of(&pixels, &mut self.resizer).map_err(failed)?;
        let mut image =
            self.store.store(bytes, &pixels, encoding, &mut self.resizer).map_err(failed)?;
        image.path = format!("{}.{}", item.key.replace('/', "__"), image.path);
        Ok((image, atomic_file::sha256(bytes), print, glimpse))
    }
}

type Looked = (crate::sample::StoredImage, String, Print, Glimpse);

/// The bytes are not needed any more, and memory is.
fn emptied() -> Picture {
    Picture::Absent { reason: Reason::ImageNull, detail: String::new() }
}

/// Shows a batch to the models.
pub(super) fn perceive(perceiver: &mut Perceiver, batch: Vec<Flow<Seen>>) -> Vec<Flow<Sample>> {
    let mut glimpses = Vec::new();
    let kept: Vec<Flow<Sample>> = batch
        .into_iter()
        .map(|flow| {
            flow.map(|row| {
                row.map(|seen| {
                    glimpses.push(seen.glimpse);
                    seen.sample
                })
            })
        })
        .collect();
    let percepts = match perceiver.perceive(&glimpses) {
        Ok(percepts) => percepts,
        Err(error) => return vec![Err(error)],
    };
    let mut percepts = percepts.into_iter();
    let mut finish = |mut sample: Sample| match percepts.next() {
        Some(Ok(percept)) => {
            sample.tags = percept.tags;
            sample.synthetic = percept.caption;
            sample.safety = percept.safety;
            Ok(sample)
        }
        Some(Err(reject)) => Err(Left::Rejected(Box::new((sample.item, reject)))),
        None => Err(Left::Rejected(Box::new((
            sample.item,
            Reject::new(Stage::Perceive, Reason::ModelFailed, "no answer for this picture"),
        )))),
    };
    kept.into_iter().map(|flow| flow.map(|row| row.and_then(&mut finish))).collect()
}

/// Shows the pictures of a batch to an endpoint.
pub(super) fn caption(captioner: &Captioner, mut batch: Vec<Flow<Sample>>) -> Vec<Flow<Sample>> {
    let mut samples: Vec<&mut Sample> =
        batch.iter_mut().filter_map(|flow| flow.as_mut().ok()?.state.as_mut().ok()).collect();
    let pictures: Vec<&StoredImage> = samples.iter().map(|sample| &sample.image).collect();
    let captions = match captioner.caption(&pictures) {
        Ok(captions) => captions,
        Err(error) => return vec![Err(error)],
    };
    for (sample, caption) in samples.iter_mut().zip(captions) {
        // Without one, what a captioner in this process said is better than nothing.
        sample.synthetic = caption.or(sample.synthetic.take());
    }
    batch
}

/// Writes the texts of a batch and judges them.
pub(super) fn describe(
    describer: &Describer,
    audit_config: &audit::Config,
    mut batch: Vec<Flow<Sample>>,
) -> Vec<Flow<Sample>> {
    let mut samples: Vec<&mut Sample> =
        batch.iter_mut().filter_map(|flow| flow.as_mut().ok()?.state.as_mut().ok()).collect();
    let requests: Vec<Request<'_>> = samples.iter().map(|sample| Request::of(sample)).collect();
    let answers = match describer.describe(&requests) {
        Ok(answers) => answers,
        Err(error) => return vec![Err(error)],
    };
    for (sample, answer) in samples.iter_mut().zip(answers) {
        sample.generated = answer.generated;
        sample.generated_refused = answer.refused;
    }
    audit::of_samples(audit_config, &mut samples);
    batch
}

/// Asks how well texts fit their pictures.
pub(super) fn judge(judge: &Judge, mut batch: Vec<Flow<Sample>>) -> Vec<Flow<Sample>> {
    let mut samples: Vec<&mut Sample> =
        batch.iter_mut().filter_map(|flow| flow.as_mut().ok()?.state.as_mut().ok()).collect();
    match judge.judge(&mut samples) {
        Ok(()) => batch,
        Err(error) => vec![Err(error)],
    }
}

/// Rows grouped for stages that take batches: `rows` of those that are still on the path, with
/// what has left it in between. An error ends its group.
pub(super) struct Batches<I> {
    input: I,
    rows: usize,
}

impl<I> Batches<I> {
    pub(super) fn new(input: I, rows: usize) -> Batches<I> {
        Batches { input, rows: rows.max(1) }
    }
}

/// What has left the path is small, but not nothing.
const MOST_OFF_PATH: usize = 1024;

impl<T, I: Iterator<Item = Flow<T>>> Iterator for Batches<I> {
    type Item = Vec<Flow<T>>;

    fn next(&mut self) -> Option<Vec<Flow<T>>> {
        let mut batch = Vec::new();
        let mut on_path = 0;
        while on_path < self.rows && batch.len() < self.rows + MOST_OFF_PATH {
            let Some(flow) = self.input.next() else { break };
            let ends = flow.is_err();
            on_path += usize::from(matches!(&flow, Ok(Row { state: Ok(_), .. })));
            batch.push(flow);
            if ends {
                break;
            }
        }
        (!batch.is_empty()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: Result<u32, Left>) -> Flow<u32> {
        Ok(Row { shard: 0, state })
    }

    #[test]
    fn a_batch_counts_only_what_is_on_the_path_and_ends_at_an_error() {
        let flows = vec![
            row(Ok(1)),
            row(Err(Left::Kept)),
            row(Ok(2)),
            row(Ok(3)),
            Err(anyhow::anyhow!("the source broke off")),
            row(Ok(4)),
        ];
        let sizes: Vec<usize> =
            Batches::new(flows.into_iter(), 2).map(|batch| batch.len()).collect();
        assert_eq!(sizes, [3, 2, 1]);
    }
}
