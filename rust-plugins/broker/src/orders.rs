//! What the kernel says (docs/spec/network.md, Messages), checked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dativo_wire::fault::{Blame, Fault};
use serde::Deserialize;

use crate::address::{Prefix, Reach};
use crate::grants::{Asked, Grants};
use crate::name::{Name, Pattern};

const MAX_CLIENTS: usize = 64;
const MAX_CLIENT_CHARS: usize = 128;
const MAX_RESOLVERS: usize = 8;
/// Of each list that the operator writes.
const MAX_ENTRIES: usize = 100_000;
const MAX_AUTHORIZATION_CHARS: usize = 4096;
const MAX_SECONDS: f64 = 86_400.0;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Command {
    Open(Box<Open>),
    Finish,
}

#[derive(Deserialize)]
pub struct Open {
    clients: Vec<OpenClient>,
    blocked_hosts: Vec<String>,
    blocked: Vec<String>,
    permit_special: Vec<String>,
    own: Vec<String>,
    resolvers: Vec<String>,
    hosts: Vec<(String, String)>,
    proxy: Option<String>,
    proxy_authorization: Option<String>,
    observe: bool,
    limits: Limits,
}

#[derive(Deserialize)]
struct OpenClient {
    name: String,
    grants: Vec<Asked>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub max_connections: usize,
    /// New connections a second.
    pub max_rate: f64,
    pub max_names: usize,
    connect_timeout_s: f64,
    pub max_events_per_s: f64,
}

impl Limits {
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.connect_timeout_s)
    }
}

/// Where connections are asked for instead of being dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub host: Host,
    pub port: u16,
    pub authorization: Option<Authorization>,
}

/// The value of a `Proxy-Authorization` field (RFC 9110 11.7.2): a secret, that nothing shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization(String);

impl Authorization {
    fn parse(text: String) -> Option<Authorization> {
        let is_value = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let has_length = (1..=MAX_AUTHORIZATION_CHARS).contains(&text.len());
        (is_value && has_length).then_some(Authorization(text))
    }

    pub fn value(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorization(…)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Address(IpAddr),
    Name(Name),
}

pub struct Orders {
    pub clients: Vec<(String, Grants)>,
    pub blocked_hosts: Vec<Pattern>,
    pub reach: Reach,
    pub resolvers: Vec<SocketAddr>,
    pub hosts: HashMap<Name, Vec<IpAddr>>,
    pub proxy: Option<Proxy>,
    pub observe: bool,
    pub limits: Limits,
}

impl TryFrom<Open> for Orders {
    type Error = Box<Fault>;

    fn try_from(open: Open) -> Result<Orders, Box<Fault>> {
        let limits = check(open.limits)?;
        Ok(Orders {
            clients: clients(open.clients)?,
            blocked_hosts: each(
                "blocked_hosts",
                &open.blocked_hosts,
                MAX_ENTRIES,
                Pattern::parse,
            )?,
            reach: Reach {
                blocked: each("blocked", &open.blocked, MAX_ENTRIES, Prefix::parse)?,
                permit_special: each(
                    "permit_special",
                    &open.permit_special,
                    MAX_ENTRIES,
                    Prefix::parse,
                )?,
                own: each("own", &open.own, MAX_ENTRIES, Prefix::parse)?,
            },
            resolvers: each("resolvers", &open.resolvers, MAX_RESOLVERS, |text| {
                text.parse().ok()
            })?,
            hosts: hosts(&open.hosts)?,
            proxy: upstream(open.proxy, open.proxy_authorization)?,
            observe: open.observe,
            limits,
        })
    }
}

fn clients(asked: Vec<OpenClient>) -> Result<Vec<(String, Grants)>, Box<Fault>> {
    if asked.len() > MAX_CLIENTS {
        return Err(bad("clients", &format!("{} of them", asked.len())));
    }
    let mut clients: Vec<(String, Grants)> = Vec::new();
    for OpenClient { name, grants } in asked {
        let is_name = (1..=MAX_CLIENT_CHARS).contains(&name.chars().count());
        if !is_name || clients.iter().any(|(other, _)| *other == name) {
            return Err(bad("clients", &name));
        }
        clients.push((name, Grants::new(grants)?));
    }
    Ok(clients)
}

/// Names that no grant can name are left out: nobody asks for them.
fn hosts(entries: &[(String, String)]) -> Result<HashMap<Name, Vec<IpAddr>>, Box<Fault>> {
    if entries.len() > MAX_ENTRIES {
        return Err(bad("hosts", &format!("{} of them", entries.len())));
    }
    let mut hosts: HashMap<Name, Vec<IpAddr>> = HashMap::new();
    for (name, address) in entries {
        let parsed = address.parse().map_err(|_| bad("hosts", address))?;
        if let Some(name) = Name::parse(name) {
            hosts.entry(name).or_default().push(parsed);
        }
    }
    Ok(hosts)
}

fn upstream(
    text: Option<String>,
    authorization: Option<String>,
) -> Result<Option<Proxy>, Box<Fault>> {
    let Some(text) = text else {
        return if authorization.is_none() {
            Ok(None)
        } else {
            Err(bad("proxy_authorization", "without a proxy"))
        };
    };
    let mut proxy = proxy(&text).ok_or_else(|| bad("proxy", &text))?;
    proxy.authorization = authorization
        .map(|value| {
            Authorization::parse(value).ok_or_else(|| bad("proxy_authorization", "not a value"))
        })
        .transpose()?;
    Ok(Some(proxy))
}

fn proxy(text: &str) -> Option<Proxy> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = match bare.unwrap_or(host).parse::<IpAddr>() {
        Ok(address) if address.is_ipv6() == bare.is_some() => Host::Address(address),
        Ok(_) => return None,
        Err(_) => Host::Name(Name::parse(host)?),
    };
    let port = port.parse().ok().filter(|&port| port > 0)?;
    Some(Proxy {
        host,
        port,
        authorization: None,
    })
}

