//! What the page asks for, as JSON.

use std::sync::Arc;

use anyhow::Error;
use axum::Json;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;
use serde::Serialize;
use serde_json::json;

use crate::audit::pieces::Piece;
use crate::audit::pieces::pieces;
use crate::review::Desk;
use crate::review::Statistics;
use crate::review::Verdict;
use crate::review::queue::BANDS;
use crate::review::queue::band;
use crate::review::server::Review;
use crate::sample::Sample;
use crate::shard::TagRecord;

/// What the page shows at first.
#[derive(Serialize)]
pub(super) struct Opening {
    run: String,
    reviewer: String,
    by: &'static str,
    seed: u64,
    /// Rows of the run that could be shown.
    population: usize,
    /// What this reviewer says of each row of the queue.
    verdicts: Vec<Option<Verdict>>,
    /// Where to go on.
    next: usize,
    statistics: Statistics,
}

/// A row with all that is known of it.
#[derive(Serialize)]
pub(super) struct Row {
    position: usize,
    key: String,
    shard: u32,
    url: Option<String>,
    text_raw: Option<String>,
    text_synthetic: Option<String>,
    text_generated: String,
    /// The generated text, cut at its content words.
    pieces: Vec<Piece>,
    /// What made the texts.
    synthetic_model: Option<String>,
    generated_model: String,
    tags: Vec<TagRecord>,
    /// Of the upright original, which boxes are in.
    width: u32,
    height: u32,
    score: f32,
    /// Fifth of the scores, 1 the riskiest.
    band: usize,
    bands: usize,
    flags: Vec<Flag>,
    kept: Vec<String>,
    lost: Vec<String>,
    verdict: Option<Verdict>,
    /// The text as the reviewer would have it.
    edited: Option<String>,
}

#[derive(Serialize)]
struct Flag {
    name: String,
    evidence: String,
}

/// What changed by a verdict or an undo.
#[derive(Serialize)]
pub(super) struct Changed {
    position: usize,
    verdict: Option<Verdict>,
    edited: Option<String>,
    statistics: Statistics,
}

/// A verdict as the page sends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Judgement {
    position: usize,
    verdict: Verdict,
    /// The text instead, where it was edited.
    text: Option<String>,
}

/// A request that cannot be answered, and why.
pub(super) struct Refused {
    status: StatusCode,
    why: String,
}

type Answer<T> = Result<Json<T>, Refused>;

pub(super) async fn state(State(review): State<Arc<Review>>) -> Answer<Opening> {
    let look = move || {
        let mut desk = review.desk();
        Ok(Opening {
            run: review.name.clone(),
            reviewer: desk.reviewer().to_owned(),
            by: review.queue.by.as_str(),
            seed: review.queue.seed,
            population: review.rows.all().len(),
            statistics: desk.statistics(&review.rows)?,
            verdicts: desk.verdicts(),
            next: desk.next(&review.rows),
        })
    };
    blocking(look).await.map(Json)
}

pub(super) async fn row(
    State(review): State<Arc<Review>>,
    Path((_, position)): Path<(String, usize)>,
) -> Answer<Row> {
    let look = move || {
        let sample = review.sample(position)?;
        let desk = review.desk();
        let place = desk.row(position).ok_or(Refused::no_row())?;
        let said = desk.mine(&review.rows, place);
        let (verdict, edited) = said.map_or((None, None), |l| (l.verdict, l.text.clone()));
        let shard = review.rows.shard(&review.rows.all()[place]);
        Ok(Row { position, shard, verdict, edited, ..Row::of(&sample) })
    };
    blocking(look).await.map(Json)
}

pub(super) async fn statistics(State(review): State<Arc<Review>>) -> Answer<Statistics> {
    blocking(move || Ok(review.desk().statistics(&review.rows)?)).await.map(Json)
}

pub(super) async fn judge(
    State(review): State<Arc<Review>>,
    Json(said): Json<Judgement>,
) -> Answer<Changed> {
    let write = move || {
        let Judgement { position, verdict, text } = said;
        let mut desk = review.desk();
        desk.row(position).ok_or(Refused::no_row())?;
        desk.judge(&review.rows, position, verdict, text)?;
        changed(&review, &mut desk, position)
    };
    blocking(write).await.map(Json)
}

pub(super) async fn undo(State(review): State<Arc<Review>>) -> Answer<Changed> {
    let write = move || {
        let mut desk = review.desk();
        let undone = desk.undo(&review.rows)?;
        let position = undone.ok_or_else(|| {
            Refused::because(StatusCode::CONFLICT, "there is nothing to take back among these rows")
        })?;
        changed(&review, &mut desk, position)
    };
    blocking(write).await.map(Json)
}

fn changed(review: &Review, desk: &mut Desk, position: usize) -> Result<Changed, Refused> {
    let place = desk.row(position).ok_or(Refused::no_row())?;
    let said = desk.mine(&review.rows, place);
    let (verdict, edited) = said.map_or((None, None), |line| (line.verdict, line.text.clone()));
    Ok(Changed { position, verdict, edited, statistics: desk.statistics(&review.rows)? })
}

/// Files are read and synced away from the threads that answer.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Refused::from(Error::new(error))))
}

impl Row {
    /// Without what is said of it.
    fn of(sample: &Sample) -> Row {
        let audit = &sample.audit;
        let generated = sample.generated.as_ref();
        let text = generated.map(|generated| generated.text.clone()).unwrap_or_default();
        let made_by = |g: &crate::sample::Generated| match g.model.is_empty() {
            true => g.writer.to_string(),
            false => format!("{}: {}", g.writer, g.model),
        };
        let evidence = audit.evidence.iter().cloned().chain(std::iter::repeat(String::new()));
        let flags = audit.reasons.iter().cloned().zip(evidence);
        Row {
            position: 0,
            key: sample.item.key.clone(),
            shard: 0,
            url: sample.item.url.clone(),
            text_raw: sample.item.text_raw.clone(),
            text_synthetic: sample.synthetic.as_ref().map(|synthetic| synthetic.text.clone()),
            pieces: pieces(&text, &audit.words),
            text_generated: text,
            synthetic_model: sample.synthetic.as_ref().map(|s| s.model.to_string()),
            generated_model: generated.map(made_by).unwrap_or_default(),
            tags: sample.tags.iter().cloned().map(TagRecord::from).collect(),
            width: sample.image.original_width,
            height: sample.image.original_height,
            score: audit.score,
            band: band(audit.score) + 1,
            bands: BANDS,
            flags: flags.map(|(name, evidence)| Flag { name, evidence }).collect(),
            kept: audit.kept.clone(),
            lost: audit.lost.clone(),
            verdict: None,
            edited: None,
        }
    }
}

impl Refused {
    pub(super) fn because(status: StatusCode, why: &str) -> Refused {
        Refused { status, why: why.to_owned() }
    }

    pub(super) fn no_row() -> Refused {
        Refused::because(StatusCode::NOT_FOUND, "there is no such row")
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        tracing::warn!("{error:#}");
        Refused { status: StatusCode::INTERNAL_SERVER_ERROR, why: format!("{error:#}") }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.why }))).into_response()
    }
}
