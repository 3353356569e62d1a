//! What the tool asks Redis itself.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Redis;

/// A plain connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(redis: &Redis) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port())).context("cannot connect to Redis")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut connection = Self { stream: BufReader::new(stream) };
        let url = redis.url();
        let password = url.split([':', '@']).nth(2).unwrap_or_default();
        connection.ask(&["AUTH", password])?;
        Ok(connection)
    }

    /// Sends a command and answers what came back, as text; nil is empty, and an array has a line for each part.
    pub fn ask(&mut self, words: &[&str]) -> Result<String> {
        self.send(encoded(words).as_bytes())?;
        self.answer()
    }

    pub fn send(&mut self, commands: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(commands)?)
    }

    pub fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.trim_end();
        let rest = line.get(1..).unwrap_or_default();
        match line.as_bytes().first() {
            Some(b'+' | b':') => Ok(rest.to_owned()),
            Some(b'$') if rest == "-1" => Ok(String::new()),
            Some(b'$') => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Some(b'*') => {
                let answers: Result<Vec<String>> = (0..rest.parse::<usize>()?).map(|_| self.answer()).collect();
                Ok(answers?.join("\n"))
            }
            Some(b'-') => bail!("Redis answered: {rest}"),
            _ => bail!("Redis answered {line:?}, which is not understood here"),
        }
    }

    /// Bytes of stored data: without connections, buffers and the server's own.
    pub fn dataset_bytes(&mut self) -> Result<f64> {
        let answer = self.ask(&["INFO", "memory"])?;
        let fields: HashMap<&str, &str> = answer.lines().filter_map(|line| line.split_once(':')).collect();
        let bytes = fields.get("used_memory_dataset").and_then(|text| text.trim().parse().ok());
        bytes.context("Redis does not tell used_memory_dataset")
    }
}

/// A command in Redis' protocol.
pub fn encoded(words: &[&str]) -> String {
    let each: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{each}", words.len())
}
