//! A tap of what Rust's standard library is told at each place, the arguments before the options; built static, for tests alone.

use std::io::{Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

fn ask(place: &str) -> Result<String> {
    let mut stream = TcpStream::connect(place)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {place}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.rsplit("\r\n\r\n").next().unwrap_or_default().into())
}

fn main() {
    println!(
        r#"{{"type": "SCHEMA", "stream": "tries", "schema": {{"type": "object"}}, "key_properties": []}}"#
    );
    for place in std::env::args()
        .skip(1)
        .take_while(|each| !each.starts_with("--"))
    {
        let said = ask(&place).unwrap_or_else(|error| error.to_string());
        println!(
            r#"{{"type": "RECORD", "stream": "tries", "record": {{"client": "rust", "place": {place:?}, "said": {said:?}}}}}"#
        );
    }
}
