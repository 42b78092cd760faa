//! `dativo.native`: JSONL to Arrow and back, for Python.
//!
//! Lines are read by the same code as dativo's writer reads them ([`dativo_wire`]); Arrow data goes in and out through
//! PyCapsules. A panic would end the interpreter: what comes from outside is checked, never assumed.

mod capsule;
mod decoding;
mod encode;
mod errors;
mod json_type;
mod pages;
mod plan;
mod reader;
mod source;
mod writing;

use std::time::{SystemTime, UNIX_EPOCH};

use dativo_wire::envelope::{Dialect, Head};
use dativo_wire::fault::StreamName;
use dativo_wire::schema::{Numbers, Options};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping, PyString};

use decoding::{Decoding, Limits, Lines};
use encode::{Floats, Frame, Style};
use errors::Failure;
use plan::Plan;
use reader::{Batch, Batches, Reader, Schema};
use source::{Source, Target};

#[global_allocator]
static ALLOCATOR: pages::Pages = pages::Pages;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Batch>()?;
    module.add_class::<Batches>()?;
    module.add_class::<Reader>()?;
    module.add_class::<Schema>()?;
    module.add_function(wrap_pyfunction!(read_jsonl, module)?)?;
    module.add_function(wrap_pyfunction!(schema_of, module)?)?;
    module.add_function(wrap_pyfunction!(write_jsonl, module)?)
}

// The bounds are those of a job (docs/spec/limits.md) and of the writer, as numbers so that `help` shows them.
#[pyfunction]
#[pyo3(signature = (
    source, schema, *, dialect=None, stream=None, namespace=None, numbers="double", strict=false,
    batch_rows=8192, max_line_bytes=33554432, max_depth=64, max_columns=2000,
))]
#[allow(clippy::too_many_arguments)] // keywords of Python
fn read_jsonl(
    source: &Bound<'_, PyAny>,
    schema: &Bound<'_, PyAny>,
    dialect: Option<&str>,
    stream: Option<String>,
    namespace: Option<String>,
    numbers: &str,
    strict: bool,
    batch_rows: usize,
    max_line_bytes: usize,
    max_depth: usize,
    max_columns: usize,
) -> PyResult<Reader> {
    let plan = plan_of(schema, options(numbers, max_columns, max_depth)?)?;
    let lines = match named(dialect, stream, namespace)? {
        None => Lines::Record,
        Some((dialect, stream)) => Lines::Message {
            dialect,
            stream,
            head: Box::new(Head::default()),
        },
    };
    let source = Source::open(source)?;
    let arrow = plan.schema.clone();
    let limits = Limits {
        batch_rows,
        max_line_bytes,
        max_depth,
    };
    let decoding = Decoding::new(source, lines, plan, strict, &limits);
    Ok(Reader::new(decoding, arrow))
}

#[pyfunction]
#[pyo3(signature = (schema, *, numbers="double", max_depth=64, max_columns=2000))]
fn schema_of(
    schema: &Bound<'_, PyAny>,
    numbers: &str,
    max_depth: usize,
    max_columns: usize,
) -> PyResult<Schema> {
    let options = options(numbers, max_columns, max_depth)?;
    Ok(Schema(plan_of(schema, options)?.schema))
}

#[pyfunction]
#[pyo3(signature = (
    table, target, *, dialect=None, stream=None, namespace=None, nonfinite="error", decimals="string",
))]
#[allow(clippy::too_many_arguments)] // keywords of Python
fn write_jsonl(
    py: Python<'_>,
    table: &Bound<'_, PyAny>,
    target: &Bound<'_, PyAny>,
    dialect: Option<&str>,
    stream: Option<String>,
    namespace: Option<String>,
    nonfinite: &str,
    decimals: &str,
) -> PyResult<u64> {
    let style = Style {
        floats: one_of(
            "nonfinite",
            nonfinite,
            &[
                ("error", Floats::Refuse),
                ("null", Floats::Null),
                ("token", Floats::Token),
            ],
        )?,
        decimal_numbers: one_of("decimals", decimals, &[("string", false), ("number", true)])?,
    };
    let frame = match named(dialect, stream, namespace)? {
        None => Frame::plain(),
        Some((dialect, stream)) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let millis = now.map_or(0, |now| now.as_millis());
            Frame::message(dialect, &stream.name, stream.namespace.as_deref(), millis)
        }
    };
    let reader = capsule::batches_of(table)?;
    let mut target = Target::open(target)?;
    let written = py.detach(|| writing::write(reader, &mut target, &frame, style));
    written.map_err(|failure| failure.to_python(py))
}

fn options(numbers: &str, max_columns: usize, max_depth: usize) -> PyResult<Options> {
    Ok(Options {
        max_columns,
        max_depth,
        numbers: one_of(
            "numbers",
            numbers,
            &[
                ("double", Numbers::Double),
                ("decimal", Numbers::Decimal),
                ("text", Numbers::Text),
            ],
        )?,
    })
}

/// What is to be read, from a JSON Schema (as text or as a mapping) or from an object that exports an Arrow schema.
fn plan_of(schema: &Bound<'_, PyAny>, options: Options) -> PyResult<Plan> {
    let py = schema.py();
    let plan = if let Some(schema) = capsule::schema_of(schema)? {
        Plan::of_arrow(schema, options.max_columns)
    } else if let Ok(text) = schema.cast::<PyString>() {
        Plan::of_json(text.to_cow()?.as_bytes(), options)
    } else if let Ok(text) = schema.cast::<PyBytes>() {
        Plan::of_json(text.as_bytes(), options)
    } else {
        let mapping = schema.cast::<PyMapping>()?;
        let json = py.import(intern!(py, "json"))?;
        let text = json.call_method1(intern!(py, "dumps"), (mapping,))?;
        let text = text.cast::<PyString>()?.to_cow()?;
        Plan::of_json(text.as_bytes(), options)
    };
    plan.map_err(|fault| Failure::Fault(fault).to_python(py))
}

/// The dialect and the stream of messages; none for plain records.
fn named(
    dialect: Option<&str>,
    stream: Option<String>,
    namespace: Option<String>,
) -> PyResult<Option<(Dialect, StreamName)>> {
    let Some(dialect) = dialect else {
        if stream.is_some() || namespace.is_some() {
            let message = "stream and namespace are of messages: name the dialect too";
            return Err(PyValueError::new_err(message));
        }
        return Ok(None);
    };
    let dialect = one_of(
        "dialect",
        dialect,
        &[("airbyte", Dialect::Airbyte), ("singer", Dialect::Singer)],
    )?;
    let name = stream.ok_or_else(|| {
        PyValueError::new_err("messages are of many streams: name the one with stream=")
    })?;
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    if namespace.is_some() && dialect == Dialect::Singer {
        return Err(PyValueError::new_err("Singer has no namespaces"));
    }
    Ok(Some((dialect, StreamName { namespace, name })))
}

fn one_of<T: Copy>(parameter: &str, given: &str, choices: &[(&str, T)]) -> PyResult<T> {
    let found = choices.iter().find(|(name, _)| *name == given);
    found.map(|&(_, value)| value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        PyValueError::new_err(format!("{parameter} is one of {names}, not {given:?}"))
    })
}
