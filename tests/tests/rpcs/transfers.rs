//! The services of a Star: TransferService, and those of every server.

use orbit_tests::client::reason;
use serde_json::{Value, json};
use tonic::Code;

use crate::World;
use crate::book::{Book, assert_bad};
use crate::common;
use crate::jobs::{self, spec};

const PULL: &str = "orbit.v1.TransferService/Pull";

pub(crate) async fn call_all(world: &mut World) {
    let packed = json!({
        "source": spec(world, "whole")["source"],
        "destinations": [{ "star_id": "star-2" }],
        "layout": "LAYOUT_PACKED",
    });
    let (_, ended) = jobs::run(world, packed).await;
    let snapshot = &ended["snapshotIds"][0];
    let grant = world.coordinator.good("VaultService/GetReadGrant", json!({ "snapshot_id": snapshot })).await;
    let mut star = Book::open(grant["dataAddress"].as_str().expect("an address")).await;
    pull(&mut star, &grant, snapshot).await;
    common::call_all(&mut star, "orbit.v1.TransferService").await;
    star.assert_complete();
}

/// The first request of a pull under a grant.
fn open(grant: &Value, snapshot: &Value) -> Value {
    use base64::Engine as _;
    let path = grant["sourcePath"].as_str().expect("a path");
    json!({ "open": {
        "token": grant["token"],
        "job_id": grant["jobId"],
        "source_path": base64::engine::general_purpose::STANDARD.encode(path),
        "destination_star_id": grant["destinationStarId"],
        "snapshot_id": snapshot,
        "chunker": {
            "algorithm": "fastcdc-2020",
            "min_chunk_bytes": 16 * 1024,
            "average_chunk_bytes": 64 * 1024,
            "max_chunk_bytes": 256 * 1024,
        },
    } })
}

async fn pull(star: &mut Book, grant: &Value, snapshot: &Value) {
    use base64::Engine as _;
    let content = std::iter::once(("fetch_id", json!(1)));
    let path = base64::engine::general_purpose::STANDARD.encode("one-chunk");
    let mut fetch: serde_json::Map<String, Value> =
        content.map(|(name, value)| (name.to_owned(), value)).collect();
    fetch.insert("path".to_owned(), json!(path));
    fetch.insert("ranges".to_owned(), json!([{ "offset_bytes": 0, "length_bytes": 33 }]));
    let good = open(grant, snapshot);
    let fetches = json!({ "fetches": { "fetches": [fetch] } });
    let answer = star.caller().call(PULL, &[good.clone(), fetches], |seen| !seen.is_empty()).await;
    let payload = answer.messages[0]["payload"].as_str().unwrap_or_else(|| panic!("{answer:#?}"));
    let payload = base64::engine::general_purpose::STANDARD.decode(payload).expect("base64");
    assert_eq!(payload, b"small enough that it is never cut");

    let refused = async |requests: &[Value]| {
        let answer = star.caller().call(PULL, requests, |_| false).await;
        *answer.end.expect_err("this must be refused")
    };
    assert_bad(&refused(&[json!({ "fetches": {} })]).await, &["open"]);
    let changed = |field: &str, value: Value| {
        let mut request = good.clone();
        request["open"][field] = value;
        request
    };
    let mut bad = changed("destination_star_id", json!("not a name"));
    bad["open"]["snapshot_id"] = json!("x");
    assert_bad(&refused(&[bad]).await, &["open.destination_star_id", "open.snapshot_id"]);
    assert_bad(&refused(&[good.clone(), good.clone()]).await, &["fetches"]);
    for (request, code, expected) in [
        (changed("token", json!("v4.public.x")), Code::Unauthenticated, "TOKEN_INVALID"),
        (changed("job_id", json!(4242)), Code::PermissionDenied, "TOKEN_FOR_OTHER"),
        (changed("chunker", json!({ "algorithm": "another" })), Code::FailedPrecondition, "OTHER_CHUNKER"),
    ] {
        let status = refused(&[request]).await;
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{status:?}");
    }
    star.good_by_hand(PULL);
    star.bad_by_hand(PULL);
    star.wrong_state_by_hand(PULL);
}
