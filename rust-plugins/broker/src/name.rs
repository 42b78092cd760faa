//! Names of hosts, and the patterns of grants that they match.

use std::fmt;

pub const MAX_NAME_BYTES: usize = 253;
pub const MAX_LABEL_BYTES: usize = 63;

/// A host's name in lower case without a final dot: letters, digits, `-` and `_` of ASCII in labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// A name in any case, with or without one final dot.
    pub fn parse(text: &str) -> Option<Name> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let fits = text.len() <= MAX_NAME_BYTES && text.split('.').all(is_label);
        fits.then(|| Name(text.to_ascii_lowercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether it lies below `apex`, by one label or more.
    pub fn is_below(&self, apex: &Name) -> bool {
        self.0
            .strip_suffix(&apex.0)
            .is_some_and(|rest| rest.ends_with('.'))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The host of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    Exact(Name),
    /// `*.` and a name of two labels or more: what lies below it.
    Below(Name),
}

impl Pattern {
    pub fn parse(text: &str) -> Option<Pattern> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(rest) => (Name::parse(rest)?, true),
            None => (Name::parse(text)?, false),
        };
        // What ends in a number is an address in one of its spellings, whoever reads it (WHATWG URL, host parsing).
        let last = name.labels().last()?;
        let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
        match below {
            _ if numeric || last == "localhost" => None,
            true if name.labels().count() < 2 => None,
            true => Some(Pattern::Below(name)),
            false => Some(Pattern::Exact(name)),
        }
    }

    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Pattern::Exact(exact) => name == exact,
            Pattern::Below(apex) => name.is_below(apex),
        }
    }

    /// The higher, the closer: an exact name, then the longer of two wildcards.
    pub fn closeness(&self) -> usize {
        match self {
            Pattern::Exact(_) => usize::MAX,
            Pattern::Below(apex) => apex.as_str().len(),
        }
    }
}

/// A service whose SRV answers are granted: `_service._tcp.domain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: Name,
    /// Targets are this name or lie below it.
    base: Name,
}

impl Service {
    pub fn parse(text: &str) -> Option<Service> {
        let name = Name::parse(text)?;
        let labels: Vec<&str> = name.labels().collect();
        let [service, protocol, domain @ ..] = labels.as_slice() else {
            return None;
        };
        if !service.starts_with('_') || *protocol != "_tcp" || domain.len() < 2 {
            return None;
        }
        // A cluster's name and its members' have one parent, as MongoDB's: but never less than three labels of it.
        let base = if domain.len() > 3 {
            &domain[1..]
        } else {
            domain
        };
        let base = Name::parse(&base.join("."))?;
        Some(Service { name, base })
    }

    pub fn permits(&self, target: &Name) -> bool {
        *target == self.base || target.is_below(&self.base)
    }
}
