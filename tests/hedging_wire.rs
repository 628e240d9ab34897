//! Another target beside one that is slow, over sockets: when the client reads its first word, and what the slow one sees.
//! What takes seconds out there takes as many hundredths here.
#![allow(clippy::unwrap_used)]

mod harness;

use std::time::Duration;

use futures_util::future::join_all;
use harness::{Served, chat, post, send, text};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower_failover::simulated::SimulatedProvider;

fn scaled(seconds: u64) -> Duration {
    Duration::from_millis(seconds * 10)
}

async fn slow(name: &str, first_output: Duration) -> SimulatedProvider {
    SimulatedProvider::builder(name).first_output_delay(first_output).start().await.unwrap()
}

/// Until when the first word came, and all that was said.
async fn first_word(served: &Served) -> (Duration, String) {
    let began = Instant::now();
    let mut body = send(post(served, chat(true))).await.into_body();
    let (mut first, mut bytes) = (None, Vec::new());
    while let Some(frame) = body.frame().await {
        bytes.extend_from_slice(&frame.unwrap().into_data().unwrap());
        if first.is_none() && bytes.windows(9).any(|window| window == b"[fallback" || window == b"[primary]") {
            first = Some(began.elapsed());
        }
    }
    (first.unwrap(), text(&bytes))
}

#[tokio::test]
async fn the_first_word_takes_as_long_as_the_patience_and_the_fallback_and_the_slow_one_is_left() {
    let (after, own) = (scaled(8), scaled(3));
    let (primary, fallback) = (slow("primary", scaled(2_000)).await, slow("fallback", own).await);
    let hedge = "hedge = { after = \"80ms\", width = 2, budget = 1.0 }";
    let served = Served::between(&primary.base_url(), &fallback.base_url(), hedge).await;
    let mut took = Vec::new();
    for request in 1..=9 {
        let (first, said) = first_word(&served).await;
        assert!(said.starts_with("[fallback]"), "{said}");
        assert!(first >= after + own, "{first:?}");
        took.push(first);
        assert_eq!((primary.request_count(), fallback.request_count()), (request, request));
        // Its connection is closed, not only its answer unread.
        for _ in 0..400 {
            if primary.aborted_count() == request {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(primary.aborted_count(), request);
    }
    took.sort();
    // The median: a busy machine may hold up a few. The primary's own would be twenty seconds.
    assert!(took[took.len() / 2] < (after + own) * 2, "{took:?}");
    // Whoever won is read to its end.
    assert_eq!(fallback.aborted_count(), 0);
    assert_eq!(primary.connection_count(), 9);
}

#[tokio::test]
async fn with_everything_slow_the_extra_load_keeps_within_the_budget() {
    let (primary, fallback) = (slow("primary", scaled(30)).await, slow("fallback", scaled(30)).await);
    let hedge = "hedge = { after = \"20ms\", width = 2, budget = 0.1 }";
    let served = Served::between(&primary.base_url(), &fallback.base_url(), hedge).await;
    let answers = join_all((0..200).map(|_| first_word(&served))).await;
    assert_eq!(answers.len(), 200);
    assert_eq!(primary.request_count(), 200);
    // A tenth of the requests, and the first ten in any ten seconds.
    let hedges = fallback.request_count();
    assert!((10..=31).contains(&hedges), "{hedges} hedges of 200 requests");
}
