//! The server name of a ClientHello, as clients send it and as others would.

use dativo_broker::tls::{Opening, opening};
use proptest::prelude::*;

fn vector8(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8], bytes].concat()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(content)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &vector16(&[&[0], &vector16(name)[..]].concat()))
}

/// A ClientHello in a record, with `extensions`.
fn hello(extensions: &[u8]) -> Vec<u8> {
    record(&handshake(&[&body()[..], &vector16(extensions)].concat()))
}

/// All of a ClientHello before its extensions.
fn body() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend(vector8(&[1; 32]));
    body.extend(vector16(&[0x13, 1, 0x13, 2]));
    body.extend(vector8(&[0]));
    body
}

fn handshake(body: &[u8]) -> Vec<u8> {
    [&[1], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

fn record(fragment: &[u8]) -> Vec<u8> {
    [&[22, 3, 1], &vector16(fragment)[..]].concat()
}

/// The same handshake message in records of `size` bytes.
fn cut(message: &[u8], size: usize) -> Vec<u8> {
    message[5..].chunks(size).flat_map(record).collect()
}

fn found(name: &str) -> Opening {
    Opening::Tls(Some(name.as_bytes().to_vec()))
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = opening(&bytes);
        let _ = opening(&record(&handshake(&bytes)));
        let _ = opening(&hello(&bytes));
    }

    /// What is told of a beginning is never taken back.
    #[test]
    fn a_beginning_tells_nothing_or_the_same(name in "[a-z.]{1,60}", size in 600_usize..2000, at in any::<prop::sample::Index>()) {
        let padding = extension(21, &vec![0; size]);
        let whole = cut(&hello(&[padding, server_name(name.as_bytes())].concat()), 100);
        prop_assert_eq!(opening(&whole), found(&name));
        let part = &whole[..at.index(whole.len())];
        prop_assert_eq!(opening(part), Opening::Incomplete);
    }
}

#[test]
fn a_hello_shows_its_name() {
    let name = server_name(b"api.example.com");
    assert_eq!(opening(&hello(&name)), found("api.example.com"));
    let more = [
        extension(10, &[0, 2, 0, 29]),
        name,
        extension(0xfe0d, &[0; 200]),
    ]
    .concat();
    assert_eq!(opening(&hello(&more)), found("api.example.com"));
    // What comes behind is nothing of the hello's.
    assert_eq!(
        opening(&[hello(&more), b"\x14\x03\x03".to_vec()].concat()),
        found("api.example.com")
    );
    assert_eq!(opening(&hello(&[])), Opening::Tls(None));
    assert_eq!(
        opening(&hello(&extension(10, &[0, 2, 0, 29]))),
        Opening::Tls(None)
    );
    // Without extensions at all, as before TLS 1.2.
    assert_eq!(opening(&record(&handshake(&body()))), Opening::Tls(None));
}

#[test]
fn another_protocol_is_no_tls() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"SSH-2.0-x",
        b"\x17\x03\x03",
        b"\x16\x02",
        b"\x16\x03\x01\x00\x05\x02",
    ] {
        assert_eq!(opening(bytes), Opening::NotTls, "{bytes:?}");
    }
    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x00\x05"] {
        assert_eq!(opening(bytes), Opening::Incomplete, "{bytes:?}");
    }
}

#[test]
fn two_names_are_none() {
    let name = server_name(b"api.example.com");
    let list = |content: &[u8]| hello(&extension(0, &vector16(content)));
    let entry = |kind: u8, name: &[u8]| [&[kind], &vector16(name)[..]].concat();
    for bytes in [
        hello(&[name.clone(), server_name(b"evil.test")].concat()),
        hello(&[name.clone(), name.clone()].concat()),
        list(&[entry(0, b"a"), entry(0, b"b")].concat()),
        list(&entry(1, b"a")),
        list(&[]),
        hello(&extension(0, &[])),
        hello(&extension(
            0,
            &[&vector16(&entry(0, b"a"))[..], b"x"].concat(),
        )),
        hello(&[&name[..], &[0]].concat()),
        record(&handshake(&[body(), vector16(&name), vec![0]].concat())),
        record(&handshake(&body()[..20])),
    ] {
        assert_eq!(opening(&bytes), Opening::Malformed, "{bytes:?}");
    }
}

#[test]
fn records_may_be_cut_but_not_to_dust() {
    let whole = hello(&[extension(21, &[0; 3000]), server_name(b"api.example.com")].concat());
    assert_eq!(opening(&cut(&whole, 200)), found("api.example.com"));
    assert_eq!(opening(&cut(&whole, 1)), Opening::Malformed);
    // The records of one message are of one kind.
    let mut other = cut(&whole, 2000);
    other[2005] = 23;
    assert_eq!(opening(&other), Opening::Malformed);
    let mut empty = cut(&whole, 2000);
    empty.truncate(2005);
    empty.extend_from_slice(&[22, 3, 1, 0, 0]);
    assert_eq!(opening(&empty), Opening::Malformed);
}

#[test]
fn a_hello_ends() {
    let claims = |length: u32| [&[22, 3, 1, 0x40, 0, 1], &length.to_be_bytes()[1..]].concat();
    assert_eq!(opening(&claims(32 << 10)), Opening::Incomplete);
    assert_eq!(opening(&claims((32 << 10) + 1)), Opening::Malformed);
    assert_eq!(
        opening(&[22, 3, 1, 0x40, 1, 1, 0, 0, 9]),
        Opening::Malformed
    );
}
