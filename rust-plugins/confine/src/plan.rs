//! The plan of a stage: fields ended by NUL, read once from a descriptor.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, RawFd};

use crate::failure::{At, Failure, Result};

/// A plan holds paths, the environment and argv; execve(2) takes at most a quarter of an 8 MiB stack.
const MAX_PLAN_BYTES: u64 = 4 << 20;

/// The fields, in order.
pub struct Plan {
    fields: std::vec::IntoIter<Vec<u8>>,
}

impl Plan {
    /// Read the whole plan and close its descriptor.
    pub fn read(fd: RawFd) -> Result<Self> {
        // SAFETY: the launcher passes this number for the plan; nothing else here owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        let mut bytes = Vec::new();
        file.take(MAX_PLAN_BYTES + 1)
            .read_to_end(&mut bytes)
            .at("plan", format_args!("cannot read descriptor {fd}"))?;
        Self::parse(&bytes)
    }

    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > MAX_PLAN_BYTES {
            return Err(Failure::new(
                "plan",
                format!("longer than {MAX_PLAN_BYTES} bytes"),
            ));
        }
        let Some(body) = bytes.strip_suffix(b"\0") else {
            return Err(Failure::new("plan", "does not end with NUL"));
        };
        let fields: Vec<Vec<u8>> = body.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        Ok(Self {
            fields: fields.into_iter(),
        })
    }

    /// The next directive, or `None` at the end.
    pub fn directive(&mut self) -> Option<String> {
        self.fields
            .next()
            .map(|field| String::from_utf8_lossy(&field).into_owned())
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        self.fields
            .next()
            .ok_or_else(|| Failure::new("plan", "ends within a directive"))
    }

    pub fn number<T: std::str::FromStr>(&mut self) -> Result<T> {
        let field = self.bytes()?;
        std::str::from_utf8(&field)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| {
                Failure::new(
                    "plan",
                    format!("{:?} is no number here", String::from_utf8_lossy(&field)),
                )
            })
    }
}

pub fn unknown(directive: &str) -> Failure {
    Failure::new(
        "plan",
        format!("unknown directive {directive:?}: the executables are of another version"),
    )
}

/// What every stage must have been given.
pub fn required<T>(value: Option<T>, directive: &str) -> Result<T> {
    value.ok_or_else(|| Failure::new("plan", format!("has no {directive:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_order_and_may_be_empty() {
        let mut plan = Plan::parse(b"env\0A=\0arg\0\0uid\x0042\0").unwrap();
        assert_eq!(plan.directive().as_deref(), Some("env"));
        assert_eq!(plan.bytes().unwrap(), b"A=");
        assert_eq!(plan.directive().as_deref(), Some("arg"));
        assert_eq!(plan.bytes().unwrap(), b"");
        assert_eq!(plan.directive().as_deref(), Some("uid"));
        assert_eq!(plan.number::<u32>().unwrap(), 42);
        assert_eq!(plan.directive(), None);
    }

    #[test]
    fn a_cut_plan_is_refused() {
        assert!(Plan::parse(b"env\0A=1").is_err());
        assert!(Plan::parse(b"").is_err());
        assert!(Plan::parse(b"env\0").unwrap().bytes().is_ok());
        let mut plan = Plan::parse(b"uid\0").unwrap();
        plan.directive();
        assert!(plan.number::<u32>().is_err());
    }

    #[test]
    fn a_plan_is_bounded() {
        let long = vec![0; MAX_PLAN_BYTES as usize + 1];
        assert!(Plan::parse(&long).is_err());
    }
}
