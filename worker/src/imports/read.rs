//! Records of a file, one after the other: CSV (RFC 4180, with a line of names) or an object a line.
//!
//! They are read on a thread that may block, which is held back while nobody takes them. Whatever the file, a few records of a bounded size
//! are in memory.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use futures::TryStreamExt;
use millwork_shared::imports::Format;
use millwork_shared::infra::storage::ByteStream;
use millwork_shared::{Error, Fault};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Bytes of a record.
const MOST_BYTES: usize = 256 * 1024;
/// Records that are read ahead.
const AHEAD: usize = 32;

/// How a value is written in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    /// Of texts; in a cell, with semicolons between them.
    List,
    Whole,
    Truth,
    Json,
}

/// A field of a row.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub form: Form,
    pub required: bool,
}

impl Column {
    pub const fn required(name: &'static str, form: Form) -> Self {
        Self { name, form, required: true }
    }

    pub const fn optional(name: &'static str, form: Form) -> Self {
        Self { name, form, required: false }
    }
}

/// A record: what it says, or what is wrong with it. Every field is one of the columns, and has its form.
pub type Record = Result<Map<String, Value>, Vec<Fault>>;

/// Why a file is read no further.
#[derive(Debug)]
pub enum Stop {
    /// It is no such file.
    Refused { code: &'static str, detail: String },
    /// It could not be read.
    Failed(Error),
}

/// Reads `bytes` until they end, or nobody wants records any more.
pub fn records(bytes: ByteStream, format: Format, columns: &'static [Column]) -> mpsc::Receiver<Result<Record, Stop>> {
    let (to, records) = mpsc::channel(AHEAD);
    let bytes = SyncIoBridge::new(StreamReader::new(bytes.map_err(io::Error::other)));
    tokio::task::spawn_blocking(move || {
        let read = match format {
            Format::Csv => csv(bytes, columns, &to),
            Format::Ndjson => lines(bytes, columns, &to),
        };
        if let Err(stop) = read {
            let _ = to.blocking_send(Err(stop)); // or nobody is there to hear it
        }
    });
    records
}

/// Gives so many bytes for a record, and then an error: csv has no bound of its own.
struct Bounded<R> {
    bytes: R,
    given: Rc<Cell<usize>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given.get() > MOST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let n = self.bytes.read(buffer)?;
        self.given.set(self.given.get() + n);
        Ok(n)
    }
}

type Sender = mpsc::Sender<Result<Record, Stop>>;

fn csv(bytes: impl Read, columns: &[Column], to: &Sender) -> Result<(), Stop> {
    let given = Rc::new(Cell::new(0));
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(Bounded { bytes, given: given.clone() });
    let head = reader.byte_headers().map_err(unreadable)?.clone();
    let head = named(&head, columns)?;
    let mut record = csv::ByteRecord::new();
    loop {
        given.set(0);
        if !reader.read_byte_record(&mut record).map_err(unreadable)? {
            return Ok(());
        }
        if to.blocking_send(Ok(cells(&record, &head))).is_err() {
            return Ok(());
        }
    }
}

/// The columns that the line of names names.
fn named<'a>(head: &csv::ByteRecord, columns: &'a [Column]) -> Result<Vec<&'a Column>, Stop> {
    let known = || columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
    let refused = |detail| Stop::Refused { code: "columns_invalid", detail };
    let mut named: Vec<&Column> = Vec::new();
    for name in head {
        let name = String::from_utf8_lossy(name);
        let name: String = name.trim().chars().take(100).collect();
        let Some(column) = columns.iter().find(|column| column.name == name) else {
            return Err(refused(format!("`{name}` in the first line is no column; those are {}", known())));
        };
        if named.iter().any(|other| other.name == name) {
            return Err(refused(format!("the first line has the column `{name}` twice")));
        }
        named.push(column);
    }
    match columns.iter().find(|column| column.required && named.iter().all(|other| other.name != column.name)) {
        Some(missing) => Err(refused(format!("the first line lacks the column `{}`", missing.name))),
        None => Ok(named),
    }
}

