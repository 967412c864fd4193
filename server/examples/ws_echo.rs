//! An echo server over the hub's own handshake and frames, for `ci/autobahn`.
#![expect(clippy::print_stderr, reason = "an example says where it listens")]

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, taskwatch_server::simulation::echo()).await?)
}
