//! Rows as CSV (RFC 4180), a JSON array, or an object a line.

use std::io::Write;

use millwork_shared::Result;
use millwork_shared::exports::Format;
use millwork_shared::exports::source::{Column, Form};

/// Characters at which a spreadsheet takes a cell for a formula (OWASP, CSV Injection).
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// Writes rows one after the other; whoever reads takes what has gathered.
pub struct Encoder {
    columns: &'static [Column],
    format: Format,
    csv: csv::Writer<Vec<u8>>,
    text: Vec<u8>,
    /// Rows so far.
    rows: u64,
}

impl Encoder {
    pub fn new(columns: &'static [Column], format: Format) -> Result<Self> {
        let csv = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        let mut encoder = Self { columns, format, csv, text: Vec::new(), rows: 0 };
        match format {
            Format::Csv => encoder.csv.write_record(columns.iter().map(|column| column.name)).map_err(failed)?,
            Format::Json => encoder.text.push(b'['),
            Format::Ndjson => {}
        }
        Ok(encoder)
    }

    /// Adds a row; values are in the order of the columns.
    pub fn row(&mut self, values: &[Option<&str>]) -> Result<()> {
        match self.format {
            Format::Csv => self.csv_row(values)?,
            Format::Json => {
                self.text.extend_from_slice(if self.rows == 0 { b"\n" } else { b",\n" });
                self.object(values)?;
            }
            Format::Ndjson => {
                self.object(values)?;
                self.text.push(b'\n');
            }
        }
        self.rows += 1;
        Ok(())
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes that nobody has taken yet. Of CSV some more are on their way.
    pub fn gathered(&self) -> usize {
        self.text.len() + self.csv.get_ref().len()
    }

    /// What has gathered.
    pub fn take(&mut self) -> Result<Vec<u8>> {
        if self.format != Format::Csv {
            return Ok(std::mem::take(&mut self.text));
        }
        let next = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        std::mem::replace(&mut self.csv, next).into_inner().map_err(|error| failed(error.into_error().into()))
    }

    /// What ends it.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        if self.format == Format::Json {
            self.text.extend_from_slice(b"\n]\n");
        }
        self.take()
    }

    fn csv_row(&mut self, values: &[Option<&str>]) -> Result<()> {
        for (column, value) in self.columns.iter().zip(values) {
            let value = value.unwrap_or_default();
            if column.form != Form::Plain && value.starts_with(FORMULA) {
                self.csv.write_field(format!("'{value}"))
            } else {
                self.csv.write_field(value)
            }
            .map_err(failed)?;
        }
        self.csv.write_record(None::<&[u8]>).map_err(failed)
    }

    fn object(&mut self, values: &[Option<&str>]) -> Result<()> {
        for (n, (column, value)) in self.columns.iter().zip(values).enumerate() {
            self.text.push(if n == 0 { b'{' } else { b',' });
            write!(self.text, "\"{}\":", column.name).map_err(anyhow::Error::from)?;
            match (value, column.form) {
                (None, _) => self.text.extend_from_slice(b"null"),
                (Some(value), Form::Plain | Form::Json) => self.text.extend_from_slice(value.as_bytes()),
                (Some(value), Form::Text) => serde_json::to_writer(&mut self.text, value)?,
            }
        }
        self.text.push(b'}');
        Ok(())
    }
}

fn failed(error: csv::Error) -> millwork_shared::Error {
    anyhow::Error::from(error).into()
}

#[cfg(test)]
mod tests {
    use millwork_shared::exports::Resource;
    use millwork_shared::exports::source::Source;
    use serde_json::Value;

    use super::*;

    fn encoded(format: Format, rows: &[&[Option<&str>]]) -> String {
        let mut encoder = Encoder::new(Source::of(Resource::Events).unwrap().columns, format).unwrap();
        let mut text = Vec::new();
        for row in rows {
            encoder.row(row).unwrap();
            text.extend(encoder.take().unwrap());
        }
        text.extend(encoder.finish().unwrap());
        String::from_utf8(text).unwrap()
    }

    const ROW: &[Option<&str>] = &[Some("1"), Some("a\"b,\nc"), Some("{\"x\": 1.50}"), Some("t"), None];

    #[test]
    fn csv_is_quoted_where_it_must_be_and_ends_lines_as_rfc_4180_says() {
        assert_eq!(
            encoded(Format::Csv, &[ROW]),
            "id,type,payload,created_at,request_id\r\n1,\"a\"\"b,\nc\",\"{\"\"x\"\": 1.50}\",t,\r\n"
        );
    }

    #[test]
    fn no_cell_begins_as_a_formula_does() {
        for evil in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            let text = encoded(Format::Csv, &[&[Some(evil), Some(evil), Some("x"), None, None]]);
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let record = reader.records().next().unwrap().unwrap();
            assert_eq!(&record[0], format!("'{evil}"), "{text}");
        }
        let columns: &[Column] = Source::of(Resource::Jobs).unwrap().columns;
        let mut encoder = Encoder::new(columns, Format::Csv).unwrap();
        let values: Vec<_> = columns.iter().map(|c| (c.form == Form::Plain).then_some("-5")).collect();
        encoder.row(&values).unwrap();
        assert!(!String::from_utf8(encoder.finish().unwrap()).unwrap().contains('\''), "a number is left as it is");
    }

    #[test]
    fn json_keeps_numbers_and_json_and_quotes_text() {
        let array: Vec<Value> = serde_json::from_str(&encoded(Format::Json, &[ROW, ROW])).unwrap();
        assert_eq!(array.len(), 2);
        assert_eq!((&array[0]["type"], &array[0]["request_id"]), (&Value::from("a\"b,\nc"), &Value::Null));
        assert!(encoded(Format::Json, &[ROW]).contains("\"payload\":{\"x\": 1.50}"), "as it was stored");
        assert_eq!(serde_json::from_str::<Vec<Value>>(&encoded(Format::Json, &[])).unwrap().len(), 0);
        let lines = encoded(Format::Ndjson, &[ROW, ROW]);
        assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()) && lines.lines().count() == 2);
    }
}
