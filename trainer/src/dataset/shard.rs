//! One file of frames: written as a stream, read by memory map.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use super::DatasetError;
use super::manifest::DatasetManifest;

/// Room for the header at the start of the file, length field included. Frames are streamed in behind it before their
/// number is known; what stays unused is filled with spaces, as the format allows.
const HEADER_BYTES: usize = 4096;

/// Writes one shard.
pub(super) struct ShardWriter {
    path: PathBuf,
    file: BufWriter<File>,
    size: [usize; 2],
    pub frames: usize,
    pub starts: Vec<i64>,
    actions: Vec<u16>,
}

impl ShardWriter {
    /// `size` is height and width.
    pub(super) fn create(path: &Path, size: [usize; 2]) -> Result<Self, DatasetError> {
        let mut file = BufWriter::with_capacity(
            1 << 20,
            File::create_new(path).map_err(DatasetError::io(path))?,
        );
        file.write_all(&[b' '; HEADER_BYTES])
            .map_err(DatasetError::io(path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            frames: 0,
            starts: Vec::new(),
            actions: Vec::new(),
        })
    }

    /// Size of the file if it were closed now.
    pub(super) fn bytes(&self) -> u64 {
        let frame = self.size[0] * self.size[1] * 3 + 2;
        (HEADER_BYTES + self.frames * frame + self.starts.len() * 8) as u64
    }

    pub(super) fn push(&mut self, frame: &[u8], action: u16) -> Result<(), DatasetError> {
        self.file
            .write_all(frame)
            .map_err(DatasetError::io(&self.path))?;
        self.actions.push(action);
        self.frames += 1;
        Ok(())
    }

    /// Nothing follows the last frame of an episode, so no action does either.
    pub(super) fn forget_last_action(&mut self) {
        if let Some(action) = self.actions.last_mut() {
            *action = super::UNKNOWN_ACTION;
        }
    }

    /// Writes the rest and the header, and brings it all to disk.
    pub(super) fn finish(mut self, with_actions: bool) -> Result<(), DatasetError> {
        let [height, width] = self.size;
        let frames_end = self.frames * height * width * 3;
        let actions_end = frames_end + if with_actions { self.frames * 2 } else { 0 };
        let starts_end = actions_end + self.starts.len() * 8;
        let mut header = json!({
            "frames": { "dtype": "U8", "shape": [self.frames, height, width, 3], "data_offsets": [0, frames_end] },
            "episode_start": { "dtype": "I64", "shape": [self.starts.len()], "data_offsets": [actions_end, starts_end] },
        });
        if with_actions {
            header["actions"] = json!({ "dtype": "U16", "shape": [self.frames], "data_offsets": [frames_end, actions_end] });
        }
        let header = header.to_string();
        debug_assert!(header.len() <= HEADER_BYTES - 8);
        let error = DatasetError::io(&self.path);
        let mut write = || {
            if with_actions {
                for action in &self.actions {
                    self.file.write_all(&action.to_le_bytes())?;
                }
            }
            for start in &self.starts {
                self.file.write_all(&start.to_le_bytes())?;
            }
            self.file.seek(SeekFrom::Start(0))?;
            self.file
                .write_all(&((HEADER_BYTES - 8) as u64).to_le_bytes())?;
            self.file.write_all(header.as_bytes())?;
            self.file.flush()?;
            self.file.get_ref().sync_all()
        };
        write().map_err(error)
    }
}

/// A shard in a memory map.
pub(super) struct Shard {
    map: Mmap,
    frames: Range<usize>,
    frame_bytes: usize,
    /// Small, and not always aligned in the file, so copied out.
    pub actions: Option<Vec<u16>>,
}

