//! StarService: from the first message of a Star to its removal.

use serde_json::{Value, json};

use crate::World;
use crate::{jobs, vaults};

pub(crate) async fn call_all(world: &mut World) {
    look(world).await;
    cordon(world).await;
    leave(world).await;
    jobs::call_absent(world, "star-3").await;
    vaults::call_absent(world, "star-3").await;
    remove(world).await;
}

async fn look(world: &mut World) {
    let book = &mut world.coordinator;
    let register = json!({ "star_id": "spare", "request_id": "register-1" });
    let registered = book.good("StarService/RegisterStar", register.clone()).await;
    assert_eq!(registered["star"]["state"], "STAR_STATE_REGISTERED", "{registered:#}");
    book.again("StarService/RegisterStar", register, &registered, "/star/starId").await;
    book.has_no_wrong_state("StarService/RegisterStar", "a Star that is known is shown as it is");

    let listed = book.good("StarService/ListStars", json!({ "page_size": 1000 })).await;
    let names = |stars: &[Value]| -> Vec<String> {
        stars.iter().filter_map(|star| star["starId"].as_str()).map(str::to_owned).collect()
    };
    let listed = names(listed["stars"].as_array().expect("stars"));
    for star in ["star-1", "star-2", "star-3", "spare"] {
        assert!(listed.iter().any(|name| name == star), "{star} is not in {listed:?}");
    }
    let bad = json!({ "page_size": -1, "page_token": "x" });
    book.bad("StarService/ListStars", bad, &["page_size", "page_token"]).await;
    book.has_no_wrong_state("StarService/ListStars", "it reads");

    let got = book.good("StarService/GetStar", json!({ "star_id": "star-1" })).await;
    assert_eq!(
        (&got["star"]["liveness"], &got["star"]["state"]),
        (&json!("LIVENESS_ALIVE"), &json!("STAR_STATE_SCHEDULED"))
    );
    book.has_no_wrong_state("StarService/GetStar", "it reads");

    // A watch begins with every Star, each time it is started.
    for _ in 0..2 {
        let count = listed.len();
        let watched = book.stream("StarService/WatchStars", json!({}), |seen| seen.len() == count).await;
        let stars: Vec<Value> = watched.into_iter().map(|message| message["star"].clone()).collect();
        assert_eq!(names(&stars), listed);
    }
    book.has_no_bad_input("StarService/WatchStars", "its request has no fields");
    book.has_no_wrong_state("StarService/WatchStars", "it reads");

    let named = ["RegisterStar", "ScheduleStar", "ShutdownStar", "CordonStar", "UncordonStar", "RemoveStar"];
    for method in named {
        let bad = json!({ "star_id": "not a name", "request_id": "x".repeat(129) });
        book.bad(&format!("StarService/{method}"), bad, &["star_id", "request_id"]).await;
    }
    let bad = json!({ "star_id": "not a name", "deadline": "-1s", "request_id": "x".repeat(129) });
    book.bad("StarService/DrainStar", bad, &["star_id", "deadline", "request_id"]).await;
    book.bad("StarService/GetStar", json!({ "star_id": "not a name" }), &["star_id"]).await;
    for method in ["GetStar", "DrainStar"].iter().chain(&named[1..]) {
        book.unknown(&format!("StarService/{method}"), json!({ "star_id": "nobody" })).await;
    }
}

async fn cordon(world: &mut World) {
    let book = &mut world.coordinator;
    for (method, is_cordoned) in [("CordonStar", json!(true)), ("UncordonStar", Value::Null)] {
        let method = format!("StarService/{method}");
        let request = json!({ "star_id": "star-3", "request_id": "cordon-1" });
        let answer = book.good(&method, request.clone()).await;
        assert_eq!(answer["star"]["isCordoned"], is_cordoned, "{answer:#}");
        book.again(&method, request, &answer, "/star/starId").await;
        book.has_no_wrong_state(&method, "a Star can be cordoned in every state");
    }
}

/// star-3 is drained, scheduled again, drained again and shut down.
async fn leave(world: &mut World) {
    let client = world.grid.client();
    let book = &mut world.coordinator;
    let shutdown = json!({ "star_id": "star-3", "reason": "a test", "request_id": "shutdown-1" });
    book.wrong_state("StarService/ShutdownStar", shutdown.clone(), "drain it first").await;
    let drain = |name: &str| json!({ "star_id": "star-3", "reason": "a test", "request_id": name });
    let drained = book.good("StarService/DrainStar", drain("drain-1")).await;
    assert_eq!(drained["star"]["state"], "STAR_STATE_DRAINING", "{drained:#}");
    let schedule = json!({ "star_id": "star-3", "request_id": "schedule-1" });
    let scheduled = book.good("StarService/ScheduleStar", schedule.clone()).await;
    assert_eq!(scheduled["star"]["state"], "STAR_STATE_SCHEDULED", "{scheduled:#}");
    book.again("StarService/ScheduleStar", schedule, &scheduled, "/star/state").await;
    // A drain that arrives late and for the second time must not drain the Star again.
    book.again("StarService/DrainStar", drain("drain-1"), &scheduled, "/star/state").await;
    book.wrong_state("StarService/DrainStar", json!({ "star_id": "spare" }), "only a scheduled Star").await;

    book.good("StarService/DrainStar", drain("drain-2")).await;
    client.wait_star("star-3", "is drained", |star| star.is_drained).await;
    let ended = book.good("StarService/ShutdownStar", shutdown.clone()).await;
    assert_eq!(ended["star"]["state"], "STAR_STATE_SHUTDOWN", "{ended:#}");
    book.again("StarService/ShutdownStar", shutdown, &ended, "/star/state").await;
    world.grid.star("star-3").ended().await;
    client.wait_star("star-3", "has left", |star| star.liveness() != orbit_proto::v1::Liveness::Alive).await;
    let book = &mut world.coordinator;
    book.wrong_state("StarService/ScheduleStar", json!({ "star_id": "star-3" }), "is shut down").await;
}

async fn remove(world: &mut World) {
    let book = &mut world.coordinator;
    book.wrong_state("StarService/RemoveStar", json!({ "star_id": "star-1" }), "is connected").await;
    let remove = removal();
    let removed = book.good("StarService/RemoveStar", remove.clone()).await;
    assert_eq!(removed, json!({}));
    book.unknown("StarService/GetStar", json!({ "star_id": "spare" })).await;
    book.again("StarService/RemoveStar", remove, &removed, "").await;
}

fn removal() -> Value {
    json!({ "star_id": "spare", "request_id": "remove-1" })
}

/// An answer from before a kill is returned again; without its id the request is a new one.
pub(crate) async fn call_after_restart(world: &mut World) {
    let book = &mut world.coordinator;
    book.again("StarService/RemoveStar", removal(), &json!({}), "").await;
    book.unknown("StarService/RemoveStar", json!({ "star_id": "spare" })).await;
}
