//! Logging in and out, users, roles, API keys.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::fixture::{Fixture, PASSWORD, each};

#[tokio::test]
async fn the_one_time_password_opens_nothing_until_it_is_changed() {
    let fixture = Fixture::fresh().await;
    assert_eq!(fixture.log_in("admin", "admin").await.status, StatusCode::UNAUTHORIZED);

    let first = fixture.log_in("admin", &fixture.one_time).await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(first.body["need_to_reset_password"], true);
    assert!(first.body["token"].is_null());

    let change = |new: &str| json!({"password": {"username": "admin", "password": fixture.one_time, "new_password": new}});
    let weak = fixture.call(Method::POST, "/v1/auth", "", Some(change("short"))).await;
    assert_eq!((weak.status, &weak.body["code"]), (StatusCode::BAD_REQUEST, &json!(14)));
    let same = fixture.call(Method::POST, "/v1/auth", "", Some(change(&fixture.one_time))).await;
    assert_eq!(same.body["code"], 14);
    assert_eq!(
        weak.body["password_profile_basic"],
        json!({"min_len": 8, "min_uppercase_count": 1, "min_lowercase_count": 1, "min_digit_count": 1, "min_special_count": 0})
    );

    let good = fixture.call(Method::POST, "/v1/auth", "", Some(change(PASSWORD))).await;
    assert_eq!(good.status, StatusCode::OK, "{good:?}");
    assert_eq!(good.body["need_to_reset_password"], false);
    assert_eq!(good.body["password_days_until_expire"], -1);
    assert_eq!(good.body["token"]["password"], "");
    assert_eq!(good.body["token"]["role"], "admin");
    assert_eq!(good.body["token"]["global_permissions"].as_array().unwrap().len(), 13);
    let token = good.body["token"]["token"].as_str().unwrap();
    assert_eq!(fixture.get("/v1/selfuser", token).await["user"]["username"], "admin");

    assert_eq!(fixture.log_in("admin", &fixture.one_time).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(fixture.log_in("admin", PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_session_ends_with_its_logout_its_idle_time_or_its_user() {
    let (fixture, admin) = Fixture::started().await;
    let other = fixture.session("admin", PASSWORD).await;
    fixture.call(Method::DELETE, "/v1/auth", &other, None).await;
    let gone = fixture.call(Method::GET, "/v1/selfuser", &other, None).await;
    assert_eq!((gone.status, &gone.body["code"]), (StatusCode::UNAUTHORIZED, &json!(3)));

    for _ in 0..3 {
        fixture.clock.advance(Duration::from_secs(299));
        let kept = fixture.call(Method::PATCH, "/v1/auth", &admin, None).await;
        assert_eq!(kept.status, StatusCode::OK, "{kept:?}");
    }
    fixture.clock.advance(Duration::from_secs(300));
    assert_eq!(
        fixture.call(Method::GET, "/v1/selfuser", &admin, None).await.status,
        StatusCode::UNAUTHORIZED
    );

    let admin = fixture.session("admin", PASSWORD).await;
    let joe = fixture.user(&admin, "joe", "reader", json!({})).await;
    fixture.get("/v1/selfuser", &joe).await;
    assert_eq!(fixture.call(Method::DELETE, "/v1/user/joe", &admin, None).await.status, StatusCode::OK);
    assert_eq!(fixture.call(Method::GET, "/v1/selfuser", &joe, None).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_thirty_third_login_of_a_user_is_refused() {
    let (fixture, _admin) = Fixture::started().await;
    for n in 2..=32 {
        assert_eq!(fixture.log_in("admin", PASSWORD).await.status, StatusCode::OK, "{n}");
    }
    let refused = fixture.log_in("admin", PASSWORD).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::UNAUTHORIZED, &json!(3)));
}

#[tokio::test]
async fn guessing_is_blocked_alike_for_names_that_exist_and_names_that_do_not() {
    let (fixture, admin) = Fixture::started().await;
    fixture.user(&admin, "joe", "reader", json!({})).await;
    for name in ["joe", "nobody"] {
        for n in 1..=5 {
            let refused = fixture.log_in(name, "Wrong1234").await;
            assert_eq!(
                (refused.status, &refused.body["code"]),
                (StatusCode::UNAUTHORIZED, &json!(3)),
                "{name} {n}"
            );
        }
        let blocked = fixture.log_in(name, PASSWORD).await;
        assert_eq!((blocked.status, &blocked.body["code"]), (StatusCode::UNAUTHORIZED, &json!(47)), "{name}");
    }
    assert_eq!(fixture.get("/v1/user/joe", &admin).await["user"]["blocked_for_failed_login"], true);
    let names = fixture
        .until("/v1/log/event", &admin, |log| each(&log["events"], "name").contains(&"User.Login.Blocked"))
        .await;
    assert!(each(&names["events"], "name").contains(&"User.Login.Failed"));

    let clear = json!({"config": {"fullname": "joe", "clear_failed_login": true}});
    fixture.done(Method::POST, "/v1/user/joe/password", &admin, clear).await;
    assert_eq!(fixture.log_in("joe", PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_api_key_works_without_a_session_until_it_ends() {
    let (fixture, admin) = Fixture::started().await;
    let body = json!({"apikey": {"apikey_name": "ci", "role": "reader", "expiration_type": "onehour"}});
    let made = fixture.done(Method::POST, "/v1/api_key", &admin, body).await;
    let secret = made["apikey"]["apikey_secret"].as_str().unwrap();
    assert_eq!(secret.len(), 64);
    let key = format!("key:ci:{secret}");
    fixture.get("/v1/workload", &key).await;
    assert_eq!(fixture.get("/v1/selfapikey", &key).await["apikey"]["apikey_secret"], "");
    assert_eq!(fixture.call(Method::GET, "/v1/selfuser", &key, None).await.status, StatusCode::FORBIDDEN);
    let wrong = fixture.call(Method::GET, "/v1/workload", "key:ci:wrong", None).await;
    assert_eq!((wrong.status, &wrong.body["code"]), (StatusCode::UNAUTHORIZED, &json!(3)));
    // A token that is wrong is not made up for by a key that is right.
    let request = axum::http::Request::builder()
        .uri("/v1/workload")
        .header("X-Auth-Token", "nonsense")
        .header("X-Auth-Apikey", format!("ci:{secret}"))
        .body(axum::body::Body::empty())
        .unwrap();
    assert_eq!(fixture.raw(request).await.status, StatusCode::UNAUTHORIZED);
    fixture.clock.advance(Duration::from_secs(3_600));
    assert_eq!(fixture.call(Method::GET, "/v1/workload", &key, None).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn users_change_their_own_password_and_no_one_gives_away_more_than_they_have() {
    let (fixture, admin) = Fixture::started().await;
    let joe = fixture.user(&admin, "joe", "", json!({"admin": ["shop"]})).await;
    let second = fixture.session("joe", PASSWORD).await;

    let wrong =
        json!({"config": {"fullname": "joe", "password": "Wrong1234", "new_password": "Another1234"}});
    let refused = fixture.call(Method::PATCH, "/v1/user/joe", &joe, Some(wrong)).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let right = json!({"config": {"fullname": "joe", "password": PASSWORD, "new_password": "Another1234"}});
    fixture.done(Method::PATCH, "/v1/user/joe", &joe, right).await;
    fixture.get("/v1/selfuser", &joe).await;
    assert_eq!(
        fixture.call(Method::GET, "/v1/selfuser", &second, None).await.status,
        StatusCode::UNAUTHORIZED,
        "other sessions end"
    );

    for (user, allowed) in [
        (
            json!({"fullname": "a", "password": PASSWORD, "role": "", "role_domains": {"reader": ["shop"]}}),
            true,
        ),
        (json!({"fullname": "b", "password": PASSWORD, "role": "admin"}), false),
        (
            json!({"fullname": "c", "password": PASSWORD, "role": "", "role_domains": {"reader": ["pay"]}}),
            false,
        ),
        (json!({"fullname": "d", "password": PASSWORD, "role": "ciops"}), false),
    ] {
        let answer = fixture.call(Method::POST, "/v1/user", &joe, Some(json!({"user": user}))).await;
        assert_eq!(answer.status == StatusCode::OK, allowed, "{user} {answer:?}");
    }
    let raise = json!({"config": {"fullname": "joe", "role": "admin"}});
    assert_eq!(
        fixture.call(Method::PATCH, "/v1/user/joe", &joe, Some(raise)).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(fixture.call(Method::GET, "/v1/user/admin", &joe, None).await.status, StatusCode::FORBIDDEN);
    assert_eq!(each(&fixture.get("/v1/user", &joe).await["users"], "fullname"), ["a", "joe"]);
    assert_eq!(
        fixture.call(Method::DELETE, "/v1/user/admin", &admin, None).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn a_custom_role_gives_what_it_says_and_stays_while_it_is_used() {
    let (fixture, admin) = Fixture::started().await;
    let role = json!({"config": {"name": "watcher", "comment": "", "permissions": [{"id": "security_events", "read": true}]}});
    fixture.done(Method::POST, "/v1/user_role", &admin, role).await;
    let joe = fixture.user(&admin, "joe", "watcher", json!({})).await;
    fixture.get("/v1/log/incident", &joe).await;
    assert_eq!(fixture.call(Method::GET, "/v1/group", &joe, None).await.status, StatusCode::FORBIDDEN);
    let used = fixture.call(Method::DELETE, "/v1/user_role/watcher", &admin, None).await;
    assert_eq!((used.status, &used.body["code"]), (StatusCode::CONFLICT, &json!(16)));
    let bad = json!({"config": {"name": "x", "permissions": [{"id": "events", "write": true}]}});
    assert_eq!(
        fixture.call(Method::POST, "/v1/user_role", &admin, Some(bad)).await.status,
        StatusCode::BAD_REQUEST
    );
    let roles = fixture.get("/v1/user_role", &admin).await;
    assert_eq!(each(&roles["roles"], "name"), ["admin", "reader", "ciops", "watcher"]);
}

#[tokio::test]
async fn the_password_profile_counts_for_the_next_password() {
    let (fixture, admin) = Fixture::started().await;
    let change = json!({"config": {"name": "default", "min_len": 12, "enable_password_expiration": true, "password_expire_after_days": 1}});
    fixture.done(Method::PATCH, "/v1/password_profile/nvsyspwdprofile", &admin, change).await;
    let profile = fixture.get("/v1/password_profile/default", &admin).await;
    assert_eq!(profile["pwd_profile"]["min_len"], 12);
    let user = json!({"user": {"fullname": "joe", "password": "Abcdefg123"}});
    assert_eq!(fixture.call(Method::POST, "/v1/user", &admin, Some(user)).await.body["code"], 14);
    fixture.clock.advance(Duration::from_secs(86_400));
    let ended = fixture.log_in("admin", PASSWORD).await;
    assert_eq!((ended.status, &ended.body["code"]), (StatusCode::UNAUTHORIZED, &json!(48)));
}
