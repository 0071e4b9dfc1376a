//! One limit and whether it is kept.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::eval::benchmark::ClassLimits;
use crate::eval::benchmark::Limit;
use crate::eval::benchmark::Limits;
use crate::eval::zero_shot::Classified;
use crate::interval::wilson;

/// A limit and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What is limited: `top1`, `recall of scratch`.
    pub name: String,
    /// On which side the limit is.
    pub bound: Bound,
    /// What was wanted.
    pub wanted: f64,
    /// What was found; nothing where there was no picture to find it by.
    pub found: Option<f64>,
    /// How many pictures that is a share of.
    pub pictures: Option<u64>,
    /// Whether the limit is kept. What nothing is known about is not.
    pub pass: bool,
}

/// On which side a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// No less.
    AtLeast,
    /// No more.
    AtMost,
}

impl Bound {
    /// The sign of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Bound::AtLeast => ">=",
            Bound::AtMost => "<=",
        }
    }

    fn is_kept(self, found: f64, wanted: f64) -> bool {
        match self {
            Bound::AtLeast => found >= wanted,
            Bound::AtMost => found <= wanted,
        }
    }
}

/// A share as it was counted.
#[derive(Clone, Copy, Debug)]
struct Share {
    part: u64,
    whole: u64,
}

impl Share {
    fn value(self) -> Option<f64> {
        (self.whole > 0).then(|| self.part as f64 / self.whole as f64)
    }

    /// The worse end of Wilson's interval, which also holds for shares of 0 and 1.
    fn worse_end(self, bound: Bound) -> Option<f64> {
        let (low, high) = wilson(self.value()?, self.whole as f64);
        Some(match bound {
            Bound::AtLeast => low,
            Bound::AtMost => high,
        })
    }
}

/// The limits over all pictures.
pub(super) fn of_all(limits: &Limits, classified: &Classified) -> Vec<Verdict> {
    let whole = classified.targets.len() as u64;
    let among = |k: usize| classified.ranks.iter().filter(|&&rank| rank < k).count() as u64;
    let unreadable = classified.predicted.iter().filter(|given| given.is_none()).count() as u64;
    let share = |part| Share { part, whole };
    let mut verdicts = judged("top1", limits.top1, Bound::AtLeast, share(among(1)));
    verdicts.extend(judged("top5", limits.top5, Bound::AtLeast, share(among(5))));
    verdicts.extend(limits.mean_per_class.map(|wanted| {
        let found = Some(classified.mean_per_class);
        one("mean per class".to_owned(), Bound::AtLeast, wanted, found, None)
    }));
    verdicts.extend(judged("unreadable", limits.unreadable, Bound::AtMost, share(unreadable)));
    verdicts
}

/// The limits over classes that are taken as one.
pub(super) fn of_class(
    limits: &ClassLimits,
    group: &BTreeSet<usize>,
    classified: &Classified,
) -> Vec<Verdict> {
    let (mut of_it, mut others, mut given, mut right) = (0, 0, 0, 0);
    for (target, predicted) in classified.targets.iter().zip(&classified.predicted) {
        let is_of_it = group.contains(target);
        let is_given = predicted.is_some_and(|predicted| group.contains(&predicted));
        of_it += u64::from(is_of_it);
        // What cannot be read cannot be a false alarm, and would only make their share smaller.
        others += u64::from(!is_of_it && predicted.is_some());
        given += u64::from(is_given);
        right += u64::from(is_of_it && is_given);
    }
    let (least, most) = (Bound::AtLeast, Bound::AtMost);
    let name = |what: &str| format!("{what} of {}", limits.name);
    let share = |part, whole| Share { part, whole };
    let mut verdicts = judged(&name("recall"), limits.recall, least, share(right, of_it));
    verdicts.extend(judged(&name("precision"), limits.precision, least, share(right, given)));
    let false_alarms = share(given - right, others);
    verdicts.extend(judged(&name("false alarms"), limits.false_alarms, most, false_alarms));
    verdicts
}

fn judged(name: &str, limit: Option<Limit>, bound: Bound, share: Share) -> Vec<Verdict> {
    let (wanted, surely) = limit.map_or((None, None), Limit::numbers);
    let pictures = Some(share.whole);
    let found = wanted.map(|wanted| one(name.to_owned(), bound, wanted, share.value(), pictures));
    let sure = surely.map(|surely| {
        one(format!("{name}, surely"), bound, surely, share.worse_end(bound), pictures)
    });
    found.into_iter().chain(sure).collect()
}

