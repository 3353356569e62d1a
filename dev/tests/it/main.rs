//! What Millwork promises, tested by breaking things, and what a collector sees of it: real servers, real processes, real
//! signals.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod support;
mod traces;
