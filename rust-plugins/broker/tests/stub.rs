//! What a client is answered.

use dativo_broker::dns::{self, MAX_UDP_BYTES, Query, Response, Srv, WireName, kind};
use dativo_broker::grants::Grants;
use dativo_broker::name::Name;
use dativo_broker::stub::{Reply, Stub};

const MAX_NAMES: usize = 4;

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn stub(observe: bool) -> Stub {
    let rules = r#"[{"host":"*.example.com","ports":[[443,443]]},{"cidr":"10.0.0.0/8","ports":[[443,443]]},
        {"srv":"_kafka._tcp.example.net"},{"srv":"_db._tcp.example.net","ports":[[5432,5432]]}]"#;
    let grants = Grants::new(serde_json::from_str(rules).unwrap()).unwrap();
    Stub::new(grants, MAX_NAMES, observe)
}

/// Ask; the addresses, or the code of a refusal.
fn ask(stub: &mut Stub, text: &str, kind: u16) -> Result<Vec<String>, u8> {
    let wire = WireName::from(&name(text));
    let Reply::Bytes(reply) = stub.answer(&dns::query(1, &wire, kind), MAX_UDP_BYTES) else {
        panic!("no answer to {text}");
    };
    let response = Response::parse(&reply, 1, &wire, kind).expect("an answer");
    match response.rcode {
        0 => Ok(response
            .addresses(&wire)
            .iter()
            .map(ToString::to_string)
            .collect()),
        code => Err(code),
    }
}

fn untold(stub: &mut Stub) -> Vec<(String, String, &'static str)> {
    std::iter::from_fn(|| stub.next_untold())
        .map(|((name, asked), found)| (name.to_string(), kind::name(asked), found.verdict))
        .collect()
}

#[test]
fn each_name_has_its_own_address() {
    let mut stub = stub(false);
    let first = ask(&mut stub, "a.example.com", kind::A).unwrap();
    assert_eq!(first, ["198.18.0.2"]);
    assert_eq!(
        ask(&mut stub, "B.example.com", kind::A).unwrap(),
        ["198.18.0.3"]
    );
    assert_eq!(ask(&mut stub, "A.Example.com", kind::A).unwrap(), first);
    assert_eq!(
        stub.names.name("198.18.0.2".parse().unwrap()),
        Some(&name("a.example.com"))
    );
    assert_eq!(stub.names.name("198.18.0.4".parse().unwrap()), None);
    assert_eq!(stub.names.name("198.18.0.1".parse().unwrap()), None);
    for other in [kind::AAAA, 16, 65, 255] {
        assert_eq!(ask(&mut stub, "c.example.com", other), Ok(vec![]));
    }
    assert_eq!(untold(&mut stub), []);
}

#[test]
fn a_refusal_is_told_once_and_counted() {
    let mut stub = stub(false);
    for _ in 0..3 {
        assert_eq!(ask(&mut stub, "evil.test", kind::A), Err(3));
    }
    assert_eq!(ask(&mut stub, "evil.test", kind::AAAA), Err(3));
    assert_eq!(ask(&mut stub, "example.com", 255), Err(3));
    let refused = |name: &str, kind: &str| (name.to_owned(), kind.to_owned(), "not_granted");
    assert_eq!(
        untold(&mut stub),
        [
            refused("evil.test", "A"),
            refused("evil.test", "AAAA"),
            refused("example.com", "ANY")
        ]
    );
    let key = ("evil.test".into(), kind::A);
    assert_eq!(stub.lookups[&key].count, 3);
}

#[test]
fn names_and_refusals_have_a_limit() {
    let mut stub = stub(false);
    for at in 0..MAX_NAMES {
        assert!(ask(&mut stub, &format!("n{at}.example.com"), kind::A).is_ok());
    }
    assert_eq!(ask(&mut stub, "more.example.com", kind::A), Err(3));
    assert_eq!(
        untold(&mut stub),
        [("more.example.com".into(), "A".into(), "limit_names")]
    );
    for at in 0..9 {
        assert_eq!(ask(&mut stub, &format!("n{at}.test"), kind::A), Err(3));
    }
    assert_eq!((stub.lookups.len(), stub.uncounted), (MAX_NAMES, 6));
    // Those that were given stay.
    assert_eq!(
        ask(&mut stub, "n0.example.com", kind::A).unwrap(),
        ["198.18.0.2"]
    );
}