impl Shard {
    /// Maps shard number `index` of `manifest` and checks its header against it.
    pub(super) fn open(
        path: &Path,
        index: usize,
        manifest: &DatasetManifest,
    ) -> Result<Self, DatasetError> {
        let refuse = |field, what: String| DatasetError::shard(path, field, what);
        let expected = manifest.shards.get(index).map_or(0, |shard| shard.frames);
        let file = File::open(path).map_err(DatasetError::io(path))?;
        // SAFETY: the map is read only. Another process that shortens the file while it is mapped can end this one, as
        // with every memory map; datasets are written under another name and never changed afterwards.
        let map = unsafe { Mmap::map(&file) }.map_err(DatasetError::io(path))?;
        let tensors =
            SafeTensors::deserialize(&map).map_err(|error| refuse("header", error.to_string()))?;

        let frames = find(path, &tensors, "frames", Dtype::U8)?;
        let shape = [expected, manifest.height, manifest.width, 3];
        if frames.shape() != shape {
            return Err(refuse(
                "frames",
                format!(
                    "the shape is {:?}, the manifest says {shape:?}",
                    frames.shape()
                ),
            ));
        }
        let starts = find(path, &tensors, "episode_start", Dtype::I64)?;
        if starts.shape().len() != 1 {
            return Err(refuse(
                "episode_start",
                format!("the shape is {:?}, not one-dimensional", starts.shape()),
            ));
        }
        let mut previous = None;
        let mut numbers = Vec::with_capacity(starts.data().len() / 8);
        for bytes in starts.data().chunks_exact(8) {
            let start = i64::from_le_bytes(bytes.try_into().unwrap_or_default());
            let start = usize::try_from(start)
                .ok()
                .filter(|&start| start < expected && previous < Some(start));
            let Some(start) = start else {
                return Err(refuse(
                    "episode_start",
                    "it is not a rising list of frame numbers".to_owned(),
                ));
            };
            previous = Some(start);
            numbers.push(start);
        }
        let actions = match tensors.tensor("actions") {
            Err(_) => None,
            Ok(_) => {
                let actions = find(path, &tensors, "actions", Dtype::U16)?;
                if actions.shape() != [expected] {
                    return Err(refuse(
                        "actions",
                        format!("the shape is {:?}, not [{expected}]", actions.shape()),
                    ));
                }
                let actions: Vec<u16> = actions
                    .data()
                    .chunks_exact(2)
                    .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                    .collect();
                let names = manifest.action_names.len();
                if let Some(action) = actions.iter().find(|&&action| {
                    action != super::UNKNOWN_ACTION && usize::from(action) >= names
                }) {
                    return Err(refuse(
                        "actions",
                        format!("action {action} has no name among {names}"),
                    ));
                }
                Some(actions)
            }
        };
        for (number, episode) in manifest
            .episodes
            .iter()
            .enumerate()
            .filter(|(_, episode)| episode.shard == index)
        {
            let run = numbers.partition_point(|&start| start <= episode.start);
            let end = numbers.get(run).copied().unwrap_or(expected);
            if run == 0 || episode.start + episode.length > end {
                return Err(refuse(
                    "episode_start",
                    format!("it does not agree with episodes[{number}] of the manifest"),
                ));
            }
        }
        let offset = frames.data().as_ptr() as usize - map.as_ptr() as usize;
        let frames = offset..offset + frames.data().len();
        Ok(Self {
            map,
            frames,
            frame_bytes: manifest.frame_bytes(),
            actions,
        })
    }

    /// Bytes of the frames in `range`, which must lie inside.
    pub(super) fn frames(&self, range: Range<usize>) -> &[u8] {
        let bytes = &self.map[self.frames.clone()];
        &bytes[range.start * self.frame_bytes..range.end * self.frame_bytes]
    }
}

fn find<'a>(
    path: &Path,
    tensors: &SafeTensors<'a>,
    field: &'static str,
    dtype: Dtype,
) -> Result<TensorView<'a>, DatasetError> {
    let tensor = tensors
        .tensor(field)
        .map_err(|_| DatasetError::shard(path, field, "it is missing"))?;
    if tensor.dtype() != dtype {
        return Err(DatasetError::shard(
            path,
            field,
            format!("the type is {:?}, not {dtype:?}", tensor.dtype()),
        ));
    }
    Ok(tensor)
}
