//! What grants, names and addresses mean: the table that the kernel is held to as well (tests/network_cases.json).

use std::collections::HashMap;
use std::net::IpAddr;

use dativo_broker::address::{By, Class, Prefix, Reach, classify};
use dativo_broker::grants::{Asked, Grants};
use dativo_broker::name::{Name, Pattern, Service};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Cases {
    grants: Vec<GrantCase>,
    grant_errors: Vec<String>,
    names: Vec<NameCase>,
    literals: Vec<LiteralCase>,
    srv_targets: Vec<TargetCase>,
    addresses: Vec<AddressCase>,
    not_addresses: Vec<String>,
}

#[derive(Deserialize)]
struct GrantCase {
    grant: String,
    rule: Value,
}

#[derive(Deserialize)]
struct NameCase {
    grant: String,
    name: String,
    port: u16,
    expected: bool,
}

#[derive(Deserialize)]
struct LiteralCase {
    grant: String,
    address: IpAddr,
    port: u16,
    expected: bool,
}

#[derive(Deserialize)]
struct TargetCase {
    grant: String,
    target: String,
    expected: bool,
}

#[derive(Deserialize)]
struct AddressCase {
    address: IpAddr,
    class: String,
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("../../../tests/network_cases.json")).expect("the table")
}

fn granted(rule: Value) -> Grants {
    let asked: Asked = serde_json::from_value(rule).expect("a rule");
    Grants::new(vec![asked]).expect("a grant")
}

/// What each grant that other cases name means.
fn rules(cases: &[GrantCase]) -> HashMap<&str, Value> {
    cases
        .iter()
        .map(|case| (case.grant.as_str(), case.rule.clone()))
        .collect()
}

#[test]
fn every_rule_is_a_grant() {
    for case in cases().grants {
        assert_eq!(granted(case.rule).count(), 1, "{}", case.grant);
    }
}

#[test]
fn what_is_no_grant_is_no_host_either() {
    for text in cases().grant_errors {
        assert_eq!(Pattern::parse(&text), None, "{text:?}");
    }
}

#[test]
fn names_match() {
    let cases = cases();
    let rules = rules(&cases.grants);
    for case in &cases.names {
        let grants = granted(rules[case.grant.as_str()].clone());
        let name = Name::parse(&case.name);
        let found = name
            .as_ref()
            .is_some_and(|name| grants.for_name(name, case.port).is_some());
        assert_eq!(
            found, case.expected,
            "{} {:?} {}",
            case.grant, case.name, case.port
        );
        // What has a port is known without one.
        assert!(!found || name.is_some_and(|name| grants.knows(&name)));
    }
}

#[test]
fn literals_match() {
    let cases = cases();
    let rules = rules(&cases.grants);
    for case in &cases.literals {
        let grants = granted(rules[case.grant.as_str()].clone());
        let found = grants.for_address(case.address, case.port);
        assert_eq!(
            found.is_some(),
            case.expected,
            "{} {} {}",
            case.grant,
            case.address,
            case.port
        );
        assert!(found.is_none_or(|grant| grant.by() == By::Literal));
    }
}

#[test]
fn targets_of_services_match() {
    for case in cases().srv_targets {
        let service = case
            .grant
            .strip_prefix("srv:")
            .and_then(Service::parse)
            .expect("a service");
        let found = Name::parse(&case.target).is_some_and(|target| service.permits(&target));
        assert_eq!(found, case.expected, "{} {:?}", case.grant, case.target);
    }
}

fn class(text: &str) -> Class {
    match text {
        "global" => Class::Global,
        "private" => Class::Private,
        "special" => Class::Special,
        "cloud" => Class::Cloud,
        other => panic!("{other}"),
    }
}

#[test]
fn addresses_have_their_class() {
    for case in cases().addresses {
        assert_eq!(
            classify(case.address),
            class(&case.class),
            "{}",
            case.address
        );
    }
}

#[test]
fn what_a_class_permits() {
    let reach = Reach::default();
    for case in cases().addresses {
        let checked = |by| reach.check(case.address, by);
        let (public, private, literal) = (
            checked(By::Name { private: false }),
            checked(By::Name { private: true }),
            checked(By::Literal),
        );
        let expected = match class(&case.class) {
            Class::Global => (Ok(()), Ok(()), Ok(())),
            Class::Private => (Err("address_private"), Ok(()), Ok(())),
            Class::Special => (
                Err("address_special"),
                Err("address_special"),
                Err("address_special"),
            ),
            Class::Cloud => (
                Err("address_cloud"),
                Err("address_cloud"),
                Err("address_cloud"),
            ),
        };
        assert_eq!((public, private, literal), expected, "{}", case.address);
    }
}

