//! A read: stream by stream, file by file, a state behind each.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::columns::Layout;
use crate::config::{Config, Format, Stream};
use crate::listing::{self, Found};
use crate::output::Output;
use crate::state::{self, Place, Position, Todo};
use crate::{Failure, csv, jsonl, parquet};

/// Within a file a state follows so many bytes of it.
const STATE_EVERY_BYTES: u64 = 64 << 20;
/// Behind a small file a state waits until so many times its own size was written.
const STATE_SHARE: u64 = 10;

/// The part of a configured catalogue that is used.
#[derive(Deserialize)]
pub struct Catalog<'a> {
    #[serde(borrow)]
    streams: Vec<Configured<'a>>,
}

#[derive(Deserialize)]
struct Configured<'a> {
    #[serde(borrow)]
    stream: Declared<'a>,
}

#[derive(Deserialize)]
struct Declared<'a> {
    name: String,
    #[serde(borrow)]
    json_schema: &'a RawValue,
}

#[derive(Deserialize)]
struct StateObject {
    stream: StreamState,
}

#[derive(Deserialize)]
struct StreamState {
    stream_descriptor: Descriptor,
    #[serde(default)]
    stream_state: Position,
}

#[derive(Deserialize)]
struct Descriptor {
    name: String,
}

/// The positions of a `--state` file: a list of state objects.
pub fn positions(text: &[u8]) -> Result<HashMap<String, Position>, Failure> {
    let states: Vec<StateObject> = serde_json::from_slice(text)
        .map_err(|error| Failure::config(format!("the state: {error}")))?;
    let named = |state: StateObject| {
        let StreamState {
            stream_descriptor,
            stream_state,
        } = state.stream;
        (stream_descriptor.name, stream_state)
    };
    Ok(states.into_iter().map(named).collect())
}

/// Read the streams of `catalog` from `positions` on.
pub fn read<W: Write>(
    config: &Config,
    catalog: &[u8],
    mut positions: HashMap<String, Position>,
    out: &mut Output<W>,
) -> Result<(), Failure> {
    let catalog: Catalog<'_> = serde_json::from_slice(catalog)
        .map_err(|error| Failure::config(format!("the catalogue: {error}")))?;
    for configured in &catalog.streams {
        let declared = &configured.stream;
        let stream = config.stream(&declared.name).ok_or_else(|| {
            Failure::config(format!(
                "the catalogue has a stream {:?}, the configuration has not",
                declared.name
            ))
        })?;
        let layout = Layout::compile(declared.json_schema.get())
            .map_err(|failure| stream.wrong(failure.message))?;
        out.status(&stream.name, "STARTED")?;
        let position = positions.remove(&stream.name).unwrap_or_default();
        Reading {
            stream,
            layout,
            head: Output::<W>::head(&stream.name),
            position,
            state_at: out.written(),
            is_told: true,
            out,
        }
        .all()?;
        out.status(&stream.name, "COMPLETE")?;
    }
    out.flush()
}

/// One stream that is being read.
struct Reading<'r, W: Write> {
    stream: &'r Stream,
    layout: Layout,
    head: Vec<u8>,
    position: Position,
    /// Bytes that were written when the last state went out, and whether it says all.
    state_at: u64,
    is_told: bool,
    out: &'r mut Output<W>,
}

