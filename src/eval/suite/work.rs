//! One checkpoint on one data set: pictures are embedded once, then every task is judged.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::clip::Embedder;
use crate::eval::data::Captioned;
use crate::eval::data::Labelled;
use crate::eval::data::Metric;
use crate::eval::features;
use crate::eval::features::Features;
use crate::eval::features::Unreadable;
use crate::eval::probe;
use crate::eval::probe::Part;
use crate::eval::result;
use crate::eval::result::Answers;
use crate::eval::result::Details;
use crate::eval::result::IMAGE;
use crate::eval::result::IMAGE_RETRIEVAL;
use crate::eval::result::ProbeDetails;
use crate::eval::result::TEXT_RETRIEVAL;
use crate::eval::result::Task;
use crate::eval::result::hash_of;
use crate::eval::retrieval;
use crate::eval::suite::Job;
use crate::eval::suite::Suite;
use crate::eval::suite::Told;
use crate::eval::suite::opened::Data;
use crate::eval::suite::opened::Parts;
use crate::eval::zero_shot;

/// Names of pictures that a result tells of.
const EXAMPLES: usize = 5;

type Metrics = BTreeMap<String, f64>;

/// A checkpoint and the features of a data set.
pub(super) struct Work<'a> {
    suite: &'a Suite,
    embedder: &'a Embedder,
    what: &'a str,
    tell: &'a dyn Fn(Told),
    kind: Kind<'a>,
}

enum Kind<'a> {
    Labelled(&'a Parts<'a>, Features),
    Captioned(&'a Captioned),
}

impl<'a> Work<'a> {
    /// Embeds what all tasks share.
    pub(super) fn start(
        suite: &'a Suite,
        embedder: &'a Embedder,
        data: &'a Data<'a>,
        what: &'a str,
        tell: &'a dyn Fn(Told),
    ) -> Result<Work<'a>> {
        let kind = match data {
            Data::Labelled(parts) => {
                Kind::Labelled(parts, features_of(embedder, &parts.judged, what, tell)?)
            }
            Data::Captioned(_, data) => Kind::Captioned(data),
        };
        Ok(Work { suite, embedder, what, tell, kind })
    }

    pub(super) fn score(&self, job: &Job) -> Result<(Metrics, Details)> {
        match (&self.kind, job.task) {
            (Kind::Labelled(parts, features), Task::LinearProbe) => {
                self.probe(job, parts, features)
            }
            (Kind::Labelled(parts, features), _) => self.zero_shot(job, &parts.judged, features),
            (Kind::Captioned(data), _) => self.retrieval(job, data),
        }
    }

    fn zero_shot(
        &self,
        job: &Job,
        data: &Labelled,
        features: &Features,
    ) -> Result<(Metrics, Details)> {
        let found = zero_shot::score(self.embedder, data, features, self.suite.rounding)?;
        let keys: Vec<&str> = keys(features, 0..features.keys.len()).collect();
        let questions = questions(&data.classes, &keys, &found.targets);
        let answers = Answers::new(questions, &found.ranks, Some(&found.targets))?;
        let answers = BTreeMap::from([(IMAGE.to_owned(), answers)]);
        let (metrics, details) = self.details(job, answers, Some(data))?;
        let details = Details { rounding: Some(self.suite.rounding), ..details };
        Ok((metrics, details.without(&features.unreadable)))
    }

    fn probe(&self, job: &Job, parts: &Parts, features: &Features) -> Result<(Metrics, Details)> {
        let (classes, metric) = (parts.judged.classes.len(), parts.judged.metric);
        let Divided { train, validation, test, rows, unreadable } =
            self.divided(parts, features)?;
        let found = probe::score(&train, &validation, &test, classes, metric)?;
        let mut ranks = found.ranks;
        ranks.extend(unreadable.iter().map(|_| usize::MAX));
        let mut targets = test.targets;
        targets.extend(unreadable.iter().map(|unreadable| unreadable.target));
        let mut keys: Vec<&str> = rows.iter().map(|&row| features.keys[row].as_str()).collect();
        keys.extend(unreadable.iter().map(|unreadable| unreadable.key.as_str()));
        let questions = questions(&parts.judged.classes, &keys, &targets);
        let answers = Answers::new(questions, &ranks, Some(&targets))?;
        let answers = BTreeMap::from([(IMAGE.to_owned(), answers)]);
        let (metrics, details) = self.details(job, answers, Some(&parts.judged))?;
        let probe = ProbeDetails {
            train: train.targets.len() as u64,
            validation: validation.targets.len() as u64,
            choice: found.choice,
        };
        let details = Details { probe: Some(probe), ..details };
        Ok((metrics, details.without(&unreadable)))
    }

    /// Features in their three parts: those that are named, else drawn.
    fn divided(&self, parts: &Parts, features: &Features) -> Result<Divided> {
        // Pictures that cannot be read are drawn too, behind the others: those to be judged are wrong.
        let readable = features.targets.len();
        let without_features = features.unreadable.iter().map(|unreadable| unreadable.target);
        let targets: Vec<usize> =
            features.targets.iter().copied().chain(without_features).collect();
        let all: Vec<usize> = (0..targets.len()).collect();
        let settings = &parts.settings.probe;
        let draw = |targets: &[usize], rows: &[usize]| {
            probe::stratified(targets, rows, settings.share, settings.seed)
        };
        let other = |data: &Labelled, which: &str| {
            features_of(self.embedder, data, &format!("{} · {which}", self.what), self.tell)
        };
        let (learn, mut rows, test) = match &parts.train {
            Some(train) => (Some(other(train, "train")?), Vec::new(), all),
            None => {
                let (learn, test) = draw(&targets, &all);
                (None, learn, test)
            }
        };
        rows.retain(|&row| row < readable);
        let (test, unreadable): (Vec<usize>, Vec<usize>) =
            test.into_iter().partition(|&row| row < readable);
        let unreadable =
            unreadable.into_iter().map(|row| features.unreadable[row - readable].clone());
        let (source, rows) = match &learn {
            Some(learn) => (learn, (0..learn.targets.len()).collect()),
            None => (features, rows),
        };
        let of = |from: &Features, rows: &[usize]| Part::of(&from.numbers, &from.targets, rows);
        let (train, validation) = match &parts.validation {
            Some(validation) => {
                let validation = other(validation, "validation")?;
                let all: Vec<usize> = (0..validation.targets.len()).collect();
                (of(source, &rows)?, of(&validation, &all)?)
            }
            None => {
                let (train, validation) = draw(&source.targets, &rows);
                (of(source, &train)?, of(source, &validation)?)
            }
        };
        let unreadable = unreadable.collect();
        Ok(Divided { train, validation, test: of(features, &test)?, rows: test, unreadable })
    }

    fn retrieval(&self, job: &Job, data: &Captioned) -> Result<(Metrics, Details)> {
        let total = (data.pictures().len() + data.texts.len()) as u64;
        (self.tell)(Told::Started { what: self.what, total });
        let found = retrieval::score(self.embedder, data, &|done| (self.tell)(Told::Done(done)))?;
        let pairs = data.texts.iter().zip(&data.image_of);
        let pairs: Vec<(&str, String)> =
            pairs.map(|(text, image)| (text.as_str(), image.to_string())).collect();
        let keys = data.pictures().keys().iter().map(String::as_str);
        let questions =
            hash_of(keys.chain(pairs.iter().flat_map(|(text, image)| [*text, image.as_str()])));
        let texts = Answers::new(questions.clone(), &found.text_ranks, None)?;
        let images = Answers::new(questions, &found.image_ranks, None)?;
        let answers = BTreeMap::from([
            (TEXT_RETRIEVAL.to_owned(), texts),
            (IMAGE_RETRIEVAL.to_owned(), images),
        ]);
        let (metrics, details) = self.details(job, answers, None)?;
        let details = Details {
            samples: found.images as u64,
            texts: Some(found.texts as u64),
            chance: Some(1.0 / found.images.max(1) as f64),
            unreadable: found.unreadable.len() as u64,
            unreadable_examples: found.unreadable.into_iter().take(EXAMPLES).collect(),
            ..details
        };
        Ok((metrics, details))
    }

    /// What all tasks have in common; `data` of a classification.
    fn details(
        &self,
        job: &Job,
        answers: BTreeMap<String, Answers>,
        data: Option<&Labelled>,
    ) -> Result<(Metrics, Details)> {
        let classes = data.map(|data| data.classes.len());
        let bootstrap = &self.suite.bootstrap;
        let (metrics, intervals) = result::judged(job.task, &answers, classes, bootstrap)?;
        let samples = answers.values().map(|answers| answers.ranks.0.len()).max();
        let headline = match data.map(|data| data.metric) {
            // The last of a classification's metrics.
            Some(Metric::MeanPerClass) => job.task.metrics()[2],
            _ => job.task.metrics()[0],
        };
        let details = Details {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fingerprint: job.fingerprint.clone(),
            checkpoint: self.embedder.label().to_string(),
            headline: headline.to_owned(),
            samples: samples.unwrap_or(0) as u64,
            texts: None,
            classes: classes.map(|classes| classes as u64),
            unreadable: 0,
            unreadable_examples: Vec::new(),
            rounding: None,
            probe: None,
            chance: classes.map(|classes| 1.0 / classes.max(1) as f64),
            intervals,
            bootstrap: bootstrap.clone(),
            answers,
        };
        Ok((metrics, details))
    }
}