#[test]
fn an_observed_client_gets_addresses_for_what_it_may_not_reach() {
    let mut stub = stub(true);
    assert_eq!(
        ask(&mut stub, "evil.test", kind::A).unwrap(),
        ["198.18.0.2"]
    );
    assert_eq!(ask(&mut stub, "evil.test", kind::AAAA), Err(3));
    assert!(stub.grant(&name("evil.test"), 443).is_none());
    assert_eq!(untold(&mut stub).len(), 2);
}

fn service(
    stub: &mut Stub,
    text: &str,
    found: Result<Vec<(&str, u16)>, &'static str>,
) -> Result<Vec<(String, u16)>, u8> {
    let wire = WireName::from(&name(text));
    let message = dns::query(1, &wire, kind::SRV);
    assert!(matches!(
        stub.answer(&message, MAX_UDP_BYTES),
        Reply::Service(_)
    ));
    let found = found.map(|found| {
        let srv = |(target, port)| Srv {
            priority: 0,
            weight: 0,
            port,
            target: name(target),
        };
        found.into_iter().map(srv).collect()
    });
    let reply = stub.service(&Query::parse(&message).unwrap(), found, MAX_UDP_BYTES);
    let response = Response::parse(&reply, 1, &wire, kind::SRV).unwrap();
    match response.rcode {
        0 => Ok(response
            .services(&wire)
            .into_iter()
            .map(|srv| (srv.target.to_string(), srv.port))
            .collect()),
        code => Err(code),
    }
}

#[test]
fn a_service_leads_to_its_targets_and_their_ports() {
    let mut stub = stub(false);
    assert_eq!(ask(&mut stub, "b1.example.net", kind::A), Err(3));
    let found = vec![
        ("b1.example.net", 9092),
        ("b2.example.net", 9093),
        ("evil.test", 9092),
        ("b3.example.net", 0),
    ];
    let answered = service(&mut stub, "_kafka._tcp.example.net", Ok(found)).unwrap();
    assert_eq!(
        answered,
        [
            ("b1.example.net".into(), 9092),
            ("b2.example.net".into(), 9093)
        ]
    );
    assert_eq!(
        ask(&mut stub, "b1.example.net", kind::A).unwrap(),
        ["198.18.0.2"]
    );
    assert!(stub.grant(&name("b1.example.net"), 9092).is_some());
    assert!(stub.grant(&name("b1.example.net"), 9093).is_none());
    assert!(stub.grant(&name("evil.test"), 9092).is_none());
    let told = untold(&mut stub);
    assert_eq!(told[1], ("evil.test".into(), "SRV".into(), "not_granted"));
    // Ports that the grant names are the only ones.
    let found = vec![("d1.example.net", 5432), ("d1.example.net", 5433)];
    let answered = service(&mut stub, "_db._tcp.example.net", Ok(found)).unwrap();
    assert_eq!(answered, [("d1.example.net".into(), 5432)]);
}

#[test]
fn a_service_that_nobody_knows() {
    let mut stub = stub(false);
    assert_eq!(
        service(&mut stub, "_kafka._tcp.example.net", Err("name_not_found")),
        Err(3)
    );
    assert_eq!(
        service(&mut stub, "_kafka._tcp.example.net", Err("resolver_failed")),
        Err(2)
    );
    assert_eq!(
        service(&mut stub, "_kafka._tcp.example.net", Ok(vec![])),
        Ok(vec![])
    );
    // A service that is not granted is asked of nobody.
    assert_eq!(ask(&mut stub, "_smtp._tcp.example.net", kind::SRV), Err(3));
}

#[test]
fn another_class_is_refused() {
    let mut stub = stub(false);
    let mut message = dns::query(1, &WireName::from(&name("a.example.com")), kind::A);
    let last = message.len() - 1;
    message[last] = 3;
    let Reply::Bytes(reply) = stub.answer(&message, MAX_UDP_BYTES) else {
        panic!("no answer");
    };
    assert_eq!(reply[3] & 15, 3);
}
