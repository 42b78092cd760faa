//! Arrow data in and out of PyCapsules. All unsafe code of this crate is here and in [`crate::pages`].
//!
//! Whoever makes a capsule of these names promises that the C structure in it is what the interface says; it runs in
//! the same process. What its buffers hold is checked before it is read.

use std::ffi::CStr;
use std::ptr::NonNull;

use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi_and_data_type};
use arrow_array::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use arrow_array::{Array, RecordBatch, RecordBatchOptions, RecordBatchReader, StructArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";
const STREAM: &CStr = c"arrow_array_stream";

pub fn arrow_error(error: &ArrowError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

// --- out --------------------------------------------------------------------------------------------------------

pub fn schema_capsule<'py>(py: Python<'py>, schema: &Schema) -> PyResult<Bound<'py, PyCapsule>> {
    let schema = FFI_ArrowSchema::try_from(schema).map_err(|error| arrow_error(&error))?;
    PyCapsule::new_with_value(py, schema, SCHEMA)
}

/// The schema and the rows, as `__arrow_c_array__` returns them.
pub fn batch_capsules<'py>(py: Python<'py>, batch: &RecordBatch) -> PyResult<Bound<'py, PyTuple>> {
    let schema = schema_capsule(py, batch.schema_ref())?;
    let rows = FFI_ArrowArray::new(&StructArray::from(batch.clone()).to_data());
    let rows = PyCapsule::new_with_value(py, rows, ARRAY)?;
    PyTuple::new(py, [schema, rows])
}

/// The messages of the reader's errors hold no NUL.
pub fn stream_capsule<'py>(
    py: Python<'py>,
    reader: Box<dyn RecordBatchReader + Send>,
) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(reader), STREAM)
}

// --- in ---------------------------------------------------------------------------------------------------------

/// The schema of an object that exports one; none if it does not.
pub fn schema_of(object: &Bound<'_, PyAny>) -> PyResult<Option<Schema>> {
    let Some(capsule) = call(object, "__arrow_c_schema__")? else {
        return Ok(None);
    };
    // SAFETY: a capsule of this name holds an ArrowSchema, and moving it out leaves a released one behind.
    let schema = unsafe { FFI_ArrowSchema::from_raw(pointer(&capsule, SCHEMA)?.as_ptr()) };
    if schema.release().is_none() {
        return Err(released());
    }
    Schema::try_from(&schema)
        .map(Some)
        .map_err(|error| arrow_error(&error))
}

/// The rows of anything that exports a stream or an array.
pub fn batches_of(object: &Bound<'_, PyAny>) -> PyResult<Box<dyn RecordBatchReader + Send>> {
    if let Some(capsule) = call(object, "__arrow_c_stream__")? {
        let stream = pointer(&capsule, STREAM)?;
        // SAFETY: a capsule of this name holds an ArrowArrayStream, which is moved out.
        let reader = unsafe { RecordBatchStreamReader::from_raw(stream.as_ptr()) };
        return match reader {
            Ok(reader) => Ok(Box::new(reader)),
            Err(error) => Err(arrow_error(&error)),
        };
    }
    if let Some(pair) = call(object, "__arrow_c_array__")? {
        let (schema, array): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
        let (schema, array) = (pointer(&schema, SCHEMA)?, pointer(&array, ARRAY)?);
        // SAFETY: capsules of these names hold an ArrowSchema and an ArrowArray, which are moved out.
        let (schema, array) = unsafe {
            (
                FFI_ArrowSchema::from_raw(schema.as_ptr()),
                FFI_ArrowArray::from_raw(array.as_ptr()),
            )
        };
        if schema.release().is_none() || array.is_released() {
            return Err(released());
        }
        return one_batch(&schema, array).map_err(|error| arrow_error(&error));
    }
    Err(PyTypeError::new_err(format!(
        "{} has neither __arrow_c_stream__ nor __arrow_c_array__",
        object.get_type().name()?
    )))
}

fn one_batch(
    schema: &FFI_ArrowSchema,
    array: FFI_ArrowArray,
) -> Result<Box<dyn RecordBatchReader + Send>, ArrowError> {
    let field = Field::try_from(schema)?;
    let DataType::Struct(fields) = field.data_type() else {
        let message = format!("rows are of a struct type, not {}", field.data_type());
        return Err(ArrowError::SchemaError(message));
    };
    let schema = SchemaRef::new(Schema::new(fields.clone()));
    // SAFETY: the array came together with this schema.
    let data = unsafe { from_ffi_and_data_type(array, field.data_type().clone()) }?;
    let options = RecordBatchOptions::new().with_row_count(Some(data.len()));
    let columns = StructArray::from(data).into_parts().1;
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options);
    Ok(Box::new(arrow_array::RecordBatchIterator::new(
        [batch],
        schema,
    )))
}

/// Offsets, indices and texts lie where they must, so that reading them cannot go wrong.
pub fn check(batch: &RecordBatch) -> Result<(), ArrowError> {
    batch
        .columns()
        .iter()
        .try_for_each(|column| column.to_data().validate_full())
}

/// What method `name` of `object` returns; none if it has no such method.
fn call<'py>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(method) = object.getattr_opt(name)? else {
        return Ok(None);
    };
    method.call0().map(Some)
}

fn pointer<T>(capsule: &Bound<'_, PyAny>, name: &CStr) -> PyResult<NonNull<T>> {
    let capsule = capsule.cast::<PyCapsule>().map_err(|_| {
        PyTypeError::new_err(format!("expected a capsule {}", name.to_string_lossy()))
    })?;
    Ok(capsule.pointer_checked(Some(name))?.cast())
}

fn released() -> PyErr {
    PyValueError::new_err("the Arrow data was taken by somebody else before")
}
