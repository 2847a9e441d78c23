//! A TCP proxy that can be told to misbehave.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

#[derive(Clone, PartialEq)]
enum Answers {
    Pass,
    /// Lost from when the client has sent this text on.
    LostAfter(String),
    Lost,
}

/// Between a client and a server.
pub struct Proxy {
    port: u16,
    answers: Arc<Mutex<Answers>>,
    cut: watch::Sender<u64>,
}

impl Proxy {
    pub async fn start(url: &str) -> Self {
        let server = url.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = Arc::new(Mutex::new(Answers::Pass));
        let (cut, cuts) = watch::channel(0);
        let shared = answers.clone();
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                let Ok(upstream) = TcpStream::connect(&server).await else { continue };
                let (client_reads, client_writes) = client.into_split();
                let (server_reads, server_writes) = upstream.into_split();
                tokio::spawn(copy(client_reads, server_writes, cuts.clone(), shared.clone(), true));
                tokio::spawn(copy(server_reads, client_writes, cuts.clone(), shared.clone(), false));
            }
        });
        Self { port, answers, cut }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// What the server says gets lost, from the moment at which the client sends `text`.
    pub fn swallow_answers_after(&self, text: &str) {
        *self.answers.lock().unwrap() = Answers::LostAfter(text.into());
    }

    pub fn pass_everything(&self) {
        *self.answers.lock().unwrap() = Answers::Pass;
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
    answers: Arc<Mutex<Answers>>,
    from_client: bool,
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
        {
            let mut answers = answers.lock().unwrap();
            if !from_client && *answers == Answers::Lost {
                continue;
            }
            if let (true, Answers::LostAfter(text)) = (from_client, &*answers)
                && buffer[..n].windows(text.len()).any(|window| window == text.as_bytes())
            {
                *answers = Answers::Lost;
            }
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
