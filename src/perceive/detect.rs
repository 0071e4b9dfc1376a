//! Labelled boxes: a detector with the inputs and outputs of an Ultralytics YOLO export.
//!
//! Two output layouts are known. The usual one, `[batch, 4 + classes, anchors]`, holds centre,
//! size and a score for each class, and is filtered and suppressed here. Exports with `nms=True`
//! and the end-to-end models give `[batch, boxes, 6]`: corners, score, class, already suppressed.

use std::sync::Arc;

use anyhow::Result;
use anyhow::bail;

use crate::decode::Fit;
use crate::decode::letterbox_fit;
use crate::models::folder;
use crate::perceive::network::ImageNetwork;
use crate::perceive::network::Images;
use crate::perceive::network::by_row;
use crate::perceive::network::not_a_number;
use crate::perceive::nms::Candidate;
use crate::perceive::nms::suppress;
use crate::sample::Reject;
use crate::sample::Tag;

/// A detector with its session; belongs to one worker.
pub(crate) struct Detector {
    network: ImageNetwork,
    labels: Vec<String>,
    width: u32,
    height: u32,
    model: Arc<str>,
}

/// What counts as a detection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Thresholds {
    pub(crate) confidence: f32,
    pub(crate) iou: f32,
    pub(crate) max_detections: usize,
}

impl Detector {
    pub(crate) fn new(
        network: ImageNetwork,
        plan: &folder::Detector,
        model: Arc<str>,
    ) -> Result<Detector> {
        let detector = Detector {
            labels: plan.labels.clone(),
            width: plan.width,
            height: plan.height,
            network,
            model,
        };
        let dims = detector.network.output_dims();
        if dims.len() != 3 || (dims[1] > 0 && dims[2] > 0) {
            Layout::of(dims.get(1..).unwrap_or(&[]), detector.labels.len())?;
        }
        Ok(detector)
    }

    /// Detections of each row, best first, in pixels of the original picture.
    ///
    /// `sizes` holds width and height of the original upright picture of each row.
    pub(crate) fn detect(
        &mut self,
        images: Images<'_>,
        sizes: &[(u32, u32)],
        thresholds: Thresholds,
    ) -> Vec<Result<Vec<Tag>, Reject>> {
        let found = by_row(images.rows, |rows| self.candidates(images.slice(rows), thresholds));
        let tags = |(row, size): (Result<Vec<Candidate>, Reject>, &(u32, u32))| {
            row.map(|candidates| self.tags(candidates, *size))
        };
        found.into_iter().zip(sizes).map(tags).collect()
    }

    fn candidates(
        &mut self,
        images: Images<'_>,
        thresholds: Thresholds,
    ) -> Result<Vec<Result<Vec<Candidate>, Reject>>> {
        let (classes, model) = (self.labels.len(), self.model.clone());
        self.network.run(images, |shape, values| {
            if !values.iter().all(|v| v.is_finite()) {
                return Ok(Err(not_a_number(&model)));
            }
            Ok(Ok(match Layout::of(shape, classes)? {
                Layout::Anchors => from_anchors(values, classes, thresholds),
                Layout::EndToEnd => from_boxes(values, classes, thresholds),
            }))
        })
    }

