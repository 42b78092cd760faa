//! What a connector writes, read as hostile bytes.
//!
//! Lines ([`framing`]), messages of both dialects ([`envelope`]) and JSON Schemas ([`schema`]) are read
//! without an intermediate tree: every part is a slice of the line it came from. With the feature `arrow`
//! records go straight into Arrow arrays ([`decode`]), and with `batch` Arrow IPC does ([`batch`]). docs/spec/wire.md is the contract.

pub mod base64;
#[cfg(feature = "batch")]
pub mod batch;
pub mod bounds;
#[cfg(feature = "arrow")]
pub mod decode;
pub mod envelope;
pub mod fault;
pub mod framing;
mod notice;
pub mod number;
pub mod oddity;
pub mod render;
pub mod scan;
pub mod schema;
pub mod temporal;
pub mod text;
pub mod types;
