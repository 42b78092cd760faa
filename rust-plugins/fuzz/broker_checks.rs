//! What holds for any input of the broker, for the fuzz targets and for the replay of their corpus (broker/tests/corpus.rs).

use dativo_broker::dns::{self, MAX_UDP_BYTES, Query, Rcode, Response, WireName, kind};
use dativo_broker::grants::Grants;
use dativo_broker::intake;
use dativo_broker::name::Name;
use dativo_broker::stub::{Reply, Stub};
use dativo_broker::tls::{self, Opening};

const GRANTS: &str =
    r#"[{"host":"*.example.com","ports":[[443,443]]},{"srv":"_a._tcp.example.net"}]"#;

/// A message of a client is answered, refused or dropped; one of a resolver is an answer or none.
pub fn dns(data: &[u8]) {
    answered(data);
    if let Ok(query) = Query::parse(data) {
        asked(&query);
    }
    response(data);
}

/// What goes back is short, and belongs to what came.
fn answered(data: &[u8]) {
    let grants = Grants::new(serde_json::from_str(GRANTS).expect("rules")).expect("grants");
    let mut stub = Stub::new(grants, 10, false);
    match stub.answer(data, MAX_UDP_BYTES) {
        Reply::Nothing => {}
        Reply::Bytes(reply) => {
            assert!((12..=MAX_UDP_BYTES).contains(&reply.len()));
            assert_eq!(reply[..2], data[..2]);
            assert_eq!(reply[2] & 0x80, 0x80);
        }
        Reply::Service(query) => {
            let reply = stub.service(&query, Err("resolver_failed"), MAX_UDP_BYTES);
            assert_eq!(reply[3] & 15, Rcode::ServFail as u8);
        }
    }
}

/// A question is read again as it was.
fn asked(query: &Query) {
    let question = &query.question;
    named(&question.name);
    let reply = query.reply(Rcode::NoError, &[], MAX_UDP_BYTES);
    let read = Response::parse(&reply, query.id, &question.name, question.kind);
    assert_eq!(read.is_some(), question.class == dns::IN);
    let again =
        Query::parse(&dns::query(query.id, &question.name, question.kind)).expect("our own query");
    assert_eq!(
        (&again.question.name, again.question.kind),
        (&question.name, question.kind)
    );
}

fn named(name: &WireName) {
    let text = name.to_text();
    assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()));
    if let Some(host) = name.to_name() {
        assert_eq!(host.as_str(), text);
        assert_eq!(WireName::from(&host), *name);
        assert_eq!(Name::parse(&text), Some(host));
    }
}

/// As an answer to the very query that it repeats.
fn response(data: &[u8]) {
    let mut query = data.to_vec();
    if let Some(flags) = query.get_mut(2) {
        *flags &= 0x07;
    }
    let Ok(Query { id, question, .. }) = Query::parse(&query) else {
        return;
    };
    let Some(response) = Response::parse(data, id, &question.name, question.kind) else {
        return;
    };
    let end = response.alias(&question.name);
    named(&end);
    // A record has at least 11 bytes.
    let most = data.len() / 11;
    let (addresses, services) = (response.addresses(&end), response.services(&end));
    assert!(addresses.len() + services.len() <= most);
    let has = |wanted| response.has(&end, wanted);
    assert_eq!(addresses.is_empty(), !has(kind::A) && !has(kind::AAAA));
    assert!(services.is_empty() || has(kind::SRV));
}

/// What is told of the first bytes of a connection is never taken back, whatever comes then; and a packet of sockets is one
/// or none.
pub fn opening(data: &[u8]) {
    let mut told = None;
    let mut at = 0;
    while at <= data.len() {
        let found = tls::opening(&data[..at]);
        match &told {
            None if found == Opening::Incomplete => {}
            None => told = Some(found),
            Some(before) => assert_eq!(found, *before),
        }
        // Each of the first bytes, then some.
        at += 1 + at / 16;
    }
    if let Some(told) = told {
        assert_eq!(tls::opening(data), told);
    }
    if let Ok((_, sockets)) = intake::unpack(data, Vec::new()) {
        assert!(sockets.is_empty());
    }
}
