//! What an answer, or the lack of one, means for a row: its bytes, another address, a reason to
//! stop or a reason to come back.
//!
//! Bodies are read in pieces under a cap; `Content-Length` is a claim that may only make us stop
//! sooner. Details name statuses, sizes and causes, never a url.

use std::error::Error;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use bytes::BytesMut;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::header::CONTENT_ENCODING;
use reqwest::header::HeaderMap;
use reqwest::header::LOCATION;
use reqwest::header::RETRY_AFTER;
use tokio::time::Instant;
use tokio::time::timeout;

use crate::fetch::guard::BlockedAddress;
use crate::retry::retry_after;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Stage;

/// Reserved for a body before any of it came: a liar's `Content-Length` costs no more than this.
const MAX_RESERVED_BYTES: u64 = 256 << 10;

/// One exchange that brought no picture.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reject: Reject,
    pub(crate) again: Again,
}

/// Whether another attempt is worth its cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Again {
    /// The answer will be the same.
    Never,
    /// It may pass.
    Later,
    /// The host named a time.
    After(Duration),
}

impl Failure {
    pub(crate) fn never(reason: Reason, detail: impl Into<String>) -> Failure {
        Failure { reject: Reject::new(Stage::Fetch, reason, detail), again: Again::Never }
    }

    pub(crate) fn later(reason: Reason, detail: impl Into<String>) -> Failure {
        Failure { reject: Reject::new(Stage::Fetch, reason, detail), again: Again::Later }
    }
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Failure {
        Failure { reject, again: Again::Never }
    }
}

/// No head came back.
pub(crate) fn unanswered(error: &reqwest::Error) -> Failure {
    if let Some(blocked) = chain(error).find_map(|e| e.downcast_ref::<BlockedAddress>()) {
        return Reject::from(*blocked).into();
    }
    let cause = root_cause(error);
    match error {
        // The system's resolver has asked several times before it says so.
        e if e.is_dns() => Failure::never(Reason::DnsFailed, cause),
        e if e.is_builder() => Failure::never(Reason::UrlInvalid, cause),
        e if e.is_connect() && e.is_timeout() => Failure::later(Reason::TimeoutConnect, cause),
        _ => Failure::later(Reason::ConnectionFailed, cause),
    }
}

/// Where a redirecting answer points.
pub(crate) fn redirect_target(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    // Raw UTF-8 is common here and not valid in a header; the url parser escapes it.
    headers.get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Whether a status promises a body worth reading.
pub(crate) fn check_status(status: StatusCode, headers: &HeaderMap) -> Result<(), Failure> {
    let said = status.to_string();
    match status.as_u16() {
        // We never ask for a range, so a part is not an answer.
        206 => Err(Failure::never(Reason::HttpStatus, said)),
        200..=299 => Ok(()),
        401 | 403 | 451 => Err(Failure::never(Reason::Forbidden, said)),
        404 | 410 => Err(Failure::never(Reason::NotFound, said)),
        429 | 503 => Err(busy(status, headers)),
        408 | 425 | 500.. => Err(Failure::later(Reason::HttpStatus, said)),
        _ => Err(Failure::never(Reason::HttpStatus, said)),
    }
}

fn busy(status: StatusCode, headers: &HeaderMap) -> Failure {
    let asked = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| retry_after(text, SystemTime::now()));
    match asked {
        Some(pause) => Failure {
            reject: Reject::new(
                Stage::Fetch,
                Reason::RateLimited,
                format!("{status}, asked to wait {} s", pause.as_secs()),
            ),
            again: Again::After(pause),
        },
        None if status == StatusCode::TOO_MANY_REQUESTS => {
            Failure::later(Reason::RateLimited, status.to_string())
        }
        None => Failure::later(Reason::HttpStatus, status.to_string()),
    }
}

/// None was asked for, and unpacking a stranger's archive is how 10 MB become 10 GB.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), Failure> {
    for value in headers.get_all(CONTENT_ENCODING) {
        let coding = String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase();
        if !matches!(coding.as_str(), "" | "identity") {
            return Err(Failure::never(Reason::BodyEncoded, coding));
        }
    }
    Ok(())
}

/// The limits of one body.
pub(crate) struct BodyLimits {
    pub(crate) max_bytes: u64,
    /// Longest silence.
    pub(crate) silence: Duration,
    /// When all of it has to be here.
    pub(crate) deadline: Instant,
}