fn each<T>(
    what: &str,
    texts: &[String],
    max: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Box<Fault>> {
    if texts.len() > max {
        return Err(bad(
            what,
            &format!("{} of them; the limit is {max}", texts.len()),
        ));
    }
    texts
        .iter()
        .map(|text| parse(text).ok_or_else(|| bad(what, text)))
        .collect()
}

fn check(limits: Limits) -> Result<Limits, Box<Fault>> {
    let seconds = limits.connect_timeout_s;
    let positive = |number: f64| number.is_finite() && number > 0.0;
    let sound = positive(seconds)
        && seconds <= MAX_SECONDS
        && positive(limits.max_rate)
        && positive(limits.max_events_per_s)
        && limits.max_connections > 0
        && limits.max_names > 0;
    if sound {
        Ok(limits)
    } else {
        Err(bad("limits", &format!("{limits:?}")))
    }
}

fn bad(what: &str, value: &str) -> Box<Fault> {
    let message = format!("the orders of the broker cannot be obeyed: {what}");
    Fault::new("config.network", Blame::User, message)
        .field(what)
        .value(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_host_and_a_port() {
        let address = |text: &str| Host::Address(text.parse().unwrap());
        assert_eq!(
            proxy("10.0.0.1:3128").unwrap(),
            Proxy {
                host: address("10.0.0.1"),
                port: 3128,
                authorization: None,
            }
        );
        assert_eq!(proxy("[fd00::1]:3128").unwrap().host, address("fd00::1"));
        assert_eq!(
            proxy("Proxy.corp:80").unwrap().host,
            Host::Name(Name::parse("proxy.corp").unwrap())
        );
        for text in [
            "proxy.corp",
            "proxy.corp:0",
            "proxy.corp:x",
            "fd00::1:80",
            "[10.0.0.1]:80",
            "http://proxy:80",
            ":80",
        ] {
            assert_eq!(proxy(text), None, "{text}");
        }
    }

    #[test]
    fn credentials_are_shown_by_nothing() {
        let proxy = upstream(
            Some("proxy.corp:80".into()),
            Some("Basic czNjcjN0OnB3".into()),
        );
        let proxy = proxy.unwrap().unwrap();
        assert_eq!(
            proxy.authorization.as_ref().unwrap().value(),
            "Basic czNjcjN0OnB3"
        );
        assert!(!format!("{proxy:?}").contains("czNjcjN0OnB3"));
        let fault = upstream(Some("proxy.corp:80".into()), Some("czNjcjN0\n".into())).unwrap_err();
        assert!(!format!("{fault:?}").contains("czNjcjN0"));
    }

    #[test]
    fn what_cannot_be_obeyed_names_itself() {
        let open = |more: &str| -> Result<Orders, Box<Fault>> {
            let base = r#"{"type":"open","clients":[{"name":"a","grants":[]}],"blocked_hosts":[],"blocked":[],"permit_special":[],
                "own":[],"resolvers":["127.0.0.1:53"],"hosts":[["db","10.0.0.5"],["-_ odd","10.0.0.6"]],"proxy":null,"observe":false,
                "limits":{"max_connections":1,"max_rate":1,"max_names":1,"connect_timeout_s":30,"max_events_per_s":1}}"#;
            let mut value: serde_json::Value = serde_json::from_str(base).unwrap();
            let more: serde_json::Map<_, _> = serde_json::from_str(more).unwrap();
            value.as_object_mut().unwrap().extend(more);
            match serde_json::from_value(value).unwrap() {
                Command::Open(open) => Orders::try_from(*open),
                Command::Finish => unreachable!(),
            }
        };
        assert_eq!(open("{}").ok().unwrap().hosts.len(), 1);
        for (more, code, field) in [
            (
                r#"{"blocked":["10.0.0.1/8"]}"#,
                "config.network",
                Some("blocked"),
            ),
            (
                r#"{"blocked_hosts":["*"]}"#,
                "config.network",
                Some("blocked_hosts"),
            ),
            (
                r#"{"permit_special":["127.0.0.1"]}"#,
                "config.network",
                Some("permit_special"),
            ),
            (r#"{"own":["10.0.0.1"]}"#, "config.network", Some("own")),
            (
                r#"{"resolvers":["localhost:53"]}"#,
                "config.network",
                Some("resolvers"),
            ),
            (
                r#"{"hosts":[["db","10.0.0"]]}"#,
                "config.network",
                Some("hosts"),
            ),
            (r#"{"proxy":"proxy"}"#, "config.network", Some("proxy")),
            (
                r#"{"proxy_authorization":"Basic YTpi"}"#,
                "config.network",
                Some("proxy_authorization"),
            ),
            (
                r#"{"proxy":"proxy:1","proxy_authorization":"Basic YTpi\r\nX: y"}"#,
                "config.network",
                Some("proxy_authorization"),
            ),
            (
                r#"{"clients":[{"name":"a","grants":[]},{"name":"a","grants":[]}]}"#,
                "config.network",
                Some("clients"),
            ),
            (
                r#"{"clients":[{"name":"a","grants":[{"host":"*.com","ports":[[1,2]]}]}]}"#,
                "config.network_grant",
                None,
            ),
        ] {
            let fault = open(more).err().unwrap();
            assert_eq!(
                (fault.code, fault.field.as_deref()),
                (code, field),
                "{more}"
            );
        }
    }
}
