//! Who is answered, and what every answer carries.

use std::sync::Arc;

use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;

use crate::review::server::Review;

/// Nothing from elsewhere, nothing inline; the page has all it needs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The secret that the address holds.
pub(super) struct Guard {
    token: String,
}

impl Guard {
    pub(super) fn new() -> Guard {
        Guard { token: format!("{:032x}", rand::random::<u128>()) }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    fn refusal(&self, path: &str, headers: &HeaderMap) -> Option<&'static str> {
        let of = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = of(header::HOST).unwrap_or_default();
        if !is_loopback(host) {
            return Some(
                "this is only for the machine that it runs on: use the address as printed",
            );
        }
        if path.split('/').nth(1) != Some(&self.token) {
            return Some("this is not the address that recaption review printed");
        }
        let is_foreign = |origin: &str| origin.strip_prefix("http://") != Some(host);
        of(header::ORIGIN).is_some_and(is_foreign).then_some("another page may not ask this")
    }
}

/// Lets through what comes from the page itself.
pub(super) async fn guard(
    State(review): State<Arc<Review>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match review.guard.refusal(request.uri().path(), request.headers()) {
        Some(refusal) => (StatusCode::FORBIDDEN, refusal).into_response(),
        None => next.run(request).await,
    };
    let always = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in always {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a `Host` names this machine, with any port.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["127.0.0.1", "localhost", "[::1]"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_are_answered() {
        for host in ["127.0.0.1", "127.0.0.1:80", "localhost:4000", "[::1]:1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "evil.example", "127.0.0.1.evil.example:80", "localhost.example", "10.0.0.1"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn token_host_and_origin_are_all_asked_for() {
        let guard = Guard { token: "secret".to_owned() };
        let refused = |path: &str, host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            guard.refusal(path, &headers).is_some()
        };
        assert!(!refused("/secret/", "127.0.0.1:1", None));
        assert!(!refused("/secret/api/undo", "127.0.0.1:1", Some("http://127.0.0.1:1")));
        assert!(refused("/secret/", "evil.example", None));
        assert!(refused("/other/", "127.0.0.1:1", None));
        assert!(refused("/", "127.0.0.1:1", None));
        for origin in ["http://evil.example", "null", "http://127.0.0.1:2", "https://127.0.0.1:1"] {
            assert!(refused("/secret/", "127.0.0.1:1", Some(origin)), "{origin}");
        }
    }
}