/// The body, if it keeps the limits.
pub(crate) async fn read_body(
    mut response: Response,
    limits: &BodyLimits,
) -> Result<Bytes, Failure> {
    let announced = response.content_length().unwrap_or(0);
    check_size(announced, limits)?;
    let mut body = BytesMut::with_capacity(announced.min(MAX_RESERVED_BYTES) as usize);
    while let Some(piece) = next_piece(&mut response, body.len(), limits).await? {
        check_size((body.len() + piece.len()) as u64, limits)?;
        body.extend_from_slice(&piece);
    }
    if body.is_empty() {
        return Err(Failure::never(Reason::ImageEmpty, ""));
    }
    Ok(body.freeze())
}

fn check_size(bytes: u64, limits: &BodyLimits) -> Result<(), Failure> {
    if bytes <= limits.max_bytes {
        return Ok(());
    }
    let detail = format!("at least {bytes} bytes, limit {}", limits.max_bytes);
    Err(Failure::never(Reason::BodyTooLarge, detail))
}

async fn next_piece(
    response: &mut Response,
    so_far: usize,
    limits: &BodyLimits,
) -> Result<Option<Bytes>, Failure> {
    let left = limits.deadline.saturating_duration_since(Instant::now());
    let wait = limits.silence.min(left);
    let late = || {
        let detail = format!("after {so_far} bytes, {} ms without more", wait.as_millis());
        Failure::later(Reason::TimeoutBody, detail)
    };
    if left.is_zero() {
        // A timeout of zero would still take bytes that are there, and some never run dry.
        return Err(late());
    }
    match timeout(wait, response.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(Failure::later(
            Reason::BodyTruncated,
            format!("after {so_far} bytes: {}", root_cause(&error)),
        )),
        Err(_) => Err(late()),
    }
}

/// The words of the innermost error. The outer ones repeat the url, query and all.
fn root_cause(error: &reqwest::Error) -> String {
    chain(error).last().map_or_else(|| "no cause given".into(), |e| e.to_string())
}

fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&e| e.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(status: u16, after: Option<&str>) -> Option<(Reason, Again)> {
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert(RETRY_AFTER, after.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        check_status(status, &headers).err().map(|f| (f.reject.reason, f.again))
    }

    #[test]
    fn each_class_of_status_has_its_reason_and_its_patience() {
        let after = |s| Again::After(Duration::from_secs(s));
        for (status, header, expected) in [
            (200, None, None),
            (203, None, None),
            (204, None, None),
            (206, None, Some((Reason::HttpStatus, Again::Never))),
            (304, None, Some((Reason::HttpStatus, Again::Never))),
            (400, None, Some((Reason::HttpStatus, Again::Never))),
            (401, None, Some((Reason::Forbidden, Again::Never))),
            (403, None, Some((Reason::Forbidden, Again::Never))),
            (404, None, Some((Reason::NotFound, Again::Never))),
            (408, None, Some((Reason::HttpStatus, Again::Later))),
            (410, None, Some((Reason::NotFound, Again::Never))),
            (418, None, Some((Reason::HttpStatus, Again::Never))),
            (429, None, Some((Reason::RateLimited, Again::Later))),
            (429, Some("7"), Some((Reason::RateLimited, after(7)))),
            (429, Some("-7"), Some((Reason::RateLimited, Again::Later))),
            (451, None, Some((Reason::Forbidden, Again::Never))),
            (500, None, Some((Reason::HttpStatus, Again::Later))),
            (503, None, Some((Reason::HttpStatus, Again::Later))),
            (503, Some("7"), Some((Reason::RateLimited, after(7)))),
            (503, Some("soon"), Some((Reason::HttpStatus, Again::Later))),
            (999, None, Some((Reason::HttpStatus, Again::Later))),
        ] {
            assert_eq!(judge(status, header), expected, "{status} {header:?}");
        }
    }

    #[test]
    fn only_redirects_with_a_target_redirect() {
        let mut headers = HeaderMap::new();
        assert_eq!(redirect_target(StatusCode::FOUND, &headers), None);
        headers.insert(LOCATION, "/b".parse().unwrap());
        assert_eq!(redirect_target(StatusCode::FOUND, &headers).as_deref(), Some("/b"));
        assert_eq!(redirect_target(StatusCode::OK, &headers), None);
        assert_eq!(redirect_target(StatusCode::NOT_MODIFIED, &headers), None);
    }

    #[test]
    fn only_identity_is_no_encoding() {
        for (value, accepted) in [
            ("", true),
            ("Identity", true),
            ("gzip", false),
            ("br", false),
            ("identity, gzip", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, value.parse().unwrap());
            assert_eq!(check_encoding(&headers).is_ok(), accepted, "{value:?}");
        }
    }
}
