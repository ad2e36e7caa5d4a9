//! Who may ask: pages of other sites may not act through an operator's browser, and a name that a stranger owns may not
//! stand for this server.
//!
//! A browser sends what any page tells it to. Three things keep other pages out, beside what browsers do by themselves
//! (no answer here allows another origin to read it): what changes something must be JSON, which a foreign page cannot
//! send without asking first, and nobody is told yes; an `Origin` must be the `Host` itself; and the `Host` must be one
//! that no stranger can own, since a page under a name that suddenly leads here (DNS rebinding) has a matching origin.
//! Addresses, `localhost` and names without a dot cannot be anybody's; other names must be given by `--http-host`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::refuse;

/// What the console may do: load from here, talk to here, and nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The names under which this server may be asked, beside those that cannot be anybody's.
#[derive(Debug, Clone)]
pub(super) struct Fence {
    /// In lower case.
    hosts: Arc<[String]>,
}

impl Fence {
    /// A fence with a gate for these names.
    pub(super) fn new(hosts: &[String]) -> Self {
        Self { hosts: hosts.iter().map(|host| host.to_lowercase()).collect() }
    }

    fn admits(&self, host: &Authority) -> bool {
        let name = host.host().trim_start_matches('[').trim_end_matches(']').to_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        name.parse::<IpAddr>().is_ok()
            || !name.contains('.')
            || name.ends_with(".localhost")
            || self.hosts.iter().any(|known| known == name)
    }

    /// Refuses requests that come from elsewhere.
    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let forbid = |reason: &str, message: &str, advice: &str| {
            Err(Box::new(refuse(StatusCode::FORBIDDEN, reason, message, advice)))
        };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let Some(host) = host else {
            let message = "the request has no Host that names this server";
            return forbid(
                "HOST_MISSING",
                message,
                "send the header Host with the address that you connect to",
            );
        };
        if !self.admits(&host) {
            let message = format!("{} is no name of this coordinator, as far as it was told", host.host());
            let advice = format!(
                "use its address, or start it with --http-host {} if that name is really its own",
                host.host()
            );
            return forbid("HOST_UNKNOWN", &message, &advice);
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if !place.is_some_and(|place| place.eq_ignore_ascii_case(host.as_str())) {
                let message = format!("the request comes from a page of {origin}, and this is {host}");
                return forbid("ORIGIN_FOREIGN", &message, "use the console of this coordinator, or curl");
            }
        }
        if *method == Method::GET || *method == Method::HEAD {
            return Ok(());
        }
        let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
        if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
            let message = "the request comes from a page of another site";
            return forbid("SITE_FOREIGN", message, "use the console of this coordinator, or curl");
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            let message = format!("the body is declared as {kind:?}, must be application/json");
            let advice = "add the header Content-Type: application/json and send a JSON object, {} at least";
            let refusal = refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "NOT_JSON", &message, advice);
            return Err(Box::new(refusal));
        }
        Ok(())
    }
}

/// Lets pass what may, and sets the headers that every answer carries.
pub(super) async fn stand(State(fence): State<Fence>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Orchestrators ask these under any name, and they tell nothing.
    let is_open = path == "/healthz" || path == "/readyz";
    let is_api = path.starts_with("/api/") || path == "/metrics";
    let checked = if is_open { Ok(()) } else { fence.check(request.method(), request.headers()) };
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => *refusal,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_api && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &Method, headers: &[(&'static str, &str)]) -> u16 {
        let headers = headers.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header"))
        });
        let fence = Fence::new(&["Orbit.example.com".to_owned()]);
        match fence.check(method, &headers.collect()) {
            Ok(()) => 200,
            Err(refusal) => refusal.status().as_u16(),
        }
    }

    #[test]
    fn only_names_that_no_stranger_can_own_are_answered() {
        for (host, expected) in [
            ("127.0.0.1:7180", 200),
            ("[::1]:7180", 200),
            ("localhost:7180", 200),
            ("console.localhost", 200),
            ("coordinator:7180", 200),
            ("orbit.example.com", 200),
            ("ORBIT.example.com.:7180", 200),
            ("evil.example.com:7180", 403),
            ("127.0.0.1.evil.com", 403),
            ("a b", 403),
        ] {
            assert_eq!(status(&Method::GET, &[("host", host)]), expected, "{host}");
        }
        assert_eq!(status(&Method::GET, &[]), 403);
    }

    #[test]
    fn pages_of_other_sites_are_refused_for_reading_and_writing() {
        let host = ("host", "127.0.0.1:7180");
        let json = ("content-type", "application/json; charset=utf-8");
        for (origin, expected) in [
            ("http://127.0.0.1:7180", 200),
            ("http://127.0.0.1:8000", 403),
            ("http://localhost:7180", 403),
            ("https://evil.example.com", 403),
            ("null", 403),
        ] {
            assert_eq!(status(&Method::GET, &[host, ("origin", origin)]), expected, "{origin}");
            assert_eq!(status(&Method::POST, &[host, json, ("origin", origin)]), expected, "{origin}");
        }
        assert_eq!(status(&Method::POST, &[host, json, ("sec-fetch-site", "cross-site")]), 403);
        assert_eq!(status(&Method::POST, &[host, json, ("sec-fetch-site", "same-origin")]), 200);
    }

    #[test]
    fn a_form_changes_nothing() {
        let host = ("host", "127.0.0.1:7180");
        for kind in ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""]
        {
            assert_eq!(status(&Method::POST, &[host, ("content-type", kind)]), 415, "{kind}");
        }
        assert_eq!(status(&Method::POST, &[host]), 415);
        assert_eq!(status(&Method::POST, &[host, ("content-type", "application/json")]), 200);
    }
}
