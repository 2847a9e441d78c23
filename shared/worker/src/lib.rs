//! Doing tasks: what executors and collectors have in common.
//!
//! # Promise
//! - A task is done at least once, and its result is stored in SIGNALS before the task is acknowledged. Results of one
//!   partition that pile up while a publish is in flight go out together.
//! - At any time at most one worker does a task, as far as a lease can say so: a worker that gets no answer for
//!   [`WorkerOptions::lease`] stops its tasks and reports nothing about them, and the server hands a task to another
//!   worker only after two leases and the time that stopping takes. What a lease cannot rule out (a process that is
//!   paused between a check and a change) the target does, by the task's fence.
//! - A task that is handed to this worker again while it is still at it is not started twice.
//!
//! # A crash in the middle
//! The server delivers the task again, to any worker of the pool, with a higher delivery count in its fence. When the
//! server restarts, TASKS and its consumer are gone (they live in memory): both are created again, and work goes on.
//! Once a second the worker announces what it holds, so that the journal does not send it a second time.
//!
//! ```no_run
//! use cdflow_protocol::v1::{Task, TaskResult};
//! use cdflow_worker::{Handler, TaskContext, Worker, WorkerOptions, succeeded};
//!
//! struct Greeter;
//!
//! impl Handler for Greeter {
//!     async fn perform(&self, task: Task, _context: TaskContext) -> TaskResult {
//!         succeeded(format!("hello from {}", task.step_id))
//!     }
//! }
//!
//! # async fn example(bus: cdflow_bus::Bus, stop: tokio_util::sync::CancellationToken) -> Result<(), cdflow_bus::Error> {
//! Worker::new(bus, WorkerOptions::new("executor", "default", "host-7")).run(Greeter, stop).await
//! # }
//! ```

mod contact;
mod context;
mod held;
mod intake;
mod lease;
mod options;
mod perform;
mod results;
mod span;
mod worker;

pub use context::{StopReason, TaskContext};
pub use options::WorkerOptions;
pub use results::{failed, succeeded};
pub use worker::{Handler, Worker};
