//! Who is let in.

use std::time::Duration;

use cdflow_access::TokenKind;
use cdflow_console::api::{Login, Me, Session};
use reqwest::{Client, StatusCode, redirect};

use crate::support::{Running, World, now_ms, problem};

fn browser() -> Client {
    Client::builder().redirect(redirect::Policy::none()).build().unwrap()
}

async fn status_of(console: &Running, token: Option<&str>) -> (u16, String) {
    let mut request = Client::new().get(console.url("/api/v1/me"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let (status, problem) = problem(request.send().await.unwrap()).await;
    (status, problem.code)
}

#[tokio::test]
async fn nobody_gets_in_without_a_good_token_of_a_known_person() {
    let world = World::new().await;
    let console = world.console().await;
    let issue = async |kind, person: &str, lifetime| {
        world.access.issue(kind, person, lifetime, now_ms()).await.unwrap().expose().to_owned()
    };
    let hour = Some(Duration::from_secs(3_600));
    let expired = world.access.issue(TokenKind::Session, "ana", hour, now_ms() - 3_700_000).await.unwrap();
    let cases = [
        ("no token", None, 401, "CDF-4101"),
        ("not a token", Some("cdf_nonsense".to_owned()), 401, "CDF-4101"),
        ("a token nobody issued", Some(format!("cdf_{}", "A".repeat(43))), 401, "CDF-4101"),
        ("an expired session", Some(expired.expose().to_owned()), 401, "CDF-4101"),
        ("a login link", Some(issue(TokenKind::LoginLink, "ana", hour).await), 401, "CDF-4101"),
        ("the token of a CI system", Some(issue(TokenKind::Ci, "ana", None).await), 401, "CDF-4101"),
        (
            "somebody who is not in the configuration",
            Some(issue(TokenKind::Session, "eve", hour).await),
            403,
            "CDF-4102",
        ),
    ];
    for (what, token, status, code) in cases {
        assert_eq!(status_of(&console, token.as_deref()).await, (status, code.to_owned()), "{what}");
    }
    for kind in [TokenKind::Session, TokenKind::Token] {
        let token = issue(kind, "ana", None).await;
        let me: Me = console.client(&token).read("/me").await;
        assert_eq!((me.person.as_str(), &me.groups[..]), ("ana", &["release-managers".to_owned()][..]));
    }
    console.stop().await;
}

#[tokio::test]
async fn every_address_but_health_and_login_is_closed() {
    let world = World::new().await;
    let console = world.console().await;
    for path in [
        "/",
        "/runs/1",
        "/runs/1/live",
        "/runs/1/log.txt",
        "/nothing",
        "/api/v1/runs",
        "/api/v1/runs/1/watch",
        "/api/v1/runs/1/logs",
        "/api/v1/board",
        "/api/v1/configuration",
        "/api/v1/trigger/log",
        "/api/v1/nothing",
    ] {
        let answer = browser().get(console.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    for path in ["/healthz", "/readyz", "/login", "/assets/console.css", "/assets/console.js", "/assets/icon.svg"] {
        let answer = browser().get(console.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert!(
            answer.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"),
            "{path}"
        );
    }
    console.stop().await;
}

#[tokio::test]
async fn a_person_who_leaves_the_configuration_is_out() {
    let world = World::new().await;
    let console = world.console().await;
    let token = world.token("bo").await;
    let _: Me = console.client(&token).read("/me").await;
    let store = world.bus.configuration().await.unwrap();
    let (revision, _) = store.load("default").await.unwrap().unwrap();
    let only_ana = serde_json::to_vec(&crate::support::bundle("kind: Person\nname: ana\n")).unwrap();
    store.replace("default", revision, only_ana.into()).await.unwrap();
    for _ in 0..500 {
        let answer = console.client(&token).get("/me").send().await.unwrap();
        if answer.status() == StatusCode::FORBIDDEN {
            assert_eq!(problem(answer).await.1.code, "CDF-4102");
            return console.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("bo is still let in after 10 s");
}

#[tokio::test]
async fn a_login_link_is_not_used_up_by_who_only_looks_at_it_and_works_once() {
    let world = World::new().await;
    let console = world.console().await;
    let link = world.access.issue(TokenKind::LoginLink, "ana", None, now_ms()).await.unwrap();
    let page = format!("/login?token={}", link.expose());
    for _ in 0..2 {
        let looked = browser().get(console.url(&page)).send().await.unwrap();
        assert_eq!(looked.status(), StatusCode::OK);
        assert_eq!(looked.headers()["cache-control"], "no-store");
        assert!(looked.text().await.unwrap().contains("<button class=\"primary\">Sign in</button>"));
    }
    let sign_in = || {
        browser()
            .post(console.url("/login"))
            .header("sec-fetch-site", "same-origin")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={}", link.expose()))
    };
    let signed_in = sign_in().send().await.unwrap();
    assert_eq!(signed_in.status(), StatusCode::SEE_OTHER);
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly; SameSite=Lax; Max-Age=43"), "{cookie}");
    assert!(!cookie.contains("Secure"), "this is loopback: {cookie}");
    let again = sign_in().send().await.unwrap();
    assert_eq!(again.status(), StatusCode::UNAUTHORIZED);

    let pair = cookie.split(';').next().unwrap().to_owned();
    let home = browser().get(console.url("/")).header("cookie", &pair).send().await.unwrap();
    assert_eq!(home.status(), StatusCode::OK);
    let out = browser().post(console.url("/logout")).header("cookie", &pair).header("sec-fetch-site", "same-origin");
    assert_eq!(out.send().await.unwrap().status(), StatusCode::SEE_OTHER);
    let home = browser().get(console.url("/")).header("cookie", &pair).send().await.unwrap();
    assert_eq!(home.status(), StatusCode::UNAUTHORIZED, "the session is revoked, not only forgotten");
    console.stop().await;
}

#[tokio::test]
async fn a_program_signs_in_and_out() {
    let world = World::new().await;
    let console = world.console().await;
    let link = world.access.issue(TokenKind::LoginLink, "bo", None, now_ms()).await.unwrap();
    let login = Login { token: link.expose().into() };
    let answer = Client::new().post(console.url("/api/v1/login")).json(&login).send().await.unwrap();
    let session: Session = answer.json().await.unwrap();
    assert_eq!(session.person, "bo");
    let bo = console.client(&session.token);
    let _: Me = bo.read("/me").await;
    assert_eq!(bo.post("/logout").send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(problem(bo.get("/me").send().await.unwrap()).await.0, 401);
    console.stop().await;
}

#[tokio::test]
async fn other_sites_cannot_act_in_the_name_of_who_is_signed_in() {
    let world = World::new().await;
    let console = world.console().await;
    let token = world.token("ana").await;
    let cookie = format!("cdflow-session={token}");
    let host = console.address.to_string();
    let same = format!("http://{host}");
    let cases: [(&[(&str, &str)], u16); 6] = [
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("origin", "http://evil.example.com")], 403),
        (&[], 403),
        (&[("origin", &same)], 404),
        (&[("sec-fetch-site", "same-origin")], 404),
    ];
    for (headers, status) in cases {
        let mut request = browser().post(console.url("/api/v1/runs/7/cancel")).header("cookie", &cookie);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (got, problem) = problem(request.json(&serde_json::json!({})).send().await.unwrap()).await;
        assert_eq!(got, status, "{headers:?}");
        assert_eq!(problem.code, if status == 403 { "CDF-4103" } else { "CDF-4104" });
    }
    // A token in a header is no browser's doing, unless the browser says so.
    let bearer = |site: Option<&str>| {
        let request = console.client(&token).post("/runs/7/cancel").json(&serde_json::json!({}));
        site.map_or(request.try_clone().unwrap(), |site| request.header("sec-fetch-site", site))
    };
    assert_eq!(problem(bearer(None).send().await.unwrap()).await.0, 404);
    assert_eq!(problem(bearer(Some("cross-site")).send().await.unwrap()).await.0, 403);
    let login = browser().post(console.url("/login")).header("sec-fetch-site", "cross-site").body("token=x");
    assert_eq!(login.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    console.stop().await;
}

#[tokio::test]
async fn behind_a_tls_proxy_cookies_are_for_tls_only() {
    let world = World::new().await;
    let console = world.console_with(&["--behind-tls-proxy"]).await;
    let link = world.access.issue(TokenKind::LoginLink, "ana", None, now_ms()).await.unwrap();
    let signed_in = browser()
        .post(console.url("/login"))
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("token={}", link.expose()))
        .send()
        .await
        .unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-cdflow-session=") && cookie.ends_with("; Secure"), "{cookie}");
    console.stop().await;
}
