//! Framing, envelopes and decode.
