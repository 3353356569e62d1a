//! Free ports that stay free across a restart.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Result, bail};

use crate::secret;

const FIRST: u16 = 15_000;
const LAST: u16 = 32_000;

/// A loopback port nobody listens on.
///
/// Below the range from which the system takes the ports of outgoing connections: a port from that range could be lost
/// to any client while a killed server restarts.
pub fn free() -> Result<u16> {
    for _ in 0..200 {
        let port = FIRST + u16::from_le_bytes(secret::random()?) % (LAST - FIRST);
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1: 200 tries between {FIRST} and {LAST} were all taken")
}

/// `wanted` if it is free, else another.
pub fn this_or_free(wanted: u16) -> Result<u16> {
    if is_free(wanted) { Ok(wanted) } else { free() }
}

/// The port noted in `file` by an earlier run if it is still free, else another, which is noted. Keeps the URLs of a
/// checkout's servers the same from day to day.
pub(super) fn noted_or_free(file: &Path) -> Result<u16> {
    let noted = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    if let Some(port) = noted.filter(|port| is_free(*port)) {
        return Ok(port);
    }
    let port = free()?;
    fs::write(file, port.to_string())?;
    Ok(port)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
