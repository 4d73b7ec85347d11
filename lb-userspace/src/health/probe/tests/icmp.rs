//! The `icmp` check.

use super::*;

#[tokio::test]
async fn existing_hosts_reply_to_echo_requests() {
    for address in ["127.0.0.1:0", "[::1]:0", "127.5.6.7:0"] {
        assert_eq!(result(address.parse().unwrap(), Probe::Icmp).await, "ok", "{address}");
    }
    let many = (0..50).map(|_| tokio::spawn(result("127.0.0.1:0".parse().unwrap(), Probe::Icmp)));
    for each in many.collect::<Vec<_>>() {
        assert_eq!(each.await.unwrap(), "ok");
    }
}
