//! Where lines come from and go to: files by path, bytes, and file objects of Python.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use pyo3::exceptions::{PyBlockingIOError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyString};

use crate::errors::os_error;

pub enum Source {
    File { file: File, path: PathBuf },
    Bytes { bytes: PyBackedBytes, at: usize },
    Object(Py<PyAny>),
}

impl Source {
    pub fn open(source: &Bound<'_, PyAny>) -> PyResult<Source> {
        if source.is_instance_of::<PyBytes>() || source.is_instance_of::<PyByteArray>() {
            let bytes = source.extract()?;
            return Ok(Source::Bytes { bytes, at: 0 });
        }
        if let Some(path) = path_of(source)? {
            let file = File::open(&path).map_err(|error| os_error(&error, &path))?;
            return Ok(Source::File { file, path });
        }
        if source.hasattr(intern!(source.py(), "read"))? {
            return Ok(Source::Object(source.clone().unbind()));
        }
        Err(PyTypeError::new_err(format!(
            "the source is a path, bytes or a readable binary file, not {}",
            source.get_type().name()?
        )))
    }

    /// Fill some of `room`; 0 is the end. Errors are a [`PyErr`] inside.
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::File { file, path } => loop {
                match file.read(room) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => check_signals()?,
                    Err(error) => return Err(io::Error::other(os_error(&error, path))),
                    Ok(count) => return Ok(count),
                }
            },
            Source::Bytes { bytes, at } => {
                let count = room.len().min(bytes.len() - *at);
                room[..count].copy_from_slice(&bytes[*at..*at + count]);
                *at += count;
                Ok(count)
            }
            Source::Object(object) => attached(|py| read_object(object.bind(py), room)),
        }
    }
}

pub enum Target {
    File { file: File, path: PathBuf },
    Object(Py<PyAny>),
}

impl Target {
    /// A file at a path is made, or emptied if it is there.
    pub fn open(target: &Bound<'_, PyAny>) -> PyResult<Target> {
        if let Some(path) = path_of(target)? {
            let file = File::create(&path).map_err(|error| os_error(&error, &path))?;
            return Ok(Target::File { file, path });
        }
        if target.hasattr(intern!(target.py(), "write"))? {
            return Ok(Target::Object(target.clone().unbind()));
        }
        Err(PyTypeError::new_err(format!(
            "the target is a path or a writable binary file, not {}",
            target.get_type().name()?
        )))
    }

    /// Write all of `bytes`. Errors are a [`PyErr`] inside.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Target::File { file, path } => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    match file.write(rest) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                            check_signals()?;
                        }
                        Err(error) => return Err(io::Error::other(os_error(&error, path))),
                        Ok(count) => rest = &rest[count..],
                    }
                }
                Ok(())
            }
            Target::Object(object) => attached(|py| write_object(object.bind(py), bytes)),
        }
    }
}

/// `object` as a path, if it is a string or a path.
fn path_of(object: &Bound<'_, PyAny>) -> PyResult<Option<PathBuf>> {
    let fspath = intern!(object.py(), "__fspath__");
    if object.is_instance_of::<PyString>() || object.hasattr(fspath)? {
        return object.extract().map(Some);
    }
    Ok(None)
}

/// Run `task` with the interpreter, which may be gone when a consumer outlives it.
fn attached<T>(task: impl FnOnce(Python<'_>) -> PyResult<T>) -> io::Result<T> {
    Python::try_attach(task)
        .unwrap_or_else(|| Err(PyRuntimeError::new_err("the interpreter has ended")))
        .map_err(io::Error::other)
}

pub fn check_signals() -> io::Result<()> {
    attached(|py| py.check_signals())
}

fn read_object(object: &Bound<'_, PyAny>, room: &mut [u8]) -> PyResult<usize> {
    let py = object.py();
    let read = object.call_method1(intern!(py, "read"), (room.len(),))?;
    if read.is_none() {
        return Err(PyBlockingIOError::new_err(
            "read() returned None: the file does not wait for its data",
        ));
    }
    let bytes = read.cast::<PyBytes>().map_err(|_| {
        let kind = read.get_type();
        PyTypeError::new_err(format!(
            "read() returned {kind}, not bytes: open the file in binary mode"
        ))
    })?;
    let bytes = bytes.as_bytes();
    let room = room
        .get_mut(..bytes.len())
        .ok_or_else(|| PyValueError::new_err("read(size) returned more than size bytes"))?;
    room.copy_from_slice(bytes);
    Ok(bytes.len())
}

/// A raw file may take less than it is given, and says how much.
fn write_object(object: &Bound<'_, PyAny>, bytes: &[u8]) -> PyResult<()> {
    let py = object.py();
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = object.call_method1(intern!(py, "write"), (PyBytes::new(py, rest),))?;
        if written.is_none() {
            return Err(PyBlockingIOError::new_err(
                "write() returned None instead of a number of bytes: the file may not have taken them",
            ));
        }
        let count: usize = written.extract()?;
        rest = rest.get(count..).ok_or_else(|| {
            PyValueError::new_err("write() tells of more bytes than it was given")
        })?;
        if count == 0 {
            return Err(PyBlockingIOError::new_err("write() took no byte"));
        }
    }
    Ok(())
}
