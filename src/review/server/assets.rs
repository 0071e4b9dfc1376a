//! The page's own files, which are in the binary.

use axum::http::HeaderName;
use axum::http::header;

type Asset = ([(HeaderName, &'static str); 1], &'static str);

pub(super) async fn page() -> Asset {
    of("text/html; charset=utf-8", include_str!("page.html"))
}

pub(super) async fn style() -> Asset {
    of("text/css; charset=utf-8", include_str!("page.css"))
}

pub(super) async fn script() -> Asset {
    of("text/javascript; charset=utf-8", include_str!("page.js"))
}

pub(super) async fn icon() -> Asset {
    of("image/svg+xml", include_str!("icon.svg"))
}

fn of(kind: &'static str, text: &'static str) -> Asset {
    ([(header::CONTENT_TYPE, kind)], text)
}