fn one(
    name: String,
    bound: Bound,
    wanted: f64,
    found: Option<f64>,
    pictures: Option<u64>,
) -> Verdict {
    let pass = found.is_some_and(|found| bound.is_kept(found, wanted));
    Verdict { name, bound, wanted, found, pictures, pass }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, wanted: f64) -> bool {
        (found.unwrap() - wanted).abs() < 5e-5
    }

    #[test]
    fn the_interval_is_wilsons() {
        // Numbers of scipy.stats.binomtest(part, whole).proportion_ci(method="wilson").
        let of = |part, whole| Share { part, whole };
        assert!(near(of(9, 10).worse_end(Bound::AtLeast), 0.59585));
        assert!(near(of(9, 10).worse_end(Bound::AtMost), 0.98212));
        assert!(near(of(50, 50).worse_end(Bound::AtLeast), 0.92865));
        assert!(near(of(0, 50).worse_end(Bound::AtMost), 0.07135));
        assert_eq!(of(0, 0).worse_end(Bound::AtMost), None);
    }

    /// Two classes of defects and one of good parts; the last picture cannot be read.
    fn classified() -> Classified {
        let classes = ["scratch", "dent", "good"].map(str::to_owned);
        let targets = vec![0, 0, 0, 1, 2, 2, 2, 2, 0];
        let given = [0, 1, 2, 1, 2, 2, 2, 1];
        let mut predicted: Vec<Option<usize>> = given.into_iter().map(Some).collect();
        predicted.push(None);
        let ranks = vec![0, 1, 2, 0, 0, 0, 0, 1, usize::MAX];
        Classified::of(&classes, ranks, targets, predicted).unwrap()
    }

    #[test]
    fn classes_are_judged_by_what_is_missed_and_by_false_alarms() {
        let limits = ClassLimits {
            name: "scratch".to_owned(),
            classes: Vec::new(),
            recall: Some(Limit::Share(0.25)),
            precision: Some(Limit::Share(1.0)),
            false_alarms: Some(Limit::Share(0.0)),
        };
        let found = of_class(&limits, &BTreeSet::from([0]), &classified());
        let values: Vec<_> = found.iter().map(|v| (v.name.as_str(), v.found.unwrap())).collect();
        let wanted = [
            ("recall of scratch", 0.25),
            ("precision of scratch", 1.0),
            ("false alarms of scratch", 0.0),
        ];
        assert_eq!(values, wanted);
        assert!(found.iter().all(|verdict| verdict.pass));
        // As one class: what a scratch is called among the defects does not matter.
        let found = of_class(&limits, &BTreeSet::from([0, 1]), &classified());
        let values: Vec<_> = found.iter().map(|v| (v.found.unwrap(), v.pass)).collect();
        assert_eq!(values, [(0.6, true), (0.75, false), (0.25, false)]);
        // Five pictures are no good parts; of the four that can be read one is taken for one.
        let found = of_class(&limits, &BTreeSet::from([2]), &classified());
        assert_eq!((found[2].found, found[2].pictures), (Some(0.25), Some(4)));
    }

    #[test]
    fn what_nothing_is_known_about_is_not_kept() {
        let found = judged(
            "precision",
            Some(Limit::Share(0.0)),
            Bound::AtLeast,
            Share { part: 0, whole: 0 },
        );
        assert_eq!((found[0].found, found[0].pass), (None, false));
    }

    #[test]
    fn pictures_that_cannot_be_read_are_wrong_and_counted() {
        let limits = Limits {
            top1: Some(Limit::Share(0.5)),
            top5: Some(Limit::Share(1.0)),
            mean_per_class: Some(0.6),
            unreadable: Some(Limit::Share(0.1)),
        };
        let found = of_all(&limits, &classified());
        let passes: Vec<_> = found.iter().map(|v| (v.name.as_str(), v.pass)).collect();
        let wanted =
            [("top1", true), ("top5", false), ("mean per class", true), ("unreadable", false)];
        assert_eq!(passes, wanted);
        assert!(near(found[0].found, 5.0 / 9.0) && near(found[1].found, 8.0 / 9.0));
        assert!(near(found[2].found, (0.25 + 1.0 + 0.75) / 3.0));
        assert!(near(found[3].found, 1.0 / 9.0));
    }

    #[test]
    fn few_pictures_make_nothing_sure() {
        let limit =
            Limit::Both(crate::eval::benchmark::SureLimit { share: Some(0.9), surely: 0.9 });
        let found = judged("recall", Some(limit), Bound::AtLeast, Share { part: 10, whole: 10 });
        assert_eq!(found.iter().map(|v| v.pass).collect::<Vec<_>>(), [true, false]);
        assert_eq!(found[1].name, "recall, surely");
    }
}
