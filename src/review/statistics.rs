//! What the verdicts say together: error rates, agreement, and how good each flag is.
//!
//! Where reviewers differ about a row, the row has the verdict of most of them, and of as many the
//! worst. "Wrong" is every verdict but ok. All intervals are Wilson's, at 95 %.
//!
//! # The error rate of the whole run
//! The queue shows equally many rows of each band of scores, so that the plain share of wrong rows is
//! not that of the run: bands with few rows are over-represented. The weighted rate is `sum(W_h * p_h)`
//! over the bands with a verdict, where `W_h` is the band's share of those bands' rows in the run and
//! `p_h` the share of wrong ones among its reviewed rows. Its interval is Wilson's for that rate and the
//! effective number `1 / sum(W_h^2 / n_h)`, which is what so many verdicts are worth after weighting. It
//! holds where the rows of a band were drawn by chance, as `--by stratified` does; after `--by risk` it
//! is too high.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Serialize;

use crate::interval::wilson;
use crate::review::queue::BANDS;
use crate::review::verdicts::Verdict;

/// A row with verdicts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Band of its score.
    pub band: usize,
    /// Flags of the audit.
    pub flags: Vec<String>,
    /// Whether a word of its text has no source.
    pub nowhere: bool,
    /// What each reviewer said.
    pub verdicts: BTreeMap<String, Verdict>,
}

/// What the verdicts say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// Rows with a verdict.
    pub rows: u64,
    /// Verdicts of all reviewers.
    pub verdicts: u64,
    /// Rows by their verdict, in the order of [`Verdict::ALL`].
    pub counts: Vec<VerdictCount>,
    /// Share of rows that are not ok.
    pub wrong: Rate,
    /// Share of rows that are hallucinated.
    pub hallucinated: Rate,
    /// The same two of the whole run, weighted by bands; none where no row was reviewed.
    pub weighted: Option<Weighted>,
    /// Rows of each reviewer.
    pub reviewers: BTreeMap<String, u64>,
    /// Between reviewers; none where no two judged the same row.
    pub agreement: Option<Agreement>,
    /// How good each flag is, most often raised first, and last the words from nowhere.
    pub flags: Vec<Flag>,
}

/// Rows with one verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerdictCount {
    /// The verdict.
    pub verdict: Verdict,
    /// Rows that have it.
    pub rows: u64,
}

/// A share with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// So many.
    pub part: u64,
    /// Of so many.
    pub whole: u64,
    /// Their share; none of nothing.
    pub share: Option<f64>,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Rates of the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Weighted {
    /// Rows that are not ok.
    pub wrong: Estimate,
    /// Rows that are hallucinated.
    pub hallucinated: Estimate,
    /// Share of the run's rows that are in bands with a verdict: of the rest nothing is known.
    pub covered: f64,
}

/// A weighted share with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The share.
    pub share: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How far reviewers agree on the rows that two of them judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Cohen's kappa of two reviewers; of more the mean over all pairs that share rows. None where
    /// chance alone would make them agree on everything.
    pub kappa: Option<f64>,
    /// Share of verdicts that are the same, over all such pairs.
    pub same: f64,
    /// Rows that at least two judged.
    pub rows: u64,
    /// Pairs of reviewers that share rows.
    pub pairs: u64,
}

/// How good a flag is at finding wrong rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flag {
    /// Its name.
    pub name: String,
    /// Of the reviewed rows that have it, those that are wrong.
    pub precision: Rate,
    /// Of the reviewed rows that are wrong, those that have it.
    pub recall: Rate,
}

/// What pages call rows with a word that no source has.
pub const NOWHERE: &str = "a word from nowhere";

impl Statistics {
    /// Of these rows; `population` are the rows of the run in each band.
    pub fn of(judged: &[Judged], population: &[u64; BANDS]) -> Statistics {
        let rows: Vec<(&Judged, Verdict)> =
            judged.iter().filter_map(|row| Some((row, consensus(&row.verdicts)?))).collect();
        let with = |verdict| rows.iter().filter(|(_, said)| *said == verdict).count() as u64;
        let whole = rows.len() as u64;
        let counts = Verdict::ALL.map(|verdict| VerdictCount { verdict, rows: with(verdict) });
        let mut reviewers = BTreeMap::new();
        for name in judged.iter().flat_map(|row| row.verdicts.keys()) {
            *reviewers.entry(name.clone()).or_default() += 1;
        }
        Statistics {
            rows: whole,
            verdicts: reviewers.values().sum(),
            wrong: Rate::of(whole - with(Verdict::Ok), whole),
            hallucinated: Rate::of(with(Verdict::Hallucinated), whole),
            counts: counts.to_vec(),
            weighted: weighted(&rows, population),
            agreement: agreement(judged, &reviewers),
            flags: flags(&rows),
            reviewers,
        }
    }
}

impl Rate {
    /// The share of a part, with Wilson's interval.
    pub fn of(part: u64, whole: u64) -> Rate {
        let share = (whole > 0).then(|| part as f64 / whole as f64);
        let (low, high) = share.map_or((0.0, 1.0), |share| wilson(share, whole as f64));
        Rate { part, whole, share, low, high }
    }
}

