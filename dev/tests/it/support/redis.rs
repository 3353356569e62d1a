use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use millwork_dev::services::Redis;

/// What Redis answers to `command`, in its own wire format: `+OK`, `:3`.
pub fn redis(server: &Redis, command: &str) -> String {
    let url = server.url();
    let password = url.strip_prefix("redis://:").and_then(|rest| rest.split('@').next()).unwrap();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "AUTH {password}\r\n{command}\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let lines: Vec<&str> = answer.lines().collect();
    lines[1..lines.len() - 1].join(" ")
}
