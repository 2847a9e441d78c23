//! Every store of tokens keeps the same promises: in memory, and in a bucket of a real server.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use cdflow_access::{Access, Denial, Error, KvTokens, MemoryTokens, Token, TokenKind};
use cdflow_bus::{Bus, NewInstallation, Options};
use cdflow_testkit::{NatsServer, SyncMode};

const HOUR: Duration = Duration::from_secs(3_600);
const NOW: i64 = 1_790_000_000_000;

fn denial<T: std::fmt::Debug>(result: Result<T, Error>) -> Denial {
    match result {
        Err(Error::Denied(denial)) => denial,
        other => panic!("expected a denial: {other:?}"),
    }
}

async fn keeps_its_promises(access: Access) {
    a_login_link_works_once(&access).await;
    what_has_expired_is_refused(&access).await;
    what_was_revoked_is_refused(&access).await;
    a_token_opens_only_its_own_door(&access).await;
}

async fn a_login_link_works_once(access: &Access) {
    let link = access.issue(TokenKind::LoginLink, "ana", Some(HOUR), NOW).await.unwrap();
    let tries = futures::future::join_all((0..8).map(|_| access.exchange(link.expose(), HOUR, NOW))).await;
    let (opened, refused): (Vec<_>, Vec<_>) = tries.into_iter().partition(Result::is_ok);
    assert_eq!(opened.len(), 1, "one session for one link");
    for result in refused {
        assert_eq!(denial(result), Denial::Unknown);
    }
    let (session, grant) = opened.into_iter().next().unwrap().unwrap();
    assert_eq!((grant.person.as_str(), grant.kind, grant.expires), ("ana", TokenKind::Session, NOW + 3_600_000));
    assert_eq!(access.authenticate(session.expose(), NOW).await.unwrap(), grant);
}

async fn what_has_expired_is_refused(access: &Access) {
    let token = access.issue(TokenKind::Session, "ana", Some(HOUR), NOW).await.unwrap();
    access.authenticate(token.expose(), NOW + 3_599_999).await.unwrap();
    assert_eq!(denial(access.authenticate(token.expose(), NOW + 3_600_000).await), Denial::Expired);
    let link = access.issue(TokenKind::LoginLink, "ana", Some(HOUR), NOW).await.unwrap();
    assert_eq!(denial(access.exchange(link.expose(), HOUR, NOW + 3_600_000).await), Denial::Expired);
    let lasting = access.issue(TokenKind::Token, "ana", None, NOW).await.unwrap();
    access.authenticate(lasting.expose(), i64::MAX).await.unwrap();
}

async fn what_was_revoked_is_refused(access: &Access) {
    let token = access.issue(TokenKind::Token, "bo", None, NOW).await.unwrap();
    let other = access.issue(TokenKind::Session, "bo", Some(HOUR), NOW).await.unwrap();
    let of_ana = access.issue(TokenKind::Token, "ana", None, NOW).await.unwrap();
    assert!(access.revoke(token.expose()).await.unwrap());
    assert!(!access.revoke(token.expose()).await.unwrap());
    assert_eq!(denial(access.authenticate(token.expose(), NOW).await), Denial::Unknown);
    assert_eq!(access.revoke_all_of("bo").await.unwrap(), 1);
    assert_eq!(denial(access.authenticate(other.expose(), NOW).await), Denial::Unknown);
    access.authenticate(of_ana.expose(), NOW).await.unwrap();
    assert!(access.grants(NOW).await.unwrap().iter().all(|grant| grant.person == "ana"));
}

async fn a_token_opens_only_its_own_door(access: &Access) {
    let ci = access.issue(TokenKind::Ci, "jenkins", None, NOW).await.unwrap();
    assert_eq!(access.authenticate_ci(ci.expose(), NOW).await.unwrap().person, "jenkins");
    assert_eq!(denial(access.authenticate(ci.expose(), NOW).await), Denial::WrongKind { presented: TokenKind::Ci });
    // Presented in the wrong place, it is still good in the right one.
    assert_eq!(denial(access.exchange(ci.expose(), HOUR, NOW).await), Denial::WrongKind { presented: TokenKind::Ci });
    access.authenticate_ci(ci.expose(), NOW).await.unwrap();
    let never_issued = Token::generate().unwrap();
    assert_eq!(denial(access.authenticate(never_issued.expose(), NOW).await), Denial::Unknown);
    assert_eq!(denial(access.authenticate("cdf_short", NOW).await), Denial::Malformed);
}

#[tokio::test]
async fn tokens_in_memory_keep_the_promises() {
    keeps_its_promises(Access::new(MemoryTokens::default())).await;
}

#[tokio::test]
async fn tokens_in_the_bucket_keep_the_promises_and_no_secret_is_stored() {
    let server = NatsServer::start(SyncMode::Default).await.unwrap();
    let options = Options::new(server.url(), "test");
    cdflow_bus::install(&options, &NewInstallation::default()).await.unwrap();
    let bus = Bus::connect(&options).await.unwrap();
    let access = Access::new(KvTokens::open(&bus).await.unwrap());
    keeps_its_promises(access.clone()).await;

    let token = access.issue(TokenKind::Token, "ana", None, NOW).await.unwrap();
    let stored = bus.bucket("ACCESS").await.unwrap().get(token.hash().to_hex()).await.unwrap().unwrap();
    let stored = String::from_utf8(stored.to_vec()).unwrap();
    assert_eq!(stored, r#"{"person":"ana","kind":"token","created":1790000000000,"expires":0}"#);

    // Another instance on the same bucket agrees.
    let elsewhere = Access::new(KvTokens::open(&bus).await.unwrap());
    elsewhere.revoke(token.expose()).await.unwrap();
    assert_eq!(denial(access.authenticate(token.expose(), NOW).await), Denial::Unknown);
}