impl<W: Write> Reading<'_, W> {
    fn all(mut self) -> Result<(), Failure> {
        let files = listing::files(self.stream)?;
        if files.is_empty() {
            let message = format!(
                "stream {}: no file fits {:?}",
                self.stream.name, self.stream.path
            );
            self.out.log("WARN", &message)?;
        }
        for found in &files {
            self.file(found, &files).map_err(|failure| {
                failure.below(&format!("stream {}: {}", self.stream.name, found.path))
            })?;
        }
        if !self.is_told {
            self.tell(&files)?;
        }
        Ok(())
    }

    fn file(&mut self, found: &Found, files: &[Found]) -> Result<(), Failure> {
        let unreadable = |error: std::io::Error| Failure::new(error.to_string());
        let file = File::open(&found.path).map_err(unreadable)?;
        let found = Found::new(found.path.clone(), &file.metadata().map_err(unreadable)?);
        let before = self.position.files.get(&found.path);
        let todo = state::todo(before, &found, &file, self.stream.format).map_err(unreadable)?;
        match todo {
            Todo::Nothing => return Ok(()),
            Todo::Note(place) => {
                self.position.files.insert(found.path, place);
                self.is_told = false;
                return Ok(());
            }
            Todo::Read { from, changed } => {
                if changed {
                    let message = format!("{} has changed and is read anew", found.path);
                    self.out.log("WARN", &message)?;
                }
                match self.stream.format {
                    Format::Csv => self.csv(&found, &file, &from, files)?,
                    Format::Jsonl => self.jsonl(&found, &file, &from, files)?,
                    Format::Parquet => self.parquet(&found, &file, &from, files)?,
                }
            }
        }
        let due = STATE_SHARE * self.position.weight() as u64;
        if self.out.written() - self.state_at >= due {
            self.tell(files)?;
        }
        Ok(())
    }

    fn csv(
        &mut self,
        found: &Found,
        file: &File,
        from: &Place,
        files: &[Found],
    ) -> Result<(), Failure> {
        let csv = self.stream.csv()?;
        let layout = match self.out.takes(&self.layout) {
            true => self.layout.clone(),
            false => self.layout.clone().exact(),
        };
        let mut rows = from.rows;
        let mut next_state = from.bytes + STATE_EVERY_BYTES;
        if let Some(mut reader) =
            csv::Reader::new(file, from.bytes, rows, found.size, &csv, &layout)?
        {
            for name in reader.unknown() {
                let message = format!("{}: column {name:?} is not in the catalogue", found.path);
                self.out.log("WARN", &message)?;
            }
            while let Some(batch) = reader.next()? {
                self.out
                    .rows(&self.stream.name, &self.head, &layout, &batch)?;
                let offset = reader.offset();
                if offset >= next_state && offset < found.size {
                    next_state = offset + STATE_EVERY_BYTES;
                    self.note(found, file, offset, reader.rows)?;
                    self.tell(files)?;
                }
            }
            rows = reader.rows;
        }
        self.note(found, file, found.size, rows)
    }

    fn jsonl(
        &mut self,
        found: &Found,
        file: &File,
        from: &Place,
        files: &[Found],
    ) -> Result<(), Failure> {
        let mut lines = jsonl::Lines::new(file, from.bytes, from.rows, found.size);
        let mut next_state = from.bytes + STATE_EVERY_BYTES;
        while let Some(line) = lines.next().map_err(Failure::new)? {
            self.out.record(&self.head, line)?;
            let offset = lines.offset();
            if offset >= next_state && offset < found.size {
                next_state = offset + STATE_EVERY_BYTES;
                self.note(found, file, offset, lines.rows)?;
                self.tell(files)?;
            }
        }
        self.note(found, file, found.size, lines.rows)
    }

    fn parquet(
        &mut self,
        found: &Found,
        file: &File,
        from: &Place,
        files: &[Found],
    ) -> Result<(), Failure> {
        let layout = self.layout.clone();
        let mark =
            state::mark(file, found.size).map_err(|error| Failure::new(error.to_string()))?;
        let mut place = Place {
            size: found.size,
            mtime_ns: found.mtime_ns,
            bytes: 0,
            rows: from.rows,
            mark,
        };
        let mut written = self.out.written();
        for batch in parquet::rows(file, from.rows, &layout)? {
            let batch = batch?;
            self.out
                .rows(&self.stream.name, &self.head, &layout, &batch)?;
            place.rows += batch.num_rows() as u64;
            if self.out.written() - written >= STATE_EVERY_BYTES {
                written = self.out.written();
                self.position
                    .files
                    .insert(found.path.clone(), place.clone());
                self.tell(files)?;
            }
        }
        place.bytes = found.size;
        self.position.files.insert(found.path.clone(), place);
        self.is_told = false;
        Ok(())
    }

    /// Take note that a file was read up to `bytes`.
    fn note(&mut self, found: &Found, file: &File, bytes: u64, rows: u64) -> Result<(), Failure> {
        let mark = state::mark(file, bytes).map_err(|error| Failure::new(error.to_string()))?;
        let place = Place {
            size: found.size,
            mtime_ns: found.mtime_ns,
            bytes,
            rows,
            mark,
        };
        self.position.files.insert(found.path.clone(), place);
        self.is_told = false;
        Ok(())
    }

    /// Send the state.
    fn tell(&mut self, files: &[Found]) -> Result<(), Failure> {
        if !self.position.fit(files) {
            return Err(self.stream.wrong(format_args!(
                "the state of {} files is larger than {} bytes: make it several streams",
                files.len(),
                state::MAX_STATE_BYTES
            )));
        }
        self.out.state(&self.stream.name, &self.position)?;
        self.state_at = self.out.written();
        self.is_told = true;
        Ok(())
    }
}