fn cells(record: &csv::ByteRecord, head: &[&Column]) -> Record {
    if record.len() != head.len() {
        let detail = format!("has {} fields, and the first line has {}", record.len(), head.len());
        return Err(vec![Fault::new("", "fields", detail)]);
    }
    let (mut row, mut faults) = (Map::new(), Vec::new());
    for (cell, column) in record.iter().zip(head) {
        match std::str::from_utf8(cell).map_err(|_| "is not UTF-8".to_owned()).and_then(|cell| value(cell, column.form))
        {
            Ok(Some(value)) => drop(row.insert(column.name.to_owned(), value)),
            Ok(None) if !column.required => {}
            Ok(None) => faults.push(Fault::new(format!("/{}", column.name), "required", "is required")),
            Err(detail) => faults.push(Fault::new(format!("/{}", column.name), "type", detail)),
        }
    }
    if faults.is_empty() { Ok(row) } else { Err(faults) }
}

/// What a cell says; None for an empty one.
fn value(cell: &str, form: Form) -> Result<Option<Value>, String> {
    let cell = cell.trim();
    if cell.is_empty() {
        return Ok(None);
    }
    Ok(Some(match form {
        Form::Text => cell.into(),
        Form::List => cell.split(';').map(str::trim).filter(|text| !text.is_empty()).collect::<Vec<_>>().into(),
        Form::Whole => cell.parse::<i64>().map_err(|_| "must be a whole number".to_owned())?.into(),
        Form::Truth => cell.parse::<bool>().map_err(|_| "must be true or false".to_owned())?.into(),
        Form::Json => serde_json::from_str(cell).map_err(|error| format!("must be JSON: {error}"))?,
    }))
}

fn lines(bytes: impl Read, columns: &[Column], to: &Sender) -> Result<(), Stop> {
    let mut bytes = BufReader::new(bytes);
    let mut line = Vec::new();
    let mut first = true;
    loop {
        line.clear();
        bytes.by_ref().take(MOST_BYTES as u64 + 1).read_until(b'\n', &mut line).map_err(stop)?;
        if line.len() > MOST_BYTES {
            return Err(stop(io::ErrorKind::FileTooLarge.into()));
        }
        if line.is_empty() {
            return Ok(());
        }
        let text = if std::mem::take(&mut first) { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
        if !text.trim_ascii().is_empty() && to.blocking_send(Ok(object(text, columns))).is_err() {
            return Ok(());
        }
    }
}

fn object(line: &[u8], columns: &[Column]) -> Record {
    let row = match serde_json::from_slice(line) {
        Ok(Value::Object(row)) => row,
        Ok(_) => return Err(vec![Fault::new("", "type", "must be an object")]),
        Err(error) => return Err(vec![Fault::new("", "json", format!("is no JSON: {error}"))]),
    };
    let row: Map<String, Value> = row.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let mut faults = Vec::new();
    for (name, value) in &row {
        let shown: String = name.chars().take(100).collect();
        let pointer = format!("/{}", shown.replace('~', "~0").replace('/', "~1"));
        let wanted = match columns.iter().find(|column| column.name == name).map(|column| column.form) {
            None => {
                faults.push(Fault::new(pointer, "unknown_field", "is not a field of this object"));
                continue;
            }
            Some(Form::Text) if !value.is_string() => "a text",
            Some(Form::List) if !value.as_array().is_some_and(|texts| texts.iter().all(Value::is_string)) => {
                "a list of texts"
            }
            Some(Form::Whole) if !value.is_i64() => "a whole number",
            Some(Form::Truth) if !value.is_boolean() => "true or false",
            Some(_) => continue,
        };
        faults.push(Fault::new(pointer, "type", format!("must be {wanted}")));
    }
    for missing in columns.iter().filter(|column| column.required && !row.contains_key(column.name)) {
        faults.push(Fault::new(format!("/{}", missing.name), "required", "is required"));
    }
    if faults.is_empty() { Ok(row) } else { Err(faults) }
}

fn unreadable(error: csv::Error) -> Stop {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => stop(error),
        kind => Stop::Failed(anyhow::anyhow!("csv: {kind:?}").into()),
    }
}

