//! IdentityService: the coordinator of the main grid has no TLS, so there it is in the wrong state; good input is for a
//! grid with TLS.

use orbit_proto::v1;
use orbit_proto::v1::identity_service_client::IdentityServiceClient;
use orbit_tests::client::reason;
use orbit_tests::secured::SecuredGrid;
use serde_json::json;
use tonic::Code;

use crate::World;
use crate::book::assert_bad;

const METHODS: [&str; 7] =
    ["Join", "Renew", "CreateToken", "ListTokens", "RevokeToken", "ListIdentities", "RevokeIdentity"];

fn method(name: &str) -> String {
    format!("IdentityService/{name}")
}

pub(crate) async fn call_all(world: &mut World) {
    let book = &mut world.coordinator;
    let none = "speaks no TLS";
    let request = json!({ "token": "orbit-join-x", "name": "a" });
    book.wrong_state(&method("Join"), request, none).await;
    book.wrong_state(&method("Renew"), json!({}), none).await;
    book.wrong_state(&method("CreateToken"), json!({ "role": "ROLE_STAR" }), none).await;
    book.wrong_state(&method("ListIdentities"), json!({}), none).await;
    book.wrong_state(&method("ListTokens"), json!({}), none).await;
    book.wrong_state(&method("RevokeToken"), json!({ "token_id": "0123456789ab" }), none).await;
    let rotate = json!({ "request_id": "rotate-1" });
    let rotated = book.good(&method("RotateGrantKey"), rotate.clone()).await;
    book.again(&method("RotateGrantKey"), rotate, &rotated, "").await;
    book.has_no_wrong_state(&method("RotateGrantKey"), "a key can be replaced at any time, without TLS too");
    let request = json!({ "role": "ROLE_STAR", "name": "a" });
    book.wrong_state(&method("RevokeIdentity"), request, none).await;

    book.bad(&method("Join"), json!({ "name": "no name" }), &["name"]).await;
    let bad = json!({
        "role": 9, "name": "-", "ttl": "-1s", "request_id": "x".repeat(129),
    });
    book.bad(&method("CreateToken"), bad, &["role", "name", "ttl", "request_id"]).await;
    let bad = json!({ "page_size": -1, "page_token": "x" });
    book.bad(&method("ListIdentities"), bad.clone(), &["page_size", "page_token"]).await;
    book.bad(&method("ListTokens"), bad, &["page_size", "page_token"]).await;
    let bad = json!({ "request_id": "x".repeat(129) });
    book.bad(&method("RevokeToken"), bad.clone(), &["token_id", "request_id"]).await;
    book.bad(&method("RotateGrantKey"), bad, &["request_id"]).await;
    let bad = json!({ "request_id": "x".repeat(129) });
    book.bad(&method("RevokeIdentity"), bad, &["role", "name", "request_id"]).await;

    call_with_tls().await;
    METHODS.iter().for_each(|name| book.good_by_hand(&method(name)));
    book.bad_by_hand(&method("Renew"));
    ["CreateToken", "RevokeToken", "RevokeIdentity"]
        .iter()
        .for_each(|name| book.again_by_hand(&method(name)));
}

/// The grid below gets its operator with `Join`.
async fn call_with_tls() {
    let grid = SecuredGrid::start(&[]).await;
    let operator = grid.join("operator", "ann").await;
    let mut client = IdentityServiceClient::new(grid.channel(&operator));
    let request = v1::RenewRequest { certificate_request: operator.request().expect("a request is made") };
    let renewed = client.renew(request).await.expect("a certificate is renewed").into_inner();
    operator.take(&renewed.certificate).expect("it is for the same key and name");
    let refused = client.renew(v1::RenewRequest { certificate_request: "none".to_owned() }).await;
    assert_bad(&refused.expect_err("it is no request"), &["certificate_request"]);

    let create = v1::CreateTokenRequest {
        role: v1::Role::Viewer.into(),
        name: "vera".to_owned(),
        ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        request_id: "token-1".to_owned(),
    };
    let made = client.create_token(create.clone()).await.expect("a token is made").into_inner();
    let again = client.create_token(create.clone()).await.expect("the same request").into_inner();
    assert_eq!(made, again);
    let other = v1::CreateTokenRequest { name: "bob".to_owned(), ..create };
    let refused = client.create_token(other).await;
    let refused = refused.expect_err("the name of the request was used");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "REQUEST_ID_USED"));
    grid.join_with(&made.token, "vera").await.expect("the token is good");

    revoke_tokens(&mut client).await;
    let listed =
        client.list_identities(v1::ListIdentitiesRequest { page_size: 1, ..Default::default() }).await;
    let listed = listed.expect("identities are listed").into_inner();
    assert_eq!(listed.identities[0].name, "ann");
    let request = v1::ListIdentitiesRequest { page_size: 1, page_token: listed.next_page_token };
    let rest = client.list_identities(request).await.expect("the next page").into_inner();
    assert_eq!((rest.identities[0].name.as_str(), rest.next_page_token.as_str()), ("vera", ""));

    let revoke = v1::RevokeIdentityRequest {
        role: v1::Role::Viewer.into(),
        name: "vera".to_owned(),
        request_id: "revoke-1".to_owned(),
    };
    for _ in 0..2 {
        let revoked = client.revoke_identity(revoke.clone()).await.expect("vera is put out").into_inner();
        assert_eq!(revoked.revoked_count, 1);
    }
    let stranger =
        v1::RevokeIdentityRequest { name: "nobody".to_owned(), request_id: String::new(), ..revoke };
    let refused = client.revoke_identity(stranger).await.expect_err("there is nobody");
    assert_eq!(refused.code(), tonic::Code::NotFound, "{refused}");
}

async fn revoke_tokens(client: &mut IdentityServiceClient<tonic::transport::Channel>) {
    let mut made = Vec::new();
    for name in ["one", "two"] {
        let create = v1::CreateTokenRequest {
            role: v1::Role::Viewer.into(),
            name: name.to_owned(),
            ..v1::CreateTokenRequest::default()
        };
        made.push(client.create_token(create).await.expect("a token is made").into_inner().token_id);
    }
    made.sort();
    let page = v1::ListTokensRequest { page_size: 1, ..v1::ListTokensRequest::default() };
    let page = client.list_tokens(page).await.expect("tokens are listed").into_inner();
    let token = &page.tokens[0];
    assert_eq!((&token.token_id, token.created_by.as_str()), (&made[0], "operator:ann"));
    let rest = v1::ListTokensRequest { page_size: 1, page_token: page.next_page_token };
    let rest = client.list_tokens(rest).await.expect("the next page").into_inner();
    assert_eq!((&rest.tokens[0].token_id, rest.next_page_token.as_str()), (&made[1], ""));
    let revoke = v1::RevokeTokenRequest { token_id: made[0].clone(), request_id: "gone-1".to_owned() };
    for _ in 0..2 {
        client.revoke_token(revoke.clone()).await.expect("a token is cancelled, once");
    }
    let again = v1::RevokeTokenRequest { request_id: String::new(), ..revoke };
    let refused = client.revoke_token(again).await.expect_err("there is none any more");
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
}
