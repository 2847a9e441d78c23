//! Scrapes against real HTTP servers on loopback.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse as _, Redirect},
    routing::get,
};
use cdflow_protocol::v1::Instance;
use cdflow_verifier::collector::{MAX_BODY, PageTotals, Scrape, Selector};

const PAGE: &str = "\
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{code=\"200\"} 1200
http_requests_total{code=\"500\"} 4
http_requests_total{code=\"503\"} 1 1395066363000
process_start_time_seconds 1.7e+09
";

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn serve_text(text: impl Into<String>) -> SocketAddr {
    let text = text.into();
    serve(Router::new().route("/metrics", get(async move || text))).await
}

fn scrape() -> Scrape {
    let selector = |text: &str| Selector::parse(text).expect("valid");
    let errors = selector(r#"http_requests_total{code=~"5.."}"#);
    Scrape::new("/metrics", selector("http_requests_total"), errors, Duration::from_millis(500)).expect("a client")
}

async fn failure(address: SocketAddr) -> String {
    let error = scrape().totals(&format!("http://{address}")).await.expect_err("must fail");
    error.to_string().replace(&format!("http://{address}/metrics"), "URL")
}

#[tokio::test]
async fn totals_are_sums_over_the_series_that_match() {
    let address = serve_text(PAGE).await;
    let totals = scrape().totals(&format!("http://{address}/")).await.expect("readable");
    assert_eq!(totals, PageTotals { requests: 1205.0, errors: 5.0, started: 1.7e9 });
}

#[tokio::test]
async fn before_the_first_request_there_are_no_series_and_no_requests() {
    let address = serve_text("up 1\n").await;
    assert_eq!(scrape().totals(&format!("http://{address}")).await.expect("readable"), PageTotals::default());
}

#[tokio::test]
async fn a_reading_carries_its_failure() {
    let address = serve(Router::new()).await;
    let instance = Instance { id: "web-1".into(), url: format!("http://{address}"), ..Instance::default() };
    let reading = scrape().reading(&instance, true).await;
    assert_eq!((reading.instance_id.as_str(), reading.canary), ("web-1", true));
    assert_eq!(reading.failure, format!("http://{address}/metrics answered 404 Not Found"));
}

#[tokio::test]
async fn every_other_answer_is_a_failure_with_a_name() {
    let status = serve(Router::new().route("/metrics", get(async || StatusCode::INTERNAL_SERVER_ERROR))).await;
    assert_eq!(failure(status).await, "URL answered 500 Internal Server Error");

    let moved = serve(Router::new().route("/metrics", get(async || Redirect::temporary("/elsewhere")))).await;
    assert_eq!(failure(moved).await, "URL answered 307 Temporary Redirect");

    assert_eq!(failure(serve_text("").await).await, "URL answered a page without a single metric");
    assert_eq!(failure(serve_text("# EOF\n").await).await, "URL answered a page without a single metric");
    assert_eq!(
        failure(serve_text("<!doctype html><title>Shop</title>").await).await,
        "URL: line 1 is not in the Prometheus text format: expected the name of a metric: `<!doctype html><title>Shop</title>`"
    );
    assert_eq!(
        failure(serve_text("http_requests_total NaN\n").await).await,
        "URL: line 1: `http_requests_total` is NaN, which is no count"
    );
    assert_eq!(
        failure(serve_text("up 1\nhttp_requests_total{code=\"500\"} -3\n").await).await,
        "URL: line 2: `http_requests_total` is -3, which is no count"
    );

    let bytes = serve(Router::new().route("/metrics", get(async || [0xff_u8, 0xfe, 0x00]))).await;
    assert_eq!(failure(bytes).await, "URL answered bytes that are not UTF-8");
}

#[tokio::test]
async fn a_page_without_end_is_cut_off() {
    let endless = async || {
        let line = "http_requests_total{code=\"200\"} 1\n".repeat(30_000);
        let chunks = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(line.clone()));
        ([(header::CONTENT_TYPE, "text/plain")], Body::from_stream(chunks)).into_response()
    };
    let address = serve(Router::new().route("/metrics", get(endless))).await;
    let selector = |text: &str| Selector::parse(text).expect("valid");
    let patient = Scrape::new("/metrics", selector("x"), selector("y"), Duration::from_secs(60)).expect("a client");
    let error = patient.totals(&format!("http://{address}")).await.expect_err("too large");
    assert!(error.to_string().ends_with(&format!("answered more than {} MiB", MAX_BODY >> 20)), "{error}");
}

#[tokio::test]
async fn an_instance_that_hangs_or_is_gone_does_not_hold_up_the_others() {
    let hanging = serve(Router::new().route("/metrics", get(async || std::future::pending::<String>().await))).await;
    assert_eq!(failure(hanging).await, "URL did not answer within 500 ms");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let gone = listener.local_addr().expect("an address");
    drop(listener);
    let text = failure(gone).await;
    assert!(text.starts_with("URL could not be reached: ") && text.contains("refused"), "{text}");

    let error = scrape().totals("not a url").await.expect_err("no URL");
    assert_eq!(error.to_string(), "`not a url/metrics` is no URL");
}