    fn tags(&self, candidates: Vec<Candidate>, (width, height): (u32, u32)) -> Vec<Tag> {
        let fit = letterbox_fit(width, height, self.width, self.height);
        let tag = |c: Candidate| Tag {
            label: self.labels[c.class].clone(),
            score: c.score,
            bbox: Some(to_original(c.bbox, &fit, width as f32, height as f32)),
            model: self.model.clone(),
        };
        candidates.into_iter().map(tag).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// `[4 + classes, anchors]`
    Anchors,
    /// `[boxes, 6]`
    EndToEnd,
}

impl Layout {
    fn of(shape: &[i64], classes: usize) -> Result<Layout> {
        match *shape {
            [rows, _] if rows == 4 + classes as i64 => Ok(Layout::Anchors),
            [_, 6] => Ok(Layout::EndToEnd),
            _ => bail!(
                "the detector gives rows of shape {shape:?}; with {classes} classes [{}, anchors] \
                 or [boxes, 6] was expected",
                4 + classes
            ),
        }
    }
}

/// # Shapes
/// `values` is `[4 + classes, anchors]`: centre x, centre y, width, height, then class scores.
fn from_anchors(values: &[f32], classes: usize, thresholds: Thresholds) -> Vec<Candidate> {
    let anchors = values.len() / (4 + classes);
    let (geometry, scores) = values.split_at(4 * anchors);
    let (best, class) = best_classes(scores, anchors);
    let candidates = (0..anchors).filter(|&a| best[a] > thresholds.confidence).map(|a| {
        let [x, y, width, height] = [0, 1, 2, 3].map(|i| geometry[i * anchors + a]);
        let (w, h) = (width / 2.0, height / 2.0);
        Candidate { bbox: [x - w, y - h, x + w, y + h], class: class[a], score: best[a] }
    });
    suppress(candidates.collect(), thresholds.iou, thresholds.max_detections)
}

/// The best class of each anchor. Goes row by row, as the values lie in memory.
fn best_classes(scores: &[f32], anchors: usize) -> (Vec<f32>, Vec<usize>) {
    let mut best = vec![f32::NEG_INFINITY; anchors];
    let mut class = vec![0; anchors];
    for (id, row) in scores.chunks_exact(anchors.max(1)).enumerate() {
        for (anchor, &score) in row.iter().enumerate() {
            if score > best[anchor] {
                best[anchor] = score;
                class[anchor] = id;
            }
        }
    }
    (best, class)
}

/// # Shapes
/// `values` is `[boxes, 6]`: x1, y1, x2, y2, score, class; unused boxes have score 0.
fn from_boxes(values: &[f32], classes: usize, thresholds: Thresholds) -> Vec<Candidate> {
    let known = |c: &Candidate| c.score > thresholds.confidence && c.class < classes;
    let read = |v: &[f32]| Candidate {
        bbox: [v[0], v[1], v[2], v[3]],
        score: v[4],
        // A float out of range saturates in Rust and is then no known class.
        class: v[5].round() as usize,
    };
    let mut found: Vec<Candidate> = values.chunks_exact(6).map(read).filter(known).collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(thresholds.max_detections);
    found
}

/// Undoes the letterbox and clips to the picture.
fn to_original(bbox: [f32; 4], fit: &Fit, width: f32, height: f32) -> [f32; 4] {
    let (left, top) = (fit.left as f32, fit.top as f32);
    let x = |v: f32| ((v - left) / fit.gain).clamp(0.0, width);
    let y = |v: f32| ((v - top) / fit.gain).clamp(0.0, height);
    [x(bbox[0]), y(bbox[1]), x(bbox[2]), y(bbox[3])]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Thresholds = Thresholds { confidence: 0.25, iou: 0.45, max_detections: 10 };

    #[test]
    fn anchors_are_read_by_column() {
        // Two classes, three anchors: the second is below the threshold, the third overlaps the
        // first but is of another class.
        let values = [
            10.0, 50.0, 11.0, // centre x
            20.0, 50.0, 20.0, // centre y
            4.0, 9.0, 4.0, // width
            6.0, 9.0, 6.0, // height
            0.9, 0.2, 0.1, // class 0
            0.1, 0.1, 0.8, // class 1
        ];
        let found = from_anchors(&values, 2, ALL);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Candidate { bbox: [8.0, 17.0, 12.0, 23.0], class: 0, score: 0.9 });
        assert_eq!(found[1].class, 1);
    }

    #[test]
    fn end_to_end_boxes_are_taken_as_they_are() {
        let values = [
            1.0, 2.0, 3.0, 4.0, 0.5, 1.0, //
            1.0, 2.0, 3.0, 4.0, 0.9, 0.0, //
            1.0, 2.0, 3.0, 4.0, 0.9, 7.0, // no such class
            0.0, 0.0, 0.0, 0.0, 0.0, 0.0, // unused
        ];
        let found = from_boxes(&values, 2, ALL);
        let read: Vec<_> = found.iter().map(|c| (c.class, c.score)).collect();
        assert_eq!(read, [(0, 0.9), (1, 0.5)]);
    }

    #[test]
    fn the_layout_is_told_by_the_shape() {
        assert_eq!(Layout::of(&[33, 525], 29).unwrap(), Layout::Anchors);
        assert_eq!(Layout::of(&[300, 6], 29).unwrap(), Layout::EndToEnd);
        assert_eq!(Layout::of(&[6, 525], 2).unwrap(), Layout::Anchors);
        for wrong in [&[84, 525][..], &[525], &[]] {
            assert!(Layout::of(wrong, 29).is_err());
        }
    }

    #[test]
    fn boxes_go_back_to_the_original_and_stay_inside() {
        let fit = Fit { gain: 0.5, left: 0, top: 20 };
        let back = to_original([-4.0, 20.0, 50.0, 200.0], &fit, 320.0, 240.0);
        assert_eq!(back, [0.0, 0.0, 100.0, 240.0]);
    }
}
