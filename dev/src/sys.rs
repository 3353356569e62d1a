//! What std has no safe form of: signals, and children that die with their parent.
#![expect(
    unsafe_code,
    reason = "kill(2), sigaction(2), prctl(2), setsockopt(2) and geteuid(2) have no safe form in std"
)]

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Mutex, OnceLock, mpsc};

use anyhow::Context;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
    Quit,
    Kill,
    Stop,
    Continue,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Self::Interrupt => libc::SIGINT,
            Self::Terminate => libc::SIGTERM,
            Self::Quit => libc::SIGQUIT,
            Self::Kill => libc::SIGKILL,
            Self::Stop => libc::SIGSTOP,
            Self::Continue => libc::SIGCONT,
        }
    }
}

/// Sends `signal` to one process. A process that is gone already is no error.
pub fn send(pid: u32, signal: Signal) -> io::Result<()> {
    // SAFETY: no memory is passed. The pid is positive, so that no process group is meant.
    match unsafe { libc::kill(positive(pid)?, signal.number()) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            gone if gone.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => Err(other),
        },
    }
}

/// Whether a process with this id exists; a zombie counts.
pub fn exists(pid: u32) -> bool {
    let Ok(pid) = positive(pid) else { return false };
    // SAFETY: as in `send`; signal 0 only asks.
    unsafe { libc::kill(pid, 0) == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM) }
}

fn positive(pid: u32) -> io::Result<libc::pid_t> {
    libc::pid_t::try_from(pid)
        .ok()
        .filter(|pid| *pid > 0)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is no process id")))
}

/// The user this process acts as; 0 is root.
pub fn user_id() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Makes the end of this connection a reset: its other end is told at once that it is gone, and what was not sent yet never
/// is.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = std::mem::size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the descriptor is open while `stream` is borrowed, and the value outlives the call.
    let set = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Calls `handler` on Ctrl-C, SIGTERM and a closed terminal.
///
/// The handler runs in signal context: it may touch atomics, read the clock and call [`exit_now`], nothing else.
pub fn on_termination(handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: an all-zero sigaction is a valid one, and `handler` keeps to what signal context allows.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &action, std::ptr::null_mut())
        };
        if installed != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Ends this process at once, without running destructors. For signal handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` is async-signal-safe and does not return.
    unsafe { libc::_exit(code) }
}

/// Starts `command` such that it receives `signal` when this process dies, by whatever death.
///
/// The child gets a process group of its own, so that Ctrl-C in the terminal reaches this process alone, which then
/// stops its children in order. Outside Linux a SIGKILL of this process leaves the child running.
pub fn spawn_bound(mut command: Command, signal: Signal) -> anyhow::Result<Child> {
    command.process_group(0);
    spawn_in_foreground(command, signal)
}

/// The same for a command that shares the terminal: it may ask for a password, and Ctrl-C reaches it directly.
pub fn spawn_in_foreground(mut command: Command, signal: Signal) -> anyhow::Result<Child> {
    bind_to_parent(&mut command, signal);
    let program = command.get_program().to_owned();
    spawn_on_lasting_thread(command).with_context(|| format!("cannot start {}", program.display()))
}

#[cfg(target_os = "linux")]
fn bind_to_parent(command: &mut Command, signal: Signal) {
    let parent = std::process::id();
    // SAFETY: the closure runs between fork and exec, and makes two async-signal-safe calls without allocating.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal.number()) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the call above.
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn bind_to_parent(_: &mut Command, _: Signal) {}

/// The kernel ties such a child to the *thread* that started it. Test threads come and go, so one thread that lasts as
/// long as the process starts them all.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();

    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts processes has ended");
    spawner.lock().map_err(|_| gone())?.send((command, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
