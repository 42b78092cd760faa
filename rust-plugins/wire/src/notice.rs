//! What a source says besides records, schemas and states.

use std::borrow::Cow;

/// One such message. Texts are not clipped yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Notice<'a> {
    pub kind: NoticeKind,
    pub level: Option<Cow<'a, str>>,
    pub text: Cow<'a, [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    Log,
    TraceError,
    TraceStatus,
    TraceEstimate,
    TraceOther,
    Control,
    Text,
    Unknown,
}

impl NoticeKind {
    /// The name in a `message` event.
    pub fn name(self) -> &'static str {
        match self {
            NoticeKind::Log => "log",
            NoticeKind::TraceError => "trace_error",
            NoticeKind::TraceStatus => "trace_status",
            NoticeKind::TraceEstimate => "trace_estimate",
            NoticeKind::TraceOther => "trace_other",
            NoticeKind::Control => "control",
            NoticeKind::Text => "text",
            NoticeKind::Unknown => "unknown",
        }
    }
}
