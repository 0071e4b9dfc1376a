//! Rows and their pictures, read when they are asked for; the last few stay in memory, because a page
//! asks for the words of a row and then for its picture.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Context;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::review::pictures::raster;
use crate::review::server::Review;
use crate::review::server::answers::Refused;
use crate::review::server::answers::blocking;
use crate::sample::Sample;

/// Rows that stay in memory with their pictures: the one that is shown, and some around it.
const KEPT: usize = 12;

/// The rows that were asked for last, by their places.
#[derive(Default)]
pub(super) struct Shown {
    rows: Mutex<VecDeque<(usize, Arc<Sample>)>>,
}

impl Review {
    /// The whole row at a position of the queue.
    pub(super) fn sample(&self, position: usize) -> Result<Arc<Sample>, Refused> {
        let row = self.desk().row(position).ok_or(Refused::no_row())?;
        if let Some(sample) = self.shown.find(row) {
            return Ok(sample);
        }
        let sample = Arc::new(self.rows.read(row).context("cannot read the row")?);
        self.shown.keep(row, sample.clone());
        Ok(sample)
    }
}

impl Shown {
    fn find(&self, row: usize) -> Option<Arc<Sample>> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter().find(|(kept, _)| *kept == row).map(|(_, sample)| sample.clone())
    }

    fn keep(&self, row: usize, sample: Arc<Sample>) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.retain(|(kept, _)| *kept != row);
        rows.push_back((row, sample));
        if rows.len() > KEPT {
            rows.pop_front();
        }
    }
}

/// The stored bytes, where they are surely those of a raster picture: an SVG could carry a script.
pub(super) async fn picture(
    State(review): State<Arc<Review>>,
    Path((_, position)): Path<(String, usize)>,
) -> Result<Response, Refused> {
    let sample = blocking(move || review.sample(position)).await?;
    let bytes = sample.image.bytes.clone();
    let Some(kind) = raster(&bytes) else {
        return Err(Refused::because(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the stored picture is neither JPEG nor PNG nor WebP",
        ));
    };
    Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response())
}