#[test]
fn what_an_operator_says_of_addresses() {
    let network = |text: &str| Prefix::parse(text).expect("a network");
    let reach = Reach {
        blocked: vec![network("10.0.0.0/8"), network("2606::/16")],
        permit_special: vec![network("127.0.0.0/8"), network("10.0.0.0/8")],
        own: vec![],
    };
    for (address, expected) in [
        ("127.0.0.1", Ok(())),
        ("::ffff:127.0.0.1", Ok(())),
        // Nobody reaches loopback through a translator that the operator does not know of.
        ("2002:7f00:1::1", Err("address_special")),
        ("10.1.2.3", Err("address_blocked")),
        ("::ffff:10.1.2.3", Err("address_blocked")),
        ("64:ff9b::a01:203", Err("address_blocked")),
        ("2002:a01:203::1", Err("address_blocked")),
        ("2606::1", Err("address_blocked")),
        ("169.254.169.254", Err("address_cloud")),
        ("8.8.8.8", Ok(())),
    ] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(reach.check(address, By::Literal), expected, "{address}");
    }
}

#[test]
fn the_machine_itself_is_no_place_outside() {
    let network = |text: &str| Prefix::parse(text).expect("a network");
    let reach = Reach {
        blocked: vec![],
        permit_special: vec![network("9.9.9.8/32")],
        own: vec![
            network("127.0.0.0/8"),
            network("9.9.9.8/31"),
            network("192.168.7.7/32"),
            network("2606::7/128"),
        ],
    };
    for (address, expected) in [
        ("9.9.9.9", Err("address_own")),
        ("::ffff:9.9.9.9", Err("address_own")),
        ("2002:909:909::1", Err("address_own")),
        ("64:ff9b::909:909", Err("address_own")),
        ("9.9.9.8", Ok(())),
        ("9.9.9.10", Ok(())),
        ("192.168.7.7", Err("address_own")),
        ("192.168.7.8", Ok(())),
        ("2606::7", Err("address_own")),
        ("2606::8", Ok(())),
        ("127.0.0.1", Err("address_special")),
    ] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(reach.check(address, By::Literal), expected, "{address}");
    }
}

#[test]
fn other_spellings_are_no_addresses() {
    for text in cases().not_addresses {
        assert!(text.parse::<IpAddr>().is_err(), "{text:?}");
        assert_eq!(Prefix::parse(&format!("{text}/32")), None, "{text:?}");
        assert_eq!(Pattern::parse(&text), None, "{text:?}");
    }
}

#[test]
fn the_closest_grant_decides() {
    let grants = |rules: &[&str]| {
        let asked = rules
            .iter()
            .map(|rule| serde_json::from_str(rule).unwrap())
            .collect();
        Grants::new(asked).unwrap()
    };
    let grants = grants(&[
        r#"{"host":"*.example.com","ports":[[443,443]],"private":true}"#,
        r#"{"host":"*.db.example.com","ports":[[443,443]],"upload_bytes":7}"#,
        r#"{"host":"a.db.example.com","ports":[[5432,5432]],"sni":false}"#,
    ]);
    let index = |name: &str, port| {
        grants
            .for_name(&Name::parse(name).unwrap(), port)
            .map(|grant| grant.index)
    };
    assert_eq!(index("x.example.com", 443), Some(0));
    assert_eq!(index("x.db.example.com", 443), Some(1));
    assert_eq!(index("a.db.example.com", 5432), Some(2));
    // One that lacks the port hides no other.
    assert_eq!(index("a.db.example.com", 443), Some(1));
    assert_eq!(index("a.db.example.com", 80), None);
}

#[test]
fn what_is_no_rule_is_refused() {
    for rule in [
        r#"{"host":"api.example.com"}"#,
        r#"{"host":"api.example.com","ports":[]}"#,
        r#"{"host":"api.example.com","ports":[[0,1]]}"#,
        r#"{"host":"api.example.com","ports":[[2,1]]}"#,
        r#"{"host":"api.example.com","cidr":"10.0.0.0/8","ports":[[1,2]]}"#,
        r#"{"ports":[[1,2]]}"#,
        r#"{"cidr":"10.0.0.1/8","ports":[[1,2]]}"#,
        r#"{"srv":"_kafka._udp.example.com"}"#,
    ] {
        let fault = Grants::new(vec![serde_json::from_str(rule).unwrap()]).unwrap_err();
        assert_eq!(fault.code, "config.network_grant", "{rule}");
    }
    assert!(serde_json::from_str::<Asked>(r#"{"host":"a.example","ports":[[1,70000]]}"#).is_err());
    assert!(
        serde_json::from_str::<Asked>(r#"{"host":"a.example","ports":[[1,2]],"udp":true}"#)
            .is_err()
    );
}
