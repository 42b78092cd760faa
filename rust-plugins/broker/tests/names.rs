//! Names and patterns, by rules that hold for all of them.

use dativo_broker::address::{Class, Prefix, classify};
use dativo_broker::dns::WireName;
use dativo_broker::name::{Name, Pattern};
use proptest::prelude::*;

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9_-]{1,63}"
}

fn domain() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-z0-9_-]{1,20}", 1..6).prop_map(|labels| labels.join("."))
}

proptest! {
    #[test]
    fn parsing_never_fails_otherwise_than_by_none(text in any::<String>()) {
        if let Some(name) = Name::parse(&text) {
            prop_assert!(name.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)));
            prop_assert_eq!(Name::parse(name.as_str()), Some(name));
        }
        let _ = (Pattern::parse(&text), Prefix::parse(&text));
    }

    #[test]
    fn case_and_a_final_dot_do_not_matter(name in domain()) {
        let parsed = Name::parse(&name);
        prop_assert!(parsed.is_some());
        prop_assert_eq!(&Name::parse(&name.to_ascii_uppercase()), &parsed);
        prop_assert_eq!(&Name::parse(&format!("{name}.")), &parsed);
        prop_assert_eq!(Name::parse(&format!("{name}..")), None);
    }

    #[test]
    fn a_wildcard_is_what_lies_below(apex in "[a-z]{1,9}\\.[a-z]{2,9}", first in label(), other in domain()) {
        let pattern = Pattern::parse(&format!("*.{apex}")).unwrap();
        let matches = |text: &str| Name::parse(text).is_some_and(|name| pattern.matches(&name));
        let (below, beside) = (format!("{first}.{apex}"), format!("{first}{apex}"));
        prop_assert!(matches(&below));
        prop_assert!(!matches(&apex));
        prop_assert!(!matches(&beside));
        prop_assert_eq!(matches(&other), other.ends_with(&format!(".{apex}")));
    }

    #[test]
    fn a_name_survives_the_wire(name in domain()) {
        let name = Name::parse(&name).unwrap();
        let wire = WireName::from(&name);
        prop_assert_eq!(wire.to_text(), name.as_str());
        prop_assert_eq!(wire.to_name(), Some(name));
    }

    /// RFC 4291, 3056 and 6052: what stands for an IPv4 address lies where that does.
    #[test]
    fn translated_addresses_are_of_the_inner_class(bits in any::<u32>()) {
        let inner = std::net::Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = inner.octets();
        for text in [
            format!("::ffff:{inner}"),
            format!("64:ff9b::{inner}"),
            format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1"),
        ] {
            prop_assert_eq!(classify(text.parse().unwrap()), classify(inner.into()), "{}", text);
        }
    }

    #[test]
    fn a_network_holds_what_begins_as_it_does(bits in any::<u32>(), other in any::<u32>(), length in 0_u8..=32) {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let address = |bits| std::net::IpAddr::V4(std::net::Ipv4Addr::from_bits(bits));
        let network = Prefix::parse(&format!("{}/{length}", address(bits & mask))).unwrap();
        prop_assert!(network.contains(address(bits)));
        prop_assert_eq!(network.contains(address(other)), other & mask == bits & mask);
        prop_assert_eq!(Prefix::parse(&format!("{}/{length}", address(bits))).is_some(), bits & !mask == 0);
    }
}

#[test]
fn classes_are_in_order() {
    assert!(
        Class::Global < Class::Private
            && Class::Private < Class::Special
            && Class::Special < Class::Cloud
    );
}
