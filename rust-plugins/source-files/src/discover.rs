//! The catalogue: what the files are like, from samples of bounded size.

use std::fmt::Write;
use std::fs::File;

use dativo_wire::scan::{Bad, each_member};

use crate::config::{Config, Format, Stream};
use crate::csv::infer as csv;
use crate::jsonl::infer::{self as jsonl, object};
use crate::listing::{self, Found};
use crate::output::quoted;
use crate::{Failure, parquet};

/// So many files of a stream are looked at, and so much of each.
const SAMPLE_FILES: usize = 32;
const SAMPLE_BYTES: u64 = 1 << 20;

/// The payload of the CATALOG message.
pub fn catalog(config: &Config) -> Result<String, Failure> {
    let mut streams = String::new();
    for stream in &config.streams {
        if !streams.is_empty() {
            streams.push(',');
        }
        let properties = object(properties(stream)?);
        let _ = write!(
            streams,
            r#"{{"name":{},"json_schema":{{"type":"object","properties":{properties}}},"supported_sync_modes":["full_refresh","incremental"],"source_defined_cursor":true"#,
            quoted(&stream.name)
        );
        if !stream.key.is_empty() {
            let keys: Vec<String> = stream
                .key
                .iter()
                .map(|key| format!("[{}]", quoted(key)))
                .collect();
            let _ = write!(
                streams,
                r#","source_defined_primary_key":[{}]"#,
                keys.join(",")
            );
        }
        streams.push('}');
    }
    Ok(format!(r#"{{"streams":[{streams}]}}"#))
}

/// The columns of a stream and their schemas, those of the configuration over those that were found.
fn properties(stream: &Stream) -> Result<Vec<(String, String)>, Failure> {
    let files = listing::files(stream)?;
    let mut found = match stream.format {
        Format::Csv => {
            let (csv, mut seen) = (stream.csv()?, Vec::new());
            each(stream, &files, |file, size| {
                csv::sample(file, size, SAMPLE_BYTES, &csv, &mut seen)
            })?;
            seen.into_iter()
                .map(|column| (column.name.clone(), column.schema().to_owned()))
                .collect()
        }
        Format::Jsonl => {
            let mut seen = jsonl::Seen::default();
            each(stream, &files, |file, size| {
                jsonl::sample(file, size, SAMPLE_BYTES, &mut seen)
            })?;
            seen.properties()
        }
        Format::Parquet => {
            let mut seen = Vec::new();
            each(stream, &files, |file, _| parquet::sample(file, &mut seen))?;
            seen
        }
    };
    for (name, schema) in overrides(stream)? {
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, before)) => *before = schema,
            None => found.push((name, schema)),
        }
    }
    if found.is_empty() {
        return Err(stream.wrong(format_args!(
            "{}; name its columns in `schema`, or see that path and grants.read are right",
            if files.is_empty() {
                format!("no file fits {:?}", stream.path)
            } else {
                "its files have no records yet".to_owned()
            }
        )));
    }
    if let Some(key) = stream
        .key
        .iter()
        .find(|key| found.iter().all(|(name, _)| name != *key))
    {
        return Err(stream.wrong(format_args!("it has no column {key:?}, which is in `key`")));
    }
    Ok(found)
}

/// Look at some of the files, spread over all of them.
fn each(
    stream: &Stream,
    files: &[Found],
    mut look: impl FnMut(&File, u64) -> Result<(), String>,
) -> Result<(), Failure> {
    let count = files.len().min(SAMPLE_FILES);
    for nth in 0..count {
        let found = &files[if count < 2 {
            0
        } else {
            nth * (files.len() - 1) / (count - 1)
        }];
        let at = |message: String| stream.wrong(format_args!("{}: {message}", found.path));
        let file = File::open(&found.path).map_err(|error| at(error.to_string()))?;
        look(&file, found.size).map_err(at)?;
    }
    Ok(())
}

fn overrides(stream: &Stream) -> Result<Vec<(String, String)>, Failure> {
    let Some(schema) = &stream.schema else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let read = each_member::<Bad>(schema.get().as_bytes(), 64, |key, node| {
        found.push((
            String::from_utf8_lossy(&key).into_owned(),
            String::from_utf8_lossy(node).into_owned(),
        ));
        Ok(())
    });
    read.map_err(|bad| stream.wrong(format_args!("schema: {}", bad.message)))?;
    Ok(found)
}