/// The parts of a linear probe.
struct Divided {
    train: Part,
    validation: Part,
    test: Part,
    /// The rows of the test part among the features that are judged.
    rows: Vec<usize>,
    /// The pictures of the test part that have no features.
    unreadable: Vec<Unreadable>,
}

impl Details {
    fn without(self, unreadable: &[Unreadable]) -> Details {
        let example = |unreadable: &Unreadable| (unreadable.key.clone(), unreadable.why.clone());
        Details {
            unreadable: unreadable.len() as u64,
            unreadable_examples: unreadable.iter().take(EXAMPLES).map(example).collect(),
            ..self
        }
    }
}

fn features_of(
    embedder: &Embedder,
    data: &Labelled,
    what: &str,
    tell: &dyn Fn(Told),
) -> Result<Features> {
    tell(Told::Started { what, total: data.len() as u64 });
    features::features(embedder, data, &|done| tell(Told::Done(done)))
}

/// Names of these rows, then of what could not be read, as their ranks are.
fn keys(features: &Features, rows: std::ops::Range<usize>) -> impl Iterator<Item = &str> {
    let unreadable = features.unreadable.iter().map(|unreadable| unreadable.key.as_str());
    features.keys[rows].iter().map(String::as_str).chain(unreadable)
}

fn questions(classes: &[String], keys: &[&str], targets: &[usize]) -> String {
    let targets: Vec<String> = targets.iter().map(usize::to_string).collect();
    let classes = classes.iter().map(String::as_str);
    hash_of(classes.chain(keys.iter().copied()).chain(targets.iter().map(String::as_str)))
}
