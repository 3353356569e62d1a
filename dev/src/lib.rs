//! Sets up, runs and tests Millwork on one machine, with nothing but the standard library and a handful of small crates:
//! this is what a fresh machine compiles first.
//!
//! The binary is `cargo dev`; the library serves other crates' tests, which start, kill and restart real servers and
//! real processes with it.

/// `cargo dev bench`.
pub mod bench;
/// `cargo dev chaos`.
pub mod chaos;
/// `cargo dev fuzz`.
pub mod fuzz;
/// A small blocking HTTP/1.1 client, and a receiver for one's own webhooks.
pub mod http;
/// Ctrl-C and the overall deadline, seen by every wait.
pub mod interrupt;
/// Millwork's own processes: started, watched, killed.
pub mod process;
/// A folder of one's own that goes when its value does.
pub mod scratch;
/// Private PostgreSQL and Redis servers.
pub mod services;
/// Verifies a Standard Webhooks signature as a receiver does.
pub mod signature;
/// `cargo dev test`.
pub mod suite;
/// What std has no safe form of: signals, and children that die with their parent.
pub mod sys;
/// What the tool says, and how it looks on a terminal.
pub mod terminal;
/// `cargo dev up`.
pub mod up;
/// Waiting with a deadline.
pub mod wait;
/// A TCP proxy by which connections are lost, as networks lose them.
pub mod wire;
/// This checkout as cargo sees it, and building it.
pub mod workspace;

/// Commands of others (cargo, apt-get), run with visible progress.
mod command;
/// Random bytes for keys and passwords.
mod secret;
