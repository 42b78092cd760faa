//! RFC 4648 base64, the standard alphabet with padding: what `contentEncoding: base64` means.

const NONE: u8 = 0xff;

const VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [NONE; 256];
    let mut at = 0;
    while at < 64 {
        values[alphabet[at] as usize] = at as u8;
        at += 1;
    }
    values
};

/// Append the bytes that `text` stands for to `out`; false, with some of them appended, if it is not canonical
/// base64.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    if !text.len().is_multiple_of(4) {
        return false;
    }
    let padding = text
        .iter()
        .rev()
        .take(2)
        .take_while(|&&byte| byte == b'=')
        .count();
    let digits = &text[..text.len() - padding];
    let mut groups = digits.chunks_exact(4);
    for group in &mut groups {
        let Some(bits) = bits(group) else {
            return false;
        };
        out.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    let last = groups.remainder();
    if last.is_empty() {
        return padding == 0;
    }
    let Some(bits) = bits(last) else { return false };
    let bits = bits << (6 * padding);
    let bytes = bits.to_be_bytes();
    out.extend_from_slice(&bytes[1..4 - padding]);
    // The bits that no byte takes must be zero, or two texts would mean the same bytes.
    bytes[4 - padding..].iter().all(|&byte| byte == 0)
}

fn bits(digits: &[u8]) -> Option<u32> {
    digits
        .iter()
        .try_fold(0u32, |bits, &digit| match VALUES[digit as usize] {
            NONE => None,
            value => Some(bits << 6 | value as u32),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(text.as_bytes(), &mut out).then_some(out)
    }

    #[test]
    fn vectors_of_the_rfc() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(of(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(of("+/8="), Some(vec![0xfb, 0xff]));
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "Z", "Zg", "Zg=", "Zg===", "=", "====", "Zh==", "Zm9=", "Zm9v\n", "Zm 9", "-_8=",
            "Z===", "Zg==Zg==", "é=",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
