//! The streams of one input: their names in the output, their counts, what is left out of their records.

use std::collections::HashMap;

use dativo_channel::events::{Counts, StreamId};
use dativo_wire::envelope::StreamRef;
use dativo_wire::fault::StreamName;
use serde_json::Value;

use crate::events::Dialect;
use crate::fields::Fields;

pub struct Stream {
    pub name: StreamName,
    pub fields: Fields,
    /// A RECORD in the output up to its data.
    pub prefix: Box<[u8]>,
    /// Its name in a Singer output, as JSON.
    pub quoted: String,
    /// Singer: a SCHEMA has come.
    pub has_schema: bool,
    /// STARTED has gone out.
    pub started: bool,
    pub read: u64,
    pub passed: u64,
}

impl Stream {
    pub fn new(name: StreamName, name_out: &str, fields: Fields, to: Dialect) -> Stream {
        let quoted = Value::from(name_out).to_string();
        let prefix = match to {
            Dialect::Singer => format!("{{\"type\":\"RECORD\",\"stream\":{quoted},\"record\":"),
            Dialect::Airbyte => {
                let namespace = match &name.namespace {
                    Some(namespace) => {
                        format!("\"namespace\":{},", Value::from(namespace.as_str()))
                    }
                    None => String::new(),
                };
                let stream = Value::from(name.name.as_str());
                format!(
                    "{{\"type\":\"RECORD\",\"record\":{{\"stream\":{stream},{namespace}\"data\":"
                )
            }
        };
        Stream {
            name,
            fields,
            prefix: prefix.into_bytes().into(),
            quoted,
            has_schema: false,
            started: false,
            read: 0,
            passed: 0,
        }
    }

    pub fn id(&self) -> StreamId {
        StreamId::from(&self.name)
    }

    /// Airbyte's stream_descriptor.
    pub fn descriptor(&self) -> String {
        let name = Value::from(self.name.name.as_str());
        match &self.name.namespace {
            Some(namespace) => format!(
                "{{\"name\":{name},\"namespace\":{}}}",
                Value::from(namespace.as_str())
            ),
            None => format!("{{\"name\":{name}}}"),
        }
    }

    pub fn totals(&self) -> Counts {
        Counts {
            stream: self.id(),
            read: self.read,
            written: self.passed,
            rejected: 0,
            filtered: self.read - self.passed,
            discarded: 0,
            changed: 0,
        }
    }
}

/// All streams, found by name.
#[derive(Default)]
pub struct Streams {
    list: Vec<Stream>,
    by_name: HashMap<String, Vec<usize>>,
    /// The stream that was found last: mostly the next one too.
    last: usize,
}

impl Streams {
    /// Add a stream that is not there yet; false if it is.
    pub fn add(&mut self, stream: Stream) -> bool {
        let namesakes = self.by_name.entry(stream.name.name.clone()).or_default();
        if namesakes
            .iter()
            .any(|&other| self.list[other].name == stream.name)
        {
            return false;
        }
        namesakes.push(self.list.len());
        self.list.push(stream);
        true
    }

    #[inline(always)]
    pub fn find(&mut self, stream: &StreamRef<'_>) -> Option<usize> {
        let is = |index: &usize| {
            let name = &self.list[*index].name;
            name.name == stream.name && name.namespace.as_deref() == stream.namespace.as_deref()
        };
        if self.last < self.list.len() && is(&self.last) {
            return Some(self.last);
        }
        let found = self
            .by_name
            .get(stream.name.as_ref())?
            .iter()
            .copied()
            .find(is)?;
        self.last = found;
        Some(found)
    }

    #[inline(always)]
    pub fn get(&mut self, index: usize) -> &mut Stream {
        &mut self.list[index]
    }

    pub fn list(&self) -> &[Stream] {
        &self.list
    }
}
