//! Non-maximum suppression: of boxes of one class that overlap, only the best stays.

/// A box with a class and a score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// `[x1, y1, x2, y2]`.
    pub(crate) bbox: [f32; 4],
    pub(crate) class: usize,
    pub(crate) score: f32,
}

/// Keeps, best first, each candidate that overlaps no better one of its class by more than `iou`;
/// at most `limit`. Equal scores stay in the order they came in.
///
/// A candidate is only compared with the kept ones of its class, and the work ends with the last
/// box wanted: `candidates * limit` comparisons at worst, where the specification (the slow twin in
/// the tests) looks at every pair.
pub(crate) fn suppress(mut candidates: Vec<Candidate>, iou: f32, limit: usize) -> Vec<Candidate> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if kept.len() == limit {
            break;
        }
        let rival = |k: &Candidate| k.class == candidate.class && overlap(k, &candidate) > iou;
        if !kept.iter().any(rival) {
            kept.push(candidate);
        }
    }
    kept
}

/// Intersection over union.
fn overlap(a: &Candidate, b: &Candidate) -> f32 {
    let width = a.bbox[2].min(b.bbox[2]) - a.bbox[0].max(b.bbox[0]);
    let height = a.bbox[3].min(b.bbox[3]) - a.bbox[1].max(b.bbox[1]);
    let shared = width.max(0.0) * height.max(0.0);
    let union = area(a) + area(b) - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

fn area(c: &Candidate) -> f32 {
    (c.bbox[2] - c.bbox[0]) * (c.bbox[3] - c.bbox[1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The specification, as the papers say it: while boxes remain, take the best one and throw
    /// away the remaining ones of its class that overlap it.
    fn slow(candidates: Vec<Candidate>, iou: f32, limit: usize) -> Vec<Candidate> {
        let mut remaining = candidates;
        let mut kept = Vec::new();
        while !remaining.is_empty() && kept.len() < limit {
            let best_score = remaining.iter().map(|c| c.score).fold(f32::MIN, f32::max);
            let best = remaining.iter().position(|c| c.score == best_score).unwrap();
            let best = remaining.remove(best);
            remaining.retain(|c| c.class != best.class || overlap(c, &best) <= iou);
            kept.push(best);
        }
        kept
    }

    fn candidate() -> impl Strategy<Value = Candidate> {
        // Coarse numbers, so that equal scores, equal boxes and empty boxes happen.
        (0..12u8, 0..12u8, 0..8u8, 0..8u8, 0..3usize, 0..10u8).prop_map(
            |(x, y, w, h, class, score)| {
                let (x, y) = (f32::from(x), f32::from(y));
                let bbox = [x, y, x + f32::from(w), y + f32::from(h)];
                Candidate { bbox, class, score: f32::from(score) / 10.0 }
            },
        )
    }

    proptest! {
        #[test]
        fn fast_and_slow_agree(
            candidates in prop::collection::vec(candidate(), 0..60),
            iou in 0.0..1.0f32,
            limit in 0..20usize,
        ) {
            prop_assert_eq!(suppress(candidates.clone(), iou, limit), slow(candidates, iou, limit));
        }
    }

    #[test]
    fn overlap_is_intersection_over_union() {
        let at = |bbox| Candidate { bbox, class: 0, score: 1.0 };
        let unit = at([0.0, 0.0, 2.0, 2.0]);
        assert_eq!(overlap(&unit, &unit), 1.0);
        assert_eq!(overlap(&unit, &at([1.0, 0.0, 3.0, 2.0])), 2.0 / 6.0);
        assert_eq!(overlap(&unit, &at([2.0, 0.0, 4.0, 2.0])), 0.0);
        let nothing = at([1.0, 1.0, 1.0, 1.0]);
        assert_eq!(overlap(&nothing, &nothing), 0.0);
    }
}
