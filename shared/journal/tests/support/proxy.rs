//! A TCP proxy that can be told to misbehave.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// Between a client and a server.
pub struct Proxy {
    port: u16,
    swallow: Arc<AtomicBool>,
    cut: watch::Sender<u64>,
}

impl Proxy {
    pub async fn start(url: &str) -> Self {
        let server = url.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let swallow = Arc::new(AtomicBool::new(false));
        let (cut, cuts) = watch::channel(0);
        let swallowing = swallow.clone();
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                let Ok(upstream) = TcpStream::connect(&server).await else { continue };
                let (client_reads, client_writes) = client.into_split();
                let (server_reads, server_writes) = upstream.into_split();
                tokio::spawn(copy(client_reads, server_writes, cuts.clone(), None));
                tokio::spawn(copy(server_reads, client_writes, cuts.clone(), Some(swallowing.clone())));
            }
        });
        Self { port, swallow, cut }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// What the server says gets lost.
    pub fn swallow_answers(&self, on: bool) {
        self.swallow.store(on, Ordering::SeqCst);
    }

    /// Ends every connection; new ones are let through.
    pub fn cut(&self) {
        self.cut.send_modify(|n| *n += 1);
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut cuts: watch::Receiver<u64>,
    swallow: Option<Arc<AtomicBool>>,
) {
    cuts.mark_unchanged();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = cuts.changed() => return,
        };
        let Ok(n) = read else { return };
        if n == 0 {
            return;
        }
        if swallow.as_ref().is_some_and(|swallow| swallow.load(Ordering::SeqCst)) {
            continue;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
