//! DNS messages: what is written is read again, and nothing that comes in does harm.

use std::net::{IpAddr, Ipv4Addr};

use dativo_broker::dns::{
    self, Answer, BadQuery, MAX_UDP_BYTES, Query, Rcode, Response, Srv, WireName, kind,
};
use dativo_broker::name::Name;
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn wire(text: &str) -> WireName {
    WireName::from(&name(text))
}

/// A query for `labels`, as they are.
fn raw_query(labels: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        message.push(label.len() as u8);
        message.extend_from_slice(label);
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// An answer to `query` with `count` records that `body` holds.
fn raw_answer(query: &[u8], count: u16, body: &[u8]) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2] |= 0x80;
    message[6..8].copy_from_slice(&count.to_be_bytes());
    message.extend_from_slice(body);
    message
}

/// A record of the name asked for.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = vec![0xc0, 12];
    for number in [kind, dns::IN, 0, 60, data.len() as u16] {
        record.extend_from_slice(&number.to_be_bytes());
    }
    record.extend_from_slice(data);
    record
}

fn parse(message: &[u8]) -> Option<Response> {
    Response::parse(message, 7, &wire("a.example"), kind::A)
}

fn asked() -> Vec<u8> {
    dns::query(7, &wire("a.example"), kind::A)
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(query) = Query::parse(&bytes) {
            let reply = query.reply(Rcode::NxDomain, &[], MAX_UDP_BYTES);
            prop_assert!(reply.len() <= bytes.len());
        }
        let _ = parse(&bytes);
    }

    /// Behind a header that passes, where the parsing is.
    #[test]
    fn any_body_is_read_without_harm(count in 0_u16..9, body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend_from_slice(&body);
        let _ = Query::parse(&query);
        if let Some(response) = parse(&raw_answer(&asked(), count, &body)) {
            let end = response.alias(&wire("a.example"));
            prop_assert!(response.addresses(&end).len() <= usize::from(count));
        }
    }

    #[test]
    fn labels_of_any_bytes_are_told_apart(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 1..4)) {
        let parts: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
        let query = Query::parse(&raw_query(&parts)).expect("a query");
        let text = query.question.name.to_text();
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        if let Some(host) = query.question.name.to_name() {
            prop_assert_eq!(host.as_str(), text.as_str());
            prop_assert_eq!(WireName::from(&host), query.question.name);
        }
    }

    #[test]
    fn addresses_come_back(addresses in prop::collection::vec(any::<u32>(), 0..20)) {
        let query = Query::parse(&asked()).expect("a query");
        let answers: Vec<_> = addresses.iter().map(|bits| Answer::A(Ipv4Addr::from_bits(*bits))).collect();
        let response = parse(&query.reply(Rcode::NoError, &answers, 65_535)).expect("an answer");
        let expected: Vec<IpAddr> = addresses.iter().map(|bits| Ipv4Addr::from_bits(*bits).into()).collect();
        prop_assert_eq!(response.addresses(&wire("a.example")), expected);
    }
}

#[test]
fn services_come_back() {
    let service = wire("_kafka._tcp.example.com");
    let query = Query::parse(&dns::query(9, &service, kind::SRV)).unwrap();
    let srv = Srv {
        priority: 1,
        weight: 2,
        port: 9092,
        target: name("b1.example.com"),
    };
    let reply = query.reply(Rcode::NoError, &[Answer::Srv(srv.clone())], MAX_UDP_BYTES);
    let response = Response::parse(&reply, 9, &service, kind::SRV).unwrap();
    assert!(response.has(&service, kind::SRV) && !response.has(&service, kind::A));
    assert_eq!(response.services(&service), [srv]);
}

#[test]
fn a_pointer_leads_back_or_nowhere() {
    // To itself, forward, to each other, and to the header.
    for body in [
        &[0xc0, 27][..],
        &[0xc0, 60],
        &[0xc0, 29, 0xc0, 27],
        &[1, b'a', 0xc0, 27],
        &[0xff, 0xff],
        &[0xc0],
        &[0x40, 0],
        &[0x80, 0],
    ] {
        let mut record = body.to_vec();
        record.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]);
        let message = raw_answer(&asked(), 1, &record);
        assert_eq!(message.len() - record.len(), 27);
        assert_eq!(parse(&message), None, "{body:?}");
    }
    // A question points to nothing before it, and the header is no name.
    for target in 0..=12 {
        let mut query = raw_query(&[b"a"]);
        query[12..15].copy_from_slice(&[0xc0, target, 0]);
        // The header reads as names from some of its bytes.
        query[..2].copy_from_slice(&[1, b'x']);
        assert!(
            matches!(Query::parse(&query), Err(BadQuery::Reply(reply)) if reply[3] & 15 == 1),
            "{target}"
        );
    }
}

#[test]
fn a_name_ends_at_255_bytes() {
    let label = [b'a'; 63];
    let fits: Vec<&[u8]> = vec![&label, &label, &label, &label[..61]];
    assert!(Query::parse(&raw_query(&fits)).is_ok());
    let longer: Vec<&[u8]> = vec![&label, &label, &label, &label[..62]];
    assert!(matches!(
        Query::parse(&raw_query(&longer)),
        Err(BadQuery::Reply(_))
    ));
    // By pointers it is no longer: each record's owner hangs 63 bytes before the last one's.
    let mut message = asked();
    let mut body = Vec::new();
    let mut last = 12_u16;
    for _ in 0..8 {
        let here = (message.len() + body.len()) as u16;
        body.push(63);
        body.extend_from_slice(&label);
        body.extend_from_slice(&(0xc000 | last).to_be_bytes());
        body.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]);
        last = here;
    }
    message = raw_answer(&asked(), 3, &body);
    assert!(parse(&message).is_some());
    assert_eq!(parse(&raw_answer(&asked(), 4, &body)), None);
}

