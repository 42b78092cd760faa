//! The streams of a session: how they are declared, their schemas and plans.

use std::collections::HashSet;
use std::sync::Arc;

use dativo_wire::bounds::check_name;
use dativo_wire::envelope::{Dialect, StreamRef};
use dativo_wire::fault::{Blame, Fault, StreamName};
use dativo_wire::framing::Line;
use dativo_wire::schema::{self, Options};
use dativo_wire::types::Column;

use super::Session;
use crate::Stop;
use crate::events::{Misfits, StreamPlan, StreamSchema, Undeclared};
use crate::layout::Layout;
use crate::metadata::Metadata;
use crate::plan;
use crate::rejects;
use crate::stream::{Stream, Table};

impl Session<'_> {
    /// Take up the streams of `open`. Blocks until the plans of an Airbyte source have come.
    pub(super) fn declare(&mut self) -> Result<(), Stop> {
        for declared in std::mem::take(&mut self.open.streams) {
            let name = declared.stream.into_name();
            let namesakes = self.by_name.get(&name.name);
            if namesakes.is_some_and(|all| all.iter().any(|&i| self.streams[i].name == name)) {
                let fault = Fault::new(
                    "internal.control",
                    Blame::Dativo,
                    "a stream is declared twice",
                );
                return Err(fault.stream(name).into());
            }
            check_free(&name)?;
            let index = self.add(name, declared.key);
            self.streams[index].contract = declared.contract;
            if self.dialect == Dialect::Airbyte {
                let text = declared.json_schema.unwrap_or_default();
                let columns = self.compile(index, text.as_bytes())?;
                self.propose(index, columns)?;
            }
        }
        while self.dialect == Dialect::Airbyte
            && self.streams.iter().any(|stream| stream.table.is_none())
        {
            let command = self.control.wait()?;
            self.obey(command)?;
        }
        Ok(())
    }

    fn add(&mut self, name: StreamName, key: Vec<String>) -> usize {
        let index = self.streams.len();
        let namesakes = self.by_name.entry(name.name.clone()).or_default();
        namesakes.push(index);
        self.streams.push(Stream::new(name, key));
        index
    }

    /// The stream that a SCHEMA or an ACTIVATE_VERSION names: where sources declare their own, that is the first word of it.
    fn find_or_declare(
        &mut self,
        stream: &StreamRef<'_>,
        line: Line<'_>,
    ) -> Result<usize, Box<Fault>> {
        if let Some(index) = self.find(stream) {
            return Ok(index);
        }
        if self.open.undeclared == Undeclared::Refuse {
            return Err(unknown_stream(stream, line));
        }
        let at = |fault: Box<Fault>| fault.at(line.number, line.byte).stream(stream.to_name());
        check_name(stream).map_err(at)?;
        check_free(&stream.to_name()).map_err(at)?;
        let limit = self.open.limits.max_streams;
        if self.streams.len() >= limit {
            let fault = Fault::plugin("limit.streams", format!("more than {limit} streams"));
            return Err(at(fault.hint("limits.max_streams sets it")));
        }
        Ok(self.add(stream.to_name(), Vec::new()))
    }

    pub(super) fn plan(&mut self, mut plan: StreamPlan) -> Result<(), Stop> {
        let name = plan.stream.clone().into_name();
        if rejects::is_reserved(&name) {
            self.rejects_schema = Some(rejects::schema(&plan).map_err(|fault| fault.stream(name))?);
            return Ok(());
        }
        let stream = self.streams.iter_mut().find(|stream| stream.name == name);
        let Some(stream) =
            stream.filter(|stream| stream.revision == plan.revision && stream.table.is_none())
        else {
            let message = format!(
                "a plan for revision {} that was not asked for",
                plan.revision
            );
            return Err(Fault::new("internal.plan", Blame::Dativo, message)
                .stream(name)
                .into());
        };
        stream.contract = plan.contract.unwrap_or(stream.contract);
        // Airbyte's keys are how rows are matched, where they are; a Singer SCHEMA promises its own.
        let keys = match self.dialect {
            Dialect::Airbyte => &[],
            Dialect::Singer => stream.key.as_slice(),
        };
        let at = |fault: Box<Fault>| fault.stream(name.clone());
        let metadata = self.open.metadata.as_ref();
        let metadata = metadata
            .map(|order| Metadata::take(order, &name, &stream.columns, &mut plan))
            .transpose();
        let metadata = metadata.map_err(at)?;
        let (partition, sort) = (
            std::mem::take(&mut plan.partition),
            std::mem::take(&mut plan.sort),
        );
        let mut table = Table::new(&stream.columns, keys, plan).map_err(at)?;
        if let Some(metadata) = metadata {
            table.add_metadata(metadata);
        }
        table.layout = Layout::new(&table.schema, &partition, &sort)
            .map_err(at)?
            .map(Arc::new);
        table
            .decoder
            .set_lenient(stream.contract.values == Misfits::DiscardValue);
        stream.table = Some(table);
        Ok(())
    }

    /// Singer's SCHEMA. Blocks until its plan has come, if it changes anything.
    pub(super) fn schema(
        &mut self,
        stream: &StreamRef<'_>,
        text: &[u8],
        keys: Vec<String>,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        let at = |fault: Box<Fault>| fault.at(line.number, line.byte);
        let index = self.find_or_declare(stream, line)?;
        let columns = self.compile(index, text).map_err(at)?;
        let stream = &mut self.streams[index];
        if let Some(key) = keys
            .iter()
            .find(|key| columns.iter().all(|column| column.property != **key))
        {
            let fault = Fault::plugin(
                "schema.invalid",
                "a key property that the schema does not have",
            );
            return Err(at(fault.stream(stream.name.clone()).value(key.as_bytes())).into());
        }
        if stream.table.is_some() && stream.columns == columns && stream.key == keys {
            return Ok(());
        }
        stream.key = keys;
        self.close_file(index)?;
        self.propose(index, columns)?;
        while self.streams[index].table.is_none() {
            let command = self.control.wait()?;
            self.obey(command)?;
        }
        Ok(())
    }

    /// Singer's ACTIVATE_VERSION: remembered, and told with the last epoch.
    pub(super) fn activate(
        &mut self,
        stream: &StreamRef<'_>,
        version: i64,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        let index = self.find_or_declare(stream, line)?;
        self.streams[index].activated = Some(version);
        self.check_version(version, index, line)
    }

    /// Singer's version of records: a count, mostly of milliseconds.
    #[cold]
    pub(super) fn check_version(
        &self,
        version: i64,
        index: usize,
        line: Line<'_>,
    ) -> Result<(), Stop> {
        if version >= 0 {
            return Ok(());
        }
        let fault = Fault::plugin("message.invalid", "a version must not be negative");
        let fault = fault.at(line.number, line.byte).field("version");
        Err(fault
            .stream(self.streams[index].name.clone())
            .value(version.to_string().as_bytes())
            .into())
    }

    /// The columns of a stream's schema.
    fn compile(&self, index: usize, text: &[u8]) -> Result<Vec<Column>, Box<Fault>> {
        let limits = &self.open.limits;
        let columns = schema::compile(
            text,
            Options {
                max_columns: limits.max_columns,
                max_depth: limits.max_depth,
                numbers: self.open.numbers.into(),
            },
        );
        let columns = columns.and_then(|mut columns| {
            let deselected = self.deselected(index);
            columns.retain(|column| !deselected.contains(&column.property));
            self.added_to(&columns)?;
            Ok(columns)
        });
        columns.map_err(|fault| fault.stream(self.streams[index].name.clone()))
    }

    /// The properties that nobody chose, which the source may declare and send all the same.
    fn deselected(&self, index: usize) -> HashSet<&String> {
        let id = self.streams[index].id();
        let of_stream = self.open.deselected.iter().filter(|one| one.stream == id);
        of_stream.flat_map(|one| &one.properties).collect()
    }

    /// The metadata columns beside those of a source.
    fn added_to(&self, columns: &[Column]) -> Result<Vec<Column>, Box<Fault>> {
        match &self.open.metadata {
            Some(order) => order.columns.columns(columns),
            None => Ok(Vec::new()),
        }
    }

    /// Send a stream's new columns; its plan is awaited by the caller.
    fn propose(&mut self, index: usize, columns: Vec<Column>) -> Result<(), Stop> {
        let added = self.added_to(&columns)?;
        let stream = &mut self.streams[index];
        stream.revision += 1;
        stream.table = None;
        stream.columns = columns;
        self.control.send(&StreamSchema {
            input: &self.open.input,
            stream: stream.id(),
            revision: stream.revision,
            key: &stream.key,
            columns: plan::wanted(&stream.columns)
                .into_iter()
                .chain(plan::wanted_metadata(&added))
                .collect(),
        })
    }

    #[inline(always)]
    pub(super) fn find(&self, stream: &StreamRef<'_>) -> Option<usize> {
        let is = |index: &usize| {
            let name = &self.streams[*index].name;
            name.name == stream.name && name.namespace.as_deref() == stream.namespace.as_deref()
        };
        if self.last < self.streams.len() && is(&self.last) {
            return Some(self.last);
        }
        self.by_name
            .get(stream.name.as_ref())?
            .iter()
            .copied()
            .find(is)
    }

    /// What is wrong with a RECORD of a stream that is not known.
    #[cold]
    pub(super) fn not_found(&self, stream: &StreamRef<'_>, line: Line<'_>) -> Box<Fault> {
        match self.open.undeclared {
            Undeclared::Refuse => unknown_stream(stream, line),
            Undeclared::Accept => before_schema(stream.to_name(), line),
        }
    }
}

/// The name of the table of rejects is taken.
fn check_free(stream: &StreamName) -> Result<(), Box<Fault>> {
    if !rejects::is_reserved(stream) {
        return Ok(());
    }
    let fault = Fault::plugin(
        "message.reserved_stream",
        "the name of this stream is reserved for rejects",
    );
    Err(fault
        .stream(stream.clone())
        .hint("leave the stream out, or have the source name it otherwise"))
}

#[cold]
pub(super) fn before_schema(stream: StreamName, line: Line<'_>) -> Box<Fault> {
    let fault = Fault::plugin(
        "message.record_before_schema",
        "a RECORD before the SCHEMA of its stream",
    );
    fault.at(line.number, line.byte).stream(stream)
}

#[cold]
fn unknown_stream(stream: &StreamRef<'_>, line: Line<'_>) -> Box<Fault> {
    let fault = Fault::plugin(
        "message.unknown_stream",
        "a message of a stream that was not declared",
    );
    fault.at(line.number, line.byte).stream(stream.to_name())
}
