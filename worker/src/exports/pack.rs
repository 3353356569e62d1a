//! Compression as it goes: what goes in comes out in pieces.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::write::GzEncoder;
use millwork_shared::Result;
use millwork_shared::exports::Compression;
use zip::ZipWriter;
use zip::write::{SimpleFileOptions, StreamWriter};

/// Where packed bytes gather until they are taken.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

/// Packs a stream.
pub struct Packer {
    sink: Sink,
    pack: Pack,
}

enum Pack {
    None,
    Gzip(Box<GzEncoder<Sink>>),
    Zip(Box<ZipWriter<StreamWriter<Sink>>>),
}

impl Packer {
    pub fn new(compress: Option<Compression>) -> Self {
        let sink = Sink::default();
        let pack = match compress {
            None => Pack::None,
            Some(Compression::Gzip) => Pack::Gzip(Box::new(GzEncoder::new(sink.clone(), flate2::Compression::fast()))),
            Some(Compression::Zip) => Pack::Zip(Box::new(ZipWriter::new_stream(sink.clone()))),
        };
        Self { sink, pack }
    }

    /// Begins a file; of an archive there may be several.
    pub fn begin(&mut self, name: &str) -> Result<()> {
        if let Pack::Zip(zip) = &mut self.pack {
            // Its size is not known before it is written.
            let options = SimpleFileOptions::default().large_file(true).compression_level(Some(1));
            zip.start_file(name, options).map_err(anyhow::Error::from)?;
        }
        Ok(())
    }

    /// Packs a piece, and answers what has come out so far. Takes a while: for a thread that may block.
    pub fn push(&mut self, piece: Vec<u8>) -> Result<Vec<u8>> {
        match &mut self.pack {
            Pack::None => return Ok(piece),
            Pack::Gzip(gzip) => gzip.write_all(&piece),
            Pack::Zip(zip) => zip.write_all(&piece),
        }
        .map_err(anyhow::Error::from)?;
        Ok(self.sink.take())
    }

    /// What ends it.
    pub fn finish(self) -> Result<Vec<u8>> {
        match self.pack {
            Pack::None => {}
            Pack::Gzip(gzip) => drop(gzip.finish().map_err(anyhow::Error::from)?),
            Pack::Zip(zip) => drop(zip.finish().map_err(anyhow::Error::from)?),
        }
        Ok(self.sink.take())
    }
}

impl Sink {
    fn take(&self) -> Vec<u8> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn packed(compress: Option<Compression>) -> Vec<u8> {
        let mut packer = Packer::new(compress);
        packer.begin("a.csv").unwrap();
        let mut all = Vec::new();
        for n in 0..100 {
            all.extend(packer.push(format!("line {n}\n").repeat(1_000).into_bytes()).unwrap());
        }
        all.extend(packer.finish().unwrap());
        all
    }

    #[test]
    fn what_was_packed_can_be_unpacked() {
        let plain = packed(None);
        let mut gunzipped = Vec::new();
        flate2::read::GzDecoder::new(&packed(Some(Compression::Gzip))[..]).read_to_end(&mut gunzipped).unwrap();
        assert!(gunzipped == plain);
        let zipped = packed(Some(Compression::Zip));
        assert!(zipped.len() < plain.len() / 10);
        let mut archive = zip::ZipArchive::new(io::Cursor::new(zipped)).unwrap();
        let mut unzipped = Vec::new();
        archive.by_name("a.csv").unwrap().read_to_end(&mut unzipped).unwrap();
        assert!(unzipped == plain);
    }
}
