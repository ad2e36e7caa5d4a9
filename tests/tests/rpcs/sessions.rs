//! SessionService: the protocol of a Star, without a Star.

use orbit_tests::client::reason;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::World;
use crate::book::assert_bad;

const CONNECT: &str = "orbit.v1.SessionService/Connect";
/// An identity of 16 bytes in base64.
const IDENTITY: &str = "AAECAwQFBgcICQoLDA0ODw==";

fn hello(star: &str) -> Value {
    json!({ "hello": {
        "star_id": star,
        "identity": IDENTITY,
        "instance": IDENTITY,
        "data_address": "127.0.0.1:1",
        "version": env!("CARGO_PKG_VERSION"),
        "lifecycle": "STAR_STATE_REGISTERED",
    } })
}

pub(crate) async fn call_all(world: &mut World) {
    let caller = world.coordinator.caller();
    let answer = caller.call(CONNECT, &[hello("by-hand")], |seen| !seen.is_empty()).await;
    let welcome = &answer.messages[0]["welcome"];
    assert!(welcome["lease"].is_string() && welcome["heartbeatInterval"].is_string(), "{answer:#?}");
    let refused = async |requests: &[Value]| -> Status {
        let answer = caller.call(CONNECT, requests, |_| false).await;
        *answer.end.expect_err("this must be refused")
    };
    assert_bad(&refused(&[json!({ "drain_requested": {} })]).await, &["hello"]);
    let mut bad = hello("by-hand");
    bad["hello"]["identity"] = json!("AAEC");
    let status = refused(&[bad]).await;
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_FIELD"),
        "{status:?}"
    );
    let status = refused(&[hello("star-1")]).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "NAME_TAKEN"), "{status:?}");
    world.coordinator.good_by_hand(CONNECT);
    world.coordinator.bad_by_hand(CONNECT);
    world.coordinator.wrong_state_by_hand(CONNECT);
}