/// The verdict of most; of as many, the worst.
pub fn consensus(verdicts: &BTreeMap<String, Verdict>) -> Option<Verdict> {
    let votes = |verdict: &Verdict| verdicts.values().filter(|said| *said == verdict).count();
    verdicts.values().copied().max_by_key(|verdict| (votes(verdict), *verdict))
}

fn weighted(rows: &[(&Judged, Verdict)], population: &[u64; BANDS]) -> Option<Weighted> {
    let of = |is: fn(Verdict) -> bool| {
        let mut bands = [(0, 0); BANDS];
        for (row, verdict) in rows {
            if let Some((part, whole)) = bands.get_mut(row.band) {
                *part += u64::from(is(*verdict));
                *whole += 1;
            }
        }
        estimate(&bands, population)
    };
    let (wrong, covered) = of(|verdict| verdict != Verdict::Ok)?;
    let (hallucinated, _) = of(|verdict| verdict == Verdict::Hallucinated)?;
    Some(Weighted { wrong, hallucinated, covered })
}

/// From part and whole of each band; and the share of rows in the bands that have any.
fn estimate(bands: &[(u64, u64); BANDS], population: &[u64; BANDS]) -> Option<(Estimate, f64)> {
    let all: u64 = population.iter().sum();
    let known =
        || bands.iter().zip(population).filter(|((_, whole), rows)| *whole > 0 && **rows > 0);
    let covered: u64 = known().map(|(_, rows)| rows).sum();
    if covered == 0 {
        return None;
    }
    let (mut share, mut worth) = (0.0, 0.0);
    for ((part, whole), rows) in known() {
        let (weight, whole) = (*rows as f64 / covered as f64, *whole as f64);
        share += weight * *part as f64 / whole;
        worth += weight * weight / whole;
    }
    let (low, high) = wilson(share.min(1.0), 1.0 / worth);
    Some((Estimate { share, low, high }, covered as f64 / all as f64))
}

fn agreement(judged: &[Judged], reviewers: &BTreeMap<String, u64>) -> Option<Agreement> {
    let names: Vec<&String> = reviewers.keys().collect();
    let mut kappas = Vec::new();
    let (mut same, mut both, mut pairs) = (0, 0, 0);
    for (place, one) in names.iter().enumerate() {
        for other in &names[place + 1..] {
            let said = |row: &Judged| Some((*row.verdicts.get(*one)?, *row.verdicts.get(*other)?));
            let said: Vec<_> = judged.iter().filter_map(said).collect();
            pairs += u64::from(!said.is_empty());
            both += said.len();
            same += said.iter().filter(|(a, b)| a == b).count();
            kappas.extend(kappa(&said));
        }
    }
    let rows = judged.iter().filter(|row| row.verdicts.len() > 1).count() as u64;
    let mean = || kappas.iter().sum::<f64>() / kappas.len() as f64;
    (both > 0).then(|| Agreement {
        kappa: (!kappas.is_empty()).then(mean),
        same: same as f64 / both as f64,
        rows,
        pairs,
    })
}

/// Cohen's: agreement beyond what the two would have by chance.
fn kappa(said: &[(Verdict, Verdict)]) -> Option<f64> {
    let whole = said.len() as f64;
    let share = |is: &dyn Fn(&(Verdict, Verdict)) -> bool| {
        said.iter().filter(|pair| is(pair)).count() as f64 / whole
    };
    let observed = share(&|(a, b)| a == b);
    let of = |verdict| share(&|(a, _)| *a == verdict) * share(&|(_, b)| *b == verdict);
    let expected: f64 = Verdict::ALL.into_iter().map(of).sum();
    (whole > 0.0 && expected < 1.0).then(|| (observed - expected) / (1.0 - expected))
}

fn flags(rows: &[(&Judged, Verdict)]) -> Vec<Flag> {
    let names: BTreeSet<&String> = rows.iter().flat_map(|(row, _)| &row.flags).collect();
    let named = |name: &String| flag(name, rows, |row| row.flags.contains(name));
    let mut flags: Vec<Flag> = names.into_iter().map(named).collect();
    flags.sort_by_key(|flag| std::cmp::Reverse(flag.precision.whole));
    flags.push(flag(NOWHERE, rows, |row| row.nowhere));
    flags
}

fn flag(name: &str, rows: &[(&Judged, Verdict)], has: impl Fn(&Judged) -> bool) -> Flag {
    let count = |is: &dyn Fn(&Judged, Verdict) -> bool| {
        rows.iter().filter(|(row, verdict)| is(row, *verdict)).count() as u64
    };
    let raised = count(&|row, _| has(row));
    let wrong = count(&|_, verdict| verdict != Verdict::Ok);
    let both = count(&|row, verdict| has(row) && verdict != Verdict::Ok);
    Flag { name: name.to_owned(), precision: Rate::of(both, raised), recall: Rate::of(both, wrong) }
}

#[cfg(test)]
mod tests;
