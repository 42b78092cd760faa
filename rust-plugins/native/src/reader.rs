//! The classes that `dativo.native` hands out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use arrow_array::{RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyCapsule, PyTuple};

use crate::capsule;
use crate::decoding::Decoding;
use crate::errors::{Failure, busy};

/// An Arrow schema.
#[pyclass(frozen, module = "dativo.native")]
pub struct Schema(pub SchemaRef);

#[pymethods]
impl Schema {
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsule::schema_capsule(py, &self.0)
    }

    /// Names of the columns, in order.
    #[getter]
    fn names(&self) -> Vec<&str> {
        let fields = self.0.fields().iter();
        fields.map(|field| field.name().as_str()).collect()
    }

    fn __repr__(&self) -> String {
        format!("Schema({})", self.names().join(", "))
    }
}

/// Some rows.
#[pyclass(frozen, module = "dativo.native")]
pub struct Batch(RecordBatch);

#[pymethods]
impl Batch {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let _ = requested_schema; // the interface lets a producer give its own
        capsule::batch_capsules(py, &self.0)
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsule::schema_capsule(py, self.0.schema_ref())
    }

    fn __len__(&self) -> usize {
        self.0.num_rows()
    }
}

/// All rows, decoded. It can be exported again and again.
#[pyclass(frozen, module = "dativo.native")]
pub struct Batches {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

#[pymethods]
impl Batches {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        let batches: Vec<_> = self.batches.iter().cloned().map(Ok).collect();
        let reader = RecordBatchIterator::new(batches, self.schema.clone());
        capsule::stream_capsule(py, Box::new(reader))
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsule::schema_capsule(py, &self.schema)
    }

    fn __len__(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Reads lines while it is read: batch by batch, or as an Arrow stream.
#[pyclass(frozen, module = "dativo.native")]
pub struct Reader(Arc<Shared>);

struct Shared {
    schema: SchemaRef,
    state: Mutex<State>,
}

struct State {
    decoding: Decoding,
    /// What ended it. Whoever asks again is told again, so that no end is taken for the source's.
    failure: Option<Failure>,
}

impl State {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, &Failure> {
        if self.failure.is_none() {
            match self.decoding.next_batch() {
                Ok(batch) => return Ok(batch),
                Err(failure) => self.failure = Some(failure),
            }
        }
        self.failure.as_ref().map_or(Ok(None), Err)
    }
}

impl Shared {
    /// The state, unless somebody is reading: waiting could deadlock with a thread that waits for the interpreter.
    fn state(&self) -> PyResult<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(busy()),
        }
    }

    /// The next rows. Without the interpreter's lock, which a source in Python takes for each of its reads.
    fn next_batch(&self, py: Python<'_>) -> PyResult<Option<RecordBatch>> {
        py.check_signals()?;
        py.detach(|| {
            let mut state = self.state()?;
            let batch = state.next_batch();
            batch.map_err(|failure| Python::attach(|py| failure.to_python(py)))
        })
    }
}

impl Reader {
    pub fn new(decoding: Decoding, schema: SchemaRef) -> Reader {
        let state = State {
            decoding,
            failure: None,
        };
        Reader(Arc::new(Shared {
            schema,
            state: Mutex::new(state),
        }))
    }
}

#[pymethods]
impl Reader {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        capsule::stream_capsule(py, Box::new(Stream(self.0.clone())))
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsule::schema_capsule(py, &self.0.schema)
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        Ok(self.0.next_batch(py)?.map(Batch))
    }

    /// Decode all that is left.
    fn read_all(&self, py: Python<'_>) -> PyResult<Batches> {
        let mut batches = Vec::new();
        while let Some(batch) = self.0.next_batch(py)? {
            batches.push(batch);
        }
        Ok(Batches {
            schema: self.0.schema.clone(),
            batches,
        })
    }

    #[getter]
    fn schema(&self) -> Schema {
        Schema(self.0.schema.clone())
    }

    /// The exception that ended it, for those who read it as an Arrow stream.
    #[getter]
    fn error(&self, py: Python<'_>) -> PyResult<Option<PyErr>> {
        let state = self.0.state()?;
        Ok(state.failure.as_ref().map(|failure| failure.to_python(py)))
    }

    /// How many lines showed what is tolerated.
    #[getter]
    fn oddities(&self) -> PyResult<HashMap<&'static str, u64>> {
        let state = self.0.state()?;
        Ok(state.decoding.oddities().counted().collect())
    }
}

/// The rest of a reader as an Arrow stream.
struct Stream(Arc<Shared>);

impl Iterator for Stream {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = match self.0.state() {
            Ok(state) => state,
            Err(busy) => return Some(Err(Failure::Raised(busy).to_arrow())),
        };
        match state.next_batch() {
            Ok(batch) => batch.map(Ok),
            Err(failure) => Some(Err(failure.to_arrow())),
        }
    }
}

impl RecordBatchReader for Stream {
    fn schema(&self) -> SchemaRef {
        self.0.schema.clone()
    }
}