#[test]
fn what_is_no_query_is_answered_or_not() {
    let silent =
        |message: &[u8]| assert_eq!(Query::parse(message), Err(BadQuery::Silent), "{message:?}");
    silent(b"");
    silent(&asked()[..11]);
    let mut answer = asked();
    answer[2] |= 0x80;
    silent(&answer);
    let refused = |message: &[u8], code: u8| match Query::parse(message) {
        Err(BadQuery::Reply(reply)) => {
            assert_eq!(
                (reply.len(), &reply[..2], reply[3] & 15),
                (12, &message[..2], code),
                "{message:?}"
            );
            assert_eq!(reply[2] & 0x80, 0x80);
        }
        other => panic!("{other:?}"),
    };
    refused(&asked()[..12], 1);
    refused(&asked()[..asked().len() - 1], 1);
    for count in [0, 2] {
        let mut counted = asked();
        counted[5] = count;
        refused(&counted, 1);
    }
    let mut update = asked();
    update[2] = 5 << 3;
    refused(&update, 4);
    let mut label = asked();
    label[12] = 0x41;
    refused(&label, 1);
}

#[test]
fn an_answer_belongs_to_its_query() {
    let good = raw_answer(&asked(), 1, &record(kind::A, &[1, 2, 3, 4]));
    assert_eq!(
        parse(&good).unwrap().addresses(&wire("a.example")),
        [IpAddr::from([1, 2, 3, 4])]
    );
    let other = |id, asked: &str, kind| Response::parse(&good, id, &wire(asked), kind);
    assert_eq!(other(8, "a.example", kind::A), None);
    assert_eq!(other(7, "b.example", kind::A), None);
    assert_eq!(other(7, "a.example", kind::AAAA), None);
    for (at, value) in [(2, 1), (5, 0), (5, 2), (7, 2)] {
        let mut changed = good.clone();
        changed[at] = value;
        assert_eq!(parse(&changed), None, "{at} {value}");
    }
    for length in 0..good.len() {
        assert_eq!(parse(&good[..length]), None, "{length}");
    }
}

#[test]
fn records_of_others_are_passed_over() {
    let mut body = record(kind::A, &[1, 2, 3, 4]);
    body.extend(record(16, b"\x04text"));
    // Another owner, and another class.
    let mut foreign = vec![1, b'x', 0];
    foreign.extend_from_slice(&record(kind::A, &[9, 9, 9, 9])[2..]);
    body.extend(foreign);
    let mut chaos = record(kind::A, &[8, 8, 8, 8]);
    chaos[5] = 3;
    body.extend(chaos);
    let response = parse(&raw_answer(&asked(), 4, &body)).unwrap();
    assert_eq!(
        response.addresses(&wire("a.example")),
        [IpAddr::from([1, 2, 3, 4])]
    );
    // Addresses and names have their length.
    for (kind, data) in [
        (kind::A, &[1, 2, 3][..]),
        (kind::AAAA, &[0; 15]),
        (kind::CNAME, &[0, 0]),
        (kind::SRV, &[0; 6]),
    ] {
        assert_eq!(
            parse(&raw_answer(&asked(), 1, &record(kind, data))),
            None,
            "{kind}"
        );
    }
}

#[test]
fn aliases_are_followed_and_end() {
    let to = |target: &str| {
        record(
            kind::CNAME,
            &dns::query(0, &wire(target), 0)[12..][..target.len() + 2],
        )
    };
    let response = parse(&raw_answer(&asked(), 1, &to("b.example"))).unwrap();
    assert_eq!(response.alias(&wire("a.example")), wire("b.example"));
    // To itself.
    let response = parse(&raw_answer(&asked(), 1, &to("a.example"))).unwrap();
    assert_eq!(response.alias(&wire("a.example")), wire("a.example"));
}

#[test]
fn an_answer_that_is_too_long_says_so() {
    let query = Query::parse(&asked()).unwrap();
    let answers = vec![Answer::A(Ipv4Addr::LOCALHOST); 40];
    let reply = query.reply(Rcode::NoError, &answers, MAX_UDP_BYTES);
    assert!(reply.len() <= MAX_UDP_BYTES);
    let response = parse(&reply).unwrap();
    assert!(response.truncated && response.addresses(&wire("a.example")).is_empty());
}

#[test]
fn reverse_names_are_addresses() {
    let reverse = |labels: &[&[u8]]| {
        Query::parse(&raw_query(labels))
            .unwrap()
            .question
            .name
            .reverse()
    };
    assert_eq!(
        reverse(&[b"2", b"0", b"18", b"198", b"in-addr", b"arpa"]),
        Some(Ipv4Addr::new(198, 18, 0, 2))
    );
    assert_eq!(
        reverse(&[b"2", b"0", b"18", b"198", b"IN-ADDR", b"ARPA"]),
        Some(Ipv4Addr::new(198, 18, 0, 2))
    );
    for labels in [
        &[&b"0"[..], b"18", b"198", b"in-addr", b"arpa"][..],
        &[b"02", b"0", b"18", b"198", b"in-addr", b"arpa"],
        &[b"256", b"0", b"18", b"198", b"in-addr", b"arpa"],
        &[b"\xff", b"0", b"18", b"198", b"in-addr", b"arpa"],
        &[b"2.0", b"18", b"198", b"x", b"in-addr", b"arpa"],
        &[b"2", b"0", b"18", b"198", b"ip6", b"arpa"],
    ] {
        assert_eq!(reverse(labels), None, "{labels:?}");
    }
}
