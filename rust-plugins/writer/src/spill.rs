//! Rows that wait in a file beside theirs, where memory is short, as Arrow IPC streams.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::SchemaRef;
use parquet::errors::Result;

/// One file of such rows, removed once nobody needs it any more. It is not synced: nothing points to it.
pub struct Spill {
    path: PathBuf,
}

/// Where rows lie.
#[derive(Clone, Copy)]
pub struct Extent {
    start: u64,
    pub length: u64,
}

impl Spill {
    /// Create the file, which must not be there.
    pub fn create(path: PathBuf) -> io::Result<Spill> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)?;
        Ok(Spill { path })
    }

    /// Append to it. The file is opened anew each time: a run of a thousand streams must not need a thousand descriptors.
    pub fn open(&self) -> Result<Appending> {
        let file = OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)?;
        let at = file.metadata()?.len();
        let file = BufWriter::new(file);
        Ok(Appending { file, at })
    }

    /// What was appended there. It can be read after the file is gone.
    pub fn read(
        &self,
        extent: Extent,
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + 'static> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(extent.start))?;
        let stream = StreamReader::try_new(BufReader::new(file.take(extent.length)), None)?;
        Ok(stream.map(|batch| Ok(batch?)))
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            // Staging as a whole is the kernel's to remove.
            let path = self.path.display();
            eprintln!("{}: cannot remove {path}: {error}", crate::PROGRAM);
        }
    }
}

/// The end of the file.
pub struct Appending {
    file: BufWriter<File>,
    at: u64,
}

impl Appending {
    /// Begin rows of `schema`.
    pub fn stream(&mut self, schema: &SchemaRef) -> Result<Appended<'_>> {
        let start = self.at;
        let stream = StreamWriter::try_new(self, schema)?;
        Ok(Appended { stream, start })
    }
}

impl Write for Appending {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buffer)?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Rows that are being appended.
pub struct Appended<'a> {
    stream: StreamWriter<&'a mut Appending>,
    start: u64,
}

impl Appended<'_> {
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        Ok(self.stream.write(rows)?)
    }

    /// Where they lie.
    pub fn finish(mut self) -> Result<Extent> {
        self.stream.finish()?;
        let (start, end) = (self.start, self.stream.get_ref().at);
        let length = end - start;
        Ok(Extent { start, length })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Array, ArrayRef, Int64Array, StringArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn what_was_appended_is_read_back_and_the_file_goes() {
        let folder = std::env::temp_dir().join(format!("dativo-spill-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("rows");
        let spill = Spill::create(path.clone()).expect("a file");
        assert!(Spill::create(path.clone()).is_err());
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("é漢"), None]));
        let rows = |array: &ArrayRef| {
            let field = Field::new("c", array.data_type().clone(), true);
            let schema = Arc::new(Schema::new(vec![field]));
            RecordBatch::try_new(schema, vec![array.clone()]).expect("rows")
        };
        let append = |out: &mut Appending, rows: &[RecordBatch]| {
            let mut stream = out.stream(&rows[0].schema()).expect("begun");
            for rows in rows {
                stream.write(rows).expect("appended");
            }
            stream.finish().expect("ended")
        };
        let mut out = spill.open().expect("opened");
        let first = append(&mut out, &[rows(&numbers), rows(&numbers)]);
        let second = append(&mut out, &[rows(&texts)]);
        out.flush().expect("flushed");
        // A part of a larger array is kept as the part that it is.
        let tail = numbers.slice(1, 2);
        let mut out = spill.open().expect("opened again");
        let third = append(&mut out, &[rows(&tail)]);
        out.flush().expect("flushed");
        let read = |extent: Extent| -> Vec<ArrayRef> {
            let all = spill.read(extent).expect("opened");
            all.map(|rows| rows.expect("read").column(0).clone())
                .collect()
        };
        assert_eq!(read(second), [texts]);
        assert_eq!(read(first), [numbers.clone(), numbers]);
        assert_eq!(read(third), std::slice::from_ref(&tail));
        let late = spill.read(third).expect("opened");
        assert_eq!(DataType::Int64, *tail.data_type());
        drop(spill);
        assert!(!path.exists());
        assert_eq!(late.count(), 1);
        std::fs::remove_dir(&folder).expect("empty");
    }
}
