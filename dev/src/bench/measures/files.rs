use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{ROUNDS, shown};
use crate::bench::figure::{Figure, Target, rounded};
use crate::bench::report::Report;
use crate::bench::site::{Ground, Site};
use crate::bench::{Options, memory, statistics};
use crate::command;

const PIECE: usize = 1024 * 1024;
/// A GiB.
const PIECES: usize = 1024;
const LIMIT: Duration = Duration::from_secs(120);

/// A GiB up and down, by turns with `cp` and `sha256sum` of as much on the same disk.
pub fn run(ground: &Ground, _: &Options, report: &mut Report) -> Result<()> {
    let mut site = Site::open(ground)?;
    site.psql.rows("update api_keys set permissions = permissions || '{files:read,files:write}';")?;
    let piece: Vec<u8> = (0..PIECE).map(|n| b"abcdefghijklmnopqrstuvwxyz 0123456789\n"[n * 7919 % 38]).collect();
    let original = ground.scratch.path().join("original");
    let mut file = File::create(&original)?;
    (0..PIECES).try_for_each(|_| file.write_all(&piece))?;
    file.sync_all()?;
    let (mut up, mut down, mut copied) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        copied.push(rate(|| copy(&original))?);
        let mut id = String::new();
        up.push(rate(|| {
            id = upload(&site, &piece)?;
            Ok(())
        })?);
        down.push(rate(|| download(&site, &id))?);
    }
    let peak = memory::resident(site.api.pid()).map(|resident| resident.peak_mb);
    let copy = statistics::median(&copied);
    for (name, rates) in [("files.upload", &up), ("files.download", &down)] {
        report.add(
            Figure::new(name, statistics::median(rates) / copy, "of cp + sha256sum")
                .target(Target::AtLeast(0.7))
                .with("mb_per_s", shown(rates))
                .with("cp_and_sha256sum_mb_per_s", shown(&copied)),
        );
    }
    if let Some(peak) = peak {
        report.add(Figure::new("files.api_peak", rounded(peak), "MB").target(Target::AtMost(96.0)));
    }
    Ok(())
}

/// MB (of 2^20 bytes) a second.
fn rate(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    work()?;
    Ok((PIECES * PIECE) as f64 / (1 << 20) as f64 / began.elapsed().as_secs_f64())
}

fn copy(original: &Path) -> Result<()> {
    let target = original.with_extension("copy");
    let mut cp = Command::new("cp");
    cp.arg(original).arg(&target);
    command::run("cp", cp, LIMIT)?;
    let mut sum = Command::new("sha256sum");
    sum.arg(&target);
    command::run("sha256sum", sum, LIMIT)?;
    fs::remove_file(&target)?;
    Ok(())
}

fn connect(site: &Site<'_>) -> Result<TcpStream> {
    let stream = TcpStream::connect(&site.address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

fn upload(site: &Site<'_>, piece: &[u8]) -> Result<String> {
    let head =
        "--0b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\ncontent-type: text/plain\r\n\r\n";
    let tail = "\r\n--0b--\r\n";
    let length = head.len() + PIECES * piece.len() + tail.len();
    let mut stream = connect(site)?;
    write!(
        stream,
        "POST /api/v1/files/upload HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary=0b\r\ncontent-length: {length}\r\n\r\n{head}",
        site.address, site.key
    )?;
    (0..PIECES).try_for_each(|_| stream.write_all(piece))?;
    stream.write_all(tail.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 201"), "the upload was answered {answer}");
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let body: Value = serde_json::from_str(body)?;
    Ok(body["data"]["id"].as_str().context("no id")?.to_owned())
}

fn download(site: &Site<'_>, id: &str) -> Result<()> {
    let mut stream = connect(site)?;
    write!(
        stream,
        "GET /api/v1/files/{id}/content HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        site.address, site.key
    )?;
    let mut stream = BufReader::with_capacity(PIECE, stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    ensure!(line.starts_with("HTTP/1.1 200"), "the download was answered {line}");
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line)?;
    }
    let (mut seen, mut buffer) = (0, vec![0; PIECE]);
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            n => seen += n,
        }
    }
    ensure!(seen == PIECES * PIECE, "{seen} bytes came");
    Ok(())
}
