//! `dativo-broker`: the network of confined processes. It answers names, checks, dials, counts and tells.
//!
//! It is handed the sockets that stand in the processes' own network namespaces, and dials from the launcher's. What comes
//! in by them is hostile, and so are the answers of resolvers. The kernel talks to it on descriptor 3; what it grants and
//! what is checked is docs/spec/network.md.

pub mod address;
mod client;
mod connection;
mod dial;
pub mod dns;
mod dns_server;
mod flow;
pub mod grants;
pub mod intake;
pub mod name;
pub mod orders;
mod rate;
mod resolver;
mod run;
pub mod stub;
mod system;
mod telling;
pub mod tls;

use std::process::ExitCode;

/// The process. Its exit status is in docs/spec/exit-codes.md.
pub fn main() -> ExitCode {
    dativo_channel::main("dativo-broker", env!("CARGO_PKG_VERSION"), run::run)
}
