//! Rows that wait for their row group in a file beside it, where memory is short: column by column, as Arrow IPC streams.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{FieldRef, Schema};
use parquet::errors::Result;

/// One file of such rows, removed once nobody needs it any more. It is not synced: nothing points to it.
pub struct Spill {
    path: PathBuf,
}

/// Where a part of one column lies.
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

    /// Append what each of `columns` holds. The file is opened anew each time: a run of a thousand streams must not need a thousand
    /// descriptors.
    pub fn append(
        &self,
        columns: impl Iterator<Item = (FieldRef, Vec<ArrayRef>)>,
    ) -> Result<Vec<Extent>> {
        let file = OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)?;
        let at = file.metadata()?.len();
        let mut out = Counted {
            file: BufWriter::new(file),
            at,
        };
        let mut extents = Vec::new();
        for (field, arrays) in columns {
            let start = out.at;
            let schema = Arc::new(Schema::new(vec![field]));
            let mut stream = StreamWriter::try_new(&mut out, &schema)?;
            for array in arrays {
                stream.write(&RecordBatch::try_new(schema.clone(), vec![array])?)?;
            }
            stream.finish()?;
            let length = out.at - start;
            extents.push(Extent { start, length });
        }
        out.flush()?;
        Ok(extents)
    }

    /// What was appended there.
    pub fn read(&self, extent: Extent) -> Result<impl Iterator<Item = Result<ArrayRef>>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(extent.start))?;
        let stream = StreamReader::try_new(BufReader::new(file.take(extent.length)), None)?;
        Ok(stream.map(|batch| Ok(batch?.column(0).clone())))
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

struct Counted {
    file: BufWriter<File>,
    at: u64,
}

impl Write for Counted {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buffer)?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, Int64Array, StringArray};
    use arrow_schema::{DataType, Field};

    use super::*;

    #[test]
    fn what_was_appended_is_read_back_column_by_column_and_the_file_goes() {
        let folder = std::env::temp_dir().join(format!("dativo-spill-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("rows");
        let spill = Spill::create(path.clone()).expect("a file");
        assert!(Spill::create(path.clone()).is_err());
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("é漢"), None]));
        let field = |name: &str, kind| Arc::new(Field::new(name, kind, true));
        let columns = |numbers: &ArrayRef, texts: &ArrayRef| {
            vec![
                (
                    field("n", DataType::Int64),
                    vec![numbers.clone(), numbers.clone()],
                ),
                (field("t", DataType::Utf8), vec![texts.clone()]),
            ]
            .into_iter()
        };
        let first = spill.append(columns(&numbers, &texts)).expect("appended");
        // A part of a larger array is kept as the part that it is.
        let (tail, end) = (numbers.slice(1, 2), texts.slice(1, 1));
        let second = spill.append(columns(&tail, &end)).expect("appended");
        let read = |extent: Extent| -> Vec<ArrayRef> {
            let arrays = spill.read(extent).expect("opened");
            arrays.map(|array| array.expect("read")).collect()
        };
        assert_eq!(read(first[1]), std::slice::from_ref(&texts));
        assert_eq!(read(first[0]), [numbers.clone(), numbers.clone()]);
        assert_eq!(read(second[0]), [tail.clone(), tail]);
        assert_eq!(read(second[1]), [end]);
        drop(spill);
        assert!(!path.exists());
        std::fs::remove_dir(&folder).expect("empty");
    }
}
