use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A mail server that takes everything.
pub struct MailServer {
    subjects: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    pub fn start_at(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let server = Self { subjects: Arc::default() };
        let subjects = server.subjects.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let subjects = subjects.clone();
                thread::spawn(move || converse(&stream, &subjects));
            }
        });
        server
    }

    /// Of the mails taken so far, sorted.
    pub fn subjects(&self) -> Vec<String> {
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner).clone();
        subjects.sort_unstable();
        subjects
    }
}

fn converse(mut stream: &TcpStream, subjects: &Mutex<Vec<String>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    stream.write_all(b"220 mail.example.com\r\n")?;
    while let Some(line) = lines.next() {
        let command = line?.to_ascii_uppercase();
        let answer: &[u8] = match command.get(..4) {
            Some("DATA") => {
                stream.write_all(b"354 go on\r\n")?;
                let mut subject = String::new();
                for line in lines.by_ref() {
                    let line = line?;
                    if line == "." {
                        break;
                    }
                    if let Some(text) = line.strip_prefix("Subject: ") {
                        subject = text.to_owned();
                    }
                }
                subjects.lock().unwrap_or_else(PoisonError::into_inner).push(subject);
                b"250 taken\r\n"
            }
            Some("QUIT") => return stream.write_all(b"221 bye\r\n"),
            _ => b"250 ok\r\n",
        };
        stream.write_all(answer)?;
    }
    Ok(())
}
