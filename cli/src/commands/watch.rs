//! Following a run: a live tree where a person looks, a line for each thing that happens elsewhere.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cdflow_console::api::{Outcome, RunStatus, RunView, event};
use console::Term;
use futures::{StreamExt as _, pin_mut};

use crate::{client::Client, exit::Failure, show};

/// When following stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Until {
    /// The run waits for a person, is promoted everywhere, or has ended.
    Waiting,
    /// The run is promoted everywhere or has ended; watching goes on without us.
    Promoted,
    /// The run has ended.
    End,
}

/// How it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Look {
    /// The whole run, drawn again and again.
    Tree,
    /// A line for each thing that happens.
    Timeline,
    /// A JSON object a line for each change.
    Json,
}

/// Follows a run until `until`.
///
/// # Errors
/// [`Failure::RunFailed`] when it ended otherwise than well.
pub(crate) async fn follow(client: &Client, run: &str, until: Until, look: Look) -> Result<()> {
    follow_from(client, run, until, Screen::new(look)).await
}

/// Follows the timeline of a run after what `seen` shows.
///
/// # Errors
/// As [`follow`].
pub(crate) async fn follow_after(client: &Client, seen: &RunView, until: Until) -> Result<()> {
    let mut screen = Screen::new(Look::Timeline);
    screen.timeline.pass_over(seen);
    follow_from(client, &seen.id, until, screen).await
}

/// How long a console that has answered before may be away.
const PATIENCE: Duration = Duration::from_secs(60);

/// How one connection ended.
enum Connection {
    /// Nothing more is to be seen.
    Done,
    /// In the middle.
    Lost,
}

async fn follow_from(client: &Client, run: &str, until: Until, mut screen: Screen) -> Result<()> {
    let mut lost: Option<Instant> = None;
    loop {
        match watch(client, run, until, &mut screen).await {
            Ok(Connection::Done) => return Ok(()),
            // The console was restarted: the run goes on without it, and so do we.
            Ok(Connection::Lost) => lost = Some(Instant::now()),
            Err(error) if is_away(&error) && lost.is_some_and(|at| at.elapsed() < PATIENCE) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Whether the console, or what is in front of it, may answer otherwise in a moment.
fn is_away(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(Failure::Unreachable { .. }) => true,
        Some(Failure::Refused(problem)) => problem.status >= 500,
        Some(Failure::Unexpected { status }) => *status >= 500,
        _ => false,
    }
}

async fn watch(client: &Client, run: &str, until: Until, screen: &mut Screen) -> Result<Connection> {
    let events = client.events(&format!("/runs/{run}/watch"), &()).await?;
    pin_mut!(events);
    let mut seen: Option<RunView> = None;
    let mut clock = tokio::time::interval(Duration::from_millis(250));
    loop {
        let event = tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => event,
                Some(Err(_)) | None => return Ok(Connection::Lost),
            },
            _ = clock.tick() => {
                if let Some(run) = &seen {
                    screen.redraw(run);
                }
                continue;
            }
        };
        if event.name == event::RUN {
            let run: RunView =
                serde_json::from_str(&event.data).context("a run that this version of cdflow understands")?;
            screen.show(&run)?;
            if is_reached(&run, until) {
                return judge(&run).map(|()| Connection::Done);
            }
            seen = Some(run);
        } else if event.name == event::END {
            return seen.as_ref().map_or(Ok(()), judge).map(|()| Connection::Done);
        }
    }
}

fn is_reached(run: &RunView, until: Until) -> bool {
    let asks_people = run.approvals.iter().any(|approval| approval.outcome.is_none());
    match until {
        _ if run.outcome.is_some() => true,
        Until::End => false,
        Until::Promoted => run.status == RunStatus::Watching,
        Until::Waiting => run.status == RunStatus::Watching || (asks_people && run.status == RunStatus::Waiting),
    }
}

fn judge(run: &RunView) -> Result<()> {
    match run.outcome {
        None | Some(Outcome::Succeeded | Outcome::Superseded | Outcome::Skipped) => Ok(()),
        Some(_) => Err(Failure::RunFailed(format!("run {} did not succeed", run.number)).into()),
    }
}

struct Screen {
    look: Look,
    timeline: show::Timeline,
    terminal: Term,
    drawn: usize,
}

impl Screen {
    fn new(look: Look) -> Self {
        Self { look, timeline: show::Timeline::default(), terminal: Term::stdout(), drawn: 0 }
    }

    fn show(&mut self, run: &RunView) -> Result<()> {
        match self.look {
            Look::Json => show::line(serde_json::to_string(run)?),
            Look::Timeline => self.timeline.show(run),
            Look::Tree => self.draw(run),
        }
        Ok(())
    }

    /// Times go on while nothing happens.
    fn redraw(&mut self, run: &RunView) {
        if self.look == Look::Tree {
            self.draw(run);
        }
    }

    fn draw(&mut self, run: &RunView) {
        let (rows, columns) = self.terminal.size();
        let mut lines = show::tree(run, false);
        // What does not fit cannot be drawn over.
        lines.truncate(usize::from(rows).saturating_sub(1));
        let _ = self.terminal.clear_last_lines(self.drawn);
        for text in &lines {
            let _ = self.terminal.write_line(&console::truncate_str(text, usize::from(columns), "…"));
        }
        self.drawn = lines.len();
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    fn run(status: &str, outcome: Option<&str>) -> serde_json::Value {
        serde_json::json!({
            "number": 1, "id": "r", "project": "default", "pipeline": "shop", "status": status, "outcome": outcome,
            "initiator": { "kind": "ci", "name": "/ci" }, "cause": "", "started_ms": 0, "reason": "", "stages": [],
            "waiting": [], "approvals": [], "trace_id": "", "revision": 1, "sequence": 1,
        })
    }

    /// Answers one request with one event, and closes the connection.
    async fn answer(listener: &TcpListener, data: &serde_json::Value) {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let _ = stream.read(&mut [0; 4_096]).await.expect("a request");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        let body = format!("{head}event: {}\ndata: {data}\n\n", event::RUN);
        stream.write_all(body.as_bytes()).await.expect("sent");
    }

    async fn console() -> (TcpListener, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = format!("http://{}", listener.local_addr().expect("an address"));
        (listener, Client::new(Some(&server), Some("cdf_x")).expect("a client"))
    }

    #[tokio::test]
    async fn a_run_is_followed_over_a_restart_of_the_console() {
        let (listener, client) = console().await;
        let restarted = async {
            let address = listener.local_addr().expect("an address");
            answer(&listener, &run("running", None)).await;
            drop(listener);
            // Longer than one try takes.
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            let listener = TcpListener::bind(address).await.expect("the same port");
            answer(&listener, &run("finished", Some("succeeded"))).await;
        };
        let (followed, ()) = tokio::join!(follow(&client, "1", Until::End, Look::Json), restarted);
        followed.expect("it succeeded in the end");
    }

    #[tokio::test]
    async fn a_run_that_this_release_does_not_understand_is_an_error() {
        let (listener, client) = console().await;
        let newer = serde_json::json!({});
        let (followed, ()) = tokio::join!(follow(&client, "1", Until::End, Look::Json), answer(&listener, &newer));
        assert!(followed.expect_err("not understood").to_string().contains("this version of cdflow"));
    }
}
