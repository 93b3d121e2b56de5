//! Boxes within a header that is in memory.

use crate::bits::{FieldResult, Fields};

/// A box: its kind and its content.
pub(super) struct Box4<'a> {
    pub kind: [u8; 4],
    pub content: &'a [u8],
}

/// The boxes that follow one another in `bytes`. What does not add up at the end is left out, as players do.
pub(super) fn children(bytes: &[u8]) -> impl Iterator<Item = Box4<'_>> {
    let mut fields = Fields::new(bytes);
    std::iter::from_fn(move || next(&mut fields).ok())
}

fn next<'a>(fields: &mut Fields<'a>) -> FieldResult<Box4<'a>> {
    let available = fields.remaining() as u64;
    let short = u64::from(fields.u32()?);
    let kind = fields.take(4)?.try_into().unwrap_or_default();
    let size = match short {
        0 => available - 8,
        1 => fields
            .u64()?
            .checked_sub(16)
            .ok_or("a box is shorter than its header")?,
        _ => short
            .checked_sub(8)
            .ok_or("a box is shorter than its header")?,
    };
    let size = usize::try_from(size).map_err(|_| "a box is too long")?;
    Ok(Box4 {
        kind,
        content: fields.take(size)?,
    })
}

/// Content of the first box of a kind.
pub(super) fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    children(bytes)
        .find(|child| &child.kind == kind)
        .map(|child| child.content)
}

/// Content of the first box of a kind, which must be there.
pub(super) fn require<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> FieldResult<&'a [u8]> {
    find(bytes, kind).ok_or_else(|| format!("the box {} is missing", String::from_utf8_lossy(kind)))
}

/// Version and flags of a full box, and its fields.
pub(super) fn full<'a>(content: &'a [u8]) -> FieldResult<(u8, u32, Fields<'a>)> {
    let mut fields = Fields::new(content);
    let word = fields.u32()?;
    Ok(((word >> 24) as u8, word & 0xff_ffff, fields))
}

#[cfg(test)]
pub(super) mod tests {
    /// A box of a kind around its content.
    pub fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let mut bytes = (content.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend(kind);
        bytes.extend(content);
        bytes
    }

    /// Numbers as a box holds them.
    pub fn words(values: &[u32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_be_bytes())
            .collect()
    }
}