/// What an error of the reader means.
fn stop(error: io::Error) -> Stop {
    if error.kind() == io::ErrorKind::FileTooLarge {
        let detail = format!("a row has at most {MOST_BYTES} bytes; perhaps a quote was opened and not closed");
        return Stop::Refused { code: "row_too_large", detail };
    }
    match error.downcast::<Error>() {
        Ok(error) => Stop::Failed(error),
        Err(error) => Stop::Failed(anyhow::Error::from(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::StreamExt;
    use futures::stream;
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        Column::required("name", Form::Text),
        Column::optional("tags", Form::List),
        Column::optional("n", Form::Whole),
        Column::optional("on", Form::Truth),
        Column::optional("extra", Form::Json),
    ];

    /// The file in pieces of seven bytes.
    async fn read(format: Format, text: &[u8]) -> Result<Vec<Result<Value, Vec<String>>>, String> {
        let pieces: Vec<_> = text.chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut records = records(stream::iter(pieces).boxed(), format, COLUMNS);
        let mut read = Vec::new();
        while let Some(record) = records.recv().await {
            match record {
                Ok(record) => read.push(record.map(Value::Object).map_err(|faults| {
                    faults.into_iter().map(|fault| format!("{} {}", fault.pointer, fault.code)).collect()
                })),
                Err(Stop::Refused { code, .. }) => return Err(code.to_owned()),
                Err(Stop::Failed(error)) => return Err(error.to_string()),
            }
        }
        Ok(read)
    }

    #[tokio::test]
    async fn cells_become_what_their_columns_are() {
        let text = "\u{feff}name,tags,n,on,extra\r\n\"a, \"\"b\"\"\nc\",x; y;,7,true,\"{\"\"k\"\":1}\"\r\nb,,,,\r\n";
        let rows = read(Format::Csv, text.as_bytes()).await.unwrap();
        let first = json!({ "name": "a, \"b\"\nc", "tags": ["x", "y"], "n": 7, "on": true, "extra": { "k": 1 } });
        assert_eq!(rows, [Ok(first), Ok(json!({ "name": "b" }))]);
    }

    #[tokio::test]
    async fn a_row_that_is_wrong_says_where_and_the_next_one_is_read() {
        let text = b"name,n,extra\n,x,{\na,1\n\xff,1,\nb,1,\n";
        let rows = read(Format::Csv, text).await.unwrap();
        let wrong = |faults: &[&str]| Err(faults.iter().map(|fault| (*fault).to_owned()).collect());
        let all = ["/name required", "/n type", "/extra type"];
        assert_eq!(rows[..3], [wrong(&all), wrong(&[" fields"]), wrong(&["/name type"])]);
        assert_eq!(rows[3], Ok(json!({ "name": "b", "n": 1 })));

        let text = "\u{feff}{\"name\":\"a\",\"n\":null}\n\n[]\n{\n{\"n\":1.5,\"tags\":[1],\"x/y\":0}\n{\"name\":\"b\"}";
        let rows = read(Format::Ndjson, text.as_bytes()).await.unwrap();
        let all = ["/n type", "/tags type", "/x~1y unknown_field", "/name required"];
        let expected = [Ok(json!({ "name": "a" })), wrong(&[" type"]), wrong(&[" json"]), wrong(&all)];
        assert_eq!(rows[..4], expected);
        assert_eq!(rows[4], Ok(json!({ "name": "b" })));
    }

    #[tokio::test]
    async fn a_file_of_another_kind_is_refused() {
        for (text, code) in [
            ("name,nome\nx,y\n", "columns_invalid"),
            ("tags\nx\n", "columns_invalid"),
            ("name,name\nx,y\n", "columns_invalid"),
            ("", "columns_invalid"),
        ] {
            assert_eq!(read(Format::Csv, text.as_bytes()).await, Err(code.to_owned()), "{text}");
        }
        let unclosed = format!("name\n\"{}", "x,\n".repeat(200_000));
        assert_eq!(read(Format::Csv, unclosed.as_bytes()).await, Err("row_too_large".to_owned()));
        let long = format!("{{\"name\":\"{}\"}}", "x".repeat(300_000));
        assert_eq!(read(Format::Ndjson, long.as_bytes()).await, Err("row_too_large".to_owned()));
    }

    #[tokio::test]
    async fn what_keeps_storage_from_answering_is_told_as_it_is() {
        let broken = Error::Unavailable { dependency: "storage", cause: "gone".into() };
        let pieces = stream::iter([Ok(Bytes::from_static(b"name\na\n")), Err(broken)]).boxed();
        let mut records = records(pieces, Format::Csv, COLUMNS);
        let mut last = None;
        while let Some(record) = records.recv().await {
            last = Some(record);
        }
        assert!(matches!(last, Some(Err(Stop::Failed(Error::Unavailable { .. })))), "{last:?}");
    }
}
