//! Which key a character is on, for where characters are all that is known, or printed.

/// What the number keys from 0 to 9 give with a shift key, on a keyboard in English.
pub const SHIFTED_DIGITS: &str = ")!@#$%^&*(";

/// The key that a character is on, on a keyboard in English.
pub fn key_of(character: char) -> Option<String> {
    let name = match character {
        ' ' => "Space",
        '.' | '>' => "Period",
        ',' | '<' => "Comma",
        '-' | '_' => "Minus",
        '=' | '+' => "Equal",
        '/' | '?' => "Slash",
        letter if letter.is_ascii_alphabetic() => {
            return Some(format!("Key{}", letter.to_ascii_uppercase()));
        }
        digit if digit.is_ascii_digit() => return Some(format!("Digit{digit}")),
        sign => {
            let digit = SHIFTED_DIGITS.find(sign);
            return digit.map(|digit| format!("Digit{digit}"));
        }
    };
    Some(name.to_owned())
}
