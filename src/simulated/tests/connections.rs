//! Connections, counts and records; going down and coming back.

use super::*;

fn assert_send_sync<T: Send + Sync + 'static>() {}

#[test]
fn handles_go_anywhere() {
    assert_send_sync::<SimulatedProvider>();
    assert_send_sync::<super::super::SimulatedProviderBuilder>();
    assert_send_sync::<super::super::ReceivedRequest>();
    assert_send_sync::<SimulatedFault>();
}

async fn refused(provider: &SimulatedProvider) {
    let error = TcpStream::connect(provider.address()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn down_and_up_again() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    let address = provider.address();
    assert_eq!(chat(&provider, hello(true)).await.status, 200);
    for _ in 0..20 {
        provider.set_fault(SimulatedFault::Down);
        refused(&provider).await;
        provider.set_fault(SimulatedFault::Down);
        refused(&provider).await;
        provider.set_fault(SimulatedFault::None);
        assert_eq!(provider.address(), address);
        assert_eq!(chat(&provider, hello(true)).await.status, 200);
    }
    provider.set_fault_times(SimulatedFault::Down, 1);
    refused(&provider).await;
    assert_eq!(provider.fault(), SimulatedFault::Down);
    provider.set_fault(SimulatedFault::ServerError);
    assert_eq!(chat(&provider, hello(false)).await.status, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_at_once_on_any_thread() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    for _ in 0..20 {
        let handle = provider.clone();
        std::thread::spawn(move || handle.set_fault(SimulatedFault::Down)).join().unwrap();
        refused(&provider).await;
        let handle = provider.clone();
        std::thread::spawn(move || handle.set_fault(SimulatedFault::None)).join().unwrap();
        assert_eq!(chat(&provider, hello(false)).await.status, 200);
    }
}

#[tokio::test]
async fn nobody_else_is_given_the_port() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    provider.set_fault(SimulatedFault::Down);
    // Without SO_REUSEADDR, as the system itself chooses ports.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    assert!(socket.bind(provider.address()).is_err());
    refused(&provider).await;
}

#[tokio::test]
async fn down_resets_what_is_open() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    let mut idle = TcpStream::connect(provider.address()).await.unwrap();
    provider.set_fault("stall:1".parse().unwrap());
    let body = hello(true).to_string();
    let mut streaming = send(&provider, "POST", "/v1/chat/completions", &body).await;
    until(|| provider.request_count() == 1).await;
    until(|| provider.connection_count() == 2).await;
    let early = seen(read_to_end(&mut streaming).await);
    assert_eq!((early.outputs(), early.end), (1, End::Open));

    provider.set_fault(SimulatedFault::Down);
    assert_eq!(read_to_end(&mut streaming).await.1, End::Reset);
    assert_eq!(read_to_end(&mut idle).await.1, End::Reset);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(provider.aborted_count(), 0);
}

#[tokio::test]
async fn a_caller_that_leaves_is_counted() {
    let provider = SimulatedProvider::builder("primary").chunk_delay(Duration::from_millis(5)).start().await.unwrap();
    let body = hello(true).to_string();
    assert!(chat(&provider, hello(true)).await.complete);
    assert!(chat(&provider, hello(false)).await.complete);
    assert_eq!(provider.aborted_count(), 0);

    // In the middle of a stream.
    let mut stream = send(&provider, "POST", "/v1/chat/completions", &body).await;
    let mut buffer = [0; 64];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    drop(stream);
    until(|| provider.aborted_count() == 1).await;

    // In a stream that has stalled.
    provider.set_fault(SimulatedFault::Stall { after_chunks: 0 });
    let mut stream = send(&provider, "POST", "/v1/chat/completions", &body).await;
    read_to_end(&mut stream).await;
    drop(stream);
    until(|| provider.aborted_count() == 2).await;

    // Before the request is complete.
    let mut stream = TcpStream::connect(provider.address()).await.unwrap();
    let start = head("POST", "/v1/chat/completions", 100);
    stream.write_all(start.as_bytes()).await.unwrap();
    until(|| provider.request_count() == 5).await;
    drop(stream);
    until(|| provider.aborted_count() == 3).await;
}

#[tokio::test]
async fn connections_are_kept_alive() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    let mut stream = TcpStream::connect(provider.address()).await.unwrap();
    for _ in 0..3 {
        let request = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let seen = seen(read_to_end(&mut stream).await);
        assert_eq!((seen.status, seen.complete, seen.end), (200, true, End::Open));
    }
    assert_eq!((provider.connection_count(), provider.request_count()), (1, 3));
}

#[tokio::test]
async fn what_was_received() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    provider.set_fault_times(SimulatedFault::Overloaded, 1);
    chat(&provider, hello(false)).await;
    call(&provider, "GET", "/v1/models?x=1", "").await;
    let received = provider.received();
    assert_eq!((received.len(), provider.request_count()), (2, 2));
    assert_eq!(received[0].json().unwrap(), hello(false));
    assert_eq!(received[0].header("authorization"), Some("Bearer sk-simulated-0123456789"));
    assert_eq!(received[0].fault, SimulatedFault::Overloaded);
    assert_eq!(received[1].method, http::Method::GET);
    assert_eq!(received[1].uri, "/v1/models?x=1");
    provider.clear();
    assert!(provider.received().is_empty());
    assert_eq!((provider.request_count(), provider.connection_count()), (0, 0));
}

#[tokio::test]
async fn shutdown_is_for_good() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    provider.set_fault(SimulatedFault::Silent);
    let body = hello(false).to_string();
    let mut waiting = send(&provider, "POST", "/v1/chat/completions", &body).await;
    until(|| provider.request_count() == 1).await;
    provider.shutdown().await;
    assert_eq!(read_to_end(&mut waiting).await.1, End::Reset);
    refused(&provider).await;
    provider.set_fault(SimulatedFault::None);
    refused(&provider).await;
    provider.shutdown().await;
    assert_eq!(provider.received().len(), 1);
    assert_eq!(provider.aborted_count(), 0);
}

#[tokio::test]
async fn the_last_handle_stops_the_server() {
    let provider = SimulatedProvider::start("primary").await.unwrap();
    let (other, address) = (provider.clone(), provider.address());
    drop(provider);
    assert_eq!(chat(&other, hello(false)).await.status, 200);
    drop(other);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_address_may_be_given() {
    let first = SimulatedProvider::start("first").await.unwrap();
    let taken = SimulatedProvider::builder("second").listen(first.address()).start().await;
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let address = first.address();
    first.shutdown().await;
    let second = SimulatedProvider::builder("second").listen(address).start().await.unwrap();
    assert_eq!(second.base_url(), format!("http://{address}/v1"));
    assert_eq!(second.name(), "second");
    let shown = format!("{second:?}");
    assert!(shown.contains("second") && shown.contains("None"), "{shown}");
}
