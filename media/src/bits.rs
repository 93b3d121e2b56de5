//! Reads the fields of headers: whole bytes in big-endian order, and bits.

/// What is missing or wrong in a header.
pub(crate) type FieldResult<T> = Result<T, String>;

/// Reads big-endian numbers from a slice; running past the end is an error, never a panic.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> FieldResult<&'a [u8]> {
        let (head, tail) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| format!("a header ends {} bytes early", count - self.rest.len()))?;
        self.rest = tail;
        Ok(head)
    }

    fn number(&mut self, bytes: usize) -> FieldResult<u64> {
        Ok(self
            .take(bytes)?
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    pub(crate) fn u8(&mut self) -> FieldResult<u8> {
        Ok(self.number(1)? as u8)
    }

    pub(crate) fn u16(&mut self) -> FieldResult<u16> {
        Ok(self.number(2)? as u16)
    }

    pub(crate) fn u32(&mut self) -> FieldResult<u32> {
        Ok(self.number(4)? as u32)
    }

    pub(crate) fn u64(&mut self) -> FieldResult<u64> {
        self.number(8)
    }

    /// Four bytes or eight.
    pub(crate) fn short_or_long(&mut self, long: bool) -> FieldResult<u64> {
        self.number(if long { 8 } else { 4 })
    }
}

/// Reads bits, highest first, as the parameter sets of H.264 are written.
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn bit(&mut self) -> FieldResult<bool> {
        let byte = self
            .bytes
            .get(self.position / 8)
            .ok_or("a parameter set ends early")?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Ok(bit == 1)
    }

    /// Up to 32 bits as a number.
    pub(crate) fn bits(&mut self, count: u32) -> FieldResult<u32> {
        (0..count).try_fold(0u32, |value, _| Ok(value << 1 | u32::from(self.bit()?)))
    }

    /// An unsigned Exp-Golomb number.
    pub(crate) fn unsigned(&mut self) -> FieldResult<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return Err("a number in a parameter set is too long".to_owned());
            }
        }
        Ok(((1u64 << zeros) - 1) as u32 + self.bits(zeros)?)
    }

    /// A signed Exp-Golomb number.
    pub(crate) fn signed(&mut self) -> FieldResult<i64> {
        let code = i64::from(self.unsigned()?);
        Ok(if code % 2 == 0 {
            -(code / 2)
        } else {
            (code + 1) / 2
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb() {
        // 1 | 010 | 011 | 00100 | 1 -> 0, 1, 2, 3, then the signed 0
        let bytes = [0b1010_0110, 0b0100_1000];
        let mut bits = Bits::new(&bytes);
        let read: Vec<u32> = (0..4).map(|_| bits.unsigned().unwrap()).collect();
        assert_eq!(read, [0, 1, 2, 3]);
        assert_eq!(bits.signed().unwrap(), 0);
        assert!(Bits::new(&[0; 9]).unsigned().is_err());
        assert!(Bits::new(&[]).bit().is_err());
    }

    #[test]
    fn fields_end_with_an_error() {
        let mut fields = Fields::new(&[1, 2, 3]);
        assert_eq!(fields.u16().unwrap(), 0x102);
        assert!(fields.u16().is_err());
        assert_eq!(fields.remaining(), 1);
    }
}
