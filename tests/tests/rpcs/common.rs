//! Services of every server besides its own: health and reflection. Both are standards, and so are their errors.

use serde_json::json;
use tonic::Code;

use crate::book::Book;
use crate::reflection::{v1, v1alpha};

const CHECK: &str = "grpc.health.v1.Health/Check";
const WATCH: &str = "grpc.health.v1.Health/Watch";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// Calls them on a server that also serves `service`.
pub(crate) async fn call_all(book: &mut Book, service: &str) {
    health(book).await;
    reflection(book, service).await;
}

async fn health(book: &mut Book) {
    let own: Vec<String> =
        book.services().iter().filter(|name| name.starts_with("orbit.")).cloned().collect();
    assert!(!own.is_empty());
    for service in own.iter().map(String::as_str).chain([""]) {
        let checked = book.good(CHECK, json!({ "service": service })).await;
        assert_eq!(checked["status"], "SERVING", "{service}");
    }
    let watched = book.stream(WATCH, json!({ "service": own[0] }), |seen| !seen.is_empty()).await;
    assert_eq!(watched[0]["status"], "SERVING");
    for method in [CHECK, WATCH] {
        let asked = [json!({ "service": "orbit.v1.NoSuchService" })];
        let answer = book.caller().call(method, &asked, |_| false).await;
        assert_eq!(answer.end.expect_err("there is no such service").code(), Code::NotFound, "{method}");
        book.bad_by_hand(method);
        book.has_no_wrong_state(method, "that something is not served is what it answers");
    }
}

async fn reflection(book: &mut Book, service: &str) {
    let channel = book.channel();
    let (new, old) = (v1::services(channel.clone()).await, v1alpha::services(channel.clone()).await);
    assert_eq!(new, book.services());
    let without_itself = |services: &[String]| {
        let mut services: Vec<String> =
            services.iter().filter(|name| !name.starts_with("grpc.reflection.")).cloned().collect();
        services.sort();
        services
    };
    assert_eq!(without_itself(&new), without_itself(&old), "both versions list the same");
    let described = v1::file_of(channel.clone(), service).await.expect("it is described");
    assert_eq!(described, v1alpha::file_of(channel.clone(), service).await.expect("it is described"));
    let by_name = v1alpha::file(channel.clone(), described[0].name()).await;
    assert_eq!(by_name.expect("a file is found by its name"), described);
    let served = service.rsplit('.').next();
    let names = described.iter().flat_map(|file| &file.service).map(|service| service.name());
    assert!(names.into_iter().any(|name| Some(name) == served), "{service} is not in its file");
    let unknown = v1::file_of(channel.clone(), "orbit.v1.NoSuchService").await;
    assert_eq!(unknown.expect_err("there is no such service").code(), Code::NotFound);
    let unknown = v1alpha::file_of(channel, "orbit.v1.NoSuchService").await;
    assert_eq!(unknown.expect_err("there is no such service").code(), Code::NotFound);
    book.good_by_hand(REFLECTION);
    book.bad_by_hand(REFLECTION);
    book.has_no_wrong_state(REFLECTION, "what a program serves is the same in every state");
}
