//! What went wrong, as Python and as Arrow see it.

use std::io;
use std::path::Path;

use arrow_schema::ArrowError;
use dativo_wire::fault::Fault;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::encode::Refusal;

const MODULE: &str = "dativo.native._errors";

/// Why nothing more can be read or written.
pub enum Failure {
    /// The lines or the schema are at fault.
    Fault(Box<Fault>),
    /// A value that JSON cannot hold.
    Refused(Refusal),
    /// What a file or a Python object raised.
    Raised(PyErr),
}

impl From<Box<Fault>> for Failure {
    fn from(fault: Box<Fault>) -> Failure {
        Failure::Fault(fault)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Failure {
        Failure::Raised(error)
    }
}

/// Readers and writers pass a [`PyErr`] on inside.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Raised(error.into())
    }
}

impl Failure {
    pub fn to_python(&self, py: Python<'_>) -> PyErr {
        match self {
            Failure::Fault(fault) => decode_error(py, fault),
            Failure::Refused(refusal) => encode_error(py, refusal),
            Failure::Raised(error) => error.clone_ref(py),
        }
    }

    /// For a consumer that only sees a number and a text, as the C stream interface carries them.
    pub fn to_arrow(&self) -> ArrowError {
        let text = Python::try_attach(|py| self.to_python(py).value(py).to_string());
        let text = text.unwrap_or_else(|| "the interpreter has ended".to_owned());
        // It ends up in a C string: a NUL in it would end the process.
        let text = text.replace('\0', "␀");
        match self {
            Failure::Raised(_) => ArrowError::IoError(text.clone(), io::Error::other(text)),
            _ => ArrowError::ParseError(text),
        }
    }
}

/// A second thread, or the source itself, asks for more while the first still waits.
pub fn busy() -> PyErr {
    PyRuntimeError::new_err("the reader is in use: it can be read in one place at a time")
}

/// The OSError that Python would raise for `error` at `path`.
pub fn os_error(error: &io::Error, path: &Path) -> PyErr {
    let text = error.to_string();
    let text = text
        .split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned();
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, text, path.as_os_str().to_owned())),
        None => PyOSError::new_err(format!("{}: {text}", path.display())),
    }
}

fn decode_error(py: Python<'_>, fault: &Fault) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    // The hints speak of a job's settings; here they are parameters of the same names.
    let hint = fault.hint.as_deref();
    let hint = hint.map(|hint| hint.strip_prefix("limits.").unwrap_or(hint));
    let made = CLASS.import(py, MODULE, "DecodeError").and_then(|class| {
        class.call1((
            &fault.message,
            fault.code,
            fault.line,
            fault.byte,
            &fault.field,
            &fault.value,
            hint,
        ))
    });
    made.map_or_else(|error| error, PyErr::from_value)
}

fn encode_error(py: Python<'_>, refusal: &Refusal) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = CLASS.import(py, MODULE, "EncodeError").and_then(|class| {
        class.call1((
            &refusal.message,
            refusal.code,
            refusal.column(),
            refusal.row,
        ))
    });
    made.map_or_else(|error| error, PyErr::from_value)
}
