//! Weight files: safetensors, half precision on disk, single precision in memory.

use crate::error::Result;
use crate::source::{BundleSource, refused};
use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Largest weight file.
const LARGEST_FILE: u64 = 2 << 30;
/// Largest header of a weight file.
const LARGEST_HEADER: u64 = 1 << 20;
/// Most tensors in a weight file.
const MOST_TENSORS: usize = 10_000;

/// How weights are stored in a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WeightFormat {
    /// Half precision: half the size.
    #[default]
    F16,
    /// Single precision, as trained.
    F32,
}

/// Weights as the bytes of a safetensors file; the same weights always give the same bytes.
pub(crate) fn encode(weights: &BTreeMap<String, Tensor>, format: WeightFormat) -> Result<Vec<u8>> {
    let dtype = match format {
        WeightFormat::F16 => DType::F16,
        WeightFormat::F32 => DType::F32,
    };
    let mut stored = Vec::new();
    for (name, tensor) in weights {
        stored.push((name.clone(), tensor.to_dtype(dtype)?.contiguous()?));
    }
    let bytes = safetensors::serialize(stored, None).map_err(candle_core::Error::from)?;
    Ok(bytes)
}

/// Reads and checks a weight file. Returns its bytes, of which the world's hash is made, and the weights as f32.
///
/// Sizes are judged by the header before the body is read, and nothing larger than the file itself is allocated on its word.
pub(crate) fn read(
    source: &dyn BundleSource,
    file: &str,
    device: &Device,
) -> Result<(Vec<u8>, BTreeMap<String, Tensor>)> {
    let refuse = |field: &str, reason: String| refused(source, file, field, reason);
    let size = match source.size(file)? {
        Some(size) => size,
        None => return Err(refuse("file", "is missing".into())),
    };
    if size > LARGEST_FILE {
        return Err(refuse(
            "size",
            format!("{size} bytes, at most {LARGEST_FILE} are allowed"),
        ));
    }
    let length: [u8; 8] = match source.read(file, 8)?.try_into() {
        Ok(length) => length,
        Err(_) => return Err(refuse("header", "the file ends within it".into())),
    };
    let header = u64::from_le_bytes(length);
    if header > LARGEST_HEADER {
        return Err(refuse(
            "header",
            format!("{header} bytes, at most {LARGEST_HEADER} are allowed"),
        ));
    }
    let start = source.read(file, 8 + header)?;
    let header = match start.get(8..) {
        Some(text) if text.len() as u64 == header => text,
        _ => return Err(refuse("header", "the file ends within it".into())),
    };
    let metadata: Metadata =
        serde_json::from_slice(header).map_err(|error| refuse("header", error.to_string()))?;
    check_tensors(&metadata).map_err(|(field, reason)| refuse(&field, reason))?;
    let declared = metadata.data_len() as u64;
    let body = size.saturating_sub(start.len() as u64);
    if declared != body {
        return Err(refuse(
            "size",
            format!("the header speaks of {declared} bytes of weights, the file has {body}"),
        ));
    }
    let bytes = source.read(file, size)?;
    let stored = SafeTensors::deserialize(&bytes).map_err(|e| refuse("header", e.to_string()))?;
    let mut weights = BTreeMap::new();
    for (name, view) in stored.tensors() {
        let tensor = view.load(device)?.to_dtype(DType::F32)?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        if let Some(position) = values.iter().position(|value| !value.is_finite()) {
            let reason = format!("number {position} is {}", values[position]);
            return Err(refuse(&name, reason));
        }
        weights.insert(name, tensor);
    }
    drop(stored);
    Ok((bytes, weights))
}

