//! The console's files. They are part of the program: there is no build step, and nothing is fetched from elsewhere.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file of the console.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asset {
    kind: &'static str,
    content: &'static str,
}

impl Asset {
    /// The file, or that the reader has it already.
    pub(super) fn serve(self, headers: &HeaderMap) -> Response {
        let tag = format!("\"{:08x}-{}\"", crc32fast::hash(self.content.as_bytes()), self.content.len());
        let known = headers.get(header::IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
        let is_known = known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag));
        let mut response = match is_known {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => ([(header::CONTENT_TYPE, self.kind)], self.content).into_response(),
        };
        let headers = response.headers_mut();
        // Asked for again each time, since the program may be a newer one.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

macro_rules! assets {
    ($($path:literal => $kind:ident $file:literal),* $(,)?) => {
        [$(($path, Asset { kind: $kind, content: include_str!(concat!("console/", $file)) })),*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Every file with its path.
pub(super) fn assets() -> impl Iterator<Item = (&'static str, Asset)> {
    assets![
        "/" => HTML "index.html",
        "/favicon.svg" => SVG "favicon.svg",
        "/console/console.css" => CSS "console.css",
        "/console/main.js" => JS "main.js",
        "/console/api.js" => JS "api.js",
        "/console/live.js" => JS "live.js",
        "/console/dom.js" => JS "dom.js",
        "/console/format.js" => JS "format.js",
        "/console/chart.js" => JS "chart.js",
        "/console/parts.js" => JS "parts.js",
        "/console/overview.js" => JS "overview.js",
        "/console/stars.js" => JS "stars.js",
        "/console/jobs.js" => JS "jobs.js",
        "/console/items.js" => JS "items.js",
        "/console/notices.js" => JS "notices.js",
    ]
    .into_iter()
}
