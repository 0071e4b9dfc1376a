//! The page of a training: what it is made from, and its curves.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use crate::atomic_file;
use crate::chart;
use crate::chart::LineChart;
use crate::chart::Series;
use crate::folder;
use crate::page;
use crate::page::Page;
use crate::page::Section;
use crate::train::Record;
use crate::train::journal;
use crate::train::journal::Line;
use crate::train::journal::Step;
use crate::train::journal::Validation;

/// Steps that a smooth loss is the mean of, before and after its place.
const AROUND: usize = 20;

/// Writes `report.html` into the folder of a training.
///
/// # Errors
/// When the folder is none of a training, or the page cannot be written.
pub fn write(run: &Path) -> Result<PathBuf> {
    let record: Record = folder::read(&run.join(crate::train::RECORD))?
        .with_context(|| format!("{} is no training: it has no train.json", run.display()))?;
    let (mut steps, mut validations) = (Vec::new(), Vec::new());
    for line in journal::lines(run)? {
        match line {
            Line::Step(step) => steps.push(step),
            Line::Validation(validation) => validations.push(validation),
        }
    }
    let page = Page {
        title: run.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        subtitle: subtitle(&record, &steps),
        facts: facts(&record, &steps, &validations),
        sections: sections(&steps, &validations, record.config.run.ranks),
    };
    let path = run.join("report.html");
    atomic_file::write(&path, page::render(&page)?.as_bytes())?;
    Ok(path)
}

fn subtitle(record: &Record, steps: &[Step]) -> String {
    let config = &record.config;
    let sizes = config.model.sizes.as_deref().unwrap_or("RWKV-CLIP");
    format!(
        "{sizes} on {} of {}: {} of {} steps of {} pairs",
        config.data.inputs.join(", "),
        record.rows,
        steps.len(),
        record.steps,
        config.recipe.batch
    )
}

fn facts(record: &Record, steps: &[Step], validations: &[Validation]) -> Vec<(String, String)> {
    let config = &record.config;
    let texts = config.data.texts;
    let mut facts = vec![
        ("rows", record.rows.to_string()),
        ("rows to train on", config.data.filter.clone().unwrap_or_else(|| "all".to_owned())),
        (
            "weights of texts",
            format!(
                "raw {}, synthetic {}, generated {}",
                texts.raw, texts.synthetic, texts.generated
            ),
        ),
        ("highest learning rate", format!("{:e}", config.recipe.lr)),
        ("weight decay", config.recipe.weight_decay.to_string()),
        ("seed", config.recipe.seed.to_string()),
    ];
    if let Some(start) = &config.model.start {
        facts.push(("started from", start.display().to_string()));
    }
    if let Some(teacher) = &config.teacher.checkpoint {
        facts.push(("teacher", teacher.display().to_string()));
    }
    if let Some(last) = steps.last() {
        let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
        let waited: f64 = steps.iter().map(|step| step.waited).sum();
        let samples = (steps.len() * config.recipe.batch) as f64;
        facts.push(("last loss", format!("{:.4}", last.loss)));
        facts.push(("pairs a second", format!("{:.0}", samples / seconds.max(1e-9))));
        facts.push(("waited for data", format!("{:.1} %", 100.0 * waited / seconds.max(1e-9))));
        let unreadable: usize = steps.iter().map(|step| step.unreadable).sum();
        facts.push(("pictures that could not be read", unreadable.to_string()));
    }
    if let Some(last) = validations.last() {
        let chance = 100.0 / last.pairs as f64;
        let found = 100.0 * last.image_to_text[0];
        facts.push(("text of picture, R@1", format!("{found:.1} % (chance {chance:.1} %)")));
        let found = 100.0 * last.text_to_image[0];
        facts.push(("picture of text, R@1", format!("{found:.1} % (chance {chance:.1} %)")));
    }
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn sections(steps: &[Step], validations: &[Validation], ranks: usize) -> Vec<Section> {
    let curve = |name: &str, of: &dyn Fn(&Step) -> Option<f64>| Series {
        name: name.to_owned(),
        points: steps.iter().filter_map(|step| Some((step.step as f64, of(step)?))).collect(),
    };
    let loss = curve("each step", &|step| Some(step.loss));
    let smooth =
        Series { name: format!("mean of {}", 2 * AROUND + 1), points: smooth(&loss.points) };
    let mut losses = vec![loss, smooth];
    if steps.iter().any(|step| step.teacher_logits.is_some()) {
        losses.push(curve("contrastive", &|step| Some(step.contrastive)));
        losses.push(curve("teacher's softmax", &|step| step.teacher_logits));
        losses.push(curve("teacher's embeddings", &|step| step.teacher_features));
    }
    let mut sections = vec![Section {
        heading: "Loss".to_owned(),
        figures: vec![figure("loss", losses, false)],
        ..Section::default()
    }];
    if !validations.is_empty() {
        sections.push(retrieval(validations));
    }
    let mut figures = vec![
        figure("learning rate", vec![curve("", &|step| Some(step.lr))], false),
        figure("factor on cosines", vec![curve("", &|step| Some(step.logit_scale.exp()))], false),
        figure("norm of the gradient", vec![curve("", &|step| Some(step.grad_norm))], true),
        figure(
            "pairs a second",
            vec![curve("", &|step| Some((step.samples * ranks) as f64 / step.seconds.max(1e-9)))],
            false,
        ),
    ];
    if steps.iter().any(|step| step.gate.is_some()) {
        figures.push(figure("mean weight of the gate", vec![curve("", &|step| step.gate)], false));
    }
    sections.push(Section { heading: "Steps".to_owned(), figures, ..Section::default() });
    sections
}

fn retrieval(validations: &[Validation]) -> Section {
    let series = |way: &str, of: &dyn Fn(&Validation) -> &Vec<f64>| -> Vec<Series> {
        let of_rank = |(i, k): (usize, &str)| Series {
            name: format!("{way}, {k}"),
            points: validations
                .iter()
                .filter_map(|line| Some((line.step as f64, 100.0 * of(line).get(i)?)))
                .collect(),
        };
        ["R@1", "R@5", "R@10"].into_iter().enumerate().map(of_rank).collect()
    };
    let pairs = validations.last().map_or(0, |line| line.pairs);
    Section {
        heading: "Retrieval on held-out pairs".to_owned(),
        note: format!(
            "Among {pairs} pairs; guessing finds {:.2} % at rank 1.",
            100.0 / pairs as f64
        ),
        figures: vec![
            figure("%", series("text of picture", &|line| &line.image_to_text), false),
            figure("%", series("picture of text", &|line| &line.text_to_image), false),
        ],
        ..Section::default()
    }
}

fn figure(y_label: &str, series: Vec<Series>, log_y: bool) -> String {
    chart::lines(&LineChart {
        title: String::new(),
        x_label: "step".to_owned(),
        y_label: y_label.to_owned(),
        log_y,
        series,
    })
}

/// The mean over the places around each.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |i: usize| {
        let around = &points[i.saturating_sub(AROUND)..points.len().min(i + AROUND + 1)];
        let sum: f64 = around.iter().map(|point| point.1).sum();
        (points[i].0, sum / around.len() as f64)
    };
    (0..points.len()).map(mean).collect()
}