fn check_tensors(metadata: &Metadata) -> std::result::Result<(), (String, String)> {
    use safetensors::Dtype;
    let tensors = metadata.tensors();
    if tensors.len() > MOST_TENSORS {
        return Err(("header".into(), format!("more than {MOST_TENSORS} tensors")));
    }
    for (name, info) in tensors {
        if !matches!(info.dtype, Dtype::F16 | Dtype::F32) {
            return Err((
                name,
                format!("type {:?}, only F16 and F32 are weights", info.dtype),
            ));
        }
        if info.shape.is_empty() || info.shape.len() > 4 || info.shape.contains(&0) {
            return Err((name, format!("shape {:?} is no weight's", info.shape)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemorySource;
    use proptest::prelude::*;

    fn weights() -> BTreeMap<String, Tensor> {
        let tensor = |values: &[f32], shape: &[usize]| {
            Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
        };
        BTreeMap::from([
            ("a.bias".to_owned(), tensor(&[0.5, -1.25], &[2])),
            ("b".to_owned(), tensor(&[1.0, 2.0, 3.0, 1.0 / 3.0], &[2, 2])),
        ])
    }

    fn load(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
        let files = BTreeMap::from([("w".to_owned(), bytes.into())]);
        Ok(read(&MemorySource::new("test", files), "w", &Device::Cpu)?.1)
    }

    fn refusal(bytes: &[u8]) -> String {
        load(bytes).unwrap_err().to_string()
    }

    fn with_header(header: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn weights_come_back_rounded_to_the_stored_precision() {
        for (format, third) in [
            (WeightFormat::F32, 1.0 / 3.0),
            (WeightFormat::F16, 0.333_251_95),
        ] {
            let back = load(&encode(&weights(), format).unwrap()).unwrap();
            assert_eq!(back["a.bias"].to_vec1::<f32>().unwrap(), [0.5, -1.25]);
            let b = back["b"].to_vec2::<f32>().unwrap();
            assert_eq!(b, [[1.0, 2.0], [3.0, third]]);
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_by_name() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut weights = weights();
            let tensor = Tensor::from_slice(&[1.0, bad], 2, &Device::Cpu).unwrap();
            weights.insert("c".into(), tensor);
            let bytes = encode(&weights, WeightFormat::F32).unwrap();
            assert!(
                refusal(&bytes).contains("w: c: number 1 is"),
                "{}",
                refusal(&bytes)
            );
        }
    }

    #[test]
    fn what_is_no_weight_file_is_refused_before_it_is_read() {
        let absurd_header = [0xff; 64];
        assert!(refusal(&absurd_header).contains("header"));
        assert!(refusal(b"").contains("header"));
        assert!(refusal(&with_header("{}", b"x")).contains("size"));
        let absurd = r#"{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,16]}}"#;
        assert!(refusal(&with_header(absurd, &[0; 16])).contains("header"));
        let huge =
            r#"{"a":{"dtype":"F32","shape":[1000000000,1000],"data_offsets":[0,4000000000000]}}"#;
        let refused = refusal(&with_header(huge, &[0; 16]));
        assert!(
            refused.contains("speaks of 4000000000000 bytes"),
            "{refused}"
        );
        let integers = r#"{"a":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}"#;
        assert!(refusal(&with_header(integers, &[0; 16])).contains("a: type I64"));
        let empty = r#"{"a\u001b[2J":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
        let refused = refusal(&with_header(empty, &[]));
        assert!(
            refused.contains("shape [0]") && !refused.contains('\u{1b}'),
            "{refused}"
        );
        let overlapping = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
        assert!(refusal(&with_header(overlapping, &[0; 12])).contains("header"));
        let deep = "[".repeat(100_000);
        assert!(refusal(&with_header(&deep, &[])).contains("header"));
    }

    proptest! {
        #[test]
        fn damaged_files_are_read_or_refused(at in 0usize..400, byte in any::<u8>(), cut in any::<bool>()) {
            let mut bytes = encode(&weights(), WeightFormat::F16).unwrap();
            let at = at % bytes.len();
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            match load(&bytes) {
                Ok(weights) => prop_assert!(!cut && weights.values().all(|t| t.elem_count() < 100)),
                Err(error) => prop_assert!(error.to_string().contains("w: "), "{error}"),
            }
        }

        #[test]
        fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(load(&bytes).is_err());
        }
    }
}
